//! The status table of the contract: each situation, its code, its reason, and the field at fault.

mod common;

use common::Running;
use facematch::contract::verify_side::Side;
use facematch::contract::{self as proto};
use tonic::{Code, Status};

#[track_caller]
fn assert_status<T>(result: Result<T, Status>, code: Code, reason: &str, at: &str) {
    let Err(status) = result else { panic!("accepted, where {reason} was expected") };
    assert_eq!((status.code(), common::reason(&status).as_str()), (code, reason), "{status}");
    assert_eq!(common::fields(&status), at, "{status}");
}

async fn verify(running: &Running, a: Option<Side>, b: Option<Side>) -> Result<(), Status> {
    let side = |side: Option<Side>| side.map(|side| proto::VerifySide { side: Some(side) });
    let request = proto::VerifyRequest { a: side(a), b: side(b), ..Default::default() };
    running.faces().verify(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_side_of_a_comparison_is_named() {
    let Some(shared) = common::shared("faulty_side_of_a_comparison_is_named") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let good = || Some(Side::Photo(proto::Photo { data: common::lfw_photo(&shared, "Ai_Sugiyama", 1) }));
    let photo = |name: &str| {
        Some(Side::Photo(proto::Photo { data: std::fs::read(shared.join("faces/hard").join(name)).expect(name) }))
    };
    let vector = |values: Vec<f32>, pack_id: &str| {
        Some(Side::Embedding(proto::Embedding { values, pack_id: pack_id.to_owned() }))
    };
    use Code::{FailedPrecondition, InvalidArgument, NotFound};
    let cases = [
        (good(), None, InvalidArgument, "BAD_FIELD", "b"),
        (photo("black.jpg"), good(), InvalidArgument, "NO_FACE", "a.photo"),
        (good(), photo("trunc_50pct.jpg"), InvalidArgument, "PHOTO_TRUNCATED", "b.photo"),
        (good(), photo("photo.avif"), InvalidArgument, "PHOTO_UNSUPPORTED_FORMAT", "b.photo"),
        (vector(vec![1.0; 3], &pack_id), good(), InvalidArgument, "BAD_FIELD", "a.embedding.values"),
        (vector(vec![f32::NAN; 512], &pack_id), good(), InvalidArgument, "BAD_FIELD", "a.embedding.values"),
        (vector(vec![f32::INFINITY; 512], &pack_id), good(), InvalidArgument, "BAD_FIELD", "a.embedding.values"),
        (vector(vec![0.0; 512], &pack_id), good(), InvalidArgument, "BAD_FIELD", "a.embedding.values"),
        (vector(vec![1.0; 512], ""), good(), InvalidArgument, "BAD_FIELD", "a.embedding.pack_id"),
        (vector(vec![1.0; 512], &"0".repeat(32)), good(), FailedPrecondition, "PACK_MISMATCH", ""),
        (identity("nowhere", "x"), good(), NotFound, "GALLERY_NOT_FOUND", ""),
        (identity("g", "x"), good(), NotFound, "IDENTITY_NOT_FOUND", ""),
        (identity("G", "x"), good(), InvalidArgument, "BAD_FIELD", "a.identity.gallery_id"),
    ];
    for (a, b, code, reason, at) in cases {
        assert_status(verify(&running, a, b).await, code, reason, at);
    }
    running.stop().await;
}

fn identity(gallery_id: &str, identity_id: &str) -> Option<Side> {
    let (gallery_id, identity_id) = (gallery_id.to_owned(), identity_id.to_owned());
    Some(Side::Identity(proto::IdentityReference { gallery_id, identity_id }))
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_enrolment_is_refused_whole() {
    let Some(shared) = common::shared("faulty_enrolment_is_refused_whole") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let photo = |data: Vec<u8>| proto::Sample {
        source: Some(proto::sample::Source::Photo(proto::Photo { data })),
        template_id: String::new(),
    };
    let vector = |seed, pack_id: &str| proto::Sample {
        source: Some(proto::sample::Source::Embedding(proto::Embedding {
            values: common::direction(512, seed),
            pack_id: pack_id.to_owned(),
        })),
        template_id: String::new(),
    };
    let faceless = std::fs::read(shared.join("faces/hard/black.jpg")).expect("a photo");
    let good = proto::EnrollRequest {
        gallery_id: "g".to_owned(),
        identity_id: "ann".to_owned(),
        samples: vec![vector(1, &pack_id)],
        ..Default::default()
    };
    let named = |samples| proto::EnrollRequest { samples, ..good.clone() };
    let same = proto::Sample { template_id: "x".to_owned(), ..vector(1, &pack_id) };
    use Code::{FailedPrecondition, InvalidArgument, NotFound};
    let cases = [
        (
            proto::EnrollRequest { gallery_id: String::new(), ..good.clone() },
            InvalidArgument,
            "BAD_FIELD",
            "gallery_id",
        ),
        (proto::EnrollRequest { gallery_id: "h".into(), ..good.clone() }, NotFound, "GALLERY_NOT_FOUND", ""),
        (
            proto::EnrollRequest { identity_id: "a\nb".into(), ..good.clone() },
            InvalidArgument,
            "BAD_FIELD",
            "identity_id",
        ),
        (
            proto::EnrollRequest { display_name: "x".repeat(257), ..good.clone() },
            InvalidArgument,
            "BAD_FIELD",
            "display_name",
        ),
        (proto::EnrollRequest { if_exists: 99, ..good.clone() }, InvalidArgument, "BAD_FIELD", "if_exists"),
        (
            proto::EnrollRequest { face_selection: proto::FaceSelection::All.into(), ..good.clone() },
            InvalidArgument,
            "BAD_FIELD",
            "face_selection",
        ),
        (named(vec![]), InvalidArgument, "BAD_FIELD", "samples"),
        (named(vec![vector(1, &pack_id); 65]), InvalidArgument, "BAD_FIELD", "samples"),
        (named(vec![same.clone(), same]), InvalidArgument, "BAD_FIELD", "samples"),
        (named(vec![proto::Sample::default()]), InvalidArgument, "BAD_FIELD", "samples[0].source"),
        (named(vec![photo(faceless.clone())]), InvalidArgument, "NO_FACE", "samples[0]"),
        (named(vec![photo(vec![])]), InvalidArgument, "PHOTO_EMPTY", "samples[0]"),
        (named(vec![vector(1, &"0".repeat(32))]), FailedPrecondition, "PACK_MISMATCH", ""),
    ];
    for (request, code, reason, at) in cases {
        assert_status(running.enrollment().enroll(request).await.map(drop), code, reason, at);
    }
    let request = proto::GetIdentityRequest { gallery_id: "g".into(), identity_id: "ann".into(), ..Default::default() };
    assert_status(running.enrollment().get_identity(request).await, NotFound, "IDENTITY_NOT_FOUND", "");

    // One good sample among bad ones: enrolled, and each of the others accounted for.
    let mixed = named(vec![photo(faceless), vector(1, &pack_id), photo(b"no photo".to_vec())]);
    let reply = running.enrollment().enroll(mixed).await.expect("enrol").into_inner();
    let outcomes = reply.results.into_iter().map(|result| match result.outcome.expect("an outcome") {
        proto::sample_result::Outcome::Template(_) => "enrolled".to_owned(),
        proto::sample_result::Outcome::Failure(failure) => failure.reason,
    });
    assert_eq!(outcomes.collect::<Vec<_>>(), ["NO_FACE", "enrolled", "PHOTO_UNSUPPORTED_FORMAT"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_search_or_setting_is_named() {
    let Some(shared) = common::shared("faulty_search_or_setting_is_named") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let embedding = proto::Embedding { values: common::direction(512, 1), pack_id };
    let probe = Some(proto::Probe { probe: Some(proto::probe::Probe::Embedding(embedding)) });
    let good = proto::IdentifyRequest { gallery_id: "g".to_owned(), probe, ..Default::default() };
    let point = |value| Some(proto::OperatingPoint { value: Some(value) });
    use proto::operating_point::Value;
    let cases = [
        (proto::IdentifyRequest { gallery_id: "h".into(), ..good.clone() }, Code::NotFound, "GALLERY_NOT_FOUND", ""),
        (proto::IdentifyRequest { probe: None, ..good.clone() }, Code::InvalidArgument, "BAD_FIELD", "probe"),
        (proto::IdentifyRequest { top_k: 101, ..good.clone() }, Code::InvalidArgument, "BAD_FIELD", "top_k"),
        (
            proto::IdentifyRequest { ambiguity_margin: Some(-0.1), ..good.clone() },
            Code::InvalidArgument,
            "BAD_FIELD",
            "ambiguity_margin",
        ),
        (
            proto::IdentifyRequest { operating_point: point(Value::Cosine(1.5)), ..good.clone() },
            Code::InvalidArgument,
            "BAD_FIELD",
            "operating_point.cosine",
        ),
        (
            proto::IdentifyRequest { operating_point: point(Value::Cosine(f32::NAN)), ..good.clone() },
            Code::InvalidArgument,
            "BAD_FIELD",
            "operating_point.cosine",
        ),
        (
            proto::IdentifyRequest { operating_point: point(Value::Fpir(2.0)), ..good.clone() },
            Code::InvalidArgument,
            "BAD_FIELD",
            "operating_point.fpir",
        ),
        (
            proto::IdentifyRequest { operating_point: point(Value::Fpir(0.01)), ..good.clone() },
            Code::FailedPrecondition,
            "NO_CALIBRATION_CURVE",
            "",
        ),
        (
            proto::IdentifyRequest { operating_point: point(Value::Fmr(0.01)), ..good.clone() },
            Code::InvalidArgument,
            "BAD_FIELD",
            "operating_point.fmr",
        ),
    ];
    for (request, code, reason, at) in cases {
        assert_status(running.matching().identify(request).await, code, reason, at);
    }

    let create = |gallery| proto::CreateGalleryRequest { gallery: Some(gallery) };
    let gallery = proto::Gallery { gallery_id: "g".to_owned(), ..Default::default() };
    let existing = running.galleries().create_gallery(create(gallery.clone())).await;
    assert_status(existing, Code::AlreadyExists, "GALLERY_EXISTS", "");
    let margin = proto::Gallery { gallery_id: "h".to_owned(), ambiguity_margin: Some(2.0), ..Default::default() };
    let refused = running.galleries().create_gallery(create(margin)).await;
    assert_status(refused, Code::InvalidArgument, "BAD_FIELD", "gallery.ambiguity_margin");
    let request = proto::UpdateGalleryRequest {
        gallery: Some(gallery),
        update_mask: Some(prost_types::FieldMask { paths: vec!["pack_id".to_owned()] }),
    };
    let refused = running.galleries().update_gallery(request).await;
    assert_status(refused, Code::InvalidArgument, "BAD_FIELD", "update_mask");
    let request = proto::ListGalleriesRequest { page_size: 10, page_token: "nonsense".to_owned() };
    assert_status(running.galleries().list_galleries(request).await, Code::InvalidArgument, "BAD_FIELD", "page_token");

    let detection = proto::DetectionOptions { input_sides_px: vec![100], score_min: None };
    let photo = Some(proto::Photo { data: vec![1] });
    let request = proto::DetectRequest { photo, detection: Some(detection) };
    let refused = running.faces().detect(request).await;
    assert_status(refused, Code::InvalidArgument, "BAD_FIELD", "detection.input_sides_px");
    running.stop().await;
}

/// A gallery made with one pack cannot be searched, nor added to, with another.
#[tokio::test(flavor = "multi_thread")]
async fn gallery_of_another_pack_is_failed_precondition() {
    let Some(shared) = common::shared("gallery_of_another_pack_is_failed_precondition") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let other = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs/scrfd25kps-y1");
    let running = common::serve_pack(&shared, &other, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let embedding = proto::Embedding { values: common::direction(128, 1), pack_id };
    running.enroll("g", "bob", vec![proto::sample::Source::Embedding(embedding.clone())]).await.expect("enrol");
    running.stop().await;
    let running = common::serve(&shared, data.path(), &[]).await;
    let photo = proto::Photo { data: common::lfw_photo(&shared, "Ai_Sugiyama", 1) };
    let search = running.identify("g", proto::probe::Probe::Photo(photo.clone())).await;
    assert_status(search, Code::FailedPrecondition, "PACK_MISMATCH", "");
    let enrolment = running.enroll("g", "ann", vec![proto::sample::Source::Photo(photo)]).await;
    assert_status(enrolment, Code::FailedPrecondition, "PACK_MISMATCH", "");

    // Embeddings of the gallery's own pack are still searched, but not by a threshold of the pack in use.
    let reply = running.identify("g", proto::probe::Probe::Embedding(embedding)).await.expect("identify");
    let threshold = reply.threshold.clone().expect("a threshold");
    assert_eq!((reply.decision(), threshold.cosine), (proto::IdentifyDecision::Match, 0.5));
    assert_eq!(threshold.source(), proto::ThresholdSource::UncalibratedDefault);
    running.stop().await;
}

/// A message larger than the limit is refused as it arrives, and others are served on the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn oversized_message_is_refused() {
    let Some(shared) = common::shared("oversized_message_is_refused") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let settings = [("photo_bytes_max", "100000"), ("message_bytes_max", "200000")];
    let running = common::serve(&shared, data.path(), &settings).await;
    let detect = async |bytes: usize| {
        let request = proto::DetectRequest { photo: Some(proto::Photo { data: vec![0; bytes] }), ..Default::default() };
        running.faces().detect(request).await.map(drop)
    };
    assert_status(detect(150_000).await, Code::InvalidArgument, "PHOTO_TOO_LARGE", "photo");
    assert_eq!(detect(300_000).await.expect_err("refused").code(), Code::OutOfRange);
    assert_status(detect(10).await, Code::InvalidArgument, "PHOTO_UNSUPPORTED_FORMAT", "photo");
    running.stop().await;
}
