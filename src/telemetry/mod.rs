//! What is told of the work: the log, metrics, traces, and the times of stages. Photos, templates and identity names never
//! reach any of them.

mod metrics;
mod process;
mod stages;
mod traces;

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use self::metrics::{
    GAUGES, Gauges, RefusedBy, count_call, count_error, count_failure_to_acquire, count_refusal, observe_flush, page,
};
pub use self::process::add_process;
pub use self::stages::{Stage, StageClock, StageTimes};
pub use self::traces::{Traces, TracesError, continue_trace};

/// Libraries that print what they carry, records and messages, at their lower levels.
const LIBRARIES_CAPPED: [&str; 4] = ["sled=warn", "h2=info", "hyper=info", "tonic=info"];

/// Starts logging to stderr, and logs a panic by its place alone: its message may quote what must not be logged. With
/// `traces`, spans go there too, whatever is logged.
///
/// A second call does nothing.
pub fn start(filter: &str, json: bool, traces: Option<&Traces>) {
    let mut filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    for capped in LIBRARIES_CAPPED.iter().filter_map(|directive| directive.parse().ok()) {
        filter = filter.add_directive(capped);
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    let lines = if json { lines.json().boxed() } else { lines.boxed() };
    let registry = tracing_subscriber::registry().with(traces.map(Traces::layer)).with(lines.with_filter(filter));
    if registry.try_init().is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            tracing::error!(place, "panic");
        }));
    }
}
