//! How much rates vary with the people who happen to be in a data set: the bootstrap over identities.
//!
//! Comparisons that share a person are not independent, so people are drawn and not comparisons: with replacement, as many
//! as there are. A comparison then counts as often as its person, or its two people multiplied. A person drawn twice makes
//! the noise of a single comparison of two people count three times (the variance of a product of two Poisson numbers of mean
//! 1), of which two are taken off again: without that, intervals of rare errors, which share no people, would be 1.7 times
//! too wide. The tests below measure the coverage.
//!
//! *Source*: two-way bootstrap, A. B. Owen, "The pigeonhole bootstrap", Ann. Appl. Stat. 1 (2007), section 4, which has the
//! factor of three; for error rates of matching, R. Fogliato, P. Patil, P. Perona, IJCV 132 (2024).

use super::curve::binomial_variance;
use super::random::Random;

/// One score and the two whose it is: numbers of identities, or of photos.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The cosine.
    pub score: f32,
    /// One side.
    pub a: u32,
    /// The other. Equal to `a` within an identity.
    pub b: u32,
}

/// All comparisons of a class, where only the worst of them are listed.
#[derive(Clone, Debug, PartialEq)]
pub enum Total {
    /// All are listed.
    Listed,
    /// Every pair of photos of two different units, of which each has so many.
    CrossPairs(Vec<u32>),
    /// Every pair of photos of one unit, of which each has so many.
    WithinPairs(Vec<u32>),
}

/// The comparisons of a class, the worst first: mated by rising score, non-mated by falling.
#[derive(Clone, Debug)]
pub struct Side {
    listed: Vec<Comparison>,
    total: Total,
    count: u64,
    /// How many are of two units.
    of_two: u64,
}

impl Side {
    /// Takes mated comparisons: all, or the lowest.
    pub fn mated(mut listed: Vec<Comparison>, total: Total) -> Self {
        listed.sort_unstable_by(|a, b| a.score.total_cmp(&b.score));
        Self::new(listed, total)
    }

    /// Takes non-mated comparisons: all, or the highest.
    pub fn non_mated(mut listed: Vec<Comparison>, total: Total) -> Self {
        listed.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        Self::new(listed, total)
    }

    fn new(listed: Vec<Comparison>, total: Total) -> Self {
        let two = || listed.iter().filter(|comparison| comparison.a != comparison.b).count() as u64;
        let (count, of_two) = match &total {
            Total::Listed => (listed.len() as u64, two()),
            Total::CrossPairs(photos) => {
                let (sum, squares) = sums(photos.iter().map(|n| u64::from(*n)));
                ((sum * sum - squares) / 2, (sum * sum - squares) / 2)
            }
            Total::WithinPairs(photos) => {
                (photos.iter().map(|n| u64::from(*n) * u64::from(n.saturating_sub(1)) / 2).sum(), 0)
            }
        };
        Self { listed, total, count, of_two }
    }

    /// Returns how many comparisons there are in all.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns those that are listed, the worst first.
    pub fn listed(&self) -> &[Comparison] {
        &self.listed
    }

    /// Tells whether a number of comparisons, the worst first, is known to be all on their side of a threshold.
    fn is_known(&self, count: usize) -> bool {
        count < self.listed.len() || self.listed.len() as u64 == self.count
    }

    /// What the bootstrap counts of the noise of independent comparisons more than once.
    fn excess(&self) -> f64 {
        2.0 * self.of_two as f64 / self.count.max(1) as f64
    }

    fn total_weight(&self, weights: &[u32], listed: u64) -> u64 {
        let of_units = |photos: &Vec<u32>| -> Vec<(u64, u64)> {
            photos.iter().zip(weights).map(|(photos, weight)| (u64::from(*photos), u64::from(*weight))).collect()
        };
        match &self.total {
            Total::Listed => listed,
            Total::CrossPairs(photos) => {
                let (sum, squares) = sums(of_units(photos).into_iter().map(|(photos, weight)| photos * weight));
                (sum * sum - squares) / 2
            }
            Total::WithinPairs(photos) => of_units(photos)
                .into_iter()
                .map(|(photos, weight)| weight * (photos * photos.saturating_sub(1) / 2))
                .sum(),
        }
    }
}

fn sums(values: impl Iterator<Item = u64>) -> (u64, u64) {
    values.fold((0, 0), |(sum, squares), value| (sum + value, squares + value * value))
}

