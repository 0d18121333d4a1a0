//! Protobuf ↔ domain. Every field of a request is checked here.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use super::engine::Engine;
use crate::biometrics::decision::{Identification, Verification};
use crate::biometrics::face::{self, FaceSelection, Point, Rectangle};
use crate::biometrics::ids::PackId;
use crate::biometrics::pose::Pose;
use crate::biometrics::quality::FaceQuality;
use crate::biometrics::score::{self, ErrorRate, Threshold, ThresholdSource};
use crate::biometrics::template::Template;
use crate::contract as proto;
use crate::detect::scales::Scales;
use crate::error::Error;
use crate::gallery::{self, MetadataValue, SearchPath, SearchPolicy};
use crate::matching::Verified;
use crate::pipeline::{Acquired, Detected, DetectionSettings};

/// Items of a page where the request states none, and at most.
const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 1_000;

/// The range of `score_min`. Lower would report thousands of candidates that are no faces.
const SCORE_MIN_RANGE: std::ops::RangeInclusive<f32> = 0.05..=1.0;

pub(super) fn photo(photo: Option<proto::Photo>) -> Result<Vec<u8>, Error> {
    photo.map(|photo| photo.data).ok_or_else(|| Error::bad_field("photo", "present"))
}

pub(super) fn detection(options: Option<proto::DetectionOptions>) -> Result<DetectionSettings, Error> {
    let options = options.unwrap_or_default();
    let scales = Scales::from_sides("detection.input_sides_px", &options.input_sides_px)?;
    if options.score_min.is_some_and(|score| !SCORE_MIN_RANGE.contains(&score)) {
        return Err(Error::bad_field("detection.score_min", "from 0.05 to 1"));
    }
    Ok(DetectionSettings { scales, score_min: options.score_min })
}

pub(super) fn face_selection(value: i32) -> Result<FaceSelection, Error> {
    match proto::FaceSelection::try_from(value) {
        Ok(proto::FaceSelection::Unspecified | proto::FaceSelection::Largest) => Ok(FaceSelection::Largest),
        Ok(proto::FaceSelection::Center) => Ok(FaceSelection::Center),
        Ok(proto::FaceSelection::ExactlyOne) => Ok(FaceSelection::ExactlyOne),
        Ok(proto::FaceSelection::All) => Ok(FaceSelection::All),
        Err(_) => Err(Error::bad_field("face_selection", "a value of FaceSelection")),
    }
}

/// A rule that chooses one face.
pub(super) fn one_face_selection(value: i32) -> Result<FaceSelection, Error> {
    match face_selection(value)? {
        FaceSelection::All => Err(Error::bad_field("face_selection", "a rule that chooses one face")),
        selection => Ok(selection),
    }
}

pub(super) fn face_selection_reply(selection: FaceSelection) -> i32 {
    let selection = match selection {
        FaceSelection::Largest => proto::FaceSelection::Largest,
        FaceSelection::Center => proto::FaceSelection::Center,
        FaceSelection::ExactlyOne => proto::FaceSelection::ExactlyOne,
        FaceSelection::All => proto::FaceSelection::All,
    };
    selection.into()
}

/// An embedding from outside. One that names a pack in use must have its dimension.
pub(super) fn embedding(embedding: &proto::Embedding, engine: &Engine) -> Result<Template, Error> {
    let pack_id = PackId::parse(&embedding.pack_id).map_err(|error| error.at("embedding"))?;
    if let Ok(pack) = engine.pack_of(&pack_id)
        && embedding.values.len() != pack.recognizer.dimension
    {
        let expected = format!("{} numbers", pack.recognizer.dimension);
        return Err(Error::bad_field("embedding.values", expected));
    }
    Template::from_vector(&embedding.values, pack_id)
}

pub(super) fn embedding_reply(template: &Template) -> proto::Embedding {
    proto::Embedding { values: template.values().to_vec(), pack_id: template.pack_id().as_str().to_owned() }
}

pub(super) fn operating_point(point: Option<proto::OperatingPoint>) -> Result<score::OperatingPoint, Error> {
    use proto::operating_point::Value;
    Ok(match point.and_then(|point| point.value) {
        None => score::OperatingPoint::Default,
        Some(Value::Cosine(cosine)) => {
            score::OperatingPoint::Cosine(Threshold::from_cosine("operating_point.cosine", cosine)?)
        }
        Some(Value::Fmr(rate)) => score::OperatingPoint::Fmr(ErrorRate::new("operating_point.fmr", rate)?),
        Some(Value::Fpir(rate)) => score::OperatingPoint::Fpir(ErrorRate::new("operating_point.fpir", rate)?),
    })
}

