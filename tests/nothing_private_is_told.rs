//! Log, metrics and traces tell what happened, and nothing of whom: no name, no metadata, no photo, no template.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::{Bulk, bulk_options};
use facematch::contract::enrollment_service_client::EnrollmentServiceClient;
use facematch::contract::gallery_service_client::GalleryServiceClient;
use facematch::contract::match_service_client::MatchServiceClient;
use facematch::contract::{self as proto};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What must be found nowhere. Ids of identities and templates are the callers' words too.
const PRIVATE: [&str; 7] =
    ["Zebulon", "zq-gallery", "Quuxington", "zq-identity", "zq-key", "zq-department", "zq-template"];

/// Takes the traces that a server sends.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().expect("the lock").extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The real program, and what it says.
struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start");
        let stderr = child.stderr.take().expect("stderr");
        let log = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&log);
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let line = line.expect("a line");
                let mut log = written.lock().expect("the lock");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, reading: Some(reading) }
    }

    /// Waits for a message and returns the address that it carries.
    fn address(&mut self, message: &str) -> String {
        let needle = format!("\"message\":\"{message}\",\"address\":\"");
        loop {
            let log = self.log.lock().expect("the lock").clone();
            if let Some((_, rest)) = log.split_once(&needle) {
                return rest.split_once('"').expect("an address").0.to_owned();
            }
            assert!(self.child.try_wait().expect("wait").is_none(), "the server ended: {log}");
            std::thread::yield_now();
        }
    }

    /// Ends it in order, and returns all that it said.
    fn stop(mut self) -> String {
        let stopped = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(stopped.expect("kill").success());
        assert!(self.child.wait().expect("wait").success());
        self.reading.take().expect("the thread").join().expect("read");
        self.log.lock().expect("the lock").clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Where a test failed; else it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("ask");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn log_metrics_and_traces_tell_what_happened_and_nothing_of_whom() {
    let Some(shared) = common::shared("log_metrics_and_traces_tell_what_happened_and_nothing_of_whom") else { return };
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let collector_address = listener.local_addr().expect("an address");
    let service = TraceServiceServer::new(collector.clone());
    let collecting = tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)),
    );

    let data = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(
        Command::new(env!("CARGO_BIN_EXE_facematch"))
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--workers", "1"])
            .args(["--log", "trace", "--log-format", "json", "--otlp-endpoint", &format!("http://{collector_address}")])
            .arg("--pack")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packs/scrfd500-edgeface-xxs"))
            .arg("--pack-files")
            .arg(shared.join("models"))
            .arg("--cache")
            .arg(common::cache_folder())
            .arg("--data")
            .arg(data.path()),
    );
    let metrics_address = program.address("serving metrics");
    let address = program.address("serving");
    let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
    let channel = channel.connect().await.expect("connect");
    let embedding = use_it(&channel, &shared).await;
    let page = page(&metrics_address);
    drop(channel);
    let log = program.stop();
    collecting.abort();
    let spans = collector.0.lock().expect("the lock").clone();
    let traces = format!("{spans:?}");

    for line in [
        "facematch_calls_total{method=\"facematch.v1.MatchService/Identify\",code=\"OK\"} 1",
        "facematch_calls_total{method=\"facematch.v1.MatchService/Identify\",code=\"NOT_FOUND\"} 1",
        "facematch_calls_total{method=\"facematch.v1.EnrollmentService/BulkEnroll\",code=\"OK\"} 1",
        "facematch_call_seconds_count{method=\"facematch.v1.MatchService/Identify\"} 2",
        "facematch_errors_total{reason=\"GALLERY_NOT_FOUND\"} 1",
        "facematch_failures_to_acquire_total{reason=\"NO_FACE\"} 1",
        "facematch_failures_to_acquire_total{reason=\"PHOTO_UNSUPPORTED_FORMAT\"} 1",
        "facematch_stage_seconds_count{stage=\"detect\"} 3",
        "facematch_stage_seconds_count{stage=\"search\"} 1",
        "facematch_gallery_identities{gallery=\"staff\"} 1.0",
        "facematch_gallery_search_path{gallery=\"staff\",path=\"exact\"} 1.0",
        "facematch_permits{of=\"workers\"} 2.0",
        "facematch_permits_taken{of=\"calls\"} 0.0",
        "facematch_workers 1.0",
        "facematch_healthy 1.0",
        "facematch_store_flush_seconds_count",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }

    // The call goes on with its caller's trace, and its stages are parts of it.
    let trace_id: Vec<u8> = (1..=16).collect();
    let of_trace: Vec<&Span> = spans.iter().filter(|span| span.trace_id == trace_id).collect();
    let root = of_trace.iter().find(|span| span.name == "facematch.v1.MatchService/Identify").expect("the call's span");
    assert_eq!(root.parent_span_id, [1, 2, 3, 4, 5, 6, 7, 8]);
    for stage in ["queue", "decode", "detect", "align", "embed", "search"] {
        let span = of_trace.iter().find(|span| span.name == stage).unwrap_or_else(|| panic!("{stage} in {traces}"));
        assert_eq!(span.parent_span_id, root.span_id, "{stage}");
        assert!(
            span.start_time_unix_nano >= root.start_time_unix_nano
                && span.end_time_unix_nano <= root.end_time_unix_nano
        );
    }
    assert!(log.contains("order-7") && log.contains("call ended"), "the log names the call by its id");

    // Whatever the level, nothing of whom.
    let value = format!("{:.6}", embedding.values.first().expect("a value"));
    for (what, told) in [("log", &log), ("metrics", &page), ("traces", &traces)] {
        for private in PRIVATE.iter().copied().chain([value.as_str()]) {
            assert!(!told.contains(private), "{private} is in the {what}");
        }
    }
}

