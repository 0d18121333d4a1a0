//! One sample → its template, or what is wrong with it; what the calls that enrol share.

use super::convert;
use std::sync::Arc;

use super::engine::{Engine, Look};
use crate::biometrics::enrolment::{CheckDefaults, Finding};
use crate::biometrics::face::{Face, FaceSelection, NotChosen};
use crate::biometrics::quality::Shortfall;
use crate::biometrics::score::OperatingPoint;
use crate::biometrics::template::Template;
use crate::contract as proto;
use crate::error::Error;
use crate::gallery::{Gallery, IdentityChange, PersonDetails};
use crate::matching;
use crate::pipeline::DetectionSettings;
use crate::runtime::Place;
use crate::telemetry::{count_error, count_failure_to_acquire};

/// What every sample of a call is worked on with.
pub(super) struct Acquiring<'a> {
    pub engine: &'a Engine,
    pub target: Gallery,
    pub settings: DetectionSettings,
    pub selection: FaceSelection,
}

/// A sample's template, the face it is of, and how that was chosen.
pub(super) struct Acquired {
    pub template: Template,
    pub face: Option<Face>,
    /// A PNG, where the gallery keeps chips.
    pub chip: Option<Arc<[u8]>>,
    pub choice: Option<proto::FaceChoice>,
}

/// Why a sample has no template that the gallery takes. It is the sample's own fault.
pub(super) struct NoTemplate {
    pub error: Error,
    pub choice: Option<proto::FaceChoice>,
}

impl Acquiring<'_> {
    pub(super) fn of_embedding(&self, embedding: &proto::Embedding) -> Result<Acquired, NoTemplate> {
        let template = convert::embedding(embedding, self.engine).and_then(|template| {
            template.check_fits(&self.target.pack_id, self.target.dimension)?;
            Ok(template)
        });
        match template {
            Ok(template) => Ok(Acquired { template, face: None, chip: None, choice: None }),
            Err(error) => Err(NoTemplate { error, choice: None }),
        }
    }

    /// Makes the template of a photo's face and holds it against the gallery's quality gate.
    ///
    /// *Errors*: the outer one is the engine's.
    pub(super) async fn of_photo(
        &self,
        place: &mut Place,
        photo: Vec<u8>,
    ) -> Result<Result<Acquired, NoTemplate>, Error> {
        let look =
            Look { settings: self.settings.clone(), selection: self.selection, pack_id: self.target.pack_id.clone() };
        let mut acquired = match self.engine.acquire(place, photo, look).await {
            Ok(acquired) => acquired,
            Err(error @ Error::Photo(_)) => return Ok(Err(NoTemplate { error, choice: None })),
            Err(error) => return Err(error),
        };
        let choice = Some(convert::face_choice_reply(&acquired, self.selection));
        let (index, template) = match acquired.chosen.map(|chosen| chosen.into_iter().next()) {
            Ok(Some(chosen)) => chosen,
            Ok(None) => return Ok(Err(NoTemplate { error: NotChosen::NoFace.into(), choice })),
            Err(reason) => return Ok(Err(NoTemplate { error: reason.into(), choice })),
        };
        let face = acquired.detected.faces.get(index).cloned();
        let gate = &self.target.settings.quality_gate;
        match face.as_ref().map(|face| gate.shortfalls(face)).unwrap_or_default() {
            short if short.is_empty() => {
                let chip = acquired.chips.remove(&index).filter(|_| self.target.settings.keep_chips);
                let chip = match chip {
                    Some(chip) => Some(self.engine.off_the_workers(move || chip.to_png()).await?.into()),
                    None => None,
                };
                Ok(Ok(Acquired { template, face, chip, choice }))
            }
            short => {
                let error = Error::QualityTooLow(short);
                count_failure_to_acquire(error.reason());
                Ok(Err(NoTemplate { error, choice }))
            }
        }
    }
}

/// Where the gallery's checks draw the line, if it does not say: at the thresholds of its pack.
pub(super) fn check_defaults(engine: &Engine, gallery: &Gallery) -> Result<CheckDefaults, Error> {
    let pack = engine.pack_of(&gallery.pack_id).ok();
    let (of_search, of_pair) = (pack.and_then(|pack| pack.identification), pack.and_then(|pack| pack.verification));
    let default = OperatingPoint::Default;
    Ok(CheckDefaults {
        duplicate: matching::identification_threshold(default, None, of_search, matching::Searched::default())?
            .threshold,
        consistency: matching::verification_threshold(default, of_pair, None)?.threshold,
    })
}

/// What a request leaves empty is not stated, so that adding a template does not wipe a name.
pub(super) fn stated_change(details: PersonDetails) -> IdentityChange {
    IdentityChange {
        display_name: Some(details.display_name).filter(|name| !name.is_empty()),
        metadata: Some(details.metadata).filter(|metadata| !metadata.is_empty()),
    }
}

pub(super) fn failure_reply(error: &Error) -> proto::SampleFailure {
    count_error(error.reason());
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

pub(super) fn finding_reply(finding: &Finding) -> proto::EnrollmentFinding {
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
