//! A gallery as a file: what `gallery export` writes and `gallery import` reads.
//!
//! ```text
//! "FMGALLRY" | version (4 bytes) | frame | frame | …            all numbers little endian
//! frame: kind (1 byte) | length of the body (4 bytes) | checksum (4 bytes) | body (protobuf)
//! ```
//! The first frame is the header, the last one the end; between them lie identities, and removals of identities that went
//! while the export was under way. Of two frames of one identity the later holds. A checksum is the CRC-32 of the checksum
//! before it, the kind, the length and the body: a frame that is missing, out of place or of another file is noticed as a
//! damaged one is. The end says how many frames came before it. So a file that reads to its end is whole.

use std::collections::BTreeSet;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::record::{self, GalleryRecord, IdentityRecord};
use super::types::{EnrolledTemplate, Gallery, Identity, PersonDetails, Served, check_display_name};
use crate::biometrics::ids::{GalleryId, IdentityId, PackId};
use crate::biometrics::template::Template;
use crate::embed::Chip;
use crate::error::Error;

const MAGIC: &[u8; 8] = b"FMGALLRY";
const VERSION: u32 = 1;
const PREAMBLE_BYTES: usize = 12;
const FRAME_HEADER_BYTES: usize = 9;

/// Bytes of a file to hand on at a time, about.
pub(super) const PART_BYTES: usize = 1 << 20;

/// The longest body: an identity of 64 templates of 4,096 values, each with its chip and 1 KiB of other things, and its metadata
/// of 72 KB.
const BODY_BYTES_MAX: usize =
    Identity::TEMPLATES_MAX * (Template::DIMENSION_MAX * 4 + EnrolledTemplate::CHIP_BYTES_MAX + 1_024) + (128 << 10);

/// The longest id of an export: ours have 36 bytes.
const EXPORT_ID_BYTES_MAX: usize = 64;

const HEADER: u8 = 1;
const IDENTITY: u8 = 2;
const REMOVED: u8 = 3;
const END: u8 = 4;

/// What a file begins with.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    /// Another one for each export: by it an import that broke off knows its file.
    #[prost(string, tag = "1")]
    pub export_id: String,
    /// The id that the gallery had.
    #[prost(string, tag = "2")]
    pub gallery_id: String,
    /// The pack of its templates, and their length.
    #[prost(string, tag = "3")]
    pub pack_id: String,
    #[prost(uint32, tag = "4")]
    pub dimension: u32,
    #[prost(uint64, tag = "5")]
    pub created_micros: u64,
    /// The gallery's settings as the file begins: rows are made by them as identities come. Older files have none.
    #[prost(message, optional, tag = "6")]
    pub gallery: Option<GalleryRecord>,
}

impl Header {
    pub(super) fn new(gallery: &Gallery) -> Self {
        Self {
            gallery: Some(record::gallery_record(0, gallery)),
            export_id: uuid::Uuid::now_v7().to_string(),
            gallery_id: gallery.id.as_str().to_owned(),
            pack_id: gallery.pack_id.as_str().to_owned(),
            dimension: u32::try_from(gallery.dimension).unwrap_or(u32::MAX),
            created_micros: record::micros(record::now()),
        }
    }
}

/// What a file ends with.
#[derive(Clone, PartialEq, Message)]
pub(super) struct End {
    /// The gallery's settings.
    #[prost(message, optional, tag = "1")]
    pub gallery: Option<GalleryRecord>,
    /// The store's sequence number whose state the file holds.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// How many frames came before.
    #[prost(uint64, tag = "3")]
    pub frames: u64,
}

#[derive(PartialEq, Message)]
struct Person {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    record: Option<IdentityRecord>,
}

/// Reads the id of the export that a file is of, and the id that its gallery had, from the file's beginning: a kilobyte is
/// enough.
///
/// *Errors*: [`Error::GalleryFile`].
pub fn read_file_ids(beginning: &[u8]) -> Result<(String, String), Error> {
    let mut decoder = Decoder::default();
    decoder.feed(beginning);
    match decoder.next()? {
        Some(Frame::Header(Header { export_id, gallery_id, .. })) => Ok((export_id, gallery_id)),
        _ => Err(Error::GalleryFile("its header is missing")),
    }
}

/// Writes frames behind one another.
#[derive(Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    chain: u32,
    frames: u64,
}

impl Encoder {
    pub(super) fn header(&mut self, header: &Header) {
        self.bytes.extend_from_slice(MAGIC);
        self.bytes.extend_from_slice(&VERSION.to_le_bytes());
        self.frame(HEADER, header);
    }

