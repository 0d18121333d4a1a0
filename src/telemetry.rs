//! Tracing set-up. Photos, templates and identity names never reach a log.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging to stderr, and logs a panic by its place alone: its message may quote what must not be logged.
///
/// A second call does nothing.
pub fn start(filter: &str, json: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
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
