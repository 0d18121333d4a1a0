//! `facematch health`: exit code 0 where a server serves, 1 in every other case, and never a wait without an end.

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use common::program::{Served, program, run};
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::ServingStatus;

fn health(endpoint: &str) -> Command {
    let mut command = program(Path::new("unused"));
    command.args(["health", "--endpoint", endpoint]);
    command
}

#[test]
fn server_that_serves_is_told_from_one_that_has_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let pack = ["--pack", "./models/starter", "--pack-files", "./models/starter"];
    let served = Served::start_with(Path::new("unused"), &folder.path().join("data"), &pack);
    assert_eq!(run(&mut health(&served.endpoint), 0), "SERVING\n");
    assert_eq!(run(health(&served.endpoint).args(["--service", "facematch.v1.MatchService"]), 0), "SERVING\n");
    let unknown = run(health(&served.endpoint).args(["--service", "facematch.v1.NoService"]), 1);
    assert!(unknown.contains("no service \"facematch.v1.NoService\""), "{unknown}");
    let endpoint = served.endpoint.clone();
    served.stop();
    let gone = run(&mut health(&endpoint), 1);
    assert!(gone.starts_with("UNKNOWN  cannot reach a server at"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_does_not_serve_is_told() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::NotServing).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let router = tonic::transport::Server::builder().add_service(service);
    let server = tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    let told = tokio::task::spawn_blocking(move || run(&mut health(&endpoint), 1)).await.expect("a task");
    assert_eq!(told, "NOT_SERVING\n");
    server.abort();
}

#[test]
fn server_that_never_answers_is_waited_for_no_longer_than_stated() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let told = run(health(&endpoint).args(["--timeout-ms", "200"]), 1);
    assert_eq!(told, "UNKNOWN  no answer within 200 ms\n");
}
