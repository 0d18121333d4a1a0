//! Verify compares every kind of side with every other.

mod common;

use common::Running;
use facematch::contract::verify_side::Side;
use facematch::contract::{self as proto};
use tonic::Code;

async fn verify(running: &Running, a: Side, b: Side) -> Result<proto::VerifyResponse, tonic::Status> {
    let side = |side| Some(proto::VerifySide { side: Some(side) });
    let request = proto::VerifyRequest { a: side(a), b: side(b), ..Default::default() };
    running.faces().verify(request).await.map(tonic::Response::into_inner)
}

/// One photo of a person, enrolled and in every form that a side takes.
async fn sides(running: &Running, person: &str, photo: Vec<u8>) -> [Side; 4] {
    let source = proto::sample::Source::Photo(proto::Photo { data: photo.clone() });
    let enrolled = running.enroll("staff", person, vec![source]).await.expect("enrol").identity.expect("the identity");
    let (gallery_id, identity_id) = ("staff".to_owned(), person.to_owned());
    let template_id = enrolled.templates[0].template_id.clone();
    [
        Side::Embedding(running.embed(photo.clone()).await),
        Side::Photo(proto::Photo { data: photo }),
        Side::Template(proto::TemplateReference {
            gallery_id: gallery_id.clone(),
            identity_id: identity_id.clone(),
            template_id,
        }),
        Side::Identity(proto::IdentityReference { gallery_id, identity_id }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pairing_scores_the_same() {
    let Some(shared) = common::shared("every_pairing_scores_the_same") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("staff").await;
    let first = sides(&running, "first", common::lfw_photo(&shared, "Ai_Sugiyama", 1)).await;
    let second = sides(&running, "second", common::lfw_photo(&shared, "Ai_Sugiyama", 2)).await;
    let stranger = sides(&running, "stranger", common::lfw_photo(&shared, "Abdoulaye_Wade", 1)).await;
    for (others, expected) in [(second, proto::VerifyDecision::Match), (stranger, proto::VerifyDecision::NoMatch)] {
        let mut scores = Vec::new();
        for a in &first {
            for b in &others {
                let reply = verify(&running, a.clone(), b.clone()).await.expect("verify");
                assert_eq!(reply.decision(), expected);
                assert_eq!(reply.face_a.is_some(), matches!(a, Side::Photo(_)));
                assert_eq!(reply.face_b.is_some(), matches!(b, Side::Photo(_)));
                scores.push(reply.score);
            }
        }
        // An embedding from outside is scaled to unit length again: the last bit of an f32 may differ.
        let spread = scores.iter().copied().fold(f32::MIN, f32::max) - scores.iter().copied().fold(f32::MAX, f32::min);
        assert!(scores.len() == 16 && spread < 1e-6, "{scores:?}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_states_the_threshold_and_where_it_came_from() {
    let Some(shared) = common::shared("reply_states_the_threshold_and_where_it_came_from") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let a = running.embed(common::lfw_photo(&shared, "Ai_Sugiyama", 1)).await;
    let b = running.embed(common::lfw_photo(&shared, "Ai_Sugiyama", 2)).await;
    let ask = async |value: Option<proto::operating_point::Value>| {
        let side =
            |embedding: &proto::Embedding| Some(proto::VerifySide { side: Some(Side::Embedding(embedding.clone())) });
        let operating_point = value.map(|value| proto::OperatingPoint { value: Some(value) });
        let request = proto::VerifyRequest { a: side(&a), b: side(&b), operating_point, ..Default::default() };
        running.faces().verify(request).await.map(tonic::Response::into_inner)
    };
    use proto::operating_point::Value;
    let by_pack = ask(None).await.expect("verify");
    let threshold = by_pack.threshold.expect("a threshold");
    assert_eq!((threshold.cosine, threshold.source()), (0.26, proto::ThresholdSource::Pack));

    // Inclusive: the score itself is a threshold that matches, the next number above is not.
    let at = ask(Some(Value::Cosine(by_pack.score))).await.expect("verify");
    assert_eq!(at.decision(), proto::VerifyDecision::Match);
    assert_eq!(at.threshold.expect("a threshold").source(), proto::ThresholdSource::Request);
    let above = ask(Some(Value::Cosine(by_pack.score.next_up()))).await.expect("verify");
    assert_eq!(above.decision(), proto::VerifyDecision::NoMatch);

    let fmr = ask(Some(Value::Fmr(0.001))).await.expect_err("no curve");
    assert_eq!((fmr.code(), common::reason(&fmr).as_str()), (Code::FailedPrecondition, "NO_CALIBRATION_CURVE"));
    assert!(fmr.message().contains("3000"), "{}", fmr.message());
    let fpir = ask(Some(Value::Fpir(0.001))).await.expect_err("a rate of searches");
    assert_eq!(fpir.code(), Code::InvalidArgument);
    running.stop().await;
}
