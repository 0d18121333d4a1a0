//! Scores of one class, counted as they come, in bounded memory.

/// Scores that are kept as they are. More are counted in bins.
const KEPT_MAX: usize = 1 << 18;

/// Bins a unit of cosine: sixteen between two thresholds in four decimals, whose edges those thresholds are. So what reaches a
/// threshold that can be stated is counted exactly. A bin is a ten-thousandth of the standard deviation of non-mated scores
/// (.05 to .07).
const BINS_A_UNIT: usize = 160_000;
const BINS: usize = 2 * BINS_A_UNIT + 1;

/// Thresholds are stated in four decimals.
const GRID: f64 = 1e4;

/// The lowest score of a bin: the same number as a threshold that is written with its decimals.
fn edge(bin: usize) -> f32 {
    ((bin as f64 - BINS_A_UNIT as f64) / BINS_A_UNIT as f64) as f32
}

/// The bin of a score: the last whose edge is not above it.
fn bin_of(score: f32) -> usize {
    let near = ((f64::from(score) + 1.0) * BINS_A_UNIT as f64) as usize;
    if score >= edge(near + 1) {
        near + 1
    } else if score < edge(near) {
        near.saturating_sub(1)
    } else {
        near
    }
}

/// Something that should be a score is none.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a score must be a cosine from -1 to 1, found {0}")]
pub struct NotAScore(pub f32);

/// Scores of one class. Up to 262,144 are kept exactly; more are counted in bins of 6.25e-6, 2.5 MB in all.
#[derive(Clone, Debug)]
pub struct ScoreCounts {
    kept: Vec<f32>,
    bins: Vec<u64>,
    count: u64,
    sum: f64,
    squares: f64,
    lowest: f32,
    highest: f32,
}

impl Default for ScoreCounts {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            bins: Vec::new(),
            count: 0,
            sum: 0.0,
            squares: 0.0,
            lowest: f32::INFINITY,
            highest: f32::NEG_INFINITY,
        }
    }
}

impl ScoreCounts {
    /// Counts a score.
    ///
    /// *Errors*: [`NotAScore`] for NaN and what lies outside [−1, 1]; nothing is counted then.
    pub fn add(&mut self, score: f32) -> Result<(), NotAScore> {
        if !(-1.0..=1.0).contains(&score) {
            return Err(NotAScore(score));
        }
        self.count += 1;
        self.sum += f64::from(score);
        self.squares += f64::from(score) * f64::from(score);
        self.lowest = self.lowest.min(score);
        self.highest = self.highest.max(score);
        self.put(score);
        Ok(())
    }

    fn put(&mut self, score: f32) {
        if self.bins.is_empty() {
            self.kept.push(score);
            if self.kept.len() > KEPT_MAX {
                self.bins = vec![0; BINS];
                std::mem::take(&mut self.kept).into_iter().for_each(|kept| self.put(kept));
            }
        } else if let Some(bin) = self.bins.get_mut(bin_of(score)) {
            *bin += 1;
        }
    }

    /// Takes over what another one counted.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        self.lowest = self.lowest.min(other.lowest);
        self.highest = self.highest.max(other.highest);
        if self.bins.is_empty() && !other.bins.is_empty() {
            let kept = std::mem::replace(&mut self.kept, other.kept);
            self.bins = other.bins;
            kept.into_iter().chain(std::mem::take(&mut self.kept)).for_each(|score| self.put(score));
            return;
        }
        self.bins.iter_mut().zip(other.bins).for_each(|(bin, more)| *bin += more);
        other.kept.into_iter().for_each(|score| self.put(score));
    }

    /// Returns how many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the mean; 0 of nothing.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// Returns the standard deviation; 0 of fewer than two.
    pub fn deviation(&self) -> f64 {
        let n = self.count as f64;
        if self.count < 2 { 0.0 } else { ((self.squares - self.sum * self.sum / n) / (n - 1.0)).max(0.0).sqrt() }
    }

    /// Puts what was counted in order.
    pub fn steps(&self) -> Steps {
        let of = if self.bins.is_empty() { Of::Scores } else { Of::Bins };
        let mut steps = Steps { total: self.count, of, ..Steps::default() };
        let mut from_the_top = |cosine: f32, count: u64| {
            if count > 0 {
                let above = steps.at_least.last().copied().unwrap_or(0);
                steps.cosines.push(cosine);
                steps.at_least.push(above + count);
            }
        };
        if self.bins.is_empty() {
            let mut sorted = self.kept.clone();
            sorted.sort_unstable_by(f32::total_cmp);
            sorted.chunk_by(|a, b| a == b).rev().for_each(|same| {
                if let Some(cosine) = same.first() {
                    from_the_top(*cosine, same.len() as u64);
                }
            });
        } else {
            self.bins.iter().enumerate().rev().for_each(|(bin, count)| from_the_top(edge(bin), *count));
        }
        steps.cosines.reverse();
        steps.at_least.reverse();
        if of == Of::Bins {
            steps.end(self.highest);
        }
        steps
    }
}

