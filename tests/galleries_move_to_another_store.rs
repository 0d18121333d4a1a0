//! A gallery moves between a folder and a real PostgreSQL while people are enrolled, changed, deleted and searched for: nothing that
//! was acknowledged is lost, whom somebody deleted is gone in both, and what the move leaves is the way back.

mod common;
#[path = "common/postgres.rs"]
mod postgres;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::people::{DIMENSION, enrollment, gallery, identity, pack, settings, template};
use facematch::biometrics::calibration::{Curve, ScoreCounts};
use facematch::biometrics::fusion::Fusion;
use facematch::biometrics::ids::{GalleryId, TemplateId};
use facematch::error::{Entity, Error};
use facematch::gallery::{
    CurveOwner, EmbeddedGalleries, Galleries, GalleryChange, GallerySettings, Health, IdentityChange, MovePlan,
    MoveState, NewCurve, OpenError, OpenGalleries, PostgresOptions, Scope, Search, SearchPolicy, Served, StoreLocation,
    TwoStores, open_galleries,
};
use postgres::PostgresServer;

/// A folder and a database, and which is the first.
#[derive(Clone)]
struct House {
    first: StoreLocation,
    second: StoreLocation,
}

struct Open {
    galleries: Arc<dyn Galleries>,
    stores: Arc<TwoStores>,
}

impl House {
    fn new(folder: &Path, url: &str) -> Self {
        let folder = StoreLocation::Folder(folder.to_path_buf());
        Self { first: folder, second: StoreLocation::Postgres(PostgresOptions::new(url)) }
    }

    fn turned(self) -> Self {
        Self { first: self.second, second: self.first }
    }

    async fn open(&self) -> Open {
        let opened = open_galleries(self.first.clone(), Some(self.second.clone()), None).await.expect("open");
        let OpenGalleries { galleries, two_stores } = opened;
        Open { galleries, stores: two_stores.expect("two stores") }
    }

    /// One of the two, on its own.
    async fn alone(&self, location: &StoreLocation) -> Result<Arc<dyn Galleries>, OpenError> {
        open_galleries(location.clone(), None, None).await.map(|opened| opened.galleries)
    }
}

async fn database() -> String {
    tokio::task::spawn_blocking(|| PostgresServer::shared().database()).await.expect("a database")
}

impl Open {
    async fn go(&self, id: &str, to: &StoreLocation, as_it_was: bool) -> Result<MoveState, Error> {
        let plan = MovePlan { to: to.address(), as_it_was, is_only_server: true };
        let mut states = self.stores.move_gallery(&gallery(id), plan).await?;
        let mut last = MoveState::default();
        while let Some(state) = states.recv().await {
            last = state?;
        }
        Ok(last)
    }

    async fn create(&self, id: &str, settings: GallerySettings) {
        self.galleries.create_gallery(gallery(id), settings, pack(), DIMENSION).await.expect("create");
    }

    async fn enroll(&self, id: &str, number: u64, which: &[u64]) {
        self.galleries.enroll(gallery(id), enrollment(number, which)).await.expect("enrol");
    }

