//! Every photo against every other: millions of scores, streaming, in bounded memory.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::analysis::{ScoreSet, Unit};
use super::bootstrap::{Comparison, Side, Total};
use super::counts::{NotAScore, ScoreCounts};
use super::random::Random;
use super::searches::{Search, Searches};
use crate::biometrics::score::Score;
use crate::biometrics::template::dot;

/// Templates of photos of known people, photos of a person one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Faces<'a> {
    /// Row by row.
    pub values: &'a [f32],
    /// Of a row.
    pub dimension: usize,
    /// Of each row, whose it is: numbers that do not fall, from 0 on.
    pub identities: &'a [u32],
    /// Of each grouping, of each row, which group it is in; [`NO_GROUP`]: in none.
    pub groupings: &'a [Vec<u32>],
}

/// The group of photos that are in none.
pub const NO_GROUP: u32 = u32::MAX;

/// What came of it.
#[derive(Debug)]
pub struct CrossScores {
    /// All pairs.
    pub all: ScoreSet,
    /// Of each grouping, of each group, the pairs within it.
    pub groups: Vec<Vec<ScoreSet>>,
    /// Every probe, or as many as are searched for.
    pub searches: Searches,
}

/// Rows that are scored together, and columns: together they fit a core's cache.
const ROWS: usize = 32;
const COLUMNS: usize = 64;

/// Probes that are searched for at most: each takes a whole row, where pairs take half of one.
const PROBES_MAX: usize = 10_000;

/// The worst comparisons that are kept for the bootstrap: 25 MB, and FMRs up to .1 of twenty million pairs.
const WORST_MAX: usize = 1 << 21;
/// Of each group.
const WORST_OF_GROUP_MAX: usize = 1 << 17;

