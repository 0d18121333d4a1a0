//! The engine's errors by class: the caller's fault, not now, ours. What a client is told is `Display` and `reason`;
//! what the log is told is the source. Nothing here knows gRPC.

use std::time::Duration;

use crate::biometrics::enrolment::Finding;
use crate::biometrics::face::NotChosen;
use crate::biometrics::ids::{IdentityId, PackId};
use crate::biometrics::quality::Shortfall;
use crate::decode::PhotoError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of a request is not what it must be.
    #[error("{field} must be {expected}")]
    BadField {
        /// Path of the field.
        field: String,
        /// What it must be.
        expected: String,
    },
    /// A message that cannot be a request.
    #[error("{0}")]
    BadMessage(&'static str),
    /// What is wrong with the photo in a field of a request.
    #[error("{field}: {source}")]
    AtField {
        /// Path of the field.
        field: String,
        /// [`Error::Photo`], [`Error::Face`], [`Error::QualityTooLow`] or [`Error::Refused`].
        source: Box<Error>,
    },
    /// A photo could not be decoded within the limits.
    #[error(transparent)]
    Photo(#[from] PhotoError),
    /// No face of a photo could be chosen.
    #[error(transparent)]
    Face(#[from] NotChosen),
    /// A photo falls short of what its gallery asks for.
    #[error("{}", .0.iter().map(Shortfall::to_string).collect::<Vec<_>>().join("; "))]
    QualityTooLow(Vec<Shortfall>),
    /// A template is refused by a policy of its gallery.
    #[error(transparent)]
    Refused(#[from] Finding),
    /// A thing that a request names does not exist.
    #[error("{0} not found")]
    NotFound(Entity),
    /// A thing that a request would make exists.
    #[error("{0} already exists")]
    AlreadyExists(Entity),
    /// A template was made by another pack than the one in use.
    #[error("template of pack {found} cannot be compared with pack {expected}")]
    PackMismatch {
        /// The pack in use.
        expected: PackId,
        /// The template's.
        found: PackId,
    },
    /// An error rate was asked for that no calibration curve supports.
    #[error(
        "no calibration curve supports this error rate: it takes at least {comparisons_needed} non-mated comparisons, \
         there are {comparisons_found}; state a cosine instead"
    )]
    NoCalibrationCurve {
        /// By the rule of three.
        comparisons_needed: u64,
        /// What there is: 0 without a curve.
        comparisons_found: u64,
    },
    /// A gallery cannot move to another pack: some templates have no chip to make new ones of.
    #[error(
        "{templates} templates of {identities} identities have no chip to make new ones of: with keep_chips, enrol photos of these \
         people again and delete the templates without a chip"
    )]
    ChipsMissing {
        /// How many.
        templates: u64,
        /// Of how many identities.
        identities: u64,
        /// The first of those, by id.
        first: IdentityId,
    },
    /// By the new pack fewer templates find their identity: the gallery stays as it is.
    #[error(
        "of {probes} templates {found_after} find their identity by the new pack, {found_before} by the gallery's: nothing was \
         switched; a higher loss_max allows it"
    )]
    FoundFewer {
        /// Templates that were asked about.
        probes: u64,
        /// By the pack of before.
        found_before: u64,
        /// By the new one.
        found_after: u64,
    },
    /// Nobody of a gallery that would move to another pack has two templates to compare.
    #[error(
        "no identity has two templates, so nothing tells whether the new pack finds them; a loss_max of 1 goes on all the same"
    )]
    NothingCompared,
    /// Too many non-mated scores of the calibration curve are 1: no threshold keeps to the rate.
    #[error("{identical} non-mated scores of the calibration curve are 1: no threshold keeps to this error rate")]
    RateOutOfReach {
        /// How many.
        identical: u64,
    },
    /// A gallery that holds identities would be deleted.
    #[error("gallery holds {identities} identities; set force to delete it with them")]
    GalleryNotEmpty {
        /// How many.
        identities: u64,
    },
    /// A gallery file cannot be imported.
    #[error("the gallery file cannot be imported: {0}")]
    GalleryFile(&'static str),
    /// A gallery file of a version that this one does not know.
    #[error(
        "the gallery file is of version {found}, and this server knows none above {known}: a newer facematch wrote it; import it \
         into that or a later one"
    )]
    NewerGalleryFile {
        /// The last that is known.
        known: u32,
        /// The file's.
        found: u32,
    },
    /// A gallery would move, and the server has one store.
    #[error("this server has one store: state the other as second_store in its settings")]
    NoSecondStore,
    /// Another import into the same gallery, or another compaction, is under way.
    #[error("{0} is under way")]
    UnderWay(&'static str),
    /// The last template of an identity would be deleted.
    #[error("this is the identity's last template; delete the identity instead")]
    LastTemplate,
    /// An identity would have more templates than one may have.
    #[error("identity would have {found} templates; at most {limit} are kept")]
    TooManyTemplates {
        /// How many there would be.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// All places for work are taken.
    #[error("all places for work are taken; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The caller shows no key or certificate that is in force.
    #[error(
        "a key that is in force is needed, as `authorization: Bearer KEY`, or a client certificate that stands for one"
    )]
    Unauthenticated,
    /// The caller may not do this; whether what it names exists is not told.
    #[error("not allowed: it takes the scope {scope} on {on}")]
    PermissionDenied {
        /// Which scope.
        scope: &'static str,
        /// On what, in words; names no gallery.
        on: &'static str,
    },
    /// The gallery holds as many identities as the caller's key may fill it with.
    #[error("this key enrols new identities only while the gallery holds fewer than {limit}")]
    IdentitiesMax {
        /// The key's limit.
        limit: u64,
    },
    /// The caller's time is up.
    #[error("the deadline passed; a write that was under way may still take effect")]
    DeadlineExceeded,
    /// The server is starting or draining, or a part of it has stopped.
    #[error("not available: {0}")]
    Unavailable(&'static str),
    /// A stored record is damaged.
    #[error("a stored record is damaged: {0}")]
    DataLoss(&'static str),
    /// A fault of ours. The client is told nothing but that.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The kinds of things a request can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// A gallery.
    Gallery,
    /// An identity.
    Identity,
    /// A template.
    Template,
    /// An import that broke off.
    Import,
    /// A calibration curve.
    Curve,
    /// A key.
    Key,
    /// What a move of a gallery left in the other store.
    Copy,
}

impl std::fmt::Display for Entity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Entity::Gallery => "gallery",
            Entity::Identity => "identity",
            Entity::Template => "template",
            Entity::Import => "import",
            Entity::Curve => "calibration curve",
            Entity::Key => "key",
            Entity::Copy => "copy of the gallery in the other store",
        })
    }
}

