//! Identities' records as they lie in the store: plain, or sealed by a data key that lies beside them.

use std::ops::Bound;
use std::sync::Arc;

use sled::{Batch, Db, IVec};

use super::{IDENTITIES, Store, Value, Write, data_key_key, failure};
use crate::error::Error;
use crate::gallery::embedded::encryption::StoreKey;
use crate::gallery::record;

impl Store {
    /// Returns what wraps the data keys of an encrypted store.
    pub(in crate::gallery) fn key(&self) -> Option<&StoreKey> {
        self.key.as_deref()
    }

    /// Makes one batch of a write, and names the keys that it changes.
    pub(super) fn batch(&self, write: Write) -> Result<(Batch, Vec<Vec<u8>>), Error> {
        let (mut batch, mut keys) = (Batch::default(), Vec::with_capacity(write.changes.len()));
        for (key, value) in write.changes {
            match (value, self.key()) {
                (Value::Bytes(bytes), _) => batch.insert(key.as_slice(), bytes),
                (Value::Identity(message), None) => batch.insert(key.as_slice(), record::frame(&key, &message)),
                (Value::Identity(message), Some(store_key)) => {
                    let data_key_key = data_key_key(&key);
                    let (sealed, wrapped) = store_key.seal(&key, &data_key_key, &message)?;
                    batch.insert(key.as_slice(), sealed);
                    batch.insert(data_key_key.as_slice(), wrapped);
                    keys.push(data_key_key);
                }
                (Value::Removed, store_key) => {
                    batch.remove(key.as_slice());
                    if store_key.is_some() && key.starts_with(IDENTITIES) {
                        let data_key_key = data_key_key(&key);
                        batch.remove(data_key_key.as_slice());
                        keys.push(data_key_key);
                    }
                }
            }
            keys.push(key);
        }
        Ok((batch, keys))
    }

    /// Reads the message of an identity's record; `None` where there is no record.
    ///
    /// *Errors*: those of `read`; [`Error::DataLoss`].
    pub(super) fn read_message<T>(
        &self,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let db = self.db();
        match self.key() {
            None => db.get(key).map_err(failure)?.map(|record| read(record::unframe(key, &record)?)).transpose(),
            Some(store_key) => open_at(&db, store_key, key)?.map(|message| read(&message)).transpose(),
        }
    }

    /// Reads the messages of a range of identities' records, by key: the key, and what `read` makes of the message or what is
    /// wrong with the record.
    pub(super) fn read_messages<T, R: Fn(&[u8], &[u8]) -> Result<T, Error>>(
        &self,
        (from, to): (Bound<Vec<u8>>, Bound<Vec<u8>>),
        read: R,
    ) -> impl Iterator<Item = Result<(IVec, Result<T, Error>), Error>> + use<T, R> {
        let db = self.db();
        let mut data_keys = self.key.clone().map(|store_key| {
            let of_range = |bound: &Bound<Vec<u8>>| bound.as_ref().map(|key| data_key_key(key));
            DataKeys {
                range: db.range::<Vec<u8>, _>((of_range(&from), of_range(&to))),
                ahead: None,
                store_key,
                db: db.clone(),
            }
        });
        db.range::<Vec<u8>, _>((from, to)).filter_map(move |entry| {
            let read_entry = || {
                let (key, record) = entry.map_err(failure)?;
                let message = match &mut data_keys {
                    None => record::unframe(&key, &record).and_then(|message| read(&key, message)),
                    Some(data_keys) => match data_keys.open(&key, &record) {
                        Ok(None) => return Ok(None),
                        Ok(Some(message)) => read(&key, &message),
                        Err(error @ Error::DataLoss(_)) => Err(error),
                        Err(error) => return Err(error),
                    },
                };
                Ok(Some((key, message)))
            };
            read_entry().transpose()
        })
    }
}

/// The data keys of a range of records, read beside those: both are in the same order.
struct DataKeys {
    store_key: Arc<StoreKey>,
    db: Db,
    range: sled::Iter,
    ahead: Option<(IVec, IVec)>,
}

