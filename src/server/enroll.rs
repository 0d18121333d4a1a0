//! Enroll: samples → templates → one durable write. Every sample is accounted for.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::convert;
use super::engine::Engine;
use super::enrollment::person_details;
use crate::biometrics::enrolment::{CheckDefaults, Finding};
use crate::biometrics::face::{Face, FaceSelection, NotChosen};
use crate::biometrics::ids::{GalleryId, IdentityId, TemplateId};
use crate::biometrics::quality::Shortfall;
use crate::biometrics::score::OperatingPoint;
use crate::biometrics::template::Template;
use crate::contract as proto;
use crate::error::{Entity, Error};
use crate::gallery::{
    Enrolled, EnrolledTemplate, Enrollment, Galleries, Gallery, Identity, IdentityChange, IfExists, PersonDetails,
};
use crate::matching;
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
    let (target, known) = look_up(engine, &gallery, &identity, if_exists).await?;
    let has_photo = samples.iter().any(|sample| matches!(sample.source, proto::sample::Source::Photo(_)));
    if has_photo && target.pack_id != engine.pack.id {
        // Every photo would come to nothing.
        return Err(Error::PackMismatch { expected: target.pack_id, found: engine.pack.id.clone() });
    }
    // One place for the whole call: its photos are worked on one after the other, and none of them is refused once the
    // call is in.
    let mut acquiring = Acquiring { engine, target, settings, selection, place: engine.workers.reserve()? };
    let mut templates = Vec::new();
    let mut outcomes = Vec::with_capacity(samples.len());
    for (index, sample) in samples.into_iter().enumerate() {
        if known.contains(&sample.template_id) {
            outcomes.push(Outcome::AlreadyEnrolled(sample.template_id));
            continue;
        }
        let Sample { source, template_id } = sample;
        outcomes.push(match acquiring.acquire(source, &part(index)).await? {
            Ok((template, face, choice)) => {
                let created = SystemTime::now();
                templates.push(EnrolledTemplate { id: template_id.clone(), template, face, created });
                Outcome::Acquired { template_id, choice }
            }
            Err((error, choice)) => Outcome::Failed { error, choice },
        });
    }
    let some_enrolled = outcomes.iter().any(|outcome| matches!(outcome, Outcome::AlreadyEnrolled(_)));
    if templates.is_empty() && !some_enrolled {
        return Err(first_failure(outcomes, None));
    }
    let check_defaults = check_defaults(engine, &acquiring.target)?;
    let enrollment =
        Enrollment { identity, change, templates, if_exists, check_defaults, may_refuse_all: some_enrolled };
    let enrolled = match engine.galleries.enroll(gallery, enrollment).await {
        Err(Error::Refused(finding)) => return Err(first_failure(outcomes, Some(finding))),
        enrolled => enrolled?,
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

/// Where the gallery's checks draw the line, if it does not say: at the thresholds of its pack.
fn check_defaults(engine: &Engine, gallery: &Gallery) -> Result<CheckDefaults, Error> {
    let pack = Some(&engine.pack).filter(|pack| pack.id == gallery.pack_id);
    let (of_search, of_pair) = (pack.and_then(|pack| pack.identification), pack.and_then(|pack| pack.verification));
    let default = OperatingPoint::Default;
    Ok(CheckDefaults {
        duplicate: matching::identification_threshold(default, None, of_search)?.threshold,
        consistency: matching::verification_threshold(default, of_pair)?.threshold,
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

/// Returns the gallery and the ids of the templates that the identity has, and refuses what will be refused before any
/// photo is looked at.
async fn look_up(
    engine: &Engine,
    gallery: &GalleryId,
    identity: &IdentityId,
    if_exists: IfExists,
) -> Result<(Gallery, BTreeSet<TemplateId>), Error> {
    let (target, _) = engine.galleries.gallery(gallery)?;
    let (gallery, identity) = (gallery.clone(), identity.clone());
    let known = move |galleries: &Galleries| match galleries.identity(&gallery, &identity) {
        Ok(_) if if_exists == IfExists::Refuse => Err(Error::AlreadyExists(Entity::Identity)),
        Ok(known) => Ok(known.templates.into_iter().map(|enrolled| enrolled.id).collect()),
        Err(Error::NotFound(Entity::Identity)) => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    };
    Ok((target, engine.with_galleries(known).await?))
}

/// What every sample of a call is worked on with.
struct Acquiring<'a> {
    engine: &'a Engine,
    target: Gallery,
    settings: DetectionSettings,
    selection: FaceSelection,
    place: Place,
}

/// A sample's template, the face it is of, and how that was chosen; or what is wrong with the sample.
type Acquisition = Result<(Template, Option<Face>, Option<proto::FaceChoice>), (Error, Option<proto::FaceChoice>)>;

impl Acquiring<'_> {
    /// Makes a sample's template. A fault of the sample is its own; a fault of the engine ends the call.
    async fn acquire(&mut self, source: proto::sample::Source, part: &str) -> Result<Acquisition, Error> {
        match source {
            proto::sample::Source::Embedding(embedding) => {
                let template = convert::embedding(&embedding, &self.engine.pack).and_then(|template| {
                    template.check_fits(&self.target.pack_id, self.target.dimension)?;
                    Ok(template)
                });
                Ok(template.map(|template| (template, None, None)).map_err(|error| (error.at(part), None)))
            }
            proto::sample::Source::Photo(photo) => {
                let (settings, selection) = (self.settings.clone(), self.selection);
                let acquired = match self.engine.acquire(&mut self.place, photo.data, settings, selection).await {
                    Ok(acquired) => acquired,
                    Err(error @ Error::Photo(_)) => return Ok(Err((error.at(part), None))),
                    Err(error) => return Err(error),
                };
                let choice = Some(convert::face_choice_reply(&acquired, selection));
                Ok(match acquired.chosen.map(|chosen| chosen.into_iter().next()) {
                    Ok(Some((index, template))) => {
                        let face = acquired.detected.faces.get(index).cloned();
                        let gate = &self.target.settings.quality_gate;
                        match face.as_ref().map(|face| gate.shortfalls(face)).unwrap_or_default() {
                            short if short.is_empty() => Ok((template, face, choice)),
                            short => Err((Error::QualityTooLow(short).at(part), choice)),
                        }
                    }
                    Ok(None) => Err((Error::Face(NotChosen::NoFace).at(part), choice)),
                    Err(reason) => Err((Error::Face(reason).at(part), choice)),
                })
            }
        }
    }
}

fn result_reply(outcome: Outcome, part: &str, enrolled: &Enrolled) -> proto::SampleResult {
    use proto::sample_result::Outcome as Reply;
    let template = |id: &TemplateId| {
        let of_identity = enrolled.identity.templates.iter().find(|template| template.id == *id);
        of_identity.map(|template| Reply::Template(convert::template_reply(template, false)))
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

fn failure_reply(error: &Error) -> proto::SampleFailure {
    let shortfall = |short: &Shortfall| proto::QualityShortfall {
        measure: short.measure.to_owned(),
        value: short.value,
        limit_name: short.limit_name.to_owned(),
        limit: short.limit,
    };
    proto::SampleFailure {
        reason: error.reason().to_owned(),
        message: error.to_string(),
        shortfalls: error.shortfalls().iter().map(shortfall).collect(),
        finding: error.finding().map(finding_reply),
    }
}

fn finding_reply(finding: &Finding) -> proto::EnrollmentFinding {
    let kind = match finding {
        Finding::DuplicateIdentity { .. } => proto::FindingKind::DuplicateIdentity,
        Finding::UnlikeIdentity { .. } => proto::FindingKind::UnlikeIdentity,
    };
    let (score, threshold) = finding.measured();
    proto::EnrollmentFinding {
        kind: kind.into(),
        identity_id: finding.duplicate_of().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        score: score.cosine(),
        cosine: threshold.cosine(),
    }
}