/// Enrols, identifies, and fails, with words that nobody else uses.
async fn use_it(channel: &Channel, shared: &std::path::Path) -> proto::Embedding {
    let photo = common::lfw_photo(shared, "Ai_Sugiyama", 1);
    let gallery = proto::Gallery { gallery_id: "staff".to_owned(), ..Default::default() };
    let request = proto::CreateGalleryRequest { gallery: Some(gallery) };
    GalleryServiceClient::new(channel.clone()).create_gallery(request).await.expect("a gallery");
    let text =
        |text: &str| proto::MetadataValue { value: Some(proto::metadata_value::Value::StringValue(text.to_owned())) };
    let item = |key: &str, data: Vec<u8>| proto::BulkEnrollItem {
        idempotency_key: key.to_owned(),
        identity_id: "zq-identity".to_owned(),
        display_name: "Zebulon Quuxington".to_owned(),
        metadata: [("zq-department".to_owned(), text("Quuxington"))].into(),
        source: Some(proto::bulk_enroll_item::Source::Photo(proto::Photo { data })),
    };
    let blank = common::png(&image::RgbImage::new(64, 64));
    let items = vec![item("zq-key", photo.clone()), item("zq-template", blank), item("zq-key-2", b"Zebulon".to_vec())];
    let bulk = Bulk::open(EnrollmentServiceClient::new(channel.clone()), bulk_options("staff")).await;
    let (_, summary) = bulk.all(items).await.expect("a summary");
    assert_eq!((summary.enrolled_count, summary.refused_count), (1, 2));

    let mut matching = MatchServiceClient::new(channel.clone());
    for gallery_id in ["staff", "zq-gallery"] {
        let probe = proto::probe::Probe::Photo(proto::Photo { data: photo.clone() });
        let mut request = Request::new(proto::IdentifyRequest {
            gallery_id: gallery_id.to_owned(),
            probe: Some(proto::Probe { probe: Some(probe) }),
            filter: "`zq-department` = \"Quuxington\"".to_owned(),
            ..Default::default()
        });
        if gallery_id == "staff" {
            let trace = "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01";
            request.metadata_mut().insert("traceparent", trace.parse().expect("a value"));
        }
        request.metadata_mut().insert("x-request-id", "order-7".parse().expect("a value"));
        assert_eq!(matching.identify(request).await.is_ok(), gallery_id == "staff");
    }
    let request = proto::GetIdentityRequest {
        gallery_id: "staff".to_owned(),
        identity_id: "zq-identity".to_owned(),
        include_embeddings: true,
    };
    let identity = EnrollmentServiceClient::new(channel.clone()).get_identity(request).await.expect("an identity");
    let template = identity.into_inner().identity.expect("an identity").templates.remove(0);
    template.embedding.expect("the embedding")
}