impl Error {
    /// Says of a template that was made for a gallery, and no longer fits it, that the gallery moved to another pack meanwhile.
    pub fn of_moved_gallery(self) -> Self {
        match self {
            Error::PackMismatch { .. } => {
                Error::Unavailable("the gallery moved to another pack meanwhile; send it again")
            }
            error => error,
        }
    }

    /// Makes a [`Error::BadField`].
    pub fn bad_field(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Error::BadField { field: field.into(), expected: expected.into() }
    }

    /// Says in which part of a request the fault is: prefixes the path of a bad field, and names the field of a photo.
    pub fn at(self, part: &str) -> Self {
        match self {
            Error::BadField { field, expected } => Error::BadField { field: format!("{part}.{field}"), expected },
            Error::AtField { field, source } => Error::AtField { field: format!("{part}.{field}"), source },
            error @ (Error::Photo(_) | Error::Face(_) | Error::QualityTooLow(_) | Error::Refused(_)) => {
                Error::AtField { field: part.to_owned(), source: Box::new(error) }
            }
            error => error,
        }
    }

    /// Makes an [`Error::Internal`].
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Internal(cause.into())
    }

    /// Returns what a photo falls short of; nothing of other errors.
    pub fn shortfalls(&self) -> &[Shortfall] {
        match self {
            Error::QualityTooLow(shortfalls) => shortfalls,
            Error::AtField { source, .. } => source.shortfalls(),
            _ => &[],
        }
    }

    /// Returns what a policy of a gallery found; nothing of other errors.
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Error::Refused(finding) => Some(finding),
            Error::AtField { source, .. } => source.finding(),
            _ => None,
        }
    }

    /// Returns the stable reason that clients may branch on. Documented in the README; never renamed.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::BadField { .. } => "BAD_FIELD",
            Error::BadMessage(_) => "BAD_MESSAGE",
            Error::AtField { source, .. } => source.reason(),
            Error::Photo(error) => error.reason(),
            Error::Face(reason) => reason.reason(),
            Error::QualityTooLow(_) => "QUALITY_TOO_LOW",
            Error::Refused(finding) => finding.reason(),
            Error::NotFound(Entity::Gallery) => "GALLERY_NOT_FOUND",
            Error::NotFound(Entity::Identity) => "IDENTITY_NOT_FOUND",
            Error::NotFound(Entity::Template) => "TEMPLATE_NOT_FOUND",
            Error::NotFound(Entity::Import) => "IMPORT_NOT_FOUND",
            Error::NotFound(Entity::Curve) => "CURVE_NOT_FOUND",
            Error::NotFound(Entity::Key) => "KEY_NOT_FOUND",
            Error::NotFound(Entity::Copy) => "COPY_NOT_FOUND",
            Error::AlreadyExists(Entity::Gallery) => "GALLERY_EXISTS",
            Error::AlreadyExists(Entity::Identity) => "IDENTITY_EXISTS",
            Error::AlreadyExists(Entity::Template) => "TEMPLATE_EXISTS",
            Error::AlreadyExists(Entity::Import) => "IMPORT_EXISTS",
            Error::AlreadyExists(Entity::Curve) => "CURVE_EXISTS",
            Error::AlreadyExists(Entity::Key) => "KEY_EXISTS",
            Error::AlreadyExists(Entity::Copy) => "COPY_EXISTS",
            Error::PackMismatch { .. } => "PACK_MISMATCH",
            Error::NoCalibrationCurve { .. } => "NO_CALIBRATION_CURVE",
            Error::RateOutOfReach { .. } => "RATE_OUT_OF_REACH",
            Error::ChipsMissing { .. } => "CHIPS_MISSING",
            Error::FoundFewer { .. } => "FOUND_FEWER",
            Error::NothingCompared => "NOTHING_COMPARED",
            Error::GalleryNotEmpty { .. } => "GALLERY_NOT_EMPTY",
            Error::GalleryFile(_) => "GALLERY_FILE_DAMAGED",
            Error::NewerGalleryFile { .. } => "GALLERY_FILE_NEWER",
            Error::NoSecondStore => "NO_SECOND_STORE",
            Error::UnderWay(_) => "UNDER_WAY",
            Error::LastTemplate => "LAST_TEMPLATE",
            Error::TooManyTemplates { .. } => "TOO_MANY_TEMPLATES",
            Error::Overloaded { .. } => "OVERLOADED",
            Error::Unauthenticated => "UNAUTHENTICATED",
            Error::PermissionDenied { .. } => "PERMISSION_DENIED",
            Error::IdentitiesMax { .. } => "IDENTITIES_MAX",
            Error::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Error::Unavailable(_) => "UNAVAILABLE",
            Error::DataLoss(_) => "RECORD_DAMAGED",
            Error::Internal(_) => "INTERNAL",
        }
    }
}