/// What to draw.
#[derive(Clone, Debug)]
pub struct Bootstrap<'a> {
    /// How many identities, or photos, there are.
    pub units: usize,
    /// Mated comparisons.
    pub mated: &'a Side,
    /// Non-mated comparisons.
    pub non_mated: &'a Side,
    /// Where rates are wanted.
    pub thresholds: &'a [f32],
    /// How many times to draw.
    pub replicates: usize,
    /// What the draws depend on.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
}

/// Variances of rates, as sampling people makes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Variances {
    /// Of the FMR and the FNMR at each threshold; `None` where too few comparisons are listed to tell.
    pub at: Vec<(Option<f64>, Option<f64>)>,
    /// Of the equal error rate.
    pub equal_error: f64,
}

/// Numbers that one draw gives: the FMR and FNMR at each threshold, then the equal error rate.
type Draw = Vec<f64>;

/// Sums of weights of one draw, kept between draws so that nothing is allocated.
#[derive(Default)]
struct Scratch {
    weights: Vec<u32>,
    mated: Vec<u64>,
    non_mated: Vec<u64>,
}

/// Where thresholds lie among the listed comparisons.
struct Places {
    /// Of each threshold: non-mated at or above it, mated below it; `None` where the list does not reach.
    thresholds: Vec<(Option<usize>, Option<usize>)>,
    /// Of each mated comparison: non-mated above it.
    above_mated: Vec<u32>,
}

