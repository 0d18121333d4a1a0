//! Errors → gRPC status. The one place where that happens.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::biometrics::enrolment::Finding;
use crate::biometrics::quality::Shortfall;
use crate::error::Error;
use crate::telemetry::count_error;

/// `google.rpc.ErrorInfo.domain` of every error.
const DOMAIN: &str = "facematch";

/// When to try again what is not available.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(1);

/// Turns an error into a status with a stable reason, the fields at fault and a delay where there is one. The cause of
/// what is our own fault goes to the log, and nowhere else.
pub(super) fn status(error: Error) -> Status {
    let code = code(&error);
    log_own_fault(&error);
    count_error(error.reason());
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason(), DOMAIN, metadata(&error));
    if let Some((field, description)) = violation(&error) {
        details.add_bad_request_violation(field, description);
    }
    if let Some(delay) = retry_after(&error) {
        details.set_retry_info(Some(delay));
    }
    let mut status = Status::with_error_details(code, error.to_string(), details);
    if let Some(delay) = retry_after(&error) {
        // What gRPC's own clients wait where their service configuration has a retry policy (gRFC A6).
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        status.metadata_mut().insert("grpc-retry-pushback-ms", delay_ms.into());
    }
    status
}

/// Tells the log the cause of what is our own fault.
pub(super) fn log_own_fault(error: &Error) {
    if let (Code::Internal | Code::DataLoss, source) = (code(error), std::error::Error::source(error)) {
        let cause = source.map_or_else(|| error.to_string(), |source| format!("{source:?}"));
        tracing::error!(reason = error.reason(), cause, "a call failed");
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::AtField { source, .. } => code(source),
        Error::BadField { .. }
        | Error::BadMessage(_)
        | Error::Photo(_)
        | Error::Face(_)
        | Error::GalleryFile(_)
        | Error::NewerGalleryFile { .. }
        | Error::QualityTooLow(_) => Code::InvalidArgument,
        Error::NotFound(_) => Code::NotFound,
        Error::AlreadyExists(_) | Error::Refused(Finding::DuplicateIdentity { .. }) => Code::AlreadyExists,
        Error::PackMismatch { .. }
        | Error::NoCalibrationCurve { .. }
        | Error::RateOutOfReach { .. }
        | Error::ChipsMissing { .. }
        | Error::FoundFewer { .. }
        | Error::NothingCompared
        | Error::GalleryNotEmpty { .. }
        | Error::LastTemplate
        | Error::UnderWay(_)
        | Error::NoSecondStore
        | Error::Refused(Finding::UnlikeIdentity { .. })
        | Error::TooManyTemplates { .. } => Code::FailedPrecondition,
        Error::Overloaded { .. } | Error::IdentitiesMax { .. } => Code::ResourceExhausted,
        Error::Unauthenticated => Code::Unauthenticated,
        Error::PermissionDenied { .. } => Code::PermissionDenied,
        Error::DeadlineExceeded => Code::DeadlineExceeded,
        Error::Unavailable(_) => Code::Unavailable,
        Error::DataLoss(_) => Code::DataLoss,
        Error::Internal(_) => Code::Internal,
    }
}

fn metadata(error: &Error) -> HashMap<String, String> {
    match error {
        Error::PackMismatch { expected, found } => {
            [("expected".into(), expected.to_string()), ("found".into(), found.to_string())].into()
        }
        Error::NoCalibrationCurve { comparisons_needed, comparisons_found } => {
            let counts = [("comparisons_needed", comparisons_needed), ("comparisons_found", comparisons_found)];
            counts.map(|(name, count)| (name.into(), count.to_string())).into()
        }
        Error::ChipsMissing { first, .. } => [("first_identity_id".into(), first.as_str().to_owned())].into(),
        // Each measure with its value, each limit with its own.
        error => {
            let found = error.finding().into_iter().flat_map(finding_entries);
            error.shortfalls().iter().flat_map(shortfall_entries).chain(found).collect()
        }
    }
}

fn finding_entries(finding: &Finding) -> Vec<(String, String)> {
    let (score, threshold) = finding.measured();
    let identity = finding.duplicate_of().map(|id| ("identity_id".into(), id.as_str().into()));
    let measured = [("score", score.cosine()), ("cosine", threshold.cosine())];
    measured.map(|(name, cosine)| (name.into(), cosine.to_string())).into_iter().chain(identity).collect()
}

fn shortfall_entries(short: &Shortfall) -> [(String, String); 2] {
    [(short.measure.into(), short.value.to_string()), (short.limit_name.into(), short.limit.to_string())]
}

