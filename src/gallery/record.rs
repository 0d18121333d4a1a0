//! Records as bytes: magic, version, checksum, message. The decoder never panics and never trusts.
//!
//! ```text
//! "FMR" | version (1 byte) | CRC-32 of key and message (4 bytes, little endian) | message (protobuf)
//! ```
//! The checksum covers the key, so that a record found under another key is damaged too. Identities of an encrypted store are
//! of version 3: see `embedded/encryption.rs`. A new version comes with a new format of the store.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

pub(super) use super::gallery_record::{GalleryRecord, gallery, gallery_record};
use super::packed::{pack, unpack};
use super::types::{EnrolledTemplate, Identity, MetadataValue, PersonDetails};
use crate::biometrics::face::{Face, Landmarks, Point, Rectangle};
use crate::biometrics::ids::{IdentityId, PackId, TemplateId};
use crate::biometrics::pose::Pose;
use crate::biometrics::quality::FaceQuality;
use crate::biometrics::template::Template;
use crate::error::Error;

pub(super) const MAGIC: &[u8; 3] = b"FMR";
const VERSION: u8 = 2;
/// Of records that an encrypted store seals: see `embedded/encryption.rs`.
pub(super) const SEALED_VERSION: u8 = 3;
const HEADER_BYTES: usize = 8;

/// How far an import has come.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StagedRecord {
    /// The key range of the identities that are there.
    #[prost(fixed64, tag = "1")]
    pub number: u64,
    /// Which file it is.
    #[prost(string, tag = "2")]
    pub export_id: String,
    /// The bytes of the file whose identities are there, and the decoder's state behind them.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    #[prost(fixed32, tag = "4")]
    pub chain: u32,
    #[prost(uint64, tag = "5")]
    pub frames: u64,
    #[prost(string, tag = "6")]
    pub pack_id: String,
    #[prost(uint32, tag = "7")]
    pub dimension: u32,
    /// The gallery's settings as the file has them at its beginning.
    #[prost(message, optional, tag = "8")]
    pub gallery: Option<GalleryRecord>,
}

/// Whether a store is encrypted.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EncryptionRecord {
    /// Of the master key; empty: it is not.
    #[prost(bytes = "vec", tag = "1")]
    pub key_id: Vec<u8>,
}

#[derive(PartialEq, Message)]
pub(super) struct IdentityRecord {
    #[prost(string, tag = "1")]
    display_name: String,
    #[prost(btree_map = "string, message", tag = "2")]
    metadata: BTreeMap<String, ValueRecord>,
    /// One pack an identity: a gallery holds templates of one pack only.
    #[prost(string, tag = "3")]
    pack_id: String,
    #[prost(message, repeated, tag = "4")]
    templates: Vec<TemplateRecord>,
    #[prost(uint64, tag = "5")]
    created_micros: u64,
    #[prost(uint64, tag = "6")]
    updated_micros: u64,
}

#[derive(PartialEq, Message)]
struct TemplateRecord {
    #[prost(string, tag = "1")]
    id: String,
    /// See `packed.rs`.
    #[prost(bytes = "vec", tag = "2")]
    values: Vec<u8>,
    /// Box (4), detection score, landmarks (10); empty for an enrolled embedding.
    #[prost(float, repeated, tag = "3")]
    face: Vec<f32>,
    #[prost(uint64, tag = "4")]
    created_micros: u64,
    /// Face side, sharpness, brightness, contrast, clipped share, yaw, pitch, roll; empty where it was not measured.
    #[prost(float, repeated, tag = "5")]
    quality: Vec<f32>,
    /// A PNG; empty where none is kept.
    #[prost(bytes = "vec", tag = "6")]
    chip: Vec<u8>,
}

#[derive(PartialEq, Message)]
pub(super) struct ValueRecord {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    value: Option<Value>,
}

#[derive(PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(bool, tag = "3")]
    Flag(bool),
    #[prost(message, tag = "4")]
    Time(TimeRecord),
}

