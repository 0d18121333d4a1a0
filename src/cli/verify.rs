//! `verify`: is this the same person? Without a server.

use std::path::{Path, PathBuf};

use super::Answer;
use super::arguments::{Detection, Face, choice_text, operating_point, threshold_text};
use super::local;
use super::output::Output;
use crate::biometrics::template::Template;
use crate::config::Config;
use crate::contract as proto;
use crate::error::Error;
use crate::matching;
use crate::pipeline::{Acquired, Pipeline};
use crate::server::{face_choice_reply, verify_reply};

/// Tell whether two photos show the same person. Needs no server
///
/// Exit code 0: match; 1: no match; 2: a photo could not be used. With --json: VerifyResponse.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// One photo
    a: PathBuf,
    /// The other
    b: PathBuf,
    /// Cosine from -1 to 1: a score at or above it is a match [default: the pack's, else 0.2]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// The false match rate to keep to, such as 1e-3; needs a pack with a calibration curve
    #[arg(long, value_name = "RATE", conflicts_with = "threshold")]
    fmr: Option<f64>,
    #[command(flatten)]
    face: Face,
    #[command(flatten)]
    detection: Detection,
}

pub(super) fn run(config: &Config, output: &Output, arguments: &Arguments) -> anyhow::Result<Answer> {
    let operating_point = operating_point(arguments.threshold, arguments.fmr)?;
    let (pack, mut pipeline) = local::open(config)?;
    let (a, a_choice) = side(&mut pipeline, arguments, &arguments.a)?;
    let (b, b_choice) = side(&mut pipeline, arguments, &arguments.b)?;
    let verified = matching::verify(&a, &b, operating_point, pack.verification, pack.curve.as_deref())?;
    let reply = verify_reply(&verified, &pack.id, Some(a_choice), Some(b_choice));
    output.reply(&reply, |reply| text(arguments, reply))?;
    Ok(Answer::yes_if(reply.decision() == proto::VerifyDecision::Match))
}

fn side(
    pipeline: &mut Pipeline,
    arguments: &Arguments,
    photo: &Path,
) -> anyhow::Result<(Vec<Template>, proto::FaceChoice)> {
    let selection = arguments.face.selection();
    let bytes = local::read_photo(photo)?;
    let acquired = pipeline.acquire(&bytes, &arguments.detection.settings()?, selection);
    let acquired: Acquired = acquired.map_err(|error| local::photo_fault(photo, error))?;
    let choice = face_choice_reply(&acquired, selection);
    let chosen = acquired.chosen.map_err(|reason| local::photo_fault(photo, Error::from(reason)))?;
    Ok((chosen.into_iter().map(|(_, template)| template).collect(), choice))
}

fn text(arguments: &Arguments, reply: &proto::VerifyResponse) -> String {
    let decision = if reply.decision() == proto::VerifyDecision::Match { "MATCH" } else { "NO MATCH" };
    let a = choice_text(&arguments.a.display().to_string(), reply.face_a.as_ref());
    let b = choice_text(&arguments.b.display().to_string(), reply.face_b.as_ref());
    format!("{a}{b}{decision}  score {:.4}, {}", reply.score, threshold_text(reply.threshold.as_ref()))
}
