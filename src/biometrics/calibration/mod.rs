//! Which threshold? What counted scores tell about error rates, and how sure that is.
//!
//! Scores of one class are counted as they come ([`ScoreCounts`]); mated and non-mated ones make a [`Curve`], which answers:
//! which FMR and FNMR has a threshold, which threshold has an FMR or, in a gallery of N, an FPIR, or how many comparisons it
//! would take to say. Rates carry 95 % intervals ([`Rate`]): exact where few errors were counted, else widened by what a
//! [`Bootstrap`] over identities finds.

mod analysis;
mod bootstrap;
mod counts;
mod cross;
mod curve;
mod difference;
mod known;
mod random;
mod rate;
mod searches;
mod stated;

pub use analysis::{Analysis, Distribution, EqualError, FMRS, Operating, Plan, QUANTILES, ScoreSet, Unit};
pub use bootstrap::{Bootstrap, Comparison, Side, Total, Variances};
pub use counts::{NotAScore, ScoreCounts, Steps};
pub use cross::{CrossScores, Faces, NO_GROUP};
pub use curve::{Curve, Inflation, NoThreshold, Point, d_prime, threshold_for};
pub use difference::{difference, holm};
pub use known::{CurveId, CurveOf, Estimate, GallerySize, KnownCurve, OUTGROWN};
pub use random::Random;
pub use rate::{Interval, Method, Rate, comparisons_needed, exact, fmr_of_fpir, fpir_of_fmr};
pub use searches::{Search, Searches};
pub use stated::{BadCurve, StatedCurve, StatedSteps};
