//! What a caller of a stream can make the server hold: one window, however fast it sends and however slowly it reads; and
//! other calls have their places all the while.

mod common;

use std::time::Duration;

use common::{Bulk, Proxy, Running, bulk_options, embedding_item, photo_item};
use facematch::contract::enrollment_service_client::EnrollmentServiceClient;
use facematch::contract::face_service_client::FaceServiceClient;
use facematch::contract::{self as proto};
use tonic::Code;
use tonic::transport::Channel;

/// A connection that takes few unread replies.
async fn narrow(running: &Running) -> EnrollmentServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", running.server.address())).expect("an address");
    let endpoint = endpoint.initial_stream_window_size(16_384);
    EnrollmentServiceClient::new(endpoint.connect().await.expect("connect"))
}

/// Sends items until the server takes no more for a second, and returns how many it took.
async fn send_until_it_stalls(bulk: &Bulk, count: u64, pack_id: &str) -> u64 {
    for seed in 0..count {
        let request = Bulk::request(embedding_item(&format!("k{seed}"), seed, pack_id));
        match tokio::time::timeout(Duration::from_secs(1), bulk.sender.send(request)).await {
            Ok(sent) => sent.expect("an open stream"),
            Err(_) => return seed,
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn sender_whose_results_are_not_read_is_held_back_and_loses_nothing() {
    let Some(shared) = common::shared("sender_whose_results_are_not_read_is_held_back_and_loses_nothing") else {
        return;
    };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let count = 8_000;
    let mut bulk = Bulk::open(narrow(&running).await, bulk_options("g")).await;
    let sent = send_until_it_stalls(&bulk, count, &pack_id).await;
    let enrolled = running.gallery("g").await.template_count;
    eprintln!("{sent} items sent and {enrolled} enrolled before the server held back its caller");
    // Enrolled: what the unread replies' windows take (65,535 + 32,768 bytes at about 25 a reply, at most), the queue of
    // replies and one window of items. Sent: a megabyte of items, of 2 KB each, more.
    assert!(sent < count && enrolled < 5_000, "{sent} sent, {enrolled} enrolled");
    assert!(sent - enrolled < 700, "{sent} sent, {enrolled} enrolled");

    // Read at last, it goes on, and every item has its result.
    let (sender, more) = (bulk.sender.clone(), pack_id.clone());
    let rest = tokio::spawn(async move {
        for seed in sent..count {
            sender.send(Bulk::request(embedding_item(&format!("k{seed}"), seed, &more))).await.expect("an open stream");
        }
    });
    for number in 0..count {
        assert!(bulk.result().await.expect("a result").is_some(), "result {number}");
    }
    rest.await.expect("sent");
    drop(std::mem::replace(&mut bulk.sender, tokio::sync::mpsc::channel(1).0));
    assert!(bulk.result().await.expect("the summary").is_none());
    assert_eq!(running.gallery("g").await.template_count, count);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_who_reads_nothing_for_the_time_of_a_call_is_given_up() {
    let Some(shared) = common::shared("caller_who_reads_nothing_for_the_time_of_a_call_is_given_up") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let settings = [("call_time_max_ms", "400"), ("calls_max", "1")];
    let running = common::serve(&shared, data.path(), &settings).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let mut bulk = Bulk::open(narrow(&running).await, bulk_options("g")).await;
    // It stalls for longer than a call may take.
    let sent = send_until_it_stalls(&bulk, 8_000, &pack_id).await;
    // Its place is free again, unread as it is.
    for _ in 0..2 {
        let bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
        bulk.all(vec![embedding_item("again", 1, &pack_id)]).await.expect("enrolled");
    }
    let mut results = 0;
    let ended = loop {
        match bulk.result().await {
            Ok(Some(_)) => results += 1,
            Ok(None) => panic!("a summary"),
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), common::reason(&ended).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    assert!(results > 0 && results < sent, "{results} results of {sent}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_at_full_speed_leaves_places_to_calls_of_the_same_connection() {
    let Some(shared) = common::shared("stream_at_full_speed_leaves_places_to_calls_of_the_same_connection") else {
        return;
    };
    let data = tempfile::tempdir().expect("a folder");
    // Three places for calls, and two for all streams, whatever they are sent.
    let running = common::serve(&shared, data.path(), &[("workers", "1"), ("queue_max", "2")]).await;
    running.create_gallery("g").await;
    let crowd = std::fs::read(shared.join("faces/group/person01/test_group.jpg")).expect("a photo");
    let proxy = Proxy::start(running.server.address()).await;
    let channel = proxy.connect().await;
    let mut bulk = Bulk::open(EnrollmentServiceClient::new(channel.clone()), bulk_options("g")).await;
    let (sender, photo) = (bulk.sender.clone(), crowd.clone());
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while sender.send(Bulk::request(photo_item(&format!("k{sent}"), "x", photo.clone()))).await.is_ok() {
            sent += 1;
        }
        sent
    });
    for _ in 0..8 {
        bulk.result().await.expect("a result");
        let request = proto::DetectRequest { photo: Some(proto::Photo { data: crowd.clone() }), ..Default::default() };
        FaceServiceClient::new(channel.clone()).detect(request).await.expect("a place");
    }
    // Gone in the middle: what waits never reaches a model, and the worker is free for the next call.
    proxy.cut();
    let sent = sending.await.expect("the sender ends with the stream");
    let enrolled = running.gallery("g").await.template_count;
    assert!(enrolled < sent, "{enrolled} of {sent}");
    running.embed(crowd).await;
    let later = running.gallery("g").await.template_count;
    assert!(later <= enrolled + 4, "{later} after {enrolled}: no more than were in hand");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_in_hand_count_against_the_servers_bytes() {
    let Some(shared) = common::shared("items_in_hand_count_against_the_servers_bytes") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let photo = common::png(&image::RgbImage::from_fn(900, 900, |x, y| image::Rgb([(x * y) as u8, x as u8, y as u8])));
    let limit = (photo.len() * 3 / 2).to_string();
    let settings = [
        ("workers", "1"),
        ("photo_bytes_max", limit.as_str()),
        ("message_bytes_max", limit.as_str()),
        ("in_flight_bytes_max", limit.as_str()),
    ];
    let running = common::serve(&shared, data.path(), &settings).await;
    running.create_gallery("g").await;
    let item = |number: usize| photo_item(&format!("k{number}"), "x", photo.clone());
    // One at a time is within the limit, however many they are.
    let mut bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    for number in 0..4 {
        bulk.sender.send(Bulk::request(item(number))).await.expect("send");
        assert!(bulk.result().await.expect("a result").is_some());
    }
    // Two at a time are not: the first has its result, and the stream ends with a delay.
    let refused = bulk.all((4..6).map(item).collect()).await.expect_err("refused");
    assert_eq!((refused.code(), common::reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    let bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    bulk.all(vec![item(4)]).await.expect("what was held is given back");
    running.stop().await;
}
