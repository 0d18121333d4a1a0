//! Verify and identify: templates and an operating point → decision. Here thresholds are resolved and applied.

use std::collections::{BTreeMap, BTreeSet};

use crate::biometrics::decision::{AmbiguityMargin, Identification, Verification};
use crate::biometrics::ids::IdentityId;
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

/// Settles who is who where nobody can be two faces of a photo: which face each identity is left to. Of all pairs of a face
/// and a candidate that the threshold admits, the one with the highest score comes first (of equals the earlier face, then
/// the lower id), then the next whose face and identity are both free. Identities that no face gets are not in the answer.
///
/// Not the assignment with the highest sum: one whose best match is clear keeps it, however well that would suit others.
pub fn settle_each_identity_once(
    candidates: &[Vec<(IdentityId, Score)>],
    threshold: AppliedThreshold,
) -> BTreeMap<IdentityId, usize> {
    let of_face = |(face, candidates): (usize, &Vec<(IdentityId, Score)>)| {
        let admitted = candidates.iter().filter(|(_, score)| threshold.threshold.admits(*score)).cloned();
        admitted.map(|(identity, score)| (score, face, identity)).collect::<Vec<_>>()
    };
    let mut pairs: Vec<(Score, usize, IdentityId)> = candidates.iter().enumerate().flat_map(of_face).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, &a.2).cmp(&(b.1, &b.2))));
    let (mut settled, mut settled_faces) = (BTreeMap::new(), BTreeSet::new());
    for (_, face, identity) in pairs {
        if !settled.contains_key(&identity) && settled_faces.insert(face) {
            settled.insert(identity, face);
        }
    }
    settled
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
    fn each_identity_is_left_to_one_face_by_falling_score() {
        let settle = |faces: &[&[(&str, f32)]]| {
            let candidate =
                |(id, cosine): &(&str, f32)| (IdentityId::parse(id).expect("an id"), Score::from_cosine(*cosine));
            let faces: Vec<Vec<_>> = faces.iter().map(|face| face.iter().map(candidate).collect()).collect();
            let applied = AppliedThreshold { threshold: threshold(0.5), source: ThresholdSource::Request };
            let settled = settle_each_identity_once(&faces, applied);
            settled.iter().map(|(id, face)| format!("{} {face}", id.as_str())).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(settle(&[]), "");
        // Below the threshold nobody is anybody's.
        assert_eq!(settle(&[&[("ann", 0.4)], &[("ann", 0.49)]]), "");
        // The better face keeps her; the other may be whom it resembles next.
        assert_eq!(settle(&[&[("ann", 0.6), ("bob", 0.55)], &[("ann", 0.9)]]), "ann 1, bob 0");
        // Whoever is settled takes nobody else away, even where that score is higher than another face's.
        assert_eq!(settle(&[&[("ann", 0.9), ("bob", 0.8)], &[("bob", 0.7)]]), "ann 0, bob 1");
        // Ties: the earlier face, then the lower id.
        assert_eq!(settle(&[&[("bob", 0.7), ("ann", 0.7)], &[("ann", 0.7)]]), "ann 0");
        assert_eq!(settle(&[&[("ann", 0.5)], &[("ann", 0.5)]]), "ann 0");
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
