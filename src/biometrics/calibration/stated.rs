//! A curve as whole numbers: what is stored, sent, and written into manifests.

use super::counts::Steps;
use super::curve::{Curve, Inflation};

/// How many scores of a class reach each of some thresholds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatedSteps {
    /// Of the class.
    pub total: u64,
    /// Thresholds in ten-thousandths, rising, each with how many scores are at or above it: from all of them down to none. What
    /// is said of a threshold holds up to the next.
    pub points: Vec<(i32, u64)>,
}

/// Both classes, and how much wider their intervals are than independent comparisons would make them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatedCurve {
    /// Of the same person.
    pub mated: StatedSteps,
    /// Of two people.
    pub non_mated: StatedSteps,
    /// By rising threshold; may be empty.
    pub inflation: Vec<Inflation>,
}

/// What is wrong with a curve, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct BadCurve {
    /// The part at fault.
    pub field: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

/// Ten-thousandths from -1 to 1, and a step beyond each end.
const POINTS_MAX: usize = 20_003;

const INFLATIONS_MAX: usize = 1_000;

/// The most that a variance is believed to be larger: a class of one person's comparisons has a few thousand.
const INFLATION_MAX: f64 = 1e9;

/// Comparisons of a class at most: sums of two classes stay exact in f64.
const TOTAL_MAX: u64 = 1 << 52;

const GRID: f64 = 1e4;

impl Curve {
    /// Returns the curve at thresholds in four decimals, as numbers.
    pub fn to_numbers(&self) -> StatedCurve {
        let curve = self.stated();
        StatedCurve { mated: numbers(&curve.mated), non_mated: numbers(&curve.non_mated), inflation: curve.inflation }
    }

    /// Takes a curve that was stored or sent.
    ///
    /// *Errors*: [`BadCurve`]: it is not one that could have been counted.
    pub fn from_numbers(stated: StatedCurve) -> Result<Self, BadCurve> {
        let rises = stated.inflation.windows(2).all(|pair| matches!(pair, [a, b] if a.threshold < b.threshold));
        let is_ratio = |ratio: f64| (0.0..=INFLATION_MAX).contains(&ratio);
        let are_ratios = stated.inflation.iter().all(|at| is_ratio(at.fmr) && is_ratio(at.fnmr));
        let are_cosines = stated.inflation.iter().all(|at| (-1.1..=1.1).contains(&at.threshold));
        if stated.inflation.len() > INFLATIONS_MAX || !rises || !are_ratios || !are_cosines {
            let expected = "at most 1,000 entries by rising threshold, with ratios from 0 to 1e9";
            return Err(BadCurve { field: "inflation", expected });
        }
        Ok(Self {
            mated: steps("mated", &stated.mated)?,
            non_mated: steps("non_mated", &stated.non_mated)?,
            inflation: stated.inflation,
        })
    }
}

fn numbers(steps: &Steps) -> StatedSteps {
    let points = steps.points().map(|(cosine, count)| ((f64::from(cosine) * GRID).round() as i32, count));
    StatedSteps { total: steps.total(), points: points.collect() }
}

fn steps(field: &'static str, stated: &StatedSteps) -> Result<Steps, BadCurve> {
    let bad = |expected| BadCurve { field, expected };
    if stated.points.len() > POINTS_MAX || stated.total > TOTAL_MAX {
        return Err(bad("at most 20,003 points and 2^52 comparisons"));
    }
    let points: Vec<(f32, u64)> =
        stated.points.iter().map(|(at, count)| ((f64::from(*at) / GRID) as f32, *count)).collect();
    Steps::stored(&points, stated.total)
        .ok_or(bad("points by rising cosine whose counts fall from all scores to none, and none without scores"))
}