impl DataKeys {
    /// Opens a record that was read just now; `None` where it was deleted meanwhile.
    fn open(&mut self, key: &[u8], record: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let wanted = data_key_key(key);
        while self.ahead.as_ref().is_none_or(|(ahead, _)| **ahead < *wanted) {
            let Some(next) = self.range.next() else { break };
            self.ahead = Some(next.map_err(failure)?);
        }
        if let Some((ahead, wrapped)) = &self.ahead
            && **ahead == *wanted
            && let Ok(message) = self.store_key.open((key, record), (&wanted, wrapped))
        {
            return Ok(Some(message));
        }
        // Written or deleted between the two reads; or damaged.
        open_at(&self.db, &self.store_key, key)
    }
}

/// Opens the record at a key; `None` where there is none.
pub(super) fn open_at(db: &Db, store_key: &StoreKey, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let data_key_key = data_key_key(key);
    let mut before = None;
    loop {
        let wrapped = db.get(&data_key_key).map_err(failure)?;
        let Some(record) = db.get(key).map_err(failure)? else { return Ok(None) };
        let opened = match &wrapped {
            None => Err(Error::DataLoss("its data key is missing")),
            Some(wrapped) => store_key.open((key, &record), (&data_key_key, wrapped)),
        };
        match opened {
            Ok(message) => return Ok(Some(message)),
            // A write that comes between the two reads replaces both: only what stays as it is is damaged.
            Err(error) if before == Some((wrapped.clone(), record.clone())) => return Err(error),
            Err(_) => before = Some((wrapped, record)),
        }
    }
}

