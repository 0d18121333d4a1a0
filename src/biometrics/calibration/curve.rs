//! What an operating point costs: thresholds and error rates of counted scores.

use super::counts::{ScoreCounts, Steps};
use super::rate::{Interval, Rate, comparisons_needed, fmr_of_fpir, fpir_of_fmr};

/// Why a curve names no threshold for a rate.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NoThreshold {
    /// Too few comparisons were counted to claim it, by the rule of three.
    #[error("not enough comparisons: needs about {needed} non-mated ones, has {found}")]
    NotEnough {
        /// How many it takes.
        needed: u64,
        /// How many there are.
        found: u64,
    },
    /// Too many non-mated scores are 1, such as of one photo under two names.
    #[error("{0} non-mated scores are 1: no threshold is above them")]
    Identical(u64),
}

/// A threshold and what was counted at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// A cosine: scores at or above it match.
    pub threshold: f32,
    /// False match rate.
    pub fmr: Rate,
    /// False non-match rate.
    pub fnmr: Rate,
}

/// How much wider the intervals at a threshold are than those of independent comparisons would be: the ratio of variances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inflation {
    /// The threshold.
    pub threshold: f32,
    /// Of the FMR.
    pub fmr: f64,
    /// Of the FNMR.
    pub fnmr: f64,
}

/// Mated and non-mated scores, counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Of the same person.
    pub mated: Steps,
    /// Of two people.
    pub non_mated: Steps,
    /// By rising threshold; empty where comparisons are taken to be independent.
    pub inflation: Vec<Inflation>,
}

/// Thresholds are stated in four decimals: what is printed is what was counted.
const DECIMALS: f64 = 1e4;

impl Curve {
    /// Puts counted scores in order.
    pub fn of(mated: &ScoreCounts, non_mated: &ScoreCounts) -> Self {
        Self { mated: mated.steps(), non_mated: non_mated.steps(), inflation: Vec::new() }
    }

    /// Returns what is known at thresholds in four decimals, for storing.
    pub fn stated(&self) -> Self {
        Self { mated: self.mated.stated(), non_mated: self.non_mated.stated(), inflation: self.inflation.clone() }
    }

    /// Returns the false match rate at a threshold: non-mated scores at or above it.
    pub fn fmr(&self, threshold: f32) -> Rate {
        let (events, of) = (self.non_mated.at_least_at_most(threshold), self.non_mated.total());
        Rate::with_inflation(events, of, self.inflation_at(threshold).fmr)
    }

    /// Returns the false non-match rate at a threshold: mated scores below it.
    pub fn fnmr(&self, threshold: f32) -> Rate {
        let of = self.mated.total();
        let events = of - self.mated.at_least_at_least(threshold);
        Rate::with_inflation(events, of, self.inflation_at(threshold).fnmr)
    }

    /// Returns both rates at a threshold.
    pub fn at(&self, threshold: f32) -> Point {
        Point { threshold, fmr: self.fmr(threshold), fnmr: self.fnmr(threshold) }
    }

    /// The nearest that was found.
    fn inflation_at(&self, threshold: f32) -> Inflation {
        let nearest = self
            .inflation
            .iter()
            .min_by(|a, b| (a.threshold - threshold).abs().total_cmp(&(b.threshold - threshold).abs()));
        nearest.copied().unwrap_or(Inflation { threshold, fmr: 0.0, fnmr: 0.0 })
    }

    /// Returns the lowest threshold, in four decimals, whose FMR is no more than a rate.
    ///
    /// *Errors*: [`NoThreshold`]. A rate must be above 0.
    pub fn threshold_for_fmr(&self, fmr: f64) -> Result<f32, NoThreshold> {
        threshold_for(&self.non_mated, fmr, comparisons_needed(fmr))
    }

