//! The durable store. The adapter of sled: no file but this and those of `store/` names it.
//!
//! One tree, so that one batch is one atomic change. Its keys:
//!
//! | Key | Value |
//! |---|---|
//! | `m/format` | version of this layout, 4 bytes |
//! | `m/sequence` | number of the last write, 8 bytes |
//! | `m/id` | the store's own id, as the marker file has it |
//! | `m/encryption` | the id of the master key that the store is encrypted with; of a plain store none |
//! | `g/` gallery id | gallery record |
//! | `s/` gallery id | staged record: how far the import of this gallery has come |
//! | `v/` gallery number | nothing: a migration writes identities of this number, which is no gallery's yet |
//! | `k/g/` gallery id, `k/p/` pack id | calibration curve |
//! | `a/` key id | key record: an access key, without its secret |
//! | `i/` gallery number (8 bytes), identity id | identity record: one an identity, its templates within; sealed in an encrypted store |
//! | `e/` as behind `i/` | of an encrypted store, the wrapped data key of the identity's record |
//! | `d/` gallery number | nothing: the identities of this deleted gallery are still to be removed |
//! | `t/` gallery number | changes of this gallery are logged; those up to this sequence are dropped from the log |
//! | `c/` gallery number, sequence | the ids of the identities that this write changed, each after its length (2 bytes) |
//!
//! Encrypted is what is known of people but their ids: keys are in order and must be found, and the log (`c/`) has ids only.
//! EmbeddedGalleries' settings, how far imports are, and curves, which are counts of scores, are of nobody and stay plain. An identity and
//! its data key are written and deleted in one batch, and each write has a data key of its own: `encryption.rs` says more.
//!
//! What is assumed of sled: a batch is applied wholly or not at all, and after `flush` returns it survives a crash.
//!
//! sled keeps what was deleted in its files until it happens to use their place again. [`Store::begin_copy`] and what follows
//! it copy all that is left into a new folder beside the old one, which is then removed.

mod copying;
mod opening;
mod sealed;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use sled::{Batch, Db};

use super::curve_record::{CurveOwner, CurveRecord};
use super::encryption::StoreKey;
use super::key_record::KeyRecord;
use super::marker::Marker;
use super::memory;
use super::record::{self, GalleryRecord, StagedRecord};
use super::types::{Gallery, Identity};
use crate::access::KeyId;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId};
use crate::error::Error;

pub(super) use self::copying::{Copying, Resealing};

const FORMAT_KEY: &[u8] = b"m/format";
const SEQUENCE_KEY: &[u8] = b"m/sequence";
const ID_KEY: &[u8] = b"m/id";
const ENCRYPTION_KEY: &[u8] = b"m/encryption";
const GALLERIES: &[u8] = b"g/";
const STAGED: &[u8] = b"s/";
const MIGRATIONS: &[u8] = b"v/";
const CURVES: &[u8] = b"k/";
const GALLERY_CURVES: &[u8] = b"k/g/";
const PACK_CURVES: &[u8] = b"k/p/";
const KEYS: &[u8] = b"a/";
const IDENTITIES: &[u8] = b"i/";
const DATA_KEYS: &[u8] = b"e/";
const DELETED: &[u8] = b"d/";
const LOGGED: &[u8] = b"t/";
const LOG: &[u8] = b"c/";

/// sled's page cache. The templates themselves are in the index.
const CACHE_BYTES: u64 = 64 << 20;

/// Records whose pages are worth it.
const SHED_MIN: u64 = 10_000;

/// Enough keys for a page of each 256th, and as often as a list is long: see [`Store::shed`].
const SHED_KEYS: usize = 2_048;
const SHED_PASSES: usize = 65;

/// A gallery and the number of its key range.
pub(super) struct StoredGallery {
    pub number: u64,
    pub gallery: Gallery,
}

pub(super) struct Store {
    /// The data folder.
    folder: PathBuf,
    /// Replaced by a compaction.
    db: RwLock<Db>,
    /// Of an encrypted store.
    key: Option<Arc<StoreKey>>,
    /// What the marker file says.
    marked: Mutex<Marker>,
    watches: Mutex<Vec<Weak<Watch>>>,
    /// EmbeddedGalleries whose changes are logged: those that have a snapshot of their index.
    logged: Mutex<BTreeSet<u64>>,
    /// Records read and written since sled last let go of pages.
    uses: AtomicU64,
}