impl StatedCurve {
    /// Leaves points out, so that errors are counted to within a ratio, such as 1.05: up to so many times as many, never fewer.
    pub fn thinned(&self, ratio: f64) -> Self {
        let is_near = |many: u64, few: u64| many as f64 <= few as f64 * ratio;
        // Scores that reach a threshold are errors: a run of thresholds has as many as its first.
        let non_mated = runs(&self.non_mated.points, is_near);
        let non_mated = non_mated.filter_map(|run| run.first().copied());
        // Scores that do not: as many as its last.
        let total = self.mated.total;
        let mated = runs(&self.mated.points, |first, other| is_near(total - other, total - first));
        let mated = mated.filter_map(|run| Some((run.first()?.0, run.last()?.1)));
        Self {
            mated: StatedSteps { total, points: mated.collect() },
            non_mated: StatedSteps { total: self.non_mated.total, points: non_mated.collect() },
            inflation: self.inflation.clone(),
        }
    }
}

/// Cuts points into runs, each as long as its first count and its others are near each other.
fn runs(points: &[(i32, u64)], are_near: impl Fn(u64, u64) -> bool) -> impl Iterator<Item = &[(i32, u64)]> {
    let mut rest = points;
    std::iter::from_fn(move || {
        let (_, first) = rest.first()?;
        let length = rest.iter().skip(1).take_while(|(_, count)| are_near(*first, *count)).count() + 1;
        let (run, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::super::counts::ScoreCounts;
    use super::super::random::Random;
    use super::*;

    fn curve(seed: u64) -> Curve {
        let mut random = Random::new(seed);
        let mut of = |mean: f64, deviation: f64, count: usize| {
            let mut counts = ScoreCounts::default();
            for _ in 0..count {
                counts.add((mean + deviation * random.normal()).clamp(-1.0, 1.0) as f32).expect("a score");
            }
            counts
        };
        let (mated, non_mated) = (of(0.6, 0.1, 3_000), of(0.0, 0.06, 300_000));
        Curve::of(&mated, &non_mated)
    }

    #[test]
    fn numbers_come_back_as_the_curve_that_they_were() {
        let curve = curve(5);
        let numbers = curve.to_numbers();
        assert_eq!(Curve::from_numbers(numbers.clone()), Ok(curve.stated()));
        assert_eq!(Curve::from_numbers(StatedCurve::default()), Ok(Curve::default().stated()));
        let spoilt: [fn(&mut StatedCurve); 7] = [
            |curve| curve.mated.total += 1,
            |curve| curve.mated.points.reverse(),
            |curve| curve.non_mated.points.truncate(2),
            |curve| curve.non_mated.points.insert(0, (-12_000, 300_000)),
            |curve| curve.non_mated.points = vec![(0, 0); 20_004],
            |curve| curve.inflation = vec![Inflation { threshold: 0.1, fmr: f64::NAN, fnmr: 1.0 }],
            |curve| curve.inflation = vec![Inflation { threshold: 0.1, fmr: 1.0, fnmr: 1.0 }; 2],
        ];
        for (number, spoil) in spoilt.into_iter().enumerate() {
            let mut numbers = numbers.clone();
            spoil(&mut numbers);
            assert!(Curve::from_numbers(numbers).is_err(), "{number}");
        }
    }

    #[test]
    fn thinned_curve_states_no_rate_lower_and_none_much_higher() {
        println!("seeds 0 to 4");
        for seed in 0..5 {
            let curve = curve(seed).stated();
            let numbers = curve.to_numbers();
            let thinned = numbers.thinned(1.05);
            assert!(thinned.non_mated.points.len() < 700 && thinned.mated.points.len() < 700);
            let thin = Curve::from_numbers(thinned).expect("a curve");
            for at in -10_000..=10_000 {
                let threshold = (f64::from(at) / GRID) as f32;
                let (whole, thin) = (curve.at(threshold), thin.at(threshold));
                assert!(thin.fmr.events >= whole.fmr.events && thin.fnmr.events >= whole.fnmr.events, "{threshold}");
                for (thin, whole) in [(thin.fmr, whole.fmr), (thin.fnmr, whole.fnmr)] {
                    assert!(thin.events as f64 <= whole.events as f64 * 1.05, "{threshold}: {thin:?} {whole:?}");
                }
            }
        }
    }
}
