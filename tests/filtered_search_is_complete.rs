//! A filter or a list of candidates is applied before scoring: the answer is that of a gallery of those people alone.

mod common;

use common::Running;
use facematch::contract::{self as proto};
use proto::metadata_value::Value;
use tonic::Code;

const PEOPLE: u64 = 200;

fn embedding(seed: u64, pack_id: &str) -> proto::Embedding {
    proto::Embedding { values: common::direction(512, seed), pack_id: pack_id.to_owned() }
}

/// People whose number is their metadata.
async fn enroll_people(running: &Running, pack_id: &str) {
    for number in 0..PEOPLE {
        let source = Some(proto::sample::Source::Embedding(embedding(number, pack_id)));
        let value = |value| proto::MetadataValue { value: Some(value) };
        let request = proto::EnrollRequest {
            gallery_id: "g".to_owned(),
            identity_id: format!("p{number}"),
            metadata: [
                ("number".to_owned(), value(Value::NumberValue(number as f64))),
                (
                    "parity".to_owned(),
                    value(Value::StringValue(if number % 2 == 0 { "even" } else { "odd" }.to_owned())),
                ),
            ]
            .into(),
            samples: vec![proto::Sample { source, template_id: "t".to_owned() }],
            ..Default::default()
        };
        running.enrollment().enroll(request).await.expect("enrol");
    }
}

async fn search(
    running: &Running,
    seed: u64,
    pack_id: &str,
    filter: &str,
    candidates: &[&str],
) -> Result<proto::IdentifyResponse, tonic::Status> {
    let request = proto::IdentifyRequest {
        gallery_id: "g".to_owned(),
        probe: Some(proto::Probe { probe: Some(proto::probe::Probe::Embedding(embedding(seed, pack_id))) }),
        top_k: 100,
        filter: filter.to_owned(),
        candidate_identity_ids: candidates.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    };
    running.matching().identify(request).await.map(tonic::Response::into_inner)
}

fn ids(reply: &proto::IdentifyResponse) -> Vec<String> {
    reply.candidates.iter().map(|candidate| candidate.identity_id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn filtered_answer_is_that_of_the_people_alone() {
    let Some(shared) = common::shared("filtered_answer_is_that_of_the_people_alone") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    enroll_people(&running, &pack_id).await;

    let everyone = search(&running, 7, &pack_id, "", &[]).await.expect("search");
    assert_eq!((ids(&everyone)[0].as_str(), everyone.searched_identity_count), ("p7", PEOPLE));
    // The best of the even numbers, in the order in which they stand among all.
    let all = proto::IdentifyResponse { candidates: everyone.candidates.clone(), ..Default::default() };
    let even = search(&running, 7, &pack_id, "parity = \"even\"", &[]).await.expect("search");
    let expected: Vec<String> =
        ids(&all).into_iter().filter(|id| id[1..].parse::<u64>().is_ok_and(|n| n % 2 == 0)).collect();
    assert_eq!(ids(&even)[..expected.len()], expected);
    assert_eq!((even.searched_identity_count, even.identity_count, even.candidates.len()), (100, 200, 100));

    for (filter, candidates, expected) in [
        ("number = 7", &[][..], &["p7"][..]),
        ("number >= 5 AND number < 8 AND NOT parity = \"even\"", &[], &["p7", "p5"]),
        ("", &["p3", "p7", "nobody"], &["p7", "p3"]),
        ("parity = \"odd\"", &["p3", "p4"], &["p3"]),
        ("number > 1000", &[], &[]),
        ("absent:*", &[], &[]),
    ] {
        let reply = search(&running, 7, &pack_id, filter, candidates).await.expect(filter);
        let mut found = ids(&reply);
        assert_eq!(reply.searched_identity_count, expected.len() as u64, "{filter}");
        assert_eq!(found.first().map(String::as_str), expected.first().copied(), "{filter}");
        found.sort();
        let mut expected: Vec<&str> = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter}");
    }
    running.stop().await;

    // Also after a restart, and after the metadata has changed.
    let running = common::serve(&shared, data.path(), &[]).await;
    let seven = search(&running, 7, &pack_id, "number = 7", &[]).await.expect("search");
    assert_eq!(ids(&seven), ["p7"]);
    let request = proto::UpdateIdentityRequest {
        gallery_id: "g".to_owned(),
        identity: Some(proto::Identity { identity_id: "p7".to_owned(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["metadata".to_owned()] }),
    };
    running.enrollment().update_identity(request).await.expect("update");
    let nobody = search(&running, 7, &pack_id, "number = 7", &[]).await.expect("search");
    assert_eq!((nobody.decision(), nobody.candidates.len()), (proto::IdentifyDecision::NoMatch, 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_filter_points_at_the_place() {
    let Some(shared) = common::shared("bad_filter_points_at_the_place") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let status = search(&running, 1, &pack_id, "number = 7 AND OR", &[]).await.expect_err("refused");
    assert_eq!((status.code(), common::reason(&status).as_str()), (Code::InvalidArgument, "BAD_FIELD"));
    assert!(
        status.message().contains("filter") && status.message().contains("at character 16"),
        "{}",
        status.message()
    );
    let status = search(&running, 1, &pack_id, "", &["ok", "\n"]).await.expect_err("refused");
    assert!(status.message().contains("candidate_identity_ids[1]"), "{}", status.message());
    running.stop().await;
}
