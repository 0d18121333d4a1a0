//! The exact search: every row of one contiguous matrix is scored, or proven not to matter.

use std::collections::HashMap;

use super::coarse::{BLOCK_ROWS, Block, Coarse, CoarseProbe};
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

/// Rows from which a search is shared by all cores: below, it takes less than a millisecond, and threads would cost more
/// than they save.
const SHARED_ROWS_MIN: usize = 128 * 1_024;

/// What a search is to find.
pub struct Wanted<'a> {
    /// A unit vector of the gallery's dimension.
    pub probe: &'a [f32],
    /// How many identities.
    pub capacity: usize,
}

fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// All templates of a gallery, row by row.
pub struct ExactSearch {
    dimension: usize,
    values: Vec<f32>,
    coarse: Coarse,
    owners: Vec<Owner>,
    rows_of: HashMap<IdentityId, Vec<u64>>,
    row_of_key: HashMap<u64, usize>,
    next_key: u64,
}

impl ExactSearch {
    /// Makes an empty one for templates of a dimension.
    pub fn new(dimension: usize) -> Self {
        Self {
            dimension: dimension.max(1),
            values: Vec::new(),
            coarse: Coarse::new(dimension.max(1)),
            owners: Vec::new(),
            rows_of: HashMap::new(),
            row_of_key: HashMap::new(),
            next_key: 0,
        }
    }

    /// Returns how many identities have rows.
    pub fn identities(&self) -> usize {
        self.rows_of.len()
    }

    /// Returns how many rows there are.
    pub fn templates(&self) -> usize {
        self.owners.len()
    }

    /// Adds a row and returns its key, which no other row ever has. The vector has the gallery's dimension: the store's
    /// records were checked for it.
    pub fn add(&mut self, identity: &IdentityId, template: &TemplateId, vector: &[f32]) -> u64 {
        debug_assert_eq!(vector.len(), self.dimension);
        let key = self.next_key;
        self.next_key += 1;
        self.values.extend_from_slice(vector);
        self.coarse.push(vector);
        self.row_of_key.insert(key, self.owners.len());
        self.owners.push(Owner { identity: identity.clone(), template: template.clone(), key });
        self.rows_of.entry(identity.clone()).or_default().push(key);
        key
    }

    /// Takes an identity's rows out; the last row moves into each gap. Returns their keys.
    pub fn remove(&mut self, identity: &IdentityId) -> Vec<u64> {
        let keys = self.rows_of.remove(identity).unwrap_or_default();
        for key in &keys {
            let Some(row) = self.row_of_key.remove(key) else { continue };
            self.owners.swap_remove(row);
            self.coarse.swap_remove(row);
            let last_start = self.values.len() - self.dimension;
            self.values.copy_within(last_start.., row * self.dimension);
            self.values.truncate(last_start);
            if let Some(moved) = self.owners.get(row) {
                self.row_of_key.insert(moved.key, row);
            }
        }
        keys
    }

    /// Ranks every row: the `capacity` best identities.
    ///
    /// The result is that of scoring every row in f32. *Cost*: reads an eighth of the f32 bytes, at the speed of memory, on
    /// all cores where there are many; a million templates of 512 in about 7 ms on one core.
    pub fn search(&self, probe: &[f32], capacity: usize) -> Ranking {
        let mut rankings = self.search_many(&[Wanted { probe, capacity }]);
        rankings.pop().unwrap_or_else(|| Ranking::new(capacity))
    }

