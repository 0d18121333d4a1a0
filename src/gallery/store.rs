//! The durable store. The adapter of sled: no other file names it.
//!
//! One tree, so that one batch is one atomic change. Its keys:
//!
//! | Key | Value |
//! |---|---|
//! | `m/format` | version of this layout, 4 bytes |
//! | `m/sequence` | number of the last write, 8 bytes |
//! | `m/id` | the store's own id, as the marker file has it |
//! | `g/` gallery id | gallery record |
//! | `i/` gallery number (8 bytes), identity id | identity record: one an identity, its templates within |
//! | `d/` gallery number | nothing: the identities of this deleted gallery are still to be removed |
//!
//! What is assumed of sled: a batch is applied wholly or not at all, and after `flush` returns it survives a crash.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sled::{Batch, Db, IVec};

use super::marker::{self, Marker};
use super::record::{self, GalleryRecord};
use super::types::{Gallery, Identity, StoreError};
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::Error;

const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"m/format";
const SEQUENCE_KEY: &[u8] = b"m/sequence";
const ID_KEY: &[u8] = b"m/id";
const GALLERIES: &[u8] = b"g/";
const IDENTITIES: &[u8] = b"i/";
const DELETED: &[u8] = b"d/";

/// sled's page cache. The templates themselves are in the index.
const CACHE_BYTES: u64 = 64 << 20;

/// A gallery and the number of its key range.
pub(super) struct StoredGallery {
    pub number: u64,
    pub gallery: Gallery,
}

pub(super) struct Store {
    db: Db,
    folder: PathBuf,
    /// What the marker file says.
    marked: Mutex<Marker>,
}

/// Writes between two markers at most: what a damaged end of the store can hide from the next start.
const MARKED_EVERY: u64 = 4_096;

/// One atomic change in the making.
#[derive(Default)]
pub(super) struct Write {
    batch: Batch,
}

impl Write {
    pub(super) fn set_gallery(&mut self, stored: &StoredGallery) {
        let key = gallery_key(&stored.gallery.id);
        let record = record::seal(&key, &record::gallery_record(stored.number, &stored.gallery));
        self.batch.insert(key, record);
    }

    /// Removes a gallery; its identities are removed by [`Store::purge_some`].
    pub(super) fn remove_gallery(&mut self, stored: &StoredGallery) {
        self.batch.remove(gallery_key(&stored.gallery.id));
        self.batch.insert([DELETED, &stored.number.to_be_bytes()].concat(), IVec::default());
    }

    pub(super) fn set_identity(&mut self, number: u64, identity: &Identity) {
        let key = identity_key(number, &identity.id);
        let record = record::seal_identity(&key, identity);
        self.batch.insert(key, record);
    }

    pub(super) fn remove_identity(&mut self, number: u64, id: &IdentityId) {
        self.batch.remove(identity_key(number, id));
    }
}

