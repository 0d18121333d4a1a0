//! An index as a file, so that a start need not read every record.
//!
//! ```text
//! "FMSNAPSH" | version (4 bytes) | frame | frame | …            all numbers little endian
//! frame: kind (1 byte) | length of the body (4 bytes) | checksum (4 bytes) | body
//! ```
//! (version 1; of an encrypted store version 2, in which a wrapped data key of the file's own lies before the frames, and each
//! body is sealed by it, with its tag)
//! with checksums chained as in `archive.rs`, and one header, rows, people and one end, in this order. Rows are written in
//! chunks while searches and writes go on, so the file is of no one moment. Two things make it exact: the store logs which
//! identities change after the sequence number in the header; and the end names the identities whose rows were moved
//! meanwhile, which may be in the file twice or not at all. Both are read from the store when the file is loaded, whatever
//! the file says of them.
//!
//! It is a cache: one that is damaged, of another version, store, pack or gallery, or older than the log reaches back, costs
//! the time of reading the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use prost::Message;

use super::archive::checksum;
use super::crash::step;
use super::encryption::{DataKey, FrameCipher, StoreKey, WRAPPED_KEY_BYTES};
use super::exact::ExactSearch;
use super::index::{GalleryIndex, read, write};
use super::marker::make_folder;
use super::memory;
use super::metadata::MetadataIndex;
use super::packed::{pack, unpack};
use super::record::{ValueRecord, metadata_value};
use super::store::{Store, StoredGallery};
use super::types::Gallery;
use crate::biometrics::ids::{IdentityId, TemplateId};

const MAGIC: &[u8; 8] = b"FMSNAPSH";
const VERSION: u32 = 1;
const SEALED_VERSION: u32 = 2;

/// Rows copied at a time: 4 MB of 512, about a millisecond of the read lock.
const CHUNK_ROWS: usize = 2_048;
/// People at a time: of the most metadata that one may have, half of the longest body.
const CHUNK_PEOPLE: u32 = 512;

/// The longest body: a chunk of rows of 4,096.
const BODY_BYTES_MAX: usize = 64 << 20;

const HEADER: u8 = 1;
const ROWS: u8 = 2;
const PEOPLE: u8 = 3;
const END: u8 = 4;

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    store_id: String,
    #[prost(fixed64, tag = "2")]
    number: u64,
    /// The store's sequence number: everything up to it is in the file.
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(string, tag = "4")]
    pack_id: String,
    #[prost(uint32, tag = "5")]
    dimension: u32,
    /// About how many rows follow.
    #[prost(uint64, tag = "6")]
    rows: u64,
    /// The gallery's fusion rule, by which the rows were made.
    #[prost(string, tag = "7")]
    fusion: String,
}

/// Whose the rows of a chunk are. Their values follow behind the message, packed.
#[derive(Clone, PartialEq, Message)]
struct Rows {
    #[prost(uint32, repeated, tag = "1")]
    identities: Vec<u32>,
    #[prost(string, repeated, tag = "2")]
    templates: Vec<String>,
}

#[derive(PartialEq, Message)]
struct People {
    #[prost(message, repeated, tag = "1")]
    people: Vec<Person>,
}

#[derive(PartialEq, Message)]
pub(super) struct Person {
    #[prost(uint32, tag = "1")]
    pub number: u32,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(btree_map = "string, message", tag = "3")]
    pub metadata: BTreeMap<String, ValueRecord>,
    /// Templates without a row of their own.
    #[prost(uint32, tag = "4")]
    pub fused: u32,
}

