//! Tracing set-up. Photos, templates and identity names never reach a log.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Libraries that print what they carry, records and messages, at their lower levels.
const LIBRARIES_CAPPED: [&str; 4] = ["sled=warn", "h2=info", "hyper=info", "tonic=info"];

/// Starts logging to stderr, and logs a panic by its place alone: its message may quote what must not be logged.
///
/// A second call does nothing.
pub fn start(filter: &str, json: bool) {
    let mut filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    for capped in LIBRARIES_CAPPED.iter().filter_map(|directive| directive.parse().ok()) {
        filter = filter.add_directive(capped);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    let started = if json { builder.json().try_init() } else { builder.try_init() };
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string);
            tracing::error!(place, "panic");
        }));
    }
}
