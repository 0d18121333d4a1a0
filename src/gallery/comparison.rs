//! Whether a gallery that moves to another pack still finds its people: what every store asks before it switches.

use std::collections::BTreeMap;

use super::lasting::MigrationComparison;
use super::types::Identity;
use crate::biometrics::calibration::{Faces, Search};
use crate::biometrics::ids::IdentityId;
use crate::error::Error;

/// Templates that are compared with each other, of identities chosen by chance: a second of a core for both packs.
pub(super) const COMPARED_MAX: usize = 4_000;

/// Identities of before and after.
#[derive(Default)]
pub(super) struct Comparing {
    before: Rows,
    after: Rows,
}

impl Comparing {
    /// Takes an identity in, if it has the same templates by both packs and there is room for them.
    pub(super) fn add(&mut self, before: &Identity, after: &Identity) {
        let ids = |identity: &Identity| identity.templates.iter().map(|known| known.id.clone()).collect::<Vec<_>>();
        if ids(before) == ids(after) && self.before.identities.len() + before.templates.len() <= COMPARED_MAX {
            self.before.add(before);
            self.after.add(after);
        }
    }

    /// Searches for each template among all others, by both packs. Blocks, for a second at most.
    ///
    /// *Errors*: [`Error::DataLoss`].
    pub(super) fn finish(&self, before: usize, after: usize) -> Result<MigrationComparison, Error> {
        let (before, after) = (self.before.searches(before)?, self.after.searches(after)?);
        let found = |searches: &[Search]| searches.iter().filter(|search| finds_itself(search)).count() as u64;
        Ok(MigrationComparison {
            probes: before.iter().filter(|search| search.mate.is_some()).count() as u64,
            found_before: found(&before),
            found_after: found(&after),
        })
    }
}

/// Templates of some identities, row by row.
#[derive(Default)]
struct Rows {
    values: Vec<f32>,
    identities: Vec<u32>,
    numbers: BTreeMap<IdentityId, u32>,
}

impl Rows {
    fn add(&mut self, identity: &Identity) {
        let number = self.numbers.len() as u32;
        self.numbers.insert(identity.id.clone(), number);
        for enrolled in &identity.templates {
            self.values.extend_from_slice(enrolled.template.values());
            self.identities.push(number);
        }
    }

    fn searches(&self, dimension: usize) -> Result<Vec<Search>, Error> {
        let Self { values, identities, .. } = self;
        let crossed = Faces { values, dimension, identities, groupings: &[] }.cross(1, 1, |_| {});
        let crossed = crossed.map_err(|_| Error::DataLoss("a stored template is no vector of numbers"))?;
        Ok(crossed.searches.searches)
    }
}

fn finds_itself(search: &Search) -> bool {
    let highest = search.best_other.last().copied().unwrap_or(f32::NEG_INFINITY);
    search.mate.is_some_and(|mate| mate > highest)
}
