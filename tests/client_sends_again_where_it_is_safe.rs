//! A call is sent again where that does no harm: after the delay that the server asks for, and never past its time.

#[path = "common/stub.rs"]
mod stub;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use facematch::client::{Client, Key, Options, Retry, reason};
use facematch::contract as proto;
use facematch::contract::face_service_server::FaceService;
use stub::Faces;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Fails each call with the next of its errors, and then answers. Notes when each came, and with which key.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    errors: VecDeque<Status>,
    came: Vec<Instant>,
    keys: Vec<Option<String>>,
    waits: bool,
}

impl Script {
    fn failing(errors: impl IntoIterator<Item = Status>) -> Self {
        let script = Self::default();
        script.notes(|notes| notes.errors.extend(errors));
        script
    }

    fn notes<T>(&self, with: impl FnOnce(&mut Notes) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tries(&self) -> usize {
        self.notes(|notes| notes.came.len())
    }

    fn next(&self, key: Option<&str>) -> Option<Status> {
        self.notes(|notes| {
            notes.came.push(Instant::now());
            notes.keys.push(key.map(str::to_owned));
            notes.errors.pop_front()
        })
    }
}

#[tonic::async_trait]
impl FaceService for Script {
    async fn detect(&self, request: Request<proto::DetectRequest>) -> Result<Response<proto::DetectResponse>, Status> {
        let key = request.metadata().get("authorization").and_then(|key| key.to_str().ok());
        let failure = self.next(key);
        if self.notes(|notes| notes.waits) {
            std::future::pending::<()>().await;
        }
        failure.map_or_else(|| Ok(Response::new(proto::DetectResponse::default())), Err)
    }

    async fn embed(&self, _: Request<proto::EmbedRequest>) -> Result<Response<proto::EmbedResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn verify(&self, _: Request<proto::VerifyRequest>) -> Result<Response<proto::VerifyResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// Enrolment, every call of which fails with the next error.
#[derive(Clone)]
struct Enrollment(Script);

impl tonic::server::NamedService for Enrollment {
    const NAME: &'static str = "facematch.v1.EnrollmentService";
}

impl tonic::codegen::Service<http::Request<Body>> for Enrollment {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let status = self.0.next(None).unwrap_or_else(|| Status::aborted("the script has ended"));
        Box::pin(std::future::ready(Ok(status.into_http())))
    }
}

async fn serve(script: &Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = Server::builder()
        .add_service(Faces(script.clone()))
        .add_service(Enrollment(script.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    address
}

async fn client(script: &Script, change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options::new(format!("http://{}", serve(script).await));
    options.retry = Retry { delay_min: Duration::from_millis(10), ..Retry::default() };
    change(&mut options);
    Client::connect(options).await.expect("a connection")
}

fn overloaded(delay: Duration) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("OVERLOADED", "facematch", std::collections::HashMap::new());
    details.set_retry_info(Some(delay));
    Status::with_error_details(Code::ResourceExhausted, "full", details)
}

fn unavailable() -> Status {
    Status::unavailable("the server is stopping")
}

#[tokio::test]
async fn write_after_unavailable_is_not_sent_again() {
    let script = Script::failing([unavailable()]);
    let client = client(&script, |_| {}).await;
    let status = client.delete_identity(proto::DeleteIdentityRequest::default()).await.expect_err("a failure");
    assert_eq!((status.code(), script.tries()), (Code::Unavailable, 1));
    let sample = |id: &str| proto::Sample { template_id: id.into(), source: None };
    let mut request = proto::EnrollRequest {
        identity_id: "ann".into(),
        if_exists: proto::IfExists::Add.into(),
        samples: vec![sample("")],
        ..Default::default()
    };
    script.notes(|notes| notes.errors.extend([unavailable(), unavailable()]));
    assert_eq!(client.enroll(request.clone()).await.expect_err("a failure").code(), Code::Unavailable);
    assert_eq!(script.tries(), 2);
    // With an id for each sample, twice is the same as once.
    request.samples = vec![sample("first")];
    assert_eq!(client.enroll(request).await.expect_err("the script's end").code(), Code::Aborted);
    assert_eq!(script.tries(), 4);
}

/// Answers each call with the next of these frames.
async fn turn_away(mut caller: TcpStream, frames: &[&[u8]]) -> std::io::Result<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const SETTINGS_TAKEN: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    caller.read_exact(&mut [0; 24]).await?; // the preface
    caller.write_all(&SETTINGS).await?;
    for frame in frames {
        loop {
            let mut head = [0; 9];
            caller.read_exact(&mut head).await?;
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            caller.read_exact(&mut vec![0; length]).await?;
            match head[3..5] {
                [4, 0] => caller.write_all(&SETTINGS_TAKEN).await?,
                [1, _] => break, // the call's headers
                _ => {}
            }
        }
        caller.write_all(frame).await?;
    }
    Ok(())
}

#[tokio::test]
async fn call_that_has_not_reached_the_engine_is_sent_again_whatever_it_does() {
    const REFUSED: [u8; 13] = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7]; // stream 1
    const FAREWELL: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]; // stream 1 was the last
    let script = Script::default();
    let (listener, behind) = (TcpListener::bind("127.0.0.1:0").await.expect("a port"), serve(&script).await);
    let options = Options::new(format!("http://{}", listener.local_addr().expect("an address")));
    let turned_away = tokio::spawn(async move {
        let (caller, _) = listener.accept().await.expect("the first connection");
        turn_away(caller, &[&REFUSED, &FAREWELL]).await.expect("two calls that are turned away");
        let (mut caller, _) = listener.accept().await.expect("another connection");
        let mut server = TcpStream::connect(behind).await.expect("the server");
        tokio::io::copy_bidirectional(&mut caller, &mut server).await
    });
    let client = Client::connect(options).await.expect("a connection");
    let reply = client.delete_identity(proto::DeleteIdentityRequest::default()).await;
    assert_eq!((reply.expect_err("the script's end").code(), script.tries()), (Code::Aborted, 1));
    turned_away.abort();
}