/// How many scores lie at or above each of some cosines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps {
    /// Rising.
    cosines: Vec<f32>,
    /// Of each cosine, how many scores lie at or above it. Falling.
    at_least: Vec<u64>,
    total: u64,
    of: Of,
}

/// What lies between a step's cosine and the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Of {
    /// Nothing: every score is one of the cosines.
    #[default]
    Scores,
    /// Scores within one bin from the cosine on.
    Bins,
    /// Thresholds in four decimals, each the lowest that so few scores reach.
    Grid,
}

impl Steps {
    /// Takes steps that were stored: cosines that rise, counts that do not, from all scores down to none.
    ///
    /// Returns `None` for others.
    pub fn stored(points: &[(f32, u64)], total: u64) -> Option<Self> {
        let rises = points.windows(2).all(|pair| matches!(pair, [a, b] if a.0 < b.0 && a.1 >= b.1));
        let ends = points.first().is_none_or(|first| first.1 == total) && points.last().is_none_or(|last| last.1 == 0);
        let are_cosines = points.iter().all(|(cosine, _)| (-1.1..1.1).contains(cosine));
        (rises && ends && are_cosines && (points.is_empty() == (total == 0))).then(|| {
            let (cosines, at_least) = points.iter().copied().unzip();
            Self { cosines, at_least, total, of: Of::Grid }
        })
    }

    fn end(&mut self, highest: f32) {
        if self.at_least.last().is_some_and(|count| *count > 0) {
            self.cosines.push(highest.next_up());
            self.at_least.push(0);
        }
    }

    /// Returns what is known at thresholds in four decimals, for storing: at those it answers as the whole does.
    pub fn stated(&self) -> Self {
        if self.of == Of::Grid {
            return self.clone();
        }
        let mut stated = Self { total: self.total, of: Of::Grid, ..Self::default() };
        let Some((low, high)) = self.range() else { return stated };
        let (first, last) = ((f64::from(low) * GRID).floor() as i32 - 1, (f64::from(high) * GRID).ceil() as i32 + 1);
        for at in first..=last {
            let cosine = (f64::from(at) / GRID) as f32;
            let at_least = self.at_least_at_most(cosine);
            if stated.at_least.last() != Some(&at_least) {
                stated.cosines.push(cosine);
                stated.at_least.push(at_least);
            }
        }
        stated
    }

