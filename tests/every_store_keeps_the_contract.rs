//! What holds of galleries holds in every store: each test here runs on this machine's own store, on a real PostgreSQL with
//! pgvector through several servers of it, and on both at once, where each gallery has moved from one to the other. With `FACEMATCH_TEST_POSTGRES_URL` or `FACEMATCH_TEST_CITUS_URL` the same tests run in the
//! database that it names, in a schema of their own; without, they are not run, and not counted as passed.

mod common;
#[path = "common/postgres.rs"]
mod postgres;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::people::{self, DIMENSION, gallery, identity, pack, settings, template};
use facematch::access::{Credential, Grants, Key, KeyId, KeyLimits, KeyText, SecretHash};
use facematch::biometrics::calibration::{Curve, ScoreCounts};
use facematch::biometrics::enrolment::{Check, CheckPolicy, Finding};
use facematch::biometrics::fusion::Fusion;
use facematch::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use facematch::biometrics::score::Threshold;
use facematch::biometrics::template::{Template, dot};
use facematch::error::{Entity, Error};
use facematch::gallery::filter::Filter;
use facematch::gallery::{
    CurveOwner, Embed, EmbeddedGalleries, Enrollment, Galleries, GalleryChange, GallerySettings, Health, Identity,
    IdentityChange, IfExists, MetadataValue, MigrationPlan, MigrationState, MovePlan, NewCurve, OpenGalleries,
    PostgresGalleries, PostgresOptions, Scope, Search, SearchPath, SearchPolicy, Served, StoreLocation, TwoStores,
    open_galleries,
};

type Store = Arc<dyn Galleries>;

/// As stores keep them: times to the microsecond.
fn enrollment(number: u64, which: &[u64]) -> Enrollment {
    let mut enrollment = people::enrollment(number, which);
    enrollment.templates.iter_mut().for_each(|enrolled| enrolled.created = SystemTime::UNIX_EPOCH);
    enrollment
}

/// Servers of one store; on this machine's own store they are one.
struct House {
    servers: Vec<Store>,
    /// Moves each gallery that is made, and where to.
    mover: Option<(Arc<TwoStores>, String)>,
    _folder: Option<tempfile::TempDir>,
}

impl House {
    fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let galleries: Store = Arc::new(Arc::new(EmbeddedGalleries::open(folder.path()).expect("open")));
        let servers = vec![Arc::clone(&galleries), Arc::clone(&galleries), galleries];
        Self { servers, mover: None, _folder: Some(folder) }
    }

    async fn moved() -> Self {
        let url =
            tokio::task::spawn_blocking(|| postgres::PostgresServer::shared().database()).await.expect("a database");
        let folder = tempfile::tempdir().expect("a folder");
        let here = StoreLocation::Folder(folder.path().to_path_buf());
        let there = StoreLocation::Postgres(PostgresOptions::new(&url));
        let to = there.address();
        let OpenGalleries { galleries, two_stores } = open_galleries(here, Some(there), None).await.expect("open");
        let servers = vec![Arc::clone(&galleries), Arc::clone(&galleries), galleries];
        Self { servers, mover: two_stores.map(|mover| (mover, to)), _folder: Some(folder) }
    }

    async fn in_database(url: &str) -> Self {
        let mut servers: Vec<Store> = Vec::new();
        for _ in 0..3 {
            let mut options = PostgresOptions::new(url);
            options.connections_max = 6;
            let opened =
                PostgresGalleries::open(&options).await.unwrap_or_else(|error| panic!("open {url}: {error:?}"));
            servers.push(Arc::new(Arc::new(opened)));
        }
        Self { servers, mover: None, _folder: None }
    }

    async fn postgres() -> Self {
        let url =
            tokio::task::spawn_blocking(|| postgres::PostgresServer::shared().database()).await.expect("a database");
        Self::in_database(&url).await
    }

    /// A schema of its own in a database that somebody named.
    async fn named(variable: &str) -> Self {
        let url = postgres::named(variable);
        let schema = format!("test_{}", uuid::Uuid::now_v7().simple());
        let make = format!("create schema {schema}");
        let at = url.clone();
        tokio::task::spawn_blocking(move || postgres::psql_named(&at, &make)).await.expect("a schema");
        let joint = if url.contains('?') { '&' } else { '?' };
        Self::in_database(&format!("{url}{joint}options=-csearch_path%3D{schema},public")).await
    }

    fn any(&self, number: u64) -> &dyn Galleries {
        self.servers[number as usize % self.servers.len()].as_ref()
    }

    fn first(&self) -> &dyn Galleries {
        self.any(0)
    }

    async fn create(&self, id: &str, settings: GallerySettings) {
        self.first().create_gallery(gallery(id), settings, pack(), DIMENSION).await.expect("create");
        if let Some((mover, to)) = &self.mover {
            let plan = MovePlan { to: to.clone(), as_it_was: false, is_only_server: false };
            let mut states = mover.move_gallery(&gallery(id), plan).await.expect("move");
            while let Some(state) = states.recv().await {
                state.expect("move");
            }
        }
    }

    async fn enroll(&self, id: &str, number: u64, which: &[u64]) {
        self.any(number).enroll(gallery(id), enrollment(number, which)).await.expect("enrol");
    }

    async fn close(self) {
        for server in &self.servers {
            server.close().await;
        }
    }
}

/// Runs each test on every store.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::run(super::House::embedded(), super::$name).await; })*
        }
        mod postgres_16 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::run(super::House::postgres().await, super::$name).await; })*
        }
        mod moved_to_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::run(super::House::moved().await, super::$name).await; })*
        }
        mod named_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "NOT RUN: FACEMATCH_TEST_POSTGRES_URL names no server"]
            async fn $name() { super::run(super::House::named("FACEMATCH_TEST_POSTGRES_URL").await, super::$name).await; })*
        }
        mod named_citus {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "NOT RUN: FACEMATCH_TEST_CITUS_URL names no server"]
            async fn $name() { super::run(super::House::named("FACEMATCH_TEST_CITUS_URL").await, super::$name).await; })*
        }
    };
}

on_every_store!(
    access_keys_are_kept_and_go,
    changes_are_seen_by_the_next_search_of_every_server,
    concurrent_enrolments_lose_nothing,
    curves_are_kept_and_go,
    deleted_is_gone_at_once,
    duplicates_and_strangers_are_seen,
    enrolment_says_what_it_did,
    equals_are_told_apart_by_id,
    fused_identities_are_searched_by_their_mean,
    galleries_move_as_files,
    galleries_move_to_another_pack,
    import_that_somebody_deletes_is_no_gallery,
    reads_beside_changes_are_whole,
    gallery_lives_as_it_is_told,
    identities_are_listed_in_pages,
    imports_go_on_where_they_broke_off,
    indexes_are_built_beside_serving_and_measured,
    of_two_enrolments_of_one_face_the_second_is_refused,
    random_operations_match_a_plain_model,
    scopes_leave_nobody_out,
    scores_are_those_of_the_templates,
);

