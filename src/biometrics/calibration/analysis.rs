//! Everything that a set of scores tells.

use super::bootstrap::{Bootstrap, Side, Variances};
use super::counts::ScoreCounts;
use super::curve::{Curve, Inflation, NoThreshold, Point, binomial_variance, d_prime};
use super::rate::{Interval, Rate};

/// What is drawn by the bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// People.
    Identities,
    /// Photos, where it is not known whose they are.
    Photos,
}

/// Scores of both classes.
#[derive(Clone, Debug)]
pub struct ScoreSet {
    /// Of the same person.
    pub mated: ScoreCounts,
    /// Of two people.
    pub non_mated: ScoreCounts,
    /// The same, as far as the bootstrap needs them.
    pub mated_side: Side,
    /// The same, as far as the bootstrap needs them.
    pub non_mated_side: Side,
    /// What the sides' numbers mean.
    pub unit: Unit,
    /// How many of them there are.
    pub units: usize,
}

/// How to look at scores.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Thresholds to tell about, besides those that are found.
    pub thresholds: Vec<f32>,
    /// What the draws depend on.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
}

/// FMRs whose thresholds are told.
pub const FMRS: [f64; 6] = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

/// Shares of the scores whose quantiles are told.
pub const QUANTILES: [f64; 9] = [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0];

/// Comparisons drawn in all at most, and draws at least and at most: a second or so, and a standard deviation to a twelfth or
/// better.
const DRAWN_MAX: usize = 400_000_000;
const REPLICATES_MIN: usize = 100;
const REPLICATES_MAX: usize = 1_000;

/// The threshold of an FMR.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operating {
    /// The FMR that is not exceeded.
    pub fmr: f64,
    /// What was counted at the threshold.
    pub point: Point,
    /// Where the threshold of exactly this FMR lies, with 95 % certainty; `None`: the scores do not tell how high.
    pub threshold_interval: (f32, Option<f32>),
}

/// How scores of a class are distributed.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// Shares, and the scores that they do not exceed.
    pub quantiles: Vec<(f64, f32)>,
}

/// The equal error rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EqualError {
    /// FMR and FNMR alike.
    pub rate: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// Where they meet.
    pub threshold: f32,
}

/// What scores tell.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Thresholds and rates.
    pub curve: Curve,
    /// What was drawn for the intervals.
    pub unit: Unit,
    /// How many there are.
    pub units: usize,
    /// How many times.
    pub replicates: usize,
    /// What the draws depend on.
    pub seed: u64,
    /// Of the same person.
    pub mated: Distribution,
    /// Of two people.
    pub non_mated: Distribution,
    /// The distance of the means in their common standard deviation.
    pub d_prime: f64,
    /// How often a mated score is above a non-mated one.
    pub area: f64,
    /// Where FMR and FNMR are alike.
    pub equal_error: Option<EqualError>,
    /// Where the most comparisons of this set are decided rightly, and how many.
    pub best_accuracy: Option<(Point, Rate)>,
    /// The thresholds of [`FMRS`].
    pub operating: Vec<(f64, Result<Operating, NoThreshold>)>,
}

impl ScoreSet {
    /// Tells all. A class may be missing: then what takes both is `None`.
    pub fn analyse(&self, plan: &Plan) -> Analysis {
        let mut curve = Curve::of(&self.mated, &self.non_mated);
        let thresholds = thresholds_of_interest(&curve, plan);
        let listed = self.mated_side.listed().len() + self.non_mated_side.listed().len();
        let replicates = (DRAWN_MAX / listed.max(1)).clamp(REPLICATES_MIN, REPLICATES_MAX);
        let bootstrap = Bootstrap {
            units: self.units,
            mated: &self.mated_side,
            non_mated: &self.non_mated_side,
            thresholds: &thresholds,
            replicates,
            seed: plan.seed,
            threads: plan.threads,
        };
        let variances = bootstrap.run();
        curve.inflation = inflation(&curve, &thresholds, &variances);
        let equal_error = curve.equal_error().map(|(rate, threshold)| EqualError {
            rate,
            interval: self.equal_error_interval(rate, variances.equal_error),
            threshold,
        });
        let operating = FMRS.map(|fmr| (fmr, operating(&curve, fmr)));
        Analysis {
            best_accuracy: curve.best_accuracy().map(|(threshold, right)| accuracy(&curve, threshold, right)),
            unit: self.unit,
            units: self.units,
            replicates,
            seed: plan.seed,
            mated: distribution(&self.mated, &curve.mated),
            non_mated: distribution(&self.non_mated, &curve.non_mated),
            d_prime: d_prime(&self.mated, &self.non_mated),
            area: curve.area(),
            equal_error,
            operating: operating.into(),
            curve,
        }
    }