#[tokio::test]
async fn refused_call_is_sent_again_after_the_delay_that_is_asked_for() {
    let asked = Duration::from_millis(150);
    let script = Script::failing([overloaded(asked), overloaded(asked)]);
    let client = client(&script, |_| {}).await;
    client.detect(proto::DetectRequest::default()).await.expect("an answer");
    let came = script.notes(|notes| notes.came.clone());
    assert_eq!(came.len(), 3);
    assert!(came.windows(2).all(|pair| pair[1] - pair[0] >= asked), "{came:?}");
    // Nothing was done, so writes are sent again as well.
    script.notes(|notes| notes.errors.push_back(overloaded(Duration::ZERO)));
    let status = client.delete_identity(proto::DeleteIdentityRequest::default()).await.expect_err("the script's end");
    assert_eq!((status.code(), script.tries()), (Code::Aborted, 5));
}

#[tokio::test]
async fn read_is_sent_again_after_unavailable_until_its_tries_end() {
    let script = Script::failing([unavailable(), unavailable()]);
    client(&script, |_| {}).await.detect(proto::DetectRequest::default()).await.expect("an answer");
    assert_eq!(script.tries(), 3);
    let script = Script::failing(std::iter::repeat_n(unavailable(), 9));
    let client = client(&script, |options| options.retry.tries_max = 4).await;
    let status = client.detect(proto::DetectRequest::default()).await.expect_err("a failure");
    assert_eq!((status.code(), script.tries()), (Code::Unavailable, 4));
}

#[tokio::test]
async fn no_try_begins_past_the_calls_time() {
    let script = Script::failing([overloaded(Duration::from_secs(60))]);
    let began = Instant::now();
    let status = client(&script, |options| options.call_time_max = Duration::from_secs(5))
        .await
        .detect(proto::DetectRequest::default())
        .await
        .expect_err("a failure");
    assert_eq!((reason(&status).as_deref(), script.tries()), (Some("OVERLOADED"), 1));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn call_without_an_answer_ends_with_its_time() {
    let script = Script::default();
    script.notes(|notes| notes.waits = true);
    let client = client(&script, |options| options.call_time_max = Duration::from_millis(200)).await;
    let began = Instant::now();
    let status = client.detect(proto::DetectRequest::default()).await.expect_err("a failure");
    assert_eq!((status.code(), script.tries()), (Code::DeadlineExceeded, 1));
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn key_is_shown_with_every_try() {
    let script = Script::failing([unavailable()]);
    let client = client(&script, |options| options.key = Some(Key::new("s3cret").expect("a key"))).await;
    client.detect(proto::DetectRequest::default()).await.expect("an answer");
    let shown = Some("Bearer s3cret".to_owned());
    assert_eq!(script.notes(|notes| notes.keys.clone()), [shown.clone(), shown]);
}
