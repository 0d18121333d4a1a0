//! Copies all that is left in the store into a new folder beside it, and puts that in its place: as it is, or sealed anew.

use std::sync::{Arc, PoisonError};

use sled::{Batch, Db, IVec};

use super::opening::encryption_record;
use super::sealed::open_at;
use super::{
    DATA_KEYS, ENCRYPTION_KEY, IDENTITIES, LOG, LOGGED, Store, Watch, configuration, data_key_key, failure, lock,
    store_name, store_number, store_numbers,
};
use crate::error::Error;
use crate::gallery::embedded::crash::step;
use crate::gallery::embedded::encryption::StoreKey;
use crate::gallery::embedded::marker::{self, Marker};
use crate::gallery::record;

/// What a copy of the store writes between two flushes.
const COPY_STEP_BYTES: usize = 4 << 20;

/// A copy of the store in the making.
pub(in crate::gallery) struct Copying {
    db: Db,
    name: String,
    watch: Arc<Watch>,
    after: Vec<u8>,
    resealing: Option<Resealing>,
}

/// How a copy is sealed where that is not as the store is.
pub(in crate::gallery) struct Resealing {
    /// `None`: not at all.
    pub to: Option<StoreKey>,
    /// Identities whose records could not be opened: a plain one is not in the copy, a sealed one is as it was.
    pub damaged: u64,
}

impl Copying {
    /// Returns how many identities could not be sealed anew.
    pub(in crate::gallery) fn damaged(&self) -> u64 {
        self.resealing.as_ref().map_or(0, |resealing| resealing.damaged)
    }
}

