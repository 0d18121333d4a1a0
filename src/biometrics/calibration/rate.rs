//! Rates that were counted, and how sure they are.

use statrs::function::beta::beta_reg;

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// How an interval was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Exact binomial bounds (Clopper and Pearson): where few errors, or few that are none, were counted.
    Exact,
    /// Wilson's score, with as many comparisons as the bootstrap shows these to be worth.
    Bootstrap,
}

/// Events among comparisons, with a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How many.
    pub events: u64,
    /// Of how many.
    pub of: u64,
    /// Of how many independent comparisons they tell as much.
    pub effective: f64,
    /// The 95 % interval.
    pub interval: Interval,
    /// How it was made.
    pub method: Method,
}

/// Events from which Wilson's interval is used. Below, and as few below all, the exact bounds: Wilson's coverage falls to
/// .83 for rare events, the exact bounds' never below .95.
const EVENTS_MIN: u64 = 10;

/// The 97.5 % point of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The probability left out at each end of a 95 % interval.
const ALPHA_SIDE: f64 = 0.025;

impl Rate {
    /// Counts as if all comparisons were independent of each other.
    pub fn independent(events: u64, of: u64) -> Self {
        Self::with_variance(events, of, 0.0)
    }

    /// Counts with a variance of the rate that was found otherwise, such as by a bootstrap over identities. It is never taken
    /// to be less than that of independent comparisons.
    ///
    /// *Source*: effective sample size, E. L. Korn, B. I. Graubard, Survey Methodology 24 (1998); Wilson's interval with it
    /// for comparisons that share people, R. Fogliato, P. Patil, P. Perona, IJCV 132 (2024).
    pub fn with_variance(events: u64, of: u64, variance: f64) -> Self {
        let (n, k) = (of as f64, events.min(of) as f64);
        let rate = if of == 0 { 0.0 } else { k / n };
        let binomial = rate * (1.0 - rate);
        let effective = if variance > 0.0 && binomial > 0.0 { (binomial / variance).clamp(1.0, n.max(1.0)) } else { n };
        let (interval, method) = if of == 0 {
            (Interval { low: 0.0, high: 1.0 }, Method::Exact)
        } else if events < EVENTS_MIN || of - events.min(of) < EVENTS_MIN {
            (exact(rate * effective, effective), Method::Exact)
        } else {
            (wilson(rate, effective), Method::Bootstrap)
        };
        Self { events, of, effective, interval, method }
    }

    /// Counts events of comparisons that are worth so many times fewer independent ones: also where none was counted.
    pub fn with_inflation(events: u64, of: u64, inflation: f64) -> Self {
        let events = events.min(of);
        let counted = Self::with_variance(events, of, inflation * super::curve::binomial_variance(events, of));
        let n = of as f64;
        if (1..of).contains(&events) || of == 0 || inflation <= 1.0 {
            return counted;
        }
        let effective = (n / inflation).clamp(1.0, n.max(1.0));
        let interval = exact(events as f64 / n * effective, effective);
        Self { effective, interval, ..counted }
    }

    /// Returns the 95 % interval of a share that was not counted as one, such as an equal error rate, by its variance.
    pub fn of_share(share: f64, variance: f64) -> Interval {
        let binomial = share * (1.0 - share);
        if variance <= 0.0 || binomial <= 0.0 {
            return Interval { low: share, high: share };
        }
        let effective = (binomial / variance).max(1.0);
        if share * effective < EVENTS_MIN as f64 || (1.0 - share) * effective < EVENTS_MIN as f64 {
            exact(share * effective, effective)
        } else {
            wilson(share, effective)
        }
    }

    /// Returns the rate; 0 of nothing.
    pub fn value(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.events as f64 / self.of as f64 }
    }

    /// Returns the variance that its effective number of comparisons stands for, of a rate that is held not to be exactly 0
    /// or 1: half an event more and half an event less.
    pub fn variance(&self) -> f64 {
        let rate = (self.value() * self.effective + 0.5) / (self.effective + 1.0);
        rate * (1.0 - rate) / self.effective.max(1.0)
    }
}

