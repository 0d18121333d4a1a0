//! BulkEnroll: each item → one durable write and one result. What is enrolled is not enrolled twice: the item's key is its
//! template's id, so the store itself knows, and of two items with one key at a time only one is worked on.

use std::sync::Arc;

use std::time::{Instant, SystemTime};
use tonic::codegen::BoxFuture;

use proto::bulk_enroll_item::Source;
use proto::{BulkEnrollOutcome, BulkEnrollResult, BulkEnrollSummary};

use super::engine::Engine;
use super::enrollment::person_details;
use super::in_flight::{InFlight, Outcome};
use super::items::{Item, Items};
use super::sample::{Acquired, Acquiring, NoTemplate, check_defaults, failure_reply, finding_reply, stated_change};
use super::status::log_own_fault;
use super::{call, convert};
use crate::biometrics::face::FaceSelection;
use crate::biometrics::ids::{GalleryId, IdentityId, TemplateId};
use crate::contract as proto;
use crate::error::{Entity, Error};
use crate::gallery::{Enrolled, EnrolledTemplate, Enrollment, IdentityChange, IfExists};
use crate::pipeline::DetectionSettings;
use crate::telemetry::Stage;

/// What names an item to the engine: its gallery, its identity and its key.
type Name = (GalleryId, IdentityId, TemplateId);

/// The items that all streams are working on.
pub(super) type ItemsInFlight = InFlight<Name, BulkEnrollResult>;

/// A stream of items to enrol.
pub(super) struct BulkEnroll {
    engine: Arc<Engine>,
    options: Arc<Options>,
    summary: BulkEnrollSummary,
}

/// What holds for all items.
struct Options {
    gallery: GalleryId,
    if_exists: IfExists,
    settings: DetectionSettings,
    selection: FaceSelection,
}

impl Items for BulkEnroll {
    type Request = proto::BulkEnrollRequest;
    type Reply = proto::BulkEnrollResponse;

    /// As many embeddings as may well share a flush: half a group of the gallery's writer.
    const ITEMS_MAX: usize = 64;

    async fn begin(engine: &Arc<Engine>, first: proto::BulkEnrollRequest) -> Result<Self, Error> {
        let Some(proto::bulk_enroll_request::Message::Options(options)) = first.message else {
            return Err(Error::bad_field("options", "the first message"));
        };
        let at = |error: Error| error.at("options");
        let options = Options {
            gallery: GalleryId::parse(&options.gallery_id).map_err(at)?,
            if_exists: match proto::IfExists::try_from(options.if_exists) {
                Ok(proto::IfExists::Unspecified | proto::IfExists::Add) => IfExists::Add,
                Ok(proto::IfExists::Refuse) => IfExists::Refuse,
                Err(_) => return Err(Error::bad_field("options.if_exists", "a value of IfExists")),
            },
            settings: convert::detection(options.detection).map_err(at)?,
            selection: convert::one_face_selection(options.face_selection).map_err(at)?,
        };
        engine.galleries.gallery(&options.gallery).await?;
        Ok(Self { engine: Arc::clone(engine), options: Arc::new(options), summary: BulkEnrollSummary::default() })
    }

    fn item(&self, request: proto::BulkEnrollRequest) -> Result<Item<Self::Reply>, Error> {
        let Some(proto::bulk_enroll_request::Message::Item(item)) = request.message else {
            return Err(Error::bad_field("item", "every message but the first"));
        };
        let (engine, options) = (Arc::clone(&self.engine), Arc::clone(&self.options));
        let has_photo = matches!(item.source, Some(Source::Photo(_)));
        let work = async move {
            let result = result(&engine, &options, item).await?;
            Ok(reply(proto::bulk_enroll_response::Message::Result(result)))
        };
        Ok(Item { has_photo, work: Box::pin(work) })
    }

    fn note(&mut self, reply: &proto::BulkEnrollResponse) {
        let Some(proto::bulk_enroll_response::Message::Result(result)) = &reply.message else { return };
        let summary = &mut self.summary;
        summary.item_count += 1;
        match result.outcome() {
            BulkEnrollOutcome::Enrolled => summary.enrolled_count += 1,
            BulkEnrollOutcome::AlreadyEnrolled => summary.already_enrolled_count += 1,
            BulkEnrollOutcome::Refused => summary.refused_count += 1,
            BulkEnrollOutcome::Failed | BulkEnrollOutcome::Unspecified => summary.failed_count += 1,
        }
        if let Some(failure) = &result.failure {
            summary.failure_to_acquire_count += u64::from(is_failure_to_acquire(&failure.reason));
            *summary.reason_counts.entry(failure.reason.clone()).or_default() += 1;
        }
    }

