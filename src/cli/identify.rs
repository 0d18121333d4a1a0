//! `identify`: who is this?

use std::path::PathBuf;

use super::Answer;
use super::arguments::{Detection, Face, box_text, choice_text, count, operating_point_request, threshold_text};
use super::local::read_photo;
use super::output::Output;
use super::remote;
use crate::config::Config;
use crate::contract as proto;

/// Tell who a photo shows, of the people enrolled in a gallery
///
/// Exit code 0: match; 1: nobody matches, or two people do so closely that neither is named (AMBIGUOUS); 2: error, or a
/// photo that cannot be searched with. With --every-face: 0 where a face matches. With --json: IdentifyResponse.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The photo
    photo: PathBuf,
    /// The gallery to search
    #[arg(long, short, value_name = "ID")]
    gallery: String,
    /// How many candidates to show, 1 to 100
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    top_k: u32,
    /// Cosine from -1 to 1: a score at or above it is a match [default: the gallery's, else the pack's, else 0.5]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// The share of strangers' searches that may name somebody, such as 1e-2, at the gallery's size now; needs a calibration
    /// curve of the gallery or its pack
    #[arg(long, value_name = "RATE", conflicts_with = "threshold")]
    fpir: Option<f64>,
    /// How far a match must be above a runner-up who matches too, 0 to 1 [default: the gallery's]
    #[arg(long, value_name = "COSINE")]
    margin: Option<f32>,
    /// Only people whose metadata it is true of, such as 'site = "north" AND age >= 30'
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Only these people
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    among: Vec<String>,
    /// Score every template, whatever the gallery's search policy
    #[arg(long)]
    exact: bool,
    /// Tell who every face of the photo is
    #[arg(long, conflicts_with = "rule")]
    every_face: bool,
    /// Name nobody for two faces of the photo: the face with the best score keeps the name
    #[arg(long, requires = "every_face")]
    each_once: bool,
    #[command(flatten)]
    face: Face,
    #[command(flatten)]
    detection: Detection,
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    let data = read_photo(&arguments.photo)?;
    let request = proto::IdentifyRequest {
        gallery_id: arguments.gallery,
        probe: Some(proto::Probe { probe: Some(proto::probe::Probe::Photo(proto::Photo { data })) }),
        top_k: arguments.top_k,
        operating_point: operating_point_request(arguments.threshold, arguments.fpir),
        ambiguity_margin: arguments.margin,
        exact: arguments.exact,
        face_selection: match arguments.every_face {
            true => proto::FaceSelection::All.into(),
            false => arguments.face.reply(),
        },
        detection: Some(arguments.detection.options()),
        filter: arguments.filter.unwrap_or_default(),
        candidate_identity_ids: arguments.among,
        each_identity_once: arguments.each_once,
    };
    let reply = remote::client(config).await?.identify(request).await.map_err(remote::failed)?;
    let name = arguments.photo.display().to_string();
    output.reply(&reply, |reply| match reply.face_answers.is_empty() {
        true => text(&name, reply),
        false => faces_text(reply),
    })?;
    if !reply.face_answers.is_empty() {
        let some_match = reply.face_answers.iter().any(|answer| answer.decision() == proto::IdentifyDecision::Match);
        return Ok(Answer::yes_if(some_match));
    }
    match reply.decision() {
        proto::IdentifyDecision::Match => Ok(Answer::Yes),
        proto::IdentifyDecision::NoMatch | proto::IdentifyDecision::Ambiguous => Ok(Answer::No),
        _ => anyhow::bail!("{name} cannot be searched with ({})", reply.not_searchable_reason),
    }
}

fn text(name: &str, reply: &proto::IdentifyResponse) -> String {
    let choice = choice_text(name, reply.face_choice.as_ref());
    let decision = decision_text(reply.decision(), &reply.candidates, &reply.not_searchable_reason);
    if reply.decision() == proto::IdentifyDecision::NotSearchable {
        return format!("{choice}{decision}");
    }
    format!("{choice}{decision}  {}\n{}", searched_text(reply), candidates_text(&reply.candidates))
}

fn faces_text(reply: &proto::IdentifyResponse) -> String {
    let faces = reply.face_choice.as_ref().map(|choice| choice.faces.as_slice()).unwrap_or_default();
    let mut text = format!("{}: {}\n", count(faces.len(), "face", "faces"), searched_text(reply));
    for answer in &reply.face_answers {
        let place = faces.get(answer.face_index as usize).and_then(|face| face.r#box.as_ref());
        let place = place.map(box_text).unwrap_or_default();
        let decision = decision_text(answer.decision(), &answer.candidates, &answer.not_searchable_reason);
        text.push_str(&format!("at {place}  {decision}\n{}", candidates_text(&answer.candidates)));
    }
    text
}

fn decision_text(decision: proto::IdentifyDecision, candidates: &[proto::Candidate], reason: &str) -> String {
    let best = candidates.first().map(|candidate| candidate.identity_id.as_str()).unwrap_or_default();
    match decision {
        proto::IdentifyDecision::Match => format!("MATCH  {best}"),
        proto::IdentifyDecision::NoMatch => "NO MATCH".to_owned(),
        proto::IdentifyDecision::Ambiguous => "AMBIGUOUS".to_owned(),
        _ => format!("NOT SEARCHABLE  {reason}"),
    }
}

fn searched_text(reply: &proto::IdentifyResponse) -> String {
    let path = if reply.search_path() == proto::SearchPath::Graph { "by graph" } else { "exactly" };
    let all = count(reply.identity_count as usize, "identity", "identities");
    let searched = match reply.searched_identity_count {
        some if some < reply.identity_count => format!("{some} of {all} searched {path}"),
        _ => format!("{all} searched {path}"),
    };
    format!("{searched}, {}", threshold_text(reply.threshold.as_ref()))
}

fn candidates_text(candidates: &[proto::Candidate]) -> String {
    let mut text = String::new();
    for candidate in candidates {
        let mark = if candidate.matches { "  matches" } else { "" };
        let name = Some(&candidate.display_name).filter(|name| !name.is_empty() && **name != candidate.identity_id);
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        text.push_str(&format!("  {:.4}  {}{name}{mark}\n", candidate.score, candidate.identity_id));
    }
    text
}
