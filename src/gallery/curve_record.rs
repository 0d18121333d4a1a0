//! Calibration curves as records.

use prost::Message;

use super::record::{micros, time};
use crate::biometrics::calibration::{Curve, CurveOf, Inflation, KnownCurve, StatedCurve, StatedSteps};
use crate::biometrics::ids::{GalleryId, PackId};
use crate::error::Error;

/// What a curve is kept for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CurveOwner {
    /// One gallery.
    Gallery(GalleryId),
    /// All galleries of a pack that have none of their own.
    Pack(PackId),
}

/// A curve as it is set.
#[derive(Clone, Debug)]
pub struct NewCurve {
    /// Whose templates were compared.
    pub pack_id: PackId,
    /// What was counted.
    pub curve: Curve,
    /// Where it comes from, in words.
    pub source: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CurveRecord {
    #[prost(string, tag = "1")]
    pack_id: String,
    #[prost(message, optional, tag = "2")]
    mated: Option<StepsRecord>,
    #[prost(message, optional, tag = "3")]
    non_mated: Option<StepsRecord>,
    /// Threshold, ratio of the FMR's variance, ratio of the FNMR's; and so on.
    #[prost(double, repeated, tag = "4")]
    inflation: Vec<f64>,
    #[prost(string, tag = "5")]
    source: String,
    /// Of the gallery, when it was set.
    #[prost(uint64, optional, tag = "6")]
    identities: Option<u64>,
    #[prost(uint64, tag = "7")]
    set_micros: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StepsRecord {
    #[prost(uint64, tag = "1")]
    total: u64,
    #[prost(sint32, repeated, tag = "2")]
    tenthousandths: Vec<i32>,
    #[prost(uint64, repeated, tag = "3")]
    at_least: Vec<u64>,
}

pub(super) fn curve_record(known: &KnownCurve) -> CurveRecord {
    let StatedCurve { mated, non_mated, inflation } = known.curve.to_numbers();
    let steps = |StatedSteps { total, points }: StatedSteps| {
        let (tenthousandths, at_least) = points.into_iter().unzip();
        Some(StepsRecord { total, tenthousandths, at_least })
    };
    CurveRecord {
        pack_id: known.pack_id.as_str().to_owned(),
        mated: steps(mated),
        non_mated: steps(non_mated),
        inflation: inflation.iter().flat_map(|at| [f64::from(at.threshold), at.fmr, at.fnmr]).collect(),
        source: known.source.clone(),
        identities: match known.of {
            CurveOf::Gallery { identities } => Some(identities),
            CurveOf::Pack => None,
        },
        set_micros: known.set.map_or(0, micros),
    }
}

/// *Errors*: [`Error::DataLoss`] where it is not one that was ever written.
pub(super) fn known_curve(record: CurveRecord) -> Result<KnownCurve, Error> {
    const DAMAGED: Error = Error::DataLoss("it is no curve");
    let steps = |record: Option<StepsRecord>| {
        let StepsRecord { total, tenthousandths, at_least } = record.unwrap_or_default();
        let is_paired = tenthousandths.len() == at_least.len();
        is_paired.then(|| StatedSteps { total, points: tenthousandths.into_iter().zip(at_least).collect() })
    };
    let inflation = record.inflation.chunks(3).map(|entry| match *entry {
        [threshold, fmr, fnmr] => Some(Inflation { threshold: threshold as f32, fmr, fnmr }),
        _ => None,
    });
    let numbers = StatedCurve {
        mated: steps(record.mated).ok_or(DAMAGED)?,
        non_mated: steps(record.non_mated).ok_or(DAMAGED)?,
        inflation: inflation.collect::<Option<_>>().ok_or(DAMAGED)?,
    };
    let curve = Curve::from_numbers(numbers).map_err(|_| DAMAGED)?;
    let pack_id = PackId::parse(&record.pack_id).map_err(|_| DAMAGED)?;
    let of = record.identities.map_or(CurveOf::Pack, |identities| CurveOf::Gallery { identities });
    Ok(KnownCurve::new(pack_id, &curve, of, record.source, Some(time(record.set_micros))))
}

#[cfg(test)]
mod tests {
    use super::super::record::{seal, unseal};
    use super::*;
    use crate::biometrics::calibration::ScoreCounts;

    #[test]
    fn curve_record_comes_back_as_it_was_and_damage_is_no_curve() {
        let (mut mated, mut non_mated) = (ScoreCounts::default(), ScoreCounts::default());
        (0..100).for_each(|at| mated.add(0.3 + at as f32 / 200.0).expect("a score"));
        (0..3_000).for_each(|at| non_mated.add(at as f32 / 8_000.0).expect("a score"));
        let inflation = vec![Inflation { threshold: 0.25, fmr: 2.5, fnmr: 1.0 }];
        let curve = Curve { inflation, ..Curve::of(&mated, &non_mated) };
        let pack_id = PackId::from_digits("0a".repeat(16));
        for of in [CurveOf::Pack, CurveOf::Gallery { identities: 7 }] {
            let known = KnownCurve::new(pack_id.clone(), &curve, of, "a test".into(), Some(time(5)));
            let record: CurveRecord = unseal(b"k", &seal(b"k", &curve_record(&known))).expect("whole");
            assert_eq!(known_curve(record.clone()).expect("a curve"), known);
            let mut spoilt = [record.clone(), record.clone(), record];
            spoilt[0].inflation.pop();
            spoilt[1].mated = None;
            spoilt[2].non_mated.as_mut().expect("steps").at_least.pop();
            let [_, no_mated, _] = &spoilt;
            // Without mated scores it is a curve, of which no false non-match rate is known.
            assert_eq!(known_curve(no_mated.clone()).expect("a curve").curve.mated.total(), 0);
            for record in [&spoilt[0], &spoilt[2]] {
                assert!(matches!(known_curve(record.clone()), Err(Error::DataLoss(_))));
            }
        }
    }
}
