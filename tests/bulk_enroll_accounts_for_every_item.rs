//! BulkEnroll: one result an item, the bad ones alone, and a summary that counts them all.

mod common;

use std::collections::BTreeMap;

use common::{Bulk, bulk_options, embedding_item, photo_item};
use facematch::contract::{self as proto};
use proto::BulkEnrollOutcome::{AlreadyEnrolled, Enrolled, Refused};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn faulty_stream_ends_with_its_status() {
    let Some(shared) = common::shared("faulty_stream_ends_with_its_status") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let faults = [
        (bulk_options("G"), Code::InvalidArgument, "options.gallery_id"),
        (bulk_options("absent"), Code::NotFound, ""),
        (proto::BulkEnrollOptions { if_exists: 9, ..bulk_options("g") }, Code::InvalidArgument, "options.if_exists"),
        (
            proto::BulkEnrollOptions { face_selection: proto::FaceSelection::All.into(), ..bulk_options("g") },
            Code::InvalidArgument,
            "options.face_selection",
        ),
    ];
    for (options, code, field) in faults {
        let refused = Bulk::open(running.enrollment(), options).await.all(Vec::new()).await.expect_err(field);
        assert_eq!((refused.code(), common::fields(&refused).as_str()), (code, field));
    }
    let item = proto::bulk_enroll_request::Message::Item(photo_item("k", "", Vec::new()));
    let first = proto::BulkEnrollRequest { message: Some(item) };
    let mut replies = running.enrollment().bulk_enroll(tokio_stream::once(first)).await.expect("a stream").into_inner();
    assert_eq!(common::fields(&replies.message().await.expect_err("refused")), "options");
    let mut replies = running.enrollment().bulk_enroll(tokio_stream::empty()).await.expect("a stream").into_inner();
    assert_eq!(common::reason(&replies.message().await.expect_err("refused")), "BAD_MESSAGE");
    // What is in hand is finished first.
    let bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    bulk.sender
        .send(Bulk::request(photo_item("k", "ai", common::lfw_photo(&shared, "Ai_Sugiyama", 1))))
        .await
        .expect("send");
    bulk.sender.send(proto::BulkEnrollRequest { message: None }).await.expect("send");
    let mut bulk = bulk;
    assert_eq!(bulk.result().await.expect("a result").expect("a result").outcome(), Enrolled);
    assert_eq!(common::fields(&bulk.result().await.expect_err("refused")), "item");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_item_has_its_result_and_the_summary_adds_up() {
    let Some(shared) = common::shared("every_item_has_its_result_and_the_summary_adds_up") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let gallery = proto::Gallery {
        gallery_id: "g".to_owned(),
        duplicate_policy: proto::CheckPolicy::Reject.into(),
        consistency_policy: proto::CheckPolicy::Reject.into(),
        quality_gate: Some(proto::QualityGate { sharpness_min: Some(0.1), ..Default::default() }),
        ..Default::default()
    };
    let pack_id = running.create_gallery_with(gallery).await.expect("create").pack_id;
    let lfw = |person: &str, number| common::lfw_photo(&shared, person, number);
    let hard = |name: &str| std::fs::read(shared.join("faces/hard").join(name)).expect("a photo");
    let blurred = image::load_from_memory(&lfw("Abdullah_Gul", 1)).expect("a photo").to_rgb8();
    let blurred = common::png(&image::imageops::blur(&blurred, 4.0));

    // Who is there already, so that the outcomes do not depend on who comes first.
    let before = vec![photo_item("1", "ai", lfw("Ai_Sugiyama", 1)), photo_item("1", "wade", lfw("Abdoulaye_Wade", 1))];
    let bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    let (results, summary) = bulk.all(before).await.expect("enrolled");
    assert!(results.iter().all(|result| result.outcome() == Enrolled && result.created));
    assert_eq!((summary.item_count, summary.enrolled_count), (2, 2));

    let metadata =
        [("age".to_owned(), proto::MetadataValue { value: Some(proto::metadata_value::Value::NumberValue(3.0)) })];
    let named = proto::BulkEnrollItem {
        display_name: "Al".to_owned(),
        metadata: metadata.into(),
        ..photo_item("al", "", lfw("Al_Sharpton", 1))
    };
    let expected: Vec<(proto::BulkEnrollItem, proto::BulkEnrollOutcome, &str)> = vec![
        (photo_item("2", "ai", lfw("Ai_Sugiyama", 2)), Enrolled, ""),
        (named, Enrolled, ""),
        (embedding_item("vector", 1, &pack_id), Enrolled, ""),
        (photo_item("1", "ai", lfw("Ai_Sugiyama", 1)), AlreadyEnrolled, ""),
        (photo_item("dup", "other", lfw("Ai_Sugiyama", 3)), Refused, "DUPLICATE_IDENTITY"),
        (photo_item("unlike", "wade", lfw("Abdullah", 1)), Refused, "UNLIKE_IDENTITY"),
        (photo_item("blurred", "gul", blurred), Refused, "QUALITY_TOO_LOW"),
        (photo_item("black", "x", hard("black.jpg")), Refused, "NO_FACE"),
        (photo_item("cut", "x", hard("trunc_50pct.jpg")), Refused, "PHOTO_TRUNCATED"),
        (photo_item("empty", "x", Vec::new()), Refused, "PHOTO_EMPTY"),
        (photo_item("", "x", lfw("Ai_Sugiyama", 1)), Refused, "BAD_FIELD"),
        (photo_item("name", "x\ny", lfw("Ai_Sugiyama", 1)), Refused, "BAD_FIELD"),
        (embedding_item("foreign", 2, &"0".repeat(32)), Refused, "PACK_MISMATCH"),
        (proto::BulkEnrollItem { idempotency_key: "nothing".into(), ..Default::default() }, Refused, "BAD_FIELD"),
    ];
    let items: Vec<_> = expected.iter().map(|(item, ..)| item.clone()).collect();
    let bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    let (results, summary) = bulk.all(items).await.expect("enrolled");
    let results: BTreeMap<String, _> =
        results.into_iter().map(|result| (result.idempotency_key.clone(), result)).collect();
    assert_eq!(results.len(), expected.len());
    for (item, outcome, reason) in &expected {
        let result = &results[&item.idempotency_key];
        let found = result.failure.as_ref().map_or("", |failure| failure.reason.as_str());
        assert_eq!((result.outcome(), found), (*outcome, *reason), "{}", item.idempotency_key);
    }
    let failure = |key: &str| results[key].failure.as_ref().expect("a failure");
    let finding = failure("dup").finding.as_ref().expect("a finding");
    assert!(finding.identity_id == "ai" && finding.score >= finding.cosine);
    assert!(failure("unlike").finding.as_ref().is_some_and(|finding| finding.score < finding.cosine));
    assert_eq!(failure("blurred").shortfalls[0].measure, "sharpness");
    assert_eq!(results["al"].identity_id, "al");
    assert!(results["2"].face_choice.as_ref().is_some_and(|choice| choice.chosen_index.is_some()));

    let counts = (summary.item_count, summary.enrolled_count, summary.already_enrolled_count, summary.refused_count);
    assert_eq!(counts, (14, 3, 1, 10));
    assert_eq!((summary.failed_count, summary.failure_to_acquire_count), (0, 4));
    assert_eq!(summary.reason_counts.values().sum::<u64>(), 10);
    assert_eq!(summary.reason_counts["BAD_FIELD"], 3);
    let request = proto::GetIdentityRequest { gallery_id: "g".into(), identity_id: "al".into(), ..Default::default() };
    let al = running.enrollment().get_identity(request).await.expect("get").into_inner().identity.expect("al");
    assert!(al.display_name == "Al" && al.metadata.len() == 1 && al.templates[0].template_id == "al");
    let gallery = running.gallery("g").await;
    assert_eq!((gallery.identity_count, gallery.template_count), (4, 5));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_that_exists_is_refused_where_the_stream_says_so() {
    let Some(shared) = common::shared("identity_that_exists_is_refused_where_the_stream_says_so") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let item = |key: &str, seed| proto::BulkEnrollItem {
        identity_id: "ann".to_owned(),
        ..embedding_item(key, seed, &pack_id)
    };
    let options = proto::BulkEnrollOptions { if_exists: proto::IfExists::Refuse.into(), ..bulk_options("g") };
    for expected in [Enrolled, AlreadyEnrolled] {
        let bulk = Bulk::open(running.enrollment(), options.clone()).await;
        let (results, _) = bulk.all(vec![item("a", 1)]).await.expect("enrolled");
        assert_eq!(results[0].outcome(), expected);
    }
    let bulk = Bulk::open(running.enrollment(), options).await;
    let (results, _) = bulk.all(vec![item("b", 2)]).await.expect("answered");
    assert_eq!(results[0].failure.as_ref().map(|failure| failure.reason.as_str()), Some("IDENTITY_EXISTS"));
    running.stop().await;
}