    pub(super) fn identity(&mut self, identity: &Identity) {
        self.record(&identity.id, record::identity_record(identity));
    }

    /// Of an identity, as it was in another file.
    pub(super) fn record(&mut self, id: &IdentityId, record: IdentityRecord) {
        self.frame(IDENTITY, &Person { id: id.as_str().to_owned(), record: Some(record) });
    }

    pub(super) fn removed(&mut self, id: &IdentityId) {
        self.frame(REMOVED, &Person { id: id.as_str().to_owned(), record: None });
    }

    pub(super) fn end(&mut self, gallery: GalleryRecord, sequence: u64) {
        let end = End { gallery: Some(gallery), sequence, frames: self.frames };
        self.frame(END, &end);
    }

    /// Takes the bytes written so far.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Returns how many bytes wait to be taken.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len()
    }

    fn frame(&mut self, kind: u8, message: &impl Message) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        // Into a vector, which takes all there is: it cannot fail.
        let _ = message.encode(&mut self.bytes);
        let (_, frame) = self.bytes.split_at_mut(start);
        let Some((header, body)) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>() else { return };
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.chain = checksum(self.chain, kind, length, &[body]);
        let ([l0, l1, l2, l3], [c0, c1, c2, c3]) = (length.to_le_bytes(), self.chain.to_le_bytes());
        *header = [kind, l0, l1, l2, l3, c0, c1, c2, c3];
        self.frames += 1;
    }
}

/// A frame as read.
pub(super) enum Frame {
    Header(Header),
    /// The id, and the record as it is in the file: see [`record::identity`].
    Identity(IdentityId, IdentityRecord),
    Removed(IdentityId),
    End(End),
}

/// Where a decoder is in its file: enough to go on from there with a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Bytes of whole frames.
    pub offset: u64,
    /// The last checksum.
    pub chain: u32,
    /// Frames so far.
    pub frames: u64,
}

/// Reads frames from bytes as they come.
#[derive(Default)]
pub(super) struct Decoder {
    waiting: Vec<u8>,
    /// Bytes of `waiting` that have been read.
    read: usize,
    position: Position,
}

impl Decoder {
    pub(super) fn resume(position: Position) -> Self {
        Self { position, ..Self::default() }
    }

    /// Tells whether bytes have come that make no frame yet.
    pub(super) fn has_rest(&self) -> bool {
        self.read < self.waiting.len()
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.waiting.drain(..self.read);
        self.read = 0;
        self.waiting.extend_from_slice(bytes);
    }

    /// Returns the next frame that has wholly come.
    ///
    /// *Errors*: [`Error::GalleryFile`] where it is not what follows.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Error> {
        if self.position.offset == 0 {
            let Some(preamble) = self.ahead::<PREAMBLE_BYTES>() else { return Ok(None) };
            let (magic, version) = preamble.split_at(MAGIC.len());
            if magic != MAGIC {
                return Err(Error::GalleryFile("it is not a gallery file"));
            }
            match <[u8; 4]>::try_from(version).map(u32::from_le_bytes) {
                Ok(VERSION) => {}
                Ok(found @ 1..) => return Err(Error::NewerGalleryFile { known: VERSION, found }),
                _ => return Err(Error::GalleryFile("its version is none")),
            }
            self.step(PREAMBLE_BYTES);
        }
        let Some([kind, l0, l1, l2, l3, c0, c1, c2, c3]) = self.ahead::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let bytes = length as usize;
        if bytes > BODY_BYTES_MAX {
            return Err(Error::GalleryFile("a frame is longer than any"));
        }
        let start = self.read + FRAME_HEADER_BYTES;
        let Some(body) = self.waiting.get(start..start + bytes) else { return Ok(None) };
        let chain = checksum(self.position.chain, kind, length, &[body]);
        if chain != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(Error::GalleryFile("a checksum is wrong"));
        }
        let frame = frame(kind, body, self.position.frames)?;
        self.step(FRAME_HEADER_BYTES + bytes);
        self.position.chain = chain;
        self.position.frames += 1;
        Ok(Some(frame))
    }

    fn ahead<const N: usize>(&self) -> Option<[u8; N]> {
        self.waiting.get(self.read..)?.first_chunk().copied()
    }

    fn step(&mut self, bytes: usize) {
        self.read += bytes;
        self.position.offset += bytes as u64;
    }
}

