//! Opens a store, or makes one; tells one that lost what was written to it from a new one, brings one of an older format up to
//! date, and refuses one of a newer format or of another key.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use sled::{Batch, Db};

use super::{
    ENCRYPTION_KEY, FORMAT_KEY, ID_KEY, LOGGED, SEQUENCE_KEY, Store, configuration, store_name, store_numbers,
};
use crate::gallery::embedded::encryption::{KeyId, MasterKey};
use crate::gallery::embedded::error::StoreError;
use crate::gallery::embedded::marker::{self, Marker};
use crate::gallery::record::{self, EncryptionRecord};

/// 1: the first. 2: says whether it is encrypted. See `tests/old_formats_open.rs` for what a new one takes.
const FORMAT: u32 = 2;

/// How long to wait for a lock that is held: a server that is just ending, or a child process that has not yet closed what
/// it was born with.
const LOCK_WAITS: usize = 20;
const LOCK_WAIT: Duration = Duration::from_millis(50);

impl Store {
    /// Opens the store in a folder, by its key where it is encrypted; or makes one, encrypted where there is a key.
    ///
    /// *Errors*: [`StoreError`]; a folder that another process has open is one, and another key than the store's.
    pub(in crate::gallery) fn open(folder: &Path, key: Option<&MasterKey>) -> Result<Self, StoreError> {
        let unopenable = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Unopenable {
            folder: folder.to_path_buf(),
            source,
        };
        let damaged = |what| StoreError::Damaged { folder: folder.to_path_buf(), marker: Marker::path(folder), what };
        marker::make_folder(folder).map_err(|error| unopenable(error.into()))?;
        let marker = Marker::read(folder).map_err(|error| unopenable(error.into()))?;
        let name = match &marker {
            Some(marker) => marker.store_folder.clone(),
            None => latest_store(folder).map_or_else(|| store_name(1), store_name),
        };
        let path = folder.join(&name);
        marker::make_folder(&path).map_err(|error| unopenable(error.into()))?;
        let mut waits = 0;
        let opened = loop {
            // sled meets some damage with a panic, whose words are of no use to anybody.
            let opened = std::panic::catch_unwind(|| open_or_make(&path, marker.is_none(), key));
            match opened.map_err(|_| damaged("its pages cannot be read"))? {
                // sled's words for a file lock that is held.
                Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                    if waits == LOCK_WAITS {
                        return Err(StoreError::InUse { folder: folder.to_path_buf() });
                    }
                }
                opened => break opened.map_err(|error| unopenable(error.into()))?,
            }
            waits += 1;
            std::thread::sleep(LOCK_WAIT);
        };
        let db = opened.ok_or_else(|| damaged("what was written is not there"))?;
        let found = db.get(FORMAT_KEY).map_err(|error| unopenable(error.into()))?;
        let format = match found.and_then(|bytes| <[u8; 4]>::try_from(&*bytes).ok()).map(u32::from_be_bytes) {
            Some(format @ 1..=FORMAT) => format,
            Some(found) if found > FORMAT => {
                return Err(StoreError::NewerFormat { folder: folder.to_path_buf(), known: FORMAT, found });
            }
            _ => return Err(damaged("its format is no number")),
        };
        let encrypted_with = encrypted_with(&db, format).map_err(|error| unopenable(error.into()))?;
        let encrypted_with = encrypted_with.ok_or_else(|| damaged("it does not say whether it is encrypted"))?;
        check_key(folder, encrypted_with, key)?;
        let id = db.get(ID_KEY).map_err(|error| unopenable(error.into()))?;
        let store_id = String::from_utf8_lossy(&id.unwrap_or_default()).into_owned();
        let marked = Marker { store_id, sequence: 0, store_folder: name };
        let store = Self {
            folder: folder.to_path_buf(),
            logged: Mutex::new(logged(&db).map_err(|error| unopenable(error.into()))?),
            key: key.map(|key| Arc::new(key.of_store(&marked.store_id))),
            db: RwLock::new(db),
            marked: Mutex::new(marked.clone()),
            watches: Mutex::default(),
            uses: AtomicU64::new(0),
        };
        let sequence = store.sequence().map_err(|error| unopenable(error.into()))?;
        if let Some(marker) = marker {
            if marker.store_id != marked.store_id {
                return Err(damaged("it is another store than the one that the file speaks of"));
            }
            if sequence < marker.sequence {
                return Err(damaged("its last writes are not there"));
            }
        }
        migrate(&store.db(), format).map_err(|error| unopenable(error.into()))?;
        store.mark(sequence).map_err(|error| unopenable(error.into()))?;
        // Logged where it fails; the next copy begins by removing it.
        let _ = store.remove_left_over();
        Ok(store)
    }
}

