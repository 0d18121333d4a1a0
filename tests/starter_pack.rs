//! The starter pack and the samples, both of this repository, are enough: detection, templates, verification, enrolment,
//! searches, deletion and a restart, with no other file.

mod common;

use std::path::Path;

use common::{Bulk, Running, bulk_options, photo_item, samples};
use facematch::contract::probe::Probe;
use facematch::contract::{self as proto};
use proto::IdentifyDecision::{Match, NoMatch};
use proto::VerifyDecision;
use tonic::Code;

/// Where the samples part. They are blends of many people, so that they look more alike than people do to the starter pack, and
/// its own thresholds, which are of people, are too low for them.
const COSINE: f32 = 0.6;

/// In group pictures, whose small faces score lower.
const GROUP_COSINE: f32 = 0.42;

fn at_cosine() -> Option<proto::OperatingPoint> {
    Some(proto::OperatingPoint { value: Some(proto::operating_point::Value::Cosine(COSINE)) })
}

/// A gallery whose threshold is of the samples.
async fn create(running: &Running, cosine: f32) {
    let gallery = proto::Gallery {
        gallery_id: "g".to_owned(),
        identification_cosine: Some(cosine),
        ambiguity_margin: Some(0.0),
        ..Default::default()
    };
    running.create_gallery_with(gallery).await.expect("create a gallery");
}

/// The photo of each person that is not enrolled.
const PROBE: usize = samples::PHOTOS;

async fn serve(data: &Path) -> Running {
    common::serve_plain_pack(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter"), data).await
}

fn photo(name: &str, number: usize) -> proto::Photo {
    proto::Photo { data: samples::photo(name, number) }
}

async fn everybody(running: &Running) -> (Vec<String>, proto::BulkEnrollSummary) {
    let people = samples::people();
    let items = people.iter().flat_map(|name| {
        (1..PROBE).map(move |number| photo_item(&format!("{name}/{number}"), name, samples::photo(name, number)))
    });
    let bulk = Bulk::open(running.enrollment(), bulk_options("g")).await;
    let (_, summary) = bulk.all(items.collect()).await.expect("enrolled");
    (people, summary)
}

/// Whom the gallery takes the person of a photo for.
async fn named(running: &Running, probe: Probe) -> Option<String> {
    let reply = running.identify("g", probe).await.expect("an answer");
    match reply.decision() {
        Match => Some(reply.candidates[0].identity_id.clone()),
        NoMatch => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_has_its_faces() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    let detect = async |photo| {
        let request = proto::DetectRequest { photo: Some(photo), ..Default::default() };
        running.faces().detect(request).await.expect("detected").into_inner().faces
    };
    for name in [samples::people(), samples::strangers()].concat() {
        for number in 1..=samples::PHOTOS {
            assert_eq!(detect(photo(&name, number)).await.len(), 1, "faces in photo {number} of {name}");
        }
    }
    for (picture, names) in samples::groups() {
        let faces = detect(proto::Photo { data: samples::group(&picture) }).await;
        assert_eq!(faces.len(), names.len(), "faces in group picture {picture}");
        assert!(faces.iter().all(|face| face.landmarks.len() == 5));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pair_matches_if_it_shows_one_person() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    let verify = async |a, b| {
        let side = |photo| Some(proto::VerifySide { side: Some(proto::verify_side::Side::Photo(photo)) });
        let request =
            proto::VerifyRequest { a: side(a), b: side(b), operating_point: at_cosine(), ..Default::default() };
        let reply = running.faces().verify(request).await.expect("verified").into_inner();
        (reply.decision(), reply.score)
    };
    let people = [samples::people(), samples::strangers()].concat();
    for (name, other) in people.iter().zip(people.iter().cycle().skip(1)) {
        let (mated, non_mated) =
            (verify(photo(name, 1), photo(name, PROBE)).await, verify(photo(name, 2), photo(other, 2)).await);
        assert_eq!(mated.0, VerifyDecision::Match, "{name}: {}", mated.1);
        assert_eq!(non_mated.0, VerifyDecision::NoMatch, "{name}, {other}: {}", non_mated.1);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolled_people_are_found_and_strangers_are_not() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    create(&running, COSINE).await;
    // Somebody is there before the stream adds to them.
    let source = proto::sample::Source::Photo(photo("alex", 1));
    running.enroll("g", "alex", vec![source]).await.expect("enrolled");
    let (people, summary) = everybody(&running).await;
    let photos = (people.len() * (PROBE - 1)) as u64;
    assert_eq!((summary.item_count, summary.enrolled_count, summary.refused_count), (photos, photos, 0));
    assert_eq!(running.gallery("g").await.identity_count, people.len() as u64);

    for name in &people {
        assert_eq!(named(&running, Probe::Photo(photo(name, PROBE))).await.as_ref(), Some(name));
    }
    for name in samples::strangers() {
        for number in 1..=samples::PHOTOS {
            assert_eq!(named(&running, Probe::Photo(photo(&name, number))).await, None, "{name} {number}");
        }
    }
    let embedding = running.embed(samples::photo("billie", PROBE)).await;
    assert_eq!(
        (embedding.values.len(), named(&running, Probe::Embedding(embedding)).await),
        (512, Some("billie".into()))
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_face_of_a_group_picture_has_its_name() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    create(&running, GROUP_COSINE).await;
    let (people, _) = everybody(&running).await;
    for (picture, names) in samples::groups() {
        let request = proto::IdentifyRequest {
            gallery_id: "g".to_owned(),
            probe: Some(proto::Probe { probe: Some(Probe::Photo(proto::Photo { data: samples::group(&picture) })) }),
            face_selection: proto::FaceSelection::All.into(),
            each_identity_once: true,
            ..Default::default()
        };
        let reply = running.matching().identify(request).await.expect("identified").into_inner();
        let faces = &reply.face_choice.as_ref().expect("faces").faces;
        let mut answers: Vec<_> = reply.face_answers.iter().collect();
        let left = |answer: &&proto::FaceAnswer| faces[answer.face_index as usize].r#box.expect("a box").x_min_px;
        answers.sort_by(|a, b| left(a).total_cmp(&left(b)));
        let told: Vec<_> = answers
            .iter()
            .map(|answer| (answer.decision() == Match).then(|| answer.candidates[0].identity_id.clone()))
            .collect();
        let right: Vec<_> = names.into_iter().map(|name| Some(name).filter(|name| people.contains(name))).collect();
        assert_eq!(told, right, "{picture}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_stays_deleted_and_enrolled_enrolled_after_a_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(data.path()).await;
    create(&running, COSINE).await;
    everybody(&running).await;
    let request = proto::DeleteIdentityRequest { gallery_id: "g".to_owned(), identity_id: "alex".to_owned() };
    running.enrollment().delete_identity(request.clone()).await.expect("deleted");
    assert_eq!(named(&running, Probe::Photo(photo("alex", PROBE))).await, None);
    running.stop().await;

    let running = serve(data.path()).await;
    assert_eq!(named(&running, Probe::Photo(photo("alex", PROBE))).await, None);
    assert_eq!(named(&running, Probe::Photo(photo("billie", PROBE))).await.as_deref(), Some("billie"));
    let refused = running.enrollment().delete_identity(request).await.expect_err("deleted before");
    assert_eq!(refused.code(), Code::NotFound);
    running.stop().await;
}
