//! `serve`: the gRPC server.

use anyhow::Context;

use super::Answer;
use super::output::Output;
use crate::config::Config;
use crate::runtime::core_dumps;
use crate::server::Server;
use crate::telemetry::{self, Traces};

/// Serve faces, galleries, enrolment and matching over gRPC
///
/// Prints the address once calls are answered. SIGTERM or Ctrl-C drains: no new calls, those that are in are finished,
/// then the store is closed. A second one ends at once; what was acknowledged is durable all the same. With --json the
/// address is printed as {"address": "HOST:PORT"}.
#[derive(clap::Args)]
pub(super) struct Arguments {}

pub(super) async fn run(config: &Config, log: &str, output: &Output, _arguments: &Arguments) -> anyhow::Result<Answer> {
    // What sends traces needs the runtime.
    let traces = config.otlp_endpoint.as_deref().map(Traces::open).transpose()?;
    telemetry::start(log, config.log_json, traces.as_ref());
    core_dumps::forbid();
    let answer = serve(config, output).await;
    if let Some(traces) = traces {
        tokio::task::spawn_blocking(|| traces.close()).await?;
    }
    answer
}

async fn serve(config: &Config, output: &Output) -> anyhow::Result<Answer> {
    let mut signals = Signals::new()?;
    let mut server = tokio::select! {
        started = Server::start(config) => started?,
        () = signals.next() => return Ok(Answer::Yes),
    };
    let address = server.address();
    let scheme = if config.security.tls.is_some() { "https" } else { "http" };
    let address_json = serde_json::json!({ "address": address.to_string() });
    output.value(&address_json, || format!("facematch {} serves {scheme}://{address}", env!("CARGO_PKG_VERSION")))?;
    tokio::select! {
        ended = server.ended() => {
            ended?;
            anyhow::bail!("the server ended by itself");
        }
        () = signals.next() => {}
    }
    tokio::select! {
        stopped = server.stop() => stopped?,
        () = signals.next() => anyhow::bail!("told to stop again before the drain ended"),
    }
    Ok(Answer::Yes)
}

/// The signals that ask a server to stop.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .context("cannot listen for SIGTERM")?,
        })
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
