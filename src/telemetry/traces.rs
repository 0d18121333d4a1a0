//! Traces: a span a call and one a stage, sent over OTLP, as parts of the callers' own traces (adapter: opentelemetry).

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// Name of this service in traces.
const SERVICE: &str = "facematch";

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot send traces")]
pub struct TracesError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Where spans go. They are sent in batches, beside the work; where the receiver is slow or gone they are dropped.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Makes the exporter. To be called within a tokio runtime, which sends.
    ///
    /// *Errors*: the address is unusable. That nobody listens there is no error.
    pub fn open(endpoint: &str) -> Result<Self, TracesError> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter.map_err(|error| TracesError(error.into()))?;
        let resource = Resource::builder().with_service_name(SERVICE).build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// Sends what is left. Blocks.
    pub fn close(self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "not all traces were sent");
        }
    }

    /// The spans of the engine alone: those of libraries may carry what must not leave.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let spans = tracing_opentelemetry::layer().with_tracer(self.0.tracer(SERVICE)).with_location(false);
        spans.with_filter(Targets::new().with_target(SERVICE, Level::DEBUG))
    }
}

/// Makes a span a part of the trace that a request's `traceparent` names (W3C, Trace Context).
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") && !span.is_disabled() {
        let context = TraceContextPropagator::new().extract(&Headers(headers));
        // Without a layer for traces there is nothing to continue.
        let _ = span.set_parent(context);
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}