/// Keys that change while somebody copies or exports what lies under a prefix.
pub(super) struct Watch {
    prefix: Vec<u8>,
    changed: Mutex<BTreeSet<Vec<u8>>>,
}

/// Writes between two markers at most: what a damaged end of the store can hide from the next start.
const MARKED_EVERY: u64 = 4_096;

/// One atomic change in the making: of two changes of a key the later holds.
#[derive(Default)]
pub(super) struct Write {
    changes: Vec<(Vec<u8>, Value)>,
}

/// What becomes of a key.
enum Value {
    Bytes(Vec<u8>),
    /// The message of an identity's record, not sealed yet.
    Identity(Vec<u8>),
    Removed,
}

impl Write {
    pub(super) fn set_gallery(&mut self, stored: &StoredGallery) {
        let key = gallery_key(&stored.gallery.id);
        let record = record::seal(&key, &record::gallery_record(stored.number, &stored.gallery));
        self.insert(key, record);
    }

    /// Removes a gallery; its identities are removed by [`Store::purge_some`].
    pub(super) fn remove_gallery(&mut self, stored: &StoredGallery) {
        self.remove(gallery_key(&stored.gallery.id));
        self.remove_curve(&CurveOwner::Gallery(stored.gallery.id.clone()));
        self.remove_range(stored.number);
    }

    pub(super) fn set_identity(&mut self, number: u64, identity: &Identity) {
        self.changes.push((identity_key(number, &identity.id), Value::Identity(record::identity_message(identity))));
    }

    pub(super) fn remove_identity(&mut self, number: u64, id: &IdentityId) {
        self.remove(identity_key(number, id));
    }

    /// Notes how far an import has come.
    pub(super) fn set_staged(&mut self, id: &GalleryId, staged: &StagedRecord) {
        let key = staged_key(id);
        let record = record::seal(&key, staged);
        self.insert(key, record);
    }

    /// Ends an import: the identities stay, for the gallery that takes them over.
    pub(super) fn remove_staged(&mut self, id: &GalleryId) {
        self.remove(staged_key(id));
    }

    /// Has all identities of a number removed by [`Store::purge_some`].
    pub(super) fn remove_range(&mut self, number: u64) {
        self.insert(number_key(DELETED, number), Vec::new());
    }

    /// Notes that a migration writes identities of a number.
    pub(super) fn begin_migration(&mut self, number: u64) {
        self.insert(number_key(MIGRATIONS, number), Vec::new());
    }

    pub(super) fn end_migration(&mut self, number: u64) {
        self.remove(number_key(MIGRATIONS, number));
    }

    pub(super) fn set_curve(&mut self, owner: &CurveOwner, curve: &CurveRecord) {
        let key = curve_key(owner);
        let record = record::seal(&key, curve);
        self.insert(key, record);
    }

    pub(super) fn remove_curve(&mut self, owner: &CurveOwner) {
        self.remove(curve_key(owner));
    }

    pub(super) fn set_key(&mut self, id: &KeyId, record: &KeyRecord) {
        let key = access_key(id);
        let record = record::seal(&key, record);
        self.insert(key, record);
    }

    pub(super) fn remove_key(&mut self, id: &KeyId) {
        self.remove(access_key(id));
    }

    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Value::Bytes(value)));
    }

    fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, Value::Removed));
    }
}

impl Watch {
    /// Takes the keys that changed since the last time.
    pub(super) fn take(&self) -> BTreeSet<Vec<u8>> {
        std::mem::take(&mut *lock(&self.changed))
    }

    fn note(&self, keys: &[Vec<u8>]) {
        lock(&self.changed).extend(keys.iter().filter(|key| key.starts_with(&self.prefix)).cloned());
    }
}

impl Store {
    /// Returns the data folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the store's own id.
    pub(super) fn id(&self) -> String {
        lock(&self.marked).store_id.clone()
    }

    /// Notes durably that the store holds a write, so that its loss is noticed at the next start.
    pub(super) fn mark(&self, sequence: u64) -> std::io::Result<()> {
        let mut marked = lock(&self.marked);
        let marker = Marker { sequence, ..marked.clone() };
        marker.write(&self.folder)?;
        *marked = marker;
        Ok(())
    }

