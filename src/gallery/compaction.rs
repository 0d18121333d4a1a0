//! Copies the store into a new one without what was deleted, and puts it in the old one's place, beside serving.
//!
//! Records are copied while writes go on; what changes meanwhile is noted and copied again. The last changes are copied and
//! the stores are switched between two groups of the writer, which waits for that; searches do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::galleries::Galleries;
use super::store::Copying;
use crate::error::Error;

/// Changed records copied between two groups of the writer at most, unless they keep coming.
const LAST_CHANGES_MAX: usize = 256;
const ROUNDS_MAX: usize = 20;

/// How far a compaction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Identities copied so far.
    pub identities: u64,
    /// Identities there were when it began.
    pub identities_total: u64,
    /// Bytes of the store's files when it began.
    pub bytes_before: u64,
    /// Bytes of the store's files when it was done; before, none.
    pub bytes_after: Option<u64>,
}

impl Galleries {
    /// Rewrites the data folder so that nothing deleted is left in any file of it. `go_on` is told how far it is, and ends
    /// it by an error: all is then as before. Blocks.
    ///
    /// *Errors*: [`Error::UnderWay`]; those of `go_on`; [`Error::Internal`] such as for a full disk: the store goes on
    /// as it was. *Cost*: the copy takes as much of the disk as what is left in the store, until it takes its place.
    pub fn compact(&self, mut go_on: impl FnMut(Compaction) -> Result<(), Error>) -> Result<Compaction, Error> {
        let _sole = Sole::take(&self.compacting)?;
        let mut state = Compaction {
            identities: 0,
            identities_total: self.indexes.identities(),
            bytes_before: self.store.bytes_on_disk(),
            bytes_after: None,
        };
        self.keeper.snapshots.replace_all(|| {
            let mut copying = self.store.begin_copy()?;
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