async fn run<F: Future<Output = ()>>(house: House, test: impl FnOnce(Arc<House>) -> F) {
    let house = Arc::new(house);
    assert_eq!(house.first().health(), Health::Ready);
    test(Arc::clone(&house)).await;
    if let Ok(house) = Arc::try_unwrap(house) {
        house.close().await;
    }
}

fn search_for(probe: Template, capacity: usize) -> Search {
    Search { probe, capacity, exact: false, scope: Scope::default() }
}

async fn ranked(galleries: &dyn Galleries, id: &str, search: Search) -> Vec<(String, String, f32)> {
    let outcome = galleries.search(&gallery(id), vec![search]).await.expect("search").remove(0);
    let ranked = outcome.ranked.into_iter();
    ranked.map(|r| (r.identity.as_str().to_owned(), r.template.as_str().to_owned(), r.score.cosine())).collect()
}

/// Every identity of a gallery, whole, by id.
async fn all(galleries: &dyn Galleries, id: &str) -> BTreeMap<String, Identity> {
    let page = galleries.list_identities(&gallery(id), None, 100_000).await.expect("list");
    let mut all = BTreeMap::new();
    for outline in page.items {
        let whole = galleries.identity(&gallery(id), &outline.id).await.expect("an identity");
        assert!(outline.known.expect("undamaged") == whole.outline());
        all.insert(outline.id.as_str().to_owned(), whole);
    }
    all
}

async fn gallery_lives_as_it_is_told(house: Arc<House>) {
    let galleries = house.first();
    house.create("b", settings(SearchPolicy::Auto)).await;
    let again = galleries.create_gallery(gallery("b"), GallerySettings::default(), pack(), 8).await;
    assert!(matches!(again, Err(Error::AlreadyExists(Entity::Gallery))));
    for id in ["a", "c", "d"] {
        house.create(id, GallerySettings::default()).await;
    }
    let (found, status) = house.any(1).gallery(&gallery("b")).await.expect("the gallery");
    assert_eq!((found.pack_id, found.dimension, found.settings.display_name.as_str()), (pack(), DIMENSION, "People"));
    assert_eq!((status.counts.identities, status.path), (0, SearchPath::Exact));
    let names = |page: &facematch::gallery::Page<(facematch::gallery::Gallery, _)>| -> Vec<String> {
        page.items.iter().map(|(gallery, _)| gallery.id.as_str().to_owned()).collect()
    };
    let not_c = |id: &GalleryId| id.as_str() != "c";
    let page = galleries.list_galleries(None, 2, &not_c).await.expect("a page");
    assert_eq!((names(&page), page.more), (vec!["a".to_owned(), "b".to_owned()], true));
    let page = galleries.list_galleries(Some(&gallery("b")), 2, &not_c).await.expect("a page");
    assert_eq!((names(&page), page.more), (vec!["d".to_owned()], false));
    let change = GalleryChange { display_name: Some("Staff".into()), keep_chips: Some(true), ..Default::default() };
    let changed = galleries.update_gallery(gallery("b"), change).await.expect("update");
    let (seen, _) = house.any(2).gallery(&gallery("b")).await.expect("the gallery");
    assert!(seen == changed && seen.settings.keep_chips && seen.settings.search_policy == SearchPolicy::Auto);
    house.enroll("b", 1, &[0, 1]).await;
    let refused = galleries.delete_gallery(gallery("b"), false).await;
    assert!(matches!(refused, Err(Error::GalleryNotEmpty { identities: 1 })));
    let before = galleries.delete_gallery(gallery("a"), false).await.expect("delete an empty one");
    let after = galleries.delete_gallery(gallery("b"), true).await.expect("delete a full one");
    assert!(after.sequence > before.sequence);
    for missing in [
        house.any(1).gallery(&gallery("b")).await.map(drop),
        house.any(2).delete_gallery(gallery("b"), true).await.map(drop),
    ] {
        assert!(matches!(missing, Err(Error::NotFound(Entity::Gallery))));
    }
    let search = house.any(1).search(&gallery("b"), vec![search_for(template(1, 0), 1)]).await;
    assert!(matches!(search, Err(Error::NotFound(Entity::Gallery))));
    // Another of the same name has nothing of it.
    house.create("b", GallerySettings::default()).await;
    assert!(all(house.any(1), "b").await.is_empty());
    assert!(ranked(house.any(2), "b", search_for(template(1, 0), 3)).await.is_empty());
}

async fn enrolment_says_what_it_did(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    let enroll = async |enrollment: Enrollment| house.first().enroll(gallery("g"), enrollment).await;
    let first = enroll(enrollment(1, &[0, 1])).await.expect("enrol");
    assert!(first.is_new && first.added.len() == 2 && first.refused.is_empty());
    // Once more, and one more: what is there is passed over.
    let more = house.any(1).enroll(gallery("g"), enrollment(1, &[1, 2])).await.expect("add");
    let added: Vec<&str> = more.added.iter().map(TemplateId::as_str).collect();
    assert_eq!((more.is_new, added, more.identity.templates.len()), (false, vec!["2"], 3));
    let stored = house.any(2).identity(&gallery("g"), &identity(1)).await.expect("stored");
    assert!(stored == more.identity && stored.details.display_name == "Person 1");
    let refused = enroll(Enrollment { if_exists: IfExists::Refuse, ..enrollment(1, &[5]) }).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Entity::Identity))));
    let missing = house.any(1).enroll(gallery("nobody"), enrollment(1, &[0])).await;
    assert!(matches!(missing, Err(Error::NotFound(Entity::Gallery))));
    let none = enroll(Enrollment { templates: Vec::new(), ..enrollment(2, &[]) }).await;
    assert!(matches!(none, Err(Error::BadField { .. })));
    let many: Vec<u64> = (0..70).collect();
    let too_many = enroll(enrollment(3, &many)).await;
    assert!(matches!(too_many, Err(Error::TooManyTemplates { found: 70, limit: 64 })));
    let full = enroll(Enrollment { identities_max: Some(1), ..enrollment(4, &[0]) }).await;
    assert!(matches!(full, Err(Error::IdentitiesMax { limit: 1 })));
    enroll(Enrollment { identities_max: Some(1), ..enrollment(1, &[9]) }).await.expect("no new identity");
    let foreign = |values: &[f32], pack: &str| {
        let mut enrollment = enrollment(6, &[0]);
        enrollment.templates[0].template =
            Template::from_vector(values, PackId::parse(&pack.repeat(16)).expect("an id")).expect("a template");
        enrollment
    };
    let other_pack = enroll(foreign(template(6, 0).values(), "0b")).await;
    assert!(matches!(other_pack, Err(Error::PackMismatch { .. })));
    assert!(matches!(enroll(foreign(&[1.0, 2.0], "0a")).await, Err(Error::BadField { .. })));
    let probe = Template::from_vector(template(6, 0).values(), PackId::parse(&"0b".repeat(16)).expect("an id"))
        .expect("a template");
    let search = house.first().search(&gallery("g"), vec![search_for(probe, 1)]).await;
    assert!(matches!(search, Err(Error::PackMismatch { .. })));
    let change = IdentityChange { display_name: Some("Ann".into()), metadata: None };
    let updated = house.first().update_identity(gallery("g"), identity(1), change).await.expect("update");
    assert!(updated.details.display_name == "Ann" && updated.details.metadata == stored.details.metadata);
    assert!(updated == house.any(1).identity(&gallery("g"), &identity(1)).await.expect("stored"));
    let missing = house.first().update_identity(gallery("g"), identity(9), IdentityChange::default()).await;
    assert!(matches!(missing, Err(Error::NotFound(Entity::Identity))));
    let both = house.first().identities(&gallery("g"), &[identity(9), identity(1)]).await.expect("some");
    assert!(matches!(&both[..], [Err(Error::NotFound(Entity::Identity)), Ok(known)] if known.id == identity(1)));
    let (_, status) = house.any(1).gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (1, 4));
}

