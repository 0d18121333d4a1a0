//! Decisions of verification and identification.

use super::score::{Score, Threshold};
use crate::error::Error;

/// The answer of a one-to-one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Score ≥ threshold.
    Match,
    /// Score < threshold.
    NoMatch,
}

impl Verification {
    /// Decides one comparison.
    pub fn decide(score: Score, threshold: Threshold) -> Self {
        if threshold.admits(score) { Verification::Match } else { Verification::NoMatch }
    }
}

/// The answer of a search that had a template to search with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identification {
    /// The best candidate matches and is clear of the runner-up.
    Match,
    /// Nobody matches.
    NoMatch,
    /// The runner-up matches too, by less than the margin below the best.
    Ambiguous,
}

/// How far the best candidate must be above a runner-up who matches too, as a difference of cosines from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AmbiguityMargin(f32);

impl AmbiguityMargin {
    /// The default: about the standard deviation of non-mated cosines of the packs measured (0.05 to 0.07), so two
    /// matches closer than that are no clear answer.
    pub const DEFAULT: AmbiguityMargin = AmbiguityMargin(0.05);

    /// Checks a margin.
    ///
    /// *Errors*: [`Error::BadField`] where it is not within [0, 1].
    pub fn new(field: &'static str, margin: f32) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&margin) {
            return Err(Error::bad_field(field, "a difference of cosines from 0 to 1"));
        }
        Ok(Self(margin))
    }

    /// Returns the difference of cosines.
    pub fn cosine_difference(self) -> f32 {
        self.0
    }
}

impl Default for AmbiguityMargin {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Identification {
    /// Decides a search from the scores of distinct identities, best first.
    pub fn decide(ranked: &[Score], threshold: Threshold, margin: AmbiguityMargin) -> Self {
        let mut matching = ranked.iter().take_while(|score| threshold.admits(**score));
        match (matching.next(), matching.next()) {
            (None, _) => Identification::NoMatch,
            (Some(best), Some(second)) if best.cosine() - second.cosine() < margin.0 => Identification::Ambiguous,
            (Some(_), _) => Identification::Match,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(scores: &[f32], margin: f32) -> Identification {
        let ranked: Vec<Score> = scores.iter().map(|s| Score::from_cosine(*s)).collect();
        let threshold = Threshold::from_cosine("t", 0.5).expect("a cosine");
        Identification::decide(&ranked, threshold, AmbiguityMargin::new("m", margin).expect("a margin"))
    }

    #[test]
    fn nobody_at_the_threshold_is_no_match() {
        assert_eq!(decide(&[], 0.05), Identification::NoMatch);
        assert_eq!(decide(&[0.49], 0.05), Identification::NoMatch);
    }

    #[test]
    fn a_close_runner_up_is_ambiguous_only_where_it_matches() {
        assert_eq!(decide(&[0.70, 0.68], 0.05), Identification::Ambiguous);
        assert_eq!(decide(&[0.52, 0.49], 0.05), Identification::Match);
        assert_eq!(decide(&[0.70, 0.60], 0.05), Identification::Match);
        assert_eq!(decide(&[0.50], 0.05), Identification::Match);
    }

    #[test]
    fn zero_margin_is_never_ambiguous() {
        assert_eq!(decide(&[0.7, 0.7], 0.0), Identification::Match);
    }
}
