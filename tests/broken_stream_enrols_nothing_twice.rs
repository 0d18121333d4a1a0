//! A bulk enrolment that broke off is resumed by sending again: nothing is lost, nothing is enrolled twice.

mod common;

use std::collections::BTreeSet;

use common::{Bulk, Proxy, Running, bulk_options, embedding_item, photo_item};
use facematch::contract::enrollment_service_client::EnrollmentServiceClient;
use facematch::contract::{self as proto};
use proto::BulkEnrollOutcome::{AlreadyEnrolled, Enrolled, Refused};

async fn resend(running: &Running, items: &[proto::BulkEnrollItem], known: &BTreeSet<String>) -> usize {
    let bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    let (results, summary) = bulk.all(items.to_vec()).await.expect("enrolled");
    let keys: BTreeSet<&str> = results.iter().map(|result| result.idempotency_key.as_str()).collect();
    assert_eq!((keys.len(), summary.item_count), (items.len(), items.len() as u64), "one result an item");
    for result in &results {
        let key = &result.idempotency_key;
        assert!(!known.contains(key) || result.outcome() == AlreadyEnrolled, "{key} was enrolled before");
    }
    assert_eq!(summary.enrolled_count + summary.already_enrolled_count, items.len() as u64);
    summary.enrolled_count as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_that_is_cut_is_resumed_by_sending_again() {
    let Some(shared) = common::shared("stream_that_is_cut_is_resumed_by_sending_again") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let items: Vec<_> = (0..2_000).map(|seed| embedding_item(&format!("k{seed}"), seed, &pack_id)).collect();
    let proxy = Proxy::start(running.server.address()).await;
    for breaks_after in [1, 37, 150] {
        let client = EnrollmentServiceClient::new(proxy.connect().await);
        let mut bulk = Bulk::open(client, bulk_options("g")).await;
        let (sender, rest) = (bulk.sender.clone(), items.clone());
        let sending = tokio::spawn(async move {
            for item in rest {
                if sender.send(Bulk::request(item)).await.is_err() {
                    break;
                }
            }
        });
        let mut known = BTreeSet::new();
        for _ in 0..breaks_after {
            known.insert(bulk.result().await.expect("a result").expect("a result").idempotency_key);
        }
        proxy.cut();
        while let Ok(result) = bulk.result().await {
            known.insert(result.expect("no summary").idempotency_key);
        }
        sending.await.expect("sent");
        // What was told of is there, and no more than was in hand besides.
        let there = running.gallery("g").await.template_count as usize;
        assert!(there >= known.len() && there < items.len(), "{there} of {}", items.len());
        if breaks_after == 150 {
            let enrolled = resend(&running, &items, &known).await;
            assert!(enrolled <= items.len() - known.len());
        }
    }
    assert_eq!(running.gallery("g").await.template_count, 2_000);
    assert_eq!(resend(&running, &items, &BTreeSet::new()).await, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_with_one_key_at_the_same_time_are_enrolled_once() {
    let Some(shared) = common::shared("items_with_one_key_at_the_same_time_are_enrolled_once") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let photo = common::lfw_photo(&shared, "Ai_Sugiyama", 1);
    let black = std::fs::read(shared.join("faces/hard/black.jpg")).expect("a photo");
    let stream = || async {
        let twins =
            (0..8).flat_map(|_| [photo_item("k", "ai", photo.clone()), photo_item("black", "ai", black.clone())]);
        Bulk::open(running.enrollment(), bulk_options("g")).await.all(twins.collect()).await.expect("answered").0
    };
    let (a, b, c) = tokio::join!(stream(), stream(), stream());
    let (mut enrolled, mut already, mut refused) = (0, 0, 0);
    for result in [a, b, c].into_iter().flatten() {
        match result.outcome() {
            Enrolled => enrolled += 1,
            AlreadyEnrolled => already += 1,
            Refused => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((enrolled, already, refused), (1, 23, 24));
    assert_eq!(running.gallery("g").await.template_count, 1);
    running.stop().await;
}
