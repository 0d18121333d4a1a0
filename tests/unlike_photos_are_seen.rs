//! A gallery's policy on consistency: a photo that does not look like its identity's others is refused or warned of.

mod common;

use facematch::contract::{self as proto};
use proto::CheckPolicy::{Off, Reject, Warn};
use tonic::Code;

fn gallery(policy: proto::CheckPolicy, cosine: Option<f32>) -> proto::Gallery {
    proto::Gallery {
        gallery_id: "g".to_owned(),
        consistency_policy: policy.into(),
        consistency_cosine: cosine,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn photo_of_somebody_else_is_refused_warned_of_or_let_in() {
    let Some(shared) = common::shared("photo_of_somebody_else_is_refused_warned_of_or_let_in") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery_with(gallery(Reject, None)).await.expect("create");
    let photo = |person: &str, number| {
        let data = common::lfw_photo(&shared, person, number);
        proto::sample::Source::Photo(proto::Photo { data })
    };
    // The first photo has nothing to be unlike of; the third is held against the two before it in the same call.
    let samples = vec![photo("Ai_Sugiyama", 1), photo("Ai_Sugiyama", 2), photo("Abdoulaye_Wade", 1)];
    let reply = running.enroll("g", "ai", samples).await.expect("enrol");
    assert_eq!(reply.identity.expect("ai").templates.len(), 2);
    let Some(proto::sample_result::Outcome::Failure(failure)) = &reply.results[2].outcome else { panic!("enrolled") };
    let finding = failure.finding.as_ref().expect("a finding");
    assert_eq!((failure.reason.as_str(), finding.identity_id.as_str()), ("UNLIKE_IDENTITY", ""));
    assert_eq!(finding.kind(), proto::FindingKind::UnlikeIdentity);
    // The test pack's verification threshold.
    assert!(finding.score < 0.26 && finding.cosine == 0.26);

    let refused = running.enroll("g", "ai", vec![photo("Al_Sharpton", 1)]).await.expect_err("unlike");
    assert_eq!((refused.code(), common::reason(&refused).as_str()), (Code::FailedPrecondition, "UNLIKE_IDENTITY"));
    let facts = common::facts(&refused);
    assert!(facts["cosine"] == "0.26" && facts["score"].parse::<f32>().is_ok() && facts.len() == 2);
    assert!(refused.message().contains("does not look like this identity's other photos"), "{}", refused.message());
    running.enroll("g", "ai", vec![photo("Ai_Sugiyama", 3)]).await.expect("enrol");

    running.update_gallery(gallery(Warn, Some(0.9)), &["consistency_policy", "consistency_cosine"]).await.expect("set");
    let reply = running.enroll("g", "ai", vec![photo("Al_Sharpton", 1)]).await.expect("enrol");
    let warning = reply.results[0].warnings.first().expect("a warning");
    assert_eq!((warning.kind(), warning.cosine), (proto::FindingKind::UnlikeIdentity, 0.9));
    assert_eq!(reply.identity.expect("ai").templates.len(), 4);
    running.stop().await;

    let running = common::serve(&shared, data.path(), &[]).await;
    let kept = running.gallery("g").await;
    assert_eq!((kept.consistency_policy(), kept.consistency_cosine), (Warn, Some(0.9)));
    running.update_gallery(gallery(Off, None), &["consistency_policy"]).await.expect("update");
    let reply = running.enroll("g", "ai", vec![photo("Abdoulaye_Wade", 2)]).await.expect("enrol");
    assert!(reply.results[0].warnings.is_empty());
    running.stop().await;
}

/// Both policies at once: what is refused says why, and what the other policy warns of.
#[tokio::test(flavor = "multi_thread")]
async fn photo_under_the_wrong_name_is_found_twice() {
    let Some(shared) = common::shared("photo_under_the_wrong_name_is_found_twice") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let both = proto::Gallery { duplicate_policy: Warn.into(), ..gallery(Reject, None) };
    running.create_gallery_with(both).await.expect("create");
    let photo = |person: &str, number| {
        let data = common::lfw_photo(&shared, person, number);
        proto::sample::Source::Photo(proto::Photo { data })
    };
    running.enroll("g", "ai", vec![photo("Ai_Sugiyama", 1)]).await.expect("enrol");
    let reply = running.enroll("g", "al", vec![photo("Al_Sharpton", 1), photo("Ai_Sugiyama", 2)]).await.expect("enrol");
    let Some(proto::sample_result::Outcome::Failure(failure)) = &reply.results[1].outcome else { panic!("enrolled") };
    assert_eq!(failure.reason, "UNLIKE_IDENTITY");
    assert_eq!(reply.results[1].warnings.first().map(|warning| warning.identity_id.as_str()), Some("ai"));
    running.stop().await;
}
