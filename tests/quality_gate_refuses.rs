//! A gallery's quality gate: what falls short is refused, with each measured value and its limit.

mod common;

use facematch::contract::{self as proto};
use tonic::Code;

fn gallery(quality_gate: proto::QualityGate) -> proto::Gallery {
    proto::Gallery { gallery_id: "g".to_owned(), quality_gate: Some(quality_gate), ..Default::default() }
}

fn photo(data: Vec<u8>) -> proto::sample::Source {
    proto::sample::Source::Photo(proto::Photo { data })
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_out_of_range_is_named() {
    let Some(shared) = common::shared("limit_out_of_range_is_named") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let gates = [
        (proto::QualityGate { sharpness_min: Some(1.5), ..Default::default() }, "sharpness_min"),
        (proto::QualityGate { yaw_degrees_max: Some(-1.0), ..Default::default() }, "yaw_degrees_max"),
        (proto::QualityGate { eye_distance_px_min: Some(f32::NAN), ..Default::default() }, "eye_distance_px_min"),
        (
            proto::QualityGate { brightness_min: Some(0.8), brightness_max: Some(0.2), ..Default::default() },
            "brightness_min",
        ),
    ];
    for (gate, field) in gates {
        let other = proto::Gallery { gallery_id: "other".to_owned(), ..gallery(gate) };
        for refused in [
            running.create_gallery_with(other).await.expect_err(field),
            running.update_gallery(gallery(gate), &["quality_gate"]).await.expect_err(field),
        ] {
            assert_eq!((refused.code(), common::reason(&refused).as_str()), (Code::InvalidArgument, "BAD_FIELD"));
            assert_eq!(common::fields(&refused), format!("gallery.quality_gate.{field}"));
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn photo_that_falls_short_is_refused_with_its_values() {
    let Some(shared) = common::shared("photo_that_falls_short_is_refused_with_its_values") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let gate = proto::QualityGate {
        sharpness_min: Some(0.2),
        brightness_min: Some(0.3),
        face_side_px_min: Some(40.0),
        yaw_degrees_max: Some(60.0),
        ..Default::default()
    };
    let created = running.create_gallery_with(gallery(gate)).await.expect("create");
    assert!(created.quality_gate == Some(gate));
    let good = common::lfw_photo(&shared, "Ai_Sugiyama", 1);
    let mut bad = image::load_from_memory(&good).expect("a photo").to_rgb8();
    bad = image::imageops::blur(&bad, 3.0);
    bad.iter_mut().for_each(|level| *level = (f32::from(*level) * 0.4) as u8);
    let bad = common::png(&bad);

    // Alone: the call fails, and says by how much.
    let refused = running.enroll("g", "ai", vec![photo(bad.clone())]).await.expect_err("refused");
    assert_eq!((refused.code(), common::reason(&refused).as_str()), (Code::InvalidArgument, "QUALITY_TOO_LOW"));
    assert_eq!(common::fields(&refused), "samples[0]");
    let facts = common::facts(&refused);
    let fact = |name: &str| facts.get(name).and_then(|text| text.parse::<f32>().ok()).unwrap_or(f32::NAN);
    assert_eq!((fact("sharpness_min"), fact("brightness_min"), facts.len()), (0.2, 0.3, 4));
    assert!(fact("sharpness") < 0.15 && (0.1..0.3).contains(&fact("brightness")), "{facts:?}");
    assert!(refused.message().contains("sharpness is 0."), "{}", refused.message());
    assert_eq!(running.gallery("g").await.identity_count, 0);

    // Among others: they are enrolled, and the reply has what was measured.
    let reply = running.enroll("g", "ai", vec![photo(bad.clone()), photo(good)]).await.expect("enrol");
    let Some(proto::sample_result::Outcome::Failure(failure)) = &reply.results[0].outcome else { panic!("refused") };
    assert_eq!(failure.reason, "QUALITY_TOO_LOW");
    let told: Vec<_> = failure.shortfalls.iter().map(|short| (short.measure.as_str(), short.limit)).collect();
    assert_eq!(told, [("sharpness", 0.2), ("brightness", 0.3)]);
    let choice = reply.results[0].face_choice.as_ref().expect("the faces");
    let measured = choice.faces[choice.chosen_index.expect("a face") as usize].quality.expect("measures");
    assert_eq!(failure.shortfalls[0].value, measured.sharpness);
    assert_eq!(failure.shortfalls[1].limit_name, "brightness_min");
    let identity = reply.identity.expect("the identity");
    assert_eq!(identity.templates.len(), 1);
    let kept = identity.templates[0].face.as_ref().and_then(|face| face.quality).expect("measures");
    assert!(kept.sharpness > 0.2 && kept.brightness > 0.3);

    // What was not measured is not refused.
    let embedding = running.embed(bad.clone()).await;
    running.enroll("g", "ai", vec![proto::sample::Source::Embedding(embedding)]).await.expect("enrol");
    running.stop().await;

    // The gate and the measures are kept; without a gate the photo is good enough.
    let running = common::serve(&shared, data.path(), &[]).await;
    assert!(running.gallery("g").await.quality_gate == Some(gate));
    let request = proto::GetIdentityRequest { gallery_id: "g".into(), identity_id: "ai".into(), ..Default::default() };
    let again = running.enrollment().get_identity(request).await.expect("get").into_inner().identity.expect("ai");
    assert!(again.templates[0].face.as_ref().and_then(|face| face.quality) == Some(kept));
    assert_eq!(running.enroll("g", "ai", vec![photo(bad.clone())]).await.expect_err("refused").code(), refused.code());
    let plain = proto::Gallery { gallery_id: "g".to_owned(), ..Default::default() };
    let updated = running.update_gallery(plain, &["quality_gate"]).await.expect("update");
    assert!(updated.quality_gate.is_none());
    running.enroll("g", "ai", vec![photo(bad)]).await.expect("enrol");
    running.stop().await;
}
