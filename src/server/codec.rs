//! Bytes → request. What a request would cost in memory is bounded before it is decoded, and whether its caller may ask for
//! what it names is checked: no handler sees a request that was not.
//!
//! An empty part of a repeated field is two bytes on the wire and a hundred in memory: without this, a message within the
//! limit on bytes could take fifty times as many.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::OnceLock;

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use super::call;
use super::status::status;
use crate::biometrics::ids::GalleryId;
use crate::contract::DESCRIPTORS;
use crate::error::Error;

/// What a request's parts may take in memory beyond its bytes. 100,000 candidates, the longest list, take a fifth of it.
const OVERHEAD_BYTES_MAX: usize = 32 << 20;

/// About what a part takes: a message with its fields; a text or a photo; a number of at most eight bytes.
const MESSAGE_BYTES: usize = 256;
const TEXT_BYTES: usize = 64;
const NUMBER_BYTES: usize = 8;

/// Galleries that a message may name: Verify names two.
const GALLERIES_MAX: usize = 16;

/// As deep as prost decodes.
const DEPTH_MAX: usize = 100;

/// The codec of all calls. Requests are checked; replies, which only clients decode, are not.
pub struct CheckedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for CheckedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Name + Default + Send + 'static> Codec for CheckedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CheckedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> CheckedDecoder<U> {
        CheckedDecoder(PhantomData)
    }
}

/// Decodes a message that is within bounds.
pub struct CheckedDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for CheckedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Every request of the contract is named so, and no reply: `buf lint` sees to it.
        if U::NAME.ends_with("Request")
            && let Some(descriptor) = descriptors().get_message_by_name(&U::full_name())
        {
            let named = check(buffer.chunk(), &descriptor).map_err(status)?;
            call::check_access(named).map_err(status)?;
        }
        U::decode(buffer).map(Some).map_err(|_| status(MALFORMED))
    }
}

const MALFORMED: Error = Error::BadMessage("the message is not what the contract says");
const TOO_MANY_PARTS: Error = Error::BadMessage("the message has too many parts");

pub(super) fn descriptors() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    // An empty pool, where the compiled contract cannot be read, checks nothing; a test reads it.
    POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).unwrap_or_default())
}

/// What a request names that its caller needs rights for. Read off the bytes: where a field is there twice, of which a decoder
/// takes the last, rights for both are needed.
#[derive(Default)]
pub(super) struct Named {
    pub galleries: BTreeSet<String>,
    /// A pack, whose curve is that of all galleries without one of their own.
    pub all_galleries: bool,
    /// Stored templates are to be in the reply.
    pub templates: bool,
}

impl Named {
    fn note(&mut self, field: &FieldDescriptor, part: &[u8], number: u64) -> Result<(), Malformed> {
        match (field.name(), field.kind()) {
            ("gallery_id", Kind::String) => {
                let id = std::str::from_utf8(part).map_err(|_| Malformed)?;
                // An empty one is absent.
                if !id.is_empty() && !self.galleries.contains(id) {
                    // What is named is kept until the call ends: nothing that could be no gallery, and not many.
                    if id.len() > GalleryId::BYTES_MAX || self.galleries.len() == GALLERIES_MAX {
                        return Err(Malformed);
                    }
                    self.galleries.insert(id.to_owned());
                }
            }
            ("pack_id", _) if field.parent_message().name() == "CurveOwner" => self.all_galleries = true,
            ("include_embeddings", _) => self.templates |= number != 0,
            _ => {}
        }
        Ok(())
    }
}

/// Checks what a message would cost, and returns what it names.
///
/// *Errors*: [`Error::BadMessage`]. *Cost*: a step for each part, none for the bytes of a photo.
pub(super) fn check(bytes: &[u8], descriptor: &MessageDescriptor) -> Result<Named, Error> {
    let (mut left, mut named) = (OVERHEAD_BYTES_MAX, Named::default());
    match walk(bytes, descriptor, &mut left, &mut named, 0) {
        Ok(true) => Ok(named),
        Ok(false) => Err(TOO_MANY_PARTS),
        Err(Malformed) => Err(MALFORMED),
    }
}

/// Bytes that are no message.
struct Malformed;

