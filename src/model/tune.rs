//! Tunes a network when it is loaded: tries each rewrite beside what it would replace, on this machine, and keeps it where
//! it computes the same and takes less time.
//!
//! Templates stay comparable, so a pack's id does not change: a rewrite of a recogniser is kept only where every template
//! has a cosine of at least .99999 to the original's, which is less than what another CPU or version of the runtime moves.

use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::session::Session;

use super::cache::Cache;
use super::graph::Model;
use super::rewrite::REWRITES;
use super::samples::samples;
use super::session::{self, Network};
use crate::biometrics::template::dot;
use crate::tensor::{Preprocessing, Tensor};

/// What a network is for: what its outputs must keep, and what it is tried on.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Maps of scores, boxes and points.
    Detector,
    /// A row of numbers a face, of which only the direction counts.
    Recognizer {
        /// Faces a run.
        batch: usize,
    },
}

/// A network to tune.
pub(super) struct Subject<'a> {
    /// For the log.
    pub name: &'a str,
    /// Of the file.
    pub sha256: &'a str,
    pub network: &'a Network,
    pub purpose: Purpose,
    pub preprocessing: &'a Preprocessing,
    pub side_px: u32,
}

/// What the templates of the original and of a rewrite have to have in common.
const COSINE_MIN: f32 = 0.999_99;

/// How far a detector's values may move, of the larger of the value and 1: box sides are in strides of 8 to 32 px, so at
/// most 1/300 px a stride. Rounding moves them by up to 2e-6.
const DIFFERENCE_MAX: f32 = 1e-4;

/// A rewrite is kept if it saves at least this share: what a machine at work makes of two runs of the same is less.
const GAIN_MIN: f64 = 1.03;

/// Pairs of runs that are timed at least and at most, and for how long.
const PAIRS: std::ops::RangeInclusive<usize> = 7..=31;
const TIMING_MAX: Duration = Duration::from_millis(700);

/// Inputs on which a rewrite is proven, and those on which what the cache holds is proven again.
const SAMPLES: usize = 8;
const SAMPLES_AGAIN: usize = 2;

/// Returns the network to use instead of the original: from the cache, or tuned now. `None` where nothing is better than
/// the original; what goes wrong here costs speed alone, so it is logged and never an error.
pub(super) fn tuned(subject: &Subject<'_>, environment: &Environment, cache: Option<&Cache>) -> Option<Network> {
    let open = |network: &Network| {
        let opened = network.open(environment);
        opened
            .inspect_err(|error| tracing::debug!(model = subject.name, %error, "a rewritten network cannot be opened"))
            .ok()
    };
    let mut original = open(subject.network)?;
    if let Some(network) = cache.and_then(|cache| cache.read(subject.sha256)) {
        let same =
            open(&network).is_some_and(|mut session| subject.is_same(&mut original, &mut session, SAMPLES_AGAIN));
        if same {
            return Some(network);
        }
        tracing::warn!(model = subject.name, "a tuned network of the cache is not the model's; tuning again");
    }
    let started = Instant::now();
    let mut best = Candidate { network: subject.network.clone(), session: original, kept: Vec::new() };
    let mut original = open(subject.network)?;
    let mut model = Model::parse(&subject.network.bytes);
    for rewrite in &REWRITES {
        let Some(rewritten) = model.as_ref().and_then(rewrite.apply) else { continue };
        let network = Network::plain(rewritten.file());
        let Some(mut session) = open(&network) else { continue };
        if !subject.is_same(&mut original, &mut session, SAMPLES) {
            tracing::warn!(model = subject.name, rewrite = rewrite.name, "not kept: the results differ");
            continue;
        }
        let ratio = subject.gain(&mut best.session, &mut session)?;
        let is_kept = ratio >= GAIN_MIN;
        tracing::info!(model = subject.name, rewrite = rewrite.name, is_kept, "{ratio:.2} times as fast");
        if is_kept {
            best.kept.push(rewrite.name);
            best = Candidate { network, session, kept: best.kept };
            model = Some(rewritten);
        }
    }
    let took = started.elapsed().as_millis();
    tracing::info!(model = subject.name, kept = best.kept.join(", "), took_ms = took, "tuned");
    let optimized = cache.and_then(|cache| cache.write(subject.sha256, &best.network, environment));
    // What the runtime saved is not what it ran a moment ago until that is seen.
    let optimized = optimized.filter(|network| {
        open(network).is_some_and(|mut session| subject.is_same(&mut original, &mut session, SAMPLES))
    });
    optimized.or_else(|| (!best.kept.is_empty()).then_some(best.network))
}

/// The best so far.
struct Candidate {
    network: Network,
    session: Session,
    kept: Vec<&'static str>,
}

impl Subject<'_> {
    fn inputs(&self, count: usize) -> Vec<Tensor> {
        let batch = match self.purpose {
            Purpose::Detector => 1,
            Purpose::Recognizer { batch } => batch,
        };
        samples(self.preprocessing, self.side_px, batch, count)
    }

    /// Tells whether two sessions answer the same.
    fn is_same(&self, original: &mut Session, other: &mut Session, samples: usize) -> bool {
        self.inputs(samples).iter().all(|input| {
            let (Ok(expected), Ok(found)) = (session::run(original, input), session::run(other, input)) else {
                return false;
            };
            let mut pairs = expected.iter().zip(&found);
            expected.len() == found.len()
                && pairs.all(|(expected, found)| expected.shape == found.shape && self.agrees(expected, found))
        })
    }

    fn agrees(&self, expected: &Tensor, found: &Tensor) -> bool {
        let mut values = expected.values.iter().zip(&found.values);
        match self.purpose {
            Purpose::Detector => values.all(|(a, b)| (a - b).abs() <= DIFFERENCE_MAX * a.abs().max(1.0)),
            Purpose::Recognizer { batch } => {
                let dimension = (expected.values.len() / batch.max(1)).max(1);
                let rows = expected.values.chunks(dimension).zip(found.values.chunks(dimension));
                rows.into_iter().all(|(a, b)| cosine(a, b) >= COSINE_MIN)
            }
        }
    }

    /// How many times as fast the second session is: the median of pairs of runs, one right after the other, so that what
    /// else the machine does weighs on both. `None` where a run fails.
    fn gain(&self, slow: &mut Session, fast: &mut Session) -> Option<f64> {
        let inputs = self.inputs(1);
        let input = inputs.first()?;
        let time = |session: &mut Session| {
            let started = Instant::now();
            session::run(session, input).ok().map(|_| started.elapsed().as_secs_f64())
        };
        // The first run allocates.
        time(slow)?;
        time(fast)?;
        let started = Instant::now();
        let mut ratios = Vec::with_capacity(*PAIRS.end());
        while ratios.len() < *PAIRS.start() || (ratios.len() < *PAIRS.end() && started.elapsed() < TIMING_MAX) {
            let (slow, fast) = if ratios.len() % 2 == 0 {
                let slow = time(slow)?;
                (slow, time(fast)?)
            } else {
                let fast = time(fast)?;
                (time(slow)?, fast)
            };
            ratios.push(slow / fast);
        }
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied()
    }
}

/// Of rows that are not zero; else a NaN, which is below any limit.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}
