//! A graph is built while searches and writes go on, knows what was written meanwhile, and says what it misses.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use facematch::biometrics::fusion::Fusion;
use facematch::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use facematch::biometrics::template::Template;
use facematch::gallery::{
    EmbeddedGalleries, EnrolledTemplate, Enrollment, GalleryChange, GallerySettings, GalleryStatus, IdentityChange,
    IfExists, RecallTarget, Scope, Search, SearchPath, SearchPolicy, Synthetic,
};

const DIMENSION: usize = 512;
const PEOPLE: u64 = 1_500;

fn id(text: &str) -> GalleryId {
    GalleryId::parse(text).expect("an id")
}

fn identity(number: u64) -> IdentityId {
    IdentityId::parse(&format!("p{number}")).expect("an id")
}

fn pack() -> PackId {
    PackId::parse(&"0a".repeat(16)).expect("an id")
}

fn template(number: u64, of: u64) -> Template {
    Template::from_vector(&Synthetic::new(4, DIMENSION).template(number, of), pack()).expect("a template")
}

async fn create(galleries: &EmbeddedGalleries, gallery: &str) {
    let settings = GallerySettings { search_policy: SearchPolicy::Exact, ..Default::default() };
    galleries.create_gallery(id(gallery), settings, pack(), DIMENSION).await.expect("create");
}

async fn enroll(galleries: &EmbeddedGalleries, gallery: &str, number: u64) {
    let of_person = (0..Synthetic::new(4, DIMENSION).template_count(number)).map(|of| EnrolledTemplate {
        id: TemplateId::parse(&of.to_string()).expect("an id"),
        template: template(number, of),
        face: None,
        chip: None,
        created: SystemTime::now(),
    });
    let enrollment = Enrollment {
        identity: identity(number),
        change: IdentityChange::default(),
        templates: of_person.collect(),
        if_exists: IfExists::Refuse,
        check_defaults: Default::default(),
        may_refuse_all: false,
        identities_max: None,
    };
    galleries.enroll(id(gallery), enrollment).await.expect("enrol");
}

/// A gallery of many people.
async fn filled(folder: &std::path::Path) -> Arc<EmbeddedGalleries> {
    let galleries = Arc::new(EmbeddedGalleries::open(folder).expect("open"));
    create(&galleries, "g").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let galleries = Arc::clone(&galleries);
        writers.spawn(async move {
            for number in (writer..PEOPLE).step_by(64) {
                enroll(&galleries, "g", number).await;
            }
        });
    }
    writers.join_all().await;
    galleries
}

async fn set_policy(galleries: &EmbeddedGalleries, search_policy: SearchPolicy) {
    let change = GalleryChange { search_policy: Some(search_policy), ..Default::default() };
    galleries.update_gallery(id("g"), change).await.expect("update");
}

fn status(galleries: &EmbeddedGalleries) -> GalleryStatus {
    galleries.gallery(&id("g")).expect("the gallery").1
}