#[derive(Clone, PartialEq, Message)]
struct End {
    #[prost(uint64, tag = "1")]
    rows: u64,
    /// Identities whose rows were moved.
    #[prost(string, repeated, tag = "2")]
    moved: Vec<String>,
    /// Identities whose record is damaged.
    #[prost(string, repeated, tag = "3")]
    damaged: Vec<String>,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it cannot be read")]
    Unreadable(#[from] std::io::Error),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it is of another {0}")]
    Foreign(&'static str),
    #[error("it is older than the log of changes reaches back")]
    Stale,
    #[error("the store cannot be read")]
    Store(#[from] crate::error::Error),
}

impl From<prost::DecodeError> for Unusable {
    fn from(_: prost::DecodeError) -> Self {
        Unusable::Damaged("a frame cannot be decoded")
    }
}

/// Returns the folder of a data folder's snapshots.
pub(super) fn folder(data: &Path) -> PathBuf {
    data.join("snapshots")
}

/// Returns where the snapshot of the gallery of a number is.
pub(super) fn path(data: &Path, number: u64) -> PathBuf {
    folder(data).join(format!("{number}.snapshot"))
}

/// What a snapshot is of: a gallery as of a write, whose later changes the store logs.
pub(super) struct Subject<'a> {
    pub store_id: String,
    pub number: u64,
    pub sequence: u64,
    pub index: &'a RwLock<GalleryIndex>,
    /// Of an encrypted store.
    pub key: Option<&'a StoreKey>,
}

/// Removes all snapshots of a data folder.
pub(super) fn remove_all(data: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder(data)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => File::open(data)?.sync_all(),
    }
}

/// What the data key of a snapshot is wrapped for.
fn data_key_key(number: u64) -> Vec<u8> {
    [b"snapshot/".as_slice(), &number.to_be_bytes()].concat()
}

/// Writes a snapshot durably in place of an earlier one: temporary name → fsync → rename → fsync of the folder. Returns
/// how many identities must be read again because their rows were moved.
pub(super) fn write_file(data: &Path, subject: &Subject<'_>) -> std::io::Result<usize> {
    make_folder(&folder(data))?;
    let path = path(data, subject.number);
    let temporary = path.with_extension("new");
    let written = write_frames(&temporary, subject);
    // However it ended: the next pass begins anew.
    let moved = write(subject.index).rows.end_pass();
    let ended = written.and_then(|writer| {
        let moved = moved.ok_or_else(|| std::io::Error::other("the rows were made anew meanwhile"))?;
        writer.end(subject, &moved).map(|()| moved.len())
    });
    let moved = match ended {
        Ok(moved) => moved,
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            return Err(error);
        }
    };
    step("snapshot written");
    std::fs::rename(&temporary, &path)?;
    File::open(folder(data))?.sync_all()?;
    step("snapshot renamed");
    Ok(moved)
}

fn write_frames(path: &Path, subject: &Subject<'_>) -> std::io::Result<FrameWriter> {
    let mut writer = FrameWriter::create(path, subject)?;
    let header = {
        let mut index = write(subject.index);
        index.rows.begin_pass();
        Header {
            store_id: subject.store_id.clone(),
            number: subject.number,
            sequence: subject.sequence,
            pack_id: index.gallery().pack_id.as_str().to_owned(),
            dimension: index.rows.dimension() as u32, // at most 4,096
            rows: index.rows.templates() as u64,
            fusion: fusion_text(index.gallery()),
        }
    };
    writer.frame(HEADER, &header.encode_to_vec(), &[])?;
    let mut first = 0;
    loop {
        let (owners, values) = {
            let index = read(subject.index);
            index.rows.copy_rows(first..first + CHUNK_ROWS)
        };
        if owners.is_empty() {
            break;
        }
        first += owners.len();
        writer.rows += owners.len() as u64;
        let (identities, templates) =
            owners.into_iter().map(|(identity, template)| (identity, template.as_str().to_owned())).unzip();
        let mut packed = Vec::with_capacity(values.len() * 4);
        values.chunks(header.dimension as usize).for_each(|row| pack(row, &mut packed));
        let owners = Rows { identities, templates }.encode_length_delimited_to_vec();
        writer.frame(ROWS, &owners, &packed)?;
    }
    let mut first = 0;
    loop {
        let (people, beyond) = {
            let index = read(subject.index);
            (index.people(first..first + CHUNK_PEOPLE), index.rows.numbers())
        };
        first += CHUNK_PEOPLE;
        writer.frame(PEOPLE, &People { people }.encode_to_vec(), &[])?;
        if first as usize >= beyond {
            return Ok(writer);
        }
    }
}

