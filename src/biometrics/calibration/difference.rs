//! Are two rates different, or is it chance?

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::gamma::ln_gamma;

use super::rate::Rate;

/// Events from which the normal approximation is used; below, Fisher's exact test.
const EVENTS_MIN: f64 = 10.0;

/// Returns how likely two rates are to differ by as much if they were the same in truth (a two-sided p value), with as many
/// comparisons as the rates' intervals take them to be worth. 1 where one of them was not counted at all.
///
/// *Source*: pooled two-proportion test; R. A. Fisher's exact test where an expected count is below ten.
pub fn difference(a: &Rate, b: &Rate) -> f64 {
    if a.of == 0 || b.of == 0 {
        return 1.0;
    }
    let events = |rate: &Rate| rate.value() * rate.effective;
    let pooled = (events(a) + events(b)) / (a.effective + b.effective);
    let fewest = pooled.min(1.0 - pooled) * a.effective.min(b.effective);
    if fewest < EVENTS_MIN {
        return fisher(events(a).round(), a.effective.round(), events(b).round(), b.effective.round());
    }
    let deviation = (pooled * (1.0 - pooled) * (1.0 / a.effective + 1.0 / b.effective)).sqrt();
    let z = (a.value() - b.value()).abs() / deviation;
    Normal::standard().sf(z) * 2.0
}

/// The probability of all tables with these margins that are no more likely than the one found.
fn fisher(a_events: f64, a_of: f64, b_events: f64, b_of: f64) -> f64 {
    let events = a_events + b_events;
    let ln_choose = |n: f64, k: f64| ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0);
    let ln_probability = |a: f64| ln_choose(a_of, a) + ln_choose(b_of, events - a) - ln_choose(a_of + b_of, events);
    let (low, high) = ((events - b_of).max(0.0), events.min(a_of));
    let found = ln_probability(a_events);
    let tables = (low as u64..=high as u64).map(|a| ln_probability(a as f64));
    // Tables that are as likely as the one found differ from it by rounding.
    tables.filter(|table| *table <= found + 1e-7).map(f64::exp).sum::<f64>().min(1.0)
}

/// Returns p values such that no more than one in twenty families of tests has any below .05 by chance.
///
/// *Source*: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6 (1979).
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (mut highest, count) = (0.0f64, p_values.len());
    for (rank, (_, p)) in order.iter_mut().enumerate() {
        highest = highest.max((*p * (count - rank) as f64).min(1.0));
        *p = highest;
    }
    order.sort_by_key(|(index, _)| *index);
    order.into_iter().map(|(_, p)| p).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_events_are_compared_by_fishers_exact_test() {
        // Fisher's tea: 3 of 4 against 1 of 4 is .4857 two-sided; R's fisher.test gives the same.
        let p = difference(&Rate::independent(3, 4), &Rate::independent(1, 4));
        assert!((p - 0.485_714).abs() < 1e-6, "{p}");
        // R: fisher.test(matrix(c(1, 9, 11, 3), 2)).
        let p = difference(&Rate::independent(1, 10), &Rate::independent(11, 14));
        assert!((p - 0.002_759).abs() < 1e-6, "{p}");
    }

    #[test]
    fn frequent_events_are_compared_by_the_normal_approximation() {
        // By hand: pooled .15, deviation √(.15·.85·(2/1000)), z 6.262, p 3.8e-10.
        let p = difference(&Rate::independent(100, 1_000), &Rate::independent(200, 1_000));
        assert!((p / 3.8e-10 - 1.0).abs() < 0.01, "{p}");
        assert!(difference(&Rate::independent(100, 1_000), &Rate::independent(104, 1_000)) > 0.5);
        // Comparisons worth a tenth as much: z is smaller by √10.
        let shared = |events| Rate::with_variance(events, 1_000, 10.0 * events as f64 * (1e3 - events as f64) / 1e9);
        assert!((0.04..0.06).contains(&difference(&shared(100), &shared(200))));
        assert_eq!(difference(&Rate::independent(0, 0), &Rate::independent(5, 10)), 1.0);
    }

    #[test]
    fn holm_agrees_with_r() {
        // R: p.adjust(c(.01, .04, .03, .005), "holm").
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-12, "{adjusted:?}");
        }
    }
}
