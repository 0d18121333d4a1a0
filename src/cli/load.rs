//! `load`: how long calls take at a rate, and what rate a server holds.

mod call;
mod drive;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use self::call::{Calls, Kind};
use self::drive::{Load, Pace};
use self::report::Step;
use super::Answer;
use super::output::Output;
use super::remote;
use crate::config::Config;

/// Load a server with calls, and tell how long they take
///
/// With --rate the calls are sent at fixed times, whatever the server does, and each is timed from when it was due: a server
/// that stalls cannot hide it by holding callers up. With --concurrency each caller waits for its answer before it asks again.
/// Exit code 0: all calls were answered; 1: some were not, or no rate holds the target of --find-knee; 2: error. With --json:
/// one object with a list of steps.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which calls
    #[arg(value_enum)]
    kind: Kind,
    /// The gallery to ask. With --synthetic it is made where there is none
    #[arg(long, short, value_name = "ID", default_value = "load")]
    gallery: String,
    /// Make the gallery, of this many templates of people who do not exist
    #[arg(long, value_name = "TEMPLATES")]
    synthetic: Option<u64>,
    /// Photos to send: a file, or a folder that is searched through
    #[arg(long, value_name = "PATH")]
    photos: Option<PathBuf>,
    /// Calls a second; several, one after the other: 100,200,400
    #[arg(long, value_name = "RATE,…", value_delimiter = ',')]
    rate: Vec<f64>,
    /// Callers who each wait for their answer [default, without --rate: 16]
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["rate", "find_knee"])]
    concurrency: Option<usize>,
    /// Look for the highest rate at which this many milliseconds hold for 99 of 100 calls, and none fails; --rate is where
    /// to begin
    #[arg(long, value_name = "MS")]
    find_knee: Option<f64>,
    /// Seconds a step is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    duration: f64,
    /// Seconds before that, at the same pace, that do not count
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    warm_up: f64,
    /// Connections that the calls are spread over
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Where to write a page with the curves
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// Where a search for the knee begins, and how close it comes: within a twentieth.
const KNEE_RATE_FIRST: f64 = 50.0;
const KNEE_STEPS_MAX: usize = 24;
const KNEE_RATIO: f64 = 1.05;

const CONCURRENCY: usize = 16;

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    let seconds = |field: &str, value: f64| {
        Duration::try_from_secs_f64(value).with_context(|| format!("--{field} must be a number of seconds"))
    };
    anyhow::ensure!(
        arguments.rate.iter().all(|rate| (0.01..=1e6).contains(rate)),
        "--rate must be from 0.01 to 1000000"
    );
    anyhow::ensure!(
        arguments.find_knee.is_none_or(|p99_ms| (0.001..=1e6).contains(&p99_ms)),
        "--find-knee must be from 0.001 to 1000000 ms"
    );
    let mut channels = Vec::new();
    for _ in 0..arguments.connections {
        channels.push(remote::connect(config).await?);
    }
    let calls = Calls::prepare(channels, output, &arguments).await?;
    let load = Load {
        calls: Arc::new(calls),
        warm_up: seconds("warm-up", arguments.warm_up)?,
        duration: seconds("duration", arguments.duration)?.max(Duration::from_millis(100)),
    };
    let (steps, knee) = match (arguments.find_knee, arguments.concurrency) {
        (Some(p99_ms), _) => find_knee(&load, output, &arguments.rate, p99_ms).await,
        (None, None) if !arguments.rate.is_empty() => {
            let mut steps = Vec::new();
            for rate in &arguments.rate {
                steps.push(load.step(Pace::Rate(*rate), output).await);
            }
            (steps, None)
        }
        (None, concurrency) => {
            let pace = Pace::Callers(concurrency.unwrap_or(CONCURRENCY).clamp(1, 100_000));
            (vec![load.step(pace, output).await], None)
        }
    };
    if let Some(path) = &arguments.report {
        let page = report::page(&format!("{:?} on {}", arguments.kind, config.endpoint), &steps);
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let value = report::json(&steps, knee);
    output.value(&value, || report::text(&steps, arguments.find_knee.map(|p99_ms| (p99_ms, knee))))?;
    let is_good = if arguments.find_knee.is_some() { knee.is_some() } else { steps.iter().all(Step::is_answered) };
    Ok(Answer::yes_if(is_good))
}

/// Doubles the rate while it holds, then halves the gap between what holds and what does not.
async fn find_knee(load: &Load, output: &Output, from: &[f64], p99_ms: f64) -> (Vec<Step>, Option<f64>) {
    let mut rate = from.first().copied().unwrap_or(KNEE_RATE_FIRST);
    let (mut holds, mut fails, mut steps) = (None::<f64>, None::<f64>, Vec::new());
    for _ in 0..KNEE_STEPS_MAX {
        let step = load.step(Pace::Rate(rate), output).await;
        if step.holds(p99_ms) {
            holds = Some(rate);
        } else {
            fails = Some(rate);
        }
        steps.push(step);
        rate = match (holds, fails) {
            (Some(holds), Some(fails)) if fails / holds <= KNEE_RATIO => break,
            (Some(holds), Some(fails)) => (holds * fails).sqrt(),
            (Some(holds), None) => holds * 2.0,
            (None, Some(fails)) if fails > 0.5 => fails / 4.0,
            (None, _) => break,
        };
    }
    steps.sort_by(|a, b| a.offered().total_cmp(&b.offered()));
    (steps, holds)
}
