//! The layers every call of the engine's own services passes, before its message is read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};

use super::access::take_access;
use super::call::{self, Call};
use super::connections::Peer;
use super::status::status;
use crate::error::Error;
use crate::runtime::{Admission, Caller};

/// Path prefix of the engine's services: health and reflection answer however busy the engine is.
const OWN_SERVICES: &str = "/facematch.";

/// Asks, with any value, for how long the stages of the call took.
const TIMING_WANTED: &str = "facematch-timing";

/// Carries that, in the reply of a call that is no stream (W3C, Server Timing).
const TIMING: &str = "server-timing";

/// Tells whether a request is for one of the engine's own services.
pub(super) fn is_own<B>(request: &Request<B>) -> bool {
    request.uri().path().starts_with(OWN_SERVICES)
}

/// Calls that last as long as their streams do. Each message of the caller must come within the time of a call; each of ours
/// must be taken within it (`transfer.rs`, `items.rs`). A caller's own deadline holds for the whole.
const STREAMS: [(&str, Counted); 8] = [
    ("/facematch.v1.GalleryService/ExportGallery", Counted::Piece),
    ("/facematch.v1.GalleryService/ImportGallery", Counted::Piece),
    ("/facematch.v1.GalleryService/CompactGalleries", Counted::Piece),
    ("/facematch.v1.GalleryService/MigrateGallery", Counted::Piece),
    ("/facematch.v1.GalleryService/MoveGallery", Counted::Piece),
    ("/facematch.v1.EnrollmentService/BulkEnroll", Counted::UntilHandedOver),
    ("/facematch.v1.MatchService/IdentifyStream", Counted::UntilHandedOver),
    ("/facematch.v1.CalibrationService/Calibrate", Counted::UntilHandedOver),
];

/// Which bytes of a stream count against the admission's limit.
#[derive(Clone, Copy, PartialEq)]
enum Counted {
    /// Those of the piece at hand: what was read before is written to disk.
    Piece,
    /// All, until what works on an item takes them over: an item is kept in memory.
    UntilHandedOver,
}

/// Admits a call, counts its bytes as they arrive, and ends it when its time is up.
#[derive(Clone)]
pub(super) struct CallLayer {
    pub admission: Arc<Admission>,
    /// The time of a call that states none, and the most that one may state.
    pub call_time_max: Duration,
    /// The time of a message of a call that is no stream.
    pub message_time_max: Duration,
}

impl<S> tower_layer::Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

impl<S> Service<Request<Body>> for CallService<S>
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
        let caller = Caller(request.extensions().get::<Peer>().map(|peer| peer.address));
        // The layer above has let it in.
        let access = take_access(&mut request).ok_or_else(|| Error::internal("a call without access"));
        let admitted = access.and_then(|access| Ok(Call::new(self.layer.admission.admit()?, caller, access)));
        let call = match admitted {
            Ok(call) => call,
            Err(error) => return Box::pin(std::future::ready(Ok(status(error).into_http()))),
        };
        let (stated, time_max) = (stated_time(&request), self.layer.call_time_max);
        let path = request.uri().path();
        let stream = STREAMS.iter().find(|(of_stream, _)| *of_stream == path).map(|(_, counted)| *counted);
        let end = stated.filter(|_| stream.is_some()).map(|time| Box::pin(tokio::time::sleep(time)));
        let idle = stream.map(|counted| Idle { time_max, wait: None, end, messages: Messages::default(), counted });
        let late = stream.is_none().then(|| Box::pin(tokio::time::sleep(self.layer.message_time_max)));
        let wants_timing = request.headers().contains_key(TIMING_WANTED);
        let counted = Arc::clone(&call);
        let request =
            request.map(|body| Body::new(CountedBody { inner: body, call: counted, idle, late, pause: None }));
        let answer = call::within(Some(Arc::clone(&call)), self.inner.call(request));
        if stream.is_some() {
            // What does the work holds the call.
            return Box::pin(async move {
                match tokio::time::timeout(stated.unwrap_or(Duration::MAX), answer).await {
                    Ok(answer) => answer,
                    Err(_) => Ok(status(Error::DeadlineExceeded).into_http()),
                }
            });
        }
        let time = stated.map_or(time_max, |time| time.min(time_max));
        Box::pin(async move {
            let answer = tokio::time::timeout(time, answer).await;
            let mut reply = match answer {
                Ok(Ok(reply)) => reply,
                Err(_) => status(Error::DeadlineExceeded).into_http(),
            };
            if wants_timing && let Ok(timing) = HeaderValue::from_str(&call.times().server_timing()) {
                reply.headers_mut().insert(TIMING, timing);
            }
            // Held until the answer is there, however the call ends.
            drop(call);
            Ok(reply)
        })
    }
}

