//! Scores, thresholds and operating points.

use std::cmp::Ordering;

use super::calibration::Estimate;
use crate::error::Error;

/// The cosine of two templates, from −1 to 1. Not a probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score(f32);

impl Score {
    /// Takes a cosine; rounding may have carried it a little out of [−1, 1], which is mended.
    pub fn from_cosine(cosine: f32) -> Self {
        Self(cosine.clamp(-1.0, 1.0))
    }

    /// Returns the cosine.
    pub fn cosine(self) -> f32 {
        self.0
    }

    /// Orders by rising score; total, since a score is never NaN.
    pub fn total_cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A cosine limit, from −1 to 1: a comparison matches when score ≥ threshold (inclusive).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold(f32);

impl Threshold {
    /// The uncalibrated default of verification: the cosine of the study this engine grew from. At about 1.8 % FMR
    /// there, it is fit for pairs and for nothing else.
    pub const VERIFICATION_DEFAULT: Threshold = Threshold(0.2);

    /// The uncalibrated default of identification: the strictest threshold that engines of the field ship with
    /// (0.40 to 0.50). A search of N identities makes N comparisons, so its threshold must be far above a pair's:
    /// FPIR ≈ 1 − (1 − FMR)^N.
    pub const IDENTIFICATION_DEFAULT: Threshold = Threshold(0.5);

    /// Checks a cosine threshold.
    ///
    /// *Errors*: [`Error::BadField`] where it is not within [−1, 1].
    pub fn from_cosine(field: &'static str, cosine: f32) -> Result<Self, Error> {
        if !(-1.0..=1.0).contains(&cosine) {
            return Err(Error::bad_field(field, "a cosine from -1 to 1"));
        }
        Ok(Self(cosine))
    }

    /// Returns the cosine.
    pub fn cosine(self) -> f32 {
        self.0
    }

    /// Tells whether a score matches: score ≥ threshold. The one place where a threshold is applied.
    pub fn admits(self, score: Score) -> bool {
        score.cosine() >= self.0
    }
}

/// What a caller accepts as "the same".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum OperatingPoint {
    /// The default of the call.
    #[default]
    Default,
    /// A cosine.
    Cosine(Threshold),
    /// A target false match rate of one-to-one comparison.
    Fmr(ErrorRate),
    /// A target false positive identification rate of a search, at the gallery's size now.
    Fpir(ErrorRate),
}

/// A target error rate, between 0 and 1 exclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorRate(f64);

impl ErrorRate {
    /// Checks a rate.
    ///
    /// *Errors*: [`Error::BadField`] where it is not between 0 and 1.
    pub fn new(field: &'static str, rate: f64) -> Result<Self, Error> {
        if !(rate > 0.0 && rate < 1.0) {
            return Err(Error::bad_field(field, "a rate between 0 and 1, both excluded"));
        }
        Ok(Self(rate))
    }

    /// Returns the rate.
    pub fn value(self) -> f64 {
        self.0
    }

    /// Returns how many non-mated comparisons without an error it takes to claim this rate with 95 % certainty.
    ///
    /// *Source*: the rule of three, 3 / rate.
    pub fn comparisons_needed(self) -> u64 {
        (3.0 / self.0).ceil() as u64
    }
}

/// Where a threshold came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThresholdSource {
    /// The caller stated it.
    Request,
    /// The gallery's setting.
    Gallery,
    /// The pack's manifest.
    Pack,
    /// The engine's default, for which no error rate is known.
    UncalibratedDefault,
    /// Read off a calibration curve, for the rate that the caller stated.
    Curve,
}

/// The threshold of one decision and its origin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppliedThreshold {
    /// The limit.
    pub threshold: Threshold,
    /// Its origin.
    pub source: ThresholdSource,
    /// What errors it costs; `None` where there is no curve to tell.
    pub estimate: Option<Estimate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threshold_admits_its_own_cosine() -> Result<(), Error> {
        let threshold = Threshold::from_cosine("cosine", 0.3)?;
        assert!(threshold.admits(Score::from_cosine(0.3)));
        assert!(!threshold.admits(Score::from_cosine(0.299_999_98)));
        Ok(())
    }

    #[test]
    fn threshold_outside_cosines_is_bad_field() {
        for cosine in [1.1, -1.1, f32::NAN, f32::INFINITY] {
            assert!(Threshold::from_cosine("cosine", cosine).is_err(), "{cosine}");
        }
    }

    #[test]
    fn error_rate_needs_three_over_rate_comparisons() -> Result<(), Error> {
        assert_eq!(ErrorRate::new("fmr", 1e-3)?.comparisons_needed(), 3_000);
        for rate in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(ErrorRate::new("fmr", rate).is_err(), "{rate}");
        }
        Ok(())
    }
}