    /// Notes a durable write now and then.
    pub(super) fn mark_some(&self, sequence: u64) {
        let marked = lock(&self.marked).sequence;
        if sequence.saturating_sub(marked) >= MARKED_EVERY
            && let Err(error) = self.mark(sequence)
        {
            tracing::warn!(%error, "the marker file cannot be written; damage to the store's end may go unnoticed");
        }
    }

    /// Applies a change as the write of a sequence number. It is durable after [`Store::flush`].
    pub(super) fn apply(&self, mut write: Write, sequence: u64) -> Result<(), Error> {
        for (number, ids) in self.logged_changes(write.changes.iter().map(|(key, _)| key)) {
            write.insert(log_key(number, sequence), ids);
        }
        write.insert(SEQUENCE_KEY.to_vec(), sequence.to_be_bytes().to_vec());
        self.uses.fetch_add(write.changes.len() as u64, Ordering::Relaxed);
        let (batch, keys) = self.batch(write)?;
        self.db().apply_batch(batch).map_err(failure)?;
        self.note(&keys);
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        self.db().flush().map(|_| ()).map_err(failure)
    }

    /// Returns the number of the last write.
    pub(super) fn sequence(&self) -> Result<u64, Error> {
        let bytes = self.db().get(SEQUENCE_KEY).map_err(failure)?;
        let number = bytes.map(|bytes| <[u8; 8]>::try_from(&*bytes).map(u64::from_be_bytes)).transpose();
        Ok(number.map_err(|_| Error::DataLoss("the sequence number has another length"))?.unwrap_or(0))
    }

    pub(super) fn gallery(&self, id: &GalleryId) -> Result<Option<StoredGallery>, Error> {
        let key = gallery_key(id);
        let Some(bytes) = self.db().get(&key).map_err(failure)? else { return Ok(None) };
        stored_gallery(&key, id.clone(), &bytes).map(Some)
    }

    /// Iterates over all galleries: id as stored, and the gallery or what is wrong with its record.
    pub(super) fn galleries(&self) -> impl Iterator<Item = Result<(String, Result<StoredGallery, Error>), Error>> {
        self.db().scan_prefix(GALLERIES).map(|entry| {
            let (key, bytes) = entry.map_err(failure)?;
            let text = String::from_utf8_lossy(key.get(GALLERIES.len()..).unwrap_or_default()).into_owned();
            let read = || stored_gallery(&key, GalleryId::parse(&text)?, &bytes);
            Ok((text.clone(), read()))
        })
    }

    pub(super) fn identity(&self, stored: &StoredGallery, id: &IdentityId) -> Result<Option<Identity>, Error> {
        self.uses.fetch_add(1, Ordering::Relaxed);
        let read = |message: &[u8]| record::read_identity(id.clone(), message, stored.gallery.dimension);
        self.read_message(&identity_key(stored.number, id), read)
    }

    /// Tells whether an identity has a record, whole or damaged.
    pub(super) fn contains(&self, stored: &StoredGallery, id: &IdentityId) -> Result<bool, Error> {
        self.db().contains_key(identity_key(stored.number, id)).map_err(failure)
    }