/// Opens the database, or makes one where that is allowed; `None` where there is nothing and nothing may be made.
fn open_or_make(folder: &Path, may_make: bool, key: Option<&MasterKey>) -> sled::Result<Option<Db>> {
    let db = configuration(folder).open()?;
    if db.get(FORMAT_KEY)?.is_none() {
        if !may_make || !db.is_empty() {
            return Ok(None);
        }
        let mut batch = Batch::default();
        batch.insert(FORMAT_KEY, &FORMAT.to_be_bytes());
        batch.insert(ENCRYPTION_KEY, encryption_record(key.map(MasterKey::id)));
        batch.insert(ID_KEY, uuid::Uuid::now_v7().to_string().as_bytes());
        db.apply_batch(batch)?;
        db.flush()?;
    }
    Ok(Some(db))
}

/// Returns what says whether a store is encrypted, and with which key.
pub(super) fn encryption_record(key_id: Option<KeyId>) -> Vec<u8> {
    let key_id = key_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    record::seal(ENCRYPTION_KEY, &EncryptionRecord { key_id })
}

/// Tells which key a store is encrypted with, if any; `None` where it does not say.
fn encrypted_with(db: &Db, format: u32) -> sled::Result<Option<Option<KeyId>>> {
    if format == 1 {
        return Ok(Some(None)); // none was
    }
    let Some(bytes) = db.get(ENCRYPTION_KEY)? else { return Ok(None) };
    let Ok(EncryptionRecord { key_id }) = record::unseal(ENCRYPTION_KEY, &bytes) else { return Ok(None) };
    Ok(if key_id.is_empty() { Some(None) } else { KeyId::from_bytes(&key_id).ok().map(Some) })
}

fn check_key(folder: &Path, expected: Option<KeyId>, found: Option<&MasterKey>) -> Result<(), StoreError> {
    let folder = folder.to_path_buf();
    match (expected, found.map(MasterKey::id)) {
        (Some(key), None) => Err(StoreError::KeyMissing { folder, key }),
        (None, Some(key)) => Err(StoreError::NotEncrypted { folder, key }),
        (Some(expected), Some(found)) if expected != found => Err(StoreError::WrongKey { folder, expected, found }),
        _ => Ok(()),
    }
}

/// Brings an older store up to date, a format at a time: each step is one batch, so that a crash leaves the one format or the
/// other.
fn migrate(db: &Db, from: u32) -> sled::Result<()> {
    for format in from + 1..=FORMAT {
        let mut batch = Batch::default();
        if format == 2 {
            batch.insert(ENCRYPTION_KEY, encryption_record(None));
        }
        batch.insert(FORMAT_KEY, &format.to_be_bytes());
        db.apply_batch(batch)?;
        db.flush()?;
        tracing::info!(format, "the store is brought to a newer format; older versions of facematch do not open it");
    }
    Ok(())
}

fn logged(db: &Db) -> sled::Result<BTreeSet<u64>> {
    let numbers = db.scan_prefix(LOGGED).keys().map(|key| {
        let key = key?;
        Ok(key.strip_prefix(LOGGED).and_then(|number| Some(u64::from_be_bytes(number.try_into().ok()?))))
    });
    numbers.filter_map(Result::transpose).collect()
}

