//! A target error rate becomes a threshold: by the curve of a gallery or of the pack, at the gallery's size, or not at all.

mod common;

use common::Running;
use facematch::contract::calibration_service_client::CalibrationServiceClient;
use facematch::contract::{
    self as proto, calibrate_request, calibrate_response, compared_sample, labelled_pair, operating_point,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

type Client = CalibrationServiceClient<tonic::transport::Channel>;

fn client(running: &Running) -> Client {
    CalibrationServiceClient::new(running.channel.clone()).max_decoding_message_size(64 << 20)
}

/// With a pack that states no thresholds.
async fn serve(shared: &std::path::Path, data: &std::path::Path) -> Running {
    let pack = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs/scrfd500-edgeface-xxs");
    common::serve_pack(shared, &pack, data, &[]).await
}

fn of_gallery(id: &str) -> Option<proto::CurveOwner> {
    Some(proto::CurveOwner { owner: Some(proto::curve_owner::Owner::GalleryId(id.to_owned())) })
}

fn of_pack(id: &str) -> Option<proto::CurveOwner> {
    Some(proto::CurveOwner { owner: Some(proto::curve_owner::Owner::PackId(id.to_owned())) })
}

/// Unit vectors around a person's own direction: a cosine of `likeness`² between two photos of one, near 0 between two.
fn embedding(pack_id: &str, person: u64, photo: u64, likeness: f32) -> proto::Embedding {
    let direction = |seed: u64| -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let values: Vec<f32> = (0..512)
            .map(|_| {
                (0..4)
                    .map(|_| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
                    })
                    .sum()
            })
            .collect();
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter().map(|value| value / length).collect()
    };
    let (own, noise) = (direction(person + 1), direction((person + 1) * 1_000 + photo));
    let rest = (1.0 - likeness * likeness).sqrt();
    let values = own.iter().zip(&noise).map(|(own, noise)| likeness * own + rest * noise).collect();
    proto::Embedding { values, pack_id: pack_id.to_owned() }
}

/// Enrols people of two embeddings each.
async fn enroll(running: &Running, gallery: &str, pack_id: &str, people: std::ops::Range<u64>) {
    for person in people {
        let sources = [0, 1].map(|photo| proto::sample::Source::Embedding(embedding(pack_id, person, photo, 0.8)));
        running.enroll(gallery, &format!("person-{person:04}"), sources.into()).await.expect("enrol");
    }
}

/// Sends options and pairs; all results, and the calibration.
async fn calibrate(
    client: &mut Client,
    options: proto::CalibrationOptions,
    pairs: Vec<proto::LabelledPair>,
) -> Result<(Vec<proto::PairResult>, proto::Calibration), Status> {
    let first = calibrate_request::Message::Options(options);
    let messages = [first].into_iter().chain(pairs.into_iter().map(calibrate_request::Message::Pair));
    let requests: Vec<_> = messages.map(|message| proto::CalibrateRequest { message: Some(message) }).collect();
    let mut replies = client.calibrate(tokio_stream::iter(requests)).await?.into_inner();
    let mut results = Vec::new();
    while let Some(reply) = replies.message().await? {
        match reply.message.expect("a message") {
            calibrate_response::Message::Result(result) => results.push(result),
            calibrate_response::Message::Calibration(calibration) => return Ok((results, calibration)),
        }
    }
    panic!("no calibration");
}

async fn identify(running: &Running, value: Option<operating_point::Value>) -> Result<proto::AppliedThreshold, Status> {
    let pack_id = running.gallery("staff").await.pack_id;
    let request = proto::IdentifyRequest {
        gallery_id: "staff".to_owned(),
        probe: Some(proto::Probe { probe: Some(proto::probe::Probe::Embedding(embedding(&pack_id, 5, 9, 0.8))) }),
        operating_point: value.map(|value| proto::OperatingPoint { value: Some(value) }),
        ..Default::default()
    };
    let reply = running.matching().identify(request).await?.into_inner();
    assert_eq!(reply.candidates[0].identity_id, "person-0005");
    Ok(reply.threshold.expect("a threshold"))
}

async fn verify(running: &Running, value: Option<operating_point::Value>) -> Result<proto::AppliedThreshold, Status> {
    let pack_id = running.gallery("staff").await.pack_id;
    let identity = proto::IdentityReference { gallery_id: "staff".to_owned(), identity_id: "person-0005".to_owned() };
    let a = proto::verify_side::Side::Embedding(embedding(&pack_id, 5, 9, 0.8));
    let b = proto::verify_side::Side::Identity(identity);
    let side = |side| Some(proto::VerifySide { side: Some(side) });
    let operating_point = value.map(|value| proto::OperatingPoint { value: Some(value) });
    let request = proto::VerifyRequest { a: side(a), b: side(b), operating_point, ..Default::default() };
    Ok(running.faces().verify(request).await?.into_inner().threshold.expect("a threshold"))
}

