//! A gallery with kept chips moves to another pack while it is searched and written, and back; without chips it says what is missing.

mod common;

use std::path::Path;

use common::Running;
use facematch::contract::probe::Probe;
use facematch::contract::{self as proto};
use tonic::{Code, Status};
use tonic_types::StatusExt;

const PEOPLE: [&str; 6] =
    ["Ai_Sugiyama", "Abdoulaye_Wade", "Al_Sharpton", "Abdullah_Gul", "Barbara_Walters", "Alejandro_Toledo"];

/// With the strong pack for new galleries, and another beside it.
async fn serve(shared: &Path, data: &Path) -> Running {
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs/scrfd25kps-y1");
    common::serve(shared, data, &[("other_packs", other.to_str().expect("a UTF-8 path"))]).await
}

fn photo(shared: &Path, person: &str, number: usize) -> proto::Photo {
    proto::Photo { data: common::lfw_photo(shared, person, number) }
}

/// Enrols a photo; what is just then made for the pack of before is sent again.
async fn enroll(running: &Running, shared: &Path, person: &str, number: usize) {
    loop {
        let source = proto::sample::Source::Photo(photo(shared, person, number));
        match running.enroll("staff", person, vec![source]).await {
            Err(status) if status.code() == Code::Unavailable => {}
            enrolled => return drop(enrolled.expect("enrol")),
        }
    }
}

async fn migrate(
    running: &Running,
    pack: &str,
    loss_max: f64,
    trial: bool,
) -> Result<proto::MigrateGalleryResponse, Status> {
    let request = proto::MigrateGalleryRequest {
        gallery_id: "staff".to_owned(),
        pack: pack.to_owned(),
        loss_max: Some(loss_max),
        trial,
    };
    let mut states = running.galleries().migrate_gallery(request).await?.into_inner();
    let mut last = None;
    while let Some(state) = states.message().await? {
        last = Some(state);
    }
    Ok(last.expect("a state"))
}

fn reason(result: Result<proto::MigrateGalleryResponse, Status>) -> String {
    result.expect_err("refused").get_details_error_info().expect("a reason").reason
}

async fn identity(running: &Running, person: &str) -> proto::Identity {
    let request = proto::GetIdentityRequest {
        gallery_id: "staff".to_owned(),
        identity_id: person.to_owned(),
        include_embeddings: true,
    };
    running.enrollment().get_identity(request).await.expect("get").into_inner().identity.expect("an identity")
}

