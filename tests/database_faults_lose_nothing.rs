//! What befalls databases, done to a real one: killed and started again under load, replaced by its standby, cut off, slow, hanging,
//! full. Every acknowledged write is there afterwards, calls that cannot be answered fail soon and say that they may be sent
//! again, and nobody has to do anything for the servers to recover.

mod common;
#[path = "common/postgres.rs"]
mod postgres;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::people::{DIMENSION, enrollment, gallery, identity, pack, template};
use facematch::error::{Entity, Error};
use facematch::gallery::{Galleries, GallerySettings, Health, PostgresGalleries, PostgresOptions, Scope, Search};
use postgres::{PostgresServer, Replication};

type Store = Arc<dyn Galleries>;

/// The longest that a call may take which cannot be answered: to wait for a connection, and for an answer.
const FAIL_TIME_MAX: Duration = Duration::from_secs(6);

async fn open(url: &str, change: impl FnOnce(&mut PostgresOptions)) -> Store {
    let mut options = PostgresOptions::new(url);
    options.connections_max = 8;
    options.statement_time_max = Duration::from_secs(3);
    change(&mut options);
    Arc::new(Arc::new(PostgresGalleries::open(&options).await.unwrap_or_else(|error| panic!("open {url}: {error:?}"))))
}

async fn with_gallery(store: &Store) {
    store.create_gallery(gallery("g"), GallerySettings::default(), pack(), DIMENSION).await.expect("create");
}

/// Off the async workers: the server's own commands block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// Writers and searchers that go on whatever happens, and what they were told.
struct Load {
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Load {
    fn start(servers: &[Store]) -> Self {
        let mut load = Self {
            acknowledged: Arc::default(),
            refused: Arc::default(),
            stop: Arc::default(),
            tasks: tokio::task::JoinSet::new(),
        };
        let next = Arc::new(AtomicU64::new(0));
        for at in 0..6usize {
            let (server, next, stop) =
                (Arc::clone(&servers[at % servers.len()]), Arc::clone(&next), Arc::clone(&load.stop));
            let (acknowledged, refused) = (Arc::clone(&load.acknowledged), Arc::clone(&load.refused));
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let began = Instant::now();
                    let enrolled = server.enroll(gallery("g"), enrollment(number, &[0])).await;
                    match enrolled {
                        Ok(_) => drop(acknowledged.lock().expect("unpoisoned").insert(number)),
                        Err(error) => {
                            assert_retriable(&error);
                            refused.fetch_add(1, Ordering::Relaxed);
                            assert!(began.elapsed() < FAIL_TIME_MAX, "{:?}", began.elapsed());
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            continue;
                        }
                    }
                    // Whoever is enrolled is found, or it is said that nobody can be.
                    let search =
                        Search { probe: template(number, 0), capacity: 1, exact: false, scope: Scope::default() };
                    match server.search(&gallery("g"), vec![search]).await {
                        Ok(outcomes) => assert_eq!(outcomes[0].ranked[0].identity, identity(number), "a wrong answer"),
                        Err(error) => assert_retriable(&error),
                    }
                }
            });
        }
        load
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("unpoisoned").len()
    }

    async fn grows(&self, by: usize) {
        let (before, began) = (self.count(), Instant::now());
        while self.count() < before + by {
            assert!(began.elapsed() < Duration::from_secs(40), "no write is taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(mut self) -> (BTreeSet<u64>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a writer went on");
        }
        let acknowledged = self.acknowledged.lock().expect("unpoisoned").clone();
        (acknowledged, self.refused.load(Ordering::Relaxed))
    }
}

#[track_caller]
fn assert_retriable(error: &Error) {
    let is_retriable = matches!(error, Error::Unavailable(_) | Error::Overloaded { .. } | Error::DeadlineExceeded);
    assert!(is_retriable, "{error:?}");
}

/// Everybody who was acknowledged is there and is found, and the counts are of who is there.
async fn assert_holds(store: &Store, acknowledged: &BTreeSet<u64>) {
    let listed = store.list_identities(&gallery("g"), None, 100_000).await.expect("list").items;
    let there: BTreeSet<String> = listed.iter().map(|outline| outline.id.as_str().to_owned()).collect();
    for number in acknowledged {
        assert!(there.contains(identity(*number).as_str()), "{number} was acknowledged and is not there");
    }
    let (_, status) = store.gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (there.len() as u64, there.len() as u64));
    for number in acknowledged.iter().step_by(1 + acknowledged.len() / 30) {
        let search = Search { probe: template(*number, 0), capacity: 1, exact: true, scope: Scope::default() };
        let outcome = store.search(&gallery("g"), vec![search]).await.expect("search").remove(0);
        assert_eq!(outcome.ranked[0].identity, identity(*number));
    }
}