pub(super) fn threshold_reply(applied: score::AppliedThreshold) -> proto::AppliedThreshold {
    let source = match applied.source {
        ThresholdSource::Request => proto::ThresholdSource::Request,
        ThresholdSource::Gallery => proto::ThresholdSource::Gallery,
        ThresholdSource::Pack => proto::ThresholdSource::Pack,
        ThresholdSource::UncalibratedDefault => proto::ThresholdSource::UncalibratedDefault,
        ThresholdSource::Curve => proto::ThresholdSource::Curve,
    };
    let estimate = applied.estimate;
    proto::AppliedThreshold {
        cosine: applied.threshold.cosine(),
        source: source.into(),
        estimated_error_rate: estimate.map(|estimate| estimate.rate),
        estimated_error_rate_low: estimate.map(|estimate| estimate.interval.low),
        estimated_error_rate_high: estimate.map(|estimate| estimate.interval.high),
        curve_id: estimate.map(|estimate| estimate.curve.to_string()).unwrap_or_default(),
        warning: match estimate {
            Some(estimate) if estimate.is_outgrown => proto::ThresholdWarning::GalleryOutgrewCurve.into(),
            Some(estimate) if estimate.is_unsupported => proto::ThresholdWarning::CurveTooSmall.into(),
            _ => proto::ThresholdWarning::Unspecified.into(),
        },
    }
}

pub(super) fn face_reply(face: &face::Face) -> proto::Face {
    let Rectangle { x_min_px, y_min_px, x_max_px, y_max_px } = face.rectangle;
    let landmark = |point: &Point| proto::Point { x_px: point.x_px, y_px: point.y_px };
    proto::Face {
        r#box: Some(proto::Box { x_min_px, y_min_px, x_max_px, y_max_px }),
        detection_score: face.detection_score,
        landmarks: face.landmarks.iter().map(landmark).collect(),
        eye_distance_px: face.eye_distance_px(),
        quality: face.quality.map(|quality| quality_reply(&quality, face)),
    }
}

fn quality_reply(quality: &FaceQuality, face: &face::Face) -> proto::FaceQuality {
    let FaceQuality { face_side_px, sharpness, brightness, contrast, clipped_share, pose } = *quality;
    let Pose { yaw_degrees, pitch_degrees, roll_degrees } = pose;
    proto::FaceQuality {
        face_side_px,
        sharpness,
        brightness,
        contrast,
        clipped_share,
        yaw_degrees,
        pitch_degrees,
        roll_degrees,
        weight: quality.weight(face),
    }
}

/// All faces of a photo and the one that was chosen, if one was.
pub(crate) fn face_choice_reply(acquired: &Acquired, selection: FaceSelection) -> proto::FaceChoice {
    let chosen = acquired.chosen.as_ref().ok().filter(|_| selection != FaceSelection::All);
    let chosen = chosen.and_then(|chosen| chosen.first());
    proto::FaceChoice {
        faces: acquired.detected.faces.iter().map(face_reply).collect(),
        chosen_index: chosen.map(|(index, _)| *index as u32),
        selection: face_selection_reply(selection),
    }
}

/// The faces of a photo.
pub(crate) fn detect_reply(detected: &Detected, pack_id: &PackId) -> proto::DetectResponse {
    proto::DetectResponse {
        faces: detected.faces.iter().map(face_reply).collect(),
        width_px: detected.width_px,
        height_px: detected.height_px,
        input_sides_px: detected.sides_px.clone(),
        pack_id: pack_id.as_str().to_owned(),
    }
}

/// The answer of a comparison, and the faces of the sides that were photos.
pub(crate) fn verify_reply(
    verified: &Verified,
    pack_id: &PackId,
    face_a: Option<proto::FaceChoice>,
    face_b: Option<proto::FaceChoice>,
) -> proto::VerifyResponse {
    proto::VerifyResponse {
        decision: verification_reply(verified.decision),
        score: verified.score.cosine(),
        threshold: Some(threshold_reply(verified.threshold)),
        face_a,
        face_b,
        pack_id: pack_id.as_str().to_owned(),
    }
}

fn verification_reply(decision: Verification) -> i32 {
    match decision {
        Verification::Match => proto::VerifyDecision::Match.into(),
        Verification::NoMatch => proto::VerifyDecision::NoMatch.into(),
    }
}

pub(super) fn identification_reply(decision: Identification) -> i32 {
    match decision {
        Identification::Match => proto::IdentifyDecision::Match.into(),
        Identification::NoMatch => proto::IdentifyDecision::NoMatch.into(),
        Identification::Ambiguous => proto::IdentifyDecision::Ambiguous.into(),
    }
}

pub(super) fn search_path_reply(path: SearchPath) -> i32 {
    match path {
        SearchPath::Exact => proto::SearchPath::Exact.into(),
        SearchPath::Graph => proto::SearchPath::Graph.into(),
    }
}

pub(super) fn search_policy(value: i32) -> Result<SearchPolicy, Error> {
    match proto::SearchPolicy::try_from(value) {
        Ok(proto::SearchPolicy::Unspecified | proto::SearchPolicy::Auto) => Ok(SearchPolicy::Auto),
        Ok(proto::SearchPolicy::Exact) => Ok(SearchPolicy::Exact),
        Ok(proto::SearchPolicy::Graph) => Ok(SearchPolicy::Graph),
        Err(_) => Err(Error::bad_field("gallery.search_policy", "a value of SearchPolicy")),
    }
}