    fn last(self) -> BoxFuture<Option<proto::BulkEnrollResponse>, Error> {
        let summary = reply(proto::bulk_enroll_response::Message::Summary(self.summary));
        Box::pin(std::future::ready(Ok(Some(summary))))
    }
}

fn reply(message: proto::bulk_enroll_response::Message) -> proto::BulkEnrollResponse {
    proto::BulkEnrollResponse { message: Some(message) }
}

/// No face that is good enough was found: ISO/IEC 19795-1.
fn is_failure_to_acquire(reason: &str) -> bool {
    reason.starts_with("PHOTO_") || ["NO_FACE", "SEVERAL_FACES", "QUALITY_TOO_LOW"].contains(&reason)
}

/// A checked item.
struct Checked {
    identity: IdentityId,
    template_id: TemplateId,
    change: IdentityChange,
    source: Source,
}

fn check(item: proto::BulkEnrollItem) -> Result<Checked, Error> {
    let bad_key = |_| Error::bad_field("idempotency_key", "1 to 128 bytes without control characters");
    let template_id = TemplateId::parse(&item.idempotency_key).map_err(bad_key)?;
    let identity = match item.identity_id.as_str() {
        "" => item.idempotency_key.as_str(),
        stated => stated,
    };
    Ok(Checked {
        identity: IdentityId::parse(identity)?,
        template_id,
        change: stated_change(person_details(item.display_name, item.metadata)?),
        source: item.source.ok_or_else(|| Error::bad_field("source", "a photo or an embedding"))?,
    })
}

/// *Errors*: what is not the item's fault.
async fn result(engine: &Engine, options: &Options, item: proto::BulkEnrollItem) -> Result<BulkEnrollResult, Error> {
    let idempotency_key = item.idempotency_key.clone();
    let identity_id = if item.identity_id.is_empty() { idempotency_key.clone() } else { item.identity_id.clone() };
    let result = match check(item) {
        Err(error) => failed(&error, BulkEnrollOutcome::Refused),
        Ok(item) => {
            let name = (options.gallery.clone(), item.identity.clone(), item.template_id.clone());
            match engine.items_in_flight.once(name, outcome(engine, options, item)).await? {
                Outcome::Own(result) => result,
                Outcome::Others(first) => seen_by_the_second(first),
            }
        }
    };
    Ok(BulkEnrollResult { idempotency_key, identity_id, ..result })
}

/// What the first of two items with one key came to, as the second is told.
fn seen_by_the_second(first: BulkEnrollResult) -> BulkEnrollResult {
    match first.outcome() {
        BulkEnrollOutcome::Enrolled => already_enrolled(),
        _ => first,
    }
}

fn already_enrolled() -> BulkEnrollResult {
    BulkEnrollResult { outcome: BulkEnrollOutcome::AlreadyEnrolled.into(), ..Default::default() }
}

fn failed(error: &Error, outcome: BulkEnrollOutcome) -> BulkEnrollResult {
    BulkEnrollResult { outcome: outcome.into(), failure: Some(failure_reply(error)), ..Default::default() }
}

async fn outcome(engine: &Engine, options: &Options, item: Checked) -> Result<BulkEnrollResult, Error> {
    match enroll(engine, options, item).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(NoTemplate { error, choice })) => {
            Ok(BulkEnrollResult { face_choice: choice, ..failed(&error, BulkEnrollOutcome::Refused) })
        }
        Err(error @ (Error::Internal(_) | Error::DataLoss(_))) => {
            log_own_fault(&error);
            Ok(failed(&error, BulkEnrollOutcome::Failed))
        }
        Err(error) => Err(error),
    }
}

