//! What is not an item's fault ends a stream with its status, and whoever was told of a result finds it.

mod common;

use std::collections::BTreeSet;

use common::{Bulk, bulk_options, photo_item};
use facematch::contract::{self as proto};
use proto::BulkEnrollOutcome::Enrolled;
use tonic::Code;

/// Sends photos of one person until the stream ends.
fn keep_sending(bulk: &Bulk, photo: Vec<u8>) -> tokio::task::JoinHandle<u64> {
    let sender = bulk.sender.clone();
    tokio::spawn(async move {
        let mut sent = 0;
        while sender
            .send(Bulk::request(photo_item(&format!("k{sent}"), &format!("p{sent}"), photo.clone())))
            .await
            .is_ok()
        {
            sent += 1;
        }
        sent
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn gallery_deleted_in_mid_stream_is_not_found() {
    let Some(shared) = common::shared("gallery_deleted_in_mid_stream_is_not_found") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let mut bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    let sending = keep_sending(&bulk, common::lfw_photo(&shared, "Ai_Sugiyama", 1));
    bulk.result().await.expect("a result").expect("a result");
    let request = proto::DeleteGalleryRequest { gallery_id: "g".to_owned(), force: true };
    running.galleries().delete_gallery(request).await.expect("delete");
    let ended = loop {
        match bulk.result().await {
            Ok(result) => assert!(result.is_some(), "a summary"),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), common::reason(&ended).as_str()), (Code::NotFound, "GALLERY_NOT_FOUND"));
    drop(bulk);
    sending.await.expect("the sender ends with the stream");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_stops_finishes_what_is_in_hand_and_says_so() {
    let Some(shared) = common::shared("server_that_stops_finishes_what_is_in_hand_and_says_so") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let mut bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    let sending = keep_sending(&bulk, common::lfw_photo(&shared, "Ai_Sugiyama", 1));
    let mut told = BTreeSet::new();
    told.insert(bulk.result().await.expect("a result").expect("a result").identity_id);
    let common::Running { server, channel } = running;
    let stopping = tokio::spawn(async move {
        drop(channel);
        server.stop().await
    });
    let ended = loop {
        match bulk.result().await {
            Ok(result) => {
                let result = result.expect("no summary");
                assert_eq!(result.outcome(), Enrolled);
                told.insert(result.identity_id);
            }
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), common::reason(&ended).as_str()), (Code::Unavailable, "UNAVAILABLE"));
    drop(bulk);
    assert!(sending.await.expect("the sender ends with the stream") >= told.len() as u64);
    stopping.await.expect("a task").expect("stop");

    // Everyone who was told of is there, and nobody else.
    let running = common::serve(&shared, data.path(), &[]).await;
    let request = proto::ListIdentitiesRequest { gallery_id: "g".into(), page_size: 1_000, ..Default::default() };
    let listed = running.enrollment().list_identities(request).await.expect("list").into_inner().identities;
    let listed: BTreeSet<String> = listed.into_iter().map(|identity| identity.identity_id).collect();
    assert_eq!(listed, told);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_who_sends_nothing_for_the_time_of_a_call_is_given_up() {
    let Some(shared) = common::shared("caller_who_sends_nothing_for_the_time_of_a_call_is_given_up") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[("call_time_max_ms", "300")]).await;
    running.create_gallery("g").await;
    let mut bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    let ended = bulk.result().await.expect_err("given up");
    assert_eq!((ended.code(), common::reason(&ended).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    running.stop().await;
}