fn violation(error: &Error) -> Option<(String, String)> {
    match error {
        Error::BadField { field, expected } => Some((field.clone(), format!("must be {expected}"))),
        Error::AtField { field, source } => Some((field.clone(), source.to_string())),
        _ => None,
    }
}

fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Overloaded { retry_after } => Some(*retry_after),
        // What stopped is started again, a database that went comes back, and there may be other servers.
        Error::Unavailable(_) => Some(UNAVAILABLE_FOR),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::face::NotChosen;
    use crate::biometrics::ids::IdentityId;
    use crate::biometrics::score::{Score, Threshold};
    use crate::decode::PhotoError;
    use crate::error::Entity;

    #[test]
    fn every_class_has_its_code_and_a_reason() {
        let cases = [
            (Error::bad_field("a", "b"), Code::InvalidArgument, "BAD_FIELD"),
            (PhotoError::Truncated.into(), Code::InvalidArgument, "PHOTO_TRUNCATED"),
            (Error::from(NotChosen::NoFace).at("a.photo"), Code::InvalidArgument, "NO_FACE"),
            (Error::QualityTooLow(Vec::new()).at("a"), Code::InvalidArgument, "QUALITY_TOO_LOW"),
            (Error::from(duplicate()).at("a"), Code::AlreadyExists, "DUPLICATE_IDENTITY"),
            (Error::from(unlike()), Code::FailedPrecondition, "UNLIKE_IDENTITY"),
            (Error::NotFound(Entity::Gallery), Code::NotFound, "GALLERY_NOT_FOUND"),
            (Error::AlreadyExists(Entity::Identity), Code::AlreadyExists, "IDENTITY_EXISTS"),
            (Error::LastTemplate, Code::FailedPrecondition, "LAST_TEMPLATE"),
            (Error::Overloaded { retry_after: Duration::from_millis(5) }, Code::ResourceExhausted, "OVERLOADED"),
            (Error::IdentitiesMax { limit: 5 }, Code::ResourceExhausted, "IDENTITIES_MAX"),
            (Error::Unauthenticated, Code::Unauthenticated, "UNAUTHENTICATED"),
            (Error::PermissionDenied { scope: "read", on: "x" }, Code::PermissionDenied, "PERMISSION_DENIED"),
            (Error::DeadlineExceeded, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            (Error::Unavailable("x"), Code::Unavailable, "UNAVAILABLE"),
            (Error::DataLoss("x"), Code::DataLoss, "RECORD_DAMAGED"),
            (Error::internal("secret cause"), Code::Internal, "INTERNAL"),
        ];
        for (error, code, reason) in cases {
            let status = status(error);
            assert_eq!(status.code(), code);
            assert!(!status.message().contains("secret"));
            assert_eq!(status.get_details_error_info().map(|info| info.reason), Some(reason.to_owned()));
        }
    }

    fn duplicate() -> Finding {
        let identity = IdentityId::parse("ann").expect("an id");
        Finding::DuplicateIdentity {
            identity,
            score: Score::from_cosine(0.75),
            threshold: Threshold::IDENTIFICATION_DEFAULT,
        }
    }

    fn unlike() -> Finding {
        Finding::UnlikeIdentity { score: Score::from_cosine(0.125), threshold: Threshold::VERIFICATION_DEFAULT }
    }

    #[test]
    fn findings_carry_their_facts() {
        let facts = |finding: Finding| {
            let info = status(Error::from(finding).at("samples[0]")).get_details_error_info().expect("an ErrorInfo");
            let mut facts: Vec<_> = info.metadata.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            facts.sort();
            facts.join(" ")
        };
        assert_eq!(facts(duplicate()), "cosine=0.5 identity_id=ann score=0.75");
        assert_eq!(facts(unlike()), "cosine=0.2 score=0.125");
    }

    #[test]
    fn bad_field_overload_and_photo_carry_their_details() {
        let bad = status(Error::bad_field("values", "finite").at("a.embedding"));
        let violations = bad.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
        assert_eq!(violations.first().map(|violation| violation.field.as_str()), Some("a.embedding.values"));
        let photo = status(Error::from(PhotoError::Empty).at("photo"));
        let violations = photo.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
        assert_eq!(violations.first().map(|violation| violation.field.as_str()), Some("photo"));
        let full = status(Error::Overloaded { retry_after: Duration::from_millis(70) });
        let delay = full.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, Some(Duration::from_millis(70)));
        let pushback = full.metadata().get("grpc-retry-pushback-ms").and_then(|delay| delay.to_str().ok());
        assert_eq!(pushback, Some("70"));
    }
}
