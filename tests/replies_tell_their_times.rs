//! A call can be found again by its id, and says on request how long its stages took.

mod common;

use common::Running;
use facematch::contract as proto;
use facematch::telemetry::{Stage, StageTimes};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

async fn serve(test: &str) -> Option<(tempfile::TempDir, Running, Vec<u8>)> {
    let shared = common::shared(test)?;
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    Some((data, running, common::lfw_photo(&shared, "Ai_Sugiyama", 1)))
}

fn request<T>(message: T, metadata: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (key, value) in metadata {
        request.metadata_mut().insert(*key, value.parse().expect("a value"));
    }
    request
}

fn stages(metadata: &MetadataMap) -> Option<String> {
    let timing = StageTimes::from_server_timing(metadata.get("server-timing")?.to_str().expect("text"));
    Some(timing.iter().map(|(stage, _)| stage.name()).collect::<Vec<_>>().join(" "))
}

fn id(metadata: &MetadataMap) -> &str {
    metadata.get("x-request-id").expect("an id").to_str().expect("text")
}

async fn identify(running: &Running, photo: &[u8], metadata: &[(&'static str, &str)]) -> Result<MetadataMap, Status> {
    let probe = proto::probe::Probe::Photo(proto::Photo { data: photo.to_vec() });
    let message = proto::IdentifyRequest {
        gallery_id: "g".to_owned(),
        probe: Some(proto::Probe { probe: Some(probe) }),
        ..Default::default()
    };
    running.matching().identify(request(message, metadata)).await.map(|reply| reply.metadata().clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_are_told_to_who_asks_and_add_up() {
    let Some((_data, running, photo)) = serve("stages_are_told_to_who_asks_and_add_up").await else { return };
    assert_eq!(stages(&identify(&running, &photo, &[]).await.expect("an answer")), None);

    let began = std::time::Instant::now();
    let told = identify(&running, &photo, &[("facematch-timing", "on")]).await.expect("an answer");
    let took = began.elapsed();
    assert_eq!(stages(&told).as_deref(), Some("queue decode detect align embed search"));
    let timing = StageTimes::from_server_timing(told.get("server-timing").expect("times").to_str().expect("text"));
    let sum: std::time::Duration = timing.iter().map(|(_, time)| time).sum();
    assert!(sum <= took, "{sum:?} of {took:?}");
    let longest = timing.iter().max_by_key(|(_, time)| *time).map(|(stage, _)| stage);
    assert_eq!(longest, Some(Stage::Detect));

    let message = proto::EnrollRequest {
        gallery_id: "g".to_owned(),
        samples: vec![proto::Sample {
            source: Some(proto::sample::Source::Photo(proto::Photo { data: photo })),
            template_id: String::new(),
        }],
        ..Default::default()
    };
    let told = running.enrollment().enroll(request(message, &[("facematch-timing", "1")])).await.expect("enrolled");
    assert_eq!(stages(told.metadata()).as_deref(), Some("queue decode detect align embed write"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn call_has_its_callers_id_or_one_of_its_own() {
    let Some((_data, running, photo)) = serve("call_has_its_callers_id_or_one_of_its_own").await else { return };
    let asked = identify(&running, &photo, &[("x-request-id", "order-7")]).await.expect("an answer");
    assert_eq!(id(&asked), "order-7");
    // One that must not stand in a log is not taken over.
    let [first, second] = [
        identify(&running, &photo, &[("x-request-id", "Ann Smith")]).await.expect("an answer"),
        identify(&running, &photo, &[]).await.expect("an answer"),
    ];
    assert!(id(&first).len() == 36 && id(&second).len() == 36 && id(&first) != id(&second));
    // Of a failed call too.
    let failed = identify(&running, b"no photo", &[("x-request-id", "order-8")]).await.expect_err("a failure");
    assert_eq!(id(failed.metadata()), "order-8");
    running.stop().await;
}