#[derive(PartialEq, Message)]
struct TimeRecord {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Frames a message for its key.
pub(super) fn seal(key: &[u8], message: &impl Message) -> Vec<u8> {
    frame(key, &message.encode_to_vec())
}

/// Frames the bytes of a message for its key.
pub(super) fn frame(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + body.len());
    record.extend_from_slice(MAGIC);
    record.push(VERSION);
    record.extend_from_slice(&checksum(key, body).to_le_bytes());
    record.extend_from_slice(body);
    record
}

/// Opens a record. *Errors*: [`Error::DataLoss`] where anything about it is wrong.
pub(super) fn unseal<M: Message + Default>(key: &[u8], record: &[u8]) -> Result<M, Error> {
    M::decode(unframe(key, record)?).map_err(|_| Error::DataLoss("its message cannot be decoded"))
}

/// Returns the bytes of a record's message. *Errors*: [`Error::DataLoss`].
pub(super) fn unframe<'a>(key: &[u8], record: &'a [u8]) -> Result<&'a [u8], Error> {
    let (header, body) = record.split_first_chunk::<HEADER_BYTES>().ok_or(Error::DataLoss("it is too short"))?;
    let [m0, m1, m2, version, c0, c1, c2, c3] = *header;
    if [m0, m1, m2] != *MAGIC {
        return Err(Error::DataLoss("it does not begin as a record"));
    }
    match version {
        VERSION => {}
        SEALED_VERSION => return Err(Error::DataLoss("it is encrypted, in a store that is not")),
        ..VERSION => return Err(Error::DataLoss("it is of a version that was never released")),
        _ => return Err(Error::DataLoss("a newer facematch wrote it")),
    }
    if u32::from_le_bytes([c0, c1, c2, c3]) != checksum(key, body) {
        return Err(Error::DataLoss("its checksum is wrong"));
    }
    Ok(body)
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// Returns the message of an identity's record.
pub(super) fn identity_message(identity: &Identity) -> Vec<u8> {
    identity_record(identity).encode_to_vec()
}

pub(super) fn identity_record(identity: &Identity) -> IdentityRecord {
    let templates = identity.templates.iter().map(|enrolled| TemplateRecord {
        id: enrolled.id.as_str().to_owned(),
        values: packed(enrolled.template.values()),
        face: enrolled.face.as_ref().map(face_values).unwrap_or_default(),
        created_micros: micros(enrolled.created),
        quality: enrolled.face.as_ref().and_then(|face| face.quality.as_ref()).map(quality_values).unwrap_or_default(),
        chip: enrolled.chip.as_deref().map(<[u8]>::to_vec).unwrap_or_default(),
    });
    let metadata = identity.details.metadata.iter().map(|(key, value)| (key.clone(), value_record(value)));
    let pack_id = identity.templates.first().map_or("", |enrolled| enrolled.template.pack_id().as_str());
    IdentityRecord {
        display_name: identity.details.display_name.clone(),
        metadata: metadata.collect(),
        pack_id: pack_id.to_owned(),
        templates: templates.collect(),
        created_micros: micros(identity.created),
        updated_micros: micros(identity.updated),
    }
}

/// Reads the message of an identity's record. *Errors*: [`Error::DataLoss`].
pub(super) fn read_identity(id: IdentityId, message: &[u8], dimension: usize) -> Result<Identity, Error> {
    let record = IdentityRecord::decode(message).map_err(|_| Error::DataLoss("its message cannot be decoded"))?;
    identity(id, record, dimension)
}

/// Returns how many templates the message of an identity's record has. *Errors*: [`Error::DataLoss`].
pub(super) fn count_templates(message: &[u8]) -> Result<usize, Error> {
    let record = IdentityRecord::decode(message).map_err(|_| Error::DataLoss("its message cannot be decoded"))?;
    Ok(record.templates.len())
}

