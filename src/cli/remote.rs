//! The client's side of the contract: a connection, and what a failed call means to a person.

use std::time::Duration;

use anyhow::Context;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use crate::config::Config;

/// Time to reach the server.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How often a quiet server is asked whether it is there, and how long it may take to answer: a stream to a machine that is
/// gone would wait for ever.
const ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Replies may carry many faces or embeddings: more than tonic's 4 MiB.
pub(super) const REPLY_BYTES_MAX: usize = 64 << 20;

/// Connects to the server of the settings.
pub(super) async fn connect(config: &Config) -> anyhow::Result<Channel> {
    let address = &config.endpoint;
    let endpoint = Endpoint::from_shared(address.clone())?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIME_MAX).tcp_nodelay(true);
    let connected =
        endpoint.http2_keep_alive_interval(ALIVE_INTERVAL).keep_alive_timeout(ALIVE_INTERVAL).connect().await;
    connected.with_context(|| format!("cannot reach a server at {address}; start one with `facematch serve`"))
}

/// Turns a failed call into one line for a person: what the server says, and the reason that programs branch on.
pub(super) fn failed(status: Status) -> anyhow::Error {
    let message = if status.message().is_empty() { status.code().description() } else { status.message() };
    match reason(&status) {
        Some(reason) => anyhow::anyhow!("{message} ({reason})"),
        None => anyhow::anyhow!("{message}"),
    }
}

/// Returns the stable reason of a failed call.
pub(super) fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// Returns how long to wait before asking again, where the server says so.
pub(super) fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}