impl Bootstrap<'_> {
    /// Draws, and returns the variances found.
    ///
    /// *Cost*: the listed comparisons times the replicates, some two nanoseconds each, shared by the threads.
    pub fn run(&self) -> Variances {
        let places = self.places();
        let threads = self.threads.clamp(1, self.replicates.max(1));
        let draws: Vec<Draw> = std::thread::scope(|scope| {
            let of_thread = |thread: usize| {
                let places = &places;
                move || {
                    let mut scratch = Scratch::default();
                    let mine = (thread..self.replicates).step_by(threads);
                    mine.map(|replicate| (replicate, self.draw(replicate, places, &mut scratch))).collect::<Vec<_>>()
                }
            };
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(of_thread(thread))).collect();
            let mut draws: Vec<_> = running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect();
            draws.sort_by_key(|(replicate, _)| *replicate);
            draws.into_iter().map(|(_, draw)| draw).collect()
        });
        self.variances(&draws, &places)
    }

    fn places(&self) -> Places {
        let (mated, non_mated) = (&self.mated.listed, &self.non_mated.listed);
        let thresholds = self.thresholds.iter().map(|threshold| {
            let above = non_mated.partition_point(|comparison| comparison.score >= *threshold);
            let below = mated.partition_point(|comparison| comparison.score < *threshold);
            let known = |side: &Side, count: usize| side.is_known(count).then_some(count);
            (known(self.non_mated, above), known(self.mated, below))
        });
        let above = |mated: &Comparison| non_mated.partition_point(|comparison| comparison.score > mated.score) as u32;
        Places { thresholds: thresholds.collect(), above_mated: mated.iter().map(above).collect() }
    }

    fn draw(&self, replicate: usize, places: &Places, scratch: &mut Scratch) -> Draw {
        let mut random = Random::new(self.seed ^ (replicate as u64).wrapping_mul(0xd134_2543_de82_ef95));
        scratch.weights.clear();
        scratch.weights.resize(self.units, 0);
        for _ in 0..self.units {
            if let Some(weight) = scratch.weights.get_mut(random.below(self.units)) {
                *weight += 1;
            }
        }
        add_up(&self.mated.listed, &scratch.weights, &mut scratch.mated);
        add_up(&self.non_mated.listed, &scratch.weights, &mut scratch.non_mated);
        let at = |sums: &[u64], place: usize| sums.get(place).copied().unwrap_or(0);
        let total = |side: &Side, sums: &[u64]| {
            side.total_weight(&scratch.weights, sums.last().copied().unwrap_or(0)).max(1) as f64
        };
        let (mated, non_mated) = (&scratch.mated, &scratch.non_mated);
        let (mated_total, non_mated_total) = (total(self.mated, mated), total(self.non_mated, non_mated));
        let rate = |sums: &[u64], place: Option<usize>, total: f64| {
            place.map_or(f64::NAN, |place| at(sums, place) as f64 / total)
        };
        let mut draw = Vec::with_capacity(places.thresholds.len() * 2 + 1);
        for (above, below) in &places.thresholds {
            draw.push(rate(non_mated, *above, non_mated_total));
            draw.push(rate(mated, *below, mated_total));
        }
        // The first mated comparison at which as large a share is rejected as of non-mated ones is accepted above it.
        let fnmr = |place: usize| at(mated, place) as f64 / mated_total;
        let fmr_above = |above: u32| at(non_mated, above as usize) as f64 / non_mated_total;
        let (mut low, mut high) = (0, places.above_mated.len());
        while low < high {
            let middle = (low + high) / 2;
            let above = places.above_mated.get(middle).copied().unwrap_or(0);
            if fnmr(middle + 1) >= fmr_above(above) { high = middle } else { low = middle + 1 }
        }
        let above = places.above_mated.get(low).copied().unwrap_or(0);
        draw.push(fmr_above(above).clamp(fnmr(low), fnmr(low + 1).max(fnmr(low))));
        draw
    }

    fn variances(&self, draws: &[Draw], places: &Places) -> Variances {
        let column = |at: usize| variance(draws.iter().filter_map(|draw| draw.get(at).copied()));
        let corrected = |variance: f64, side: &Side, place: Option<usize>| {
            let independent = binomial_variance(place? as u64, side.count);
            Some((variance - side.excess() * independent).max(independent))
        };
        let at = places.thresholds.iter().enumerate().map(|(index, (above, below))| {
            let fmr = corrected(column(2 * index), self.non_mated, *above);
            (fmr, corrected(column(2 * index + 1), self.mated, *below))
        });
        let equal_error = self.equal_error_variance(column(2 * places.thresholds.len()), draws);
        Variances { at: at.collect(), equal_error }
    }

    /// The equal error rate moves with the FMR as far as mated scores are dense at its threshold in relation to non-mated
    /// ones, and with the FNMR the other way round: so much of the excess is taken off.
    fn equal_error_variance(&self, variance: f64, draws: &[Draw]) -> f64 {
        let rates: Vec<f64> = draws.iter().filter_map(|draw| draw.last().copied()).collect();
        let rate = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
        let (mated, non_mated) = (&self.mated, &self.non_mated);
        let score_at = |side: &Side, share: f64| {
            let place = (share * side.count as f64) as usize;
            side.listed.get(place.min(side.listed.len().saturating_sub(1))).map_or(0.0, |c| f64::from(c.score))
        };
        // Density: the share between half and one and a half times the rate, over how far apart those scores are.
        let density = |side: &Side| {
            let apart = (score_at(side, 0.5 * rate) - score_at(side, 1.5 * rate)).abs();
            rate / apart.max(1e-6)
        };
        let (dense, other) = (density(mated), density(non_mated));
        let of_fmr = if dense + other > 0.0 { (dense / (dense + other)).powi(2) } else { 0.25 };
        let of_fnmr = (1.0 - of_fmr.sqrt()).powi(2);
        let independent = |side: &Side| rate * (1.0 - rate) / side.count.max(1) as f64;
        let excess =
            of_fmr * non_mated.excess() * independent(non_mated) + of_fnmr * mated.excess() * independent(mated);
        (variance - excess).max(of_fmr * independent(non_mated) + of_fnmr * independent(mated))
    }
}

/// Running sums of what comparisons count; one more than there are.
fn add_up(comparisons: &[Comparison], weights: &[u32], sums: &mut Vec<u64>) {
    let weight = |unit: u32| weights.get(unit as usize).copied().unwrap_or(0);
    sums.clear();
    sums.reserve(comparisons.len() + 1);
    sums.push(0);
    let mut sum = 0u64;
    sums.extend(comparisons.iter().map(|Comparison { a, b, .. }| {
        sum += u64::from(if a == b { weight(*a) } else { weight(*a) * weight(*b) });
        sum
    }));
}

fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0)
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::super::counts::ScoreCounts;
    use super::super::curve::{Curve, Inflation};
    use super::super::rate::{Interval, Rate};
    use super::*;

    /// A population: photos of people, whose scores share what the people bring.
    struct People {
        count: u32,
        photos: u32,
        /// Of a person's part in a non-mated score, and in a mated one; of what is a comparison's own.
        shared: f64,
        shared_mated: f64,
        own: f64,
    }

    impl People {
        fn cross(&self, random: &mut Random) -> Vec<Comparison> {
            let effects: Vec<f64> = (0..self.count).map(|_| random.normal() * self.shared).collect();
            let mut comparisons = Vec::new();
            for a in 0..self.count {
                for b in a + 1..self.count {
                    let score = effects[a as usize] + effects[b as usize] + random.normal() * self.own;
                    comparisons.push(Comparison { score: score as f32, a, b });
                }
            }
            comparisons
        }

        fn mated(&self, random: &mut Random) -> Vec<Comparison> {
            let mut comparisons = Vec::new();
            for a in 0..self.count {
                let effect = 0.6 + random.normal() * self.shared_mated;
                comparisons.extend((0..self.photos).map(|_| Comparison {
                    score: (effect + random.normal() * self.own) as f32,
                    a,
                    b: a,
                }));
            }
            comparisons
        }
    }

    fn curve(mated: &[Comparison], non_mated: &[Comparison]) -> Curve {
        let counted = |comparisons: &[Comparison]| {
            let mut counts = ScoreCounts::default();
            comparisons.iter().for_each(|comparison| counts.add(comparison.score.clamp(-1.0, 1.0)).expect("a score"));
            counts
        };
        Curve::of(&counted(mated), &counted(non_mated))
    }

    /// Draws populations and counts how often each interval holds the truth. `disjoint`: every person in one comparison.
    fn coverage(people: &People, disjoint: bool, seed: u64) -> [f64; 4] {
        const POPULATIONS: usize = 1_500;
        let spread = (2.0 * people.shared.powi(2) + people.own.powi(2)).sqrt();
        let mated_spread = (people.shared_mated.powi(2) + people.own.powi(2)).sqrt();
        let (non_mated_law, mated_law) =
            (Normal::new(0.0, spread).expect("a law"), Normal::new(0.6, mated_spread).expect("a law"));
        let equal = 0.6 * spread / (spread + mated_spread);
        let thresholds = [non_mated_law.inverse_cdf(0.95) as f32, mated_law.inverse_cdf(0.1) as f32];
        let truth = [0.05, 0.1, non_mated_law.sf(equal)];
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let one = |population: usize| {
            let mut random = Random::new(seed + population as u64);
            let (mated, non_mated) = if disjoint {
                let mut pair = || (random.normal() * spread) as f32;
                let non_mated: Vec<_> =
                    (0..people.count).map(|at| Comparison { score: pair(), a: 2 * at, b: 2 * at + 1 }).collect();
                (people.mated(&mut random), non_mated)
            } else {
                (people.mated(&mut random), people.cross(&mut random))
            };
            let units = people.count as usize * if disjoint { 2 } else { 1 };
            let curve = curve(&mated, &non_mated);
            let (mated, non_mated) = (Side::mated(mated, Total::Listed), Side::non_mated(non_mated, Total::Listed));
            let bootstrap = Bootstrap {
                units,
                mated: &mated,
                non_mated: &non_mated,
                thresholds: &thresholds,
                replicates: 200,
                seed: population as u64,
                threads: 1,
            };
            let variances = bootstrap.run();
            let fmr = Rate::with_variance(
                curve.fmr(thresholds[0]).events,
                non_mated.count(),
                variances.at[0].0.expect("known"),
            );
            let fnmr =
                Rate::with_variance(curve.fnmr(thresholds[1]).events, mated.count(), variances.at[1].1.expect("known"));
            let (rate, _) = curve.equal_error().expect("both classes");
            let equal = Rate::of_share(rate, variances.equal_error);
            let holds = |interval: Interval, truth: f64| u32::from(interval.low <= truth && truth <= interval.high);
            let inflation = variances.at[0].0.expect("known") / binomial_variance(fmr.events, fmr.of);
            let curve =
                Curve { inflation: vec![Inflation { threshold: thresholds[0], fmr: inflation, fnmr: 1.0 }], ..curve };
            let (low, high) = curve.threshold_interval(0.05, thresholds[0]);
            let threshold = u32::from(low <= thresholds[0] && high.is_none_or(|high| thresholds[0] <= high));
            [holds(fmr.interval, truth[0]), holds(fnmr.interval, truth[1]), holds(equal, truth[2]), threshold]
        };
        let held: Vec<[u32; 4]> = std::thread::scope(|scope| {
            let one = &one;
            let running: Vec<_> = (0..cores)
                .map(|core| scope.spawn(move || (core..POPULATIONS).step_by(cores).map(one).collect::<Vec<_>>()))
                .collect();
            running.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
        });
        [0, 1, 2, 3].map(|which| f64::from(held.iter().map(|held| held[which]).sum::<u32>()) / POPULATIONS as f64)
    }

    #[test]
    fn intervals_hold_the_truth_in_93_to_97_percent_of_populations() {
        // From comparisons that share nothing but their people to such whose people decide half of a score.
        let populations = [
            (
                "independent, all cross pairs",
                false,
                People { count: 60, photos: 6, shared: 0.0, shared_mated: 0.0, own: 0.2 },
            ),
            ("people matter", false, People { count: 100, photos: 6, shared: 0.06, shared_mated: 0.12, own: 0.17 }),
            ("disjoint pairs", true, People { count: 900, photos: 1, shared: 0.1, shared_mated: 0.1, own: 0.15 }),
        ];
        for (seed, (name, disjoint, people)) in (1_000_000..).step_by(100_000).zip(populations) {
            let [fmr, fnmr, equal, threshold] = coverage(&people, disjoint, seed);
            println!(
                "{name} (seed {seed}): coverage of FMR {fmr:.3}, FNMR {fnmr:.3}, equal error rate {equal:.3}, threshold {threshold:.3}"
            );
            for coverage in [fmr, fnmr, equal, threshold] {
                assert!((0.93..=0.97).contains(&coverage), "{name}: {fmr} {fnmr} {equal} {threshold}");
            }
        }
    }

    /// The rates of one draw by plain loops over people: each comparison as often as they were drawn.
    fn drawn(run: &Bootstrap<'_>, replicate: u64) -> Vec<f64> {
        let mut random = Random::new(run.seed ^ replicate.wrapping_mul(0xd134_2543_de82_ef95));
        let people: Vec<usize> = (0..run.units).map(|_| random.below(run.units)).collect();
        let times = |unit: u32| people.iter().filter(|person| **person == unit as usize).count();
        let count = |side: &Side, is_error: &dyn Fn(f32) -> bool| -> f64 {
            let of = |c: &Comparison| if c.a == c.b { times(c.a) } else { times(c.a) * times(c.b) };
            side.listed().iter().filter(|comparison| is_error(comparison.score)).map(of).sum::<usize>() as f64
        };
        let rates = run.thresholds.iter().flat_map(|threshold| {
            let fmr = count(run.non_mated, &|score| score >= *threshold) / count(run.non_mated, &|_| true);
            [fmr, count(run.mated, &|score| score < *threshold) / count(run.mated, &|_| true)]
        });
        // The least mated score up to which as large a share is rejected as of non-mated ones is accepted above it.
        let (rejected, accepted) = (count(run.mated, &|_| true), count(run.non_mated, &|_| true));
        let share_rejected = |is_error: &dyn Fn(f32) -> bool| count(run.mated, is_error) / rejected;
        let crossing = run.mated.listed().iter().find_map(|at| {
            let fmr = count(run.non_mated, &|score| score > at.score) / accepted;
            let (below, up_to) =
                (share_rejected(&|score| score < at.score), share_rejected(&|score| score <= at.score));
            (up_to >= fmr).then_some(fmr.clamp(below, up_to))
        });
        rates.chain(crossing).collect()
    }

    #[test]
    fn variances_are_those_of_plain_loops() {
        let people = People { count: 40, photos: 3, shared: 0.15, shared_mated: 0.2, own: 0.05 };
        let mut random = Random::new(8);
        let mated = Side::mated(people.mated(&mut random), Total::Listed);
        let non_mated = Side::non_mated(people.cross(&mut random), Total::Listed);
        let (thresholds, replicates) = ([0.2, 0.3, 0.5], 50);
        let run = Bootstrap {
            units: 40,
            mated: &mated,
            non_mated: &non_mated,
            thresholds: &thresholds,
            replicates,
            seed: 11,
            threads: 2,
        };
        let found = run.run();
        let draws: Vec<Vec<f64>> = (0..replicates as u64).map(|replicate| drawn(&run, replicate)).collect();
        for (at, threshold) in thresholds.iter().enumerate() {
            let of_draws =
                |column: usize| statrs::statistics::Statistics::variance(draws.iter().map(|draw| draw[column]));
            let independent = |side: &Side, is_error: &dyn Fn(f32) -> bool| {
                let share = side.listed().iter().filter(|c| is_error(c.score)).count() as f64 / side.count() as f64;
                share * (1.0 - share) / side.count() as f64
            };
            // Each non-mated comparison is of two people, and its own noise counts three times.
            let of_one = independent(&non_mated, &|score| score >= *threshold);
            let fmr = (of_draws(2 * at) - 2.0 * of_one).max(of_one);
            let fnmr = of_draws(2 * at + 1).max(independent(&mated, &|score| score < *threshold));
            let (found_fmr, found_fnmr) = (found.at[at].0.expect("known"), found.at[at].1.expect("known"));
            assert!(fmr > of_one, "people matter here");
            assert!(
                (found_fmr / fmr - 1.0).abs() < 1e-9 && (found_fnmr / fnmr - 1.0).abs() < 1e-9,
                "{threshold}: {found:?}"
            );
        }
        let equal = statrs::statistics::Statistics::variance(draws.iter().map(|draw| draw[6]));
        let expected = run.equal_error_variance(equal, &draws);
        assert!((found.equal_error / expected - 1.0).abs() < 1e-9, "{} {expected}", found.equal_error);
    }

    #[test]
    fn equal_error_rate_varies_by_how_dense_each_class_is_there() {
        // Mated scores are twice as dense at the rate of .2 as non-mated ones: two thirds of a move of the FMR arrive at the
        // equal error rate, and one third of one of the FNMR.
        let side = |of: fn(f32) -> f32| {
            (0..100u32).map(move |at| Comparison { score: of(at as f32), a: at, b: (at + 1) % 100 })
        };
        let mated = Side::mated(side(|at| 0.01 * at).collect(), Total::Listed);
        let non_mated = Side::non_mated(side(|at| 0.9 - 0.02 * at).collect(), Total::Listed);
        let run = Bootstrap {
            units: 100,
            mated: &mated,
            non_mated: &non_mated,
            thresholds: &[],
            replicates: 0,
            seed: 1,
            threads: 1,
        };
        let draws = [vec![0.1], vec![0.3]];
        let independent = 0.2 * 0.8 / 100.0;
        let moved = (4.0 / 9.0 + 1.0 / 9.0) * independent;
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
        near(run.equal_error_variance(0.01, &draws), 0.01 - 2.0 * moved);
        near(run.equal_error_variance(0.0, &draws), moved);
        let of_one = Side::mated(mated.listed().iter().map(|c| Comparison { b: c.a, ..*c }).collect(), Total::Listed);
        let run = Bootstrap { mated: &of_one, ..run };
        near(run.equal_error_variance(0.01, &draws), 0.01 - 2.0 * 4.0 / 9.0 * independent);
    }

    #[test]
    fn the_worst_comparisons_and_photo_counts_tell_as_much_as_all() {
        let people = People { count: 80, photos: 3, shared: 0.05, shared_mated: 0.1, own: 0.1 };
        let mut random = Random::new(5);
        let (mated, non_mated) = (people.mated(&mut random), people.cross(&mut random));
        let (mated, all) = (Side::mated(mated, Total::Listed), Side::non_mated(non_mated, Total::Listed));
        let worst = Side::non_mated(all.listed()[..1_000].to_vec(), Total::CrossPairs(vec![1; 80]));
        assert_eq!((all.count(), worst.count()), (3_160, 3_160));
        let run = |non_mated: &Side, threads: usize| {
            let thresholds = [0.15, 0.25, -0.5];
            Bootstrap { units: 80, mated: &mated, non_mated, thresholds: &thresholds, replicates: 60, seed: 9, threads }
                .run()
        };
        let (of_all, of_worst) = (run(&all, 1), run(&worst, 3));
        assert_eq!(of_all.at[..2], of_worst.at[..2], "whatever is listed, and however many threads");
        assert_eq!(of_all.equal_error, of_worst.equal_error);
        assert_eq!(of_worst.at[2].0, None, "more were above than are listed");
        let lowest = Side::mated(mated.listed()[..100].to_vec(), Total::WithinPairs(vec![3; 80]));
        assert_eq!((mated.count(), lowest.count()), (240, 240));
        let thresholds = [0.45, 0.9];
        let run = |mated: &Side| {
            let run = Bootstrap {
                units: 80,
                mated,
                non_mated: &all,
                thresholds: &thresholds,
                replicates: 60,
                seed: 9,
                threads: 1,
            };
            run.run().at
        };
        let (of_all, of_lowest) = (run(&mated), run(&lowest));
        assert_eq!(of_all[0], of_lowest[0]);
        assert_eq!((of_lowest[1].1, of_all[1].1.is_some()), (None, true), "more were below than are listed");
    }
}
