//! Verify and identify: templates and an operating point → decision. Here thresholds are resolved and applied.

use crate::biometrics::decision::{AmbiguityMargin, Identification, Verification};
use crate::biometrics::score::{AppliedThreshold, ErrorRate, OperatingPoint, Score, Threshold, ThresholdSource};
use crate::biometrics::template::Template;
use crate::error::Error;

/// The answer of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verified {
    /// Match or not.
    pub decision: Verification,
    /// The score of the best pair of templates.
    pub score: Score,
    /// The threshold it was held against.
    pub threshold: AppliedThreshold,
}

/// Compares two sides, each one or more templates of one person: the best pair decides. A side that is an identity is
/// what its gallery's fusion makes of it.
///
/// *Errors*: [`Error::PackMismatch`]; [`Error::BadField`] for an FPIR; [`Error::NoCalibrationCurve`].
pub fn verify(
    a: &[Template],
    b: &[Template],
    operating_point: OperatingPoint,
    of_pack: Option<Threshold>,
) -> Result<Verified, Error> {
    let threshold = verification_threshold(operating_point, of_pack)?;
    let mut best: Option<Score> = None;
    for template in a {
        for other in b {
            let score = template.score(other)?;
            if best.is_none_or(|best| score.total_cmp(&best).is_gt()) {
                best = Some(score);
            }
        }
    }
    let score = best.ok_or_else(|| Error::internal("a side without a template"))?;
    Ok(Verified { decision: Verification::decide(score, threshold.threshold), score, threshold })
}

/// Resolves the threshold of a comparison: the request's, else the pack's, else the uncalibrated default.
///
/// *Errors*: [`Error::BadField`] for an FPIR, which is a rate of searches; [`Error::NoCalibrationCurve`] for an FMR.
pub fn verification_threshold(
    operating_point: OperatingPoint,
    of_pack: Option<Threshold>,
) -> Result<AppliedThreshold, Error> {
    match operating_point {
        OperatingPoint::Cosine(threshold) => Ok(AppliedThreshold { threshold, source: ThresholdSource::Request }),
        OperatingPoint::Fmr(rate) => Err(no_curve(rate)),
        OperatingPoint::Fpir(_) => {
            Err(Error::bad_field("operating_point.fpir", "absent: verification takes a cosine or an FMR"))
        }
        OperatingPoint::Default => Ok(first_of([(of_pack, ThresholdSource::Pack)], Threshold::VERIFICATION_DEFAULT)),
    }
}

/// Resolves the threshold of a search: the request's, else the gallery's, else the pack's, else the uncalibrated
/// default.
///
/// *Errors*: [`Error::BadField`] for an FMR, which is a rate of comparisons; [`Error::NoCalibrationCurve`] for an FPIR.
pub fn identification_threshold(
    operating_point: OperatingPoint,
    of_gallery: Option<Threshold>,
    of_pack: Option<Threshold>,
) -> Result<AppliedThreshold, Error> {
    match operating_point {
        OperatingPoint::Cosine(threshold) => Ok(AppliedThreshold { threshold, source: ThresholdSource::Request }),
        OperatingPoint::Fpir(rate) => Err(no_curve(rate)),
        OperatingPoint::Fmr(_) => {
            Err(Error::bad_field("operating_point.fmr", "absent: identification takes a cosine or an FPIR"))
        }
        OperatingPoint::Default => {
            let sources = [(of_gallery, ThresholdSource::Gallery), (of_pack, ThresholdSource::Pack)];
            Ok(first_of(sources, Threshold::IDENTIFICATION_DEFAULT))
        }
    }
}

/// Decides a search from the scores of distinct identities, best first.
pub fn identify(best_first: &[Score], threshold: AppliedThreshold, margin: AmbiguityMargin) -> Identification {
    Identification::decide(best_first, threshold.threshold, margin)
}

/// How many identities a search must return for [`identify`] to see a runner-up.
pub const RANKED_MIN: usize = 2;

fn no_curve(rate: ErrorRate) -> Error {
    Error::NoCalibrationCurve { comparisons_needed: rate.comparisons_needed() }
}

fn first_of<const N: usize>(
    sources: [(Option<Threshold>, ThresholdSource); N],
    default: Threshold,
) -> AppliedThreshold {
    let stated = sources.into_iter().find_map(|(threshold, source)| Some((threshold?, source)));
    let (threshold, source) = stated.unwrap_or((default, ThresholdSource::UncalibratedDefault));
    AppliedThreshold { threshold, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::ids::PackId;

    fn template(values: &[f32]) -> Template {
        Template::from_vector(values, PackId::from_digits("0a".repeat(16))).expect("a template")
    }

    fn threshold(cosine: f32) -> Threshold {
        Threshold::from_cosine("t", cosine).expect("a cosine")
    }

    fn rate(rate: f64) -> ErrorRate {
        ErrorRate::new("r", rate).expect("a rate")
    }

    #[test]
    fn rate_without_a_curve_says_how_many_comparisons_it_takes() {
        let fmr = verification_threshold(OperatingPoint::Fmr(rate(0.001)), None);
        assert!(matches!(fmr, Err(Error::NoCalibrationCurve { comparisons_needed: 3_000 })));
        let fpir = identification_threshold(OperatingPoint::Fpir(rate(0.01)), None, None);
        assert!(matches!(fpir, Err(Error::NoCalibrationCurve { comparisons_needed: 300 })));
    }

    #[test]
    fn rate_of_the_other_question_is_bad_field() {
        let of_search = verification_threshold(OperatingPoint::Fpir(rate(0.1)), None);
        let of_pair = identification_threshold(OperatingPoint::Fmr(rate(0.1)), None, None);
        assert!(matches!(of_search, Err(Error::BadField { .. })) && matches!(of_pair, Err(Error::BadField { .. })));
    }

    #[test]
    fn threshold_is_the_nearest_one_stated() {
        let (request, gallery, pack) = (threshold(0.6), Some(threshold(0.4)), Some(threshold(0.3)));
        let resolve = |point, gallery, pack| {
            let applied = identification_threshold(point, gallery, pack).expect("a threshold");
            (applied.threshold.cosine(), applied.source)
        };
        assert_eq!(resolve(OperatingPoint::Cosine(request), gallery, pack), (0.6, ThresholdSource::Request));
        assert_eq!(resolve(OperatingPoint::Default, gallery, pack), (0.4, ThresholdSource::Gallery));
        assert_eq!(resolve(OperatingPoint::Default, None, pack), (0.3, ThresholdSource::Pack));
        assert_eq!(resolve(OperatingPoint::Default, None, None), (0.5, ThresholdSource::UncalibratedDefault));
    }

    #[test]
    fn verify_decides_by_the_best_pair_inclusively() {
        let a = [template(&[1.0, 0.0]), template(&[0.0, 1.0])];
        let b = [template(&[0.6, 0.8])];
        let at = |cosine| verify(&a, &b, OperatingPoint::Cosine(threshold(cosine)), None).expect("verified");
        assert_eq!(at(0.8).score.cosine(), 0.8);
        assert_eq!(at(0.8).decision, Verification::Match);
        assert_eq!(at(0.801).decision, Verification::NoMatch);
    }
}