#[tokio::test(flavor = "multi_thread")]
async fn gallery_moves_under_load_and_back_to_the_same_templates() {
    let Some(shared) = common::shared("gallery_moves_under_load_and_back_to_the_same_templates") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(&shared, data.path()).await;
    let strong = common::pack(&shared, common::STRONG_PACK);
    let other = common::pack(&shared, "scrfd25kps-y1");
    let gallery = proto::Gallery {
        gallery_id: "staff".to_owned(),
        keep_chips: true,
        identification_cosine: Some(0.45),
        ..Default::default()
    };
    let created = running.create_gallery_with(gallery).await.expect("create");
    assert_eq!((created.keep_chips, created.pack_id.as_str()), (true, strong.id.as_str()));
    for person in PEOPLE {
        for number in [1, 2] {
            enroll(&running, &shared, person, number).await;
        }
    }
    let before = identity(&running, PEOPLE[0]).await;
    assert!(before.templates.iter().all(|template| template.has_chip));

    // A trial tells and changes nothing; a pack that does not run, or is the gallery's own, is refused.
    let trial = migrate(&running, &other.name, 0.0, true).await.expect("a trial");
    let compared = trial.comparison.expect("a comparison");
    assert_eq!((trial.identity_count, trial.switched, compared.probe_count), (6, false, 12));
    assert_eq!((compared.found_before_count, compared.found_after_count), (12, 12));
    assert_eq!(running.gallery("staff").await.pack_id, strong.id.as_str());
    assert_eq!(reason(migrate(&running, &"0a".repeat(16), 0.0, false).await), "PACK_MISMATCH");
    assert_eq!(reason(migrate(&running, "no such pack", 0.0, false).await), "BAD_FIELD");
    assert_eq!(reason(migrate(&running, strong.id.as_str(), 0.0, false).await), "BAD_FIELD");

    // Searched and written all the while: every answer is right, or says to ask again.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let searching = async {
        let (mut asked, mut again) = (0u32, 0u32);
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let probe = Probe::Photo(photo(&shared, "Ai_Sugiyama", 3));
            match running.identify("staff", probe).await {
                Ok(reply) => {
                    assert_eq!(reply.decision(), proto::IdentifyDecision::Match);
                    assert_eq!(reply.candidates[0].identity_id, "Ai_Sugiyama");
                    asked += 1;
                }
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status}");
                    again += 1;
                }
            }
        }
        (asked, again)
    };
    let writing = async {
        for (person, number) in [("Ai_Sugiyama", 4), ("Angela_Bassett", 1), ("Angela_Bassett", 2), ("Al_Sharpton", 3)] {
            enroll(&running, &shared, person, number).await;
        }
        let request =
            proto::DeleteIdentityRequest { gallery_id: "staff".to_owned(), identity_id: "Barbara_Walters".to_owned() };
        running.enrollment().delete_identity(request).await.expect("delete");
    };
    let moving = async {
        let (moved, ()) = tokio::join!(migrate(&running, other.id.as_str(), 0.2, false), writing);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        moved
    };
    let ((asked, again), moved) = tokio::join!(searching, moving);
    let moved = moved.expect("a move");
    assert!(moved.switched && asked > 0 && again <= 1, "{asked} {again}");
    let gallery = running.gallery("staff").await;
    assert_eq!((gallery.pack_id.as_str(), gallery.identity_count, gallery.template_count), (other.id.as_str(), 6, 14));
    assert_eq!(gallery.identification_cosine, None, "a cosine of the old pack is no threshold of the new one");

    // Of the new pack: by photo, by embedding, and what the old one made is refused.
    let found = running.identify("staff", Probe::Photo(photo(&shared, "Angela_Bassett", 2))).await.expect("identify");
    assert_eq!((found.decision(), found.pack_id.as_str()), (proto::IdentifyDecision::Match, other.id.as_str()));
    let foreign = Probe::Embedding(running.embed(common::lfw_photo(&shared, "Ai_Sugiyama", 3)).await);
    assert_eq!(
        running.identify("staff", foreign).await.expect_err("of the other pack").code(),
        Code::FailedPrecondition
    );
    assert_eq!(identity(&running, PEOPLE[0]).await.templates[0].pack_id, other.id.as_str());

    // All of it is there after a restart, and on the way back the old templates come out as they were.
    running.stop().await;
    let running = serve(&shared, data.path()).await;
    assert_eq!(running.gallery("staff").await.pack_id, other.id.as_str());
    let back = migrate(&running, strong.id.as_str(), 1.0, false).await.expect("back");
    assert!(back.switched);
    let after = identity(&running, PEOPLE[0]).await;
    assert_eq!(after.templates.len(), 3);
    for (before, after) in before.templates.iter().zip(&after.templates) {
        assert_eq!((&before.template_id, &before.pack_id), (&after.template_id, &after.pack_id));
        let [before, after] = [before, after].map(|template| &template.embedding.as_ref().expect("one").values);
        let score: f32 = before.iter().zip(after).map(|(a, b)| a * b).sum();
        assert!(score > 0.999_999, "{score}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gallery_without_all_chips_says_how_many_are_missing() {
    let Some(shared) = common::shared("gallery_without_all_chips_says_how_many_are_missing") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = serve(&shared, data.path()).await;
    let other = common::pack(&shared, "scrfd25kps-y1");
    running.create_gallery("staff").await;
    enroll(&running, &shared, "Ai_Sugiyama", 1).await;
    let gallery = proto::Gallery { gallery_id: "staff".to_owned(), keep_chips: true, ..Default::default() };
    running.update_gallery(gallery, &["keep_chips"]).await.expect("update");
    enroll(&running, &shared, "Ai_Sugiyama", 2).await;
    let embedding = running.embed(common::lfw_photo(&shared, "Al_Sharpton", 1)).await;
    running.enroll("staff", "Al_Sharpton", vec![proto::sample::Source::Embedding(embedding)]).await.expect("enrol");
    let refused = migrate(&running, other.id.as_str(), 0.0, false).await.expect_err("refused");
    let info = refused.get_details_error_info().expect("a reason");
    assert_eq!((refused.code(), info.reason.as_str()), (Code::FailedPrecondition, "CHIPS_MISSING"));
    assert!(refused.message().starts_with("2 templates of 2 identities"), "{}", refused.message());
    assert_eq!(info.metadata["first_identity_id"], "Ai_Sugiyama");
    running.stop().await;
}