    /// Iterates over a gallery's identities after an id, by id: the id, and the identity or what is wrong with its
    /// record.
    pub(super) fn identities_after(
        &self,
        stored: &StoredGallery,
        after: Option<&IdentityId>,
    ) -> impl Iterator<Item = Result<(IdentityId, Result<Identity, Error>), Error>> + use<> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let (number, dimension) = (stored.number, stored.gallery.dimension);
        let from = after.map_or(Included(number_key(IDENTITIES, number)), |id| Excluded(identity_key(number, id)));
        let to = number.checked_add(1).map_or(Unbounded, |next| Excluded(number_key(IDENTITIES, next)));
        let read = move |key: &[u8], message: &[u8]| record::read_identity(key_identity(key)?, message, dimension);
        self.read_messages((from, to), read).map(|entry| {
            let (key, identity) = entry?;
            Ok((key_identity(&key)?, identity))
        })
    }

    /// Returns how far the import of a gallery has come.
    pub(super) fn staged(&self, id: &GalleryId) -> Result<Option<StagedRecord>, Error> {
        let key = staged_key(id);
        self.db().get(&key).map_err(failure)?.map(|bytes| record::unseal(&key, &bytes)).transpose()
    }

    /// Returns the numbers of migrations that did not end.
    pub(super) fn migrations(&self) -> Result<Vec<u64>, Error> {
        let numbers = self.db().scan_prefix(MIGRATIONS).keys().map(|key| {
            let key = key.map_err(failure)?;
            let number = key.strip_prefix(MIGRATIONS).and_then(|number| <[u8; 8]>::try_from(number).ok());
            number.map(u64::from_be_bytes).ok_or(Error::DataLoss("a migration's key is no number"))
        });
        numbers.collect()
    }

    /// Iterates over all curves: whose, and the record or what is wrong with it. A key that is of nobody is passed over.
    pub(super) fn curves(&self) -> impl Iterator<Item = Result<(CurveOwner, Result<CurveRecord, Error>), Error>> {
        self.db().scan_prefix(CURVES).filter_map(|entry| {
            let read = || {
                let (key, bytes) = entry.map_err(failure)?;
                Ok(curve_owner(&key).map(|owner| (owner, record::unseal(&key, &bytes))))
            };
            read().transpose()
        })
    }

    pub(super) fn has_curve(&self, owner: &CurveOwner) -> Result<bool, Error> {
        self.db().contains_key(curve_key(owner)).map_err(failure)
    }

    /// Iterates over all access keys: the id, and the record or what is wrong with it.
    pub(super) fn keys(&self) -> impl Iterator<Item = Result<(KeyId, Result<KeyRecord, Error>), Error>> {
        self.db().scan_prefix(KEYS).map(|entry| {
            let (key, bytes) = entry.map_err(failure)?;
            let id = key.strip_prefix(KEYS).and_then(|id| KeyId::parse(std::str::from_utf8(id).ok()?).ok());
            let id = id.ok_or(Error::DataLoss("an access key's id is none"))?;
            Ok((id, record::unseal(&key, &bytes)))
        })
    }

    pub(super) fn has_key(&self, id: &KeyId) -> Result<bool, Error> {
        self.db().contains_key(access_key(id)).map_err(failure)
    }

    /// Looks on while keys under a prefix change.
    fn watch(&self, prefix: Vec<u8>) -> Arc<Watch> {
        let watch = Arc::new(Watch { prefix, changed: Mutex::default() });
        lock(&self.watches).push(Arc::downgrade(&watch));
        watch
    }

    /// Looks on while a gallery's identities change.
    pub(super) fn watch_identities(&self, number: u64) -> Arc<Watch> {
        self.watch(number_key(IDENTITIES, number))
    }

    /// Returns the identity of a key that a watch noted.
    pub(super) fn noted_identity(
        &self,
        stored: &StoredGallery,
        key: &[u8],
    ) -> Result<(IdentityId, Result<Option<Identity>, Error>), Error> {
        let id = key_identity(key)?;
        let identity = self.identity(stored, &id);
        Ok((id, identity))
    }

    fn note(&self, keys: &[Vec<u8>]) {
        lock(&self.watches).retain(|watch| watch.upgrade().map(|watch| watch.note(keys)).is_some());
    }

    /// Removes up to `limit` records of identities of deleted galleries, data keys first, and tells whether there are more. Not flushed: what a crash
    /// undoes is removed again later.
    pub(super) fn purge_some(&self, limit: usize) -> Result<bool, Error> {
        let db = self.db();
        let Some(entry) = db.scan_prefix(DELETED).next() else { return Ok(false) };
        let (deleted, _) = entry.map_err(failure)?;
        let number = deleted.get(DELETED.len()..).unwrap_or_default();
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let prefixes = [DATA_KEYS, IDENTITIES, LOG].map(|prefix| [prefix, number].concat());
        for key in prefixes.iter().flat_map(|prefix| db.scan_prefix(prefix).keys()).take(limit) {
            keys.push(key.map_err(failure)?.to_vec());
        }
        if keys.len() < limit {
            keys.extend([[LOGGED, number].concat(), deleted.to_vec()]);
            lock(&self.logged).retain(|logged| logged.to_be_bytes() != number);
        }
        let mut batch = Batch::default();
        keys.iter().for_each(|key| batch.remove(key.as_slice()));
        db.apply_batch(batch).map_err(failure)?;
        self.note(&keys);
        Ok(true)
    }

    /// Tells whether it is logged which identities of a gallery change.
    pub(super) fn is_logged(&self, number: u64) -> bool {
        lock(&self.logged).contains(&number)
    }

    /// Begins to log which identities of a gallery change, from the write of this sequence number on.
    pub(super) fn log_changes(&self, write: &mut Write, number: u64, sequence: u64) {
        write.insert(number_key(LOGGED, number), sequence.to_be_bytes().to_vec());
        lock(&self.logged).insert(number);
    }

    /// Drops what the log says of a gallery up to a sequence number.
    pub(super) fn trim_log(&self, write: &mut Write, number: u64, sequence: u64) -> Result<(), Error> {
        let (from, to) = (number_key(LOG, number), log_key(number, sequence.saturating_add(1)));
        for key in self.db().range(from..to).keys() {
            write.remove(key.map_err(failure)?.to_vec());
        }
        write.insert(number_key(LOGGED, number), sequence.to_be_bytes().to_vec());
        Ok(())
    }

    /// Ends the log of a gallery.
    pub(super) fn end_log(&self, write: &mut Write, number: u64) -> Result<(), Error> {
        self.trim_log(write, number, u64::MAX - 1)?;
        write.remove(number_key(LOGGED, number));
        lock(&self.logged).remove(&number);
        Ok(())
    }

    /// Returns which identities of a gallery changed after a sequence number; `None` where the log does not reach back so
    /// far.
    pub(super) fn changes_since(&self, number: u64, sequence: u64) -> Result<Option<BTreeSet<IdentityId>>, Error> {
        let db = self.db();
        let Some(trimmed) = db.get(number_key(LOGGED, number)).map_err(failure)? else { return Ok(None) };
        let trimmed = <[u8; 8]>::try_from(&*trimmed).map(u64::from_be_bytes);
        if trimmed.is_ok_and(|trimmed| trimmed > sequence) || sequence > self.sequence()? {
            return Ok(None);
        }
        let mut changed = BTreeSet::new();
        let from = log_key(number, sequence.saturating_add(1));
        let to = number.checked_add(1).map_or_else(|| b"c0".to_vec(), |next| number_key(LOG, next));
        for entry in db.range(from..to) {
            let (_, ids) = entry.map_err(failure)?;
            let mut ids: &[u8] = &ids;
            while let Some((length, rest)) = ids.split_first_chunk::<2>() {
                let (id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).unwrap_or_default();
                changed.insert(parse_identity(id)?);
                ids = rest;
            }
        }
        Ok(Some(changed))
    }

    /// Returns what the log is told of a write: for each gallery the changed ids.
    fn logged_changes<'a>(&self, keys: impl Iterator<Item = &'a Vec<u8>>) -> Vec<(u64, Vec<u8>)> {
        let logged = lock(&self.logged);
        let mut changes: Vec<(u64, Vec<u8>)> = Vec::new();
        if logged.is_empty() {
            return changes;
        }
        for key in keys {
            let Some((number, id)) = key.strip_prefix(IDENTITIES).and_then(|rest| rest.split_first_chunk::<8>()) else {
                continue;
            };
            let number = u64::from_be_bytes(*number);
            if !logged.contains(&number) {
                continue;
            }
            if changes.last().is_none_or(|(last, _)| *last != number) {
                changes.push((number, Vec::new()));
            }
            if let (Some((_, ids)), Ok(length)) = (changes.last_mut(), u16::try_from(id.len())) {
                ids.extend_from_slice(&length.to_be_bytes());
                ids.extend_from_slice(id);
            }
        }
        changes
    }

    /// Has sled let go of the pages that it keeps beyond its cache. It notes each use of a page in a list of 64, one for each
    /// 256th of the pages, and looks for pages to drop only when a list is full: after a scan of everything, or an import,
    /// it keeps 16,384 pages, 350 MB. Using a few pages often fills the lists. *Cost*: about .2 s, none where only few
    /// identities were read or written.
    pub(super) fn shed(&self, identities: u64) {
        if identities < SHED_MIN {
            return;
        }
        let db = self.db();
        let keys: Vec<_> = db.scan_prefix(IDENTITIES).keys().take(SHED_KEYS).filter_map(Result::ok).collect();
        for _ in 0..SHED_PASSES {
            // What comes of it does not matter here: whoever needs the record meets the error.
            keys.iter().for_each(|key| drop(db.get(key)));
        }
        memory::give_back();
    }

    /// Has sled let go of pages where enough records were used since it last did.
    pub(super) fn shed_some(&self) {
        let uses = self.uses.swap(0, Ordering::Relaxed);
        if uses < SHED_MIN {
            self.uses.fetch_add(uses, Ordering::Relaxed);
            return;
        }
        self.shed(uses);
    }

    /// Counts the identities of all galleries, those of imports and migrations too. *Cost*: reads every key.
    pub(super) fn identities(&self) -> u64 {
        self.db().scan_prefix(IDENTITIES).keys().count() as u64
    }

    /// Returns the bytes of the store's files.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.db().size_on_disk().unwrap_or(0)
    }

    fn db(&self) -> Db {
        self.db.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// No timed flushes: the writer flushes each group before it is acknowledged.
fn configuration(folder: &Path) -> sled::Config {
    sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None)
}

