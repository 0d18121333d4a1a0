//! Callers with keys, and any call of the contract as bytes.

#![allow(dead_code, reason = "each test uses some of it")]

use std::path::Path;

use facematch::contract::key_service_client::KeyServiceClient;
use facematch::contract::{self as proto, DESCRIPTORS};
use prost_reflect::prost::Message;
use prost_reflect::prost::bytes::{Buf, BufMut};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, Value};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub const ADMIN_KEY: &str = "an-admins-own-key-of-some-forty-characters";

/// Writes the admin's key to a file, as a setting names it.
pub fn admin_key_file(folder: &Path) -> String {
    let path = folder.join("admin.key");
    super::common::write_secret(&path, &format!("{ADMIN_KEY}\n"));
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// Shows a key with each call.
#[derive(Clone)]
pub struct Shows(Option<MetadataValue<Ascii>>);

impl Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

pub type As = InterceptedService<Channel, Shows>;

/// A connection on which each call shows a key; an empty one shows none.
pub fn caller(channel: &Channel, key: &str) -> As {
    let value = (!key.is_empty()).then(|| format!("Bearer {key}").parse().expect("a value"));
    InterceptedService::new(channel.clone(), Shows(value))
}

/// Makes a key by the admin's.
pub async fn create_key(channel: &Channel, key: proto::Key) -> Result<proto::CreateKeyResponse, Status> {
    let mut client = KeyServiceClient::new(caller(channel, ADMIN_KEY));
    client.create_key(proto::CreateKeyRequest { key: Some(key) }).await.map(tonic::Response::into_inner)
}

/// What is stated of a key: grants as `SCOPE:GALLERIES`.
pub fn new_key(grants: &[&str]) -> proto::Key {
    let grant = |text: &&str| {
        let (scope, galleries) = text.split_once(':').expect("a grant");
        let scope = match scope {
            "read" => proto::KeyScope::Read,
            "enrol" => proto::KeyScope::Enrol,
            "delete" => proto::KeyScope::Delete,
            _ => proto::KeyScope::Admin,
        };
        proto::Grant { scope: scope.into(), galleries: galleries.to_owned() }
    };
    proto::Key { display_name: "a test".into(), grants: grants.iter().map(grant).collect(), ..Default::default() }
}

/// The secret of a new key with these grants.
pub async fn secret(channel: &Channel, grants: &[&str]) -> String {
    create_key(channel, new_key(grants)).await.expect("a key").secret
}

/// Every call of the contract.
pub fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the contract");
    let own = pool.services().filter(|service| service.package_name() == "facematch.v1");
    own.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// A request that names a gallery where such a one can first be named, and nothing else; `None` where none can.
pub fn naming(message: &MessageDescriptor, gallery: &str) -> Option<Vec<u8>> {
    Some(named(message, gallery, 0)?.encode_to_vec())
}

fn named(message: &MessageDescriptor, gallery: &str, depth: usize) -> Option<DynamicMessage> {
    let mut made = DynamicMessage::new(message.clone());
    if let Some(field) = message.get_field_by_name("gallery_id") {
        made.set_field(&field, Value::String(gallery.to_owned()));
        return Some(made);
    }
    let mut fields = message.fields().filter(|field| !field.is_list() && !field.is_map() && depth < 4);
    let (field, inner) = fields.find_map(|field| match field.kind() {
        Kind::Message(inner) => Some((field, named(&inner, gallery, depth + 1)?)),
        _ => None,
    })?;
    made.set_field(&field, Value::Message(inner));
    Some(made)
}

/// Makes a call with one message and returns how it ended.
pub async fn call(caller: &As, method: &MethodDescriptor, message: Vec<u8>) -> Result<(), Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    call_path(caller, &path, message).await
}

pub async fn call_path(caller: &As, path: &str, message: Vec<u8>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(caller.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = path.parse().expect("a path");
    // One message, whether or not it could be more: on the wire it is the same.
    let request = Request::new(tokio_stream::once(message));
    let mut replies = client.streaming(request, path, Bytes).await?.into_inner();
    while replies.message().await?.is_some() {}
    Ok(())
}

/// Messages as they are on the wire.
#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}