pub(super) fn search_policy_reply(policy: SearchPolicy) -> i32 {
    match policy {
        SearchPolicy::Auto => proto::SearchPolicy::Auto.into(),
        SearchPolicy::Exact => proto::SearchPolicy::Exact.into(),
        SearchPolicy::Graph => proto::SearchPolicy::Graph.into(),
    }
}

pub(super) fn metadata_value(value: proto::MetadataValue) -> Result<MetadataValue, Error> {
    use proto::metadata_value::Value;
    match value.value {
        Some(Value::StringValue(text)) => Ok(MetadataValue::Text(text)),
        Some(Value::NumberValue(number)) => Ok(MetadataValue::Number(number)),
        Some(Value::BoolValue(flag)) => Ok(MetadataValue::Flag(flag)),
        Some(Value::TimeValue(Timestamp { seconds, nanos })) => Ok(MetadataValue::Time { seconds, nanos }),
        None => Err(Error::bad_field("metadata", "entries with a value")),
    }
}

pub(super) fn metadata_value_reply(value: &MetadataValue) -> proto::MetadataValue {
    use proto::metadata_value::Value;
    let value = match value {
        MetadataValue::Text(text) => Value::StringValue(text.clone()),
        MetadataValue::Number(number) => Value::NumberValue(*number),
        MetadataValue::Flag(flag) => Value::BoolValue(*flag),
        MetadataValue::Time { seconds, nanos } => Value::TimeValue(Timestamp { seconds: *seconds, nanos: *nanos }),
    };
    proto::MetadataValue { value: Some(value) }
}

/// An identity; embeddings only where the call asks for them.
pub(super) fn identity_reply(identity: &gallery::Identity, with_embeddings: bool) -> proto::Identity {
    let mut reply = outline_reply(identity.id.as_str().to_owned(), &identity.outline());
    if with_embeddings {
        for (template, enrolled) in reply.templates.iter_mut().zip(&identity.templates) {
            template.embedding = Some(embedding_reply(&enrolled.template));
        }
    }
    reply
}

pub(super) fn outline_reply(identity_id: String, known: &gallery::KnownOutline) -> proto::Identity {
    let metadata = known.details.metadata.iter();
    proto::Identity {
        identity_id,
        display_name: known.details.display_name.clone(),
        metadata: metadata.map(|(key, value)| (key.clone(), metadata_value_reply(value))).collect(),
        templates: known.templates.iter().map(template_reply).collect(),
        create_time: Some(time_reply(known.created)),
        update_time: Some(time_reply(known.updated)),
        damaged: false,
    }
}

pub(super) fn template_reply(outline: &gallery::TemplateOutline) -> proto::Template {
    proto::Template {
        template_id: outline.id.as_str().to_owned(),
        pack_id: outline.pack_id.as_str().to_owned(),
        create_time: Some(time_reply(outline.created)),
        face: outline.face.as_ref().map(face_reply),
        has_chip: outline.has_chip,
        embedding: None,
    }
}

/// *Errors*: [`Error::BadField`] where it is none, or before 1970.
pub(super) fn time(field: &str, stated: Timestamp) -> Result<SystemTime, Error> {
    let expected = || Error::bad_field(field, "a time from 1970 on");
    SystemTime::try_from(stated).ok().filter(|time| *time >= SystemTime::UNIX_EPOCH).ok_or_else(expected)
}

pub(super) fn time_reply(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}

/// How many items a page is to have: the default where none is stated, and never more than the most.
pub(super) fn page_size(stated: i32) -> Result<usize, Error> {
    match usize::try_from(stated) {
        Ok(0) => Ok(PAGE_SIZE_DEFAULT),
        Ok(size) => Ok(size.min(PAGE_SIZE_MAX)),
        Err(_) => Err(Error::bad_field("page_size", "not negative")),
    }
}

/// Makes the opaque token of the page after an id.
pub(super) fn page_token(last_id: &str) -> String {
    last_id.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the id out of a page token; `None` for the first page.
pub(super) fn page_after(token: &str) -> Result<Option<String>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let (pairs, rest) = token.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Some).ok_or_else(|| Error::bad_field("page_token", "next_page_token of the page before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_token_of_another_making_is_bad_field() {
        for token in ["x", "0", "zz", "ff"] {
            assert!(page_after(token).is_err(), "{token}");
        }
        assert!(page_size(-1).is_err());
    }

    #[test]
    fn page_token_carries_any_id() {
        for id in ["a", "Jos\u{e9} \u{1f600}", "with/slash"] {
            assert_eq!(page_after(&page_token(id)).expect("a token"), Some(id.to_owned()));
        }
        assert_eq!(page_after("").expect("the first page"), None);
        assert_eq!((page_size(0).ok(), page_size(7).ok(), page_size(9_999).ok()), (Some(100), Some(7), Some(1_000)));
    }

    #[test]
    fn unknown_enum_values_are_bad_fields() {
        assert!(face_selection(99).is_err() && search_policy(99).is_err());
        assert!(one_face_selection(proto::FaceSelection::All.into()).is_err());
    }
}