    /// Returns the thresholds between which the one that truly has an FMR lies, with 95 % certainty: those whose intervals
    /// hold it. No upper end where the highest score is not high enough to tell.
    ///
    /// *Source*: R. S. Woodruff, "Confidence intervals for medians and other position measures", JASA 47 (1952).
    pub fn threshold_interval(&self, fmr: f64, near: f32) -> (f32, Option<f32>) {
        let of = self.non_mated.total();
        let inflation = self.inflation_at(near).fmr;
        let interval =
            |events: u64| Rate::with_variance(events, of, inflation * binomial_variance(events, of)).interval;
        let fewest = first_with(0, of, |events| interval(events).high >= fmr);
        let more = first_with(fewest, of + 1, |events| interval(events.min(of)).low > fmr);
        (self.non_mated.lowest_reached_by(more.saturating_sub(1)), self.non_mated.highest_reached_by(fewest))
    }

    /// Returns the probability that a search of a gallery of this size returns anybody at all for a stranger, with the ends
    /// that the FMR's interval has: 1 − (1 − FMR)^N.
    pub fn fpir(&self, threshold: f32, gallery_size: u64) -> (f64, Interval) {
        let fmr = self.fmr(threshold);
        let of = |fmr: f64| fpir_of_fmr(fmr, gallery_size);
        (of(fmr.value()), Interval { low: of(fmr.interval.low), high: of(fmr.interval.high) })
    }

    /// Returns the lowest threshold at which that probability is no more than a rate.
    ///
    /// *Errors*: [`NoThreshold`]. A rate must be above 0.
    pub fn threshold_for_fpir(&self, fpir: f64, gallery_size: u64) -> Result<f32, NoThreshold> {
        self.threshold_for_fmr(fmr_of_fpir(fpir, gallery_size))
    }

    /// Returns the equal error rate and the threshold at which FNMR reaches FMR; `None` where a class is missing.
    ///
    /// The steps of the ROC are joined by straight lines, as is usual.
    pub fn equal_error(&self) -> Option<(f64, f32)> {
        let (mated, non_mated) = (self.mated.total() as f64, self.non_mated.total() as f64);
        if mated == 0.0 || non_mated == 0.0 {
            return None;
        }
        let mut rejected_before = 0.0;
        let mut mated_steps = self.mated.points().peekable();
        while let Some((cosine, at_least)) = mated_steps.next() {
            let above = mated_steps.peek().map_or(0, |(_, at_least)| *at_least);
            let (fnmr, fnmr_after) = (rejected_before, (self.mated.total() - above) as f64 / mated);
            let fmr = self.non_mated.at_least_at_most(cosine) as f64 / non_mated;
            let fmr_after = self.non_mated.at_least_at_most(cosine.next_up()) as f64 / non_mated;
            if fnmr_after >= fmr_after {
                let gap = fmr - fnmr;
                let rate = if gap <= 0.0 {
                    fnmr
                } else {
                    fnmr + (fnmr_after - fnmr) * gap / (fnmr_after - fnmr + fmr - fmr_after)
                };
                return Some((rate, cosine));
            }
            rejected_before = fnmr_after;
            debug_assert!(at_least > above);
        }
        None
    }

    /// Returns the threshold, in four decimals, at which the most comparisons are decided rightly, and how many those are;
    /// `None` of nothing.
    pub fn best_accuracy(&self) -> Option<(f32, u64)> {
        let right = |threshold: f32| {
            let non_mated = self.non_mated.total() - self.non_mated.at_least_at_most(threshold);
            self.mated.at_least_at_least(threshold) + non_mated
        };
        let no_match = self.non_mated.points().next_back().map(|(cosine, _)| cosine.next_up().min(1.0));
        let candidates = self.mated.points().map(|(cosine, _)| cosine).chain(no_match);
        let stated = candidates.map(|cosine| (f64::from(cosine) * DECIMALS).floor() / DECIMALS);
        let counted = stated.map(|threshold| (threshold as f32, right(threshold as f32)));
        counted.reduce(|best, other| if other.1 > best.1 { other } else { best })
    }