/// Returns Clopper and Pearson's 95 % bounds; events may be a part of one, as an effective number is.
///
/// *Source*: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934), as quantiles of the beta distribution.
pub fn exact(events: f64, of: f64) -> Interval {
    let others = of - events;
    // Of none and of all there is a closed form.
    let all_one_way = (ALPHA_SIDE.ln() / of).exp();
    let low = match (events, others) {
        (events, _) if events <= 0.0 => 0.0,
        (_, others) if others <= 0.0 => all_one_way,
        _ => beta_quantile(ALPHA_SIDE, events, others + 1.0),
    };
    let high = match (events, others) {
        (_, others) if others <= 0.0 => 1.0,
        (events, _) if events <= 0.0 => -(ALPHA_SIDE.ln() / of).exp_m1(),
        _ => beta_quantile(1.0 - ALPHA_SIDE, events + 1.0, others),
    };
    Interval { low, high }
}

fn wilson(rate: f64, of: f64) -> Interval {
    let center = (rate + Z * Z / (2.0 * of)) / (1.0 + Z * Z / of);
    let half = Z / (1.0 + Z * Z / of) * (rate * (1.0 - rate) / of + Z * Z / (4.0 * of * of)).sqrt();
    Interval { low: (center - half).max(0.0), high: (center + half).min(1.0) }
}

/// The quantile of a beta distribution, by halving in the logarithm, so that bounds of 1e-9 are as exact as those of .5.
fn beta_quantile(share: f64, a: f64, b: f64) -> f64 {
    let below = |x: f64| beta_reg(a, b, x) < share;
    let (mut low, mut high) = (-40.0f64, 0.0f64);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if below(middle.exp()) { low = middle } else { high = middle }
    }
    (0.5 * (low + high)).exp()
}

/// Returns how many comparisons without an error it takes to claim a rate with 95 % certainty: 3 / rate, the rule of three.
pub fn comparisons_needed(rate: f64) -> u64 {
    let needed = 3.0 / rate;
    // 3 / 1e-6 is 3,000,000 and a little in floating point.
    let whole = needed.round();
    if (needed - whole).abs() <= needed * 1e-12 { whole as u64 } else { needed.ceil() as u64 }
}

/// Returns the probability that at least one of N comparisons errs: 1 − (1 − FMR)^N. It holds for comparisons that are
/// independent; those of one probe are not quite, and searches measured show less.
pub fn fpir_of_fmr(fmr: f64, gallery_size: u64) -> f64 {
    -((gallery_size as f64) * (-fmr.clamp(0.0, 1.0)).ln_1p()).exp_m1()
}

