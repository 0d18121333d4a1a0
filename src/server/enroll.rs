//! Enroll: samples → templates → one durable write. Every sample is accounted for.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::convert;
use super::engine::Engine;
use super::enrollment::person_details;
use crate::biometrics::face::FaceSelection;
use crate::biometrics::ids::{GalleryId, IdentityId, TemplateId};
use crate::contract as proto;
use crate::error::{Entity, Error};
use crate::gallery::{EnrolledTemplate, Enrollment, Identity, IdentityChange, IfExists, PersonDetails};
use crate::pipeline::DetectionSettings;
use crate::runtime::Place;

/// Samples of one call at most: as many as an identity may have templates.
const SAMPLES_MAX: usize = Identity::TEMPLATES_MAX;

/// A checked request.
struct Checked {
    gallery: GalleryId,
    identity: IdentityId,
    change: IdentityChange,
    if_exists: IfExists,
    samples: Vec<Sample>,
    settings: DetectionSettings,
    selection: FaceSelection,
}

struct Sample {
    source: proto::sample::Source,
    template_id: TemplateId,
}

/// What became of one sample.
enum Outcome {
    Acquired { template_id: TemplateId, choice: Option<proto::FaceChoice> },
    Failed { error: Error, choice: Option<proto::FaceChoice> },
    AlreadyEnrolled(TemplateId),
}

