//! A gallery's policy on duplicates: who is enrolled already, under another id, is refused or warned of.

mod common;

use std::sync::Arc;

use common::Running;
use facematch::contract::{self as proto};
use proto::CheckPolicy::{Off, Reject, Warn};
use tonic::Code;

const DIMENSION: usize = 512;

fn gallery(policy: proto::CheckPolicy, cosine: Option<f32>) -> proto::Gallery {
    proto::Gallery {
        gallery_id: "g".to_owned(),
        duplicate_policy: policy.into(),
        duplicate_cosine: cosine,
        ..Default::default()
    }
}

fn vector(values: Vec<f32>, pack_id: &str) -> proto::sample::Source {
    proto::sample::Source::Embedding(proto::Embedding { values, pack_id: pack_id.to_owned() })
}

/// A vector at a cosine to a direction.
fn near(seed: u64, cosine: f32) -> Vec<f32> {
    let (to, across) = (common::direction(DIMENSION, seed), common::direction(DIMENSION, seed + 10_000));
    let along: f32 = to.iter().zip(&across).map(|(to, across)| to * across).sum();
    let across: Vec<f32> = across.iter().zip(&to).map(|(across, to)| across - along * to).collect();
    let length = across.iter().map(|value| value * value).sum::<f32>().sqrt();
    let share = (1.0 - cosine * cosine).sqrt() / length;
    to.iter().zip(across).map(|(to, across)| cosine * to + share * across).collect()
}

