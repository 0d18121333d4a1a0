//! The exact search: every row of one contiguous matrix is scored.

use std::collections::HashMap;

use super::ranking::Ranking;
use crate::biometrics::ids::{IdentityId, TemplateId};
use crate::biometrics::score::Score;
use crate::biometrics::template::dot;

/// A row's owner, and the key by which other searches know the row.
struct Owner {
    identity: IdentityId,
    template: TemplateId,
    key: u64,
}

/// All templates of a gallery, row by row.
pub(super) struct ExactSearch {
    dimension: usize,
    values: Vec<f32>,
    owners: Vec<Owner>,
    rows_of: HashMap<IdentityId, Vec<u64>>,
    row_of_key: HashMap<u64, usize>,
    next_key: u64,
}

impl ExactSearch {
    pub(super) fn new(dimension: usize) -> Self {
        Self {
            dimension: dimension.max(1),
            values: Vec::new(),
            owners: Vec::new(),
            rows_of: HashMap::new(),
            row_of_key: HashMap::new(),
            next_key: 0,
        }
    }

    pub(super) fn identities(&self) -> usize {
        self.rows_of.len()
    }

    pub(super) fn templates(&self) -> usize {
        self.owners.len()
    }

    /// Adds a row and returns its key, which no other row ever has. The vector has the gallery's dimension: the store's
    /// records were checked for it.
    pub(super) fn add(&mut self, identity: &IdentityId, template: &TemplateId, vector: &[f32]) -> u64 {
        debug_assert_eq!(vector.len(), self.dimension);
        let key = self.next_key;
        self.next_key += 1;
        self.values.extend_from_slice(vector);
        self.row_of_key.insert(key, self.owners.len());
        self.owners.push(Owner { identity: identity.clone(), template: template.clone(), key });
        self.rows_of.entry(identity.clone()).or_default().push(key);
        key
    }

    /// Takes an identity's rows out; the last row moves into each gap. Returns their keys.
    pub(super) fn remove(&mut self, identity: &IdentityId) -> Vec<u64> {
        let keys = self.rows_of.remove(identity).unwrap_or_default();
        for key in &keys {
            let Some(row) = self.row_of_key.remove(key) else { continue };
            self.owners.swap_remove(row);
            let last_start = self.values.len() - self.dimension;
            self.values.copy_within(last_start.., row * self.dimension);
            self.values.truncate(last_start);
            if let Some(moved) = self.owners.get(row) {
                self.row_of_key.insert(moved.key, row);
            }
        }
        keys
    }

    /// Ranks every row.
    ///
    /// *Cost*: reads the matrix once; 100,000 templates of 512 in about 10 ms.
    pub(super) fn search(&self, probe: &[f32], capacity: usize) -> Ranking {
        let mut ranking = Ranking::new(capacity);
        let rows = self.values.chunks_exact(self.dimension);
        for (row, owner) in rows.zip(&self.owners) {
            let cosine = dot(probe, row);
            if cosine >= ranking.floor() {
                ranking.show(&owner.identity, &owner.template, Score::from_cosine(cosine));
            }
        }
        ranking
    }

    /// Ranks the rows of some keys, as another search proposed them.
    pub(super) fn rank(&self, probe: &[f32], keys: &[u64], capacity: usize) -> Ranking {
        let mut ranking = Ranking::new(capacity);
        for row in keys.iter().filter_map(|key| self.row_of_key.get(key)) {
            if let (Some(owner), Some(vector)) = (self.owners.get(*row), self.row(*row)) {
                ranking.show(&owner.identity, &owner.template, Score::from_cosine(dot(probe, vector)));
            }
        }
        ranking
    }

    /// Iterates over keys and rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u64, &[f32])> {
        self.owners.iter().map(|owner| owner.key).zip(self.values.chunks_exact(self.dimension))
    }

    fn row(&self, row: usize) -> Option<&[f32]> {
        self.values.get(row * self.dimension..(row + 1) * self.dimension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> IdentityId {
        IdentityId::parse(name).expect("an id")
    }

    fn template(name: &str) -> TemplateId {
        TemplateId::parse(name).expect("an id")
    }

    fn best(search: &ExactSearch, probe: [f32; 2]) -> Vec<(String, f32)> {
        let ranked = search.search(&probe, 10).into_best_first().into_iter();
        ranked.map(|r| (r.identity.as_str().to_owned(), r.score.cosine())).collect()
    }

    #[test]
    fn removed_identity_is_gone_and_the_moved_rows_stay_theirs() {
        let mut search = ExactSearch::new(2);
        search.add(&identity("ann"), &template("1"), &[1.0, 0.0]);
        search.add(&identity("bob"), &template("1"), &[0.0, 1.0]);
        search.add(&identity("ann"), &template("2"), &[0.6, 0.8]);
        search.add(&identity("cid"), &template("1"), &[-1.0, 0.0]);
        let keys = search.remove(&identity("ann"));
        assert_eq!((keys.len(), search.identities(), search.templates()), (2, 2, 2));
        assert_eq!(best(&search, [0.0, 1.0]), [("bob".to_owned(), 1.0), ("cid".to_owned(), 0.0)]);
        assert!(search.remove(&identity("ann")).is_empty());
        search.remove(&identity("cid"));
        search.remove(&identity("bob"));
        assert!(best(&search, [0.0, 1.0]).is_empty());
    }

    #[test]
    fn rank_of_unknown_keys_is_empty() {
        let mut search = ExactSearch::new(2);
        let key = search.add(&identity("ann"), &template("1"), &[1.0, 0.0]);
        assert_eq!(search.rank(&[1.0, 0.0], &[key, key + 1], 5).into_best_first().len(), 1);
    }
}
