//! Targets of fuzzers: requests. See `crate::fuzzing`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is what a fuzzer looks for"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::bytes::{Buf, BufMut};
use prost::{Message, Name};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::Server;
use super::codec::{check, descriptors};
use crate::config::Config;
use crate::contract as proto;
use crate::contract::enrollment_service_client::EnrollmentServiceClient;
use crate::contract::gallery_service_client::GalleryServiceClient;
use crate::fuzzing::{Run, Scratch};

/// Reads one kind of request.
pub(crate) type Read = fn(&[u8]);

macro_rules! requests {
    ($($name:ident),* $(,)?) => {
        /// Every request of the contract, by its place in an input's first byte.
        pub(crate) const REQUESTS: &[(&str, Read)] = &[$((stringify!($name), read::<proto::$name>)),*];
    };
}

requests! {
    DetectRequest, EmbedRequest, VerifyRequest, IdentifyRequest, IdentifyStreamRequest, EnrollRequest, BulkEnrollRequest,
    GetIdentityRequest, ListIdentitiesRequest, UpdateIdentityRequest, DeleteIdentityRequest, DeleteTemplateRequest,
    CreateGalleryRequest, GetGalleryRequest, ListGalleriesRequest, UpdateGalleryRequest, DeleteGalleryRequest,
    ExportGalleryRequest, ImportGalleryRequest, GetImportRequest, MigrateGalleryRequest, MoveGalleryRequest,
    DeleteGalleryCopyRequest, CompactGalleriesRequest,
    CalibrateRequest, SetCurveRequest, GetCurveRequest, DeleteCurveRequest, CreateKeyRequest, ListKeysRequest,
    RevokeKeyRequest,
}

/// Which request it is, and the request, as far as the codec goes.
pub(crate) fn message(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let (_, read) = REQUESTS[usize::from(*which) % REQUESTS.len()];
    read(bytes);
}

/// What a handler would see names nothing that its caller's rights were not asked for.
fn read<M: Message + Name + Default>(bytes: &[u8]) {
    let descriptor = descriptors().get_message_by_name(&M::full_name()).expect("a message of the contract");
    let Ok(named) = check(bytes, &descriptor) else { return };
    let Ok(message) = M::decode(bytes) else { return };
    let plain = message.encode_to_vec();
    let seen =
        check(&plain, &descriptor).unwrap_or_else(|error| panic!("what was let in is not, written plainly: {error}"));
    assert!(seen.galleries.is_subset(&named.galleries), "a gallery that nobody was asked about");
    assert!(named.templates || !seen.templates, "templates that nobody was asked about");
    assert!(named.all_galleries || !seen.all_galleries, "a pack's curve that nobody was asked about");
    let back = M::decode(plain.as_slice()).expect("what was written");
    // Entries of a map are written in any order.
    let sorted = |mut bytes: Vec<u8>| {
        bytes.sort_unstable();
        bytes
    };
    assert!(sorted(back.encode_to_vec()) == sorted(plain));
}

/// Runs of a server between two beginnings from the same state.
const RUNS_A_STATE: u64 = 256;

/// Longest time of a call. The server gives one up after half of it.
const CALL_TIME_MAX: Duration = Duration::from_secs(20);

/// Of the starter pack's templates.
const DIMENSION: usize = 512;

/// A server with the starter pack, and one gallery with two people.
struct Running {
    server: Option<Server>,
    channel: Channel,
    methods: Vec<Method>,
    runs: AtomicU64,
    runtime: tokio::runtime::Runtime,
    _scratch: Scratch,
}

struct Method {
    path: http::uri::PathAndQuery,
    takes_stream: bool,
}

/// A call of a running server: which one, and its message; of one that takes a stream, messages, each behind its length in two
/// bytes. It may be refused, but is never the server's own fault.
pub(crate) fn rpc() -> Run {
    let running = Running::start();
    Box::new(move |bytes| {
        let Some((which, bytes)) = bytes.split_first() else { return };
        if running.runs.fetch_add(1, Ordering::Relaxed).is_multiple_of(RUNS_A_STATE) {
            running.runtime.block_on(begin(&running.channel)).expect("the state to begin from");
        }
        let method = &running.methods[usize::from(*which) % running.methods.len()];
        let messages = if method.takes_stream { messages(bytes) } else { vec![bytes.to_vec()] };
        let work = call(running.channel.clone(), method, messages);
        let called = running.runtime.block_on(async { tokio::time::timeout(CALL_TIME_MAX, work).await });
        let Err(status) = called.unwrap_or_else(|_| panic!("{} has no end", method.path)) else { return };
        let faults = [Code::Internal, Code::Unknown, Code::DataLoss, Code::DeadlineExceeded, Code::Unavailable];
        assert!(!faults.contains(&status.code()), "{}: {status:?}", method.path);
    })
}

fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        messages.push(message.to_vec());
        bytes = rest;
    }
    messages
}

impl Running {
    fn start() -> Self {
        let scratch = Scratch::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = std::env::var("ORT_DYLIB_PATH").unwrap_or_default();
        let own = root.join(".runtime/libonnxruntime.so").display().to_string();
        let flags = BTreeMap::from(
            [
                ("listen", "127.0.0.1:0".to_owned()),
                ("data", scratch.path().join("data").display().to_string()),
                ("pack", root.join("models/starter").display().to_string()),
                ("tune", "off".to_owned()),
                ("workers", "1".to_owned()),
                ("call_time_max_ms", (CALL_TIME_MAX.as_millis() / 2).to_string()),
                ("message_time_max_ms", (CALL_TIME_MAX.as_millis() / 4).to_string()),
                ("runtime_library", if library.is_empty() { own } else { library }),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        let config = Config::load_from(&flags, None, |_| None).expect("settings");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (server, channel) = runtime.block_on(async {
            let server = Server::start(&config).await.expect("start a server");
            let address = format!("http://{}", server.address());
            let channel = Channel::from_shared(address).expect("an address").connect().await.expect("connect");
            (server, channel)
        });
        let methods = methods();
        Self { server: Some(server), channel, methods, runs: AtomicU64::new(0), runtime, _scratch: scratch }
    }
}

/// Every call of the contract, by its place in an input's first byte.
fn methods() -> Vec<Method> {
    let own = descriptors().services().filter(|service| service.package_name() == "facematch.v1");
    let of_service = |service: prost_reflect::ServiceDescriptor| service.methods().collect::<Vec<_>>();
    let method = |method: prost_reflect::MethodDescriptor| Method {
        path: format!("/{}/{}", method.parent_service().full_name(), method.name()).parse().expect("a path"),
        takes_stream: method.is_client_streaming(),
    };
    own.flat_map(of_service).map(method).collect()
}

/// The names of all calls, in this order, and whether each takes a stream.
#[cfg(test)]
pub(crate) fn method_names() -> Vec<(String, bool)> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    methods().iter().map(|method| (name(method.path.path()), method.takes_stream)).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            // Its end is not what is looked at here.
            let _ = self.runtime.block_on(server.stop());
        }
    }
}

/// Deletes all there is, and makes the gallery `g` with two people.
async fn begin(channel: &Channel) -> Result<(), Status> {
    let mut galleries = GalleryServiceClient::new(channel.clone());
    loop {
        let listed = galleries.list_galleries(proto::ListGalleriesRequest::default()).await?.into_inner().galleries;
        if listed.is_empty() {
            break;
        }
        for proto::Gallery { gallery_id, .. } in listed {
            galleries.delete_gallery(proto::DeleteGalleryRequest { gallery_id, force: true }).await?;
        }
    }
    let gallery = proto::Gallery { gallery_id: "g".to_owned(), ..Default::default() };
    let made =
        galleries.create_gallery(proto::CreateGalleryRequest { gallery: Some(gallery) }).await?.into_inner().gallery;
    let pack_id = made.unwrap_or_default().pack_id;
    let mut enrollment = EnrollmentServiceClient::new(channel.clone());
    for identity in ["ann", "bob"] {
        let mut values = vec![0.0; DIMENSION];
        values[identity.len() + usize::from(identity == "bob")] = 1.0;
        let embedding = proto::Embedding { values, pack_id: pack_id.clone() };
        let source = Some(proto::sample::Source::Embedding(embedding));
        let request = proto::EnrollRequest {
            gallery_id: "g".to_owned(),
            identity_id: identity.to_owned(),
            samples: vec![proto::Sample { source, template_id: "1".to_owned() }],
            ..Default::default()
        };
        enrollment.enroll(request).await?;
    }
    Ok(())
}

async fn call(channel: Channel, method: &Method, messages: Vec<Vec<u8>>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let requests = Request::new(tokio_stream::iter(messages));
    let mut replies = client.streaming(requests, method.path.clone(), Plain).await?.into_inner();
    while replies.message().await?.is_some() {}
    Ok(())
}

/// Sends bytes as they are, and reads none.
struct Plain;

impl Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}
