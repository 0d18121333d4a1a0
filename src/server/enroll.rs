//! Enroll: samples → templates → one durable write. Every sample is accounted for.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::engine::Engine;
use super::enrollment::person_details;
use super::sample::{Acquired, Acquiring, NoTemplate, check_defaults, failure_reply, finding_reply, stated_change};
use super::{call, convert};
use crate::biometrics::enrolment::Finding;
use crate::biometrics::face::FaceSelection;
use crate::biometrics::ids::{GalleryId, IdentityId, TemplateId};
use crate::contract as proto;
use crate::error::{Entity, Error};
use crate::gallery::{Enrolled, EnrolledTemplate, Enrollment, Gallery, Identity, IdentityChange, IfExists};
use crate::pipeline::DetectionSettings;
use crate::telemetry::Stage;

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
    let (target, known) = look_up(engine, &gallery, &identity, if_exists).await?;
    let has_photo = samples.iter().any(|sample| matches!(sample.source, proto::sample::Source::Photo(_)));
    if has_photo {
        // Without it every photo would come to nothing.
        engine.pack_of(&target.pack_id)?;
    }
    // One place for the whole call: its photos are worked on one after the other, and none of them is refused once the
    // call is in.
    let mut place = engine.workers.reserve(call::caller())?;
    let acquiring = Acquiring { engine, target, settings, selection };
    let mut templates = Vec::new();
    let mut outcomes = Vec::with_capacity(samples.len());
    for (index, sample) in samples.into_iter().enumerate() {
        if known.contains(&sample.template_id) {
            outcomes.push(Outcome::AlreadyEnrolled(sample.template_id));
            continue;
        }
        let Sample { source, template_id } = sample;
        let acquired = match source {
            proto::sample::Source::Embedding(embedding) => Ok(acquiring.of_embedding(&embedding)),
            proto::sample::Source::Photo(photo) => acquiring.of_photo(&mut place, photo.data).await,
        };
        outcomes.push(match acquired? {
            Ok(Acquired { template, face, chip, choice }) => {
                let created = SystemTime::now();
                templates.push(EnrolledTemplate { id: template_id.clone(), template, face, chip, created });
                Outcome::Acquired { template_id, choice }
            }
            Err(NoTemplate { error, choice }) => Outcome::Failed { error: error.at(&part(index)), choice },
        });
    }
    let some_enrolled = outcomes.iter().any(|outcome| matches!(outcome, Outcome::AlreadyEnrolled(_)));
    if templates.is_empty() && !some_enrolled {
        return Err(first_failure(outcomes, None));
    }
    let check_defaults = check_defaults(engine, &acquiring.target)?;
    let identities_max = call::with_principal(|principal| Ok(principal.identities_max()))?;
    let enrollment = Enrollment {
        identity,
        change,
        templates,
        if_exists,
        check_defaults,
        may_refuse_all: some_enrolled,
        identities_max,
    };
    let enrolled = match call::timed(Stage::Write, engine.galleries.enroll(gallery, enrollment)).await {
        Err(Error::Refused(finding)) => return Err(first_failure(outcomes, Some(finding))),
        enrolled => enrolled.map_err(Error::of_moved_gallery)?,
    };
    let results = outcomes.into_iter().enumerate();
    Ok(proto::EnrollResponse {
        results: results.map(|(index, outcome)| result_reply(outcome, &part(index), &enrolled)).collect(),
        identity: Some(convert::identity_reply(&enrolled.identity, false)),
        created: enrolled.is_new,
    })
}

/// The path of a sample in the request.
fn part(index: usize) -> String {
    format!("samples[{index}]")
}

/// What is wrong with the first sample of a call that enrols none: what kept it from a template, or else what the gallery
/// found of the first template.
fn first_failure(outcomes: Vec<Outcome>, refused: Option<Finding>) -> Error {
    let failures = outcomes.into_iter().enumerate().filter_map(|(index, outcome)| match outcome {
        Outcome::Failed { error, .. } => Some(error),
        Outcome::Acquired { .. } => refused.clone().map(|finding| Error::Refused(finding).at(&part(index))),
        Outcome::AlreadyEnrolled(_) => None,
    });
    failures.into_iter().next().unwrap_or_else(|| Error::bad_field("samples", "1 to 64"))
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

/// Returns the gallery and the ids of the templates that the identity has, and refuses what will be refused before any
/// photo is looked at.
async fn look_up(
    engine: &Engine,
    gallery: &GalleryId,
    identity: &IdentityId,
    if_exists: IfExists,
) -> Result<(Gallery, BTreeSet<TemplateId>), Error> {
    let (target, standing) = engine.galleries.gallery(gallery).await?;
    let known: BTreeSet<TemplateId> = match engine.galleries.identity(gallery, identity).await {
        Ok(_) if if_exists == IfExists::Refuse => return Err(Error::AlreadyExists(Entity::Identity)),
        Ok(known) => known.templates.into_iter().map(|enrolled| enrolled.id).collect(),
        Err(Error::NotFound(Entity::Identity)) => BTreeSet::new(),
        Err(error) => return Err(error),
    };
    let limit = call::with_principal(|principal| Ok(principal.identities_max()))?;
    if let Some(limit) = limit.filter(|limit| known.is_empty() && standing.counts.identities >= *limit) {
        // Said before any photo is looked at; the writer looks again.
        return Err(Error::IdentitiesMax { limit });
    }
    Ok((target, known))
}

fn result_reply(outcome: Outcome, part: &str, enrolled: &Enrolled) -> proto::SampleResult {
    use proto::sample_result::Outcome as Reply;
    let template = |id: &TemplateId| {
        let of_identity = enrolled.identity.templates.iter().find(|template| template.id == *id);
        of_identity.map(|template| Reply::Template(convert::template_reply(&template.outline())))
    };
    let failed = |error: &Error, face_choice| proto::SampleResult {
        outcome: Some(Reply::Failure(failure_reply(error))),
        face_choice,
        ..Default::default()
    };
    match outcome {
        Outcome::Acquired { template_id, choice } => {
            let warnings = enrolled.warnings.get(&template_id).into_iter().flatten().map(finding_reply).collect();
            match enrolled.refused.get(&template_id) {
                Some(finding) => {
                    let error = Error::Refused(finding.clone()).at(part);
                    proto::SampleResult { warnings, ..failed(&error, choice) }
                }
                None => proto::SampleResult {
                    outcome: template(&template_id),
                    // Another call may have enrolled this id while the photo was worked on.
                    already_enrolled: !enrolled.added.contains(&template_id),
                    face_choice: choice,
                    warnings,
                },
            }
        }
        Outcome::AlreadyEnrolled(template_id) => {
            proto::SampleResult { outcome: template(&template_id), already_enrolled: true, ..Default::default() }
        }
        Outcome::Failed { error, choice } => failed(&error, choice),
    }
}
