//! IdentifyStream: each probe its own answer with its tag, the bad ones alone.

mod common;

use std::collections::BTreeMap;

use common::{Bulk, Running, bulk_options, embedding_item};
use facematch::contract::{self as proto};
use proto::identify_stream_request::Message;
use proto::identify_stream_response::Answer;
use tonic::{Code, Status};

fn search(search: proto::IdentifyRequest) -> proto::IdentifyStreamRequest {
    proto::IdentifyStreamRequest { message: Some(Message::Search(search)) }
}

fn of_gallery(gallery_id: &str) -> proto::IdentifyRequest {
    proto::IdentifyRequest { gallery_id: gallery_id.to_owned(), ..Default::default() }
}

fn probe(tag: &str, probe: proto::probe::Probe) -> proto::IdentifyStreamRequest {
    let probe = Some(proto::Probe { probe: Some(probe) });
    proto::IdentifyStreamRequest { message: Some(Message::Probe(proto::TaggedProbe { tag: tag.to_owned(), probe })) }
}

fn photo(data: Vec<u8>) -> proto::probe::Probe {
    proto::probe::Probe::Photo(proto::Photo { data })
}

fn embedding(seed: u64, pack_id: &str) -> proto::probe::Probe {
    proto::probe::Probe::Embedding(proto::Embedding {
        values: common::direction(512, seed),
        pack_id: pack_id.to_owned(),
    })
}

/// Sends messages and reads answers until the end.
async fn ask(
    running: &Running,
    messages: Vec<proto::IdentifyStreamRequest>,
) -> Result<BTreeMap<String, Answer>, Status> {
    let replies = running.matching().identify_stream(tokio_stream::iter(messages)).await?;
    let (mut replies, mut answers) = (replies.into_inner(), BTreeMap::new());
    while let Some(reply) = replies.message().await? {
        assert!(answers.insert(reply.tag, reply.answer.expect("an answer")).is_none(), "one a probe");
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn faulty_stream_of_probes_ends_with_its_status() {
    let Some(shared) = common::shared("faulty_stream_of_probes_ends_with_its_status") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    running.create_gallery("g").await;
    let with_probe =
        proto::IdentifyRequest { probe: Some(proto::Probe { probe: Some(photo(Vec::new())) }), ..of_gallery("g") };
    let faults = [
        (vec![probe("a", photo(Vec::new()))], Code::InvalidArgument, "search"),
        (vec![search(of_gallery("absent"))], Code::NotFound, ""),
        (vec![search(with_probe)], Code::InvalidArgument, "search.probe"),
        (vec![search(proto::IdentifyRequest { top_k: 101, ..of_gallery("g") })], Code::InvalidArgument, "search.top_k"),
        (vec![search(of_gallery("g")), search(of_gallery("g"))], Code::InvalidArgument, "probe"),
        (vec![search(of_gallery("g")), probe(&"t".repeat(129), photo(Vec::new()))], Code::InvalidArgument, "probe.tag"),
    ];
    for (messages, code, field) in faults {
        let ended = ask(&running, messages).await.err().expect(field);
        assert_eq!((ended.code(), common::fields(&ended).as_str()), (code, field));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_probe_has_the_answer_that_identify_gives() {
    let Some(shared) = common::shared("every_probe_has_the_answer_that_identify_gives") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let pack_id = running.create_gallery("g").await.pack_id;
    let items = (0..300).map(|seed| embedding_item(&format!("p{seed}"), seed, &pack_id)).collect();
    Bulk::open(running.enrollment(), bulk_options("g")).await.all(items).await.expect("enrolled");
    let ai = common::lfw_photo(&shared, "Ai_Sugiyama", 1);
    let source = proto::sample::Source::Photo(proto::Photo { data: ai });
    running.enroll("g", "ai", vec![source]).await.expect("enrol");

    let hard = |name: &str| photo(std::fs::read(shared.join("faces/hard").join(name)).expect("a photo"));
    let mut messages = vec![search(proto::IdentifyRequest { top_k: 3, ..of_gallery("g") })];
    messages.extend((0..300).map(|seed| probe(&format!("p{seed}"), embedding(seed, &pack_id))));
    messages.extend([
        probe("ai", photo(common::lfw_photo(&shared, "Ai_Sugiyama", 2))),
        probe("black", hard("black.jpg")),
        probe("cut", hard("trunc_50pct.jpg")),
        probe("foreign", embedding(1, &"0".repeat(32))),
        proto::IdentifyStreamRequest {
            message: Some(Message::Probe(proto::TaggedProbe { tag: "none".to_owned(), probe: None })),
        },
    ]);
    let answers = ask(&running, messages).await.expect("answered");
    assert_eq!(answers.len(), 305);
    let response = |tag: &str| match &answers[tag] {
        Answer::Response(response) => response,
        Answer::Failure(failure) => panic!("{tag}: {}", failure.reason),
    };
    for seed in 0..300 {
        let response = response(&format!("p{seed}"));
        assert_eq!(response.candidates[0].identity_id, format!("p{seed}"));
        assert_eq!((response.candidates.len(), response.identity_count), (3, 301));
    }
    let alone = running.identify("g", photo(common::lfw_photo(&shared, "Ai_Sugiyama", 2))).await.expect("identified");
    assert!(response("ai").candidates[..] == alone.candidates[..3]);
    assert_eq!(response("black").not_searchable_reason, "NO_FACE");
    for (tag, reason) in [("cut", "PHOTO_TRUNCATED"), ("foreign", "PACK_MISMATCH"), ("none", "BAD_FIELD")] {
        assert!(matches!(&answers[tag], Answer::Failure(failure) if failure.reason == reason), "{tag}");
    }
    running.stop().await;
}
