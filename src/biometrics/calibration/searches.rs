//! What real searches tell: error rates of identification at gallery sizes.

use super::counts::{ScoreCounts, Steps};
use super::rate::Rate;

/// One probe, searched for in galleries of several sizes, with its own identity left out and with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Whose probe it is, by number.
    pub identity: u32,
    /// The score of its own identity; `None` where no other photo of it is enrolled.
    pub mate: Option<f32>,
    /// For each gallery size N, the best score among N other identities.
    pub best_other: Vec<f32>,
    /// For each gallery size N, how many of N − 1 other identities score as high as the mate or higher.
    pub above_mate: Vec<u32>,
}

/// Searches of all probes.
#[derive(Clone, Debug, Default)]
pub struct Searches {
    /// Rising gallery sizes, in identities.
    pub sizes: Vec<usize>,
    /// One a probe.
    pub searches: Vec<Search>,
}

impl Searches {
    /// Returns the false positive identification rate: of searches for somebody who is not enrolled, how many return anybody.
    /// Its variance is that of probes which come in clusters, a cluster a person.
    pub fn fpir(&self, size: usize, threshold: f32) -> Rate {
        let returned = |search: &Search| search.best_other.get(size).is_some_and(|best| *best >= threshold);
        self.clustered(self.searches.iter().map(|search| (search.identity, returned(search))))
    }

    /// Returns the false negative identification rate at rank 1: of searches for somebody who is enrolled, how many do not
    /// return that person first and at or above the threshold.
    pub fn fnir(&self, size: usize, threshold: f32) -> Rate {
        self.clustered(self.mated().map(|(search, mate)| {
            (search.identity, mate < threshold || search.above_mate.get(size).is_none_or(|above| *above > 0))
        }))
    }

    /// Returns the share of searches for somebody enrolled that has that person within a rank, without a threshold.
    pub fn hit_rate(&self, size: usize, rank: u32) -> Rate {
        self.clustered(
            self.mated()
                .map(|(search, _)| (search.identity, search.above_mate.get(size).is_some_and(|above| *above < rank))),
        )
    }

    /// Returns the best scores of searches for somebody who is not enrolled, to read thresholds off.
    pub fn best_others(&self, size: usize) -> Steps {
        let mut counts = ScoreCounts::default();
        for best in self.searches.iter().filter_map(|search| search.best_other.get(size)) {
            // What is no score was refused when it was made.
            let _ = counts.add(*best);
        }
        counts.steps()
    }

    fn mated(&self) -> impl Iterator<Item = (&Search, f32)> {
        self.searches.iter().filter_map(|search| Some((search, search.mate?)))
    }

    fn clustered(&self, outcomes: impl Iterator<Item = (u32, bool)>) -> Rate {
        let mut clusters: std::collections::HashMap<u32, (u64, u64)> = std::collections::HashMap::new();
        let (mut events, mut of) = (0, 0);
        for (identity, event) in outcomes {
            let cluster = clusters.entry(identity).or_default();
            cluster.0 += u64::from(event);
            cluster.1 += 1;
            events += u64::from(event);
            of += 1;
        }
        let rate = events as f64 / f64::max(of as f64, 1.0);
        let squares: f64 = clusters.values().map(|(events, of)| (*events as f64 - rate * *of as f64).powi(2)).sum();
        Rate::with_variance(events, of, squares / f64::max(of as f64, 1.0).powi(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_counted_by_hand() {
        let search = |identity, mate, best_other: [f32; 2], above_mate: [u32; 2]| Search {
            identity,
            mate,
            best_other: best_other.into(),
            above_mate: above_mate.into(),
        };
        let searches = Searches {
            sizes: vec![10, 100],
            searches: vec![
                search(0, Some(0.7), [0.2, 0.4], [0, 0]),
                search(0, Some(0.3), [0.1, 0.35], [0, 1]),
                search(1, Some(0.4), [0.4, 0.5], [1, 2]),
                search(2, None, [0.1, 0.1], [0, 0]),
            ],
        };
        let counts = |rate: Rate| (rate.events, rate.of);
        // Inclusive: the best of 10 at exactly .4 is returned.
        assert_eq!((counts(searches.fpir(0, 0.4)), counts(searches.fpir(1, 0.35))), ((1, 4), (3, 4)));
        assert_eq!((counts(searches.fnir(0, 0.4)), counts(searches.fnir(1, 0.0))), ((2, 3), (2, 3)));
        assert_eq!((counts(searches.hit_rate(1, 1)), counts(searches.hit_rate(1, 3))), ((1, 3), (3, 3)));
        assert_eq!(searches.best_others(1).at_least_at_most(0.4), 2);
        // A person's probes vary together: two of three of one and none of one of another is a rate of 1/2 with the squares
        // of 1/2 and of 1/2 over 16.
        let rate = searches.clustered([(0, true), (0, true), (0, false), (1, false)].into_iter());
        assert_eq!(rate, Rate::with_variance(2, 4, 0.5 / 16.0));
    }
}