/// Returns the FMR at which N comparisons err with a probability: 1 − (1 − FPIR)^(1/N).
pub fn fmr_of_fpir(fpir: f64, gallery_size: u64) -> f64 {
    -((-fpir.clamp(0.0, 1.0)).ln_1p() / gallery_size.max(1) as f64).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_bounds_agree_with_published_values() {
        // R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 5.
        for (events, of, low, high) in [
            (81.0, 263.0, 0.2527, 0.3676),
            (15.0, 148.0, 0.0578, 0.1617),
            (0.0, 20.0, 0.0, 0.1684),
            (1.0, 29.0, 0.0009, 0.1776),
        ] {
            let found = exact(events, of);
            assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{events} of {of}: {found:?}");
        }
        // Rare events are nearly Poisson's, whose bounds are published: of 3 they are .6187 and 8.7673, of 0 0 and 3.6889.
        let (three, none) = (exact(3.0, 1e7), exact(0.0, 1e7));
        assert!((three.low * 1e7 - 0.6187).abs() < 1e-4 && (three.high * 1e7 - 8.7673).abs() < 1e-4, "{three:?}");
        assert!(none.low == 0.0 && (none.high * 1e7 - 3.6889).abs() < 1e-4, "{none:?}");
    }

    #[test]
    fn wilsons_bounds_agree_with_published_values_from_ten_events_on() {
        // The same table, method 3.
        for (events, of, low, high) in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)] {
            for rate in [Rate::independent(events, of), Rate::independent(of - events, of)] {
                let found = rate.interval;
                let found =
                    if rate.events == events { (found.low, found.high) } else { (1.0 - found.high, 1.0 - found.low) };
                assert!((found.0 - low).abs() < 5e-5 && (found.1 - high).abs() < 5e-5, "{events} of {of}: {found:?}");
            }
        }
        for (events, method) in
            [(9, Method::Exact), (10, Method::Bootstrap), (90, Method::Bootstrap), (91, Method::Exact)]
        {
            assert_eq!(Rate::independent(events, 100).method, method, "{events}");
        }
    }

    #[test]
    fn share_has_the_bounds_of_as_many_events_as_its_variance_stands_for() {
        // As of 500 comparisons: 5 events, and 50.
        let of = |share: f64| Rate::of_share(share, share * (1.0 - share) / 500.0);
        let near = |a: Interval, b: Interval| (a.low - b.low).abs() < 1e-9 && (a.high - b.high).abs() < 1e-9;
        assert!(near(of(0.01), exact(5.0, 500.0)) && near(of(0.99), exact(495.0, 500.0)), "{:?}", of(0.01));
        assert!(near(of(0.1), Rate::independent(50, 500).interval), "{:?}", of(0.1));
        assert_eq!(Rate::of_share(0.1, 0.0), Interval { low: 0.1, high: 0.1 });
    }

    #[test]
    fn exact_bounds_cover_at_least_95_percent_of_all_outcomes() {
        // Not a simulation: the probability of every outcome of n independent comparisons, summed where the bounds hold.
        for (of, rate) in [(500u64, 0.002f64), (500, 0.01), (3_000, 0.001), (40, 0.3)] {
            let mut probability = (of as f64 * (-rate).ln_1p()).exp(); // of no event
            let mut covered = 0.0;
            for events in 0..=of {
                let bounds = exact(events as f64, of as f64);
                if bounds.low <= rate && rate <= bounds.high {
                    covered += probability;
                }
                probability *= (of - events) as f64 / (events + 1) as f64 * rate / (1.0 - rate);
            }
            println!("exact bounds, n {of}, rate {rate}: coverage {covered:.4}");
            assert!((0.95..=0.995).contains(&covered), "{covered} at {rate} of {of}");
        }
    }

    #[test]
    fn rate_of_shared_people_is_wider_and_never_narrower_than_of_independent_ones() {
        let plain = Rate::independent(100, 10_000);
        let shared = Rate::with_variance(100, 10_000, 4.0 * 0.01 * 0.99 / 1e4);
        assert!((shared.effective - 2_500.0).abs() < 1e-6 && shared.interval.high > plain.interval.high);
        assert_eq!(Rate::with_variance(100, 10_000, 1e-12), plain);
        assert_eq!(Rate::independent(0, 0).interval, Interval { low: 0.0, high: 1.0 });
        assert_eq!((Rate::independent(9, 100).method, plain.method), (Method::Exact, Method::Bootstrap));
    }

    #[test]
    fn laws_of_three_and_of_gallery_size_are_their_closed_forms() {
        assert_eq!(
            (comparisons_needed(1e-3), comparisons_needed(1e-6), comparisons_needed(0.7)),
            (3_000, 3_000_000, 5)
        );
        // 10,000 enrolled at FMR 1e-4 and 1e-6.
        assert!((fpir_of_fmr(1e-4, 10_000) - 0.632_139).abs() < 1e-6);
        assert!((fpir_of_fmr(1e-6, 10_000) - 0.009_950).abs() < 1e-6);
        for (fpir, size) in [(0.01, 1), (1e-3, 1_000), (0.3, 1_000_000)] {
            assert!((fpir_of_fmr(fmr_of_fpir(fpir, size), size) / fpir - 1.0).abs() < 1e-9);
        }
        assert!((fmr_of_fpir(0.01, 1) - 0.01).abs() < 1e-15);
    }
}
