//! Verify and identify: templates and an operating point → decision. Here thresholds are resolved and applied.

use std::collections::{BTreeMap, BTreeSet};

use crate::biometrics::calibration::{
    CurveOf, Estimate, GallerySize, KnownCurve, NoThreshold, comparisons_needed, fmr_of_fpir,
};
use crate::biometrics::decision::{AmbiguityMargin, Identification, Verification};
use crate::biometrics::ids::IdentityId;
use crate::biometrics::score::{AppliedThreshold, OperatingPoint, Score, Threshold, ThresholdSource};
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
    curve: Option<&KnownCurve>,
) -> Result<Verified, Error> {
    let threshold = verification_threshold(operating_point, of_pack, curve)?;
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

/// The false match rate that a curve is asked for where the caller states nothing.
pub const FMR_DEFAULT: f64 = 1e-3;

/// The false positive identification rate that a curve is asked for where the caller states nothing.
pub const FPIR_DEFAULT: f64 = 1e-2;

/// Resolves the threshold of a comparison: the request's, else the pack's, else the curve's at [`FMR_DEFAULT`], else the
/// uncalibrated default. A gallery's own curve comes before the pack's threshold.
///
/// *Errors*: [`Error::BadField`] for an FPIR, which is a rate of searches; [`Error::NoCalibrationCurve`] for an FMR that no
/// curve supports; [`Error::RateOutOfReach`].
pub fn verification_threshold(
    operating_point: OperatingPoint,
    of_pack: Option<Threshold>,
    curve: Option<&KnownCurve>,
) -> Result<AppliedThreshold, Error> {
    let for_rate = |rate: f64| threshold_for(curve, rate, |curve| curve.threshold_for_fmr(rate));
    let (threshold, source) = match operating_point {
        OperatingPoint::Cosine(threshold) => (threshold, ThresholdSource::Request),
        OperatingPoint::Fmr(rate) => (for_rate(rate.value())?, ThresholdSource::Curve),
        OperatingPoint::Fpir(_) => {
            return Err(Error::bad_field("operating_point.fpir", "absent: verification takes a cosine or an FMR"));
        }
        OperatingPoint::Default => {
            default_of(None, of_pack, (for_rate(FMR_DEFAULT).ok(), curve), Threshold::VERIFICATION_DEFAULT)
        }
    };
    let estimate = curve.map(|curve| curve.of_comparison(threshold.cosine()));
    let is_unsupported = operating_point == OperatingPoint::Default && for_rate(FMR_DEFAULT).is_err();
    let estimate = estimate.map(|estimate| Estimate { is_unsupported, ..estimate });
    Ok(AppliedThreshold { threshold, source, estimate })
}

/// What a search is decided by, besides what was stated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Searched<'a> {
    /// How large the gallery is. Also of a search among some of its identities, whose FPIR is lower then than it is said.
    pub size: GallerySize,
    /// What is known of scores.
    pub curve: Option<&'a KnownCurve>,
}