#[cfg(test)]
impl Store {
    /// Flips a bit of the first identity's record.
    pub(in crate::gallery) fn damage_an_identity(&self) {
        let (key, record) = self.db().scan_prefix(IDENTITIES).next().expect("an identity").expect("a record");
        let mut record = record.to_vec();
        *record.last_mut().expect("a byte") ^= 1;
        self.db().insert(key, record).expect("written");
        self.flush().expect("durable");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::{DATA_KEYS, GALLERIES, identity_key};
    use super::*;
    use crate::biometrics::ids::TemplateId;
    use crate::gallery::embedded::random_operations::{
        GALLERY, create, enroll, gallery, identity, index_agrees, runtime,
    };
    use crate::gallery::{EmbeddedGalleries, MasterKey};

    fn prepared(people: u64) -> (tempfile::TempDir, EmbeddedGalleries, MasterKey) {
        let (folder, key) = (tempfile::tempdir().expect("a folder"), MasterKey::random().expect("a key"));
        let galleries = EmbeddedGalleries::open_with_key(folder.path(), Some(&key)).expect("open");
        runtime().block_on(async {
            create(&galleries, GALLERY).await;
            for number in 0..people {
                enroll(&galleries, GALLERY, number, &[0, 1]).await.expect("enrol");
            }
        });
        (folder, galleries, key)
    }

    fn keys(galleries: &EmbeddedGalleries, prefix: &[u8]) -> Vec<IVec> {
        galleries.store.db().scan_prefix(prefix).keys().map(|key| key.expect("a key")).collect()
    }

    fn key_of(galleries: &EmbeddedGalleries, number: u64) -> Vec<u8> {
        let stored = galleries.store.gallery(&gallery(GALLERY)).expect("read").expect("the gallery");
        identity_key(stored.number, &identity(number))
    }

    #[test]
    fn deletion_takes_the_data_key_along() {
        let (_folder, galleries, _) = prepared(4);
        assert_eq!((keys(&galleries, IDENTITIES).len(), keys(&galleries, DATA_KEYS).len()), (4, 4));
        let key = data_key_key(&key_of(&galleries, 2));
        let wrapped = galleries.store.db().get(&key).expect("read").expect("a data key");
        let template = TemplateId::parse("1").expect("an id");
        runtime().block_on(galleries.delete_template(gallery(GALLERY), identity(2), template)).expect("delete");
        // Of each write another: what a deleted template was sealed with is gone too.
        assert!(galleries.store.db().get(&key).expect("read").expect("a data key") != wrapped);
        runtime().block_on(galleries.delete_identity(gallery(GALLERY), identity(2))).expect("delete");
        assert!(!galleries.store.db().contains_key(&key).expect("read"));
        assert_eq!((keys(&galleries, IDENTITIES).len(), keys(&galleries, DATA_KEYS).len()), (3, 3));
        runtime().block_on(galleries.delete_gallery(gallery(GALLERY), true)).expect("delete");
        // Removed behind the deletion: at the latest before a compaction.
        galleries.compact(|_| Ok(())).expect("compact");
        assert_eq!((keys(&galleries, IDENTITIES).len(), keys(&galleries, DATA_KEYS).len()), (0, 0));
        assert!(keys(&galleries, GALLERIES).is_empty());
    }

    #[test]
    fn damaged_or_moved_record_is_data_loss_of_its_identity_alone() {
        let (folder, galleries, key) = prepared(8);
        let db = galleries.store.db();
        let change = |key: &[u8], change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = db.get(key).expect("read").expect("a record").to_vec();
            change(&mut bytes);
            db.insert(key, bytes).expect("written");
        };
        let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().expect("a byte") ^= 1;
        change(&key_of(&galleries, 1), &flip);
        change(&data_key_key(&key_of(&galleries, 2)), &flip);
        db.remove(data_key_key(&key_of(&galleries, 3))).expect("removed");
        // Another's record with its data key, and a plain one.
        for of in [|key: &[u8]| key.to_vec(), data_key_key as fn(&[u8]) -> Vec<u8>] {
            let bytes = db.get(of(&key_of(&galleries, 7))).expect("read").expect("a record");
            db.insert(of(&key_of(&galleries, 4)), bytes).expect("written");
        }
        let plain = record::frame(&key_of(&galleries, 5), b"");
        db.insert(key_of(&galleries, 5), plain).expect("written");
        galleries.close();
        drop((galleries, db));
        std::fs::remove_dir_all(crate::gallery::embedded::snapshot::folder(folder.path())).expect("no snapshots");
        let galleries = EmbeddedGalleries::open_with_key(folder.path(), Some(&key)).expect("open");
        let (_, status) = galleries.gallery(&gallery(GALLERY)).expect("the gallery");
        assert_eq!((status.counts.identities, status.counts.damaged_identities), (3, 5));
        for number in 0..8 {
            let found = galleries.identity(&gallery(GALLERY), &identity(number));
            let is_damaged = matches!(found, Err(Error::DataLoss(_)));
            assert_eq!(is_damaged, (1..=5).contains(&number), "{number}");
            assert!(is_damaged || found.is_ok(), "{number}");
        }
        runtime().block_on(async {
            for number in 1..=5 {
                galleries.delete_identity(gallery(GALLERY), identity(number)).await.expect("delete");
            }
        });
        index_agrees(&galleries, GALLERY, "without the damaged");
    }

    /// A reader sees a record and its data key one after the other, and a write may come between.
    #[test]
    fn reads_beside_writes_never_find_damage() {
        let (_folder, galleries, _) = prepared(3);
        let (stop, runtime) = (AtomicBool::new(false), runtime());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) || reads == 0 {
                    for number in 0..3 {
                        let found = galleries.identity(&gallery(GALLERY), &identity(number));
                        assert!(matches!(found, Ok(_) | Err(Error::NotFound(_))), "{:?}", found.err());
                    }
                    let is_whole = |_: &_, identity: Option<_>| identity.is_some();
                    let page = galleries.list_identities(&gallery(GALLERY), None, 10, is_whole).expect("list");
                    assert!(page.items.into_iter().all(|is_whole| is_whole));
                    reads += 1;
                }
                reads
            });
            runtime.block_on(async {
                for round in 0..300 {
                    enroll(&galleries, GALLERY, round % 3, &[round % 7]).await.expect("enrol");
                    if round % 5 == 0 {
                        galleries.delete_identity(gallery(GALLERY), identity(round % 3)).await.expect("delete");
                    }
                }
            });
            stop.store(true, Ordering::Relaxed);
            let reads = reader.join().expect("the reader");
            println!("{reads} rounds of reads beside 360 writes");
        });
    }
}