/// Takes the cost of each part from what is left; `false` where that is not enough.
fn walk(
    mut bytes: &[u8],
    message: &MessageDescriptor,
    left: &mut usize,
    named: &mut Named,
    depth: usize,
) -> Result<bool, Malformed> {
    if depth > DEPTH_MAX {
        return Ok(false);
    }
    while bytes.has_remaining() {
        let (number, wire) = decode_key(&mut bytes).map_err(|_| Malformed)?;
        let field = message.get_field(number);
        let (mut value, mut part) = (0, &[][..]);
        match wire {
            WireType::Varint => value = decode_varint(&mut bytes).map_err(|_| Malformed)?,
            WireType::ThirtyTwoBit => part = take(&mut bytes, 4)?,
            WireType::SixtyFourBit => part = take(&mut bytes, 8)?,
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).map_err(|_| Malformed)?;
                part = take(&mut bytes, usize::try_from(length).unwrap_or(usize::MAX))?;
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
        }
        let cost = cost(field.as_ref(), wire, part.len());
        let Some(rest) = left.checked_sub(cost) else { return Ok(false) };
        *left = rest;
        if let Some(field) = &field {
            named.note(field, part, value)?;
        }
        if let (WireType::LengthDelimited, Some(Kind::Message(inner))) = (wire, field.map(|field| field.kind()))
            && !walk(part, &inner, left, named, depth + 1)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn cost(field: Option<&FieldDescriptor>, wire: WireType, length: usize) -> usize {
    let Some(field) = field else { return 0 }; // unknown fields are passed over
    match (wire, field.kind()) {
        (WireType::LengthDelimited, Kind::Message(_)) => MESSAGE_BYTES,
        (WireType::LengthDelimited, Kind::String | Kind::Bytes) => TEXT_BYTES,
        // Packed: as many bytes as on the wire.
        (WireType::LengthDelimited, Kind::Float | Kind::Double | Kind::Fixed32 | Kind::Fixed64) => 0,
        // Packed: a byte on the wire may be a number.
        (WireType::LengthDelimited, _) => length.saturating_mul(NUMBER_BYTES),
        _ => NUMBER_BYTES,
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Malformed> {
    let (part, rest) = bytes.split_at_checked(count).ok_or(Malformed)?;
    *bytes = rest;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract as proto;

    fn checked<M: Message + Name>(bytes: &[u8]) -> Result<(), String> {
        let descriptor = descriptors().get_message_by_name(&M::full_name()).expect("a message of the contract");
        check(bytes, &descriptor).map(drop).map_err(|error| error.to_string())
    }

    fn named<M: Message + Name>(bytes: &[u8]) -> Named {
        let descriptor = descriptors().get_message_by_name(&M::full_name()).expect("a message of the contract");
        check(bytes, &descriptor).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_gallery_that_a_request_names_is_found_however_often_and_deep() {
        let reference = |id: &str| {
            let identity = proto::IdentityReference { gallery_id: id.into(), identity_id: "x".into() };
            Some(proto::VerifySide { side: Some(proto::verify_side::Side::Identity(identity)) })
        };
        let request = proto::VerifyRequest { a: reference("one"), b: reference("two"), ..Default::default() };
        let mut bytes = request.encode_to_vec();
        // A decoder takes the last of each.
        bytes.extend(proto::VerifyRequest { a: reference("three"), ..Default::default() }.encode_to_vec());
        assert_eq!(
            named::<proto::VerifyRequest>(&bytes).galleries.into_iter().collect::<Vec<_>>(),
            ["one", "three", "two"]
        );
        let gallery = proto::Gallery { gallery_id: "new".into(), ..Default::default() };
        let request = proto::CreateGalleryRequest { gallery: Some(gallery) };
        assert!(named::<proto::CreateGalleryRequest>(&request.encode_to_vec()).galleries.contains("new"));
        let embedding = proto::Embedding { pack_id: "p".into(), ..Default::default() };
        let probe = Some(proto::Probe { probe: Some(proto::probe::Probe::Embedding(embedding)) });
        let request = proto::IdentifyRequest { probe, ..Default::default() };
        let found = named::<proto::IdentifyRequest>(&request.encode_to_vec());
        assert!(found.galleries.is_empty() && !found.all_galleries && !found.templates);
    }

    #[test]
    fn what_is_too_long_for_a_gallery_and_too_many_of_them_are_refused() {
        let long = proto::GetGalleryRequest { gallery_id: "x".repeat(65) };
        assert!(checked::<proto::GetGalleryRequest>(&long.encode_to_vec()).is_err());
        let many: Vec<u8> = (0..17)
            .flat_map(|number| proto::GetGalleryRequest { gallery_id: format!("g{number}") }.encode_to_vec())
            .collect();
        assert!(checked::<proto::GetGalleryRequest>(&many).is_err());
    }

    #[test]
    fn curve_of_a_pack_is_all_galleries_and_templates_are_noticed() {
        let owner = proto::CurveOwner { owner: Some(proto::curve_owner::Owner::PackId(String::new())) };
        let request = proto::SetCurveRequest { owner: Some(owner), curve: None };
        assert!(named::<proto::SetCurveRequest>(&request.encode_to_vec()).all_galleries);
        let mut request = proto::GetIdentityRequest { include_embeddings: true, ..Default::default() };
        assert!(named::<proto::GetIdentityRequest>(&request.encode_to_vec()).templates);
        request.include_embeddings = false;
        assert!(!named::<proto::GetIdentityRequest>(&request.encode_to_vec()).templates);
    }

    #[test]
    fn fields_that_name_galleries_are_the_ones_that_are_looked_for() {
        for message in descriptors().all_messages().filter(|message| message.package_name() == "facematch.v1") {
            for field in
                message.fields().filter(|field| field.name().contains("gallery") && field.kind() == Kind::String)
            {
                assert_eq!(field.name(), "gallery_id", "{}", field.full_name());
            }
        }
    }

    #[test]
    fn message_of_many_empty_parts_is_refused() {
        // Samples, templates of an identity, candidates, packed sides: each cheap on the wire.
        let samples = [0x2a, 0x00].repeat(200_000);
        assert!(checked::<proto::EnrollRequest>(&samples).expect_err("refused").contains("too many parts"));
        let templates = [0x22, 0x00].repeat(200_000);
        let identity = [&[0x12][..], &varint(templates.len()), &templates].concat();
        assert!(checked::<proto::UpdateIdentityRequest>(&identity).is_err());
        let candidates = [0x52, 0x00].repeat(600_000);
        assert!(checked::<proto::IdentifyRequest>(&candidates).is_err());
        let sides = [&[0x0a][..], &varint(5_000_000), &vec![1; 5_000_000]].concat();
        let detection = [&[0x12][..], &varint(sides.len()), &sides].concat();
        assert!(checked::<proto::DetectRequest>(&detection).is_err());
    }

    #[test]
    fn largest_honest_requests_pass() {
        let photo = proto::Photo { data: vec![7; 20 << 20] };
        let request = proto::DetectRequest { photo: Some(photo), ..Default::default() };
        assert_eq!(checked::<proto::DetectRequest>(&request.encode_to_vec()), Ok(()));
        let embedding = proto::Embedding { values: vec![0.5; 4_096], pack_id: "0".repeat(32) };
        let source = Some(proto::sample::Source::Embedding(embedding));
        let samples = vec![proto::Sample { source, template_id: "t".repeat(128) }; 64];
        let request = proto::EnrollRequest { samples, ..Default::default() };
        assert_eq!(checked::<proto::EnrollRequest>(&request.encode_to_vec()), Ok(()));
        let candidate_identity_ids = vec!["x".repeat(128); 100_000];
        let request = proto::IdentifyRequest { candidate_identity_ids, ..Default::default() };
        assert_eq!(checked::<proto::IdentifyRequest>(&request.encode_to_vec()), Ok(()));
    }

    #[test]
    fn malformed_bytes_are_refused_and_never_panic() {
        for bytes in [&[0x0a, 0xff][..], &[0x0b], &[0xff; 12], &[0x0a, 0x05, 1], &[0x0d, 1, 2]] {
            assert!(checked::<proto::DetectRequest>(bytes).is_err(), "{bytes:?}");
        }
        let nested =
            (0..300).fold(Vec::new(), |inner: Vec<u8>, _| [&[0x0a][..], &varint(inner.len()), &inner].concat());
        drop(checked::<proto::VerifyRequest>(&nested));
    }

    fn varint(value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(value as u64, &mut bytes);
        bytes
    }
}