impl Store {
    /// Begins a copy of all that is left in the store. Of one that is sealed anew, the caller sees to it that nothing is written
    /// meanwhile.
    pub(in crate::gallery) fn begin_copy(&self, resealing: Option<Resealing>) -> Result<Copying, Error> {
        let watch = self.watch(Vec::new());
        let current = lock(&self.marked).store_folder.clone();
        let name = store_name(store_number(&current).unwrap_or(0).saturating_add(1));
        let path = self.folder.join(&name);
        // Nothing of an earlier copy may be in this one.
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::internal(error)),
            _ => {}
        }
        marker::make_folder(&path).map_err(Error::internal)?;
        let db = configuration(&path).open().map_err(failure)?;
        Ok(Copying { db, name, watch, after: Vec::new(), resealing })
    }

    /// Copies the next few records and returns how many identities were among them; `None` when there are no more.
    pub(in crate::gallery) fn copy_some(&self, copying: &mut Copying) -> Result<Option<u64>, Error> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut batch = Batch::default();
        let (mut bytes, mut identities) = (0, 0);
        for entry in self.db().range::<&[u8], _>((Excluded(copying.after.as_slice()), Unbounded)) {
            let (key, value) = entry.map_err(failure)?;
            bytes += key.len() + value.len();
            identities += u64::from(key.starts_with(IDENTITIES));
            copying.after = key.to_vec();
            match &mut copying.resealing {
                _ if !is_copied(&key) => {}
                None => batch.insert(key, value),
                Some(resealing) => self.reseal(resealing, key, value, &mut batch)?,
            }
            if bytes >= COPY_STEP_BYTES {
                break;
            }
        }
        copying.db.apply_batch(batch).map_err(failure)?;
        copying.db.flush().map_err(failure)?;
        Ok((bytes > 0).then_some(identities))
    }

    /// Adds a record to a copy that is sealed by another key than the store.
    fn reseal(&self, resealing: &mut Resealing, key: IVec, value: IVec, batch: &mut Batch) -> Result<(), Error> {
        let Resealing { to, damaged } = resealing;
        let to = to.as_ref();
        let is_identity = key.starts_with(IDENTITIES);
        let mut count = |opened: Result<Vec<u8>, Error>| match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(Error::DataLoss(_)) => {
                *damaged += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        };
        match (self.key(), to) {
            _ if *key == *ENCRYPTION_KEY => batch.insert(key, encryption_record(to.map(StoreKey::id))),
            (None, Some(to)) if is_identity => {
                if let Some(message) = count(record::unframe(&key, &value).map(<[u8]>::to_vec))? {
                    let data_key_key = data_key_key(&key);
                    let (sealed, wrapped) = to.seal(&key, &data_key_key, &message)?;
                    batch.insert(data_key_key, wrapped);
                    batch.insert(key, sealed);
                }
            }
            (Some(from), Some(to)) if key.starts_with(DATA_KEYS) => {
                let wrapped = count(from.unwrap(&key, &value).and_then(|data_key| to.wrap(&key, &data_key)))?;
                batch.insert(key, wrapped.map_or(value, Into::into));
            }
            (Some(from), None) if is_identity => {
                let message = count(open_at(&self.db(), from, &key).map(Option::unwrap_or_default))?;
                let record = message.map_or(value, |message| record::frame(&key, &message).into());
                batch.insert(key, record);
            }
            (Some(_), None) if key.starts_with(DATA_KEYS) => {}
            _ => batch.insert(key, value),
        }
        Ok(())
    }

    /// Copies what changed since it was copied and returns how much that was.
    pub(in crate::gallery) fn copy_changes(&self, copying: &Copying) -> Result<usize, Error> {
        let db = self.db();
        let changed = copying.watch.take();
        let mut batch = Batch::default();
        for key in changed.iter().filter(|key| is_copied(key)) {
            match db.get(key).map_err(failure)? {
                Some(value) => batch.insert(key.as_slice(), value),
                None => batch.remove(key.as_slice()),
            }
        }
        copying.db.apply_batch(batch).map_err(failure)?;
        copying.db.flush().map_err(failure)?;
        Ok(changed.len())
    }

    /// Puts the copy in the store's place. The caller sees to it that nothing is written meanwhile, and that all of the
    /// store's own writes are durable.
    ///
    /// *Errors*: those of the copy; the store then goes on as it was.
    pub(in crate::gallery) fn switch(&self, copying: Copying, sequence: u64) -> Result<(), Error> {
        let copied = self.copy_changes(&copying).and_then(|_| {
            step("copied");
            let mut marked = lock(&self.marked);
            let marker = Marker { sequence, store_folder: copying.name.clone(), ..marked.clone() };
            if let Err(error) = marker.write(&self.folder) {
                // Renamed all the same, and only not known to be durable? Then there is no way back.
                let is_there = Marker::read(&self.folder).is_ok_and(|found| found.as_ref() == Some(&marker));
                if !is_there {
                    return Err(Error::internal(error));
                }
            }
            *marked = marker;
            Ok(())
        });
        if let Err(error) = copied {
            self.drop_copy(copying);
            return Err(error);
        }
        step("switched");
        let old = std::mem::replace(&mut *self.db.write().unwrap_or_else(PoisonError::into_inner), copying.db);
        drop(old);
        // The log goes with the snapshots, which the caller removes.
        lock(&self.logged).clear();
        self.remove_left_over().map_err(|_| NOT_REMOVED)
    }

    /// Gives a copy up.
    pub(in crate::gallery) fn drop_copy(&self, copying: Copying) {
        drop(copying);
        // What is left is removed before the next copy, and told of in the log now.
        let _ = self.remove_left_over();
    }

    /// Removes the folders of copies that are not the store: given up, or copied from.
    pub(super) fn remove_left_over(&self) -> std::io::Result<()> {
        let mut removed = Ok(());
        let current = store_number(&lock(&self.marked).store_folder);
        for other in store_numbers(&self.folder).into_iter().filter(|number| Some(*number) != current) {
            if let Err(error) = std::fs::remove_dir_all(self.folder.join(store_name(other))) {
                tracing::warn!(%error, "a folder of the store that is no longer used cannot be removed");
                removed = Err(error);
            }
        }
        removed
    }
}

/// Tells whether a copy takes a record: the log of changes is worth nothing without the snapshots, which go with the old
/// store, and holds ids of people who were deleted.
fn is_copied(key: &[u8]) -> bool {
    !key.starts_with(LOG) && !key.starts_with(LOGGED)
}

const NOT_REMOVED: Error = Error::Unavailable("it is done, but a file of before cannot be removed: see the log");