impl Store {
    /// Opens or makes the store in a folder.
    ///
    /// *Errors*: [`StoreError`]; a folder that another process has open is one.
    pub(super) fn open(folder: &Path) -> Result<Self, StoreError> {
        let unopenable = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Unopenable {
            folder: folder.to_path_buf(),
            source,
        };
        let damaged = |what| StoreError::Damaged { folder: folder.to_path_buf(), marker: Marker::path(folder), what };
        marker::make_folder(folder).map_err(|error| unopenable(error.into()))?;
        let marker = Marker::read(folder).map_err(|error| unopenable(error.into()))?;
        // sled meets some damage with a panic, whose words are of no use to anybody.
        let opened = std::panic::catch_unwind(|| open_or_make(folder, marker.is_none()));
        let Ok(opened) = opened else { return Err(damaged("its pages cannot be read")) };
        let opened = opened.map_err(|error| match error {
            // sled's words for a file lock that is held.
            sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
                StoreError::InUse { folder: folder.to_path_buf() }
            }
            error => unopenable(error.into()),
        });
        let Some(db) = opened? else {
            return Err(damaged("what was written is not there"));
        };
        let found = db.get(FORMAT_KEY).map_err(|error| unopenable(error.into()))?;
        match found.map(|bytes| <[u8; 4]>::try_from(&*bytes).map_or(0, u32::from_be_bytes)) {
            Some(FORMAT) => {}
            found => return Err(StoreError::WrongFormat { expected: FORMAT, found: found.unwrap_or(0) }),
        }
        let id = db.get(ID_KEY).map_err(|error| unopenable(error.into()))?;
        let store_id = String::from_utf8_lossy(&id.unwrap_or_default()).into_owned();
        let marked = Marker { store_id, sequence: 0 };
        let store = Self { db, folder: folder.to_path_buf(), marked: Mutex::new(marked.clone()) };
        let sequence = store.sequence().map_err(|error| unopenable(error.into()))?;
        if let Some(marker) = marker {
            if marker.store_id != marked.store_id {
                return Err(damaged("it is another store than the one that the file speaks of"));
            }
            if sequence < marker.sequence {
                return Err(damaged("its last writes are not there"));
            }
        }
        store.mark(sequence).map_err(|error| unopenable(error.into()))?;
        Ok(store)
    }

    /// Notes durably that the store holds a write, so that its loss is noticed at the next start.
    pub(super) fn mark(&self, sequence: u64) -> std::io::Result<()> {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let marker = Marker { sequence, ..marked.clone() };
        marker.write(&self.folder)?;
        *marked = marker;
        Ok(())
    }

    /// Notes a durable write now and then.
    pub(super) fn mark_some(&self, sequence: u64) {
        let marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner).sequence;
        if sequence.saturating_sub(marked) >= MARKED_EVERY
            && let Err(error) = self.mark(sequence)
        {
            tracing::warn!(%error, "the marker file cannot be written; damage to the store's end may go unnoticed");
        }
    }

    /// Applies a change as the write of a sequence number. It is durable after [`Store::flush`].
    pub(super) fn apply(&self, mut write: Write, sequence: u64) -> Result<(), Error> {
        write.batch.insert(SEQUENCE_KEY, &sequence.to_be_bytes());
        self.db.apply_batch(write.batch).map_err(failure)
    }

    pub(super) fn flush(&self) -> Result<(), Error> {
        self.db.flush().map(|_| ()).map_err(failure)
    }

    /// Returns the number of the last write.
    pub(super) fn sequence(&self) -> Result<u64, Error> {
        let bytes = self.db.get(SEQUENCE_KEY).map_err(failure)?;
        let number = bytes.map(|bytes| <[u8; 8]>::try_from(&*bytes).map(u64::from_be_bytes)).transpose();
        Ok(number.map_err(|_| Error::DataLoss("the sequence number has another length"))?.unwrap_or(0))
    }

    pub(super) fn gallery(&self, id: &GalleryId) -> Result<Option<StoredGallery>, Error> {
        let key = gallery_key(id);
        let Some(bytes) = self.db.get(&key).map_err(failure)? else { return Ok(None) };
        stored_gallery(&key, id.clone(), &bytes).map(Some)
    }

    /// Iterates over all galleries: id as stored, and the gallery or what is wrong with its record.
    pub(super) fn galleries(&self) -> impl Iterator<Item = Result<(String, Result<StoredGallery, Error>), Error>> {
        self.db.scan_prefix(GALLERIES).map(|entry| {
            let (key, bytes) = entry.map_err(failure)?;
            let text = String::from_utf8_lossy(key.get(GALLERIES.len()..).unwrap_or_default()).into_owned();
            let read = || stored_gallery(&key, GalleryId::parse(&text)?, &bytes);
            Ok((text.clone(), read()))
        })
    }

    pub(super) fn identity(&self, stored: &StoredGallery, id: &IdentityId) -> Result<Option<Identity>, Error> {
        let key = identity_key(stored.number, id);
        let Some(bytes) = self.db.get(&key).map_err(failure)? else { return Ok(None) };
        record::unseal_identity(&key, id.clone(), &bytes, stored.gallery.dimension).map(Some)
    }

    /// Tells whether an identity has a record, whole or damaged.
    pub(super) fn contains(&self, stored: &StoredGallery, id: &IdentityId) -> Result<bool, Error> {
        self.db.contains_key(identity_key(stored.number, id)).map_err(failure)
    }

    /// Iterates over a gallery's identities after an id, by id: the id, and the identity or what is wrong with its
    /// record.
    pub(super) fn identities_after(
        &self,
        stored: &StoredGallery,
        after: Option<&IdentityId>,
    ) -> impl Iterator<Item = Result<(IdentityId, Result<Identity, Error>), Error>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let (number, dimension) = (stored.number, stored.gallery.dimension);
        let prefix = identities_prefix(number);
        let from = after.map_or(Included(prefix.clone()), |id| Excluded(identity_key(number, id)));
        let to = number.checked_add(1).map_or(Unbounded, |next| Excluded(identities_prefix(next)));
        self.db.range::<Vec<u8>, _>((from, to)).map(move |entry| {
            let (key, bytes) = entry.map_err(failure)?;
            let text = key.get(prefix.len()..).and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default();
            let id = IdentityId::parse(text).map_err(|_| Error::DataLoss("an identity's key is not an id"))?;
            let identity = record::unseal_identity(&key, id.clone(), &bytes, dimension);
            Ok((id, identity))
        })
    }

    /// Removes up to `limit` identities of deleted galleries and tells whether there are more. Not flushed: what a crash
    /// undoes is removed again later.
    pub(super) fn purge_some(&self, limit: usize) -> Result<bool, Error> {
        let Some(entry) = self.db.scan_prefix(DELETED).next() else { return Ok(false) };
        let (deleted, _) = entry.map_err(failure)?;
        let number = deleted.get(DELETED.len()..).unwrap_or_default();
        let mut batch = Batch::default();
        let mut removed = 0;
        for key in self.db.scan_prefix([IDENTITIES, number].concat()).keys().take(limit) {
            batch.remove(key.map_err(failure)?);
            removed += 1;
        }
        if removed < limit {
            batch.remove(deleted);
        }
        self.db.apply_batch(batch).map_err(failure)?;
        Ok(true)
    }
}