/// Resolves the threshold of a search: the request's, else the gallery's, else the pack's, else the curve's at
/// [`FPIR_DEFAULT`] and the gallery's size, else the uncalibrated default. A gallery's own curve comes before the pack's
/// threshold.
///
/// *Errors*: [`Error::BadField`] for an FMR, which is a rate of comparisons; [`Error::NoCalibrationCurve`] for an FPIR that no
/// curve supports; [`Error::RateOutOfReach`].
pub fn identification_threshold(
    operating_point: OperatingPoint,
    of_gallery: Option<Threshold>,
    of_pack: Option<Threshold>,
    searched: Searched<'_>,
) -> Result<AppliedThreshold, Error> {
    let Searched { size, curve } = searched;
    let for_rate = |rate: f64| {
        threshold_for(curve, fmr_of_fpir(rate, size.comparisons), |curve| curve.threshold_for_fpir(rate, size))
    };
    let (threshold, source) = match operating_point {
        OperatingPoint::Cosine(threshold) => (threshold, ThresholdSource::Request),
        OperatingPoint::Fpir(rate) => (for_rate(rate.value())?, ThresholdSource::Curve),
        OperatingPoint::Fmr(_) => {
            return Err(Error::bad_field("operating_point.fmr", "absent: identification takes a cosine or an FPIR"));
        }
        OperatingPoint::Default => {
            let of_curve = for_rate(FPIR_DEFAULT).ok();
            default_of(of_gallery, of_pack, (of_curve, curve), Threshold::IDENTIFICATION_DEFAULT)
        }
    };
    let estimate = curve.map(|curve| curve.of_search(threshold.cosine(), size));
    let is_unsupported = operating_point == OperatingPoint::Default
        && source != ThresholdSource::Gallery
        && for_rate(FPIR_DEFAULT).is_err();
    let estimate = estimate.map(|estimate| Estimate { is_unsupported, ..estimate });
    Ok(AppliedThreshold { threshold, source, estimate })
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

fn threshold_for(
    curve: Option<&KnownCurve>,
    fmr: f64,
    read: impl Fn(&KnownCurve) -> Result<f32, NoThreshold>,
) -> Result<Threshold, Error> {
    let Some(curve) = curve else {
        return Err(Error::NoCalibrationCurve { comparisons_needed: comparisons_needed(fmr), comparisons_found: 0 });
    };
    let cosine = read(curve).map_err(|error| match error {
        NoThreshold::NotEnough { needed, found } => {
            Error::NoCalibrationCurve { comparisons_needed: needed, comparisons_found: found }
        }
        NoThreshold::Identical(identical) => Error::RateOutOfReach { identical },
    })?;
    Threshold::from_cosine("operating_point", cosine)
}

/// Of what is stated or known, the nearest to the gallery.
fn default_of(
    of_gallery: Option<Threshold>,
    of_pack: Option<Threshold>,
    (of_curve, curve): (Option<Threshold>, Option<&KnownCurve>),
    default: Threshold,
) -> (Threshold, ThresholdSource) {
    let is_gallerys = curve.is_some_and(|curve| matches!(curve.of, CurveOf::Gallery { .. }));
    let stated = [
        (of_gallery, ThresholdSource::Gallery),
        (of_curve.filter(|_| is_gallerys), ThresholdSource::Curve),
        (of_pack, ThresholdSource::Pack),
        (of_curve, ThresholdSource::Curve),
    ];
    let nearest = stated.into_iter().find_map(|(threshold, source)| Some((threshold?, source)));
    let (threshold, source) = nearest.unwrap_or((default, ThresholdSource::UncalibratedDefault));
    if matches!(source, ThresholdSource::Gallery | ThresholdSource::Curve) {
        return (threshold, source);
    }
    // A curve that is too small for the rate knows nonetheless that a lower threshold is not enough.
    let strictest = curve.and_then(|curve| Threshold::from_cosine("curve", curve.strictest_threshold().ok()?).ok());
    match strictest.filter(|strictest| of_curve.is_none() && strictest.cosine() > threshold.cosine()) {
        Some(strictest) => (strictest, ThresholdSource::Curve),
        None => (threshold, source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::calibration::{Curve, ScoreCounts};
    use crate::biometrics::ids::PackId;
    use crate::biometrics::score::ErrorRate;

    fn template(values: &[f32]) -> Template {
        Template::from_vector(values, PackId::from_digits("0a".repeat(16))).expect("a template")
    }

    fn threshold(cosine: f32) -> Threshold {
        Threshold::from_cosine("t", cosine).expect("a cosine")
    }

    fn sized(count: u64) -> GallerySize {
        GallerySize { identities: count, comparisons: count }
    }

    fn rate(rate: f64) -> ErrorRate {
        ErrorRate::new("r", rate).expect("a rate")
    }

    #[test]
    fn rate_without_a_curve_says_how_many_comparisons_it_takes() {
        let fmr = verification_threshold(OperatingPoint::Fmr(rate(0.001)), None, None);
        assert!(matches!(fmr, Err(Error::NoCalibrationCurve { comparisons_needed: 3_000, comparisons_found: 0 })));
        let fpir = identification_threshold(OperatingPoint::Fpir(rate(0.01)), None, None, Searched::default());
        assert!(matches!(fpir, Err(Error::NoCalibrationCurve { comparisons_needed: 300, comparisons_found: 0 })));
    }

    #[test]
    fn threshold_of_a_curve_rises_with_the_gallery_until_it_supports_no_more() {
        let mut non_mated = ScoreCounts::default();
        (0..30_000).for_each(|at| non_mated.add(at as f32 / 100_000.0).expect("a score"));
        let curve = Curve::of(&ScoreCounts::default(), &non_mated);
        let pack_id = PackId::from_digits("0a".repeat(16));
        let known = |of| KnownCurve::new(pack_id.clone(), &curve, of, String::new(), None);
        let (known, of_pack) = (known(CurveOf::Gallery { identities: 2 }), known(CurveOf::Pack));
        let at = |size| {
            let searched = Searched { size: sized(size), curve: Some(&known) };
            identification_threshold(OperatingPoint::Fpir(rate(0.01)), None, None, searched)
        };
        let (few, many) = (at(10).expect("a threshold"), at(100).expect("a threshold"));
        assert!(few.threshold.cosine() < many.threshold.cosine() && many.source == ThresholdSource::Curve);
        let (few, many) = (few.estimate.expect("an estimate"), many.estimate.expect("an estimate"));
        assert!(few.rate <= 0.01 && many.rate <= 0.01 && many.interval.high > many.rate);
        assert_eq!((few.is_outgrown, many.is_outgrown, many.curve), (false, true, known.id));
        // Ten times the two that the gallery had are what its curve was set for.
        let is_outgrown = |size| at(size).expect("a threshold").estimate.expect("an estimate").is_outgrown;
        assert_eq!((is_outgrown(20), is_outgrown(21)), (false, true));
        let refused = at(1_000);
        assert!(matches!(refused, Err(Error::NoCalibrationCurve { comparisons_found: 30_000, .. })));
        // Without a word of the caller: what is nearest to the gallery, and never what the curve does not support.
        let default = |of_gallery, of_pack, size, curve| {
            let searched = Searched { size: sized(size), curve: Some(curve) };
            let found = identification_threshold(OperatingPoint::Default, of_gallery, of_pack, searched);
            found.expect("a threshold").source
        };
        let stated = Some(threshold(0.4));
        assert_eq!(default(stated, stated, 10, &known), ThresholdSource::Gallery);
        assert_eq!(default(None, stated, 10, &known), ThresholdSource::Curve);
        assert_eq!(default(None, stated, 10, &of_pack), ThresholdSource::Pack);
        assert_eq!(default(None, None, 10, &of_pack), ThresholdSource::Curve);
        // The scores end at .3, so that nothing is known above, and .5 is no lower.
        assert_eq!(default(None, None, 1_000, &of_pack), ThresholdSource::UncalibratedDefault);
        // Of others that score higher the curve knows that .5 is not enough, and how far it can tell.
        let mut high = ScoreCounts::default();
        (0..3_000).for_each(|at| high.add(0.5 + at as f32 / 10_000.0).expect("a score"));
        let high = Curve::of(&ScoreCounts::default(), &high);
        let high = KnownCurve::new(pack_id.clone(), &high, CurveOf::Gallery { identities: 9 }, String::new(), None);
        for stated in [None, Some(threshold(0.4))] {
            let searched = Searched { size: sized(4_000), curve: Some(&high) };
            let found = identification_threshold(OperatingPoint::Default, None, stated, searched).expect("one");
            assert!(found.source == ThresholdSource::Curve && found.threshold.cosine() > 0.79);
            assert!(found.estimate.is_some_and(|estimate| estimate.is_unsupported));
        }
        let pair = verification_threshold(OperatingPoint::Fmr(rate(0.01)), None, Some(&known)).expect("a threshold");
        assert!(pair.estimate.is_some_and(|estimate| estimate.rate <= 0.01) && pair.threshold.cosine() > 0.29);
    }

    #[test]
    fn default_rate_that_a_curve_does_not_support_is_said_where_it_was_asked_for() {
        let curve = |count: usize| {
            let mut non_mated = ScoreCounts::default();
            (0..count).for_each(|at| non_mated.add(at as f32 / 100_000.0).expect("a score"));
            let curve = Curve::of(&ScoreCounts::default(), &non_mated);
            KnownCurve::new(PackId::from_digits("0a".repeat(16)), &curve, CurveOf::Pack, String::new(), None)
        };
        let is_said = |applied: Result<AppliedThreshold, Error>| {
            applied.expect("a threshold").estimate.expect("an estimate").is_unsupported
        };
        let (small, large) = (curve(200), curve(30_000));
        let stated = OperatingPoint::Cosine(threshold(0.4));
        for (point, curve, expected) in [
            (OperatingPoint::Default, &small, true),
            (OperatingPoint::Default, &large, false),
            (stated, &small, false),
            (stated, &large, false),
        ] {
            let of_pair = verification_threshold(point, Some(threshold(0.3)), Some(curve));
            assert_eq!(is_said(of_pair), expected, "{point:?}");
            let searched = Searched { size: sized(1), curve: Some(curve) };
            assert_eq!(is_said(identification_threshold(point, None, None, searched)), expected, "{point:?}");
            // A gallery's own threshold asks for no rate.
            let own = identification_threshold(point, Some(threshold(0.3)), None, searched);
            assert!(!is_said(own), "{point:?}");
        }
    }

    #[test]
    fn rate_of_the_other_question_is_bad_field() {
        let of_search = verification_threshold(OperatingPoint::Fpir(rate(0.1)), None, None);
        let of_pair = identification_threshold(OperatingPoint::Fmr(rate(0.1)), None, None, Searched::default());
        assert!(matches!(of_search, Err(Error::BadField { .. })) && matches!(of_pair, Err(Error::BadField { .. })));
    }

    #[test]
    fn each_identity_is_left_to_one_face_by_falling_score() {
        let settle = |faces: &[&[(&str, f32)]]| {
            let candidate =
                |(id, cosine): &(&str, f32)| (IdentityId::parse(id).expect("an id"), Score::from_cosine(*cosine));
            let faces: Vec<Vec<_>> = faces.iter().map(|face| face.iter().map(candidate).collect()).collect();
            let applied =
                AppliedThreshold { threshold: threshold(0.5), source: ThresholdSource::Request, estimate: None };
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
            let applied = identification_threshold(point, gallery, pack, Searched::default()).expect("a threshold");
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
        let at = |cosine| verify(&a, &b, OperatingPoint::Cosine(threshold(cosine)), None, None).expect("verified");
        assert_eq!(at(0.8).score.cosine(), 0.8);
        assert_eq!(at(0.8).decision, Verification::Match);
        assert_eq!(at(0.801).decision, Verification::NoMatch);
    }
}
