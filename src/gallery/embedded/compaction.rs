//! Copies the store into a new one without what was deleted, and puts it in the old one's place, beside serving.
//!
//! Records are copied while writes go on; what changes meanwhile is noted and copied again. The last changes are copied and
//! the stores are switched between two groups of the writer, which waits for that; searches do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::galleries::EmbeddedGalleries;
use super::lasting::Compaction;
use super::store::{Copying, Store};
use crate::error::Error;
use crate::runtime::disk;

/// Changed records copied between two groups of the writer at most, unless they keep coming.
const LAST_CHANGES_MAX: usize = 256;
const ROUNDS_MAX: usize = 20;

/// Records of deleted galleries removed in one of the writer's turns.
const PURGE_STEP: usize = 5_000;

/// What a compaction leaves free on the disk, for the writes that go on.
const FREE_BYTES_MIN: u64 = 64 << 20;

impl EmbeddedGalleries {
    /// Rewrites the data folder so that nothing deleted is left in any file of it. `go_on` is told how far it is, and ends
    /// it by an error: all is then as before. Blocks.
    ///
    /// *Errors*: [`Error::UnderWay`]; those of `go_on`; [`Error::Unavailable`] where the disk has no room: the store goes on
    /// as it was. What is deleted meanwhile may be in a file until the next one. *Cost*: the copy takes as much of the disk as what is left in the store, until it takes its place.
    pub fn compact(&self, mut go_on: impl FnMut(Compaction) -> Result<(), Error>) -> Result<Compaction, Error> {
        let _sole = Sole::take(&self.compacting)?;
        let mut state = Compaction {
            identities: 0,
            identities_total: self.indexes.identities(),
            bytes_before: self.store.bytes_on_disk(),
            bytes_after: None,
        };
        self.keeper.snapshots.replace_all(|| {
            // Records of deleted galleries must not come into the copy, not even for a moment.
            while self.writer.submit(|change| change.store.purge_some(PURGE_STEP))?.wait()? {}
            check_room(&self.store, state.bytes_before)?;
            let mut copying = self.store.begin_copy(None)?;
            if let Err(error) = self.copy(&mut copying, &mut state, &mut go_on) {
                self.store.drop_copy(copying);
                return Err(error);
            }
            let switched = self.writer.submit(move |change| {
                change.flush()?;
                change.store.switch(copying, change.sequence())
            })?;
            switched.wait()
        })?;
        state.bytes_after = Some(self.store.bytes_on_disk());
        Ok(state)
    }

    fn copy(
        &self,
        copying: &mut Copying,
        state: &mut Compaction,
        go_on: &mut impl FnMut(Compaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while let Some(identities) = self.store.copy_some(copying)? {
            state.identities += identities;
            // A disk that filled up would stop all writes.
            check_room(&self.store, 0)?;
            go_on(*state)?;
        }
        for _ in 0..ROUNDS_MAX {
            if self.store.copy_changes(copying)? <= LAST_CHANGES_MAX {
                break;
            }
            go_on(*state)?;
        }
        Ok(())
    }
}

/// Checks that the disk has room for some bytes and a reserve.
pub(super) fn check_room(store: &Store, bytes: u64) -> Result<(), Error> {
    match disk::free_bytes(store.folder()) {
        Some(free) if free < bytes.saturating_add(FREE_BYTES_MIN) => {
            Err(Error::Unavailable("the disk has no room for another copy of the store"))
        }
        _ => Ok(()),
    }
}

/// Set while a compaction is under way: one at a time.
pub(super) type Compacting = Arc<AtomicBool>;

struct Sole(Compacting);

impl Sole {
    fn take(compacting: &Compacting) -> Result<Self, Error> {
        if compacting.swap(true, Ordering::AcqRel) {
            return Err(Error::UnderWay("another compaction"));
        }
        Ok(Self(Arc::clone(compacting)))
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_that_no_disk_has_room_for_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), None).expect("open");
        assert!(check_room(&store, 0).is_ok());
        assert!(matches!(check_room(&store, u64::MAX), Err(Error::Unavailable(_))));
    }
}