/// *Errors*: the inner one is the item's own fault; the outer one may be the server's with this item, or the stream's.
async fn enroll(
    engine: &Engine,
    options: &Options,
    item: Checked,
) -> Result<Result<BulkEnrollResult, NoTemplate>, Error> {
    let Checked { identity, template_id, change, source } = item;
    let (target, standing) = engine.galleries.gallery(&options.gallery).await?;
    let identities_max = call::with_principal(|principal| Ok(principal.identities_max()))?;
    match look_up(engine, &options.gallery, &identity, &template_id).await? {
        Known::Template => return Ok(Ok(already_enrolled())),
        Known::Identity if options.if_exists == IfExists::Refuse => return Ok(Err(identity_exists(None))),
        Known::Identity => {}
        Known::Nothing => {
            if let Some(limit) = identities_max.filter(|limit| standing.counts.identities >= *limit) {
                return Ok(Err(NoTemplate { error: Error::IdentitiesMax { limit }, choice: None }));
            }
        }
    }
    let check_defaults = check_defaults(engine, &target)?;
    let (settings, selection) = (options.settings.clone(), options.selection);
    let acquiring = Acquiring { engine, target, settings, selection };
    let acquired = match source {
        Source::Embedding(embedding) => acquiring.of_embedding(&embedding),
        Source::Photo(photo) => {
            // Without it every photo would come to nothing.
            engine.pack_of(&acquiring.target.pack_id)?;
            let mut place = engine.workers.wait_for_place(call::caller()).await?;
            acquiring.of_photo(&mut place, photo.data).await?
        }
    };
    let Acquired { template, face, chip, choice } = match acquired {
        Ok(acquired) => acquired,
        Err(no_template) => return Ok(Err(no_template)),
    };
    let created = SystemTime::now();
    let templates = vec![EnrolledTemplate { id: template_id.clone(), template, face, chip, created }];
    let enrollment = Enrollment {
        identity: identity.clone(),
        change,
        templates,
        if_exists: options.if_exists,
        check_defaults,
        may_refuse_all: false,
        identities_max,
    };
    match call::timed(Stage::Write, enroll_patiently(engine, &options.gallery, enrollment)).await {
        Ok(enrolled) => Ok(Ok(enrolled_result(&enrolled, &template_id, choice))),
        Err(error @ (Error::Refused(_) | Error::TooManyTemplates { .. } | Error::IdentitiesMax { .. })) => {
            Ok(Err(NoTemplate { error, choice }))
        }
        Err(Error::AlreadyExists(Entity::Identity)) => {
            // Enrolled while this was worked on: by this very item on a stream that broke off, or by another.
            match look_up(engine, &options.gallery, &identity, &template_id).await? {
                Known::Template => Ok(Ok(already_enrolled())),
                Known::Identity | Known::Nothing => Ok(Err(identity_exists(choice))),
            }
        }
        Err(error) => Err(error),
    }
}

fn identity_exists(choice: Option<proto::FaceChoice>) -> NoTemplate {
    NoTemplate { error: Error::AlreadyExists(Entity::Identity), choice }
}

fn enrolled_result(
    enrolled: &Enrolled,
    template_id: &TemplateId,
    face_choice: Option<proto::FaceChoice>,
) -> BulkEnrollResult {
    if !enrolled.added.contains(template_id) {
        return BulkEnrollResult { face_choice, ..already_enrolled() };
    }
    BulkEnrollResult {
        outcome: BulkEnrollOutcome::Enrolled.into(),
        created: enrolled.is_new,
        face_choice,
        warnings: enrolled.warnings.get(template_id).into_iter().flatten().map(finding_reply).collect(),
        ..Default::default()
    }
}

/// How much of an item the gallery has.
enum Known {
    Nothing,
    Identity,
    Template,
}

async fn look_up(
    engine: &Engine,
    gallery: &GalleryId,
    identity: &IdentityId,
    template: &TemplateId,
) -> Result<Known, Error> {
    let known = match engine.galleries.identity(gallery, identity).await {
        Ok(known) if known.templates.iter().any(|enrolled| enrolled.id == *template) => Known::Template,
        Ok(_) => Known::Identity,
        Err(Error::NotFound(Entity::Identity)) => Known::Nothing,
        Err(error) => return Err(error),
    };
    if matches!(known, Known::Template) {
        // It may have been written a moment ago, and not be durable or visible yet.
        engine.galleries.settle().await?;
    }
    Ok(known)
}

/// Enrols, waiting where the queue of writes is full: the caller is kept from sending more meanwhile.
///
/// *Errors*: those of [`crate::gallery::Galleries::enroll`]; [`Error::Overloaded`] only after the time of a call.
async fn enroll_patiently(engine: &Engine, gallery: &GalleryId, enrollment: Enrollment) -> Result<Enrolled, Error> {
    let started = Instant::now();
    loop {
        match engine.galleries.enroll(gallery.clone(), enrollment.clone()).await {
            Err(Error::Overloaded { retry_after }) if started.elapsed() < engine.call_time_max => {
                tokio::time::sleep(retry_after).await;
            }
            enrolled => return enrolled.map_err(Error::of_moved_gallery),
        }
    }
}