struct FrameWriter {
    file: BufWriter<File>,
    chain: u32,
    rows: u64,
    cipher: Option<FrameCipher>,
}

impl FrameWriter {
    fn create(path: &Path, subject: &Subject<'_>) -> std::io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(MAGIC)?;
        let cipher = match subject.key {
            None => {
                file.write_all(&VERSION.to_le_bytes())?;
                None
            }
            Some(key) => {
                let data_key = DataKey::random().map_err(std::io::Error::other)?;
                let wrapped = key.wrap(&data_key_key(subject.number), &data_key).map_err(std::io::Error::other)?;
                file.write_all(&SEALED_VERSION.to_le_bytes())?;
                file.write_all(&wrapped)?;
                Some(data_key.frames())
            }
        };
        Ok(Self { file, chain: 0, rows: 0, cipher })
    }

    fn frame(&mut self, kind: u8, start: &[u8], rest: &[u8]) -> std::io::Result<()> {
        let Some(cipher) = &mut self.cipher else { return self.write(kind, start, rest) };
        let mut body = [start, rest].concat();
        cipher.seal(kind, &mut body).map_err(std::io::Error::other)?;
        self.write(kind, &body, &[])
    }

    fn write(&mut self, kind: u8, start: &[u8], rest: &[u8]) -> std::io::Result<()> {
        if start.len() + rest.len() > BODY_BYTES_MAX {
            return Err(std::io::Error::other("a frame would be longer than any may be"));
        }
        let length = (start.len() + rest.len()) as u32;
        self.chain = checksum(self.chain, kind, length, &[start, rest]);
        self.file.write_all(&[kind])?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&self.chain.to_le_bytes())?;
        self.file.write_all(start)?;
        self.file.write_all(rest)
    }

    fn end(mut self, subject: &Subject<'_>, moved: &BTreeSet<IdentityId>) -> std::io::Result<()> {
        let text = |ids: &BTreeSet<IdentityId>| ids.iter().map(|id| id.as_str().to_owned()).collect();
        let damaged = text(read(subject.index).damaged());
        self.frame(END, &End { rows: self.rows, moved: text(moved), damaged }.encode_to_vec(), &[])?;
        self.file.into_inner().map_err(|error| error.into_error())?.sync_all()
    }
}

