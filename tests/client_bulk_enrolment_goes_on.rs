//! The client's bulk enrolment goes on where its stream breaks off: each item has one result, nothing is enrolled twice.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Proxy, embedding_item};
use facematch::client::{BulkSettings, Client, Options, Retry, reason};
use facematch::contract as proto;
use proto::BulkEnrollOutcome::{AlreadyEnrolled, Enrolled};

async fn client(address: std::net::SocketAddr) -> Client {
    let retry = Retry { delay_min: Duration::from_millis(10), ..Retry::default() };
    Client::connect(Options { retry, ..Options::new(format!("http://{address}")) }).await.expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_that_is_cut_is_gone_on_with() {
    let Some(shared) = common::shared("stream_that_is_cut_is_gone_on_with") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let proxy = Proxy::start(running.server.address()).await;
    let items: Vec<_> = (0..1_000).map(|seed| embedding_item(&format!("k{seed}"), seed, &pack_id)).collect();
    let mut results = client(proxy.address).await.bulk_enroll(BulkSettings::new("g"), tokio_stream::iter(items));
    let mut keys = BTreeSet::new();
    while let Some(result) = results.next().await.expect("a result") {
        assert!([Enrolled, AlreadyEnrolled].contains(&result.outcome()), "{result:?}");
        assert!(keys.insert(result.idempotency_key), "two results of one item");
        if [1, 37, 500].contains(&keys.len()) {
            proxy.cut();
        }
    }
    assert_eq!(keys.len(), 1_000);
    assert!((1..=3).contains(&results.resumed()), "{}", results.resumed());
    assert_eq!(running.gallery("g").await.template_count, 1_000);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_stream_would_meet_too_ends_it() {
    let Some(shared) = common::shared("what_another_stream_would_meet_too_ends_it") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let client = client(running.server.address()).await;
    let item = embedding_item("k", 1, &"0".repeat(32));
    let mut results = client.bulk_enroll(BulkSettings::new("absent"), tokio_stream::iter([item.clone()]));
    let status = results.next().await.expect_err("no gallery");
    assert_eq!(reason(&status).as_deref(), Some("GALLERY_NOT_FOUND"));
    // Nothing to enrol opens no stream; nobody is asked for the gallery.
    let mut nothing = client.bulk_enroll(BulkSettings::new("absent"), tokio_stream::iter([]));
    assert!(nothing.next().await.expect("no fault").is_none());
    // Where nobody answers, patience ends.
    running.stop().await;
    let settings = BulkSettings { patience: Duration::from_millis(300), ..BulkSettings::new("g") };
    let status = client.bulk_enroll(settings, tokio_stream::iter([item])).next().await.expect_err("nobody");
    assert_eq!(status.code(), tonic::Code::Unavailable);
}