/// Returns the name of the folder of a store: compactions count up.
fn store_name(number: u64) -> String {
    format!("store-{number}")
}

/// Returns the numbers of all folders of stores in a data folder.
fn store_numbers(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| store_number(entry.file_name().to_str()?)).collect()
}

fn store_number(name: &str) -> Option<u64> {
    name.strip_prefix("store-")?.parse().ok()
}

fn stored_gallery(key: &[u8], id: GalleryId, bytes: &[u8]) -> Result<StoredGallery, Error> {
    let record: GalleryRecord = record::unseal(key, bytes)?;
    Ok(StoredGallery { number: record.number, gallery: record::gallery(id, &record)? })
}

fn gallery_key(id: &GalleryId) -> Vec<u8> {
    [GALLERIES, id.as_str().as_bytes()].concat()
}

fn staged_key(id: &GalleryId) -> Vec<u8> {
    [STAGED, id.as_str().as_bytes()].concat()
}

fn curve_key(owner: &CurveOwner) -> Vec<u8> {
    match owner {
        CurveOwner::Gallery(id) => [GALLERY_CURVES, id.as_str().as_bytes()].concat(),
        CurveOwner::Pack(id) => [PACK_CURVES, id.as_str().as_bytes()].concat(),
    }
}

fn access_key(id: &KeyId) -> Vec<u8> {
    [KEYS, id.as_str().as_bytes()].concat()
}