fn frame(kind: u8, body: &[u8], frames_before: u64) -> Result<Frame, Error> {
    let undecodable = |_| Error::GalleryFile("a frame cannot be decoded");
    let person = || -> Result<(IdentityId, Option<IdentityRecord>), Error> {
        // Empty parts are two bytes here and a hundred in memory.
        if parts_of_record(body).is_none_or(|parts| parts > PARTS_MAX) {
            return Err(Error::GalleryFile("an identity has too many parts"));
        }
        let Person { id, record } = Person::decode(body).map_err(undecodable)?;
        Ok((IdentityId::parse(&id).map_err(|_| Error::GalleryFile("an id is not one"))?, record))
    };
    match (kind, frames_before) {
        (HEADER, 0) => Ok(Frame::Header(Header::decode(body).map_err(undecodable)?)),
        (HEADER, _) | (_, 0) => Err(Error::GalleryFile("its header is not where it should be")),
        (IDENTITY, _) => match person()? {
            (id, Some(record)) => Ok(Frame::Identity(id, record)),
            _ => Err(Error::GalleryFile("an identity has no record")),
        },
        (REMOVED, _) => Ok(Frame::Removed(person()?.0)),
        (END, _) => {
            let end = End::decode(body).map_err(undecodable)?;
            if end.frames != frames_before {
                return Err(Error::GalleryFile("frames are missing"));
            }
            Ok(Frame::End(end))
        }
        _ => Err(Error::GalleryFile("a frame is of a kind that is not known here")),
    }
}

/// The most parts that an identity's record has: templates, metadata, and six others.
const PARTS_MAX: usize = Identity::TEMPLATES_MAX + PersonDetails::METADATA_MAX + 6;

/// Returns how many parts the record of a person has, whatever they are; `None` where it is not a message.
fn parts_of_record(body: &[u8]) -> Option<usize> {
    let record = parts(body)?.into_iter().rfind(|(tag, _)| *tag == 2);
    record.map_or(Some(0), |(_, record)| parts(record).map(|parts| parts.len()))
}