async fn becomes(store: &Store, wanted: impl Fn(Health) -> bool) {
    let began = Instant::now();
    while !wanted(store.health()) {
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", store.health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_again_under_load_it_lacks_nothing_that_was_acknowledged() {
    let mut server = blocking(PostgresServer::start).await;
    let servers = [open(&server.url(), |_| ()).await, open(&server.url(), |_| ()).await];
    with_gallery(&servers[0]).await;
    let load = Load::start(&servers);
    for _ in 0..3 {
        load.grows(30).await;
        server = blocking(move || {
            server.kill();
            server
        })
        .await;
        becomes(&servers[0], |health| matches!(health, Health::Unreachable(_))).await;
        let began = Instant::now();
        let refused = servers[1].gallery(&gallery("g")).await;
        assert_retriable(&refused.expect_err("there is no database"));
        assert!(began.elapsed() < FAIL_TIME_MAX);
        server = blocking(move || {
            server.restart();
            server
        })
        .await;
        becomes(&servers[0], |health| health == Health::Ready).await;
    }
    load.grows(30).await;
    let (acknowledged, refused) = load.stop().await;
    println!("{} acknowledged, {refused} refused", acknowledged.len());
    assert!(refused > 0, "nobody noticed");
    assert_holds(&servers[1], &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_that_takes_over_has_everything_that_was_acknowledged() {
    let (mut primary, mut standby) = blocking(|| {
        let primary = PostgresServer::start();
        let standby = primary.standby(Replication::Synchronous);
        (primary, standby)
    })
    .await;
    let url = format!("postgres://postgres@{},{}/postgres", primary.address(), standby.address());
    let store = open(&url, |_| ()).await;
    with_gallery(&store).await;
    let load = Load::start(std::slice::from_ref(&store));
    load.grows(60).await;
    let (primary, standby) = blocking(move || {
        primary.kill();
        standby.promote();
        (primary, standby)
    })
    .await;
    load.grows(60).await;
    let (acknowledged, refused) = load.stop().await;
    println!("{} acknowledged, {refused} refused", acknowledged.len());
    assert!(refused > 0, "nobody noticed");
    assert_holds(&store, &acknowledged).await;
    drop((primary, standby));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_are_made_again() {
    let server = Arc::new(blocking(PostgresServer::start).await);
    let store = open(&server.url(), |_| ()).await;
    with_gallery(&store).await;
    let load = Load::start(std::slice::from_ref(&store));
    for _ in 0..10 {
        load.grows(10).await;
        let server = Arc::clone(&server);
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'facematch'";
        blocking(move || server.psql(cut)).await;
    }
    load.grows(10).await;
    let (acknowledged, _) = load.stop().await;
    assert_holds(&store, &acknowledged).await;
}

/// Holds a lock on every gallery's rows for a while.
fn hold(server: &PostgresServer, seconds: u32) -> std::thread::JoinHandle<Result<String, String>> {
    let table = server.psql("select string_agg(relname, ', ') from pg_class where relname ~ '^(identity|row)_[0-9]+$'");
    let held = server.psql_meanwhile(&format!("begin; lock table {table}; select pg_sleep({seconds}); commit"));
    let is_held =
        "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation is not null";
    let began = Instant::now();
    while server.psql(is_held) == "0" {
        assert!(began.elapsed() < Duration::from_secs(10), "no lock");
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_that_takes_too_long_ends_with_its_call_and_takes_no_connection_for_ever() {
    let server = Arc::new(blocking(PostgresServer::start).await);
    let store = open(&server.url(), |options| {
        options.statement_time_max = Duration::from_millis(400);
        options.connections_max = 4;
    })
    .await;
    with_gallery(&store).await;
    store.enroll(gallery("g"), enrollment(1, &[0])).await.expect("enrol");
    let held = blocking({
        let server = Arc::clone(&server);
        move || hold(&server, 4)
    })
    .await;
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let store = Arc::clone(&store);
        calls.spawn(async move { store.identity(&gallery("g"), &identity(1)).await.map(drop) });
    }
    let results = calls.join_all().await;
    // More calls than connections: who gets none is told to come again, who gets one is not kept waiting.
    results.into_iter().for_each(|result| assert_retriable(&result.expect_err("the table is locked")));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // A caller who goes gives the connection up.
    for _ in 0..10 {
        let _ = tokio::time::timeout(Duration::from_millis(20), store.identity(&gallery("g"), &identity(1))).await;
    }
    blocking(move || held.join()).await.expect("psql").expect("the lock");
    store.identity(&gallery("g"), &identity(1)).await.expect("as if nothing had been");
    let waits = {
        let server = Arc::clone(&server);
        blocking(move || server.psql("select count(*) from pg_stat_activity where application_name = 'facematch' and wait_event_type = 'Lock'")).await
    };
    assert_eq!(waits, "0", "statements that nobody waits for");
}

#[tokio::test(flavor = "multi_thread")]
async fn database_that_hangs_is_given_up_in_time_and_taken_up_again() {
    let server = Arc::new(blocking(PostgresServer::start).await);
    let store = open(&server.url(), |options| options.statement_time_max = Duration::from_millis(800)).await;
    with_gallery(&store).await;
    store.enroll(gallery("g"), enrollment(1, &[0])).await.expect("enrol");
    {
        let server = Arc::clone(&server);
        blocking(move || server.pause()).await;
    }
    let began = Instant::now();
    assert_retriable(&store.identity(&gallery("g"), &identity(1)).await.err().expect("nobody answers"));
    assert!(began.elapsed() < FAIL_TIME_MAX, "{:?}", began.elapsed());
    becomes(&store, |health| matches!(health, Health::Unreachable(_))).await;
    {
        let server = Arc::clone(&server);
        blocking(move || server.resume()).await;
    }
    becomes(&store, |health| health == Health::Ready).await;
    store.enroll(gallery("g"), enrollment(2, &[0])).await.expect("enrol again");
    let nobody = store.identity(&gallery("g"), &identity(3)).await;
    assert!(matches!(nobody, Err(Error::NotFound(Entity::Identity))));
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_refuses_writes_and_loses_none() {
    let server = blocking(|| PostgresServer::on_small_disk("full_disk_refuses_writes_and_loses_none", 160)).await;
    let Some(server) = server else { return };
    let server = Arc::new(server);
    let store = open(&server.url(), |_| ()).await;
    with_gallery(&store).await;
    let mut acknowledged = BTreeSet::new();
    let mut number = 0;
    let mut full = None;
    // Something else fills it up.
    let filling = {
        let server = Arc::clone(&server);
        blocking(move || {
            server.try_psql(
                &server.url(),
                "create table filler (x text); alter table filler alter x set storage plain; \
             insert into filler select repeat('x', 8000) from generate_series(1, 200000)",
            )
        })
    };
    assert!(filling.await.is_err(), "the disk is larger than that");
    let began = Instant::now();
    while full.is_none() && began.elapsed() < Duration::from_secs(60) {
        // Statements of other failures are retriable too: the database restarts where its log cannot be written.
        let many: Vec<u64> = (0..64).collect();
        match store.enroll(gallery("g"), enrollment(number, &many)).await {
            Ok(_) => drop(acknowledged.insert(number)),
            Err(error) => {
                assert_retriable(&error);
                full = Some(error);
            }
        }
        number += 1;
    }
    println!("after {} identities of 64 templates: {full:?}", acknowledged.len());
    full.expect("the disk is full at last");
    {
        let server = Arc::clone(&server);
        blocking(move || server.resize_disk(600)).await;
    }
    becomes(&store, |health| health == Health::Ready).await;
    let began = Instant::now();
    loop {
        number += 1;
        match store.enroll(gallery("g"), enrollment(number, &[0])).await {
            Ok(_) => break,
            Err(error) => assert_retriable(&error),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "no write is taken again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for number in acknowledged {
        let stored = store.identity(&gallery("g"), &identity(number)).await.expect("acknowledged");
        assert_eq!(stored.templates.len(), 64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_record_and_other_defaults_cost_nobody_else_anything() {
    let server = Arc::new(blocking(PostgresServer::start).await);
    let sql = |sql: &'static str| {
        let server = Arc::clone(&server);
        blocking(move || server.psql(sql))
    };
    // A database whose own default would show old rows to whoever waited for a lock.
    sql("alter system set default_transaction_isolation = 'repeatable read'").await;
    sql("select pg_reload_conf()").await;
    let store = open(&server.url(), |_| ()).await;
    with_gallery(&store).await;
    for number in 0..20 {
        store.enroll(gallery("g"), enrollment(number, &[0])).await.expect("enrol");
    }
    sql("update identity_1 set record = set_byte(record, 100, get_byte(record, 100) # 1) where id = 'p000007'").await;
    let damaged = store.identity(&gallery("g"), &identity(7)).await;
    assert!(matches!(damaged, Err(Error::DataLoss(_))));
    for number in (0..20).filter(|number| *number != 7) {
        let search = Search { probe: template(number, 0), capacity: 20, exact: false, scope: Scope::default() };
        let outcome = store.search(&gallery("g"), vec![search]).await.expect("the others").remove(0);
        assert_eq!((outcome.ranked.len(), &outcome.ranked[0].identity), (19, &identity(number)));
    }
    let listed = store.list_identities(&gallery("g"), None, 100).await.expect("list").items;
    assert_eq!(listed.iter().filter(|outline| outline.known.is_none()).count(), 1);
    store.delete_identity(gallery("g"), identity(7)).await.expect("a damaged one too");
    let (_, status) = store.gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (19, 19));
}

#[tokio::test(flavor = "multi_thread")]
async fn role_with_few_rights_is_enough_and_says_what_it_lacks() {
    let server = Arc::new(blocking(PostgresServer::start).await);
    {
        let server = Arc::clone(&server);
        blocking(move || {
            server.psql("create role faces login");
            server.psql("create database faces owner postgres");
        })
        .await;
    }
    let url = server.url_of("faces", "faces");
    let lacking = PostgresGalleries::open(&PostgresOptions::new(&url)).await.err().expect("no extension").to_string();
    assert!(lacking.contains("pgvector is missing") && lacking.contains("create extension vector"), "{lacking}");
    {
        let server = Arc::clone(&server);
        blocking(move || {
            let at = server.url_of("postgres", "faces");
            server.psql_in(&at, "create extension vector");
            server.psql_in(&at, "create schema faces authorization faces");
        })
        .await;
    }
    let store = open(&url, |_| ()).await;
    with_gallery(&store).await;
    store.enroll(gallery("g"), enrollment(1, &[0, 1])).await.expect("enrol");
    // Rights that somebody takes away are not the caller's fault, nor ours.
    let rights = |statement: &'static str| {
        let server = Arc::clone(&server);
        blocking(move || server.psql_in(&server.url_of("postgres", "faces"), statement))
    };
    rights("revoke select on faces.gallery from faces").await;
    let refused = store.gallery(&gallery("g")).await;
    assert!(matches!(refused, Err(Error::Unavailable(why)) if why.contains("role")), "{:?}", refused.map(drop));
    rights("grant select on faces.gallery to faces").await;
    assert!(store.gallery(&gallery("g")).await.is_ok());
    let mut compaction = store.compact().await.expect("compact");
    while let Some(state) = compaction.recv().await {
        state.expect("a state");
    }
    store.delete_gallery(gallery("g"), true).await.expect("delete");
    // Tables of a newer version that still can be worked on, as while all replicas are replaced; then of one that says that they
    // cannot, and of one that says nothing.
    rights("insert into faces.facematch_format values (97, now(), 1)").await;
    let older = open(&url, |_| ()).await;
    with_gallery(&older).await;
    older.enroll(gallery("g"), enrollment(1, &[0])).await.expect("enrol");
    for (of_newer, version) in [
        ("insert into faces.facematch_format values (98, now(), 97)", "version 98"),
        ("insert into faces.facematch_format values (99, now())", "version 99"),
    ] {
        rights(of_newer).await;
        let refused = PostgresGalleries::open(&PostgresOptions::new(&url)).await.err().expect("newer").to_string();
        assert!(refused.contains(version) && refused.contains("newer facematch"), "{refused}");
        let examined = PostgresOptions::new(&url).examine().await.expect_err("newer").to_string();
        assert!(examined.contains(version), "{examined}");
    }
}