    /// Ranks every row for several probes in one pass: codes are read from memory once for all of them.
    pub fn search_many(&self, wanted: &[Wanted<'_>]) -> Vec<Ranking> {
        let probes: Vec<(&Wanted<'_>, CoarseProbe)> =
            wanted.iter().map(|wanted| (wanted, self.coarse.probe(wanted.probe))).collect();
        let rows = self.owners.len();
        let shares = if rows < SHARED_ROWS_MIN { 1 } else { cores() };
        let share = rows.div_ceil(shares).next_multiple_of(BLOCK_ROWS);
        let mut ranges = (0..rows).step_by(share.max(1)).map(|first| first..rows.min(first + share));
        let Some(own) = ranges.next() else { return wanted.iter().map(|one| Ranking::new(one.capacity)).collect() };
        std::thread::scope(|scope| {
            let others: Vec<_> = ranges
                .map(|range| {
                    let (probes, again) = (&probes, range.clone());
                    let spawned = std::thread::Builder::new().spawn_scoped(scope, move || self.scan(probes, range));
                    (spawned, again)
                })
                .collect();
            let mut rankings = self.scan(&probes, own);
            for (spawned, range) in others {
                // No thread to be had, or one that died: the work is done here.
                let found = spawned.ok().and_then(|thread| thread.join().ok());
                let found = found.unwrap_or_else(|| self.scan(&probes, range));
                rankings.iter_mut().zip(found).for_each(|(ranking, found)| ranking.absorb(found));
            }
            rankings
        })
    }

    /// Ranks a range of rows, block by block: bounds first, and in full only rows whose bound reaches what is known so far.
    fn scan(&self, probes: &[(&Wanted<'_>, CoarseProbe)], range: std::ops::Range<usize>) -> Vec<Ranking> {
        let mut rankings: Vec<Ranking> = probes.iter().map(|(wanted, _)| Ranking::new(wanted.capacity)).collect();
        let mut block = Block::new();
        for first in range.clone().step_by(BLOCK_ROWS) {
            for ((wanted, coarse), ranking) in probes.iter().zip(&mut rankings) {
                let count = self.coarse.bound_block(coarse, first, &mut block).min(range.end - first);
                for at in 0..count {
                    let floor = ranking.floor();
                    let may_matter = block.bounds.get(at).is_some_and(|bound| *bound >= floor)
                        && self.coarse.bound_row(coarse, first, at, &block) >= floor;
                    if may_matter {
                        self.show(first + at, wanted.probe, ranking);
                    }
                }
            }
        }
        rankings
    }

    /// Scores a row and shows it to a ranking.
    fn show(&self, row: usize, probe: &[f32], ranking: &mut Ranking) {
        if let (Some(owner), Some(vector)) = (self.owners.get(row), self.row(row)) {
            ranking.show(&owner.identity, &owner.template, Score::from_cosine(dot(probe, vector)));
        }
    }

    /// Ranks the rows of some keys, as another search proposed them.
    pub(super) fn rank(&self, probe: &[f32], keys: &[u64], capacity: usize) -> Ranking {
        let mut ranking = Ranking::new(capacity);
        for row in keys.iter().filter_map(|key| self.row_of_key.get(key)) {
            self.show(*row, probe, &mut ranking);
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

    /// Scores every row in f32.
    fn brute_force(search: &ExactSearch, probe: &[f32], capacity: usize) -> Vec<(String, String, f32)> {
        let mut ranking = Ranking::new(capacity);
        (0..search.templates()).for_each(|row| search.show(row, probe, &mut ranking));
        named(ranking)
    }

    fn named(ranking: Ranking) -> Vec<(String, String, f32)> {
        let ranked = ranking.into_best_first().into_iter();
        ranked.map(|r| (r.identity.as_str().to_owned(), r.template.as_str().to_owned(), r.score.cosine())).collect()
    }

    #[test]
    fn search_is_the_brute_force_to_the_last_bit() {
        let mut next = {
            let mut state = 0x9e37_79b9_7f4a_7c15u64;
            move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            }
        };
        for (dimension, rows, people) in [(3, 700, 40), (128, 3_000, 900), (512, 2_500, 2_500)] {
            let mut search = ExactSearch::new(dimension);
            let mut vectors: Vec<Vec<f32>> = Vec::new();
            for row in 0..rows {
                // Every tenth is a copy, so that there are ties, and every seventh nearly one.
                let vector: Vec<f32> = match row {
                    row if row % 10 == 9 => vectors[row / 2].clone(),
                    row if row % 7 == 6 => vectors[row / 3].iter().map(|v| v + next() * 1e-4).collect(),
                    _ => (0..dimension).map(|_| next()).collect(),
                };
                let norm = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
                let vector: Vec<f32> = vector.into_iter().map(|v| v / norm).collect();
                let name = format!("person {}", (row * 7) % people);
                search.add(&identity(&name), &template(&row.to_string()), &vector);
                vectors.push(vector);
            }
            for gone in ["person 3", "person 14", "person 35"] {
                search.remove(&identity(gone));
            }
            let wanted: Vec<Wanted<'_>> =
                (0..40).map(|at| Wanted { probe: &vectors[at * 17], capacity: [1, 2, 5, 100][at % 4] }).collect();
            for (wanted, ranking) in wanted.iter().zip(search.search_many(&wanted)) {
                let expected = brute_force(&search, wanted.probe, wanted.capacity);
                assert_eq!(named(ranking), expected);
                assert_eq!(named(search.search(wanted.probe, wanted.capacity)), expected);
            }
        }
    }

    #[test]
    fn search_shared_by_cores_is_the_same() {
        let mut search = ExactSearch::new(4);
        for row in 0..SHARED_ROWS_MIN + 3 {
            let angle = row as f32;
            let vector = [angle.sin() * 0.6, angle.cos() * 0.6, 0.8 * (angle * 0.7).sin(), 0.8 * (angle * 0.7).cos()];
            search.add(&identity(&format!("person {}", row / 2)), &template(&row.to_string()), &vector);
        }
        for probe in [[0.6, 0.0, 0.8, 0.0], [0.0, -1.0, 0.0, 0.0]] {
            assert_eq!(named(search.search(&probe, 20)), brute_force(&search, &probe, 20));
        }
    }

    #[test]
    fn rank_of_unknown_keys_is_empty() {
        let mut search = ExactSearch::new(2);
        let key = search.add(&identity("ann"), &template("1"), &[1.0, 0.0]);
        assert_eq!(search.rank(&[1.0, 0.0], &[key, key + 1], 5).into_best_first().len(), 1);
    }
}
