//! The exact search: every row of one contiguous matrix is scored, or proven not to matter.

use std::collections::{BTreeSet, HashMap, HashSet};

use roaring::RoaringBitmap;

use super::coarse::{BLOCK_ROWS, Block, Coarse, CoarseProbe};
use super::memory;
use super::ranking::Ranking;
use crate::biometrics::ids::{IdentityId, TemplateId};
use crate::biometrics::score::Score;
use crate::biometrics::template::dot;

/// A row's owner, and the key by which other searches know the row.
struct Owner {
    identity: u32,
    template: TemplateId,
    key: u64,
}

/// An identity and the keys of its rows.
struct Person {
    id: IdentityId,
    keys: Vec<u64>,
}

/// Template ids that were seen lately: those of many people are called alike, and share one text.
#[derive(Default)]
struct Names(HashSet<TemplateId>);

/// Ids remembered at most: where all differ, remembering them would only cost.
const NAMES_MAX: usize = 4_096;

impl Names {
    fn share(&mut self, id: &TemplateId) -> TemplateId {
        if let Some(known) = self.0.get(id) {
            return known.clone();
        }
        if self.0.len() >= NAMES_MAX {
            self.0.clear();
        }
        self.0.insert(id.clone());
        id.clone()
    }
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
    /// Which identities alone, by number; `None`: all.
    pub only: Option<&'a RoaringBitmap>,
}

/// A row that is looked up costs as much as this many in a pass, which reads them in order.
const LOOKED_UP_ROW_COST: u64 = 20;

/// Looked-up rows from which a search is shared by all cores.
const SHARED_LOOKUPS_MIN: usize = 4 * 1_024;

pub(super) fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// All templates of a gallery, row by row.
pub struct ExactSearch {
    dimension: usize,
    values: Vec<f32>,
    coarse: Coarse,
    owners: Vec<Owner>,
    /// By number. Numbers that are free again are used first.
    people: Vec<Option<Person>>,
    numbers: HashMap<IdentityId, u32>,
    free: Vec<u32>,
    row_of_key: HashMap<u64, usize>,
    next_key: u64,
    names: Names,
    /// Identities whose rows were moved since [`ExactSearch::begin_pass`].
    moved: Option<BTreeSet<IdentityId>>,
}

impl ExactSearch {
    /// Makes an empty one for templates of a dimension.
    pub fn new(dimension: usize) -> Self {
        Self {
            dimension: dimension.max(1),
            values: Vec::new(),
            coarse: Coarse::new(dimension.max(1)),
            owners: Vec::new(),
            people: Vec::new(),
            numbers: HashMap::new(),
            free: Vec::new(),
            row_of_key: HashMap::new(),
            next_key: 0,
            names: Names::default(),
            moved: None,
        }
    }

    /// Takes an identity in that has no rows yet. Returns its number, and the one that it had if it is there already, which
    /// is nobody's any more.
    pub(super) fn add_person(&mut self, identity: IdentityId) -> (u32, Option<u32>) {
        let before = self.numbers.get(&identity).copied();
        let number = self.new_number(&identity);
        if let Some(before) = before
            && let Some(place) = self.people.get_mut(before as usize)
        {
            *place = None;
            self.free.push(before);
        }
        (number, before)
    }

    /// Fills an empty one with rows that lie one after the other, each with the number of its identity. Takes all cores.
    pub(super) fn fill(&mut self, values: Vec<f32>, rows: Vec<(u32, TemplateId)>) {
        let mut coarse = Coarse::new(self.dimension);
        std::thread::scope(|scope| {
            scope.spawn(|| coarse.extend(&values));
            self.owners.reserve_exact(rows.len());
            self.row_of_key.extend((0..rows.len()).map(|row| (row as u64, row)));
            self.next_key = rows.len() as u64;
            for (key, (identity, template)) in (0..).zip(rows) {
                if let Some(Some(person)) = self.people.get_mut(identity as usize) {
                    person.keys.push(key);
                }
                let template = self.names.share(&template);
                self.owners.push(Owner { identity, template, key });
            }
        });
        (self.values, self.coarse) = (values, coarse);
    }

    /// From here on notes whose rows are moved, so that somebody who reads them a few at a time knows what he may have
    /// missed.
    pub(super) fn begin_pass(&mut self) {
        self.moved = Some(BTreeSet::new());
    }

    /// Returns whose rows were moved, and notes no more; `None` where this one has not seen the pass begin.
    pub(super) fn end_pass(&mut self) -> Option<BTreeSet<IdentityId>> {
        self.moved.take()
    }