fn failure(result: &proto::SampleResult) -> &proto::SampleFailure {
    match &result.outcome {
        Some(proto::sample_result::Outcome::Failure(failure)) => failure,
        _ => panic!("enrolled"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_policy_is_named() {
    let Some(shared) = common::shared("faulty_policy_is_named") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let faults = [
        (proto::Gallery { duplicate_policy: 9, ..gallery(Off, None) }, "duplicate_policy"),
        (gallery(Off, Some(1.5)), "duplicate_cosine"),
        (proto::Gallery { consistency_policy: 9, ..gallery(Off, None) }, "consistency_policy"),
        (proto::Gallery { consistency_cosine: Some(f32::NAN), ..gallery(Off, None) }, "consistency_cosine"),
    ];
    for (stated, field) in faults {
        let refused = running.update_gallery(stated, &[field]).await.expect_err(field);
        assert_eq!((refused.code(), common::fields(&refused)), (Code::InvalidArgument, format!("gallery.{field}")));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_is_refused_warned_of_or_let_in() {
    let Some(shared) = common::shared("duplicate_is_refused_warned_of_or_let_in") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery_with(gallery(Reject, Some(0.6))).await.expect("create").pack_id;
    let at = |cosine| vector(near(1, cosine), &pack_id);
    running.enroll("g", "ann", vec![at(1.0)]).await.expect("enrol");

    let refused = running.enroll("g", "bob", vec![at(0.61)]).await.expect_err("a duplicate");
    assert_eq!((refused.code(), common::reason(&refused).as_str()), (Code::AlreadyExists, "DUPLICATE_IDENTITY"));
    let facts = common::facts(&refused);
    assert_eq!((facts["identity_id"].as_str(), facts["cosine"].as_str(), facts.len()), ("ann", "0.6", 3));
    assert!((facts["score"].parse::<f32>().expect("a score") - 0.61).abs() < 1e-4);
    assert!(refused.message().contains("samples[0]: already enrolled as \"ann\" (score 0.61"), "{}", refused.message());
    assert_eq!(running.gallery("g").await.identity_count, 1);

    // Below the line, and of one's own identity, it is none; among others, they are enrolled.
    running.enroll("g", "ann", vec![at(1.0)]).await.expect("enrol");
    let reply = running.enroll("g", "bob", vec![at(0.61), at(0.59), at(0.9)]).await.expect("enrol");
    assert_eq!(reply.identity.expect("bob").templates.len(), 1);
    let finding = failure(&reply.results[0]).finding.clone().expect("a finding");
    assert_eq!(failure(&reply.results[0]).reason, "DUPLICATE_IDENTITY");
    assert_eq!((finding.kind(), finding.identity_id.as_str()), (proto::FindingKind::DuplicateIdentity, "ann"));
    assert!(finding.score >= 0.61 - 1e-4 && finding.cosine == 0.6);
    assert_eq!(failure(&reply.results[2]).reason, "DUPLICATE_IDENTITY");

    // The same samples again, under their ids, are known and not looked at.
    let sample = proto::Sample { source: Some(at(0.3)), template_id: "t".to_owned() };
    let request = proto::EnrollRequest {
        gallery_id: "g".to_owned(),
        identity_id: "bob".to_owned(),
        samples: vec![sample.clone(), proto::Sample { source: Some(at(0.9)), template_id: "u".to_owned() }],
        if_exists: proto::IfExists::Add.into(),
        ..Default::default()
    };
    for already_enrolled in [false, true] {
        let reply = running.enrollment().enroll(request.clone()).await.expect("enrol").into_inner();
        assert_eq!(reply.results[0].already_enrolled, already_enrolled);
        assert_eq!(failure(&reply.results[1]).reason, "DUPLICATE_IDENTITY");
    }

    running.update_gallery(gallery(Warn, Some(0.6)), &["duplicate_policy"]).await.expect("update");
    let reply = running.enroll("g", "cid", vec![at(0.99)]).await.expect("enrol");
    let warning = reply.results[0].warnings.first().expect("a warning");
    assert_eq!((warning.kind(), warning.identity_id.as_str()), (proto::FindingKind::DuplicateIdentity, "ann"));
    running.stop().await;

    let running = common::serve(&shared, data.path(), &[]).await;
    let kept = running.gallery("g").await;
    assert_eq!((kept.duplicate_policy(), kept.duplicate_cosine), (Warn, Some(0.6)));
    running.update_gallery(gallery(Off, None), &["duplicate_policy", "duplicate_cosine"]).await.expect("update");
    let reply = running.enroll("g", "dan", vec![at(1.0)]).await.expect("enrol");
    assert!(reply.results[0].warnings.is_empty());
    assert_eq!(running.gallery("g").await.duplicate_cosine, None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn line_is_the_gallerys_threshold_else_the_packs() {
    let Some(shared) = common::shared("line_is_the_gallerys_threshold_else_the_packs") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery_with(gallery(Reject, None)).await.expect("create").pack_id;
    running.enroll("g", "ann", vec![vector(near(1, 1.0), &pack_id)]).await.expect("enrol");
    let line = async || {
        let refused = running.enroll("g", "bob", vec![vector(near(1, 0.95), &pack_id)]).await.expect_err("a duplicate");
        common::facts(&refused)["cosine"].clone()
    };
    // The test pack states 0.4.
    assert_eq!(line().await, "0.4");
    let own = proto::Gallery { identification_cosine: Some(0.55), ..gallery(Reject, None) };
    running.update_gallery(own, &["identification_cosine"]).await.expect("update");
    assert_eq!(line().await, "0.55");
    running.update_gallery(gallery(Reject, Some(0.9)), &["duplicate_cosine"]).await.expect("update");
    assert_eq!(line().await, "0.9");

    // By a mean, it is the mean that others are held against.
    running.enroll("g", "ann", vec![vector(near(2, 1.0), &pack_id)]).await.expect("enrol");
    let mean = proto::Gallery { fusion: proto::Fusion::Mean.into(), ..gallery(Reject, Some(0.9)) };
    running.update_gallery(mean, &["fusion"]).await.expect("update");
    running.enroll("g", "bob", vec![vector(near(1, 0.95), &pack_id)]).await.expect("enrol");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn photo_of_an_enrolled_person_is_a_duplicate() {
    let Some(shared) = common::shared("photo_of_an_enrolled_person_is_a_duplicate") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery_with(gallery(Reject, None)).await.expect("create");
    let photo = |person: &str, number| {
        let data = common::lfw_photo(&shared, person, number);
        proto::sample::Source::Photo(proto::Photo { data })
    };
    for person in ["Ai_Sugiyama", "Abdoulaye_Wade", "Al_Sharpton"] {
        running.enroll("g", person, vec![photo(person, 1)]).await.expect("enrol");
    }
    let refused = running.enroll("g", "somebody", vec![photo("Ai_Sugiyama", 2)]).await.expect_err("a duplicate");
    assert_eq!(common::facts(&refused)["identity_id"], "Ai_Sugiyama");
    // The first sample's reason is the call's.
    let black = std::fs::read(shared.join("faces/hard/black.jpg")).expect("a photo");
    let faceless = proto::sample::Source::Photo(proto::Photo { data: black });
    let mixed = vec![faceless.clone(), photo("Ai_Sugiyama", 2)];
    assert_eq!(common::reason(&running.enroll("g", "somebody", mixed).await.expect_err("none")), "NO_FACE");
    let mixed = vec![photo("Ai_Sugiyama", 2), faceless];
    assert_eq!(common::reason(&running.enroll("g", "somebody", mixed).await.expect_err("none")), "DUPLICATE_IDENTITY");
    // Once the person is gone, so is the duplicate.
    let request = proto::DeleteIdentityRequest { gallery_id: "g".into(), identity_id: "Ai_Sugiyama".into() };
    running.enrollment().delete_identity(request).await.expect("delete");
    running.enroll("g", "somebody", vec![photo("Ai_Sugiyama", 2)]).await.expect("enrol");
    running.stop().await;
}

/// Calls at the same time share a group of the writer: the index does not have the first when the second is looked at.
#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_duplicates_one_is_enrolled() {
    let Some(shared) = common::shared("of_concurrent_duplicates_one_is_enrolled") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = Arc::new(common::serve(&shared, data.path(), &[]).await);
    let pack_id = running.create_gallery_with(gallery(Reject, Some(0.6))).await.expect("create").pack_id;
    for face in 0..40 {
        let mut calls = tokio::task::JoinSet::new();
        for twin in 0..6 {
            let (running, source) = (Arc::clone(&running), vector(near(face, 0.98), &pack_id));
            calls.spawn(async move { enroll_patiently(&running, &format!("face {face} as {twin}"), source).await });
        }
        let done = calls.join_all().await;
        let reasons: Vec<String> = done.iter().filter_map(|result| result.as_ref().err().map(common::reason)).collect();
        assert_eq!(reasons, ["DUPLICATE_IDENTITY"; 5], "face {face}");
    }
    assert_eq!(running.gallery("g").await.identity_count, 40);
    Arc::into_inner(running).expect("the last").stop().await;
}

async fn enroll_patiently(running: &Running, id: &str, source: proto::sample::Source) -> Result<(), tonic::Status> {
    loop {
        match running.enroll("g", id, vec![source.clone()]).await {
            Err(status) if status.code() == Code::ResourceExhausted => tokio::task::yield_now().await,
            result => return result.map(drop),
        }
    }
}