async fn duplicates_and_strangers_are_seen(house: Arc<House>) {
    let at = |cosine| Some(Threshold::from_cosine("t", cosine).expect("a cosine"));
    let checks = GallerySettings {
        duplicates: Check { policy: CheckPolicy::Reject, cosine: at(0.45) },
        consistency: Check { policy: CheckPolicy::Warn, cosine: at(0.3) },
        ..Default::default()
    };
    house.create("g", checks).await;
    for number in 0..20 {
        house.enroll("g", number, &[0]).await;
    }
    let mut twin = enrollment(50, &[3]);
    twin.templates[0].template = template(7, 3);
    let Err(Error::Refused(Finding::DuplicateIdentity { identity: of, score, .. })) =
        house.any(1).enroll(gallery("g"), twin).await
    else {
        panic!("a duplicate is enrolled")
    };
    assert_eq!((of, score.cosine()), (identity(7), dot(template(7, 0).values(), template(7, 3).values())));
    // To oneself one is no duplicate; unlike oneself one may be, with a warning.
    house.enroll("g", 7, &[3]).await;
    let mut stranger = enrollment(8, &[4]);
    stranger.templates[0].template = template(60, 0);
    let warned = house.any(2).enroll(gallery("g"), stranger).await.expect("enrol");
    assert!(matches!(&warned.warnings.values().next().expect("a warning")[..], [Finding::UnlikeIdentity { .. }]));
}

async fn of_two_enrolments_of_one_face_the_second_is_refused(house: Arc<House>) {
    let at = Some(Threshold::from_cosine("t", 0.45).expect("a cosine"));
    let settings =
        GallerySettings { duplicates: Check { policy: CheckPolicy::Reject, cosine: at }, ..Default::default() };
    house.create("g", settings).await;
    for face in 0..10 {
        let mut tasks = tokio::task::JoinSet::new();
        for server in 0..3u64 {
            let house = Arc::clone(&house);
            tasks.spawn(async move {
                let mut enrollment = enrollment(100 + face * 10 + server, &[0]);
                enrollment.templates[0].template = template(face, 0);
                house.any(server).enroll(gallery("g"), enrollment).await
            });
        }
        let results = tasks.join_all().await;
        let enrolled = results.iter().filter(|result| result.is_ok()).count();
        let refused = results.iter().filter(|result| matches!(result, Err(Error::Refused(_)))).count();
        assert_eq!(
            (enrolled, refused),
            (1, 2),
            "face {face}: {:?}",
            results.iter().filter_map(|r| r.as_ref().err()).collect::<Vec<_>>()
        );
    }
}

async fn scores_are_those_of_the_templates(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    for number in 0..150 {
        house.enroll("g", number, &[0, 1, 2][..1 + number as usize % 3]).await;
    }
    for probe in 0..25u64 {
        let template_of = template(probe * 7, 9);
        let mut expected: Vec<(String, f32)> = (0..150u64)
            .map(|number| {
                let scores =
                    (0..1 + number % 3).map(|which| dot(template_of.values(), template(number, which).values()));
                (identity(number).as_str().to_owned(), scores.fold(-1.0, f32::max))
            })
            .collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        for (server, capacity) in [(0, 1), (1, 10), (2, 150)] {
            let found = ranked(house.any(server), "g", search_for(template_of.clone(), capacity)).await;
            let found: Vec<(String, f32)> = found.into_iter().map(|(identity, _, score)| (identity, score)).collect();
            // To the last bit.
            assert_eq!(found, expected[..capacity.min(150)], "probe {probe}, {capacity}");
        }
    }
    let outcomes =
        house.first().search(&gallery("g"), vec![search_for(template(3, 9), 1), search_for(template(5, 9), 1)]).await;
    let outcomes = outcomes.expect("search");
    let best: Vec<_> = outcomes.iter().map(|outcome| outcome.ranked[0].identity.clone()).collect();
    assert_eq!((best, outcomes[0].identities, outcomes[1].searched), (vec![identity(3), identity(5)], 150, 150));
}

async fn equals_are_told_apart_by_id(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    // A crowd with one face: more than any store looks at at once.
    for number in 0..300u64 {
        let mut twin = enrollment(299 - number, &[0]);
        twin.templates[0].template = template(1, 0);
        house.any(number).enroll(gallery("g"), twin).await.expect("enrol");
    }
    let found = ranked(house.any(1), "g", search_for(template(1, 5), 20)).await;
    let expected: Vec<String> = (0..20).map(|number| identity(number).as_str().to_owned()).collect();
    assert_eq!(found.into_iter().map(|(identity, _, _)| identity).collect::<Vec<_>>(), expected);
}

