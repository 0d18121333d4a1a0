//! A curve that thresholds are read off.

use super::curve::{Curve, NoThreshold};
use super::rate::Interval;
use crate::biometrics::ids::PackId;

/// Names a curve by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurveId(pub [u8; 16]);

impl std::fmt::Display for CurveId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A curve and what it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownCurve {
    /// Of its content.
    pub id: CurveId,
    /// Whose templates were compared.
    pub pack_id: PackId,
    /// What was counted.
    pub curve: Curve,
    /// How many identities its gallery held when it was set; `None`: it is of a pack.
    pub identities: Option<u64>,
}

/// What a curve says of a threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The false match rate, or the false positive identification rate of a search.
    pub rate: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// Which curve says so.
    pub curve: CurveId,
    /// The gallery holds more than [`OUTGROWN`] times the identities that it had when the curve was set.
    pub is_outgrown: bool,
}

/// By how much a gallery may grow before its curve is to be made anew.
pub const OUTGROWN: u64 = 10;

impl KnownCurve {
    /// Returns the FMR at a threshold.
    pub fn of_comparison(&self, threshold: f32) -> Estimate {
        let fmr = self.curve.fmr(threshold);
        Estimate { rate: fmr.value(), interval: fmr.interval, curve: self.id, is_outgrown: false }
    }

    /// Returns the FPIR of a search of a gallery of this size at a threshold.
    pub fn of_search(&self, threshold: f32, gallery_size: u64) -> Estimate {
        let (rate, interval) = self.curve.fpir(threshold, gallery_size);
        let is_outgrown = self.identities.is_some_and(|then| gallery_size > then.max(1).saturating_mul(OUTGROWN));
        Estimate { rate, interval, curve: self.id, is_outgrown }
    }

    /// Returns the lowest threshold, in four decimals, that keeps to an FMR.
    ///
    /// *Errors*: [`NoThreshold`].
    pub fn threshold_for_fmr(&self, fmr: f64) -> Result<f32, NoThreshold> {
        // One that all scores reach is stored a step below -1.
        self.curve.threshold_for_fmr(fmr).map(|threshold| threshold.max(-1.0))
    }
}