/// Reads `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
fn stated_time<B>(request: &Request<B>) -> Option<Duration> {
    let text = request.headers().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// A request body whose bytes are counted against the admission's limit.
struct CountedBody {
    inner: Body,
    call: Arc<Call>,
    idle: Option<Idle>,
    /// The end of the time in which the message of a call that is no stream must have come: whoever sends slowly holds a place
    /// for no longer.
    late: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Until the caller's key has paid for what came.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// How long a stream may wait for its next message.
struct Idle {
    time_max: Duration,
    /// The end of the wait that is under way.
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
    /// The end of the whole, where the caller stated one.
    end: Option<Pin<Box<tokio::time::Sleep>>>,
    messages: Messages,
    counted: Counted,
}

impl Idle {
    fn is_past_its_end(&mut self, context: &mut Context<'_>) -> bool {
        self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready())
    }

    /// Asked only where there is nothing to read: while the server does not read, nobody keeps it waiting.
    fn is_too_long(&mut self, context: &mut Context<'_>) -> bool {
        let time_max = self.time_max;
        let wait = self.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep(time_max)));
        wait.as_mut().poll(context).is_ready()
    }
}

/// Follows the messages of a body, each a byte, four of its length, and so many more (gRPC over HTTP/2, "Requests"): one that
/// drips in a byte at a time is not there sooner for each of them.
#[derive(Default)]
struct Messages {
    prefix: Vec<u8>,
    left: usize,
}

impl Messages {
    const PREFIX_BYTES: usize = 5;

    /// Takes what has come, and tells whether a message ends in it.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.left == 0 {
                let (part, rest) = bytes.split_at(bytes.len().min(Self::PREFIX_BYTES - self.prefix.len()));
                self.prefix.extend_from_slice(part);
                bytes = rest;
                if let [_, length @ ..] = self.prefix.as_slice()
                    && let Ok(length) = <[u8; 4]>::try_from(length)
                {
                    self.left = u32::from_be_bytes(length) as usize;
                    self.prefix.clear();
                    ended |= self.left == 0;
                }
            } else {
                let taken = bytes.len().min(self.left);
                bytes = bytes.get(taken..).unwrap_or_default();
                self.left -= taken;
                ended |= self.left == 0;
            }
        }
        ended
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if polled.is_pending() && self.late.as_mut().is_some_and(|late| late.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Some(Err(status(Error::DeadlineExceeded))));
        }
        let mut message_ended = false;
        if let Some(idle) = &mut self.idle {
            let is_over = match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    if frame.data_ref().is_some_and(|data| idle.messages.take(data)) {
                        idle.wait = None;
                        message_ended = true;
                    }
                    idle.is_past_its_end(context)
                }
                Poll::Ready(_) => false,
                Poll::Pending => idle.is_past_its_end(context) || idle.is_too_long(context),
            };
            if is_over {
                return Poll::Ready(Some(Err(status(Error::DeadlineExceeded))));
            }
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let mut permit = self.call.permit();
            if self.idle.as_ref().is_some_and(|idle| idle.counted == Counted::Piece) {
                permit.give_back_bytes();
            }
            if let Err(error) = permit.take_bytes(data.len()) {
                return Poll::Ready(Some(Err(status(error))));
            }
            drop(permit);
            // Of a call that is no stream the next call is refused.
            let owed = self.call.principal().add_bytes(data.len() as u64).filter(|_| self.idle.is_some());
            let early = message_ended.then(|| self.call.principal().add_message()).flatten();
            let wait = owed.max(early);
            self.pause = wait.map(|wait| Box::pin(tokio::time::sleep(wait)));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_has_ended_with_its_last_byte() {
        let body = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[1, 0, 0, 1, 0], &[7; 256]].concat();
        let mut messages = Messages::default();
        let ends: Vec<usize> = (0..body.len()).filter(|at| messages.take(&body[*at..=*at])).collect();
        assert_eq!(ends, [7, 12, 273]);
        assert!(Messages::default().take(&body) && !Messages::default().take(&body[..7]));
    }

    #[test]
    fn stated_time_follows_the_protocol_and_ignores_nonsense() {
        let read =
            |text: &str| stated_time(&Request::builder().header("grpc-timeout", text).body(()).expect("a request"));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for nonsense in ["", "m", "12", "-1S", "123456789S", "1.5S", "5x"] {
            assert_eq!(read(nonsense), None, "{nonsense:?}");
        }
    }
}