    /// Without an error among the fewer comparisons, their exact bound stands for both.
    fn equal_error_interval(&self, rate: f64, variance: f64) -> Interval {
        if rate > 0.0 {
            return Rate::of_share(rate, variance);
        }
        Rate::independent(0, self.mated.count().min(self.non_mated.count())).interval
    }
}

/// A threshold, and how much wider the FMR's and the FNMR's intervals are there.
type Ratios = (f32, Option<f64>, Option<f64>);

/// Where the bootstrap cannot tell, the nearest threshold at which it can stands in.
fn inflation(curve: &Curve, thresholds: &[f32], variances: &Variances) -> Vec<Inflation> {
    let ratio = |variance: Option<f64>, rate: Rate| match binomial_variance(rate.events, rate.of) {
        independent if independent > 0.0 => variance.map(|variance| variance / independent),
        _ => variance.map(|_| 1.0),
    };
    let at = thresholds.iter().zip(&variances.at);
    let ratios: Vec<Ratios> = at
        .map(|(threshold, (fmr, fnmr))| {
            (*threshold, ratio(*fmr, curve.fmr(*threshold)), ratio(*fnmr, curve.fnmr(*threshold)))
        })
        .collect();
    let nearest = |threshold: f32, of: fn(&Ratios) -> Option<f64>| {
        let known = ratios.iter().filter_map(|ratios| Some(((ratios.0 - threshold).abs(), of(ratios)?)));
        known.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |(_, ratio)| ratio)
    };
    let of = |threshold: f32| Inflation {
        threshold,
        fmr: nearest(threshold, |ratios| ratios.1),
        fnmr: nearest(threshold, |ratios| ratios.2),
    };
    thresholds.iter().map(|threshold| of(*threshold)).collect()
}

fn operating(curve: &Curve, fmr: f64) -> Result<Operating, NoThreshold> {
    let threshold = curve.threshold_for_fmr(fmr)?;
    Ok(Operating { fmr, point: curve.at(threshold), threshold_interval: curve.threshold_interval(fmr, threshold) })
}

fn accuracy(curve: &Curve, threshold: f32, right: u64) -> (Point, Rate) {
    let point = curve.at(threshold);
    let of = point.fmr.of + point.fnmr.of;
    let share = |rate: Rate| (rate.of as f64 / of.max(1) as f64).powi(2) * rate.variance();
    (point, Rate::with_variance(right, of, share(point.fmr) + share(point.fnmr)))
}

fn distribution(counts: &ScoreCounts, steps: &super::counts::Steps) -> Distribution {
    Distribution {
        count: counts.count(),
        mean: counts.mean(),
        deviation: counts.deviation(),
        quantiles: QUANTILES.iter().filter_map(|share| Some((*share, steps.quantile(*share)?))).collect(),
    }
}

/// Where intervals are wanted: at the plan's thresholds, at those that tables name, and along both error rates.
fn thresholds_of_interest(curve: &Curve, plan: &Plan) -> Vec<f32> {
    let mut thresholds = plan.thresholds.clone();
    thresholds.extend(curve.equal_error().map(|(_, threshold)| threshold));
    thresholds.extend(curve.best_accuracy().map(|(threshold, _)| threshold));
    let half_decades = (1..=12).map(|half| 10f64.powf(-f64::from(half) / 2.0));
    thresholds.extend(half_decades.filter_map(|fmr| curve.threshold_for_fmr(fmr).ok()));
    thresholds.extend(FMRS.iter().filter_map(|fmr| curve.threshold_for_fmr(*fmr).ok()));
    let rejected = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5];
    thresholds.extend(rejected.iter().filter_map(|share| curve.mated.quantile(*share)));
    thresholds.sort_by(f32::total_cmp);
    thresholds.dedup();
    thresholds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_found_along_both_error_rates() {
        let counted = |lowest: f32| {
            let mut counts = ScoreCounts::default();
            (0..2_000).for_each(|at| counts.add(lowest + at as f32 / 8_192.0).expect("a score"));
            counts
        };
        let curve = Curve::of(&counted(0.2), &counted(0.0));
        let plan = Plan { thresholds: vec![-0.5, 0.1], seed: 1, threads: 1 };
        let found = thresholds_of_interest(&curve, &plan);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "rising, each once: {found:?}");
        let asked = [1e-1, 1e-2, 10f64.powf(-0.5), 10f64.powf(-1.5), 10f64.powf(-2.5)];
        let of_fmr = asked.map(|fmr| curve.threshold_for_fmr(fmr).expect("a threshold"));
        let of_fnmr = [0.001, 0.5].map(|share| curve.mated.quantile(share).expect("a score"));
        let of_both = curve.equal_error().map(|(_, threshold)| threshold);
        for threshold in plan.thresholds.iter().chain(&of_fmr).chain(&of_fnmr).chain(&of_both) {
            assert!(found.contains(threshold), "{threshold} is not in {found:?}");
        }
    }
}