/// *Errors*: [`Error::DataLoss`] where a value is not one that was ever written.
pub(super) fn identity(id: IdentityId, record: IdentityRecord, dimension: usize) -> Result<Identity, Error> {
    let read = || -> Result<Identity, Error> {
        let pack_id = PackId::parse(&record.pack_id)?;
        let templates = record.templates.iter().map(|template| enrolled_template(template, &pack_id, dimension));
        let metadata = record.metadata.into_iter().map(|(key, value)| Some((key, metadata_value(value)?)));
        Ok(Identity {
            id,
            details: PersonDetails {
                display_name: record.display_name,
                metadata: metadata.collect::<Option<_>>().ok_or(Error::DataLoss("metadata without a value"))?,
            },
            templates: templates.collect::<Result<_, Error>>()?,
            created: time(record.created_micros),
            updated: time(record.updated_micros),
        })
    };
    read().map_err(|_| Error::DataLoss("a value is out of its range"))
}

fn packed(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * 4);
    pack(values, &mut bytes);
    bytes
}

fn enrolled_template(record: &TemplateRecord, pack_id: &PackId, dimension: usize) -> Result<EnrolledTemplate, Error> {
    let mut values = Vec::with_capacity(dimension);
    if unpack(&record.values, dimension, &mut values).is_none_or(|rest| !rest.is_empty()) {
        return Err(Error::DataLoss("a template has another length"));
    }
    Ok(EnrolledTemplate {
        id: TemplateId::parse(&record.id)?,
        template: Template::from_unit_vector(&values, pack_id.clone())?,
        face: face(&record.face, quality(&record.quality)),
        chip: (!record.chip.is_empty()).then(|| record.chip.as_slice().into()),
        created: time(record.created_micros),
    })
}

fn face_values(face: &Face) -> Vec<f32> {
    let Rectangle { x_min_px, y_min_px, x_max_px, y_max_px } = face.rectangle;
    let mut values = vec![x_min_px, y_min_px, x_max_px, y_max_px, face.detection_score];
    values.extend(face.landmarks.iter().flat_map(|point| [point.x_px, point.y_px]));
    values
}

fn face(values: &[f32], quality: Option<FaceQuality>) -> Option<Face> {
    let (&[x_min_px, y_min_px, x_max_px, y_max_px, detection_score], points) = values.split_first_chunk::<5>()?;
    let mut landmarks = Landmarks::default();
    for (point, [x_px, y_px]) in landmarks.iter_mut().zip(points.as_chunks::<2>().0) {
        *point = Point { x_px: *x_px, y_px: *y_px };
    }
    Some(Face { rectangle: Rectangle { x_min_px, y_min_px, x_max_px, y_max_px }, detection_score, landmarks, quality })
}

fn quality_values(quality: &FaceQuality) -> Vec<f32> {
    let FaceQuality { face_side_px, sharpness, brightness, contrast, clipped_share, pose } = *quality;
    let Pose { yaw_degrees, pitch_degrees, roll_degrees } = pose;
    vec![face_side_px, sharpness, brightness, contrast, clipped_share, yaw_degrees, pitch_degrees, roll_degrees]
}

/// None of a record of before there were measures.
fn quality(values: &[f32]) -> Option<FaceQuality> {
    let &[face_side_px, sharpness, brightness, contrast, clipped_share, yaw_degrees, pitch_degrees, roll_degrees] =
        values
    else {
        return None;
    };
    let pose = Pose { yaw_degrees, pitch_degrees, roll_degrees };
    Some(FaceQuality { face_side_px, sharpness, brightness, contrast, clipped_share, pose })
}

pub(super) fn value_record(value: &MetadataValue) -> ValueRecord {
    let value = match value {
        MetadataValue::Text(text) => Value::Text(text.clone()),
        MetadataValue::Number(number) => Value::Number(*number),
        MetadataValue::Flag(flag) => Value::Flag(*flag),
        MetadataValue::Time { seconds, nanos } => Value::Time(TimeRecord { seconds: *seconds, nanos: *nanos }),
    };
    ValueRecord { value: Some(value) }
}

