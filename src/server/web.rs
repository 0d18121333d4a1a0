//! gRPC-Web: which pages of browsers may call, and what of a reply they may see (Fetch standard, CORS).

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may keep what it was told of the origins.
const KEPT_MAX: Duration = Duration::from_secs(3_600);

/// What calls may carry.
const ASKED: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-user-agent"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("facematch-timing"),
];

/// What pages may see of replies.
const TOLD: [HeaderName; 6] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("grpc-retry-pushback-ms"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("server-timing"),
];

/// Makes the layer that answers browsers who ask whether a page may call.
pub(super) fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods([Method::POST]);
    layer.allow_headers(ASKED).expose_headers(TOLD).max_age(KEPT_MAX)
}
