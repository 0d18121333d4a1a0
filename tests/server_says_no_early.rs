//! Too much work is refused at once with a delay, a caller's time is kept, and health tells the truth.

mod common;

use std::time::Duration;

use facematch::contract as proto;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

/// A photo that keeps a worker busy for about a tenth of a second.
fn crowd(shared: &std::path::Path) -> Vec<u8> {
    std::fs::read(shared.join("faces/group/person01/test_group.jpg")).expect("a photo")
}

fn request(data: Vec<u8>) -> proto::EmbedRequest {
    proto::EmbedRequest {
        photo: Some(proto::Photo { data }),
        face_selection: proto::FaceSelection::All.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn call_beyond_the_queue_is_refused_with_a_delay() {
    let Some(shared) = common::shared("call_beyond_the_queue_is_refused_with_a_delay") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[("workers", "1"), ("queue_max", "2")]).await;
    let photo = crowd(&shared);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (mut client, request) = (running.faces(), request(photo.clone()));
        calls.spawn(async move { client.embed(request).await.map(drop) });
    }
    let results: Vec<Result<(), Status>> = calls.join_all().await;
    let refused: Vec<&Status> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < results.len(), "{} of {} refused", refused.len(), results.len());
    for status in refused {
        assert_eq!((status.code(), common::reason(status).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert!(delay.is_some_and(|delay| delay >= Duration::from_millis(10)));
    }
    // Full speed again.
    running.faces().embed(request(photo)).await.expect("a free worker");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn call_beyond_the_limit_is_refused_and_health_still_answers() {
    let Some(shared) = common::shared("call_beyond_the_limit_is_refused_and_health_still_answers") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[("workers", "1"), ("calls_max", "1")]).await;
    let photo = crowd(&shared);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        // A connection each: on one, the limit of streams would make them wait for each other.
        let address = format!("http://{}", running.server.address());
        let request = request(photo.clone());
        calls.spawn(async move {
            let channel = tonic::transport::Channel::from_shared(address).expect("an address");
            let channel = channel.connect().await.expect("connect");
            let mut client = proto::face_service_client::FaceServiceClient::new(channel.clone());
            let result = client.embed(request).await.map(drop);
            (result, health(channel, "").await)
        });
    }
    let results = calls.join_all().await;
    let refused = results.iter().filter_map(|(result, _)| result.as_ref().err());
    let reasons: Vec<String> = refused.map(common::reason).collect();
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| reason == "OVERLOADED"), "{reasons:?}");
    assert!(results.iter().all(|(_, health)| *health == ServingStatus::Serving));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn call_whose_time_is_up_is_deadline_exceeded() {
    let Some(shared) = common::shared("call_whose_time_is_up_is_deadline_exceeded") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[("workers", "1"), ("call_time_max_ms", "15")]).await;
    // The server's own limit, so that it is the server who answers, not the client's clock.
    let late = running.faces().embed(request(crowd(&shared))).await.expect_err("too late");
    assert_eq!((late.code(), common::reason(&late).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_name_every_service() {
    let Some(shared) = common::shared("health_and_reflection_name_every_service") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let services = ["FaceService", "GalleryService", "EnrollmentService", "MatchService", "CalibrationService"];
    let services = services.map(|name| format!("facematch.v1.{name}"));
    for service in services.iter().map(String::as_str).chain([""]) {
        assert_eq!(health(running.channel.clone(), service).await, ServingStatus::Serving, "{service}");
    }
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(running.channel.clone());
    let replies = client.server_reflection_info(tokio_stream::once(ask)).await.expect("reflection");
    let reply = replies.into_inner().message().await.expect("a reply").expect("a reply");
    let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else { panic!("no list") };
    let listed: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for service in &services {
        assert!(listed.contains(service), "{service} is not among {listed:?}");
    }
    running.stop().await;
}

/// Stopping finishes what is in, and takes nothing new.
#[tokio::test(flavor = "multi_thread")]
async fn stop_finishes_the_calls_that_are_in() {
    let Some(shared) = common::shared("stop_finishes_the_calls_that_are_in") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[("workers", "1"), ("queue_max", "4")]).await;
    let photo = crowd(&shared);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut client, request) = (running.faces(), request(photo.clone()));
        calls.spawn(async move { client.embed(request).await.map(drop) });
    }
    let first = calls.join_next().await.expect("a call").expect("a task");
    first.expect("answered");
    let common::Running { server, channel } = running;
    server.stop().await.expect("stop");
    for result in calls.join_all().await {
        result.expect("a call that was in is answered");
    }
    let mut late = proto::face_service_client::FaceServiceClient::new(channel);
    assert!(late.embed(request(photo)).await.is_err());
}

async fn health(channel: tonic::transport::Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel).check(request).await.expect("health").into_inner().status()
}