    /// Returns each cosine and how many scores lie at or above it.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = (f32, u64)> + ExactSizeIterator {
        self.cosines.iter().copied().zip(self.at_least.iter().copied())
    }

    /// Returns how many scores there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns how many scores lie at or above a cosine, at most: exactly so up to 262,144 scores, and at thresholds in four
    /// decimals.
    pub fn at_least_at_most(&self, cosine: f32) -> u64 {
        let at = match self.of {
            Of::Scores => self.cosines.partition_point(|step| *step < cosine),
            Of::Bins => self.cosines.partition_point(|step| edge(bin_of(*step) + 1) <= cosine),
            Of::Grid => self.cosines.partition_point(|step| *step <= cosine).saturating_sub(1),
        };
        self.at_least.get(at).copied().unwrap_or(0)
    }

    /// Returns how many scores lie at or above a cosine, at least: exactly so up to 262,144 scores, and at thresholds in four
    /// decimals.
    pub fn at_least_at_least(&self, cosine: f32) -> u64 {
        let mut at = self.cosines.partition_point(|step| *step < cosine);
        // On the grid nothing changes until the last ten-thousandth before a step.
        if self.of == Of::Grid
            && let Some(step) = self.cosines.get(at)
            && f64::from(*step) - f64::from(cosine) > 0.999 / GRID
        {
            at = at.saturating_sub(1);
        }
        self.at_least.get(at).copied().unwrap_or(0)
    }

    /// Returns the lowest cosine that at most so many scores are known to reach.
    pub fn lowest_reached_by(&self, allowed: u64) -> f32 {
        let at = self.at_least.partition_point(|count| *count > allowed);
        let Some(before) = at.checked_sub(1).and_then(|before| self.cosines.get(before)) else { return -1.0 };
        match self.cosines.get(at) {
            Some(step) if self.of != Of::Scores => *step,
            _ => before.next_up(),
        }
    }

    /// Returns the highest cosine that at least so many scores reach; `None` where there are fewer, or for 0.
    pub fn highest_reached_by(&self, wanted: u64) -> Option<f32> {
        let at = self.at_least.partition_point(|count| *count >= wanted);
        self.cosines.get(at.checked_sub(1)?).copied().filter(|_| wanted > 0)
    }

    /// Returns the lowest and the highest cosine; `None` of nothing.
    pub fn range(&self) -> Option<(f32, f32)> {
        Some((*self.cosines.first()?, *self.cosines.last()?))
    }

    /// Returns the score that a share of the scores does not exceed; `None` of nothing.
    pub fn quantile(&self, share: f64) -> Option<f32> {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        // The last step with at most rank − 1 scores below.
        let at = self.at_least.partition_point(|count| self.total - count < rank);
        self.cosines.get(at.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    fn counted(scores: impl IntoIterator<Item = f32>) -> ScoreCounts {
        let mut counts = ScoreCounts::default();
        scores.into_iter().for_each(|score| counts.add(score).expect("a score"));
        counts
    }

    #[test]
    fn what_is_no_score_is_refused_and_not_counted() {
        let mut counts = ScoreCounts::default();
        for score in [f32::NAN, 1.000_001, -1.1, f32::INFINITY] {
            assert!(counts.add(score).is_err(), "{score}");
        }
        assert_eq!((counts.count(), counts.steps()), (0, Steps::default()));
    }

    #[test]
    fn ties_and_the_threshold_itself_are_counted_in() {
        let steps = counted([0.2, 0.2, 0.3, -1.0, 1.0]).steps();
        assert_eq!(steps.at_least_at_most(0.2), 4);
        assert_eq!(steps.at_least_at_most(0.2f32.next_up()), 2);
        assert_eq!((steps.at_least_at_most(-1.0), steps.at_least_at_most(1.0)), (5, 1));
        assert_eq!(steps.lowest_reached_by(4), (-1.0f32).next_up());
        assert_eq!(steps.lowest_reached_by(3), 0.2f32.next_up());
        assert_eq!((steps.lowest_reached_by(5), steps.lowest_reached_by(0)), (-1.0, 1.0f32.next_up()));
    }

    #[test]
    fn small_counts_are_merged_as_if_counted_together() {
        let mut merged = counted([0.3, -0.5]);
        merged.merge(counted([0.1, 0.3]));
        let together = counted([0.3, -0.5, 0.1, 0.3]);
        assert_eq!((merged.count(), merged.steps()), (4, together.steps()));
        assert!((merged.mean() - 0.05).abs() < 1e-7 && (merged.deviation() - together.deviation()).abs() < 1e-12);
    }

    #[test]
    fn quantiles_are_scores_by_rank() {
        let steps = counted((1..=100).map(|at| at as f32 / 128.0)).steps();
        for (share, rank) in [(0.0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (1.0, 100)] {
            assert_eq!(steps.quantile(share), Some(rank as f32 / 128.0), "{share}");
        }
        assert_eq!(ScoreCounts::default().steps().quantile(0.5), None);
    }

    #[test]
    fn bins_bound_the_exact_counts_and_equal_them_at_their_edges() {
        let mut random = Random::new(7);
        println!("seed 7");
        for bin in 0..BINS {
            assert_eq!((bin_of(edge(bin)), bin_of(edge(bin).next_down().max(-1.0))), (bin, bin.saturating_sub(1)));
        }
        let scores: Vec<f32> = (0..300_000).map(|_| (random.normal() * 0.06).clamp(-1.0, 1.0) as f32).collect();
        let whole = counted(scores.iter().copied());
        let mut merged = counted(scores[..10].iter().copied());
        merged.merge(counted(scores[10..280_000].iter().copied()));
        merged.merge(counted(scores[280_000..].iter().copied()));
        assert_eq!(whole.steps(), merged.steps());
        // Of two that are in bins both.
        let mut binned = whole.clone();
        binned.merge(whole.clone());
        let twice: Vec<(f32, u64)> = whole.steps().points().map(|(cosine, count)| (cosine, 2 * count)).collect();
        assert_eq!(binned.steps().points().collect::<Vec<_>>(), twice);
        assert_eq!(binned.count(), 600_000);
        let (steps, thin) = (whole.steps(), whole.steps().stated());
        let highest = scores.iter().copied().fold(-1.0, f32::max);
        assert_eq!(
            steps.lowest_reached_by(0),
            highest.next_up(),
            "what nothing reaches lies above the last bin's scores"
        );
        assert!(steps.of == Of::Bins && thin.cosines.len() < 6_500, "{}", thin.cosines.len());
        for _ in 0..300 {
            let stated = (random.below(4_000) as f64 / GRID) as f32;
            let count = |cosine: f32| scores.iter().filter(|score| **score >= cosine).count() as u64;
            for steps in [&steps, &thin] {
                let found = (steps.at_least_at_least(stated), steps.at_least_at_most(stated));
                assert_eq!(found, (count(stated), count(stated)), "{stated}");
            }
            let cosine = scores[random.below(scores.len())];
            for steps in [&steps, &thin] {
                assert!((steps.at_least_at_least(cosine)..=steps.at_least_at_most(cosine)).contains(&count(cosine)));
                assert_eq!(steps.at_least_at_most(1.0), 0);
            }
            let allowed = random.below(scores.len()) as u64;
            assert!(count(steps.lowest_reached_by(allowed)) <= allowed);
            let stated = thin.lowest_reached_by(allowed);
            assert!(count(stated) <= allowed && count(stated - 1.01e-4) > allowed);
        }
        assert_eq!(thin.stated(), thin);
        assert_eq!(Steps::stored(&thin.points().collect::<Vec<_>>(), thin.total()), Some(thin));
        assert_eq!(Steps::stored(&[(0.1, 2), (0.0, 0)], 2), None);
    }
}