/// Returns the parts of a message, by tag: the bytes of those that have a length. More than a person may have are not
/// looked at.
fn parts(mut message: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut found = Vec::new();
    while !message.is_empty() && found.len() <= PARTS_MAX {
        let (tag, wire) = decode_key(&mut message).ok()?;
        let bytes = match wire {
            WireType::Varint => {
                decode_varint(&mut message).ok()?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut message).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let (part, rest) = message.split_at_checked(bytes)?;
        found.push((tag, part));
        message = rest;
    }
    Some(found)
}

/// Checks a header, and returns the gallery as far as it is known before its end.
pub(super) fn check_header(id: GalleryId, header: &Header) -> Result<Gallery, Error> {
    let pack_id = PackId::parse(&header.pack_id).map_err(|_| Error::GalleryFile("its pack id is not one"))?;
    let dimension = header.dimension as usize;
    if header.export_id.len() > EXPORT_ID_BYTES_MAX {
        return Err(Error::GalleryFile("its export id is longer than any"));
    }
    if !(1..=Template::DIMENSION_MAX).contains(&dimension) {
        return Err(Error::GalleryFile("its templates have a length that is not known here"));
    }
    Ok(begun_gallery(id, pack_id, dimension, header.gallery.as_ref()))
}

/// Makes the gallery of an import as far as it is known before its end: rows are made by its fusion rule.
pub(super) fn begun_gallery(
    id: GalleryId,
    pack_id: PackId,
    dimension: usize,
    settings: Option<&GalleryRecord>,
) -> Gallery {
    let mut begun = Gallery::with_defaults(id.clone(), pack_id, dimension, record::now());
    if let Some(stated) = settings.and_then(|settings| record::gallery(id, settings).ok()) {
        begun.settings.fusion = stated.settings.fusion;
    }
    begun
}

/// Checks an end, and returns the gallery that it makes of `begun`. Which store serves it is not for the file to say.
pub(super) fn check_end(end: End, begun: &Gallery, served: Served) -> Result<Gallery, Error> {
    let settings = end.gallery.ok_or(Error::GalleryFile("it has no settings"))?;
    let unfit = |_| Error::GalleryFile("a setting has a value that is none");
    let mut gallery = record::gallery(begun.id.clone(), &settings).map_err(unfit)?;
    check_display_name("display_name", &gallery.settings.display_name).map_err(unfit)?;
    if gallery.pack_id != begun.pack_id || gallery.dimension != begun.dimension {
        return Err(Error::GalleryFile("its end is of another pack than its header"));
    }
    gallery.settings.served = served;
    Ok(gallery)
}

/// Checks what an enrolment would: the file may come from anywhere.
pub(super) fn check_identity(identity: &Identity, gallery: &Gallery) -> Result<(), Error> {
    identity.details.check().map_err(|_| Error::GalleryFile("an identity's details are not within their limits"))?;
    let ids: BTreeSet<_> = identity.templates.iter().map(|enrolled| &enrolled.id).collect();
    if !(1..=Identity::TEMPLATES_MAX).contains(&ids.len()) || ids.len() < identity.templates.len() {
        return Err(Error::GalleryFile("an identity has no, too many or doubled templates"));
    }
    for enrolled in &identity.templates {
        let fits = enrolled.template.check_fits(&gallery.pack_id, gallery.dimension);
        fits.map_err(|_| Error::GalleryFile("a template is of another pack than its header says"))?;
        if let Some(chip) = &enrolled.chip {
            Chip::from_png(chip).map_err(|_| Error::GalleryFile("a template's chip is no picture of one"))?;
        }
    }
    Ok(())
}

/// Returns the checksum of a frame, whose body is given in parts.
pub(super) fn checksum(before: u32, kind: u8, length: u32, body: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&before.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(&length.to_le_bytes());
    body.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::biometrics::ids::TemplateId;

    #[test]
    fn file_of_a_newer_version_is_refused_as_such() {
        let file = |version: u32| {
            let mut encoder = Encoder::default();
            encoder.header(&Header::default());
            let mut bytes = encoder.take();
            bytes[MAGIC.len()..PREAMBLE_BYTES].copy_from_slice(&version.to_le_bytes());
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            decoder.next().map(drop)
        };
        assert!(file(VERSION).is_ok());
        assert!(matches!(file(0), Err(Error::GalleryFile(_))));
        let Err(error) = file(VERSION + 1) else { panic!("it is read") };
        assert_eq!(error.reason(), "GALLERY_FILE_NEWER");
        assert!(error.to_string().contains("version 2") && error.to_string().contains("a newer facematch"), "{error}");
    }

    #[test]
    fn bytes_that_make_no_frame_yet_are_a_rest() {
        let mut encoder = Encoder::default();
        encoder.header(&Header::default());
        let (mut decoder, bytes) = (Decoder::default(), encoder.take());
        decoder.feed(&bytes[..bytes.len() - 1]);
        assert!(matches!(decoder.next(), Ok(None)) && decoder.has_rest());
        decoder.feed(&bytes[bytes.len() - 1..]);
        assert!(matches!(decoder.next(), Ok(Some(Frame::Header(_)))) && !decoder.has_rest());
    }

    #[test]
    fn identity_of_more_parts_than_any_has_is_refused_before_it_is_decoded() {
        // An id, and a record of empty parts of a field that is not known here: two bytes each.
        let read = |parts: usize| {
            let record = [0x7a, 0].repeat(parts);
            let mut body = vec![0x0a, 3, b'a', b'n', b'n', 0x12];
            prost::encoding::encode_varint(record.len() as u64, &mut body);
            body.extend(record);
            frame(IDENTITY, &body, 1).map(drop)
        };
        assert!(read(PARTS_MAX).is_ok());
        assert!(matches!(read(PARTS_MAX + 1), Err(Error::GalleryFile("an identity has too many parts"))));
    }

    #[test]
    fn largest_identity_passes() {
        let pack_id = PackId::from_digits("0a".repeat(16));
        let values: Vec<f32> = (1..=Template::DIMENSION_MAX).map(|at| (at as f32 * 0.7).sin()).collect();
        let template = Template::from_vector(&values, pack_id).expect("a template");
        let chip: std::sync::Arc<[u8]> = vec![7; EnrolledTemplate::CHIP_BYTES_MAX].into();
        let enrolled = (0..Identity::TEMPLATES_MAX).map(|number| EnrolledTemplate {
            id: TemplateId::parse(&format!("{number:0128}")).expect("an id"),
            template: template.clone(),
            face: None,
            chip: Some(std::sync::Arc::clone(&chip)),
            created: SystemTime::UNIX_EPOCH,
        });
        let id = IdentityId::parse("ann").expect("an id");
        let details = PersonDetails::default();
        let (created, updated) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        let mut encoder = Encoder::default();
        encoder.header(&Header::default());
        encoder.identity(&Identity { id, details, templates: enrolled.collect(), created, updated });
        let mut decoder = Decoder::default();
        decoder.feed(&encoder.take());
        assert!(matches!(decoder.next(), Ok(Some(Frame::Header(_)))));
        assert!(matches!(decoder.next(), Ok(Some(Frame::Identity(..)))));
    }
}
