//! Bytes → request. What a request would cost in memory is bounded before it is decoded.
//!
//! An empty part of a repeated field is two bytes on the wire and a hundred in memory: without this, a message within the
//! limit on bytes could take fifty times as many.

use std::marker::PhantomData;
use std::sync::OnceLock;

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use super::status::status;
use crate::contract::DESCRIPTORS;
use crate::error::Error;

/// What a request's parts may take in memory beyond its bytes. 100,000 candidates, the longest list, take a fifth of it.
const OVERHEAD_BYTES_MAX: usize = 32 << 20;

/// About what a part takes: a message with its fields; a text or a photo; a number of at most eight bytes.
const MESSAGE_BYTES: usize = 256;
const TEXT_BYTES: usize = 64;
const NUMBER_BYTES: usize = 8;

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
            check(buffer.chunk(), &descriptor).map_err(status)?;
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

/// Checks what a message would cost.
///
/// *Errors*: [`Error::BadMessage`]. *Cost*: a step for each part, none for the bytes of a photo.
fn check(bytes: &[u8], descriptor: &MessageDescriptor) -> Result<(), Error> {
    let mut left = OVERHEAD_BYTES_MAX;
    match walk(bytes, descriptor, &mut left, 0) {
        Ok(true) => Ok(()),
        Ok(false) => Err(TOO_MANY_PARTS),
        Err(Malformed) => Err(MALFORMED),
    }
}

/// Bytes that are no message.
struct Malformed;

/// Takes the cost of each part from what is left; `false` where that is not enough.
fn walk(mut bytes: &[u8], message: &MessageDescriptor, left: &mut usize, depth: usize) -> Result<bool, Malformed> {
    if depth > DEPTH_MAX {
        return Ok(false);
    }
    while bytes.has_remaining() {
        let (number, wire) = decode_key(&mut bytes).map_err(|_| Malformed)?;
        let field = message.get_field(number);
        let part = match wire {
            WireType::Varint => {
                decode_varint(&mut bytes).map_err(|_| Malformed)?;
                &[]
            }
            WireType::ThirtyTwoBit => take(&mut bytes, 4)?,
            WireType::SixtyFourBit => take(&mut bytes, 8)?,
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).map_err(|_| Malformed)?;
                take(&mut bytes, usize::try_from(length).unwrap_or(usize::MAX))?
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
        };
        let cost = cost(field.as_ref(), wire, part.len());
        let Some(rest) = left.checked_sub(cost) else { return Ok(false) };
        *left = rest;
        if let (WireType::LengthDelimited, Some(Kind::Message(inner))) = (wire, field.map(|field| field.kind()))
            && !walk(part, &inner, left, depth + 1)?
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
        check(bytes, &descriptor).map_err(|error| error.to_string())
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