    /// Copies some rows: whose each is, and their values one after the other. Rows beyond the last are left out.
    pub(super) fn copy_rows(&self, rows: std::ops::Range<usize>) -> (Vec<(u32, TemplateId)>, Vec<f32>) {
        let rows = rows.start.min(self.owners.len())..rows.end.min(self.owners.len());
        let values = self.values.get(rows.start * self.dimension..rows.end * self.dimension).unwrap_or_default();
        let owners = self.owners.get(rows).unwrap_or_default().iter();
        (owners.map(|owner| (owner.identity, owner.template.clone())).collect(), values.to_vec())
    }

    /// Returns the number beyond every identity's.
    pub(super) fn numbers(&self) -> usize {
        self.people.len()
    }

    /// Returns the identity of a number.
    pub(super) fn identity(&self, number: u32) -> Option<&IdentityId> {
        self.people.get(number as usize)?.as_ref().map(|person| &person.id)
    }

    /// Returns how many identities have rows.
    pub fn identities(&self) -> usize {
        self.numbers.len()
    }

    /// Returns the number of an identity that has rows. It is its own until its rows are removed.
    pub fn number(&self, identity: &IdentityId) -> Option<u32> {
        self.numbers.get(identity).copied()
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
        memory::grow(&mut self.values, |values| values.extend_from_slice(vector));
        self.coarse.extend(vector);
        self.row_of_key.insert(key, self.owners.len());
        let number = self.number(identity).unwrap_or_else(|| self.new_number(identity));
        let template = self.names.share(template);
        self.owners.push(Owner { identity: number, template, key });
        if let Some(Some(person)) = self.people.get_mut(number as usize) {
            person.keys.push(key);
        }
        key
    }

    fn new_number(&mut self, identity: &IdentityId) -> u32 {
        let person = Some(Person { id: identity.clone(), keys: Vec::new() });
        let number = self.free.pop().unwrap_or_else(|| {
            self.people.push(None);
            (self.people.len() - 1) as u32 // 4 billion identities are beyond every machine's memory
        });
        if let Some(place) = self.people.get_mut(number as usize) {
            *place = person;
        }
        self.numbers.insert(identity.clone(), number);
        number
    }

    /// Takes an identity's rows out; the last row moves into each gap. Returns their keys.
    pub fn remove(&mut self, identity: &IdentityId) -> Vec<u64> {
        let Some(number) = self.numbers.remove(identity) else { return Vec::new() };
        self.free.push(number);
        let person = self.people.get_mut(number as usize).and_then(Option::take);
        let keys = person.map_or_else(Vec::new, |person| person.keys);
        for key in &keys {
            let Some(row) = self.row_of_key.remove(key) else { continue };
            self.owners.swap_remove(row);
            self.coarse.swap_remove(row);
            let last_start = self.values.len() - self.dimension;
            self.values.copy_within(last_start.., row * self.dimension);
            self.values.truncate(last_start);
            if let Some(owner) = self.owners.get(row) {
                self.row_of_key.insert(owner.key, row);
                if let (Some(moved), Some(Some(person))) = (&mut self.moved, self.people.get(owner.identity as usize)) {
                    moved.insert(person.id.clone());
                }
            }
        }
        keys
    }

    /// Ranks every row: the `capacity` best identities.
    ///
    /// The result is that of scoring every row in f32. *Cost*: reads an eighth of the f32 bytes, at the speed of memory, on
    /// all cores where there are many; a million templates of 512 in about 11 ms on one core.
    pub fn search(&self, probe: &[f32], capacity: usize) -> Ranking {
        let mut rankings = self.search_many(&[Wanted { probe, capacity, only: None }]);
        rankings.pop().unwrap_or_else(|| Ranking::new(capacity))
    }