    /// Returns the area under the ROC: how often a mated score is above a non-mated one, ties by half.
    pub fn area(&self) -> f64 {
        let mut sum = 0.0;
        let mut points = self.mated.points().peekable();
        while let Some((cosine, at_least)) = points.next() {
            let count = at_least - points.peek().map_or(0, |(_, above)| *above);
            let below = self.non_mated.total() - self.non_mated.at_least_at_most(cosine);
            let not_above = self.non_mated.total() - self.non_mated.at_least_at_most(cosine.next_up());
            sum += count as f64 * (below + not_above) as f64 * 0.5;
        }
        sum / (self.mated.total() as f64 * self.non_mated.total() as f64).max(1.0)
    }
}

/// The first number from `low` on that has a property which all above it have too; `high` where none has.
fn first_with(mut low: u64, mut high: u64, has: impl Fn(u64) -> bool) -> u64 {
    while low < high {
        let middle = low + (high - low) / 2;
        if has(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// The variance of a rate of independent comparisons.
pub(super) fn binomial_variance(events: u64, of: u64) -> f64 {
    let rate = events as f64 / of.max(1) as f64;
    rate * (1.0 - rate) / of.max(1) as f64
}

/// Returns the lowest threshold, in four decimals, that no more than a share of scores reaches.
///
/// *Errors*: [`NoThreshold`].
pub fn threshold_for(scores: &Steps, rate: f64, needed: u64) -> Result<f32, NoThreshold> {
    if scores.total() < needed {
        return Err(NoThreshold::NotEnough { needed, found: scores.total() });
    }
    // A share such as 1e-3 of 3,000 is 3 and not 2.999….
    let allowed = (rate * scores.total() as f64 * (1.0 + 1e-12)).floor() as u64;
    let lowest = scores.lowest_reached_by(allowed);
    // Not rounded up in f64: a threshold on the grid is a little above its decimals there, and would move to the next.
    let mut tenthousandths = (f64::from(lowest) * DECIMALS).floor();
    while ((tenthousandths / DECIMALS) as f32) < lowest {
        tenthousandths += 1.0;
    }
    let threshold = (tenthousandths / DECIMALS) as f32;
    if threshold > 1.0 {
        return Err(NoThreshold::Identical(scores.at_least_at_most(1.0)));
    }
    Ok(threshold)
}

/// Returns d', the distance of two means in their common standard deviation.
pub fn d_prime(mated: &ScoreCounts, non_mated: &ScoreCounts) -> f64 {
    let spread = ((mated.deviation().powi(2) + non_mated.deviation().powi(2)) / 2.0).sqrt();
    (mated.mean() - non_mated.mean()) / spread
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::super::random::Random;
    use super::*;

    /// Scores at the quantiles of a normal distribution: what is counted equals the closed form to 1/n.
    fn normal(mean: f64, deviation: f64, count: usize) -> ScoreCounts {
        let distribution = Normal::new(mean, deviation).expect("a distribution");
        let mut counts = ScoreCounts::default();
        for at in 0..count {
            let share = (at as f64 + 0.5) / count as f64;
            counts.add(distribution.inverse_cdf(share) as f32).expect("a score");
        }
        counts
    }

    fn counted(scores: &[f32]) -> ScoreCounts {
        let mut counts = ScoreCounts::default();
        scores.iter().for_each(|score| counts.add(*score).expect("a score"));
        counts
    }

    #[test]
    fn rates_of_normal_scores_are_their_closed_forms() {
        // Once exact, once in bins.
        for (mated_count, non_mated_count) in [(20_000, 200_000), (300_000, 1_000_000)] {
            let (mated, non_mated) = (normal(0.5, 0.1, mated_count), normal(0.0, 0.06, non_mated_count));
            let curve = Curve::of(&mated, &non_mated);
            let (m, n) = (Normal::new(0.5, 0.1).expect("m"), Normal::new(0.0, 0.06).expect("n"));
            for curve in [&curve, &curve.stated()] {
                for threshold in [0.05f32, 0.1, 0.15, 0.2, 0.3] {
                    let fmr = n.sf(f64::from(threshold));
                    let found = curve.fmr(threshold).value();
                    assert!((found - fmr).abs() < 1.1e-5 + fmr * 1e-3, "{threshold}: {found} {fmr}");
                    let fnmr = m.cdf(f64::from(threshold));
                    let found = curve.fnmr(threshold).value();
                    assert!((found - fnmr).abs() < 1.2e-4 + fnmr * 1e-3, "{threshold}: {found} {fnmr}");
                }
                for fmr in [1e-1, 1e-2, 1e-3, 1e-4] {
                    let threshold = curve.threshold_for_fmr(fmr).expect("a threshold");
                    let expected = n.inverse_cdf(1.0 - fmr);
                    assert!((f64::from(threshold) - expected).abs() < 1e-3, "{fmr}: {threshold} {expected}");
                    assert!(curve.fmr(threshold).value() <= fmr);
                }
            }
            // FMR = FNMR where t / .06 = (.5 − t) / .1.
            let (rate, threshold) = curve.equal_error().expect("both classes");
            // Of 20,000 mated scores two are .0016 apart there, and each is 5e-5 of the FNMR.
            assert!((f64::from(threshold) - 0.1875).abs() < 2e-3, "{threshold}");
            assert!((rate - n.sf(0.1875)).abs() < 5e-5, "{rate}");
            assert!((d_prime(&mated, &non_mated) - 0.5 / ((0.01f64 + 0.0036) / 2.0).sqrt()).abs() < 1e-2);
            let area = Normal::new(0.0, 1.0).expect("a distribution").cdf(0.5 / (0.01f64 + 0.0036).sqrt());
            assert!((curve.area() - area).abs() < 1e-5, "{} {area}", curve.area());
            let (fpir, interval) = curve.fpir(0.15, 100);
            assert!((fpir - (1.0 - (1.0 - n.sf(0.15)).powi(100))).abs() < 5e-3, "{fpir}");
            assert!(interval.low < fpir && fpir < interval.high);
        }
    }

    #[test]
    fn rate_without_enough_comparisons_is_refused_with_how_many_it_takes() {
        let curve = Curve::of(&normal(0.6, 0.1, 100), &normal(0.0, 0.06, 2_999));
        assert_eq!(curve.threshold_for_fmr(1e-3), Err(NoThreshold::NotEnough { needed: 3_000, found: 2_999 }));
        assert!(curve.threshold_for_fmr(1.1e-3).is_ok());
        assert_eq!(
            curve.threshold_for_fpir(1e-3, 1_000).map_err(|error| error.to_string()),
            Err("not enough comparisons: needs about 2998502 non-mated ones, has 2999".to_owned())
        );
        let same = Curve::of(&counted(&[0.5]), &counted(&[1.0; 40]));
        assert_eq!(same.threshold_for_fmr(0.1), Err(NoThreshold::Identical(40)));
    }

    #[test]
    fn thresholds_of_a_rate_lie_between_those_whose_intervals_hold_it() {
        let scores: Vec<f32> = (0..1_000).map(|at| at as f32 / 1_024.0).collect();
        let curve = Curve::of(&ScoreCounts::default(), &counted(&scores));
        let near = curve.threshold_for_fmr(0.05).expect("a threshold");
        // Each number of events asked for by itself.
        let expected = |inflation: f64| {
            let holds = |events: &u64| {
                let variance = inflation * binomial_variance(*events, 1_000);
                let Interval { low, high } = Rate::with_variance(*events, 1_000, variance).interval;
                low <= 0.05 && 0.05 <= high
            };
            let holding: Vec<u64> = (0..=1_000).filter(holds).collect();
            let (fewest, most) = (holding[0] as usize, holding[holding.len() - 1] as usize);
            (scores[1_000 - most - 1].next_up(), Some(scores[1_000 - fewest]))
        };
        let (low, high) = curve.threshold_interval(0.05, near);
        assert_eq!((low, high), expected(0.0));
        assert!(low < near && high.is_some_and(|high| near < high));
        // By what was found nearest to the threshold.
        let inflation =
            [(-0.9, 1.0), (0.9, 9.0), (1.0, 1.0)].map(|(threshold, fmr)| Inflation { threshold, fmr, fnmr: 1.0 });
        let inflated = Curve { inflation: inflation.into(), ..curve.clone() };
        assert_eq!(inflated.threshold_interval(0.05, near), expected(9.0));
        // Of a rate that none of a thousand may have reached there is no upper end.
        assert_eq!(curve.threshold_interval(1e-3, 0.99).1, None);
    }

    #[test]
    fn share_that_is_a_whole_number_of_scores_allows_that_many() {
        // .29 · 100 is a little less than 29 in floating point.
        let curve =
            Curve::of(&ScoreCounts::default(), &counted(&(0..100).map(|at| at as f32 / 128.0).collect::<Vec<_>>()));
        let threshold = curve.threshold_for_fmr(0.29).expect("a threshold");
        assert_eq!(curve.fmr(threshold).events, 29);
        assert_eq!(binomial_variance(25, 100), 0.25 * 0.75 / 100.0);
    }

    #[test]
    fn ties_at_the_threshold_match() {
        let curve = Curve::of(&counted(&[0.2, 0.2, 0.5]), &counted(&[0.1, 0.2, 0.2, 0.1]));
        assert_eq!((curve.fmr(0.2).events, curve.fnmr(0.2).events), (2, 0));
        assert_eq!((curve.fmr(0.2f32.next_up()).events, curve.fnmr(0.2f32.next_up()).events), (0, 2));
        // From (FMR 1/2, FNMR 0) straight to (0, 2/3): they are equal at 2/7.
        let (rate, threshold) = curve.equal_error().expect("both classes");
        assert!((rate - 2.0 / 7.0).abs() < 1e-12 && threshold == 0.2);
        // (2·(2/4) + 1·1 with the tied half) / 3 by hand: each .2 beats two and ties with two of four.
        assert!((curve.area() - (2.0 * 0.75 + 1.0) / 3.0).abs() < 1e-12);
        assert_eq!(curve.best_accuracy(), Some((0.2, 5)));
    }

    #[test]
    fn separated_classes_have_no_error_and_a_missing_one_no_rate() {
        let curve = Curve::of(&counted(&[0.5, 0.6]), &counted(&[0.1, 0.2]));
        assert_eq!(curve.equal_error().map(|(rate, _)| rate), Some(0.0));
        assert_eq!(curve.best_accuracy(), Some((0.5, 4)));
        assert_eq!(curve.area(), 1.0);
        let mated_alone = Curve::of(&counted(&[0.5]), &ScoreCounts::default());
        assert_eq!(mated_alone.equal_error(), None);
        assert_eq!(mated_alone.fmr(0.1).interval, Interval { low: 0.0, high: 1.0 });
        assert!(mated_alone.threshold_for_fmr(0.5).is_err());
        assert_eq!(Curve::default().best_accuracy(), None);
    }

    #[test]
    fn threshold_in_four_decimals_is_the_least_that_keeps_the_rate() {
        let mut random = Random::new(11);
        println!("seed 11");
        for _ in 0..200 {
            let scores: Vec<f32> = (0..400).map(|_| (random.normal() * 0.1).clamp(-1.0, 1.0) as f32).collect();
            let curve = Curve::of(&counted(&[0.5]), &counted(&scores));
            let rate = 0.01 + 0.3 * random.unit();
            let threshold = curve.threshold_for_fmr(rate).expect("a threshold");
            let count = |at: f32| scores.iter().filter(|score| **score >= at).count() as f64;
            assert!(count(threshold) <= rate * 400.0 && count(threshold - 1.01e-4) > rate * 400.0);
            assert_eq!(format!("{threshold:.4}").parse(), Ok(threshold));
            assert_eq!(curve.stated().threshold_for_fmr(rate), Ok(threshold), "once stored as before");
        }
    }
}