fn refused(result: Result<proto::AppliedThreshold, Status>) -> (u64, u64) {
    let status = result.expect_err("refused");
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!((status.code(), info.reason.as_str()), (Code::FailedPrecondition, "NO_CALIBRATION_CURVE"));
    let count = |name: &str| info.metadata[name].parse::<u64>().expect("a number");
    (count("comparisons_needed"), count("comparisons_found"))
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_is_refused_without_a_curve_and_kept_to_with_one() {
    use operating_point::Value::{Cosine, Fmr, Fpir};
    use proto::ThresholdSource::{Curve, Gallery, Request, UncalibratedDefault};
    let Some(shared) = common::shared("rate_is_refused_without_a_curve_and_kept_to_with_one") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(&shared, data.path()).await;
    let pack_id = running.create_gallery("staff").await.pack_id;
    enroll(&running, "staff", &pack_id, 0..60).await;

    // Nothing is known: defaults say so, and no rate is made up.
    let default = identify(&running, None).await.expect("identify");
    assert_eq!((default.cosine, default.source()), (0.5, UncalibratedDefault));
    assert_eq!((default.estimated_error_rate, default.curve_id.as_str()), (None, ""));
    let default = verify(&running, None).await.expect("verify");
    assert_eq!((default.cosine, default.source()), (0.2, UncalibratedDefault));
    // 120 templates: an FMR of 1 - 0.99^(1/120).
    assert_eq!(refused(identify(&running, Some(Fpir(0.01))).await).1, 0);
    assert_eq!(refused(verify(&running, Some(Fmr(1e-3))).await), (3_000, 0));
    let absent = client(&running).get_curve(proto::GetCurveRequest { owner: of_gallery("staff") }).await;
    assert_eq!(absent.expect_err("none").get_details_error_info().expect("a reason").reason, "CURVE_NOT_FOUND");

    // The gallery against itself: 60 mated pairs, 60·59/2·4 = 7,080 non-mated ones.
    let options = proto::CalibrationOptions {
        gallery_id: "staff".to_owned(),
        set_for: of_gallery("staff"),
        source: "a test".to_owned(),
        ..Default::default()
    };
    let (results, calibration) = calibrate(&mut client(&running), options, Vec::new()).await.expect("calibrate");
    assert!(results.is_empty() && calibration.is_set);
    let curve = calibration.curve.clone().expect("a curve");
    let totals = [&curve.mated, &curve.non_mated].map(|steps| steps.as_ref().expect("steps").total);
    assert_eq!((totals, curve.identity_count, curve.source.as_str()), ([60, 7_080], Some(60), "a test"));
    assert_eq!((calibration.unit(), calibration.unit_count), (proto::CalibrationUnit::Identities, 60));
    assert_eq!(calibration.equal_error.expect("both classes").rate, 0.0);
    let supported: Vec<bool> = calibration.rated_thresholds.iter().map(|rated| rated.cosine.is_some()).collect();
    assert_eq!(supported, [true, true, true, false, false, false]);

    // Verification by FMR: the non-mated scores at or above the threshold are no more, counted here again.
    let applied = verify(&running, Some(Fmr(1e-3))).await.expect("verify");
    let (rate, low, high) =
        (applied.estimated_error_rate, applied.estimated_error_rate_low, applied.estimated_error_rate_high);
    assert!(rate.expect("a rate") <= 1e-3 && low <= rate && rate < high);
    assert_eq!((applied.source(), &applied.curve_id), (Curve, &curve.curve_id));
    let mut above = 0;
    for person in 0..60 {
        for other in 0..person {
            for (photo, of_other) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let a = embedding(&pack_id, person, photo, 0.8).values;
                let b = embedding(&pack_id, other, of_other, 0.8).values;
                above += u32::from(a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>() >= applied.cosine);
            }
        }
    }
    assert!((5..=7).contains(&above), "{above} of 7,080");
    // By default the curve decides, a stated cosine is told its rate, a gallery's own setting comes first.
    assert_eq!(verify(&running, None).await.expect("verify").source(), Curve);
    let stated = verify(&running, Some(Cosine(0.0))).await.expect("verify");
    assert!(stated.source() == Request && stated.estimated_error_rate.is_some_and(|rate| (0.4..0.6).contains(&rate)));
    assert_eq!(refused(verify(&running, Some(Fmr(1e-4))).await), (30_000, 7_080));

    // Identification by FPIR: at 120 templates the curve supports .1 and not .01.
    let few = identify(&running, Some(Fpir(0.1))).await.expect("identify");
    assert!(few.source() == Curve && few.estimated_error_rate.is_some_and(|rate| rate <= 0.1));
    assert!(few.cosine > applied.cosine - 0.05);
    let (needed, found) = refused(identify(&running, Some(Fpir(0.01))).await);
    assert!((35_000..37_000).contains(&needed) && found == 7_080, "{needed}");
    assert_eq!(identify(&running, None).await.expect("identify").source(), UncalibratedDefault);
    let gallery =
        proto::Gallery { gallery_id: "staff".to_owned(), identification_cosine: Some(0.4), ..Default::default() };
    running.update_gallery(gallery, &["identification_cosine"]).await.expect("update");
    let own = identify(&running, None).await.expect("identify");
    assert!(own.source() == Gallery && own.estimated_error_rate.is_some_and(|rate| rate < 0.1));
    assert_eq!(own.warning(), proto::ThresholdWarning::Unspecified);

    // It outgrows its curve: the threshold rises, and the reply warns.
    enroll(&running, "staff", &pack_id, 60..601).await;
    let refused_now = refused(identify(&running, Some(Fpir(0.1))).await);
    assert!(refused_now.0 > 30_000 && refused_now.1 == 7_080);
    let more = identify(&running, Some(Fpir(0.5))).await.expect("identify");
    assert!(more.cosine > few.cosine, "{} {}", more.cosine, few.cosine);
    assert_eq!(more.warning(), proto::ThresholdWarning::GalleryOutgrewCurve);

    // The curve is there after a restart, and goes with its gallery.
    running.stop().await;
    let running = serve(&shared, data.path()).await;
    let again = verify(&running, Some(Fmr(1e-3))).await.expect("verify");
    assert_eq!((again.cosine, &again.curve_id), (applied.cosine, &curve.curve_id));
    let request = proto::DeleteGalleryRequest { gallery_id: "staff".to_owned(), force: true };
    running.galleries().delete_gallery(request).await.expect("delete");
    running.create_gallery("staff").await;
    let absent = client(&running).get_curve(proto::GetCurveRequest { owner: of_gallery("staff") }).await;
    assert_eq!(absent.expect_err("none").code(), Code::NotFound);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curve_is_set_told_and_taken_away_and_a_false_one_is_refused() {
    let Some(shared) = common::shared("curve_is_set_told_and_taken_away_and_a_false_one_is_refused") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(&shared, data.path()).await;
    let pack_id = running.create_gallery("staff").await.pack_id;
    enroll(&running, "staff", &pack_id, 0..6).await;
    let steps = |total: u64, points: &[(i32, u64)]| {
        let (cosine_tenthousandths, at_least) = points.iter().copied().unzip();
        Some(proto::ScoreSteps { total, cosine_tenthousandths, at_least })
    };
    let good = proto::Curve {
        pack_id: pack_id.clone(),
        mated: steps(100, &[(3_000, 100), (5_000, 50), (9_000, 0)]),
        non_mated: steps(90_000, &[(-10_000, 90_000), (0, 45_000), (2_500, 90), (3_000, 9), (3_500, 0)]),
        inflation: vec![proto::CurveInflation { cosine: 0.25, fmr: 2.0, fnmr: 1.5 }],
        source: "by hand".to_owned(),
        ..Default::default()
    };
    let set = async |owner: Option<proto::CurveOwner>, curve: proto::Curve| {
        client(&running).set_curve(proto::SetCurveRequest { owner, curve: Some(curve) }).await
    };
    // Of the pack: both questions go by it.
    let kept = set(of_pack(""), good.clone()).await.expect("set").into_inner().curve.expect("a curve");
    assert_eq!((kept.identity_count, kept.set_time.is_some()), (None, true));
    let applied = verify(&running, Some(operating_point::Value::Fmr(1e-3))).await.expect("verify");
    assert_eq!((applied.cosine, &applied.curve_id), (0.25, &kept.curve_id));
    let told = client(&running).get_curve(proto::GetCurveRequest { owner: of_gallery("staff") }).await;
    let told = told.expect("get").into_inner();
    assert_eq!((&told.owner, told.curve.as_ref()), (&of_pack(&pack_id), Some(&kept)));
    // Of the gallery: it comes first.
    let nearer = proto::Curve { non_mated: steps(90_000, &[(0, 90_000), (4_000, 90), (6_000, 0)]), ..good.clone() };
    let nearer = set(of_gallery("staff"), nearer).await.expect("set").into_inner().curve.expect("a curve");
    assert_eq!(nearer.identity_count, Some(6));
    let applied = verify(&running, Some(operating_point::Value::Fmr(1e-3))).await.expect("verify");
    assert_eq!((applied.cosine, &applied.curve_id), (0.4, &nearer.curve_id));
    // Taken away, one after the other.
    let delete = async |owner| client(&running).delete_curve(proto::DeleteCurveRequest { owner }).await;
    delete(of_gallery("staff")).await.expect("delete");
    assert_eq!(verify(&running, None).await.expect("verify").curve_id, kept.curve_id);
    assert_eq!(delete(of_gallery("staff")).await.expect_err("gone").code(), Code::NotFound);
    delete(of_pack(&pack_id)).await.expect("delete");
    assert_eq!(verify(&running, None).await.expect("verify").source(), proto::ThresholdSource::UncalibratedDefault);

    let spoilt = |spoil: &dyn Fn(&mut proto::Curve)| {
        let mut curve = good.clone();
        spoil(&mut curve);
        curve
    };
    let cases: [(proto::Curve, &str); 9] = [
        (spoilt(&|curve| curve.non_mated = None), "curve.non_mated"),
        (spoilt(&|curve| curve.non_mated = steps(90_001, &[(0, 90_000), (1, 0)])), "curve.non_mated"),
        (spoilt(&|curve| curve.non_mated = steps(9, &[(0, 9), (1, 3)])), "curve.non_mated"),
        (spoilt(&|curve| curve.mated = steps(9, &[(5, 9), (5, 0)])), "curve.mated"),
        (spoilt(&|curve| curve.mated = steps(9, &[(20_000, 9), (20_001, 0)])), "curve.mated"),
        (spoilt(&|curve| curve.mated.as_mut().expect("steps").at_least.clear()), "curve.mated"),
        (spoilt(&|curve| curve.inflation[0].fmr = f64::NAN), "curve.inflation"),
        (spoilt(&|curve| curve.source = "x".repeat(257)), "curve.source"),
        (spoilt(&|curve| curve.pack_id = "?".to_owned()), "curve.pack_id"),
    ];
    for (curve, field) in cases {
        let refused = set(of_gallery("staff"), curve).await.expect_err(field);
        let fields: Vec<String> = refused
            .get_details_bad_request()
            .map(|bad| bad.field_violations.into_iter().map(|violation| violation.field).collect())
            .unwrap_or_default();
        assert_eq!((refused.code(), fields), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let foreign = spoilt(&|curve| curve.pack_id = "0a".repeat(16));
    let refused = set(of_gallery("staff"), foreign).await.expect_err("of another pack");
    assert_eq!(refused.get_details_error_info().expect("a reason").reason, "PACK_MISMATCH");
    assert_eq!(set(of_gallery("nobody"), good.clone()).await.expect_err("no gallery").code(), Code::NotFound);
    assert_eq!(set(None, good).await.expect_err("nobody's").code(), Code::InvalidArgument);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_are_scored_counted_and_lost_each_by_itself() {
    let Some(shared) = common::shared("pairs_are_scored_counted_and_lost_each_by_itself") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(&shared, data.path()).await;
    let pack_id = running.create_gallery("staff").await.pack_id;
    let photo = |data: Vec<u8>| compared_sample::Sample::Photo(proto::Photo { data });
    let lfw = |person: &str, number| photo(common::lfw_photo(&shared, person, number));
    let sample = |sample| Some(proto::ComparedSample { sample: Some(sample) });
    let pair =
        |tag: &str, is_mated: bool, a: compared_sample::Sample, b: compared_sample::Sample| proto::LabelledPair {
            tag: tag.to_owned(),
            is_mated: Some(is_mated),
            comparison: Some(labelled_pair::Comparison::Samples(proto::SamplePair { a: sample(a), b: sample(b) })),
            ..Default::default()
        };
    let scored = |tag: &str, is_mated: Option<bool>, score: f32, a: &str, b: &str| proto::LabelledPair {
        tag: tag.to_owned(),
        is_mated,
        comparison: Some(labelled_pair::Comparison::Score(score)),
        identity_a: a.to_owned(),
        identity_b: b.to_owned(),
    };
    let embedded =
        compared_sample::Sample::Embedding(running.embed(common::lfw_photo(&shared, "Ai_Sugiyama", 1)).await);
    let pairs = vec![
        pair("photos", true, lfw("Ai_Sugiyama", 1), lfw("Ai_Sugiyama", 2)),
        pair("mixed", true, embedded.clone(), lfw("Ai_Sugiyama", 1)),
        pair("strangers", false, lfw("Ai_Sugiyama", 1), lfw("Abdullah_Gul", 1)),
        pair("no photo", false, lfw("Ai_Sugiyama", 1), photo(b"none".to_vec())),
        pair("other pack", true, embedded, compared_sample::Sample::Embedding(embedding(&"0a".repeat(16), 1, 1, 0.8))),
        scored("score", Some(false), 0.125, "ann", "bob"),
        scored("same name", Some(false), 0.1, "ann", "ann"),
        scored("one name", Some(false), 0.1, "ann", ""),
        scored("no label", None, 0.1, "ann", "bob"),
        scored("no cosine", Some(true), 1.5, "ann", "ann"),
        scored("no number", Some(true), f32::NAN, "ann", "ann"),
    ];
    let options = proto::CalibrationOptions::default();
    let (mut results, calibration) = calibrate(&mut client(&running), options, pairs).await.expect("calibrate");
    results.sort_by(|a, b| a.tag.cmp(&b.tag));
    let told: Vec<(&str, Option<f32>, &str)> = results
        .iter()
        .map(|result| {
            let reason = result.failure.as_ref().map_or("", |failure| failure.reason.as_str());
            (result.tag.as_str(), result.score, reason)
        })
        .collect();
    let score_of = |tag: &str| told.iter().find(|told| told.0 == tag).and_then(|told| told.1).expect("a score");
    assert!(score_of("mixed") > 0.9999 && score_of("photos") > 0.4 && score_of("strangers") < 0.2);
    assert_eq!(score_of("score"), 0.125);
    let failed: Vec<(&str, &str)> = told.iter().filter(|told| told.1.is_none()).map(|told| (told.0, told.2)).collect();
    let bad = "BAD_FIELD";
    let expected = [
        ("no cosine", bad),
        ("no label", bad),
        ("no number", bad),
        ("no photo", "PHOTO_UNSUPPORTED_FORMAT"),
        ("one name", bad),
        ("other pack", "PACK_MISMATCH"),
        ("same name", bad),
    ];
    assert_eq!(failed, expected);
    // A pair without a label is in no class.
    assert_eq!((calibration.lost_mated_count, calibration.lost_non_mated_count), (3, 3));
    let curve = calibration.curve.clone().expect("a curve");
    let totals = [&curve.mated, &curve.non_mated].map(|steps| steps.as_ref().expect("steps").total);
    assert_eq!((totals, calibration.is_set, curve.pack_id), ([2, 2], false, pack_id.clone()));
    assert_eq!(calibration.unit(), proto::CalibrationUnit::Samples);
    assert!(calibration.rated_thresholds.iter().all(|rated| rated.cosine.is_none()));

    // What is wrong with the call itself ends it; so does a pair beside a gallery.
    let mut client = client(&running);
    let code = |result: Result<_, Status>| result.map(|_: (Vec<_>, proto::Calibration)| ()).expect_err("an end").code();
    let nobody = proto::CalibrationOptions { gallery_id: "nobody".to_owned(), ..Default::default() };
    assert_eq!(code(calibrate(&mut client, nobody, Vec::new()).await), Code::NotFound);
    let all = proto::CalibrationOptions { face_selection: proto::FaceSelection::All.into(), ..Default::default() };
    assert_eq!(code(calibrate(&mut client, all, Vec::new()).await), Code::InvalidArgument);
    let staff = proto::CalibrationOptions { gallery_id: "staff".to_owned(), ..Default::default() };
    let beside = vec![scored("x", Some(true), 0.5, "", "")];
    assert_eq!(code(calibrate(&mut client, staff.clone(), beside).await), Code::InvalidArgument);
    // An empty gallery: a calibration of nothing, which is not kept.
    let kept = proto::CalibrationOptions { set_for: of_gallery("staff"), ..staff };
    let (_, nothing) = calibrate(&mut client, kept, Vec::new()).await.expect("calibrate");
    assert!(!nothing.is_set && nothing.equal_error.is_none());
    running.stop().await;
}