    /// Ranks rows for several probes in one pass: codes are read from memory once for all of them.
    pub fn search_many(&self, wanted: &[Wanted<'_>]) -> Vec<Ranking> {
        let rows = self.owners.len();
        let mut rankings: Vec<Ranking> = wanted.iter().map(|wanted| Ranking::new(wanted.capacity)).collect();
        let mut in_pass: Vec<(&Wanted<'_>, CoarseProbe, &mut Ranking)> = Vec::with_capacity(wanted.len());
        for (wanted, ranking) in wanted.iter().zip(&mut rankings) {
            match wanted.only.filter(|only| only.len() * LOOKED_UP_ROW_COST < self.numbers.len() as u64) {
                Some(few) => *ranking = self.rank_people(wanted, few),
                None => in_pass.push((wanted, self.coarse.probe(wanted.probe), ranking)),
            }
        }
        let shares = if rows < SHARED_ROWS_MIN { 1 } else { cores() };
        let share = rows.div_ceil(shares).next_multiple_of(BLOCK_ROWS).max(1);
        let mut ranges = (0..rows).step_by(share).map(|first| first..rows.min(first + share));
        let (false, Some(own)) = (in_pass.is_empty(), ranges.next()) else { return rankings };
        let probes: Vec<(&Wanted<'_>, &CoarseProbe)> =
            in_pass.iter().map(|(wanted, probe, _)| (*wanted, probe)).collect();
        let found = std::thread::scope(|scope| {
            let probes = probes.as_slice();
            let others: Vec<_> = ranges
                .map(|range| {
                    let again = range.clone();
                    let spawned = std::thread::Builder::new().spawn_scoped(scope, move || self.scan(probes, range));
                    (spawned, again)
                })
                .collect();
            let mut found = vec![self.scan(probes, own)];
            for (spawned, range) in others {
                // No thread to be had, or one that died: the work is done here.
                let share = spawned.ok().and_then(|thread| thread.join().ok());
                found.push(share.unwrap_or_else(|| self.scan(probes, range)));
            }
            found
        });
        for share in found {
            in_pass.iter_mut().zip(share).for_each(|((_, _, ranking), part)| ranking.absorb(part));
        }
        rankings
    }

    /// Ranks the rows of few identities: each is looked up, and the others are not touched.
    fn rank_people(&self, wanted: &Wanted<'_>, people: &RoaringBitmap) -> Ranking {
        let people = people.iter().filter_map(|number| self.people.get(number as usize)?.as_ref());
        let keys = people.flat_map(|person| &person.keys);
        let mut rows: Vec<usize> = keys.filter_map(|key| self.row_of_key.get(key).copied()).collect();
        rows.sort_unstable();
        let coarse = self.coarse.probe(wanted.probe);
        let shares = if rows.len() < SHARED_LOOKUPS_MIN { 1 } else { cores() };
        let mut parts = rows.chunks(rows.len().div_ceil(shares).max(1));
        let own = parts.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let coarse = &coarse;
            let others: Vec<_> = parts
                .map(|part| {
                    let rank = move || self.rank_rows(wanted, coarse, part);
                    (std::thread::Builder::new().spawn_scoped(scope, rank), part)
                })
                .collect();
            let mut ranking = self.rank_rows(wanted, coarse, own);
            for (spawned, part) in others {
                // No thread to be had, or one that died: the work is done here.
                let found = spawned.ok().and_then(|thread| thread.join().ok());
                ranking.absorb(found.unwrap_or_else(|| self.rank_rows(wanted, coarse, part)));
            }
            ranking
        })
    }

    fn rank_rows(&self, wanted: &Wanted<'_>, coarse: &CoarseProbe, rows: &[usize]) -> Ranking {
        let mut ranking = Ranking::new(wanted.capacity);
        let mut floor = ranking.floor();
        for row in rows {
            if self.coarse.reaches(coarse, *row, floor) {
                self.show(*row, wanted.probe, &mut ranking);
                floor = ranking.floor();
            }
        }
        ranking
    }

    /// Ranks a range of rows, block by block: bounds first, and in full only rows whose bound reaches what is known so far.
    fn scan(&self, probes: &[(&Wanted<'_>, &CoarseProbe)], range: std::ops::Range<usize>) -> Vec<Ranking> {
        let mut rankings: Vec<Ranking> = probes.iter().map(|(wanted, _)| Ranking::new(wanted.capacity)).collect();
        let mut block = Block::new();
        for first in range.clone().step_by(BLOCK_ROWS) {
            for ((wanted, coarse), ranking) in probes.iter().zip(&mut rankings) {
                self.coarse.bound_block(coarse, first..range.end, &mut block);
                let mut floor = ranking.floor();
                for at in block.reaching(floor) {
                    // The floor may have risen since: the second bound is held against it as it is now.
                    if self.is_wanted(first + at, wanted)
                        && self.coarse.bound_row(coarse, first + at, block.dot(at)) >= floor
                    {
                        self.show(first + at, wanted.probe, ranking);
                        floor = ranking.floor();
                    }
                }
            }
        }
        rankings
    }

    fn is_wanted(&self, row: usize, wanted: &Wanted<'_>) -> bool {
        let Some(only) = wanted.only else { return true };
        self.owners.get(row).is_some_and(|owner| only.contains(owner.identity))
    }

    /// Scores a row and shows it to a ranking.
    fn show(&self, row: usize, probe: &[f32], ranking: &mut Ranking) {
        let (Some(owner), Some(vector)) = (self.owners.get(row), self.row(row)) else { return };
        if let Some(Some(person)) = self.people.get(owner.identity as usize) {
            ranking.show(&person.id, &owner.template, Score::from_cosine(dot(probe, vector)));
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

    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the key that the next row will have: above every key so far.
    pub(super) fn next_key(&self) -> u64 {
        self.next_key
    }

    /// Returns every row's key.
    pub(super) fn keys(&self) -> Vec<u64> {
        self.owners.iter().map(|owner| owner.key).collect()
    }

    /// Returns the keys from one up to another that still have rows.
    pub(super) fn keys_between(&self, first: u64, beyond: u64) -> Vec<u64> {
        (first..beyond).filter(|key| self.row_of_key.contains_key(key)).collect()
    }

    /// Copies the rows of some keys, those that are still there.
    pub(super) fn copies(&self, keys: &[u64]) -> Vec<(u64, Vec<f32>)> {
        keys.iter().filter_map(|key| Some((*key, self.row_of(*key)?.to_vec()))).collect()
    }

    /// Copies a row and another one of the same identity, where it has one.
    pub(super) fn with_sibling(&self, key: u64) -> Option<(Vec<f32>, Option<Vec<f32>>)> {
        let owner = self.owners.get(*self.row_of_key.get(&key)?)?;
        let keys = &self.people.get(owner.identity as usize)?.as_ref()?.keys;
        let sibling = keys.iter().find(|other| **other != key).and_then(|other| self.row_of(*other));
        Some((self.row_of(key)?.to_vec(), sibling.map(<[f32]>::to_vec)))
    }

    fn row_of(&self, key: u64) -> Option<&[f32]> {
        self.row(*self.row_of_key.get(&key)?)
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

    fn brute_force_of(
        search: &ExactSearch,
        probe: &[f32],
        capacity: usize,
        only: &RoaringBitmap,
    ) -> Vec<(String, String, f32)> {
        let mut ranking = Ranking::new(capacity);
        let rows = (0..search.templates()).filter(|row| only.contains(search.owners[*row].identity));
        rows.for_each(|row| search.show(row, probe, &mut ranking));
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
            let wanted: Vec<Wanted<'_>> = (0..40)
                .map(|at| Wanted { probe: &vectors[at * 17], capacity: [1, 2, 5, 100][at % 4], only: None })
                .collect();
            for (wanted, ranking) in wanted.iter().zip(search.search_many(&wanted)) {
                let expected = brute_force(&search, wanted.probe, wanted.capacity);
                assert_eq!(named(ranking), expected);
                assert_eq!(named(search.search(wanted.probe, wanted.capacity)), expected);
            }
        }
    }

    #[test]
    fn search_of_some_identities_is_the_brute_force_over_them() {
        let people = crate::gallery::Synthetic::new(5, 64);
        let mut search = ExactSearch::new(64);
        for number in 0..2_000 {
            search.add(
                &identity(&format!("person {}", number / 2)),
                &template(&number.to_string()),
                &people.template(number, 0),
            );
        }
        // Few, some, most, all and none of a thousand.
        for step in [97, 31, 11, 2, 1, 5_000] {
            let only: RoaringBitmap =
                (1..=1_000).filter(|number| number % step == 0).map(|number| number - 1).collect();
            for (probe, capacity) in [(people.template(3, 7), 5), (people.template(1_999, 0), 1)] {
                let expected = brute_force_of(&search, &probe, capacity, &only);
                let wanted = [Wanted { probe: &probe, capacity, only: Some(&only) }];
                let found = search.search_many(&wanted).pop().expect("a ranking");
                assert_eq!(named(found), expected, "every {step}th");
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
            let only: RoaringBitmap = (0..3_000).map(|number| number * 17).collect();
            let wanted = [Wanted { probe: &probe, capacity: 20, only: Some(&only) }];
            let found = search.search_many(&wanted).pop().expect("a ranking");
            assert_eq!(named(found), brute_force_of(&search, &probe, 20, &only));
        }
    }

    #[test]
    fn rank_of_unknown_keys_is_empty() {
        let mut search = ExactSearch::new(2);
        let key = search.add(&identity("ann"), &template("1"), &[1.0, 0.0]);
        assert_eq!(search.rank(&[1.0, 0.0], &[key, key + 1], 5).into_best_first().len(), 1);
    }
}
