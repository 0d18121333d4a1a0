//! What was acknowledged is there after a restart; what was deleted is not; a write is seen by the next call.

mod common;

use common::Running;
use facematch::contract::probe::Probe;
use facematch::contract::{self as proto};
use proto::IdentifyDecision::{Match, NoMatch};
use tonic::Code;

fn embedding(seed: u64, pack_id: &str) -> proto::Embedding {
    proto::Embedding { values: common::direction(512, seed), pack_id: pack_id.to_owned() }
}

fn sample(seed: u64, pack_id: &str) -> proto::sample::Source {
    proto::sample::Source::Embedding(embedding(seed, pack_id))
}

async fn best(running: &Running, seed: u64, pack_id: &str) -> (proto::IdentifyDecision, Option<String>) {
    let reply = running.identify("g", Probe::Embedding(embedding(seed, pack_id))).await.expect("identify");
    let decision = reply.decision();
    (decision, reply.candidates.into_iter().next().map(|candidate| candidate.identity_id))
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_brings_everything_back() {
    let Some(shared) = common::shared("restart_brings_everything_back") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let settings = proto::Gallery {
        gallery_id: "g".to_owned(),
        display_name: "A gallery".to_owned(),
        search_policy: proto::SearchPolicy::Graph.into(),
        ambiguity_margin: Some(0.1),
        identification_cosine: Some(0.45),
        ..Default::default()
    };
    let request = proto::CreateGalleryRequest { gallery: Some(settings) };
    running.galleries().create_gallery(request).await.expect("create");
    let pack_id = gallery(&running).await.pack_id;
    let value = |value| proto::MetadataValue { value: Some(value) };
    use proto::metadata_value::Value;
    let request = proto::EnrollRequest {
        gallery_id: "g".to_owned(),
        identity_id: "ann".to_owned(),
        display_name: "Ann Ünïcode".to_owned(),
        metadata: [
            ("badge".to_owned(), value(Value::StringValue("7".to_owned()))),
            ("age".to_owned(), value(Value::NumberValue(41.5))),
            ("guest".to_owned(), value(Value::BoolValue(false))),
            ("since".to_owned(), value(Value::TimeValue(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }))),
        ]
        .into(),
        samples: vec![
            proto::Sample {
                source: Some(proto::sample::Source::Photo(proto::Photo {
                    data: common::lfw_photo(&shared, "Ai_Sugiyama", 1),
                })),
                template_id: "photo".to_owned(),
            },
            proto::Sample { source: Some(sample(1, &pack_id)), template_id: "vector".to_owned() },
        ],
        ..Default::default()
    };
    running.enrollment().enroll(request).await.expect("enrol");
    running.enroll("g", "bob", vec![sample(2, &pack_id)]).await.expect("enrol");
    let (gallery_before, ann_before) = (gallery(&running).await, identity(&running, "ann").await.expect("ann"));
    running.stop().await;

    let running = common::serve(&shared, data.path(), &[]).await;
    assert!(gallery(&running).await == gallery_before && gallery_before.template_count == 3);
    assert!(identity(&running, "ann").await.expect("ann") == ann_before);
    assert!(ann_before.templates[0].face.is_some() && ann_before.templates[1].face.is_none());
    assert_eq!(best(&running, 1, &pack_id).await, (Match, Some("ann".to_owned())));
    assert_eq!(best(&running, 2, &pack_id).await, (Match, Some("bob".to_owned())));
    assert_eq!(best(&running, 3, &pack_id).await.0, NoMatch);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn write_is_seen_by_the_next_call_and_deletion_is_in_force() {
    let Some(shared) = common::shared("write_is_seen_by_the_next_call_and_deletion_is_in_force") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    for seed in 0..50 {
        let name = format!("person {seed}");
        running.enroll("g", &name, vec![sample(seed, &pack_id), sample(1_000 + seed, &pack_id)]).await.expect("enrol");
        assert_eq!(best(&running, seed, &pack_id).await, (Match, Some(name.clone())));
        // One template goes: only the other is still theirs.
        let template_id = identity(&running, &name).await.expect("there").templates[0].template_id.clone();
        let gallery_id = "g".to_owned();
        let identity_id = name.clone();
        let request = proto::DeleteTemplateRequest { gallery_id, identity_id, template_id: template_id.clone() };
        running.enrollment().delete_template(request.clone()).await.expect("delete a template");
        assert_eq!(best(&running, seed, &pack_id).await.0, NoMatch);
        assert_eq!(best(&running, 1_000 + seed, &pack_id).await, (Match, Some(name.clone())));
        let again = running.enrollment().delete_template(request).await.expect_err("gone");
        assert_eq!((again.code(), common::reason(&again).as_str()), (Code::NotFound, "TEMPLATE_NOT_FOUND"));
        // The person goes.
        let request = proto::DeleteIdentityRequest { gallery_id: "g".to_owned(), identity_id: name.clone() };
        let deleted = running.enrollment().delete_identity(request).await.expect("delete").into_inner();
        assert!(deleted.sequence > 0 && deleted.delete_time.is_some());
        assert_eq!(best(&running, 1_000 + seed, &pack_id).await.0, NoMatch);
        assert_eq!(identity(&running, &name).await.expect_err("gone").code(), Code::NotFound);
    }
    running.stop().await;
    let running = common::serve(&shared, data.path(), &[]).await;
    assert_eq!(gallery(&running).await.identity_count, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_gallery_is_gone_and_its_name_is_free() {
    let Some(shared) = common::shared("deleted_gallery_is_gone_and_its_name_is_free") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    running.enroll("g", "ann", vec![sample(1, &pack_id)]).await.expect("enrol");
    let delete = |force| proto::DeleteGalleryRequest { gallery_id: "g".to_owned(), force };
    let refused = running.galleries().delete_gallery(delete(false)).await.expect_err("not empty");
    assert_eq!((refused.code(), common::reason(&refused).as_str()), (Code::FailedPrecondition, "GALLERY_NOT_EMPTY"));
    running.galleries().delete_gallery(delete(true)).await.expect("delete");
    let gone = running.identify("g", Probe::Embedding(embedding(1, &pack_id))).await.expect_err("gone");
    assert_eq!((gone.code(), common::reason(&gone).as_str()), (Code::NotFound, "GALLERY_NOT_FOUND"));

    running.create_gallery("g").await;
    assert_eq!(best(&running, 1, &pack_id).await, (NoMatch, None));
    running.stop().await;
    let running = common::serve(&shared, data.path(), &[]).await;
    assert_eq!(best(&running, 1, &pack_id).await, (NoMatch, None));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_lose_nothing() {
    let Some(shared) = common::shared("concurrent_writers_lose_nothing") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    // 160 templates of 20 people, all at once: every person is written by eight calls.
    let mut calls = tokio::task::JoinSet::new();
    for seed in 0..160u64 {
        let (mut client, source) = (running.enrollment(), sample(seed, &pack_id));
        calls.spawn(async move {
            let request = proto::EnrollRequest {
                gallery_id: "g".to_owned(),
                identity_id: format!("person {}", seed % 20),
                samples: vec![proto::Sample { source: Some(source), template_id: format!("t{seed}") }],
                if_exists: proto::IfExists::Add.into(),
                ..Default::default()
            };
            loop {
                match client.enroll(request.clone()).await {
                    Ok(_) => return,
                    Err(status) if status.code() == Code::ResourceExhausted => tokio::task::yield_now().await,
                    Err(status) => panic!("{status}"),
                }
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("a call");
    }
    let check = async |running: &Running| {
        let gallery = gallery(running).await;
        assert_eq!((gallery.identity_count, gallery.template_count), (20, 160));
        for seed in 0..160 {
            assert_eq!(best(running, seed, &pack_id).await, (Match, Some(format!("person {}", seed % 20))));
        }
    };
    check(&running).await;
    running.stop().await;
    let running = common::serve(&shared, data.path(), &[]).await;
    check(&running).await;
    running.stop().await;
}

/// Enrolling the same samples again changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_enrolment_enrols_nothing_twice() {
    let Some(shared) = common::shared("repeated_enrolment_enrols_nothing_twice") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let request = proto::EnrollRequest {
        gallery_id: "g".to_owned(),
        identity_id: "ann".to_owned(),
        display_name: "Ann".to_owned(),
        samples: vec![proto::Sample { source: Some(sample(1, &pack_id)), template_id: "one".to_owned() }],
        if_exists: proto::IfExists::Add.into(),
        ..Default::default()
    };
    let first = running.enrollment().enroll(request.clone()).await.expect("enrol").into_inner();
    assert!(first.created && !first.results[0].already_enrolled);
    let again = running.enrollment().enroll(request.clone()).await.expect("enrol").into_inner();
    assert!(!again.created && again.results[0].already_enrolled);
    assert_eq!(gallery(&running).await.template_count, 1);
    let refuse = proto::EnrollRequest { if_exists: proto::IfExists::Refuse.into(), ..request };
    let refused = running.enrollment().enroll(refuse).await.expect_err("exists");
    assert_eq!((refused.code(), common::reason(&refused).as_str()), (Code::AlreadyExists, "IDENTITY_EXISTS"));
    running.stop().await;
}

/// The gallery as it is kept; how it is searched at the moment is not.
async fn gallery(running: &Running) -> proto::Gallery {
    let request = proto::GetGalleryRequest { gallery_id: "g".to_owned() };
    let gallery = running.galleries().get_gallery(request).await.expect("get").into_inner().gallery;
    let gallery = gallery.expect("the gallery");
    proto::Gallery { search_path: 0, graph_build_progress: None, graph_recall: None, ..gallery }
}

async fn identity(running: &Running, id: &str) -> Result<proto::Identity, tonic::Status> {
    let request =
        proto::GetIdentityRequest { gallery_id: "g".to_owned(), identity_id: id.to_owned(), include_embeddings: true };
    Ok(running.enrollment().get_identity(request).await?.into_inner().identity.expect("the identity"))
}