/// Reads a gallery's snapshot and brings it up to date from the store; `None` where there is none.
///
/// *Errors*: [`Unusable`]: the gallery is then to be built from the store.
pub(super) fn load(data: &Path, store: &Store, stored: &StoredGallery) -> Result<Option<GalleryIndex>, Unusable> {
    let file = match File::open(path(data, stored.number)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // A row takes more bytes than it has values.
    let rows_max = file.metadata()?.len() as usize / stored.gallery.dimension.max(1);
    let mut reader = FrameReader::open(file, store, stored.number)?;
    let header = Header::decode(reader.expect(HEADER)?)?;
    check(&header, store, stored)?;
    let changed = store.changes_since(stored.number, header.sequence)?.ok_or(Unusable::Stale)?;
    let mut loading = Loading::new(stored.gallery.clone(), &header, rows_max);
    let end = loop {
        let (kind, body) = reader.next()?;
        match kind {
            ROWS => loading.take_rows(body)?,
            PEOPLE => loading.take_people(People::decode(body)?)?,
            END => break End::decode(body)?,
            _ => return Err(Unusable::Damaged("a frame is of a kind that is not known here")),
        }
    };
    if end.rows != loading.owners.len() as u64 {
        return Err(Unusable::Damaged("rows are missing"));
    }
    let mut again = changed;
    for id in &end.moved {
        again.insert(parse_identity(id)?);
    }
    let damaged = end.damaged.iter().map(|id| parse_identity(id)).collect::<Result<BTreeSet<_>, _>>()?;
    let mut index = loading.index()?;
    damaged.into_iter().for_each(|id| index.set_damaged(id));
    for id in &again {
        index.drop_identity(id);
        match store.identity(stored, id) {
            Ok(Some(identity)) => index.set_identity(&identity),
            Ok(None) => {}
            Err(crate::error::Error::DataLoss(_)) => index.set_damaged(id.clone()),
            Err(error) => return Err(error.into()),
        }
    }
    tracing::info!(rows = index.rows.templates(), again = again.len(), "index loaded from its snapshot");
    Ok(Some(index))
}

fn check(header: &Header, store: &Store, stored: &StoredGallery) -> Result<(), Unusable> {
    if header.store_id != store.id() {
        return Err(Unusable::Foreign("store"));
    }
    if header.number != stored.number {
        return Err(Unusable::Foreign("gallery"));
    }
    let gallery = &stored.gallery;
    if header.pack_id != gallery.pack_id.as_str() || header.dimension as usize != gallery.dimension {
        return Err(Unusable::Foreign("pack"));
    }
    if header.fusion != fusion_text(gallery) {
        return Err(Unusable::Foreign("fusion rule"));
    }
    Ok(())
}

fn fusion_text(gallery: &Gallery) -> String {
    format!("{:?}", gallery.settings.fusion)
}

fn parse_identity(text: &str) -> Result<IdentityId, Unusable> {
    IdentityId::parse(text).map_err(|_| Unusable::Damaged("an id is not one"))
}

/// What has been read so far.
struct Loading {
    number: u64,
    gallery: Gallery,
    values: Vec<f32>,
    owners: Vec<(u32, TemplateId)>,
    /// The numbers of the file, and those given anew, without gaps.
    numbers: HashMap<u32, u32>,
    search: ExactSearch,
    metadata: MetadataIndex,
    /// Templates without a row of their own, by number.
    fused: HashMap<u32, usize>,
}

impl Loading {
    fn new(gallery: Gallery, header: &Header, rows_max: usize) -> Self {
        // What the header says is only a hint: room for more than there is costs nothing until it is used.
        let rows = usize::try_from(header.rows).unwrap_or(0).min(rows_max);
        let mut values = Vec::new();
        memory::grow(&mut values, |values| values.reserve_exact(rows * gallery.dimension));
        Self {
            values,
            owners: Vec::with_capacity(rows),
            numbers: HashMap::new(),
            search: ExactSearch::new(gallery.dimension),
            metadata: MetadataIndex::default(),
            fused: HashMap::new(),
            number: header.number,
            gallery,
        }
    }

    fn take_rows(&mut self, mut body: &[u8]) -> Result<(), Unusable> {
        let Rows { identities, templates } = Rows::decode_length_delimited(&mut body)?;
        let rows = identities.len();
        for _ in 0..rows {
            let rest = unpack(body, self.gallery.dimension, &mut self.values);
            body = rest.ok_or(Unusable::Damaged("a chunk of rows is too short"))?;
        }
        if templates.len() != rows || !body.is_empty() {
            return Err(Unusable::Damaged("a chunk of rows is of another length"));
        }
        for (identity, template) in identities.into_iter().zip(templates) {
            let template = if template.is_empty() { Ok(TemplateId::of_all()) } else { TemplateId::parse(&template) };
            self.owners.push((identity, template.map_err(|_| Unusable::Damaged("an id is not one"))?));
        }
        Ok(())
    }

    fn take_people(&mut self, people: People) -> Result<(), Unusable> {
        for Person { number, id, metadata, fused } in people.people {
            let (given, before) = self.search.add_person(parse_identity(&id)?);
            if let Some(before) = before {
                // Deleted and enrolled again while the file was written: the rows before are those that were deleted.
                self.numbers.retain(|_, given| *given != before);
                self.metadata.remove(before);
                self.fused.remove(&before);
            }
            self.numbers.insert(number, given);
            let metadata = metadata.into_iter().map(|(key, value)| Some((key, metadata_value(value)?)));
            let metadata = metadata.collect::<Option<_>>().ok_or(Unusable::Damaged("a value is none"))?;
            self.metadata.insert(given, &metadata);
            if fused > 0 {
                self.fused.insert(given, fused as usize);
            }
        }
        Ok(())
    }

    /// Puts an index together. Rows of identities who went while the file was written are left out.
    fn index(self) -> Result<GalleryIndex, Unusable> {
        let Self { number, gallery, mut values, owners, numbers, mut search, metadata, fused } = self;
        let dimension = gallery.dimension;
        let mut kept = Vec::with_capacity(owners.len());
        for (row, (number, template)) in owners.into_iter().enumerate() {
            let Some(given) = numbers.get(&number) else { continue };
            if kept.len() < row {
                values.copy_within(row * dimension..(row + 1) * dimension, kept.len() * dimension);
            }
            kept.push((*given, template));
        }
        values.truncate(kept.len() * dimension);
        search.fill(values, kept);
        Ok(GalleryIndex::restore(number, gallery, search, metadata, fused))
    }
}

/// Reads frames; a body is valid until the next one.
struct FrameReader {
    file: BufReader<File>,
    chain: u32,
    body: Vec<u8>,
    cipher: Option<FrameCipher>,
}

impl FrameReader {
    fn open(file: File, store: &Store, number: u64) -> Result<Self, Unusable> {
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut preamble = [0; 12];
        file.read_exact(&mut preamble)?;
        let (magic, version) = preamble.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Unusable::Damaged("it does not begin as a snapshot"));
        }
        let cipher = match (<[u8; 4]>::try_from(version).map(u32::from_le_bytes), store.key()) {
            (Ok(VERSION), None) => None,
            (Ok(SEALED_VERSION), Some(key)) => {
                let mut wrapped = [0; WRAPPED_KEY_BYTES];
                file.read_exact(&mut wrapped)?;
                Some(key.unwrap(&data_key_key(number), &wrapped)?.frames())
            }
            (Ok(VERSION | SEALED_VERSION), _) => return Err(Unusable::Foreign("key")),
            _ => return Err(Unusable::Foreign("version")),
        };
        Ok(Self { file, chain: 0, body: Vec::new(), cipher })
    }

    fn next(&mut self) -> Result<(u8, &[u8]), Unusable> {
        let mut header = [0; 9];
        self.file.read_exact(&mut header)?;
        let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length as usize > BODY_BYTES_MAX {
            return Err(Unusable::Damaged("a frame is longer than any"));
        }
        self.body.resize(length as usize, 0);
        self.file.read_exact(&mut self.body)?;
        self.chain = checksum(self.chain, kind, length, &[&self.body]);
        if self.chain != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(Unusable::Damaged("a checksum is wrong"));
        }
        if let Some(cipher) = &mut self.cipher {
            cipher.open(kind, &mut self.body).map_err(|_| Unusable::Damaged("a frame cannot be decrypted"))?;
        }
        Ok((kind, &self.body))
    }

    fn expect(&mut self, expected: u8) -> Result<&[u8], Unusable> {
        let (kind, body) = self.next()?;
        if kind != expected {
            return Err(Unusable::Damaged("its header is missing"));
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::embedded::random_operations::{
        GALLERY, create, enroll, gallery, identity, index_agrees, runtime,
    };
    use crate::gallery::{EmbeddedGalleries, MasterKey};

    /// A store with some people, and a snapshot of their gallery.
    fn prepared(people: u64) -> (tempfile::TempDir, EmbeddedGalleries, PathBuf) {
        prepared_with_key(people, None)
    }

    fn prepared_with_key(people: u64, key: Option<&MasterKey>) -> (tempfile::TempDir, EmbeddedGalleries, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let galleries = EmbeddedGalleries::open_with_key(folder.path(), key).expect("open");
        // Of its own accord it would take another one every ten seconds, over what a test has made of the first.
        galleries.keeper.stop();
        runtime().block_on(async {
            create(&galleries, GALLERY).await;
            for number in 0..people {
                enroll(&galleries, GALLERY, number, &[0, 1]).await.expect("enrol");
            }
        });
        take(&galleries);
        let file = std::fs::read_dir(super::folder(folder.path())).expect("snapshots").next();
        let file = file.expect("a snapshot").expect("an entry").path();
        (folder, galleries, file)
    }

    fn take(galleries: &EmbeddedGalleries) {
        let shared = galleries.indexes.all().into_iter().next().expect("the gallery").1;
        galleries.keeper.snapshots.take(&gallery(GALLERY), &shared).expect("a snapshot");
    }

    fn load(folder: &Path, galleries: &EmbeddedGalleries) -> Result<Option<GalleryIndex>, Unusable> {
        let stored = galleries.store.gallery(&gallery(GALLERY)).expect("read").expect("the gallery");
        super::load(folder, &galleries.store, &stored)
    }

    #[test]
    fn damaged_snapshot_is_not_used_wherever_the_damage_is() {
        damaged_is_not_used(None);
    }

    #[test]
    fn damaged_snapshot_of_an_encrypted_store_is_not_used_wherever_the_damage_is() {
        damaged_is_not_used(Some(&MasterKey::random().expect("a key")));
    }

    fn damaged_is_not_used(key: Option<&MasterKey>) {
        let (folder, galleries, file) = prepared_with_key(3, key);
        let whole = std::fs::read(&file).expect("read");
        for at in 0..whole.len() {
            for bit in [1, 0x80] {
                let mut damaged = whole.clone();
                damaged[at] ^= bit;
                std::fs::write(&file, damaged).expect("write");
                assert!(load(folder.path(), &galleries).is_err(), "byte {at} of {}", whole.len());
            }
            std::fs::write(&file, &whole[..at]).expect("write");
            assert!(load(folder.path(), &galleries).is_err(), "cut to {at}");
        }
        std::fs::write(&file, &whole).expect("write");
        assert!(load(folder.path(), &galleries).expect("whole").is_some());
        // The server starts all the same, and has everyone.
        std::fs::write(&file, &whole[..whole.len() / 2]).expect("write");
        galleries.close();
        drop(galleries);
        let galleries = EmbeddedGalleries::open_with_key(folder.path(), key).expect("open");
        index_agrees(&galleries, GALLERY, "built from the store");
    }

    #[test]
    fn snapshot_of_an_encrypted_store_is_used_and_a_plain_one_is_not() {
        let key = MasterKey::random().expect("a key");
        let (folder, galleries, file) = prepared_with_key(5, Some(&key));
        let (_plain_folder, _plain, plain_file) = prepared(5);
        let sealed = std::fs::read(&file).expect("read");
        let plain = std::fs::read(plain_file).expect("read");
        let has = |file: &[u8], id: &str| file.windows(id.len()).any(|part| part == id.as_bytes());
        assert!(has(&plain, "p3") && has(&plain, "number") && !has(&sealed, "number"));
        let loaded = load(folder.path(), &galleries).expect("usable").expect("there");
        assert_eq!((loaded.rows.identities(), loaded.rows.templates()), (5, 10));
        std::fs::write(&file, plain).expect("write");
        assert!(matches!(load(folder.path(), &galleries), Err(Unusable::Foreign("key"))));
        // Of the same store, by the data key of another gallery's snapshot.
        std::fs::write(path(folder.path(), 77), &sealed).expect("write");
        let mut stored = galleries.store.gallery(&gallery(GALLERY)).expect("read").expect("the gallery");
        stored.number = 77;
        assert!(super::load(folder.path(), &galleries.store, &stored).is_err());
    }

    #[test]
    fn snapshot_of_a_later_version_another_store_or_another_gallery_is_foreign() {
        let (folder, galleries, file) = prepared(3);
        let mut later = std::fs::read(&file).expect("read");
        later[MAGIC.len()] += 2;
        std::fs::write(&file, later).expect("write");
        assert!(matches!(load(folder.path(), &galleries), Err(Unusable::Foreign("version"))));
        let (_other_folder, _other, other_file) = prepared(3);
        std::fs::copy(&other_file, &file).expect("copy");
        assert!(matches!(load(folder.path(), &galleries), Err(Unusable::Foreign("store"))));
        take(&galleries);
        runtime().block_on(create(&galleries, "second"));
        let second = galleries.store.gallery(&gallery("second")).expect("read").expect("the gallery");
        std::fs::copy(&file, path(folder.path(), second.number)).expect("copy");
        let loaded = super::load(folder.path(), &galleries.store, &second);
        assert!(matches!(loaded, Err(Unusable::Foreign("gallery"))));
    }

    #[test]
    fn index_of_a_gallery_that_was_made_again_is_not_written_as_the_new_ones() {
        let (folder, galleries, _) = prepared(3);
        let before = galleries.indexes.all().into_iter().next().expect("the gallery").1;
        runtime().block_on(async {
            galleries.delete_gallery(gallery(GALLERY), true).await.expect("delete");
            create(&galleries, GALLERY).await;
            enroll(&galleries, GALLERY, 7, &[0]).await.expect("enrol");
        });
        let taken = galleries.keeper.snapshots.take(&gallery(GALLERY), &before);
        assert!(matches!(taken, Err(crate::error::Error::NotFound(_))));
        assert!(load(folder.path(), &galleries).expect("nothing is wrong").is_none());
        galleries.close();
        drop(galleries);
        let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
        index_agrees(&galleries, GALLERY, "the new gallery");
    }

    #[test]
    fn snapshot_older_than_the_log_is_stale() {
        let (folder, galleries, file) = prepared(3);
        let older = std::fs::read(&file).expect("read");
        runtime().block_on(enroll(&galleries, GALLERY, 9, &[0])).expect("enrol");
        take(&galleries);
        assert!(load(folder.path(), &galleries).expect("it is new").is_some());
        std::fs::write(&file, older).expect("write");
        assert!(matches!(load(folder.path(), &galleries), Err(Unusable::Stale)));
    }

    #[test]
    fn what_changed_after_a_snapshot_is_read_again() {
        let (folder, galleries, _) = prepared(40);
        runtime().block_on(async {
            for number in 0..10 {
                galleries.delete_identity(gallery(GALLERY), identity(number)).await.expect("delete");
            }
            for number in [3, 15, 16, 77] {
                enroll(&galleries, GALLERY, number, &[5]).await.expect("enrol");
            }
        });
        let loaded = load(folder.path(), &galleries).expect("usable").expect("there");
        assert_eq!((loaded.rows.identities(), loaded.rows.templates()), (30 + 2, 60 + 2 + 2));
        galleries.close();
        drop(galleries);
        let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
        index_agrees(&galleries, GALLERY, "from the snapshot");
    }

    /// Rows move and people come and go while the file is written a few rows at a time.
    #[test]
    fn snapshot_taken_under_writes_is_exact_once_loaded() {
        let (folder, galleries, _) = prepared(3_000);
        let (galleries, runtime) = (std::sync::Arc::new(galleries), runtime());
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writer = {
            let (galleries, stop) = (std::sync::Arc::clone(&galleries), std::sync::Arc::clone(&stop));
            runtime.spawn(async move {
                let mut round = 0u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let number = round * 7_919 % 3_000;
                    galleries.delete_identity(gallery(GALLERY), identity(number)).await.expect("delete");
                    enroll(&galleries, GALLERY, number, &[round % 5, 7]).await.expect("enrol");
                    enroll(&galleries, GALLERY, 5_000 + round, &[0]).await.expect("enrol");
                    round += 1;
                }
                round
            })
        };
        let mut moved = 0;
        for _ in 0..20 {
            let shared = galleries.indexes.all().into_iter().next().expect("the gallery").1;
            let number = galleries.store.gallery(&gallery(GALLERY)).expect("read").expect("the gallery").number;
            let sequence = galleries.store.sequence().expect("a sequence");
            let (store_id, key) = (galleries.store.id(), galleries.store.key());
            let subject = Subject { store_id, number, sequence, index: &shared.index, key };
            // Anything may happen between the two halves of taking one.
            moved += write_file(folder.path(), &subject).expect("written");
            galleries.keeper.snapshots.take(&gallery(GALLERY), &shared).expect("a snapshot");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let rounds = runtime.block_on(writer).expect("the writer");
        assert!(moved > 0 && rounds > 20, "{moved} moved in {rounds} rounds");
        galleries.close();
        let loaded = load(folder.path(), &galleries).expect("usable").expect("there");
        let (_, status) = galleries.gallery(&gallery(GALLERY)).expect("the gallery");
        assert_eq!(loaded.rows.templates() as u64, status.counts.templates);
        drop(galleries);
        let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
        index_agrees(&galleries, GALLERY, "from the snapshot");
    }
}