/// Without a marker: of the stores that open and are whole, the one that was written to last. A copy that is not complete has
/// no format yet.
fn latest_store(folder: &Path) -> Option<u64> {
    let mut numbers = store_numbers(folder);
    numbers.sort_unstable();
    if let [only] = numbers[..] {
        return Some(only); // damaged or not: opening it will tell
    }
    let sequence_of = |number: u64| {
        let db = std::panic::catch_unwind(|| configuration(&folder.join(store_name(number))).open().ok()).ok()??;
        db.get(FORMAT_KEY).ok()??;
        let sequence = db.get(SEQUENCE_KEY).ok()?.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok());
        Some((sequence.map_or(0, u64::from_be_bytes), number))
    };
    numbers.into_iter().filter_map(sequence_of).max().map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MasterKey {
        MasterKey::random().expect("a key")
    }

    /// Makes a store, closed.
    fn made(key: Option<&MasterKey>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Store::open(folder.path(), key).expect("made"));
        folder
    }

    /// A process that another test is just starting may hold the lock of a store that was closed, until it is a program of its own.
    fn once_closed<T>(mut open: impl FnMut() -> Option<T>) -> T {
        for _ in 0..500 {
            if let Some(opened) = open() {
                return opened;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("it stays locked");
    }

    fn opened(folder: &Path) -> Db {
        once_closed(|| configuration(&folder.join("store-1")).open().ok())
    }

    fn change(folder: &Path, change: impl Fn(&Db)) {
        let db = opened(folder);
        change(&db);
        db.flush().expect("durable");
    }

    fn format(folder: &Path) -> Vec<u8> {
        opened(folder).get(FORMAT_KEY).expect("read").expect("a format").to_vec()
    }

    #[track_caller]
    fn reopen(folder: &Path, key: Option<&MasterKey>) {
        drop(once_closed(|| match Store::open(folder, key) {
            Err(StoreError::InUse { .. }) => None,
            opened => Some(opened.expect("it opens")),
        }));
    }

    #[track_caller]
    fn refused(folder: &Path, key: Option<&MasterKey>) -> StoreError {
        once_closed(|| match Store::open(folder, key) {
            Ok(_) => panic!("it opens"),
            Err(StoreError::InUse { .. }) => None,
            Err(error) => Some(error),
        })
    }

    #[test]
    fn encrypted_store_opens_by_its_key_alone() {
        let (right, wrong) = (key(), key());
        let folder = made(Some(&right));
        let error = refused(folder.path(), None);
        assert!(matches!(&error, StoreError::KeyMissing { key, .. } if *key == right.id()), "{error}");
        assert!(error.to_string().contains("FACEMATCH_ENCRYPTION_KEY_FILE"), "{error}");
        let error = refused(folder.path(), Some(&wrong)).to_string();
        assert!(error.contains(&right.id().to_string()) && error.contains(&wrong.id().to_string()), "{error}");
        reopen(folder.path(), Some(&right));
    }

    #[test]
    fn plain_store_refuses_a_key_with_what_to_do() {
        let folder = made(None);
        let error = refused(folder.path(), Some(&key()));
        assert!(matches!(error, StoreError::NotEncrypted { .. }), "{error}");
        assert!(error.to_string().contains("facematch store encrypt"), "{error}");
        reopen(folder.path(), None);
    }

    #[test]
    fn store_that_does_not_say_whether_it_is_encrypted_is_damaged() {
        let folder = made(Some(&key()));
        change(folder.path(), |db| drop(db.insert(ENCRYPTION_KEY, b"FMR").expect("written")));
        assert!(matches!(refused(folder.path(), None), StoreError::Damaged { .. }));
        change(folder.path(), |db| drop(db.remove(ENCRYPTION_KEY).expect("written")));
        assert!(matches!(refused(folder.path(), None), StoreError::Damaged { .. }));
    }

    #[test]
    fn store_of_a_newer_format_is_refused_and_stays_as_it_is() {
        let folder = made(None);
        let newer = (FORMAT + 1).to_be_bytes();
        change(folder.path(), |db| drop(db.insert(FORMAT_KEY, &newer).expect("written")));
        let error = refused(folder.path(), None);
        assert!(matches!(error, StoreError::NewerFormat { known: FORMAT, .. }), "{error}");
        assert!(error.to_string().contains("a newer facematch wrote it"), "{error}");
        assert_eq!(format(folder.path()), newer);
        change(folder.path(), |db| drop(db.insert(FORMAT_KEY, &0u32.to_be_bytes()).expect("written")));
        assert!(matches!(refused(folder.path(), None), StoreError::Damaged { .. }));
    }

    #[test]
    fn store_of_format_1_is_brought_up_to_date_unless_it_is_refused() {
        let folder = made(None);
        change(folder.path(), |db| {
            db.insert(FORMAT_KEY, &1u32.to_be_bytes()).expect("written");
            db.remove(ENCRYPTION_KEY).expect("written");
        });
        assert!(matches!(refused(folder.path(), Some(&key())), StoreError::NotEncrypted { .. }));
        assert_eq!(format(folder.path()), 1u32.to_be_bytes());
        reopen(folder.path(), None);
        assert_eq!(format(folder.path()), FORMAT.to_be_bytes());
        reopen(folder.path(), None);
    }
}
