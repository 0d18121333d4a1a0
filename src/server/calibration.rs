//! CalibrationService: curves are measured, kept, and told.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::calibrate::Calibrating;
use super::convert;
use super::engine::Engine;
use super::items::{self, Replies};
use super::status::status;
use crate::biometrics::calibration::{
    Analysis, Curve, CurveOf, Inflation, KnownCurve, NoThreshold, StatedCurve, StatedSteps, Unit, comparisons_needed,
};
use crate::biometrics::ids::{GalleryId, PackId};
use crate::contract as proto;
use crate::error::{Entity, Error};
use crate::gallery::{CurveOwner, NewCurve};

pub(super) struct CalibrationServer(pub Arc<Engine>);

#[tonic::async_trait]
impl proto::calibration_service_server::CalibrationService for CalibrationServer {
    type CalibrateStream = Replies<proto::CalibrateResponse>;

    async fn calibrate(
        &self,
        request: Request<Streaming<proto::CalibrateRequest>>,
    ) -> Result<Response<Self::CalibrateStream>, Status> {
        Ok(Response::new(items::answer::<Calibrating>(&self.0, request.into_inner())))
    }

    async fn set_curve(
        &self,
        request: Request<proto::SetCurveRequest>,
    ) -> Result<Response<proto::SetCurveResponse>, Status> {
        set(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_curve(
        &self,
        request: Request<proto::GetCurveRequest>,
    ) -> Result<Response<proto::GetCurveResponse>, Status> {
        get(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn delete_curve(
        &self,
        request: Request<proto::DeleteCurveRequest>,
    ) -> Result<Response<proto::DeleteCurveResponse>, Status> {
        let owner = owner(&self.0, "owner", request.into_inner().owner).map_err(status)?;
        self.0.galleries.remove_curve(owner).await.map_err(status)?;
        Ok(Response::new(proto::DeleteCurveResponse {}))
    }
}

async fn set(engine: &Engine, request: proto::SetCurveRequest) -> Result<proto::SetCurveResponse, Error> {
    let owner = owner(engine, "owner", request.owner)?;
    let stated = request.curve.ok_or_else(|| Error::bad_field("curve", "present"))?;
    let new = new_curve(stated).map_err(|error| error.at("curve"))?;
    let known = engine.galleries.set_curve(owner, new).await?;
    Ok(proto::SetCurveResponse { curve: Some(curve_reply(&known)) })
}

async fn get(engine: &Engine, request: proto::GetCurveRequest) -> Result<proto::GetCurveResponse, Error> {
    let owner = owner(engine, "owner", request.owner)?;
    let pack_id = owner_pack(engine, &owner).await?;
    let known = match &owner {
        CurveOwner::Gallery(id) => engine.curve(&[id], &pack_id).await?,
        CurveOwner::Pack(_) => engine.curve(&[], &pack_id).await?,
    };
    let known = known.ok_or(Error::NotFound(Entity::Curve))?;
    let owner = match (known.of, owner) {
        (CurveOf::Gallery { .. }, CurveOwner::Gallery(id)) => {
            proto::curve_owner::Owner::GalleryId(id.as_str().to_owned())
        }
        _ => proto::curve_owner::Owner::PackId(pack_id.as_str().to_owned()),
    };
    let owner = Some(proto::CurveOwner { owner: Some(owner) });
    Ok(proto::GetCurveResponse { curve: Some(curve_reply(&known)), owner })
}

/// *Errors*: [`Error::BadField`]; [`Error::PackMismatch`] for another pack than the one that runs.
pub(super) fn owner(engine: &Engine, field: &str, stated: Option<proto::CurveOwner>) -> Result<CurveOwner, Error> {
    use proto::curve_owner::Owner;
    match stated.and_then(|stated| stated.owner) {
        None => Err(Error::bad_field(field, "a gallery or a pack")),
        Some(Owner::GalleryId(id)) => Ok(CurveOwner::Gallery(GalleryId::parse(&id).map_err(|error| error.at(field))?)),
        Some(Owner::PackId(id)) => {
            if id.is_empty() {
                return Ok(CurveOwner::Pack(engine.pack.id.clone()));
            }
            let id = PackId::parse(&id).map_err(|error| error.at(field))?;
            Ok(CurveOwner::Pack(engine.pack_of(&id)?.id.clone()))
        }
    }
}

/// Returns the pack whose templates a curve of this owner must be of.
///
/// *Errors*: [`Error::NotFound`] without the gallery.
pub(super) async fn owner_pack(engine: &Engine, owner: &CurveOwner) -> Result<PackId, Error> {
    match owner {
        CurveOwner::Gallery(id) => Ok(engine.galleries.gallery(id).await?.0.pack_id),
        CurveOwner::Pack(id) => Ok(id.clone()),
    }
}

/// Checks where a curve comes from, in words.
pub(super) fn source(field: &str, text: String) -> Result<String, Error> {
    if text.len() > KnownCurve::SOURCE_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Error::bad_field(field, "at most 256 bytes, without control characters"));
    }
    Ok(text)
}

fn new_curve(stated: proto::Curve) -> Result<NewCurve, Error> {
    let inflation = stated.inflation.iter();
    let inflation = inflation.map(|at| Inflation { threshold: at.cosine, fmr: at.fmr, fnmr: at.fnmr });
    let numbers = StatedCurve {
        mated: steps("mated", stated.mated)?,
        non_mated: steps("non_mated", stated.non_mated)?,
        inflation: inflation.collect(),
    };
    if numbers.non_mated.total == 0 {
        return Err(Error::bad_field("non_mated", "at least one comparison"));
    }
    let curve = Curve::from_numbers(numbers).map_err(|bad| Error::bad_field(bad.field, bad.expected))?;
    Ok(NewCurve { pack_id: PackId::parse(&stated.pack_id)?, curve, source: source("source", stated.source)? })
}

fn steps(field: &str, stated: Option<proto::ScoreSteps>) -> Result<StatedSteps, Error> {
    let proto::ScoreSteps { total, cosine_tenthousandths, at_least } = stated.unwrap_or_default();
    if cosine_tenthousandths.len() != at_least.len() {
        return Err(Error::bad_field(field, "as many counts as cosines"));
    }
    Ok(StatedSteps { total, points: cosine_tenthousandths.into_iter().zip(at_least).collect() })
}

pub(super) fn curve_reply(known: &KnownCurve) -> proto::Curve {
    proto::Curve {
        curve_id: known.id.to_string(),
        set_time: known.set.map(convert::time_reply),
        identity_count: match known.of {
            CurveOf::Gallery { identities } => Some(identities),
            CurveOf::Pack => None,
        },
        ..numbers_reply(&known.pack_id, &known.curve, &known.source)
    }
}

/// A curve that is told and not kept.
pub(super) fn unset_curve_reply(new: &NewCurve) -> proto::Curve {
    let known = KnownCurve::new(new.pack_id.clone(), &new.curve, CurveOf::Pack, new.source.clone(), None);
    curve_reply(&known)
}

fn numbers_reply(pack_id: &PackId, curve: &Curve, source: &str) -> proto::Curve {
    let StatedCurve { mated, non_mated, inflation } = curve.to_numbers();
    let steps = |StatedSteps { total, points }: StatedSteps| {
        let (cosine_tenthousandths, at_least) = points.into_iter().unzip();
        Some(proto::ScoreSteps { total, cosine_tenthousandths, at_least })
    };
    let inflation = inflation.iter();
    let inflation =
        inflation.map(|at| proto::CurveInflation { cosine: at.threshold, fmr: at.fmr, fnmr: at.fnmr }).collect();
    proto::Curve {
        pack_id: pack_id.as_str().to_owned(),
        mated: steps(mated),
        non_mated: steps(non_mated),
        inflation,
        source: source.to_owned(),
        ..Default::default()
    }
}

/// Tells what an analysis found, without the curve.
pub(super) fn calibration_reply(analysis: &Analysis, lost: [u64; 2]) -> proto::Calibration {
    let rated = analysis.operating.iter().map(|(fmr, found)| match found {
        Ok(found) => {
            let (fmr_rate, fnmr) = (found.point.fmr, found.point.fnmr);
            proto::RatedThreshold {
                fmr_max: *fmr,
                cosine: Some(found.point.threshold.max(-1.0)),
                comparisons_needed: comparisons_needed(*fmr),
                fmr: fmr_rate.value(),
                fmr_low: fmr_rate.interval.low,
                fmr_high: fmr_rate.interval.high,
                fnmr: fnmr.value(),
                fnmr_low: fnmr.interval.low,
                fnmr_high: fnmr.interval.high,
            }
        }
        Err(error) => proto::RatedThreshold {
            fmr_max: *fmr,
            comparisons_needed: match error {
                NoThreshold::NotEnough { needed, .. } => *needed,
                NoThreshold::Identical(_) => comparisons_needed(*fmr),
            },
            ..Default::default()
        },
    });
    let [lost_mated_count, lost_non_mated_count] = lost;
    proto::Calibration {
        lost_mated_count,
        lost_non_mated_count,
        unit: match analysis.unit {
            Unit::Identities => proto::CalibrationUnit::Identities.into(),
            Unit::Photos => proto::CalibrationUnit::Samples.into(),
        },
        unit_count: analysis.units as u64,
        equal_error: analysis.equal_error.map(|at| proto::EqualErrorRate {
            rate: at.rate,
            rate_low: at.interval.low,
            rate_high: at.interval.high,
            cosine: at.threshold,
        }),
        rated_thresholds: rated.collect(),
        ..Default::default()
    }
}