impl Faces<'_> {
    /// Scores all pairs on some threads, and searches for photos as probes: each among all other people, and its own person's
    /// other photos; an identity scores by its best photo. The order in which people join a gallery is by chance, by the seed.
    /// `done` is told how many rows are.
    ///
    /// *Errors*: [`NotAScore`] where a template is no vector of finite numbers.
    ///
    /// *Cost*: some 10 million scores a second and core, of 512 values.
    pub fn cross(&self, seed: u64, threads: usize, done: impl Fn(u64) + Sync) -> Result<CrossScores, NotAScore> {
        let people = self.identities.last().map_or(0, |last| *last as usize + 1);
        let blocks = self.identities.len().div_ceil(ROWS);
        let mut order: Vec<u32> = (0..people as u32).collect();
        Random::new(seed).shuffle(&mut order);
        let shared = Shared {
            faces: self,
            people,
            order,
            sizes: gallery_sizes(people),
            probe_every: blocks.div_ceil((PROBES_MAX / ROWS).max(1)).max(1),
            next: AtomicUsize::new(0),
            rows_done: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        let parts = std::thread::scope(|scope| {
            let work = || Part::new(&shared).run(&done);
            let running: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(self.together(parts, &shared))
    }

    fn row(&self, row: usize) -> &[f32] {
        self.values.get(row * self.dimension..(row + 1) * self.dimension).unwrap_or_default()
    }

    fn group_counts(&self) -> impl Iterator<Item = usize> {
        self.groupings
            .iter()
            .map(|groups| groups.iter().filter(|group| **group != NO_GROUP).max().map_or(0, |last| *last as usize + 1))
    }

    fn together(&self, parts: Vec<Part>, shared: &Shared) -> CrossScores {
        let mut parts = parts.into_iter();
        let mut whole = parts.next().unwrap_or_else(|| Part::new(shared));
        for part in parts {
            whole.all.merge(part.all);
            for (groups, more) in whole.groups.iter_mut().zip(part.groups) {
                groups.iter_mut().zip(more).for_each(|(group, more)| group.merge(more));
            }
            whole.searches.extend(part.searches);
        }
        whole.searches.sort_by_key(|(row, _)| *row);
        let photos = |is_in: &dyn Fn(usize) -> bool| {
            let mut photos = vec![0u32; shared.people];
            for (row, identity) in self.identities.iter().enumerate().filter(|(row, _)| is_in(*row)) {
                debug_assert!(row < self.identities.len());
                if let Some(count) = photos.get_mut(*identity as usize) {
                    *count += 1;
                }
            }
            photos
        };
        let groups = whole.groups.into_iter().zip(self.groupings).map(|(groups, of_row)| {
            let set = |(number, scores): (usize, Scores)| {
                scores.set(photos(&|row| of_row.get(row).is_some_and(|group| *group as usize == number)))
            };
            groups.into_iter().enumerate().map(set).collect()
        });
        CrossScores {
            groups: groups.collect(),
            all: whole.all.set(photos(&|_| true)),
            searches: Searches {
                sizes: shared.sizes.clone(),
                searches: whole.searches.into_iter().map(|(_, search)| search).collect(),
            },
        }
    }
}

/// Gallery sizes to tell about: 1, 3, 10, 30… people up to all others.
fn gallery_sizes(people: usize) -> Vec<usize> {
    let all = people.saturating_sub(1);
    let mut sizes: Vec<usize> = (2..18).map(|at| 10usize.pow(at / 2) * if at % 2 == 0 { 1 } else { 3 }).collect();
    sizes.retain(|size| *size < all);
    sizes.extend(Some(all).filter(|all| *all > 0));
    sizes
}

/// What threads share.
struct Shared<'a> {
    faces: &'a Faces<'a>,
    people: usize,
    /// In which people join galleries.
    order: Vec<u32>,
    sizes: Vec<usize>,
    /// Every so many blocks of rows are probes.
    probe_every: usize,
    next: AtomicUsize,
    rows_done: AtomicU64,
    failed: AtomicBool,
}

/// Scores of a thread, or of all.
struct Scores {
    mated: ScoreCounts,
    non_mated: ScoreCounts,
    lowest: Worst,
    highest: Worst,
}

impl Scores {
    fn new(worst_max: usize) -> Self {
        let worst = || Worst { kept: Vec::new(), max: worst_max, limit: f32::NEG_INFINITY };
        Self { mated: ScoreCounts::default(), non_mated: ScoreCounts::default(), lowest: worst(), highest: worst() }
    }

    fn add(&mut self, score: f32, a: u32, b: u32) -> Result<(), NotAScore> {
        if a == b {
            self.mated.add(score)?;
            self.lowest.add(-score, a, b);
        } else {
            self.non_mated.add(score)?;
            self.highest.add(score, a, b);
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.mated.merge(other.mated);
        self.non_mated.merge(other.non_mated);
        self.lowest.merge(other.lowest);
        self.highest.merge(other.highest);
    }

    fn set(self, photos: Vec<u32>) -> ScoreSet {
        let units = photos.len();
        let mut lowest = self.lowest.into_kept();
        lowest.iter_mut().for_each(|comparison| comparison.score = -comparison.score);
        ScoreSet {
            mated: self.mated,
            non_mated: self.non_mated,
            mated_side: Side::mated(lowest, Total::WithinPairs(photos.clone())),
            non_mated_side: Side::non_mated(self.highest.into_kept(), Total::CrossPairs(photos)),
            unit: Unit::Identities,
            units,
        }
    }
}

/// The comparisons with the highest values. Which of several with the same value are kept does not depend on the order in
/// which they come.
struct Worst {
    kept: Vec<Comparison>,
    max: usize,
    /// Values below it are not among them.
    limit: f32,
}

impl Worst {
    fn add(&mut self, score: f32, a: u32, b: u32) {
        if score >= self.limit {
            self.kept.push(Comparison { score, a, b });
            if self.kept.len() >= 2 * self.max {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        if self.kept.len() > self.max && self.max > 0 {
            let order = |a: &Comparison, b: &Comparison| b.score.total_cmp(&a.score).then((a.a, a.b).cmp(&(b.a, b.b)));
            let (_, last, _) = self.kept.select_nth_unstable_by(self.max - 1, order);
            self.limit = last.score;
            self.kept.truncate(self.max);
        }
    }

    fn merge(&mut self, other: Self) {
        self.limit = self.limit.max(other.limit);
        self.kept.extend(other.kept);
        self.cut();
    }

    fn into_kept(mut self) -> Vec<Comparison> {
        self.cut();
        self.kept
    }
}

/// What one thread does.
struct Part<'a> {
    shared: &'a Shared<'a>,
    all: Scores,
    groups: Vec<Vec<Scores>>,
    searches: Vec<(usize, Search)>,
}

impl<'a> Part<'a> {
    fn new(shared: &'a Shared<'a>) -> Self {
        let groups = shared.faces.group_counts();
        let groups = groups.map(|count| (0..count).map(|_| Scores::new(WORST_OF_GROUP_MAX)).collect());
        Self { shared, all: Scores::new(WORST_MAX), groups: groups.collect(), searches: Vec::new() }
    }

    fn run(mut self, done: &(impl Fn(u64) + Sync)) -> Result<Self, NotAScore> {
        let shared = self.shared;
        let count = shared.faces.identities.len();
        let mut scores: Vec<f32> = Vec::new();
        loop {
            let block = shared.next.fetch_add(1, Ordering::Relaxed);
            let rows = block * ROWS..((block + 1) * ROWS).min(count);
            if rows.is_empty() || shared.failed.load(Ordering::Relaxed) {
                return Ok(self);
            }
            let is_probes = block.is_multiple_of(shared.probe_every);
            let from = if is_probes { 0 } else { rows.start };
            score_block(shared.faces, rows.clone(), from, &mut scores);
            for (row, scores) in rows.clone().zip(scores.chunks_exact(count - from)) {
                let counted = self.count_row(row, scores.get(row + 1 - from..).unwrap_or_default());
                if let Err(error) = counted {
                    shared.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                if is_probes {
                    let search = shared.search(row, scores);
                    self.searches.push((row, search));
                }
            }
            done(shared.rows_done.fetch_add(rows.len() as u64, Ordering::Relaxed) + rows.len() as u64);
        }
    }

    /// Counts a row's scores with the rows after it.
    fn count_row(&mut self, row: usize, scores: &[f32]) -> Result<(), NotAScore> {
        let Faces { identities, groupings, .. } = *self.shared.faces;
        let after = identities.get(row + 1..).unwrap_or_default();
        let Some(own) = identities.get(row).copied() else { return Ok(()) };
        for (score, other) in scores.iter().zip(after) {
            self.all.add(*score, own, *other)?;
        }
        for (of_row, groups) in groupings.iter().zip(&mut self.groups) {
            let Some(group) = of_row.get(row).copied() else { continue };
            let Some(counts) = groups.get_mut(group as usize) else { continue };
            let groups_after = of_row.get(row + 1..).unwrap_or_default();
            for ((score, other), group_of_other) in scores.iter().zip(after).zip(groups_after) {
                if *group_of_other == group {
                    counts.add(*score, own, *other)?;
                }
            }
        }
        Ok(())
    }
}

/// Scores some rows with all from one on. Every score is that of verification, from the same function.
fn score_block(faces: &Faces, rows: std::ops::Range<usize>, from: usize, scores: &mut Vec<f32>) {
    let count = faces.identities.len() - from;
    scores.clear();
    scores.resize(rows.len() * count, 0.0);
    for tile in (0..count).step_by(COLUMNS) {
        let columns = tile..(tile + COLUMNS).min(count);
        for (row, scores) in rows.clone().zip(scores.chunks_exact_mut(count)) {
            let probe = faces.row(row);
            let scores = scores.get_mut(columns.clone()).unwrap_or_default();
            for (column, score) in columns.clone().zip(scores) {
                *score = Score::from_cosine(dot(probe, faces.row(from + column))).cosine();
            }
        }
    }
}

impl Shared<'_> {
    /// Searches for a row, whose scores with all rows are given.
    fn search(&self, row: usize, scores: &[f32]) -> Search {
        let identities = self.faces.identities;
        let own = identities.get(row).copied().unwrap_or_default();
        let mut best = vec![f32::NEG_INFINITY; self.people];
        for (column, (score, identity)) in scores.iter().zip(identities).enumerate() {
            if column != row
                && let Some(best) = best.get_mut(*identity as usize)
            {
                *best = best.max(*score);
            }
        }
        let mate = best.get(own as usize).copied().filter(|mate| mate.is_finite());
        let mut search = Search { identity: own, mate, best_other: Vec::new(), above_mate: Vec::new() };
        // Each probe's galleries begin with another person, so that they are not the same few for all.
        let start = (row * 7_919) % self.order.len().max(1);
        let joining = self.order.iter().cycle().skip(start).take(self.people).filter(|identity| **identity != own);
        let (mut highest, mut above) = (f32::NEG_INFINITY, 0u32);
        let mut sizes = self.sizes.iter().peekable();
        for (before, identity) in joining.enumerate() {
            let score = best.get(*identity as usize).copied().unwrap_or(f32::NEG_INFINITY);
            highest = highest.max(score);
            // The mate is one of the gallery: N − 1 others.
            if sizes.peek() == Some(&&(before + 1)) {
                sizes.next();
                search.best_other.push(highest);
                search.above_mate.push(above);
            }
            above += u32::from(mate.is_some_and(|mate| score >= mate));
        }
        search
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit vectors around people's centres.
    fn people(photos: &[u32], dimension: usize, seed: u64) -> (Vec<f32>, Vec<u32>) {
        let mut random = Random::new(seed);
        let (mut values, mut identities) = (Vec::new(), Vec::new());
        for (identity, photos) in (0..).zip(photos) {
            let center: Vec<f64> = (0..dimension).map(|_| random.normal()).collect();
            for _ in 0..*photos {
                let row: Vec<f64> = center.iter().map(|value| value + 0.8 * random.normal()).collect();
                let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
                values.extend(row.iter().map(|value| (value / length) as f32));
                identities.push(identity);
            }
        }
        (values, identities)
    }

    #[test]
    fn all_pairs_groups_and_searches_equal_the_plain_loops() {
        println!("seed 3");
        let photos: Vec<u32> = (0..70).map(|at| 1 + at % 3).collect();
        let (values, identities) = people(&photos, 24, 3);
        let identities = identities.as_slice();
        let groups: Vec<u32> = identities.iter().map(|id| if *id == 5 { NO_GROUP } else { id % 2 }).collect();
        let groupings = [groups.clone()];
        let faces = Faces { values: &values, dimension: 24, identities, groupings: &groupings };
        let found = faces.cross(1, 3, |_| {}).expect("scores");
        let score = |a: usize, b: usize| Score::from_cosine(dot(faces.row(a), faces.row(b))).cosine();
        let (mut mated, mut non_mated, mut of_group) = (Vec::new(), Vec::new(), 0);
        for a in 0..identities.len() {
            for b in a + 1..identities.len() {
                let list = if identities[a] == identities[b] { &mut mated } else { &mut non_mated };
                list.push(score(a, b));
                of_group += u64::from(groups[a] == 1 && groups[b] == 1 && identities[a] != identities[b]);
            }
        }
        let sorted = |mut scores: Vec<f32>| {
            scores.sort_by(f32::total_cmp);
            scores
        };
        let listed = |side: &Side| sorted(side.listed().iter().map(|comparison| comparison.score).collect());
        assert_eq!(listed(&found.all.mated_side), sorted(mated.clone()));
        assert_eq!(listed(&found.all.non_mated_side), sorted(non_mated.clone()));
        assert_eq!((found.all.mated.count(), found.all.mated_side.count()), (mated.len() as u64, mated.len() as u64));
        assert_eq!(found.all.non_mated_side.count(), non_mated.len() as u64);
        let group = &found.groups[0][1];
        assert_eq!((group.non_mated.count(), group.non_mated_side.count()), (of_group, of_group));

        let searches = &found.searches;
        assert_eq!((searches.sizes.as_slice(), searches.searches.len()), (&[10, 30, 69][..], identities.len()));
        for (row, search) in searches.searches.iter().enumerate() {
            let own = identities[row];
            let others = || (0..identities.len()).filter(|other| *other != row);
            let of = |is_mate: bool| others().filter(move |other| (identities[*other] == own) == is_mate);
            let best = of(false).map(|other| score(row, other)).fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(search.best_other[2], best);
            assert!(search.best_other[0] <= search.best_other[1] && search.best_other[1] <= best);
            let mate = of(true).map(|other| score(row, other)).reduce(f32::max);
            assert_eq!(search.mate, mate);
        }
        let again = faces.cross(1, 1, |_| {}).expect("scores");
        assert_eq!(again.searches.searches, searches.searches, "however many threads");
    }

    #[test]
    fn worst_keeps_the_same_whatever_the_order() {
        let all: Vec<(f32, u32)> = (0..1_000).map(|at| ((at % 50) as f32, at)).collect();
        let kept = |order: &mut dyn Iterator<Item = &(f32, u32)>| {
            let mut worst = Worst { kept: Vec::new(), max: 70, limit: f32::NEG_INFINITY };
            order.for_each(|(score, a)| worst.add(*score, *a, 0));
            let mut kept: Vec<u32> = worst.into_kept().into_iter().map(|comparison| comparison.a).collect();
            kept.sort();
            kept
        };
        let forward = kept(&mut all.iter());
        assert_eq!((forward.len(), &forward), (70, &kept(&mut all.iter().rev())));
        assert!(forward.iter().filter(|a| **a % 50 >= 47).count() == 60);
    }

    #[test]
    fn template_that_is_no_number_is_refused() {
        let values = [1.0, 0.0, f32::NAN, 0.0];
        let faces = Faces { values: &values, dimension: 2, identities: &[0, 1], groupings: &[] };
        assert!(faces.cross(1, 1, |_| {}).is_err());
    }
}