/// Searches by another template of a person; who is best, and by which path.
fn best(galleries: &EmbeddedGalleries, number: u64) -> (Option<IdentityId>, SearchPath) {
    let search = Search { probe: template(number, 77), capacity: 3, exact: false, scope: Scope::default() };
    let outcome = galleries.search(&id("g"), search).expect("search");
    let first = outcome.ranked.into_iter().next();
    (first.map(|best| best.identity), outcome.path)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(120), "{what} within two minutes");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_knows_what_was_written_while_it_was_built() {
    let folder = tempfile::tempdir().expect("a folder");
    let galleries = filled(folder.path()).await;
    create(&galleries, "other").await;
    set_policy(&galleries, SearchPolicy::Graph).await;

    // The build has begun; nothing waits for it.
    assert!(status(&galleries).build_progress.is_some_and(|progress| progress < 0.9));
    assert_eq!(best(&galleries, 5), (Some(identity(5)), SearchPath::Exact));
    for number in 0..40 {
        enroll(&galleries, "g", PEOPLE + number).await;
        enroll(&galleries, "other", number).await;
        galleries.delete_identity(id("g"), identity(number)).await.expect("delete");
        assert!(
            number > 0 || status(&galleries).build_progress.is_some(),
            "three writes were done before the graph was"
        );
    }

    until("the graph is in use", || status(&galleries).path == SearchPath::Graph).await;
    let recall = status(&galleries).recall.expect("a measurement");
    println!("{recall:?}");
    assert!(recall.probes >= 2_000 && recall.missed * 1_000 <= recall.probes);
    for number in 0..40 {
        assert_ne!(best(&galleries, number).0, Some(identity(number)), "{number} was deleted");
        assert_eq!(best(&galleries, PEOPLE + number), (Some(identity(PEOPLE + number)), SearchPath::Graph));
    }
    // And what is written afterwards.
    galleries.delete_identity(id("g"), identity(100)).await.expect("delete");
    enroll(&galleries, "g", PEOPLE + 100).await;
    assert_ne!(best(&galleries, 100).0, Some(identity(100)));
    assert_eq!(best(&galleries, PEOPLE + 100), (Some(identity(PEOPLE + 100)), SearchPath::Graph));
    galleries.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn build_is_cancelled_by_the_policy_the_deletion_and_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let galleries = filled(folder.path()).await;
    set_policy(&galleries, SearchPolicy::Graph).await;
    assert!(status(&galleries).build_progress.is_some());
    set_policy(&galleries, SearchPolicy::Exact).await;
    let after = status(&galleries);
    assert_eq!((after.build_progress, after.path, after.recall), (None, SearchPath::Exact, None));

    set_policy(&galleries, SearchPolicy::Graph).await;
    galleries.delete_gallery(id("g"), true).await.expect("delete");
    create(&galleries, "g").await;
    assert_eq!(status(&galleries).build_progress, None);
    // A few rows make a graph too; one more build is under way when the store is closed.
    enroll(&galleries, "g", 1).await;
    set_policy(&galleries, SearchPolicy::Graph).await;
    until("the small graph is in use", || status(&galleries).path == SearchPath::Graph).await;
    galleries.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn build_begins_anew_when_the_rows_are_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let galleries = filled(folder.path()).await;
    set_policy(&galleries, SearchPolicy::Graph).await;
    assert!(status(&galleries).build_progress.is_some());
    let change = GalleryChange { fusion: Some(Fusion::Mean), ..Default::default() };
    let started = Instant::now();
    galleries.update_gallery(id("g"), change).await.expect("update");
    println!("{:?} to make {:?} anew", started.elapsed(), status(&galleries).counts);
    assert!(
        status(&galleries).build_progress.is_some_and(|progress| progress < 0.5),
        "of the old rows nothing is left"
    );
    until("the graph is in use", || status(&galleries).path == SearchPath::Graph).await;
    let status = status(&galleries);
    // A row an identity: as many probes as three times the rows, at most.
    assert!(status.recall.is_some_and(|recall| recall.missed * 1_000 <= recall.probes), "{status:?}");
    for number in 0..40 {
        assert_eq!(best(&galleries, number), (Some(identity(number)), SearchPath::Graph));
    }
    galleries.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_is_measured_again_when_the_gallery_has_grown_or_asks_for_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let galleries = filled(folder.path()).await;
    set_policy(&galleries, SearchPolicy::Graph).await;
    until("the graph is in use", || status(&galleries).path == SearchPath::Graph).await;
    let first = status(&galleries).recall.expect("a measurement");
    for number in 0..PEOPLE / 3 {
        enroll(&galleries, "g", PEOPLE + number).await;
    }
    // It goes on answering meanwhile.
    assert_eq!(best(&galleries, PEOPLE + 1), (Some(identity(PEOPLE + 1)), SearchPath::Graph));
    until("it is measured again", || status(&galleries).recall.is_some_and(|recall| recall.time > first.time)).await;

    let second = status(&galleries).recall.expect("a measurement");
    let change = GalleryChange { recall_target: RecallTarget::new("t", 0.9999).ok(), ..Default::default() };
    galleries.update_gallery(id("g"), change).await.expect("update");
    enroll(&galleries, "g", 2 * PEOPLE).await;
    let is_decided = || {
        let now = status(&galleries);
        let meets = now.recall.is_some_and(|recall| recall.missed * 10_000 <= recall.probes);
        now.build_progress.is_none() && (meets || now.path == SearchPath::Exact)
    };
    until("the higher target is met, or the search exact", is_decided).await;
    println!("{second:?}, then {:?}", status(&galleries));
    assert!(RecallTarget::new("t", 1.0).is_err() && RecallTarget::new("t", 0.5).is_err());
    galleries.close();
}