async fn fused_identities_are_searched_by_their_mean(house: Arc<House>) {
    house.create("g", GallerySettings { fusion: Fusion::Mean, ..Default::default() }).await;
    for number in 0..40 {
        house.enroll("g", number, &[0, 1, 2]).await;
    }
    let expected = async |fusion: Fusion, probe: &Template| {
        let mut expected = Vec::new();
        for (id, identity) in all(house.any(1), "g").await {
            let scores =
                identity.compared_by(fusion).into_iter().map(|(_, template)| dot(probe.values(), template.values()));
            expected.push((id, scores.fold(-1.0, f32::max)));
        }
        expected.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        expected
    };
    let probe = template(12, 8);
    let found = async |server: u64| -> Vec<(String, f32)> {
        let found = ranked(house.any(server), "g", search_for(probe.clone(), 40)).await;
        found.into_iter().map(|(identity, _, score)| (identity, score)).collect()
    };
    assert_eq!(found(0).await, expected(Fusion::Mean, &probe).await);
    // A template more moves the mean.
    house.enroll("g", 12, &[3]).await;
    assert_eq!(found(1).await, expected(Fusion::Mean, &probe).await);
    for fusion in [Fusion::Max, Fusion::QualityWeightedMean, Fusion::Mean] {
        let change = GalleryChange { fusion: Some(fusion), ..Default::default() };
        house.any(2).update_gallery(gallery("g"), change).await.expect("another rule");
        assert_eq!(found(0).await, expected(fusion, &probe).await, "{fusion:?}");
    }
    let (_, status) = house.first().gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (40, 121));
}

async fn deleted_is_gone_at_once(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    for number in 0..30 {
        house.enroll("g", number, &[0, 1]).await;
    }
    let best = async |server: u64, number: u64| {
        ranked(house.any(server), "g", search_for(template(number, 7), 1)).await.remove(0)
    };
    let mut last = 0;
    for number in 0..10 {
        assert_eq!(best(number, number).await.0, identity(number).as_str());
        let deletion = house.any(number).delete_identity(gallery("g"), identity(number)).await.expect("delete");
        assert!(deletion.sequence > last);
        last = deletion.sequence;
        assert_ne!(best(number + 1, number).await.0, identity(number).as_str(), "a ghost");
        let read = house.any(number + 1).identity(&gallery("g"), &identity(number)).await;
        assert!(matches!(read, Err(Error::NotFound(Entity::Identity))));
        let again = house.any(number + 2).delete_identity(gallery("g"), identity(number)).await;
        assert!(matches!(again, Err(Error::NotFound(Entity::Identity))));
    }
    let one = TemplateId::parse("1").expect("an id");
    house.first().delete_template(gallery("g"), identity(20), one.clone()).await.expect("delete one");
    assert!(
        ranked(house.any(1), "g", search_for(template(20, 1), 1)).await.iter().all(|(_, template, _)| template != "1")
    );
    let again = house.any(1).delete_template(gallery("g"), identity(20), one).await;
    assert!(matches!(again, Err(Error::NotFound(Entity::Template))));
    let last = house.any(2).delete_template(gallery("g"), identity(20), TemplateId::parse("0").expect("an id")).await;
    assert!(matches!(last, Err(Error::LastTemplate)));
    let (_, status) = house.any(1).gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (20, 39));
    let mut compaction = house.first().compact().await.expect("compact");
    let mut done = None;
    while let Some(state) = compaction.recv().await {
        done = Some(state.expect("a state"));
    }
    let done = done.expect("a state");
    assert!(done.identities == 20 && done.bytes_after.is_some(), "{done:?}");
    assert_eq!(all(house.any(1), "g").await.len(), 20);
}

async fn changes_are_seen_by_the_next_search_of_every_server(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    house.enroll("g", 999, &[0]).await;
    for number in 0..100u64 {
        house.any(number).enroll(gallery("g"), enrollment(number, &[0])).await.expect("enrol");
        let found = ranked(house.any(number + 1), "g", search_for(template(number, 4), 1)).await;
        assert_eq!(found[0].0, identity(number).as_str(), "a miss");
        house.any(number + 2).delete_identity(gallery("g"), identity(number)).await.expect("delete");
        let found = ranked(house.any(number), "g", search_for(template(number, 4), 5)).await;
        assert_eq!(found.len(), 1, "a ghost");
    }
}

async fn scopes_leave_nobody_out(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    let time = |seconds| MetadataValue::Time { seconds, nanos: 0 };
    let people: [&[(&str, MetadataValue)]; 6] = [
        &[("site", MetadataValue::Text("north".into())), ("age", MetadataValue::Number(30.0))],
        &[("site", MetadataValue::Text("south".into())), ("age", MetadataValue::Number(-1.5))],
        &[("site", MetadataValue::Text("north".into())), ("guest", MetadataValue::Flag(true))],
        &[("site", MetadataValue::Number(7.0)), ("since", time(1_767_225_600))], // 2026-01-01
        &[
            ("since", time(1_735_689_600)),
            ("age", MetadataValue::Number(0.0)),
            ("a\u{0}b'\"\\", MetadataValue::Text("\u{0}\u{1}".into())),
        ],
        &[],
    ];
    for (number, metadata) in people.iter().enumerate() {
        let mut enrollment = enrollment(number as u64, &[0]);
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        enrollment.change.metadata = Some(metadata);
        let enrolled = house.any(number as u64).enroll(gallery("g"), enrollment).await.expect("enrol");
        let stored = house.first().identity(&gallery("g"), &identity(number as u64)).await.expect("stored");
        assert!(stored.details == enrolled.identity.details);
    }
    let cases: [(&str, &[u64]); 24] = [
        ("site = \"north\"", &[0, 2]),
        ("site = 7", &[3]),
        ("site = \"7\"", &[]),
        ("site != \"north\"", &[1, 3]),
        ("NOT site = \"north\"", &[1, 3, 4, 5]),
        ("site IN (\"south\", 7)", &[1, 3]),
        ("site < \"o\"", &[0, 2]),
        ("site >= \"north\"", &[0, 1, 2]),
        ("age > -2", &[0, 1, 4]),
        ("age < 0", &[1]),
        ("age <= 0", &[1, 4]),
        ("age = -0.0", &[4]),
        ("guest = true", &[2]),
        ("guest < true", &[]),
        ("guest <= true", &[2]),
        ("since < \"2026-01-01T00:00:00Z\"", &[4]),
        ("since = \"2026-01-01T01:00:00+01:00\"", &[3]),
        ("since:*", &[3, 4]),
        ("nobody:*", &[]),
        ("NOT nobody:*", &[0, 1, 2, 3, 4, 5]),
        ("site = \"north\" AND (age >= 30 OR guest = true)", &[0, 2]),
        ("site = \"north\" AND NOT guest = true OR since:* AND age:*", &[0, 4]),
        ("`a\u{0}b'\\\"\\\\` = \"\u{0}\u{1}\"", &[4]),
        ("`a\u{0}b'\\\"\\\\` > \"\u{0}\"", &[4]),
    ];
    for (filter, expected) in cases {
        let filter_of = Filter::parse("filter", filter).expect(filter);
        let scope = Scope { filter: Some(filter_of.clone()), candidates: None };
        let search = Search { scope, ..search_for(template(9, 0), 10) };
        let outcome = house.any(1).search(&gallery("g"), vec![search]).await.expect(filter).remove(0);
        let found: BTreeSet<IdentityId> = outcome.ranked.iter().map(|ranked| ranked.identity.clone()).collect();
        assert_eq!(found, expected.iter().map(|number| identity(*number)).collect(), "{filter}");
        assert_eq!((outcome.searched, outcome.identities), (expected.len() as u64, 6), "{filter}");
        // Among candidates, too, and who is not enrolled is passed over.
        let candidates = Some(vec![identity(0), identity(4), identity(77)]);
        let search = Search { scope: Scope { filter: Some(filter_of), candidates }, ..search_for(template(9, 0), 10) };
        let outcome = house.any(2).search(&gallery("g"), vec![search]).await.expect(filter).remove(0);
        let both = expected.iter().filter(|number| [0, 4].contains(*number)).count() as u64;
        assert_eq!((outcome.searched, outcome.ranked.len() as u64), (both, both), "{filter}");
    }
}

