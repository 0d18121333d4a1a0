//! A gallery's fusion rule: an identity scores by it everywhere, and changing it makes the rows anew while serving.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::Running;
use facematch::biometrics::template::dot;
use facematch::contract::probe::Probe;
use facematch::contract::{self as proto};
use tonic::Code;

const DIMENSION: usize = 512;

fn vector(values: Vec<f32>, pack_id: &str) -> proto::sample::Source {
    proto::sample::Source::Embedding(proto::Embedding { values, pack_id: pack_id.to_owned() })
}

fn with_fusion(fusion: proto::Fusion) -> proto::Gallery {
    proto::Gallery { gallery_id: "g".to_owned(), fusion: fusion.into(), ..Default::default() }
}

async fn set_fusion(running: &Running, fusion: proto::Fusion) {
    let updated = running.update_gallery(with_fusion(fusion), &["fusion"]).await.expect("update");
    assert_eq!(updated.fusion(), fusion);
}

async fn search(running: &Running, values: &[f32], pack_id: &str) -> Vec<proto::Candidate> {
    let probe = proto::Embedding { values: values.to_vec(), pack_id: pack_id.to_owned() };
    running.identify("g", Probe::Embedding(probe)).await.expect("identify").candidates
}

async fn verify(running: &Running, values: &[f32], pack_id: &str, identity_id: &str) -> f32 {
    use proto::verify_side::Side;
    let embedding = proto::Embedding { values: values.to_vec(), pack_id: pack_id.to_owned() };
    let identity = proto::IdentityReference { gallery_id: "g".to_owned(), identity_id: identity_id.to_owned() };
    let side = |side| Some(proto::VerifySide { side: Some(side) });
    let request = proto::VerifyRequest {
        a: side(Side::Embedding(embedding)),
        b: side(Side::Identity(identity)),
        ..Default::default()
    };
    running.faces().verify(request).await.expect("verify").into_inner().score
}

/// The score of a vector with itself, within the f32 rounding of its length.
fn is_itself(score: f32) -> bool {
    score > 0.999_999
}

