//! `curve`: the calibration curves that a server reads thresholds off.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::calibrate::report::read_curve;
use super::output::Output;
use super::{Answer, remote};
use crate::biometrics::calibration::{Curve, StatedSteps};
use crate::client::Channel;
use crate::config::Config;
use crate::contract::calibration_service_client::CalibrationServiceClient;
use crate::contract::{self as proto, calibrate_request, calibrate_response};

/// Set, show, measure and delete the curves that a server reads thresholds for error rates off
///
/// With a curve, `identify --fpir`, `verify` calls with an FMR, and every reply's estimated error rate are answered: of a gallery
/// by its own curve, else by its pack's.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show the curve that thresholds are read off. With --json: GetCurveResponse
    Get {
        #[command(flatten)]
        owner: Owner,
    },
    /// Keep the curve of a report.json that `calibrate` wrote. With --json: SetCurveResponse
    Set {
        /// The report
        #[arg(value_name = "REPORT.json")]
        report: PathBuf,
        #[command(flatten)]
        owner: Owner,
        /// Where it comes from, in words [default: what the report says]
        #[arg(long, value_name = "TEXT")]
        source: Option<String>,
    },
    /// Compare the templates of a gallery with each other. With --json: Calibration
    Measure {
        /// The gallery
        #[arg(long, short, value_name = "ID")]
        gallery: String,
        /// Keep the curve as the gallery's
        #[arg(long)]
        set: bool,
        /// What the choice of people, in a gallery of many, and the intervals' draws depend on
        #[arg(long, value_name = "NUMBER", default_value_t = 1)]
        seed: u64,
    },
    /// Take away a curve that was set. With --json: DeleteCurveResponse
    Delete {
        #[command(flatten)]
        owner: Owner,
    },
}

/// Whose curve is meant.
#[derive(Args)]
struct Owner {
    /// A gallery's [default: the pack's, for all galleries without one of their own]
    #[arg(long, short, value_name = "ID")]
    gallery: Option<String>,
}

impl Owner {
    fn request(self) -> Option<proto::CurveOwner> {
        let owner = self.gallery.map(proto::curve_owner::Owner::GalleryId);
        // Without a name, the pack that the server runs.
        Some(proto::CurveOwner { owner: owner.or(Some(proto::curve_owner::Owner::PackId(String::new()))) })
    }
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    // Read before anybody is asked.
    let stated = match &arguments.action {
        Action::Set { report, source, .. } => Some(read(report, source.clone())?),
        _ => None,
    };
    let client = remote::client(config).await?;
    match arguments.action {
        Action::Get { owner } => {
            let request = proto::GetCurveRequest { owner: owner.request() };
            let reply = client.get_curve(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| {
                let of = match reply.owner.as_ref().and_then(|owner| owner.owner.as_ref()) {
                    Some(proto::curve_owner::Owner::GalleryId(id)) => format!("gallery {id}"),
                    _ => "the pack".to_owned(),
                };
                format!("curve of {of}\n{}", reply.curve.as_ref().map(text).unwrap_or_default())
            })?;
        }
        Action::Set { owner, .. } => {
            let request = proto::SetCurveRequest { owner: owner.request(), curve: stated };
            let reply = client.set_curve(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| reply.curve.as_ref().map(text).unwrap_or_default())?;
        }
        Action::Measure { gallery, set, seed } => {
            let calibration = measure(client.channel(), gallery, set, seed).await?;
            output.reply(&calibration, calibration_text)?;
        }
        Action::Delete { owner } => {
            let request = proto::DeleteCurveRequest { owner: owner.request() };
            let reply = client.delete_curve(request).await.map_err(remote::failed)?;
            output.reply(&reply, |_| "deleted".to_owned())?;
        }
    }
    Ok(Answer::Yes)
}