pub(super) fn metadata_value(record: ValueRecord) -> Option<MetadataValue> {
    Some(match record.value? {
        Value::Text(text) => MetadataValue::Text(text),
        Value::Number(number) => MetadataValue::Number(number),
        Value::Flag(flag) => MetadataValue::Flag(flag),
        Value::Time(TimeRecord { seconds, nanos }) => MetadataValue::Time { seconds, nanos },
    })
}

/// The last microsecond of the year 9999: later times have no text.
const MICROS_MAX: u64 = 253_402_300_799_999_999;

/// The time now, as precisely as records keep it.
pub(super) fn now() -> SystemTime {
    time(micros(SystemTime::now()))
}

pub(super) fn micros(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

pub(super) fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_micros(micros.min(MICROS_MAX))).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> Identity {
        let pack_id = PackId::from_digits("0a".repeat(16));
        let template = Template::from_vector(&[3.0, 4.0, 0.0], pack_id).expect("a template");
        let pose = Pose { yaw_degrees: 6.0, pitch_degrees: -7.0, roll_degrees: 8.0 };
        let quality =
            FaceQuality { face_side_px: 1.0, sharpness: 0.2, brightness: 0.3, contrast: 0.4, clipped_share: 0.5, pose };
        let face = Face {
            rectangle: Rectangle::default(),
            detection_score: 0.7,
            landmarks: Landmarks::default(),
            quality: Some(quality),
        };
        let created = time(1_700_000_000_123_456);
        let metadata = [
            ("a", MetadataValue::Text("x".into())),
            ("b", MetadataValue::Number(1.5)),
            ("c", MetadataValue::Flag(true)),
            ("d", MetadataValue::Time { seconds: -5, nanos: 7 }),
        ];
        Identity {
            id: IdentityId::parse("ann").expect("an id"),
            details: PersonDetails {
                display_name: "Ann".into(),
                metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
            },
            templates: vec![
                EnrolledTemplate {
                    id: TemplateId::parse("1").expect("an id"),
                    template: template.clone(),
                    face: Some(face),
                    chip: None,
                    created,
                },
                EnrolledTemplate {
                    id: TemplateId::parse("2").expect("an id"),
                    template,
                    face: None,
                    chip: Some(b"a chip".as_slice().into()),
                    created,
                },
            ],
            created,
            updated: created,
        }
    }

    #[test]
    fn damaged_record_is_data_loss_wherever_the_damage_is() {
        let identity = somebody();
        let sealed = frame(b"key", &identity_message(&identity));
        let open_as =
            |key: &[u8], bytes: &[u8], dimension| read_identity(identity.id.clone(), unframe(key, bytes)?, dimension);
        let open = |key: &[u8], bytes: &[u8]| open_as(key, bytes, 3);
        for at in 0..sealed.len() {
            for bit in [1, 0x80] {
                let mut damaged = sealed.clone();
                damaged[at] ^= bit;
                assert!(matches!(open(b"key", &damaged), Err(Error::DataLoss(_))), "byte {at}");
            }
            assert!(matches!(open(b"key", &sealed[..at]), Err(Error::DataLoss(_))), "cut to {at}");
        }
        assert!(matches!(open(b"yek", &sealed), Err(Error::DataLoss(_))));
        assert!(matches!(open_as(b"key", &sealed, 4), Err(Error::DataLoss(_))));
    }

    #[test]
    fn record_comes_back_as_it_was() {
        let identity = somebody();
        let back = read_identity(identity.id.clone(), &identity_message(&identity), 3).expect("whole");
        assert!(back == identity);
    }

    #[test]
    fn record_of_before_there_were_measures_is_read_without() {
        let values = packed(&[0.6, 0.8]);
        let before = TemplateRecord { id: "1".into(), values, face: vec![0.5; 15], ..Default::default() };
        let pack_id = PackId::from_digits("0a".repeat(16));
        let read = enrolled_template(&before, &pack_id, 2).expect("whole");
        assert!(read.face.is_some_and(|face| face.quality.is_none()));
    }
}
