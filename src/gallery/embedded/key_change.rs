//! Encrypts a store, decrypts it, or gives it another master key, while no server runs on it.
//!
//! All three are a copy of what is left in the store, sealed anew, which then takes its place as a compacted one does: whatever
//! happens before that, the store is as it was and opens by the key of before; after it, by the new one. So nothing of before
//! is left in a file either: no plain record, and no data key that the old master key opens. When the master key changes, data
//! keys are wrapped anew and records are copied as they are.

use std::path::{Path, PathBuf};

use super::compaction::check_room;
use super::crash::step;
use super::encryption::{KeyId, MasterKey};
use super::error::StoreError;
use super::marker::Marker;
use super::snapshot;
use super::store::{Resealing, Store};
use crate::error::Error;

/// Records of deleted galleries removed at a time.
const PURGE_STEP: usize = 5_000;

/// How a change of the key ended, or how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// Identities that are copied.
    pub identities: u64,
    /// Identities there are.
    pub identities_total: u64,
    /// Identities whose records were damaged before, and still are.
    pub damaged: u64,
    /// Whether the store was so already: nothing is done then but to remove what is left of before.
    pub was_done: bool,
}

/// Why the key of a store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum KeyChangeError {
    /// There is no store to change.
    #[error("there is no store in {}", .0.display())]
    NoStore(PathBuf),
    /// The new key is the one of before.
    #[error("both keys are the same, {0}")]
    SameKey(KeyId),
    /// It is encrypted with another key.
    #[error("the store is encrypted already, with key {0}: `facematch store rotate-key` gives it another")]
    AlreadyEncrypted(KeyId),
    /// It cannot be opened by the key of before.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Records that cannot be read would be lost.
    #[error(
        "{0} identities have damaged records, which cannot be encrypted, and must not stay plain: list and delete them while \
         the server runs, or restore the data folder from a backup"
    )]
    Damaged(u64),
    /// It failed on the way.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Changes the key that the store in a folder is encrypted with; `None` is a plain store. `go_on` is told how far it is. Killed at
