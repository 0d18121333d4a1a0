//! What is asked of the port that lasts, and how far it is.

use super::types::Identity;
use crate::biometrics::ids::PackId;
use crate::error::Error;

/// A part of a file, and how far the export has come.
#[derive(Clone, Debug, Default)]
pub struct ExportPart {
    /// What follows in the file.
    pub bytes: Vec<u8>,
    /// Identities written so far, those written again counted again.
    pub identities: u64,
    /// Identities whose record is damaged: they are not in the file.
    pub damaged: u64,
}

/// How far an import that broke off had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportState {
    /// The file it was of: [`super::Galleries::export`] makes another id each time.
    pub export_id: String,
    /// The bytes of the file that need not be sent again.
    pub offset: u64,
}

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

/// What to move to.
#[derive(Clone, Debug)]
pub struct MigrationPlan {
    /// Whose templates are made.
    pub pack_id: PackId,
    /// Their length.
    pub dimension: usize,
    /// How many fewer of the compared templates may find their identity, as a share.
    pub loss_max: f64,
    /// Whether it ends with the comparison.
    pub is_trial: bool,
}

/// How far a migration is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MigrationState {
    /// Identities whose templates are made.
    pub identities: u64,
    /// Identities there were when it began.
    pub identities_total: u64,
    /// Once all are made.
    pub comparison: Option<MigrationComparison>,
    /// Whether the gallery is of the new pack now.
    pub is_switched: bool,
}

/// How many find themselves. A probe is a template whose identity has another; it finds itself where none of another identity
/// scores as high as its own other ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MigrationComparison {
    /// Templates that were asked about.
    pub probes: u64,
    /// Which found their identity by the pack of before.
    pub found_before: u64,
    /// Which did by the new one.
    pub found_after: u64,
}

impl MigrationComparison {
    /// *Errors*: [`Error::FoundFewer`] where more are lost than may be; [`Error::NothingCompared`] where nobody was asked about,
    /// unless all may be lost.
    pub(super) fn check(&self, loss_max: f64) -> Result<(), Error> {
        let Self { probes, found_before, found_after } = *self;
        if probes == 0 && loss_max < 1.0 {
            return Err(Error::NothingCompared);
        }
        if found_after as f64 + loss_max * (probes as f64) < found_before as f64 {
            return Err(Error::FoundFewer { probes, found_before, found_after });
        }
        Ok(())
    }
}

/// Makes templates of chips anew: the same identities, each template of the plan's pack.
pub type Embed = dyn Fn(Vec<Identity>) -> Result<Vec<Identity>, Error> + Send + Sync;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_admits_the_loss_that_is_allowed_and_no_more() {
        let check = |probes, found_before, found_after, loss_max| {
            MigrationComparison { probes, found_before, found_after }.check(loss_max)
        };
        // Two of a hundred probes.
        assert!(check(100, 90, 88, 0.02).is_ok());
        assert!(matches!(check(100, 90, 87, 0.02), Err(Error::FoundFewer { found_after: 87, .. })));
        assert!(check(100, 90, 95, 0.0).is_ok() && check(100, 90, 90, 0.0).is_ok());
        // Nobody was asked about: only who does not care may go on.
        assert!(matches!(check(0, 0, 0, 0.99), Err(Error::NothingCompared)));
        assert!(check(0, 0, 0, 1.0).is_ok());
    }
}