/// The weighted mean, as the contract describes it.
fn mean(vectors: &[(Vec<f32>, f32)]) -> Vec<f32> {
    let at = |at: usize| vectors.iter().map(|(values, weight)| weight * values[at]).sum::<f32>();
    let sum: Vec<f32> = (0..DIMENSION).map(at).collect();
    let length = dot(&sum, &sum).sqrt();
    sum.into_iter().map(|value| value / length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fusion_is_named() {
    let Some(shared) = common::shared("unknown_fusion_is_named") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let gallery = proto::Gallery { fusion: 99, ..with_fusion(proto::Fusion::Max) };
    let refused = running.create_gallery_with(gallery).await.expect_err("refused");
    assert_eq!((refused.code(), common::fields(&refused).as_str()), (Code::InvalidArgument, "gallery.fusion"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_scores_by_the_rule_of_its_gallery() {
    let Some(shared) = common::shared("identity_scores_by_the_rule_of_its_gallery") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let [a, b, c] = [1, 2, 3].map(|seed| common::direction(DIMENSION, seed));
    let both = vec![vector(a.clone(), &pack_id), vector(b.clone(), &pack_id)];
    let templates = running.enroll("g", "ann", both).await.expect("enrol").identity.expect("ann").templates;
    let opposite: Vec<f32> = c.iter().map(|value| -value).collect();
    let torn = vec![vector(c.clone(), &pack_id), vector(opposite, &pack_id)];
    running.enroll("g", "cid", torn).await.expect("enrol");

    let by_best = search(&running, &a, &pack_id).await;
    assert_eq!(by_best[0].template_id, templates[0].template_id);
    assert!(is_itself(by_best[0].score));

    set_fusion(&running, proto::Fusion::Mean).await;
    let by_mean = search(&running, &a, &pack_id).await;
    let expected = dot(&a, &mean(&[(a.clone(), 1.0), (b.clone(), 1.0)]));
    assert_eq!((by_mean[0].identity_id.as_str(), by_mean[0].template_id.as_str()), ("ann", ""));
    // f32 rounding of 512 products.
    assert!((by_mean[0].score - expected).abs() < 1e-5 && expected < 0.8, "{} {expected}", by_mean[0].score);
    assert_eq!(verify(&running, &a, &pack_id, "ann").await, by_mean[0].score);
    let gallery = running.gallery("g").await;
    assert_eq!((gallery.identity_count, gallery.template_count), (2, 4));
    // Two opposite templates have no mean: the first stands for both.
    let torn = search(&running, &c, &pack_id).await;
    assert!(torn[0].identity_id == "cid" && is_itself(torn[0].score));

    // One template more, one less: the mean follows.
    running.enroll("g", "ann", vec![vector(c.clone(), &pack_id)]).await.expect("enrol");
    let expected = dot(&a, &mean(&[(a.clone(), 1.0), (b.clone(), 1.0), (c.clone(), 1.0)]));
    let with_three = search(&running, &a, &pack_id).await;
    assert!((with_three[0].score - expected).abs() < 1e-5);
    for template in &running_identity(&running, "ann").await.templates[1..] {
        let request = proto::DeleteTemplateRequest {
            gallery_id: "g".into(),
            identity_id: "ann".into(),
            template_id: template.template_id.clone(),
        };
        running.enrollment().delete_template(request).await.expect("delete");
    }
    assert!(is_itself(search(&running, &a, &pack_id).await[0].score));
    assert_eq!(running.gallery("g").await.template_count, 3);
    running.enroll("g", "ann", vec![vector(b.clone(), &pack_id)]).await.expect("enrol");
    running.stop().await;

    let running = common::serve(&shared, data.path(), &[]).await;
    assert_eq!(running.gallery("g").await.fusion(), proto::Fusion::Mean);
    assert_eq!(search(&running, &a, &pack_id).await[0].score, by_mean[0].score);
    set_fusion(&running, proto::Fusion::Max).await;
    assert_eq!(search(&running, &a, &pack_id).await[0], by_best[0]);
    assert!(is_itself(verify(&running, &b, &pack_id, "ann").await));
    running.stop().await;
}

async fn running_identity(running: &Running, identity_id: &str) -> proto::Identity {
    let request = proto::GetIdentityRequest {
        gallery_id: "g".to_owned(),
        identity_id: identity_id.to_owned(),
        include_embeddings: true,
    };
    running.enrollment().get_identity(request).await.expect("get").into_inner().identity.expect("the identity")
}

#[tokio::test(flavor = "multi_thread")]
async fn poor_photo_counts_less_in_a_quality_weighted_mean() {
    let Some(shared) = common::shared("poor_photo_counts_less_in_a_quality_weighted_mean") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let gallery = with_fusion(proto::Fusion::QualityWeightedMean);
    running.create_gallery_with(gallery).await.expect("create");
    let photo = |data| proto::sample::Source::Photo(proto::Photo { data });
    let good = common::lfw_photo(&shared, "Ai_Sugiyama", 1);
    let other = image::load_from_memory(&common::lfw_photo(&shared, "Ai_Sugiyama", 2)).expect("a photo").to_rgb8();
    let poor = common::png(&image::imageops::blur(&other, 4.0));
    running.enroll("g", "ai", vec![photo(good.clone()), photo(poor)]).await.expect("enrol");
    let weighted: Vec<(Vec<f32>, f32)> = running_identity(&running, "ai")
        .await
        .templates
        .into_iter()
        .map(|template| {
            let weight = template.face.and_then(|face| face.quality).expect("measures").weight;
            (template.embedding.expect("an embedding").values, weight)
        })
        .collect();
    assert!(weighted[1].1 < 0.4 * weighted[0].1, "{} {}", weighted[0].1, weighted[1].1);

    let probe = running.embed(good).await;
    let by_weight = search(&running, &probe.values, &probe.pack_id).await[0].score;
    assert!((by_weight - dot(&probe.values, &mean(&weighted))).abs() < 1e-5);
    set_fusion(&running, proto::Fusion::Mean).await;
    let by_mean = search(&running, &probe.values, &probe.pack_id).await[0].score;
    println!("weighted {by_weight}, unweighted {by_mean}");
    assert!(by_weight > by_mean + 0.01, "{by_weight} {by_mean}");
    running.stop().await;
}

/// Searches see the old rows or the new ones, and what is written while they are made is in them.
#[tokio::test(flavor = "multi_thread")]
async fn change_of_the_rule_loses_no_write_and_shows_no_mixture() {
    let Some(shared) = common::shared("change_of_the_rule_loses_no_write_and_shows_no_mixture") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = Arc::new(common::serve(&shared, data.path(), &[]).await);
    let gallery =
        proto::Gallery { search_policy: proto::SearchPolicy::Exact.into(), ..with_fusion(proto::Fusion::Max) };
    let pack_id = running.create_gallery_with(gallery).await.expect("create").pack_id;
    let person = async |running: &Running, number: u64, pack_id: &str| {
        let both = [2 * number, 2 * number + 1].map(|seed| vector(common::direction(DIMENSION, seed), pack_id));
        running.enroll("g", &format!("person {number}"), both.into()).await.expect("enrol");
    };
    for number in 0..100 {
        person(&running, number, &pack_id).await;
    }

    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..2 {
        let (running, pack_id) = (Arc::clone(&running), pack_id.clone());
        tasks.spawn(async move {
            for number in 0..60 {
                person(&running, 100 + 2 * number + part, &pack_id).await;
            }
        });
    }
    let (watched, stop, pack) = (Arc::clone(&running), Arc::clone(&done), pack_id.clone());
    let watcher = tokio::spawn(async move {
        let (mut seen, mut number) = ([0usize; 2], 0);
        while !stop.load(Ordering::Acquire) {
            number = (number + 1) % 100;
            let found = search(&watched, &common::direction(DIMENSION, 2 * number), &pack).await;
            let fused = found.iter().filter(|candidate| candidate.template_id.is_empty()).count();
            assert!(fused == 0 || fused == found.len(), "a mixture: {fused} of {}", found.len());
            assert_eq!(found[0].identity_id, format!("person {number}"));
            assert_eq!(found[0].score > 0.9, fused == 0);
            seen[usize::from(fused > 0)] += 1;
        }
        seen
    });
    for round in 0..10 {
        let fusion = if round % 2 == 0 { proto::Fusion::Mean } else { proto::Fusion::Max };
        set_fusion(&running, fusion).await;
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("a writer");
    }
    set_fusion(&running, proto::Fusion::Mean).await;
    done.store(true, Ordering::Release);
    println!("searches by max and by mean: {:?}", watcher.await.expect("the watcher"));

    let gallery = running.gallery("g").await;
    assert_eq!((gallery.identity_count, gallery.template_count), (220, 440));
    for number in 0..220 {
        let found = search(&running, &common::direction(DIMENSION, 2 * number), &pack_id).await;
        assert_eq!((found[0].identity_id.clone(), found[0].template_id.as_str()), (format!("person {number}"), ""));
    }
    let running = Arc::into_inner(running).expect("the last");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_is_made_anew_of_the_new_rows() {
    let Some(shared) = common::shared("graph_is_made_anew_of_the_new_rows") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let gallery =
        proto::Gallery { search_policy: proto::SearchPolicy::Graph.into(), ..with_fusion(proto::Fusion::Max) };
    let pack_id = running.create_gallery_with(gallery).await.expect("create").pack_id;
    for number in 0..20u64 {
        let both = [2 * number, 2 * number + 1].map(|seed| vector(common::direction(DIMENSION, seed), &pack_id));
        running.enroll("g", &format!("person {number}"), both.into()).await.expect("enrol");
    }
    for fusion in [proto::Fusion::Mean, proto::Fusion::Max] {
        running.wait_for_graph("g").await;
        set_fusion(&running, fusion).await;
        running.wait_for_graph("g").await;
        for number in 0..20u64 {
            let found = search(&running, &common::direction(DIMENSION, 2 * number), &pack_id).await;
            assert_eq!(found[0].identity_id, format!("person {number}"));
            assert_eq!(found[0].template_id.is_empty(), fusion == proto::Fusion::Mean);
        }
    }
    running.stop().await;
}
