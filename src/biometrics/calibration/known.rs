//! A curve that thresholds are read off.

use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::curve::{Curve, NoThreshold};
use super::rate::{Interval, fmr_of_fpir};
use super::stated::{StatedCurve, StatedSteps};
use crate::biometrics::ids::PackId;

/// Names a curve by its content: pack, counts and inflation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurveId([u8; 16]);

impl std::fmt::Display for CurveId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whose scores a curve tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurveOf {
    /// Everybody's, as far as the pack's maker knows.
    Pack,
    /// A gallery's, which held so many identities when the curve was set.
    Gallery {
        /// How many.
        identities: u64,
    },
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
    /// Whose scores it tells of.
    pub of: CurveOf,
    /// Where it comes from, in words.
    pub source: String,
    /// When it was set; `None`: it lies in the pack's manifest.
    pub set: Option<SystemTime>,
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
    /// The rate of who states nothing is not supported: the threshold is no lower than that of the lowest rate that is.
    pub is_unsupported: bool,
}

/// By how much a gallery may grow before its curve is to be made anew.
pub const OUTGROWN: u64 = 10;

/// The size of a gallery, as searches meet it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GallerySize {
    /// How many are enrolled.
    pub identities: u64,
    /// How many comparisons a search makes: as many as there are templates, or identities where each is one.
    pub comparisons: u64,
}

impl KnownCurve {
    /// The longest text on where a curve comes from, in bytes.
    pub const SOURCE_BYTES_MAX: usize = 256;

    /// Takes a curve, of which only what is known at thresholds in four decimals is kept.
    pub fn new(pack_id: PackId, curve: &Curve, of: CurveOf, source: String, set: Option<SystemTime>) -> Self {
        Self { id: id(&pack_id, &curve.to_numbers()), pack_id, curve: curve.stated(), of, source, set }
    }

    /// Returns the FMR at a threshold.
    pub fn of_comparison(&self, threshold: f32) -> Estimate {
        let fmr = self.curve.fmr(threshold);
        Estimate {
            rate: fmr.value(),
            interval: fmr.interval,
            curve: self.id,
            is_outgrown: false,
            is_unsupported: false,
        }
    }

    /// Returns the FPIR of a search of a gallery of this size at a threshold.
    pub fn of_search(&self, threshold: f32, size: GallerySize) -> Estimate {
        let (rate, interval) = self.curve.fpir(threshold, size.comparisons);
        let is_outgrown = match self.of {
            CurveOf::Gallery { identities } => size.identities > identities.max(1).saturating_mul(OUTGROWN),
            CurveOf::Pack => false,
        };
        Estimate { rate, interval, curve: self.id, is_outgrown, is_unsupported: false }
    }

    /// Returns the lowest threshold, in four decimals, that keeps to an FMR.
    ///
    /// *Errors*: [`NoThreshold`].
    pub fn threshold_for_fmr(&self, fmr: f64) -> Result<f32, NoThreshold> {
        // One that all scores reach is stored a step below -1.
        self.curve.threshold_for_fmr(fmr).map(|threshold| threshold.max(-1.0))
    }

    /// Returns the threshold of the lowest FMR that the comparisons support.
    ///
    /// *Errors*: [`NoThreshold`].
    pub fn strictest_threshold(&self) -> Result<f32, NoThreshold> {
        // A little more than the rule of three asks for, which rounds up.
        self.threshold_for_fmr(3.0 / self.curve.non_mated.total().max(1) as f64 * (1.0 + 1e-9))
    }

    /// Returns the lowest threshold, in four decimals, that keeps to an FPIR in a gallery of this size.
    ///
    /// *Errors*: [`NoThreshold`].
    pub fn threshold_for_fpir(&self, fpir: f64, size: GallerySize) -> Result<f32, NoThreshold> {
        self.threshold_for_fmr(fmr_of_fpir(fpir, size.comparisons))
    }
}

fn id(pack_id: &PackId, curve: &StatedCurve) -> CurveId {
    let mut hash = Sha256::new();
    hash.update(pack_id.as_str());
    for StatedSteps { total, points } in [&curve.mated, &curve.non_mated] {
        hash.update(total.to_le_bytes());
        hash.update((points.len() as u64).to_le_bytes());
        for (cosine, count) in points {
            hash.update(cosine.to_le_bytes());
            hash.update(count.to_le_bytes());
        }
    }
    for at in &curve.inflation {
        hash.update(at.threshold.to_le_bytes());
        hash.update(at.fmr.to_le_bytes());
        hash.update(at.fnmr.to_le_bytes());
    }
    let mut digits = [0; 16];
    digits.iter_mut().zip(hash.finalize()).for_each(|(digit, byte)| *digit = byte);
    CurveId(digits)
}