fn curve_owner(key: &[u8]) -> Option<CurveOwner> {
    let text = |prefix: &[u8]| std::str::from_utf8(key.strip_prefix(prefix)?).ok();
    let gallery = || Some(CurveOwner::Gallery(GalleryId::parse(text(GALLERY_CURVES)?).ok()?));
    let pack = || Some(CurveOwner::Pack(PackId::parse(text(PACK_CURVES)?).ok()?));
    gallery().or_else(pack)
}

fn number_key(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

fn log_key(number: u64, sequence: u64) -> Vec<u8> {
    [LOG, &number.to_be_bytes(), &sequence.to_be_bytes()].concat()
}

fn identity_key(number: u64, id: &IdentityId) -> Vec<u8> {
    [IDENTITIES, &number.to_be_bytes(), id.as_str().as_bytes()].concat()
}

/// Returns where the data key of an identity's record lies.
fn data_key_key(identity_key: &[u8]) -> Vec<u8> {
    [DATA_KEYS, identity_key.get(IDENTITIES.len()..).unwrap_or_default()].concat()
}

fn key_identity(key: &[u8]) -> Result<IdentityId, Error> {
    parse_identity(key.get(IDENTITIES.len() + 8..).unwrap_or_default())
}

fn parse_identity(id: &[u8]) -> Result<IdentityId, Error> {
    let parsed = std::str::from_utf8(id).ok().and_then(|text| IdentityId::parse(text).ok());
    parsed.ok_or(Error::DataLoss("an identity's key is not an id"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(error: sled::Error) -> Error {
    match error {
        sled::Error::Corruption { .. } => Error::DataLoss("the store's own pages are damaged"),
        error => Error::internal(error),
    }
}