    async fn has(&self, id: &str, number: u64) -> bool {
        match self.galleries.identity(&gallery(id), &identity(number)).await {
            Ok(_) => true,
            Err(Error::NotFound(Entity::Identity)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn is_found(&self, id: &str, number: u64) -> bool {
        is_found(self.galleries.as_ref(), &gallery(id), number).await
    }
}

async fn is_found(galleries: &dyn Galleries, id: &GalleryId, number: u64) -> bool {
    let search = Search { probe: template(number, 0), capacity: 1, exact: true, scope: Scope::default() };
    let outcome = galleries.search(id, vec![search]).await.expect("search").remove(0);
    outcome.ranked.first().is_some_and(|first| first.identity == identity(number) && first.score.cosine() > 0.999)
}

/// What the writers did and were told, until they are stopped.
#[derive(Default)]
struct Work {
    is_over: AtomicBool,
    /// Of each kind of person, those below have been worked on.
    next: AtomicU64,
    slowest_micros: AtomicU64,
}

/// Each person is enrolled; every fourth is deleted, renamed or given another template after that. A person whom somebody else
/// could have been searched for meanwhile is searched for after each write.
async fn write(galleries: Arc<dyn Galleries>, id: GalleryId, work: Arc<Work>) {
    while !work.is_over.load(Ordering::Acquire) {
        let number = 10_000 + work.next.fetch_add(1, Ordering::AcqRel);
        let begun = Instant::now();
        galleries.enroll(id.clone(), enrollment(number, &[0])).await.expect("enrol");
        work.slowest_micros.fetch_max(begun.elapsed().as_micros() as u64, Ordering::AcqRel);
        assert!(is_found(galleries.as_ref(), &id, number).await, "{number} is enrolled and not found");
        match number % 4 {
            0 => {
                galleries.delete_identity(id.clone(), identity(number)).await.expect("delete");
                assert!(!is_found(galleries.as_ref(), &id, number).await, "{number} is deleted and found");
            }
            1 => {
                let change = IdentityChange { display_name: Some("Renamed".into()), metadata: None };
                galleries.update_identity(id.clone(), identity(number), change).await.expect("rename");
            }
            2 => {
                galleries.enroll(id.clone(), enrollment(number, &[1])).await.expect("add");
                let zero = TemplateId::parse("1").expect("an id");
                galleries.delete_template(id.clone(), identity(number), zero).await.expect("delete a template");
            }
            _ => {}
        }
    }
}

/// Holds all that was worked on against what there is.
async fn check(open: &Open, work: &Work) {
    let id = gallery("g");
    for number in 10_000..10_000 + work.next.load(Ordering::Acquire) {
        let found = open.galleries.identity(&id, &identity(number)).await;
        match (number % 4, found) {
            (0, Err(Error::NotFound(_))) => {}
            (kind, Ok(found)) if kind > 0 => {
                let renamed = found.details.display_name == "Renamed";
                assert!(renamed == (kind == 1) && found.templates.len() == 1, "{number}");
            }
            (_, found) => panic!("{number}: {:?}", found.map(drop)),
        }
    }
    let page = open.galleries.list_identities(&id, None, 100_000).await.expect("list");
    let ids: BTreeSet<_> = page.items.iter().map(|outline| outline.id.clone()).collect();
    let (_, status) = open.galleries.gallery(&id).await.expect("the gallery");
    assert_eq!((ids.len() as u64, status.counts.damaged_identities), (status.counts.identities, 0));
    assert_eq!(
        status.counts.identities,
        600 + (0..work.next.load(Ordering::Acquire)).filter(|n| n % 4 > 0).count() as u64
    );
}

async fn moves_while_it_is_written_to(house: House) {
    let open = house.open().await;
    let wanted = GallerySettings { keep_chips: true, ..settings(SearchPolicy::Auto) };
    open.create("g", wanted.clone()).await;
    open.create("other", wanted.clone()).await;
    for number in 0..600 {
        open.enroll("g", number, &[0, 1]).await;
    }
    let work = Arc::new(Work::default());
    let writers: Vec<_> =
        (0..3).map(|_| tokio::spawn(write(Arc::clone(&open.galleries), gallery("g"), Arc::clone(&work)))).collect();
    // There, back, and there again, each as a whole copy.
    for (to, from) in [(&house.second, &house.first), (&house.first, &house.second), (&house.second, &house.first)] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let moved = open.go("g", to, false).await.expect("move");
        assert!(moved.is_switched && moved.identities >= 600 && moved.compared == 500, "{moved:?}");
        // What is left is in the way of another move, until it is deleted.
        assert!(matches!(open.go("g", from, false).await, Err(Error::AlreadyExists(Entity::Copy))));
        open.stores.delete_copy(&gallery("g")).await.expect("delete the copy");
        assert!(matches!(open.stores.delete_copy(&gallery("g")).await, Err(Error::NotFound(Entity::Copy))));
    }
    work.is_over.store(true, Ordering::Release);
    for writer in writers {
        writer.await.expect("no write or search failed");
    }
    println!(
        "{} people written meanwhile, the slowest enrolment took {} ms",
        work.next.load(Ordering::Acquire),
        work.slowest_micros.load(Ordering::Acquire) / 1_000
    );
    check(&open, &work).await;
    let (moved, _) = open.galleries.gallery(&gallery("g")).await.expect("the gallery");
    assert!(moved.settings == wanted, "{:?}", moved.settings);
    let page = open.galleries.list_galleries(None, 10, &|_| true).await.expect("list");
    assert_eq!(page.items.iter().map(|(gallery, _)| gallery.id.as_str()).collect::<Vec<_>>(), ["g", "other"]);
    open.galleries.close().await;
    drop(open);
    // After a start it is where it moved to, and the other store is free of it.
    let open = house.open().await;
    check(&open, &work).await;
    open.galleries.close().await;
    drop(open);
    let first = house.alone(&house.first).await.expect("no copies");
    assert!(matches!(first.gallery(&gallery("g")).await, Err(Error::NotFound(Entity::Gallery))));
    assert!(first.gallery(&gallery("other")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn gallery_moves_from_a_folder_to_a_database_while_it_is_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    moves_while_it_is_written_to(House::new(folder.path(), &database().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gallery_moves_from_a_database_to_a_folder_while_it_is_written_to() {
    let folder = tempfile::tempdir().expect("a folder");
    moves_while_it_is_written_to(House::new(folder.path(), &database().await).turned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_the_way_back_and_forgets_whom_somebody_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let house = House::new(folder.path(), &database().await);
    let open = house.open().await;
    open.create("g", GallerySettings { fusion: Fusion::Mean, ..settings(SearchPolicy::Auto) }).await;
    for number in 0..20 {
        open.enroll("g", number, &[0, 1]).await;
    }
    let curve = curve();
    open.galleries.set_curve(CurveOwner::Gallery(gallery("g")), curve).await.expect("a curve");
    assert!(matches!(open.go("g", &house.second, true).await, Err(Error::NotFound(Entity::Copy))));
    open.go("g", &house.second, false).await.expect("move");
    let moved = open.galleries.curve(&CurveOwner::Gallery(gallery("g"))).await.expect("a read");
    assert_eq!(moved.expect("its curve").source, "a test");
    // In the second store now: one deleted, one that has lost its last template of then, one renamed, one new.
    open.galleries.delete_identity(gallery("g"), identity(3)).await.expect("delete");
    open.enroll("g", 4, &[7]).await;
    for which in ["0", "1"] {
        let template = TemplateId::parse(which).expect("an id");
        open.galleries.delete_template(gallery("g"), identity(4), template).await.expect("delete a template");
    }
    open.enroll("g", 100, &[0]).await;
    let again = open.galleries.create_gallery(gallery("g"), GallerySettings::default(), pack(), DIMENSION).await;
    assert!(matches!(again, Err(Error::AlreadyExists(Entity::Gallery))));
    open.galleries.close().await;
    drop(open);
    // Without the second store the server must not serve what is left.
    match house.alone(&house.first).await {
        Err(error @ OpenError::Elsewhere(_)) => assert!(error.to_string().contains("second_store"), "{error}"),
        other => panic!("{:?}", other.map(drop)),
    }
    let open = house.open().await;
    assert!(open.has("g", 100).await && !open.has("g", 3).await && open.has("g", 4).await);
    let back = open.go("g", &house.first, true).await.expect("back");
    assert!(back.is_switched && back.identities == 0);
    // As it was, but for whom was deleted since.
    for (number, is_there) in [(0, true), (3, false), (4, false), (100, false)] {
        assert_eq!(open.has("g", number).await, is_there, "{number}");
    }
    // And forth again to what is left there, which has forgotten whom this one forgot.
    open.galleries.delete_identity(gallery("g"), identity(5)).await.expect("delete");
    open.go("g", &house.second, true).await.expect("forth");
    assert!(open.has("g", 100).await && !open.has("g", 5).await);
    // A gallery is deleted wherever anything is left of it.
    assert!(matches!(open.galleries.delete_gallery(gallery("g"), false).await, Err(Error::GalleryNotEmpty { .. })));
    open.galleries.delete_gallery(gallery("g"), true).await.expect("delete");
    assert!(matches!(open.galleries.gallery(&gallery("g")).await, Err(Error::NotFound(Entity::Gallery))));
    open.galleries.close().await;
    drop(open);
    for location in [&house.first, &house.second] {
        let alone = house.alone(location).await.expect("no copies");
        assert!(alone.list_galleries(None, 10, &|_| true).await.expect("list").items.is_empty());
        alone.close().await;
    }
}

fn curve() -> NewCurve {
    let (mut mated, mut non_mated) = (ScoreCounts::default(), ScoreCounts::default());
    (0..100).for_each(|at| mated.add(0.3 + at as f32 / 200.0).expect("a score"));
    (0..3_000).for_each(|at| non_mated.add(at as f32 / 8_000.0).expect("a score"));
    NewCurve { pack_id: pack(), curve: Curve::of(&mated, &non_mated), source: "a test".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn move_that_cannot_be_is_refused_and_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let house = House::new(folder.path(), &database().await);
    // The second store has a gallery of its own of that id.
    let second = house.alone(&house.second).await.expect("open");
    second.create_gallery(gallery("g"), GallerySettings::default(), pack(), DIMENSION).await.expect("create");
    second.create_gallery(gallery("theirs"), GallerySettings::default(), pack(), DIMENSION).await.expect("create");
    second.enroll(gallery("g"), enrollment(900, &[0])).await.expect("enrol");
    let first = house.alone(&house.first).await.expect("open");
    first.create_gallery(gallery("g"), settings(SearchPolicy::Auto), pack(), DIMENSION).await.expect("create");
    first.enroll(gallery("g"), enrollment(900, &[0])).await.expect("enrol");
    first.enroll(gallery("g"), enrollment(1, &[0])).await.expect("enrol");
    first.close().await;
    drop(first);
    let open = house.open().await;
    assert!(matches!(open.go("g", &house.second, false).await, Err(Error::AlreadyExists(Entity::Copy))));
    assert!(matches!(open.go("g", &house.second, true).await, Err(Error::NotFound(Entity::Copy))));
    assert!(matches!(open.stores.delete_copy(&gallery("g")).await, Err(Error::AlreadyExists(Entity::Gallery))));
    // It is none of ours: deletions here are not deletions there.
    open.galleries.delete_identity(gallery("g"), identity(900)).await.expect("delete");
    assert!(second.identity(&gallery("g"), &identity(900)).await.is_ok());
    assert!(open.has("g", 1).await);
    for (id, to, field) in [("g", "postgres://nobody@nowhere/x", "to"), ("g", &house.first.address(), "to")] {
        let plan = MovePlan { to: to.to_owned(), as_it_was: false, is_only_server: true };
        match open.stores.move_gallery(&gallery(id), plan).await {
            Err(Error::BadField { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{:?}", other.map(drop)),
        }
    }
    let plan = MovePlan { to: house.second.address(), as_it_was: false, is_only_server: false };
    let nobody = open.stores.move_gallery(&gallery("nobody"), plan).await;
    assert!(matches!(nobody.err(), Some(Error::NotFound(Entity::Gallery))));
    // Of a store that others may share it has to be said that they do not.
    let plan = MovePlan { to: house.first.address(), as_it_was: false, is_only_server: false };
    match open.stores.move_gallery(&gallery("theirs"), plan).await {
        Err(Error::BadField { field, .. }) => assert_eq!(field, "only_server"),
        other => panic!("{:?}", other.map(drop)),
    }
    open.galleries.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn move_that_is_let_go_of_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let house = House::new(folder.path(), &database().await);
    let open = house.open().await;
    open.create("g", settings(SearchPolicy::Auto)).await;
    for number in 0..4_000 {
        open.enroll("g", number, &[0, 1, 2]).await;
    }
    let plan = MovePlan { to: house.second.address(), as_it_was: false, is_only_server: false };
    let mut states = open.stores.move_gallery(&gallery("g"), plan.clone()).await.expect("begin");
    states.recv().await.expect("a state").expect("copied some");
    // Meanwhile there can be no other.
    let other = open.stores.move_gallery(&gallery("g"), plan).await;
    assert!(matches!(other.err(), Some(Error::UnderWay(_))));
    drop(states);
    // It notices at its next step, and deletes what it copied.
    for tries in 0.. {
        match open.stores.delete_copy(&gallery("g")).await {
            Err(Error::NotFound(Entity::Copy)) => break,
            Err(Error::UnderWay(_)) if tries < 600 => tokio::time::sleep(Duration::from_millis(50)).await,
            other => panic!("{other:?}"),
        }
    }
    let (_, status) = open.galleries.gallery(&gallery("g")).await.expect("the gallery");
    assert!(status.counts.identities == 4_000 && open.is_found("g", 7).await);
    assert!(open.go("g", &house.second, false).await.expect("move").is_switched);
    assert!(open.is_found("g", 7).await);
    open.galleries.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn move_that_was_killed_leaves_what_is_known_and_can_be_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let house = House::new(folder.path(), &database().await);
    let open = house.open().await;
    open.create("g", settings(SearchPolicy::Auto)).await;
    for number in 0..3 {
        open.enroll("g", number, &[0]).await;
    }
    open.go("g", &house.second, false).await.expect("move");
    open.galleries.close().await;
    drop(open);
    // As where it was killed before the switch: all is copied, and the first store serves.
    let says = async |served: Served| {
        let opened = house.open().await;
        opened.galleries.close().await;
        drop(opened);
        let first = EmbeddedGalleries::open(folder.path()).expect("open");
        let change = GalleryChange { served: Some(served), ..Default::default() };
        first.update_gallery(gallery("g"), change).await.expect("update");
    };
    says(Served::HereWithCopy).await;
    let open = house.open().await;
    open.enroll("g", 5, &[0]).await;
    // Whom somebody deletes now does not come back by what it copied.
    open.galleries.delete_identity(gallery("g"), identity(1)).await.expect("delete");
    open.go("g", &house.second, true).await.expect("what it copied is served");
    assert!(open.has("g", 0).await && !open.has("g", 1).await && !open.has("g", 5).await);
    open.go("g", &house.first, true).await.expect("back");
    assert!(open.has("g", 5).await && !open.has("g", 1).await);
    assert!(matches!(open.go("g", &house.second, false).await, Err(Error::AlreadyExists(Entity::Copy))));
    open.stores.delete_copy(&gallery("g")).await.expect("delete what it copied");
    // And before there was anything.
    open.galleries.close().await;
    drop(open);
    says(Served::HereWithCopy).await;
    let open = house.open().await;
    assert!(matches!(open.stores.delete_copy(&gallery("g")).await, Err(Error::NotFound(Entity::Copy))));
    assert!(open.go("g", &house.second, false).await.expect("move").is_switched && open.has("g", 5).await);
    open.galleries.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gallery_that_may_not_be_deleted_during_its_move_moves_whole() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let [first, second] = [&folders[0], &folders[1]].map(|folder| StoreLocation::Folder(folder.path().to_path_buf()));
    let house = House { first, second };
    let open = house.open().await;
    open.create("g", settings(SearchPolicy::Auto)).await;
    for number in 0..2_000 {
        open.enroll("g", number, &[0, 1]).await;
    }
    let plan = MovePlan { to: house.second.address(), as_it_was: false, is_only_server: false };
    let mut states = open.stores.move_gallery(&gallery("g"), plan).await.expect("begin");
    let mut number = 5_000;
    let mut last = MoveState::default();
    while let Some(state) = states.recv().await {
        last = state.expect("it moves");
        let refused = open.galleries.delete_gallery(gallery("g"), false).await;
        assert!(matches!(refused, Err(Error::GalleryNotEmpty { .. })), "{:?}", refused.map(drop));
        open.enroll("g", number, &[0]).await;
        open.galleries.delete_identity(gallery("g"), identity(number - 5_000)).await.expect("delete");
        number += 1;
    }
    assert!(last.is_switched && number > 5_001);
    open.enroll("g", number, &[0]).await;
    open.galleries.close().await;
    drop(open);
    let open = house.open().await;
    for number in 5_000..=number {
        assert!(open.has("g", number).await, "{number}");
        assert!(number == 5_000 || !open.has("g", number - 5_001).await, "{number}");
    }
    open.galleries.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn import_that_was_open_all_along_makes_no_second_gallery() {
    let folder = tempfile::tempdir().expect("a folder");
    let house = House::new(folder.path(), &database().await);
    let open = house.open().await;
    open.create("other", settings(SearchPolicy::Auto)).await;
    open.enroll("other", 7, &[0]).await;
    let mut file = Vec::new();
    let mut parts = open.galleries.export(&gallery("other")).await.expect("export");
    while let Some(part) = parts.recv().await {
        file.extend(part.expect("a part").bytes);
    }
    let mut import = open.galleries.begin_import(gallery("g"), 0).await.expect("begin");
    open.create("g", settings(SearchPolicy::Auto)).await;
    open.enroll("g", 1, &[0]).await;
    open.go("g", &house.second, false).await.expect("move");
    open.stores.delete_copy(&gallery("g")).await.expect("delete the copy");
    import.feed(file).await.expect("feed");
    let ended = import.finish(Served::Here).await;
    assert!(matches!(ended, Err(Error::AlreadyExists(Entity::Gallery))), "{:?}", ended.map(drop));
    open.galleries.close().await;
    drop(open);
    let open = house.open().await;
    assert!(open.has("g", 1).await && !open.has("g", 7).await);
    open.galleries.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn way_back_needs_no_database() {
    let (mut server, url) = tokio::task::spawn_blocking(|| {
        let server = PostgresServer::start();
        let url = server.database();
        (server, url)
    })
    .await
    .expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let house = House::new(folder.path(), &url);
    let open = house.open().await;
    open.create("g", settings(SearchPolicy::Auto)).await;
    open.create("stays", settings(SearchPolicy::Auto)).await;
    open.enroll("g", 1, &[0]).await;
    open.enroll("stays", 2, &[0]).await;
    open.go("g", &house.second, false).await.expect("move");
    let mut server = tokio::task::spawn_blocking(move || {
        server.kill();
        server
    })
    .await
    .expect("killed");
    let read = open.galleries.identity(&gallery("g"), &identity(1)).await;
    assert!(matches!(read, Err(Error::Unavailable(_))), "{:?}", read.map(drop));
    assert!(open.has("stays", 2).await, "what the first store serves does not need the second");
    open.galleries.close().await;
    drop(open);
    // Also after a start without it.
    let open = house.open().await;
    assert!(open.has("stays", 2).await);
    assert!(open.go("g", &house.first, true).await.expect("back").is_switched);
    assert!(open.has("g", 1).await && open.is_found("g", 1).await);
    assert_eq!(open.galleries.health(), Health::Ready);
    // Whom the database still has cannot be deleted there now, and nobody is told that he is.
    let deleted = open.galleries.delete_identity(gallery("g"), identity(1)).await;
    assert!(matches!(deleted, Err(Error::Unavailable(_))), "{:?}", deleted.map(drop));
    let deleted = open.galleries.delete_gallery(gallery("g"), true).await;
    assert!(matches!(deleted, Err(Error::Unavailable(_))), "{:?}", deleted.map(drop));
    // Once it is back it is taken up, and what it has goes with the gallery.
    let server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .expect("restarted");
    let began = Instant::now();
    while let Err(error) = open.galleries.delete_gallery(gallery("g"), true).await {
        assert!(matches!(error, Error::Unavailable(_)) && began.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(matches!(open.galleries.gallery(&gallery("g")).await, Err(Error::NotFound(Entity::Gallery))));
    open.galleries.close().await;
    drop(open);
    let open = house.open().await;
    assert!(matches!(open.galleries.gallery(&gallery("g")).await, Err(Error::NotFound(Entity::Gallery))));
    open.galleries.close().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn way_back_is_a_gallerys_own() {
    let url = database().await;
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let [one, other] = [House::new(folders[0].path(), &url), House::new(folders[1].path(), &url)];
    let open = one.open().await;
    open.create("g", settings(SearchPolicy::Auto)).await;
    open.enroll("g", 1, &[0]).await;
    open.go("g", &one.second, false).await.expect("move");
    open.go("g", &one.first, true).await.expect("back");
    open.galleries.close().await;
    drop(open);
    // Another server's gallery of that id has no way back in what the first one left.
    let first = EmbeddedGalleries::open(folders[1].path()).expect("open");
    first.create_gallery(gallery("g"), settings(SearchPolicy::Auto), pack(), DIMENSION).await.expect("create");
    let change = GalleryChange { served: Some(Served::HereWithCopy), ..Default::default() };
    first.update_gallery(gallery("g"), change).await.expect("update");
    first.enroll(gallery("g"), enrollment(1, &[0])).await.expect("enrol");
    drop(first);
    let open = other.open().await;
    assert!(matches!(open.go("g", &other.second, true).await, Err(Error::NotFound(Entity::Copy))));
    open.galleries.delete_identity(gallery("g"), identity(1)).await.expect("delete");
    open.galleries.delete_gallery(gallery("g"), true).await.expect("delete");
    open.galleries.close().await;
    drop(open);
    let open = one.open().await;
    open.go("g", &one.second, true).await.expect("its own way back");
    assert!(open.has("g", 1).await, "nobody else's deletion reached it");
    open.galleries.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn way_back_that_missed_deletions_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let house = House::new(folder.path(), &database().await);
    let open = house.open().await;
    open.create("g", settings(SearchPolicy::Auto)).await;
    for number in 0..4 {
        open.enroll("g", number, &[0]).await;
    }
    open.go("g", &house.second, false).await.expect("move");
    open.go("g", &house.first, true).await.expect("back");
    open.galleries.close().await;
    drop(open);
    // The other way round, the copy would be served.
    let turned = house.clone().turned();
    let refused = open_galleries(turned.first, Some(turned.second), None).await;
    assert!(matches!(refused, Err(OpenError::Turned(_))), "{:?}", refused.map(drop));
    let alone = house.alone(&house.first).await.expect("it serves all by itself");
    alone.delete_identity(gallery("g"), identity(1)).await.expect("delete");
    alone.close().await;
    drop(alone);
    let open = house.open().await;
    assert!(matches!(open.go("g", &house.second, true).await, Err(Error::NotFound(Entity::Copy))));
    open.galleries.delete_identity(gallery("g"), identity(2)).await.expect("delete");
    let second = house.alone(&house.second).await.expect("open");
    let left = second.identity(&gallery("g"), &identity(2)).await;
    assert!(matches!(left, Err(Error::NotFound(Entity::Identity))), "deletions reach it again");
    open.galleries.delete_gallery(gallery("g"), true).await.expect("delete");
    open.galleries.close().await;
    drop(open);
    let open = house.open().await;
    assert!(matches!(open.galleries.gallery(&gallery("g")).await, Err(Error::NotFound(Entity::Gallery))));
    open.galleries.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_make_in_a_store_that_was_left_is_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let house = House::new(folder.path(), &database().await).turned();
    let open = house.open().await;
    open.create("g", settings(SearchPolicy::Auto)).await;
    open.enroll("g", 1, &[0]).await;
    open.go("g", &house.second, false).await.expect("move");
    open.stores.delete_copy(&gallery("g")).await.expect("delete the copy");
    let theirs = house.alone(&house.first).await.expect("open");
    theirs.create_gallery(gallery("g"), settings(SearchPolicy::Auto), pack(), DIMENSION).await.expect("create");
    theirs.enroll(gallery("g"), enrollment(1, &[0])).await.expect("enrol");
    assert!(matches!(open.stores.delete_copy(&gallery("g")).await, Err(Error::NotFound(Entity::Copy))));
    open.galleries.delete_identity(gallery("g"), identity(1)).await.expect("delete");
    open.galleries.delete_gallery(gallery("g"), true).await.expect("delete");
    assert!(theirs.identity(&gallery("g"), &identity(1)).await.is_ok());
    open.galleries.close().await;
}
