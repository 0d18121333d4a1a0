//! The outermost layer: every call of the engine's own services has an id and a span, and is counted when it ends.

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use prost::bytes::Bytes;
use tokio::sync::oneshot;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tracing::{Instrument, Span};

use super::access::Trail;
use super::codec::descriptors;
use super::connections::Peer;
use super::layers::is_own;
use super::status::status;
use crate::audit::Entry;
use crate::error::Error;
use crate::telemetry::{continue_trace, count_call};

/// Carries the id of a call: of the request, where its caller has one, and of the reply.
const REQUEST_ID: &str = "x-request-id";

/// The longest id that is taken over, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

const GRPC_STATUS: &str = "grpc-status";

#[derive(Clone, Copy)]
pub(super) struct ObserveLayer;

impl<S> tower_layer::Layer<S> for ObserveLayer {
    type Service = ObserveService<S>;

    fn layer(&self, inner: S) -> ObserveService<S> {
        ObserveService { inner }
    }
}

#[derive(Clone)]
pub(super) struct ObserveService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for ObserveService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if !is_own(&request) {
            return Box::pin(self.inner.call(request));
        }
        let method = known_method(request.uri().path());
        let id = request_id(request.headers());
        let span = tracing::info_span!(
            "call",
            otel.name = method,
            otel.kind = "server",
            rpc.system = "grpc",
            rpc.grpc.status_code = tracing::field::Empty,
            request_id = id.to_str().unwrap_or_default(),
        );
        continue_trace(&span, request.headers());
        let trail = Arc::new(Trail::default());
        let mut watch = Watch {
            method,
            began: Instant::now(),
            span: span.clone(),
            code: None,
            request_id: id.clone(),
            peer: request.extensions().get::<Peer>().map_or_else(String::new, |peer| peer.address.to_string()),
            trail: Arc::clone(&trail),
            is_over: false,
        };
        request.extensions_mut().insert(trail);
        // The services below may be made by it already.
        let answer = span.in_scope(|| self.inner.call(request));
        Box::pin(async move {
            let answer = answer.instrument(span).await;
            answer.map(|mut reply| {
                reply.headers_mut().insert(REQUEST_ID, id);
                watch.look_for_status(reply.headers());
                reply.map(|body| Body::new(WatchedBody { inner: body, watch: Some(watch), held: None }))
            })
        })
    }
}

/// A method of the contract, or a word for all others: callers can ask for any.
fn known_method(path: &str) -> &'static str {
    static METHODS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let methods = descriptors().services().flat_map(|service| service.methods().collect::<Vec<_>>());
        methods.map(|method| format!("{}/{}", method.parent_service().full_name(), method.name())).collect()
    });
    METHODS.get(path.trim_start_matches('/')).map_or("unknown", String::as_str)
}

/// The caller's id, where it is one that may stand in a log, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_fit = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(fits)
    };
    let stated = headers.get(REQUEST_ID).filter(is_fit).cloned();
    stated.unwrap_or_else(|| {
        let made = HeaderValue::from_str(&uuid::Uuid::now_v7().to_string());
        made.unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}

/// Counts a call when it is over, however that comes about.
struct Watch {
    method: &'static str,
    began: Instant,
    span: Span,
    code: Option<Code>,
    request_id: HeaderValue,
    peer: String,
    trail: Arc<Trail>,
    is_over: bool,
}

impl Watch {
    /// The status is among the headers of a reply without a message, and else among its trailers.
    fn look_for_status(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(GRPC_STATUS) {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Watch {
    /// Counts the call and has its entry written, where it needs one; returns what ends when that is done.
    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        // Without a status the caller has gone before the end.
        let code = self.code.unwrap_or(Code::Cancelled);
        let time = self.began.elapsed();
        count_call(self.method, name(code), time);
        self.span.record("rpc.grpc.status_code", code as i32);
        tracing::debug!(parent: &self.span, code = name(code), time_ms = time.as_secs_f64() * 1e3, "call ended");
        let left = self.trail.take()?;
        Some(left.place.fill(Entry {
            time: SystemTime::now(),
            who: left.who,
            peer: std::mem::take(&mut self.peer),
            call: self.method.to_owned(),
            galleries: left.galleries,
            code: name(code).to_owned(),
            request_id: self.request_id.to_str().unwrap_or_default().to_owned(),
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // However the call ended, and whoever still waits for what is noted of it.
        drop(self.end());
    }
}

struct WatchedBody {
    inner: Body,
    /// Until the end has been seen.
    watch: Option<Watch>,
    /// The end of a reply that says that all went well, until that is in the audit log.
    held: Option<(Frame<Bytes>, oneshot::Receiver<()>)>,
}

const NOT_NOTED: Error = Error::Unavailable("it was done, but the audit log could not be written");

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some((_, written)) = &mut self.held {
            let written = ready!(Pin::new(written).poll(context));
            let end = self.held.take().filter(|_| written.is_ok()).map(|(frame, _)| frame);
            return Poll::Ready(Some(end.ok_or_else(|| status(NOT_NOTED))));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match frame {
            Some(Ok(frame)) => {
                if let (Some(trailers), Some(watch)) = (frame.trailers_ref(), &mut self.watch) {
                    watch.look_for_status(trailers);
                    if let (Some(Code::Ok), Some(written)) = (watch.code, watch.end()) {
                        self.held = Some((frame, written));
                        return self.poll_frame(context);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(watch) = &mut self.watch {
                    watch.code = Some(Code::Internal);
                }
                Poll::Ready(Some(Err(error)))
            }
            None => {
                drop(self.watch.take());
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_is_one_of_the_contract_or_a_word_of_ours() {
        assert_eq!(known_method("/facematch.v1.MatchService/Identify"), "facematch.v1.MatchService/Identify");
        assert_eq!(known_method("/facematch.v1.MatchService/Ann_Smith"), "unknown");
    }

    #[test]
    fn id_is_the_callers_where_it_is_fit_for_a_log() {
        let asked = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).expect("a value"));
            request_id(&headers).to_str().expect("text").to_owned()
        };
        assert_eq!(asked("order-7:a.b_C"), "order-7:a.b_C");
        for unfit in ["", "Ann Smith", "<script>", &"x".repeat(65)] {
            assert_eq!(asked(unfit).len(), 36, "{unfit:?}");
        }
        assert_eq!(request_id(&HeaderMap::new()).len(), 36);
    }
}
