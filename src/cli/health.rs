//! `health`: whether a server serves.

use std::time::Duration;

use anyhow::Context;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Answer;
use super::output::Output;
use super::remote;
use crate::config::Config;

/// Ask a server whether it serves, by the standard health service: for health checks and probes
///
/// Exit code 0: it serves; 1: it does not, or cannot be reached in time.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Ask about one service, such as facematch.v1.MatchService [default: the server as a whole]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
    /// Longest wait for the answer, the connection included, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    timeout_ms: u64,
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    let time_max = Duration::from_millis(arguments.timeout_ms);
    let asked = tokio::time::timeout(time_max, ask(config, arguments.service)).await;
    let asked = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} ms", arguments.timeout_ms)));
    // Container engines know 0 and 1 alone: what cannot be asked does not serve.
    let (status, why) = match asked {
        Ok(status) => (status, None),
        Err(error) => (ServingStatus::Unknown, Some(format!("{error:#}"))),
    };
    let value = serde_json::json!({ "status": status.as_str_name(), "error": why });
    output.value(&value, || match why {
        Some(why) => format!("{}  {why}", status.as_str_name()),
        None => status.as_str_name().to_owned(),
    })?;
    Ok(Answer::yes_if(status == ServingStatus::Serving))
}

async fn ask(config: &Config, service: String) -> anyhow::Result<ServingStatus> {
    let mut client = HealthClient::new(remote::connect(config).await?);
    let named = service.clone();
    let reply = client.check(HealthCheckRequest { service }).await.map_err(|status| match status.code() {
        tonic::Code::NotFound => anyhow::anyhow!("the server knows no service {named:?}"),
        _ => remote::failed(status),
    });
    Ok(reply.context("cannot ask for its health")?.into_inner().status())
}