async fn identities_are_listed_in_pages(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    let ids = ["a", "B", "ä", "aa", "a b", "Z", "0", "~", "é%_'\""];
    for (number, id) in ids.iter().enumerate() {
        let id = IdentityId::parse(id).expect("an id");
        let enrollment = Enrollment { identity: id, ..enrollment(number as u64, &[0]) };
        house.any(number as u64).enroll(gallery("g"), enrollment).await.expect("enrol");
    }
    let mut sorted: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    sorted.sort();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = house.any(1).list_identities(&gallery("g"), after.as_ref(), 2).await.expect("a page");
        listed.extend(page.items.iter().map(|outline| outline.id.as_str().to_owned()));
        after = page.items.last().map(|outline| outline.id.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, sorted);
    let some = house.first().some_identities(&gallery("g"), 5, 3).await.expect("some");
    assert_eq!(some, house.any(1).some_identities(&gallery("g"), 5, 3).await.expect("some"));
    let distinct: BTreeSet<_> = some.iter().collect();
    assert_eq!(distinct.len(), 5);
    let missing = house.first().list_identities(&gallery("nobody"), None, 2).await;
    assert!(matches!(missing, Err(Error::NotFound(Entity::Gallery))));
}

async fn curves_are_kept_and_go(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    house.enroll("g", 1, &[0]).await;
    let (mut mated, mut non_mated) = (ScoreCounts::default(), ScoreCounts::default());
    (0..100).for_each(|at| mated.add(0.3 + at as f32 / 200.0).expect("a score"));
    (0..3_000).for_each(|at| non_mated.add(at as f32 / 8_000.0).expect("a score"));
    let curve = Curve::of(&mated, &non_mated);
    let new = |pack_id| NewCurve { pack_id, curve: curve.clone(), source: "a test".into() };
    let own = CurveOwner::Gallery(gallery("g"));
    assert!(house.any(1).curve(&own).await.expect("read").is_none());
    let set = house.first().set_curve(own.clone(), new(pack())).await.expect("set");
    assert_eq!(house.first().curve(&own).await.expect("read"), Some(Arc::clone(&set)));
    let eventually = async |server: u64, wanted: Option<&Arc<facematch::biometrics::calibration::KnownCurve>>| {
        let began = SystemTime::now();
        while house.any(server).curve(&own).await.expect("read").as_ref() != wanted {
            assert!(began.elapsed().expect("a time") < Duration::from_secs(2), "not fresh");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(began.elapsed().expect("a time") < Duration::from_secs(1), "fresh only after a second");
    };
    eventually(1, Some(&set)).await;
    let other = PackId::parse(&"0b".repeat(16)).expect("an id");
    let mismatch = house.first().set_curve(own.clone(), new(other.clone())).await;
    assert!(matches!(mismatch, Err(Error::PackMismatch { .. })));
    let missing = house.first().set_curve(CurveOwner::Gallery(gallery("nobody")), new(pack())).await;
    assert!(matches!(missing, Err(Error::NotFound(Entity::Gallery))));
    house.first().set_curve(CurveOwner::Pack(other.clone()), new(other)).await.expect("of a pack");
    house.any(2).remove_curve(own.clone()).await.expect("remove");
    eventually(1, None).await;
    assert!(matches!(house.first().remove_curve(own).await, Err(Error::NotFound(Entity::Curve))));
}

async fn access_keys_are_kept_and_go(house: Arc<House>) {
    let key = |subject: Option<&str>| {
        let id = KeyId::generate().expect("an id");
        let text = KeyText::generate(&id).expect("a key");
        Key {
            credential: match subject {
                Some(subject) => Credential::CertificateSubject(subject.to_owned()),
                None => Credential::Secret(SecretHash::of(&text).expect("a hash")),
            },
            id,
            display_name: "the door".into(),
            grants: Grants::new(vec!["read:*".parse().expect("a grant")]).expect("grants"),
            limits: KeyLimits { identities: Some(5), ..Default::default() },
            created: SystemTime::UNIX_EPOCH,
            expires: None,
        }
    };
    let (one, two) = (key(None), key(Some("CN=door")));
    house.first().set_key(one.clone()).await.expect("set");
    house.any(1).set_key(two.clone()).await.expect("set");
    let ids: BTreeSet<KeyId> = house.any(2).keys().await.expect("keys").into_iter().map(|key| key.id).collect();
    assert_eq!(ids, BTreeSet::from([one.id.clone(), two.id.clone()]));
    for again in [house.any(1).set_key(one.clone()).await, house.any(1).set_key(key(Some("CN=door"))).await] {
        assert!(matches!(again, Err(Error::AlreadyExists(Entity::Key))));
    }
    house.any(2).remove_key(one.id.clone()).await.expect("remove");
    assert!(matches!(house.first().remove_key(one.id).await, Err(Error::NotFound(Entity::Key))));
    assert_eq!(house.first().keys().await.expect("keys").len(), 1);
}

/// A chip of one colour.
fn chip(level: u8) -> Arc<[u8]> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(112, 112, image::Rgb([level, 7, 9]));
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("a picture");
    bytes.into_inner().into()
}

/// A chip that no compression makes smaller.
fn noise(seed: u64) -> Arc<[u8]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let picture = image::RgbImage::from_fn(112, 112, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        image::Rgb([state as u8, (state >> 8) as u8, (state >> 16) as u8])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).expect("encode");
    png.into_inner().into()
}

async fn filled(house: &House) {
    house.create("g", GallerySettings { fusion: Fusion::Mean, keep_chips: true, ..settings(SearchPolicy::Auto) }).await;
    for number in 0..60u64 {
        let mut enrollment = enrollment(number, &[0, 1]);
        if number % 3 == 0 {
            enrollment.templates[1].chip = Some(chip(number as u8));
        }
        house.any(number).enroll(gallery("g"), enrollment).await.expect("enrol");
    }
}

