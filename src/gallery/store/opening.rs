//! Opens a store, or makes one; and tells one that lost what was written to it from a new one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use sled::{Batch, Db};

use super::{FORMAT_KEY, ID_KEY, LOGGED, SEQUENCE_KEY, Store, configuration, store_name, store_numbers};
use crate::gallery::marker::{self, Marker};
use crate::gallery::types::StoreError;

const FORMAT: u32 = 1;

/// How long to wait for a lock that is held: a server that is just ending, or a child process that has not yet closed what
/// it was born with.
const LOCK_WAITS: usize = 20;
const LOCK_WAIT: Duration = Duration::from_millis(50);

impl Store {
    /// Opens or makes the store in a folder.
    ///
    /// *Errors*: [`StoreError`]; a folder that another process has open is one.
    pub(in crate::gallery) fn open(folder: &Path) -> Result<Self, StoreError> {
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
            let opened = std::panic::catch_unwind(|| open_or_make(&path, marker.is_none()));
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
        match found.map(|bytes| <[u8; 4]>::try_from(&*bytes).map_or(0, u32::from_be_bytes)) {
            Some(FORMAT) => {}
            found => return Err(StoreError::WrongFormat { expected: FORMAT, found: found.unwrap_or(0) }),
        }
        let id = db.get(ID_KEY).map_err(|error| unopenable(error.into()))?;
        let store_id = String::from_utf8_lossy(&id.unwrap_or_default()).into_owned();
        let marked = Marker { store_id, sequence: 0, store_folder: name };
        let store = Self {
            folder: folder.to_path_buf(),
            logged: Mutex::new(logged(&db).map_err(|error| unopenable(error.into()))?),
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
        store.mark(sequence).map_err(|error| unopenable(error.into()))?;
        // Logged where it fails; the next copy begins by removing it.
        let _ = store.remove_left_over();
        Ok(store)
    }
}

/// Opens the database, or makes one where that is allowed; `None` where there is nothing and nothing may be made.
fn open_or_make(folder: &Path, may_make: bool) -> sled::Result<Option<Db>> {
    let db = configuration(folder).open()?;
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