/// any time, it may be run again. Blocks.
///
/// *Errors*: [`KeyChangeError`]; a store that a server has open is one. *Cost*: of a compaction, and as much of the disk again
/// meanwhile.
pub fn change_key(
    folder: &Path,
    from: Option<&MasterKey>,
    to: Option<&MasterKey>,
    mut go_on: impl FnMut(KeyChange),
) -> Result<KeyChange, KeyChangeError> {
    if !Marker::path(folder).exists() {
        return Err(KeyChangeError::NoStore(folder.to_path_buf()));
    }
    if let (Some(from), Some(to)) = (from, to)
        && from.id() == to.id()
    {
        return Err(KeyChangeError::SameKey(to.id()));
    }
    let store = match Store::open(folder, from) {
        Ok(store) => store,
        Err(
            error @ (StoreError::KeyMissing { .. } | StoreError::WrongKey { .. } | StoreError::NotEncrypted { .. }),
        ) => {
            // An earlier run may have come as far as the switch: opening it removes the store of before.
            return match (Store::open(folder, to), error) {
                (Ok(_), _) => Ok(KeyChange { was_done: true, ..KeyChange::default() }),
                (Err(_), StoreError::KeyMissing { key, .. }) => Err(KeyChangeError::AlreadyEncrypted(key)),
                (Err(_), error) => Err(error.into()),
            };
        }
        Err(error) => return Err(error.into()),
    };
    while store.purge_some(PURGE_STEP)? {}
    store.flush()?;
    // They are sealed as the store of before was. Gone before the switch, none is left by a crash after it.
    snapshot::remove_all(folder).map_err(Error::internal)?;
    check_room(&store, store.bytes_on_disk())?;
    let mut change = KeyChange { identities_total: store.identities(), ..KeyChange::default() };
    let resealing = Resealing { to: to.map(|to| to.of_store(&store.id())), damaged: 0 };
    let mut copying = store.begin_copy(Some(resealing))?;
    loop {
        match store.copy_some(&mut copying) {
            Ok(Some(identities)) => change.identities += identities,
            Ok(None) => break,
            Err(error) => {
                store.drop_copy(copying);
                return Err(error.into());
            }
        }
        step("copying");
        go_on(change);
    }
    change.damaged = copying.damaged();
    if from.is_none() && change.damaged > 0 {
        store.drop_copy(copying);
        return Err(KeyChangeError::Damaged(change.damaged));
    }
    let sequence = store.sequence()?;
    store.switch(copying, sequence)?;
    Ok(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::EmbeddedGalleries;
    use crate::gallery::embedded::random_operations::{
        GALLERY, create, enroll, gallery, identity, index_agrees, runtime,
    };

    const PEOPLE: u64 = 20;

    /// The keys before and after each kind of change.
    fn changes() -> [(Option<MasterKey>, Option<MasterKey>); 3] {
        let key = |digit: &str| Some(MasterKey::parse(&digit.repeat(64), "a test").expect("a key"));
        [(None, key("1")), (key("1"), key("2")), (key("2"), None)]
    }

    /// A store with a gallery, deleted people and a snapshot, closed.
    fn prepared(key: Option<&MasterKey>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let galleries = EmbeddedGalleries::open_with_key(folder.path(), key).expect("open");
        runtime().block_on(async {
            create(&galleries, GALLERY).await;
            create(&galleries, "gone").await;
            for number in 0..PEOPLE + 1 {
                enroll(&galleries, GALLERY, number, &[0, 1]).await.expect("enrol");
            }
            enroll(&galleries, "gone", 1, &[0]).await.expect("enrol");
            galleries.delete_identity(gallery(GALLERY), identity(PEOPLE)).await.expect("delete");
            galleries.delete_gallery(gallery("gone"), true).await.expect("delete");
        });
        galleries.close();
        folder
    }

    fn holds_everybody(folder: &Path, key: Option<&MasterKey>, context: &str) {
        let galleries =
            EmbeddedGalleries::open_with_key(folder, key).unwrap_or_else(|error| panic!("{context}: {error}"));
        let (_, status) = galleries.gallery(&gallery(GALLERY)).expect("the gallery");
        assert_eq!(status.counts.identities, PEOPLE, "{context}");
        index_agrees(&galleries, GALLERY, context);
        galleries.close();
    }

    #[test]
    fn changed_store_opens_by_the_new_key_alone_with_everybody() {
        for (at, (from, to)) in changes().into_iter().enumerate() {
            let folder = prepared(from.as_ref());
            let mut told = Vec::new();
            let change = change_key(folder.path(), from.as_ref(), to.as_ref(), |change| told.push(change.identities));
            let change = change.expect("changed");
            let expected = KeyChange { identities: PEOPLE, identities_total: PEOPLE, damaged: 0, was_done: false };
            assert_eq!(change, expected, "change {at}");
            assert_eq!(told.last(), Some(&PEOPLE));
            assert!(EmbeddedGalleries::open_with_key(folder.path(), from.as_ref()).is_err());
            assert!(!folder.path().join("store-1").exists());
            // Run again, it is done already.
            let again = change_key(folder.path(), from.as_ref(), to.as_ref(), |_| ()).expect("done");
            assert!(again.was_done);
            holds_everybody(folder.path(), to.as_ref(), &format!("change {at}"));
        }
    }

    #[test]
    fn change_is_refused_without_a_store_by_a_wrong_key_and_to_the_same_key() {
        let [_, (one, two), _] = changes();
        let empty = tempfile::tempdir().expect("a folder");
        let refused = |folder: &Path, from: &Option<MasterKey>, to: &Option<MasterKey>| {
            change_key(folder, from.as_ref(), to.as_ref(), |_| ()).expect_err("refused")
        };
        assert!(matches!(refused(empty.path(), &None, &one), KeyChangeError::NoStore(_)));
        assert!(std::fs::read_dir(empty.path()).expect("a folder").next().is_none());
        let folder = prepared(one.as_ref());
        assert!(matches!(refused(folder.path(), &one, &one), KeyChangeError::SameKey(_)));
        let wrong = MasterKey::random().ok();
        assert!(matches!(refused(folder.path(), &two, &wrong), KeyChangeError::Store(StoreError::WrongKey { .. })));
        assert!(matches!(refused(folder.path(), &None, &wrong), KeyChangeError::AlreadyEncrypted(_)));
        let open = EmbeddedGalleries::open_with_key(folder.path(), one.as_ref()).expect("open");
        assert!(matches!(refused(folder.path(), &one, &two), KeyChangeError::Store(StoreError::InUse { .. })));
        drop(open);
        holds_everybody(folder.path(), one.as_ref(), "after all that");
    }

    #[test]
    fn plain_record_that_is_damaged_is_neither_lost_nor_copied() {
        let folder = prepared(None);
        // Damaged as a flipped bit on the disk would: the first record of an identity.
        let store = Store::open(folder.path(), None).expect("open");
        store.damage_an_identity();
        drop(store);
        let [(_, key), ..] = changes();
        let error = change_key(folder.path(), None, key.as_ref(), |_| ()).expect_err("refused");
        assert!(matches!(error, KeyChangeError::Damaged(1)), "{error}");
        assert!(!folder.path().join("store-2").exists());
        drop(EmbeddedGalleries::open(folder.path()).expect("as it was"));
    }

    /// The child: changes the key and is killed on the way. Does nothing unless a parent started it.
    #[cfg(unix)]
    #[test]
    fn change_that_is_killed() {
        let Ok(folder) = std::env::var("FACEMATCH_KEY_CHANGE_FOLDER") else { return };
        let which: usize = std::env::var("FACEMATCH_KEY_CHANGE").expect("which").parse().expect("a number");
        let (from, to) = &changes()[which];
        change_key(Path::new(&folder), from.as_ref(), to.as_ref(), |_| ()).expect("changed");
    }

    #[cfg(unix)]
    #[test]
    fn change_killed_at_every_step_leaves_a_store_that_opens_by_one_of_the_two() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};
        for (which, (from, to)) in changes().into_iter().enumerate() {
            for (killed_at, is_switched) in [("copying", false), ("copied", false), ("switched", true)] {
                let (folder, context) = (prepared(from.as_ref()), format!("change {which} killed when {killed_at}"));
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                command.args(["--exact", "gallery::embedded::key_change::tests::change_that_is_killed", "--nocapture"]);
                command
                    .env("FACEMATCH_KEY_CHANGE_FOLDER", folder.path())
                    .env("FACEMATCH_KEY_CHANGE", which.to_string());
                command.env("FACEMATCH_CRASH_AT", format!("{killed_at} 0"));
                let mut child = command.stdout(Stdio::piped()).spawn().expect("start the child");
                let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
                let is_reached = lines.any(|line| line.expect("a line") == "reached");
                child.kill().expect("kill the child"); // SIGKILL
                child.wait().expect("the child ends");
                assert!(is_reached, "{context}: it ended before");
                let (opens, other) = if is_switched { (&to, &from) } else { (&from, &to) };
                let refused = EmbeddedGalleries::open_with_key(folder.path(), other.as_ref());
                assert!(refused.is_err(), "{context}");
                holds_everybody(folder.path(), opens.as_ref(), &context);
                // And it may be run again.
                let again = change_key(folder.path(), from.as_ref(), to.as_ref(), |_| ()).expect("changed");
                assert_eq!(again.was_done, is_switched, "{context}");
                holds_everybody(folder.path(), to.as_ref(), &context);
                let stores = std::fs::read_dir(folder.path()).expect("a folder").flatten();
                let stores = stores.filter(|entry| entry.file_name().to_string_lossy().starts_with("store-"));
                assert_eq!(stores.count(), 1, "{context}");
            }
        }
    }
}