/// Opens the database, or makes one where that is allowed; `None` where there is nothing and nothing may be made.
fn open_or_make(folder: &Path, may_make: bool) -> sled::Result<Option<Db>> {
    // No timed flushes: the writer flushes each group before it is acknowledged.
    let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let db = config.open()?;
    if db.get(FORMAT_KEY)?.is_none() {
        if !may_make || !db.is_empty() {
            return Ok(None);
        }
        let mut batch = Batch::default();
        batch.insert(FORMAT_KEY, &FORMAT.to_be_bytes());
        batch.insert(ID_KEY, uuid::Uuid::now_v7().to_string().as_bytes());
        db.apply_batch(batch)?;
        db.flush()?;
    }
    Ok(Some(db))
}

fn stored_gallery(key: &[u8], id: GalleryId, bytes: &[u8]) -> Result<StoredGallery, Error> {
    let record: GalleryRecord = record::unseal(key, bytes)?;
    Ok(StoredGallery { number: record.number, gallery: record::gallery(id, &record)? })
}

fn gallery_key(id: &GalleryId) -> Vec<u8> {
    [GALLERIES, id.as_str().as_bytes()].concat()
}

fn identities_prefix(number: u64) -> Vec<u8> {
    [IDENTITIES, &number.to_be_bytes()].concat()
}

fn identity_key(number: u64, id: &IdentityId) -> Vec<u8> {
    [IDENTITIES, &number.to_be_bytes(), id.as_str().as_bytes()].concat()
}

fn failure(error: sled::Error) -> Error {
    match error {
        sled::Error::Corruption { .. } => Error::DataLoss("the store's own pages are damaged"),
        error => Error::internal(error),
    }
}