pub(super) async fn enroll(engine: &Engine, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, Error> {
    let Checked { gallery, identity, change, if_exists, samples, settings, selection } = check(request)?;
    let known = known_templates(engine, &gallery, &identity, if_exists).await?;
    // One place for the whole call: its photos are worked on one after the other, and none of them is refused once the
    // call is in.
    let mut place = engine.workers.reserve()?;
    let mut templates = Vec::new();
    let mut outcomes = Vec::with_capacity(samples.len());
    for (index, sample) in samples.into_iter().enumerate() {
        if known.contains(&sample.template_id) {
            outcomes.push(Outcome::AlreadyEnrolled(sample.template_id));
            continue;
        }
        let part = format!("samples[{index}]");
        outcomes.push(acquire(engine, &mut place, sample, &settings, selection, &part, &mut templates).await?);
    }
    if templates.is_empty() && !outcomes.iter().any(|outcome| matches!(outcome, Outcome::AlreadyEnrolled(_))) {
        let failed = outcomes.into_iter().find_map(|outcome| match outcome {
            Outcome::Failed { error, .. } => Some(error),
            _ => None,
        });
        return Err(failed.unwrap_or_else(|| Error::bad_field("samples", "1 to 64")));
    }
    let enrollment = Enrollment { identity, change, templates, if_exists };
    let (identity, created) = engine.galleries.enroll(gallery, enrollment).await?;
    Ok(proto::EnrollResponse {
        results: outcomes.into_iter().map(|outcome| result_reply(outcome, &identity)).collect(),
        identity: Some(convert::identity_reply(&identity, false)),
        created,
    })
}

fn check(request: proto::EnrollRequest) -> Result<Checked, Error> {
    let gallery = GalleryId::parse(&request.gallery_id)?;
    let identity = match request.identity_id.as_str() {
        "" => IdentityId::generate(),
        stated => IdentityId::parse(stated)?,
    };
    if !(1..=SAMPLES_MAX).contains(&request.samples.len()) {
        return Err(Error::bad_field("samples", "1 to 64"));
    }
    let samples: Vec<Sample> = request
        .samples
        .into_iter()
        .enumerate()
        .map(|(index, sample)| check_sample(sample).map_err(|error| error.at(&format!("samples[{index}]"))))
        .collect::<Result<_, Error>>()?;
    let distinct: BTreeSet<&TemplateId> = samples.iter().map(|sample| &sample.template_id).collect();
    if distinct.len() < samples.len() {
        return Err(Error::bad_field("samples", "of distinct template ids"));
    }
    let if_exists = match proto::IfExists::try_from(request.if_exists) {
        Ok(proto::IfExists::Unspecified | proto::IfExists::Refuse) => IfExists::Refuse,
        Ok(proto::IfExists::Add) => IfExists::Add,
        Err(_) => return Err(Error::bad_field("if_exists", "a value of IfExists")),
    };
    let details = person_details(request.display_name, request.metadata)?;
    Ok(Checked {
        gallery,
        identity,
        change: stated_change(details),
        if_exists,
        samples,
        settings: convert::detection(request.detection)?,
        selection: convert::one_face_selection(request.face_selection)?,
    })
}

fn check_sample(sample: proto::Sample) -> Result<Sample, Error> {
    let template_id = match sample.template_id.as_str() {
        "" => TemplateId::generate(),
        stated => TemplateId::parse(stated)?,
    };
    let source = sample.source.ok_or_else(|| Error::bad_field("source", "a photo or an embedding"))?;
    Ok(Sample { source, template_id })
}

/// What a request leaves empty is not stated, so that adding a template does not wipe a name.
fn stated_change(details: PersonDetails) -> IdentityChange {
    IdentityChange {
        display_name: Some(details.display_name).filter(|name| !name.is_empty()),
        metadata: Some(details.metadata).filter(|metadata| !metadata.is_empty()),
    }
}

/// Returns the ids of the templates that the identity has, and refuses what will be refused before any photo is looked
/// at.
async fn known_templates(
    engine: &Engine,
    gallery: &GalleryId,
    identity: &IdentityId,
    if_exists: IfExists,
) -> Result<BTreeSet<TemplateId>, Error> {
    let (gallery, identity) = (gallery.clone(), identity.clone());
    let look_up = move |galleries: &crate::gallery::Galleries| match galleries.identity(&gallery, &identity) {
        Ok(_) if if_exists == IfExists::Refuse => Err(Error::AlreadyExists(Entity::Identity)),
        Ok(known) => Ok(known.templates.into_iter().map(|enrolled| enrolled.id).collect()),
        Err(Error::NotFound(Entity::Identity)) => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    };
    engine.with_galleries(look_up).await
}

/// Makes a sample's template. A fault of the sample is its outcome; a fault of the engine ends the call.
async fn acquire(
    engine: &Engine,
    place: &mut Place,
    sample: Sample,
    settings: &DetectionSettings,
    selection: FaceSelection,
    part: &str,
    templates: &mut Vec<EnrolledTemplate>,
) -> Result<Outcome, Error> {
    let template_id = sample.template_id;
    let fail = |error: Error, choice| match error {
        error @ (Error::BadField { .. } | Error::Photo(_) | Error::Face(_) | Error::PackMismatch { .. }) => {
            Ok(Outcome::Failed { error: error.at(part), choice })
        }
        error => Err(error),
    };
    let (template, face, choice) = match sample.source {
        proto::sample::Source::Embedding(embedding) => match convert::embedding(&embedding, &engine.pack) {
            Ok(template) => (template, None, None),
            Err(error) => return fail(error, None),
        },
        proto::sample::Source::Photo(photo) => {
            let acquired = engine.acquire(place, photo.data, settings.clone(), selection).await;
            let acquired = match acquired {
                Ok(acquired) => acquired,
                Err(error) => return fail(error, None),
            };
            let choice = Some(convert::face_choice_reply(&acquired, selection));
            match acquired.chosen.map(|chosen| chosen.into_iter().next()) {
                Ok(Some((index, template))) => (template, acquired.detected.faces.get(index).cloned(), choice),
                Ok(None) => return fail(Error::Face(crate::biometrics::face::NotChosen::NoFace), choice),
                Err(reason) => return fail(reason.into(), choice),
            }
        }
    };
    templates.push(EnrolledTemplate { id: template_id.clone(), template, face, created: SystemTime::now() });
    Ok(Outcome::Acquired { template_id, choice })
}

fn result_reply(outcome: Outcome, identity: &Identity) -> proto::SampleResult {
    use proto::sample_result::Outcome as Reply;
    let template = |id: &TemplateId| {
        let enrolled = identity.templates.iter().find(|enrolled| enrolled.id == *id);
        enrolled.map(|enrolled| Reply::Template(convert::template_reply(enrolled, false)))
    };
    match outcome {
        Outcome::Acquired { template_id, choice } => {
            proto::SampleResult { outcome: template(&template_id), already_enrolled: false, face_choice: choice }
        }
        Outcome::AlreadyEnrolled(template_id) => {
            proto::SampleResult { outcome: template(&template_id), already_enrolled: true, face_choice: None }
        }
        Outcome::Failed { error, choice } => {
            let failure = proto::SampleFailure { reason: error.reason().to_owned(), message: error.to_string() };
            let outcome = Some(Reply::Failure(failure));
            proto::SampleResult { outcome, already_enrolled: false, face_choice: choice }
        }
    }
}
