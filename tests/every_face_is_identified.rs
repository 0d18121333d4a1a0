//! Identify with every face: an answer for each face of a photo, and nobody named for two of them where that is asked.

mod common;

use std::collections::BTreeMap;

use common::Running;
use facematch::contract::{self as proto};
use image::GenericImage;
use proto::IdentifyDecision::{Match, NoMatch, NotSearchable, Unspecified};
use tonic::{Code, Status};

/// Photos side by side, as large as LFW's.
fn side_by_side(photos: &[Vec<u8>]) -> Vec<u8> {
    let mut picture = image::RgbImage::new(250 * photos.len() as u32, 250);
    for (place, photo) in photos.iter().enumerate() {
        let photo = image::load_from_memory(photo).expect("a photo").to_rgb8();
        picture.copy_from(&photo, 250 * place as u32, 0).expect("it fits");
    }
    common::png(&picture)
}

async fn identify(running: &Running, data: Vec<u8>, once: bool) -> Result<proto::IdentifyResponse, Status> {
    let request = proto::IdentifyRequest {
        gallery_id: "g".to_owned(),
        probe: Some(proto::Probe { probe: Some(proto::probe::Probe::Photo(proto::Photo { data })) }),
        face_selection: proto::FaceSelection::All.into(),
        each_identity_once: once,
        top_k: 2,
        ..Default::default()
    };
    running.matching().identify(request).await.map(tonic::Response::into_inner)
}

/// The answer for the face in the middle of each photo that stands side by side with others.
fn by_place(reply: &proto::IdentifyResponse) -> BTreeMap<u32, &proto::FaceAnswer> {
    let faces = &reply.face_choice.as_ref().expect("faces").faces;
    assert_eq!(reply.face_answers.len(), faces.len(), "one a face");
    let mut places = BTreeMap::new();
    for (index, (answer, face)) in reply.face_answers.iter().zip(faces).enumerate() {
        assert_eq!(answer.face_index as usize, index);
        let corners = face.r#box.expect("a box");
        let middle = (corners.x_min_px + corners.x_max_px) / 2.0;
        if (middle % 250.0 - 125.0).abs() < 20.0 {
            places.insert((middle / 250.0) as u32, answer);
        }
    }
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn every_face_has_its_answer_and_a_name_is_given_once_where_asked() {
    let Some(shared) = common::shared("every_face_has_its_answer_and_a_name_is_given_once_where_asked") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let lfw = |person: &str, number| common::lfw_photo(&shared, person, number);
    for person in ["Ai_Sugiyama", "Abdoulaye_Wade"] {
        let source = proto::sample::Source::Photo(proto::Photo { data: lfw(person, 1) });
        running.enroll("g", person, vec![source]).await.expect("enrol");
    }
    let photos = [lfw("Ai_Sugiyama", 2), lfw("Abdullah_Gul", 1), lfw("Abdoulaye_Wade", 2), lfw("Ai_Sugiyama", 3)];
    let picture = side_by_side(&photos);

    let reply = identify(&running, picture.clone(), false).await.expect("identified");
    assert_eq!((reply.decision(), reply.candidates.len(), reply.identity_count), (Unspecified, 0, 2));
    assert!(reply.face_choice.as_ref().is_some_and(|choice| choice.chosen_index.is_none()));
    let places = by_place(&reply);
    let named = |places: &BTreeMap<u32, &proto::FaceAnswer>| -> Vec<(proto::IdentifyDecision, String)> {
        let best = |answer: &&proto::FaceAnswer| {
            let best = answer.candidates.first().filter(|best| best.matches);
            (answer.decision(), best.map(|best| best.identity_id.clone()).unwrap_or_default())
        };
        places.values().map(best).collect()
    };
    let ai = (Match, "Ai_Sugiyama".to_owned());
    let (nobody, wade) = ((NoMatch, String::new()), (Match, "Abdoulaye_Wade".to_owned()));
    assert_eq!(named(&places), [ai.clone(), nobody.clone(), wade.clone(), ai.clone()]);
    // Each as a search for that face alone.
    for (place, photo) in photos.iter().enumerate() {
        let probe = proto::probe::Probe::Photo(proto::Photo { data: photo.clone() });
        let alone = running.identify("g", probe).await.expect("identified");
        let (alone, here) = (&alone.candidates[0], &places[&(place as u32)].candidates[0]);
        assert_eq!(alone.identity_id, here.identity_id);
        assert!((alone.score - here.score).abs() < 0.1, "{} {}: another scale", alone.score, here.score);
    }

    // Once: the better of her two faces keeps her name; for the other she is no candidate.
    let once = identify(&running, picture, true).await.expect("identified");
    let score = |answer: &proto::FaceAnswer| answer.candidates[0].score;
    let (keeps, loses) = if score(places[&0]) > score(places[&3]) { (0, 3) } else { (3, 0) };
    let once = by_place(&once);
    let expected: Vec<_> = (0..4)
        .map(|place| match place {
            1 => nobody.clone(),
            2 => wade.clone(),
            place if place == keeps => ai.clone(),
            _ => nobody.clone(),
        })
        .collect();
    assert_eq!(named(&once), expected);
    assert!(once[&loses].candidates.iter().all(|candidate| candidate.identity_id != "Ai_Sugiyama"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn photo_without_a_face_and_a_wrong_rule_are_told() {
    let Some(shared) = common::shared("photo_without_a_face_and_a_wrong_rule_are_told") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let black = std::fs::read(shared.join("faces/hard/black.jpg")).expect("a photo");
    let reply = identify(&running, black, true).await.expect("an answer");
    assert_eq!((reply.decision(), reply.not_searchable_reason.as_str()), (NotSearchable, "NO_FACE"));
    assert!(reply.face_answers.is_empty());
    let request = proto::IdentifyRequest { gallery_id: "g".to_owned(), each_identity_once: true, ..Default::default() };
    let refused = running.matching().identify(request).await.expect_err("refused");
    assert_eq!((refused.code(), common::fields(&refused).as_str()), (Code::InvalidArgument, "each_identity_once"));
    running.stop().await;
}