async fn exported(galleries: &dyn Galleries, id: &str) -> Vec<u8> {
    let mut parts = galleries.export(&gallery(id)).await.expect("export");
    let mut file = Vec::new();
    while let Some(part) = parts.recv().await {
        file.extend_from_slice(&part.expect("a part").bytes);
    }
    file
}

async fn import(galleries: &dyn Galleries, id: &str, file: &[u8]) -> Result<(), Error> {
    let mut import = galleries.begin_import(gallery(id), 0).await?;
    for piece in file.chunks(10_000) {
        import.feed(piece.to_vec()).await?;
    }
    import.finish(Served::Here).await.map(drop)
}

async fn galleries_move_as_files(house: Arc<House>) {
    filled(&house).await;
    let people = all(house.any(1), "g").await;
    assert!(people.values().any(|identity| identity.templates[1].chip.as_deref().is_some_and(|chip| chip.len() > 100)));
    let file = exported(house.any(2), "g").await;
    // Into the same store, and through one of this machine's and back.
    import(house.first(), "copy", &file).await.expect("import");
    let elsewhere = House::embedded();
    import(elsewhere.first(), "away", &file).await.expect("import");
    import(house.any(1), "back", &exported(elsewhere.first(), "away").await).await.expect("import");
    assert!(all(elsewhere.first(), "away").await == people);
    let (original, counts) = house.first().gallery(&gallery("g")).await.expect("the gallery");
    for id in ["copy", "back"] {
        assert!(all(house.any(2), id).await == people, "{id}");
        let (moved, status) = house.any(1).gallery(&gallery(id)).await.expect("the gallery");
        assert!(moved.settings == original.settings && status.counts == counts.counts, "{id}");
        let probe = search_for(template(17, 8), 60);
        assert_eq!(ranked(house.any(1), id, probe.clone()).await, ranked(house.any(2), "g", probe).await);
    }
    assert!(matches!(import(house.any(1), "g", &file).await, Err(Error::AlreadyExists(Entity::Gallery))));
    let mut damaged = file.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    assert!(matches!(import(house.first(), "damaged", &damaged).await, Err(Error::GalleryFile(_))));
    assert!(house.any(1).gallery(&gallery("damaged")).await.is_err());
    // What it left, if it came as far as that.
    loop {
        match house.any(2).delete_gallery(gallery("damaged"), false).await {
            Ok(_) | Err(Error::NotFound(Entity::Gallery)) => break,
            // Its connection is just being closed, and its lock with it.
            Err(Error::UnderWay(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    elsewhere.close().await;
}

async fn import_that_somebody_deletes_is_no_gallery(house: Arc<House>) {
    filled(&house).await;
    let file = exported(house.first(), "g").await;
    let (start, rest) = file.split_at(file.len() - 100);
    let mut import = house.first().begin_import(gallery("x"), 0).await.expect("begin");
    import.feed(start.to_vec()).await.expect("nearly all");
    // Made and deleted meanwhile, by another server.
    let made = house.any(1).create_gallery(gallery("x"), GallerySettings::default(), pack(), DIMENSION).await;
    if made.is_ok() {
        house.any(2).delete_gallery(gallery("x"), true).await.expect("delete");
    }
    let finished = async {
        import.feed(rest.to_vec()).await?;
        import.finish(Served::Here).await
    };
    // Wholly there, or not at all.
    match finished.await {
        Ok(_) => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(all(house.any(1), "x").await.len(), 60);
            assert_eq!(ranked(house.any(2), "x", search_for(template(3, 0), 1)).await[0].0, identity(3).as_str());
        }
        Err(_) => assert!(house.any(1).gallery(&gallery("x")).await.is_err()),
    }
}

async fn reads_beside_changes_are_whole(house: Arc<House>) {
    filled(&house).await;
    let reading = tokio::spawn({
        let house = Arc::clone(&house);
        async move {
            for round in 0..150u64 {
                // A rule that changes, and templates that come and go, with and without chips.
                let search = search_for(template(round % 60, 0), 5);
                let outcome = house.any(round).search(&gallery("g"), vec![search]).await.expect("a search").remove(0);
                assert_eq!(outcome.ranked.len(), 5);
                let known = house.any(round + 1).identity(&gallery("g"), &identity(3)).await.expect("an identity");
                assert!(
                    known.templates.iter().all(|enrolled| enrolled.chip.as_ref().is_none_or(|chip| chip.len() > 100))
                );
            }
        }
    });
    let mut round = 0u64;
    while !reading.is_finished() {
        round += 1;
        let fusion = [Fusion::Max, Fusion::Mean, Fusion::QualityWeightedMean][round as usize % 3];
        let change = GalleryChange { fusion: Some(fusion), ..Default::default() };
        house.any(round).update_gallery(gallery("g"), change).await.expect("another rule");
        let mut more = enrollment(3, &[7]);
        more.templates[0].chip = Some(chip(round as u8));
        house.any(round + 1).enroll(gallery("g"), more).await.expect("enrol");
        let seven = TemplateId::parse("7").expect("an id");
        house.any(round + 2).delete_template(gallery("g"), identity(3), seven).await.expect("delete");
    }
    reading.await.expect("every read is whole");
}

/// What another pack makes of a chip, if it makes anything: the same values in another order.
fn of_other_pack(template: &Template) -> Template {
    let values: Vec<f32> = template.values().iter().rev().copied().collect();
    Template::from_vector(&values, other_pack()).expect("a template")
}

fn other_pack() -> PackId {
    PackId::parse(&"0b".repeat(16)).expect("an id")
}

async fn migrated(galleries: &dyn Galleries, plan: MigrationPlan, embed: Arc<Embed>) -> Result<MigrationState, Error> {
    let mut states = galleries.migrate(&gallery("g"), plan, embed).await?;
    let mut last = MigrationState::default();
    while let Some(state) = states.recv().await {
        last = state?;
    }
    Ok(last)
}

async fn galleries_move_to_another_pack(house: Arc<House>) {
    let kept = GallerySettings {
        keep_chips: true,
        identification: Threshold::from_cosine("t", 0.4).ok(),
        ..Default::default()
    };
    house.create("g", kept).await;
    let with_chips = |number: u64| {
        let mut enrollment = enrollment(number, &[0, 1]);
        enrollment.templates.iter_mut().for_each(|enrolled| enrolled.chip = Some(chip(number as u8)));
        enrollment
    };
    for number in 0..80 {
        house.any(number).enroll(gallery("g"), with_chips(number)).await.expect("enrol");
    }
    let before = all(house.first(), "g").await;
    let embed: Arc<Embed> = Arc::new(|mut identities: Vec<Identity>| {
        std::thread::sleep(Duration::from_millis(50));
        for enrolled in identities.iter_mut().flat_map(|identity| &mut identity.templates) {
            assert!(enrolled.chip.as_ref().is_some_and(|chip| chip.len() > 100), "a chip that is none");
            enrolled.template = of_other_pack(&enrolled.template);
        }
        Ok(identities)
    });
    let plan = |pack_id, is_trial| MigrationPlan { pack_id, dimension: DIMENSION, loss_max: 0.0, is_trial };
    let same = migrated(house.first(), plan(pack(), false), Arc::clone(&embed)).await;
    assert!(matches!(same, Err(Error::BadField { .. })));
    let tried = migrated(house.any(1), plan(other_pack(), true), Arc::clone(&embed)).await.expect("a trial");
    let comparison = tried.comparison.expect("a comparison");
    assert!(!tried.is_switched && tried.identities == 80 && comparison.probes == 160, "{tried:?}");
    assert!(all(house.any(2), "g").await == before);
    // What changes meanwhile is in it, and a second one is told to wait.
    let moving = tokio::spawn({
        let (house, embed) = (Arc::clone(&house), Arc::clone(&embed));
        async move { migrated(house.any(1), plan(other_pack(), false), embed).await }
    });
    tokio::time::sleep(Duration::from_millis(60)).await;
    let second = migrated(house.any(2), plan(other_pack(), false), Arc::clone(&embed)).await;
    assert!(matches!(second, Err(Error::UnderWay(_))), "{second:?}");
    let mut there: BTreeSet<u64> = (0..80).collect();
    for number in 80..100u64 {
        match house.any(number).enroll(gallery("g"), with_chips(number)).await {
            Ok(_) => drop(there.insert(number)),
            Err(Error::PackMismatch { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        house.any(number).delete_identity(gallery("g"), identity(number - 80)).await.expect("delete");
        there.remove(&(number - 80));
    }
    let moved = moving.await.expect("no panic").expect("a migration");
    assert!(moved.is_switched, "{moved:?}");
    let (now, status) = house.any(2).gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((now.pack_id, now.settings.identification, now.settings.keep_chips), (other_pack(), None, true));
    let after = all(house.any(2), "g").await;
    assert_eq!(
        after.keys().cloned().collect::<Vec<_>>(),
        there.iter().map(|n| identity(*n).as_str().to_owned()).collect::<Vec<_>>()
    );
    assert_eq!(status.counts.templates, 2 * there.len() as u64);
    for number in there.iter().step_by(9) {
        let found = ranked(house.any(*number), "g", search_for(of_other_pack(&template(*number, 7)), 1)).await;
        assert_eq!(found[0].0, identity(*number).as_str());
    }
    // Without a chip there is no way.
    let mut bare = enrollment(200, &[0]);
    bare.templates[0].template = of_other_pack(&template(200, 0));
    house.first().enroll(gallery("g"), bare).await.expect("enrol");
    let missing = migrated(house.any(1), plan(pack(), false), embed).await;
    assert!(matches!(missing, Err(Error::ChipsMissing { templates: 1, identities: 1, .. })), "{missing:?}");
}

async fn imports_go_on_where_they_broke_off(house: Arc<House>) {
    house.create("g", GallerySettings { keep_chips: true, ..settings(SearchPolicy::Auto) }).await;
    // More than two megabytes each: more than one step of any store, and a part of the next.
    for number in 0..3 {
        let mut enrollment = enrollment(number, &(0..60).collect::<Vec<u64>>());
        for (which, enrolled) in enrollment.templates.iter_mut().enumerate() {
            enrolled.chip = Some(noise(number * 60 + which as u64));
        }
        house.any(number).enroll(gallery("g"), enrollment).await.expect("enrol");
    }
    let people = all(house.first(), "g").await;
    let file = exported(house.first(), "g").await;
    assert!(file.len() > 6 << 20);
    let mut broken = house.first().begin_import(gallery("late"), 0).await.expect("begin");
    broken.feed(file[..file.len() - 1].to_vec()).await.expect("nearly all");
    let other = house.any(1).begin_import(gallery("late"), 0).await;
    assert!(matches!(other.err(), Some(Error::UnderWay(_))));
    drop(broken);
    // Let go of beside: its lock goes with the connection.
    let mut state = None;
    for _ in 0..200 {
        match house.any(1).begin_import(gallery("late"), 0).await {
            Ok(import) => {
                drop(import);
                state = house.any(2).import_state(&gallery("late")).await.ok();
                break;
            }
            Err(Error::UnderWay(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    let offset = state.expect("a part").offset;
    assert!(offset > 2 << 20 && offset < file.len() as u64, "{offset}");
    let mut import = loop {
        match house.any(1).begin_import(gallery("late"), offset).await {
            Ok(import) => break import,
            Err(Error::UnderWay(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    };
    import.feed(file[offset as usize..].to_vec()).await.expect("the rest");
    import.finish(Served::Here).await.expect("the end");
    assert!(all(house.any(2), "late").await == people);
    assert!(matches!(house.first().import_state(&gallery("late")).await, Err(Error::NotFound(Entity::Import))));
}

async fn concurrent_enrolments_lose_nothing(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..12u64 {
        let house = Arc::clone(&house);
        tasks.spawn(async move {
            for number in 0..12u64 {
                // Each of twelve people by all, a template each, in different orders; and some twice.
                let person = (number * 5 + task) % 12;
                for again in 0..2 {
                    let enrolled = house.any(task + again).enroll(gallery("g"), enrollment(person, &[task])).await;
                    let enrolled = enrolled.unwrap_or_else(|error| panic!("{person}, {task}: {error:?}"));
                    assert_eq!(enrolled.added.len(), 1 - again as usize);
                }
            }
        });
    }
    tasks.join_all().await;
    for (id, identity) in all(house.any(1), "g").await {
        assert_eq!(identity.templates.len(), 12, "{id}");
    }
    let (_, status) = house.first().gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (12, 144));
}

async fn indexes_are_built_beside_serving_and_measured(house: Arc<House>) {
    house.create("g", settings(SearchPolicy::Graph)).await;
    for number in 0..300 {
        house.enroll("g", number, &[0, 1]).await;
    }
    let becomes = async |path: SearchPath| {
        let began = SystemTime::now();
        loop {
            let (_, status) = house.any(1).gallery(&gallery("g")).await.expect("the gallery");
            // One that was built before all were there is measured again as they become more.
            let is_of_few = status.recall.is_some_and(|recall| recall.probes < 50);
            if status.path == path && !(path == SearchPath::Graph && is_of_few) {
                return status;
            }
            assert!(began.elapsed().expect("a time") < Duration::from_secs(60), "{status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let recall = becomes(SearchPath::Graph).await.recall.expect("it was measured");
    assert!(recall.missed as f64 <= 0.001 * recall.probes as f64, "{recall:?}");
    for number in (0..300u64).step_by(7) {
        let search = search_for(template(number, 0), 3);
        let outcome = house.any(number).search(&gallery("g"), vec![search.clone()]).await.expect("search").remove(0);
        assert_eq!((outcome.path, &outcome.ranked[0].identity), (SearchPath::Graph, &identity(number)));
        let exact = Search { exact: true, ..search };
        let outcome = house.any(number).search(&gallery("g"), vec![exact]).await.expect("search").remove(0);
        assert_eq!((outcome.path, &outcome.ranked[0].identity), (SearchPath::Exact, &identity(number)));
    }
    // Whoever is enrolled now is found by it, and whoever is deleted is not.
    house.enroll("g", 900, &[0]).await;
    assert_eq!(ranked(house.any(1), "g", search_for(template(900, 0), 1)).await[0].0, identity(900).as_str());
    house.any(2).delete_identity(gallery("g"), identity(900)).await.expect("delete");
    assert_ne!(ranked(house.any(1), "g", search_for(template(900, 0), 1)).await[0].0, identity(900).as_str());
    let exact = GalleryChange { search_policy: Some(SearchPolicy::Exact), ..Default::default() };
    house.first().update_gallery(gallery("g"), exact).await.expect("another policy");
    becomes(SearchPath::Exact).await;
}

/// Numbers by xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

async fn random_operations_match_a_plain_model(house: Arc<House>) {
    const OPERATIONS: u64 = 400;
    let seed = std::env::var("FACEMATCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    let seed = seed.unwrap_or(now.as_nanos() as u64 | 1);
    println!("FACEMATCH_SEED={seed} runs these operations again");
    let mut dice = Dice(seed);
    let mut model: BTreeMap<&str, BTreeMap<u64, BTreeSet<u64>>> = BTreeMap::new();
    for operation in 0..OPERATIONS {
        let context = format!("FACEMATCH_SEED={seed}, operation {operation}");
        let (id, server) = (["x", "y"][dice.below(2) as usize], dice.below(3));
        let (person, which) = (dice.below(8), dice.below(4));
        let galleries = house.any(server);
        match dice.below(20) {
            0..3 => {
                let created =
                    galleries.create_gallery(gallery(id), GallerySettings::default(), pack(), DIMENSION).await;
                assert_eq!(created.is_ok(), !model.contains_key(id), "{context}");
                model.entry(id).or_default();
            }
            3 => {
                let deleted = galleries.delete_gallery(gallery(id), true).await;
                assert_eq!(deleted.is_ok(), model.remove(id).is_some(), "{context}");
            }
            4..13 => {
                let enrolled = galleries.enroll(gallery(id), enrollment(person, &[which])).await;
                assert_eq!(enrolled.is_ok(), model.contains_key(id), "{context}: {:?}", enrolled.err());
                if let Some(people) = model.get_mut(id) {
                    people.entry(person).or_default().insert(which);
                }
            }
            13..15 => {
                let deleted = galleries.delete_identity(gallery(id), identity(person)).await;
                let was = model.get_mut(id).and_then(|people| people.remove(&person)).is_some();
                assert_eq!(deleted.is_ok(), was, "{context}");
            }
            15..17 => {
                let template = TemplateId::parse(&which.to_string()).expect("an id");
                let deleted = galleries.delete_template(gallery(id), identity(person), template).await;
                let known = model.get_mut(id).and_then(|people| people.get_mut(&person));
                let was = known.is_some_and(|known| known.len() > 1 && known.remove(&which));
                assert_eq!(deleted.is_ok(), was, "{context}");
            }
            17 => {
                let fusion = [Fusion::Max, Fusion::Mean][dice.below(2) as usize];
                let change = GalleryChange { fusion: Some(fusion), ..Default::default() };
                let changed = galleries.update_gallery(gallery(id), change).await;
                assert_eq!(changed.is_ok(), model.contains_key(id), "{context}");
            }
            18 => {
                let change = IdentityChange { display_name: Some(context.clone()), metadata: None };
                let changed = galleries.update_identity(gallery(id), identity(person), change).await;
                let is_there = model.get(id).is_some_and(|people| people.contains_key(&person));
                assert_eq!(changed.is_ok(), is_there, "{context}");
            }
            _ => {
                let to = if id == "x" { "y" } else { "x" };
                if let Some(people) = model.get(id).cloned() {
                    let file = exported(galleries, id).await;
                    let imported = import(house.any(server + 1), to, &file).await;
                    assert_eq!(imported.is_ok(), !model.contains_key(to), "{context}: {:?}", imported.err());
                    model.entry(to).or_insert(people);
                }
            }
        }
        if operation % 20 == 0 {
            check(&house, &model, dice.below(3), &context).await;
        }
    }
    check(&house, &model, 0, "at the end").await;
}

async fn check(house: &House, model: &BTreeMap<&str, BTreeMap<u64, BTreeSet<u64>>>, server: u64, context: &str) {
    let galleries = house.any(server);
    let listed = galleries.list_galleries(None, 10, &|_| true).await.expect("list").items;
    let listed: Vec<&str> = listed.iter().map(|(gallery, _)| gallery.id.as_str()).collect();
    assert_eq!(listed, model.keys().copied().collect::<Vec<_>>(), "{context}");
    for (id, people) in model {
        let found = all(galleries, id).await;
        let ids = |identity: &Identity| -> BTreeSet<u64> {
            identity.templates.iter().map(|enrolled| enrolled.id.as_str().parse().expect("a number")).collect()
        };
        let stored: BTreeMap<String, BTreeSet<u64>> =
            found.iter().map(|(id, known)| (id.clone(), ids(known))).collect();
        let expected =
            people.iter().map(|(number, known)| (identity(*number).as_str().to_owned(), known.clone())).collect();
        assert_eq!(stored, expected, "{context}: {id}");
        let (gallery, status) = galleries.gallery(&gallery(id)).await.expect("the gallery");
        let templates: usize = people.values().map(BTreeSet::len).sum();
        assert_eq!(
            (status.counts.identities, status.counts.templates),
            (people.len() as u64, templates as u64),
            "{context}: {id}"
        );
        // Whoever is there is found by what there is of them, with everybody else behind.
        for (name, known) in &found {
            let (_, probe) = known.compared_by(gallery.settings.fusion).remove(0);
            let found = ranked(galleries, id, search_for(probe, 20)).await;
            assert_eq!((found.len(), &found[0].0), (people.len(), name), "{context}: {id}");
        }
    }
}