async fn measure(channel: Channel, gallery: String, set: bool, seed: u64) -> anyhow::Result<proto::Calibration> {
    let owner = proto::CurveOwner { owner: Some(proto::curve_owner::Owner::GalleryId(gallery.clone())) };
    let options = proto::CalibrationOptions {
        source: format!("the templates of gallery {gallery}, each with each"),
        gallery_id: gallery,
        set_for: set.then_some(owner),
        seed,
        ..Default::default()
    };
    let message = Some(calibrate_request::Message::Options(options));
    let requests = tokio_stream::once(proto::CalibrateRequest { message });
    let mut client = CalibrationServiceClient::new(channel).max_decoding_message_size(remote::REPLY_BYTES_MAX);
    let mut replies = client.calibrate(requests).await.map_err(remote::failed)?.into_inner();
    while let Some(reply) = replies.message().await.map_err(remote::failed)? {
        if let Some(calibrate_response::Message::Calibration(calibration)) = reply.message {
            return Ok(calibration);
        }
    }
    anyhow::bail!("the server ended without a calibration")
}

fn read(path: &Path, source: Option<String>) -> anyhow::Result<proto::Curve> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no report.json", path.display()))?;
    let (curve, pack_id) = read_curve(&report).with_context(|| format!("cannot use {}", path.display()))?;
    let stated = report.pointer("/source").and_then(serde_json::Value::as_str).unwrap_or_default();
    let source = source.unwrap_or_else(|| stated.to_owned());
    Ok(curve_request(&curve, pack_id, source))
}

fn curve_request(curve: &Curve, pack_id: String, source: String) -> proto::Curve {
    let numbers = curve.to_numbers();
    let steps = |StatedSteps { total, points }: StatedSteps| {
        let (cosine_tenthousandths, at_least) = points.into_iter().unzip();
        Some(proto::ScoreSteps { total, cosine_tenthousandths, at_least })
    };
    let inflation = numbers.inflation.iter();
    let inflation = inflation.map(|at| proto::CurveInflation { cosine: at.threshold, fmr: at.fmr, fnmr: at.fnmr });
    proto::Curve {
        pack_id,
        source,
        inflation: inflation.collect(),
        mated: steps(numbers.mated),
        non_mated: steps(numbers.non_mated),
        ..Default::default()
    }
}

fn text(curve: &proto::Curve) -> String {
    let total = |steps: &Option<proto::ScoreSteps>| steps.as_ref().map_or(0, |steps| steps.total);
    let identities = curve.identity_count.map(|count| format!(", set at {count} identities")).unwrap_or_default();
    format!(
        "id       {}\nsource   {}{identities}\nmated    {}\nnon-mated {}",
        curve.curve_id,
        if curve.source.is_empty() { "not stated" } else { &curve.source },
        total(&curve.mated),
        total(&curve.non_mated)
    )
}

fn calibration_text(calibration: &proto::Calibration) -> String {
    let mut lines = vec![calibration.curve.as_ref().map(text).unwrap_or_default()];
    if let Some(equal) = &calibration.equal_error {
        lines.push(format!(
            "EER      {:.4} % (95 %: {:.4} to {:.4} %) at {:.4}",
            equal.rate * 100.0,
            equal.rate_low * 100.0,
            equal.rate_high * 100.0,
            equal.cosine
        ));
    }
    for rated in &calibration.rated_thresholds {
        lines.push(match rated.cosine {
            Some(cosine) => format!(
                "FMR {:e}  threshold {cosine:.4}  FNMR {:.3} % (95 %: {:.3} to {:.3} %)",
                rated.fmr_max,
                rated.fnmr * 100.0,
                rated.fnmr_low * 100.0,
                rated.fnmr_high * 100.0
            ),
            None => format!(
                "FMR {:e}  not enough comparisons: needs about {} non-mated ones",
                rated.fmr_max, rated.comparisons_needed
            ),
        });
    }
    lines.push(if calibration.is_set { "kept" } else { "not kept: with --set it would be" }.to_owned());
    lines.join("\n")
}
