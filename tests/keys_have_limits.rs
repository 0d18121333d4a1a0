//! A key uses no more than its limits, and others are served meanwhile.

#[path = "common/callers.rs"]
mod callers;
mod common;

use std::time::Duration;

use callers::{ADMIN_KEY, admin_key_file, caller, create_key, new_key};
use facematch::contract::enrollment_service_client::EnrollmentServiceClient;
use facematch::contract::gallery_service_client::GalleryServiceClient;
use facematch::contract::{self as proto};
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn serve(data: &std::path::Path) -> common::Running {
    let file = admin_key_file(data);
    common::serve_starter(&data.join("store"), &[("keys", "required"), ("admin_key_file", &file)]).await
}

async fn key(running: &common::Running, limits: proto::KeyLimits) -> String {
    let key = proto::Key { limits: Some(limits), ..new_key(&["admin:*"]) };
    create_key(&running.channel, key).await.expect("a key").secret
}

fn delay(status: &Status) -> Duration {
    assert_eq!((status.code(), common::reason(status).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    status.get_details_retry_info().and_then(|info| info.retry_delay).expect("a delay")
}

async fn list(running: &common::Running, key: &str) -> Result<(), Status> {
    let mut galleries = GalleryServiceClient::new(caller(&running.channel, key));
    galleries.list_galleries(proto::ListGalleriesRequest::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_rate_are_told_when_to_come_again() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    let limited = key(&running, proto::KeyLimits { calls_per_second: Some(2), ..Default::default() }).await;
    let mut results = Vec::new();
    for _ in 0..6 {
        results.push(list(&running, &limited).await);
    }
    let refused: Vec<Duration> = results.iter().filter_map(|result| Some(delay(result.as_ref().err()?))).collect();
    assert!((1..=4).contains(&refused.len()), "{} of 6 refused", refused.len());
    assert!(refused.iter().all(|delay| *delay <= Duration::from_millis(500)));
    for _ in 0..6 {
        list(&running, ADMIN_KEY).await.expect("others are served");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_takes_one_of_the_places_of_its_key() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    let limited = key(&running, proto::KeyLimits { concurrent_calls: Some(1), ..Default::default() }).await;
    let (sender, requests) = tokio::sync::mpsc::channel::<proto::BulkEnrollRequest>(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut client = EnrollmentServiceClient::new(caller(&running.channel, &limited));
    let mut replies = client.bulk_enroll(requests).await.expect("a stream").into_inner();
    delay(&list(&running, &limited).await.expect_err("no second call"));
    list(&running, ADMIN_KEY).await.expect("others are served");
    drop(sender);
    assert!(replies.message().await.is_err(), "a stream without a message");
    drop(replies);
    let started = std::time::Instant::now();
    while list(&running, &limited).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "the place is free again");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_beyond_the_rate_are_owed_by_the_next_call() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    let limited = key(&running, proto::KeyLimits { bytes_per_second: Some(10_000), ..Default::default() }).await;
    let mut faces =
        facematch::contract::face_service_client::FaceServiceClient::new(caller(&running.channel, &limited));
    let photo = proto::Photo { data: vec![0; 1_000_000] };
    let answer = faces.detect(proto::DetectRequest { photo: Some(photo), ..Default::default() }).await;
    assert_eq!(answer.expect_err("no photo").code(), Code::InvalidArgument);
    let owed = delay(&list(&running, &limited).await.expect_err("it owes"));
    assert!((Duration::from_secs(60)..=Duration::from_secs(100)).contains(&owed), "{owed:?}");
    list(&running, ADMIN_KEY).await.expect("others are served");
    running.stop().await;
}

fn item(number: usize, pack_id: &str) -> proto::BulkEnrollItem {
    let values: Vec<f32> = (0..512).map(|at| if at == number { 1.0 } else { 0.0 }).collect();
    proto::BulkEnrollItem {
        idempotency_key: format!("person-{number}"),
        source: Some(proto::bulk_enroll_item::Source::Embedding(proto::Embedding {
            values,
            pack_id: pack_id.to_owned(),
        })),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_at_a_time_fill_a_gallery_no_further_than_one_by_one() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    let limited = key(&running, proto::KeyLimits { identities: Some(5), ..Default::default() }).await;
    let mut galleries = GalleryServiceClient::new(caller(&running.channel, &limited));
    let gallery = proto::Gallery { gallery_id: "staff".into(), ..Default::default() };
    let made = galleries.create_gallery(proto::CreateGalleryRequest { gallery: Some(gallery) }).await;
    let pack_id = made.expect("a gallery").into_inner().gallery.expect("it").pack_id;
    let options = proto::BulkEnrollOptions { gallery_id: "staff".into(), ..Default::default() };
    let items = (0..200).map(|number| proto::bulk_enroll_request::Message::Item(item(number, &pack_id)));
    let messages = std::iter::once(proto::bulk_enroll_request::Message::Options(options)).chain(items);
    let requests: Vec<_> = messages.map(|message| proto::BulkEnrollRequest { message: Some(message) }).collect();
    let mut client = EnrollmentServiceClient::new(caller(&running.channel, &limited));
    let mut replies = client.bulk_enroll(tokio_stream::iter(requests)).await.expect("a stream").into_inner();
    let mut enrolled = 0;
    while let Some(reply) = replies.message().await.expect("a reply") {
        if let Some(proto::bulk_enroll_response::Message::Result(result)) = reply.message {
            enrolled += usize::from(result.outcome() == proto::BulkEnrollOutcome::Enrolled);
        }
    }
    assert_eq!(enrolled, 5);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_fills_a_gallery_to_its_limit_and_no_further() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    let limited = key(&running, proto::KeyLimits { identities: Some(2), ..Default::default() }).await;
    let mut galleries = GalleryServiceClient::new(caller(&running.channel, &limited));
    let gallery = proto::Gallery { gallery_id: "staff".into(), ..Default::default() };
    let made = galleries.create_gallery(proto::CreateGalleryRequest { gallery: Some(gallery) }).await;
    let pack_id = made.expect("a gallery").into_inner().gallery.expect("it").pack_id;
    let client = EnrollmentServiceClient::new(caller(&running.channel, &limited));
    let mut client = client;
    let enroll = |number: usize| {
        let proto::BulkEnrollItem { idempotency_key, source, .. } = item(number, &pack_id);
        let source = source.map(|source| match source {
            proto::bulk_enroll_item::Source::Embedding(embedding) => proto::sample::Source::Embedding(embedding),
            proto::bulk_enroll_item::Source::Photo(photo) => proto::sample::Source::Photo(photo),
        });
        proto::EnrollRequest {
            gallery_id: "staff".into(),
            identity_id: idempotency_key,
            samples: vec![proto::Sample { source, ..Default::default() }],
            ..Default::default()
        }
    };
    for number in 0..2 {
        client.enroll(enroll(number)).await.expect("there is room");
    }
    let full = client.enroll(enroll(2)).await.expect_err("full");
    assert_eq!((full.code(), common::reason(&full).as_str()), (Code::ResourceExhausted, "IDENTITIES_MAX"));
    assert!(full.get_details_retry_info().is_none(), "waiting does not help");
    // Of a stream the item is refused, and who is there already is not.
    let options = proto::BulkEnrollOptions { gallery_id: "staff".into(), ..Default::default() };
    let messages = [
        proto::bulk_enroll_request::Message::Options(options),
        proto::bulk_enroll_request::Message::Item(item(3, &pack_id)),
        proto::bulk_enroll_request::Message::Item(proto::BulkEnrollItem {
            identity_id: "person-0".into(),
            ..item(4, &pack_id)
        }),
    ];
    let requests = messages.map(|message| proto::BulkEnrollRequest { message: Some(message) });
    let mut replies = client.bulk_enroll(tokio_stream::iter(requests)).await.expect("a stream").into_inner();
    let mut outcomes = std::collections::BTreeMap::new();
    while let Some(reply) = replies.message().await.expect("a reply") {
        if let Some(proto::bulk_enroll_response::Message::Result(result)) = reply.message {
            let reason = result.failure.as_ref().map(|failure| failure.reason.clone());
            outcomes.insert(result.idempotency_key.clone(), (result.outcome(), reason));
        }
    }
    let expected = (proto::BulkEnrollOutcome::Refused, Some("IDENTITIES_MAX".to_owned()));
    assert_eq!(outcomes.get("person-3"), Some(&expected));
    assert_eq!(outcomes.get("person-4"), Some(&(proto::BulkEnrollOutcome::Enrolled, None)));
    running.stop().await;
}
