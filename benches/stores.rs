//! The two stores beside each other, in one run, with the same templates and probes: import, identification and the mates that
//! it finds, verification by identity, enrolment.
//!
//! `cargo bench --bench stores`; `ROWS` is how many templates (100,000), `CALLS` how many calls of a kind (500). The database is the
//! one that the tests use, started for this with 1 GB of buffers, or the one that `FACEMATCH_TEST_POSTGRES_URL` names.

#[path = "../tests/common/postgres.rs"]
mod postgres;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use facematch::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use facematch::biometrics::template::Template;
use facematch::gallery::{
    EmbeddedGalleries, EnrolledTemplate, Enrollment, Galleries, IdentityChange, IfExists, PostgresGalleries,
    PostgresOptions, Scope, Search, Served, Synthetic, SyntheticGallery, write_synthetic,
};

const DIMENSION: usize = 512;
const SEED: u64 = 1;

/// An index of a million takes an hour of two cores that others use too.
const INDEX_TIME_MAX: Duration = Duration::from_secs(10_800);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn gallery() -> GalleryId {
    GalleryId::parse("synthetic").expect("an id")
}

fn pack() -> PackId {
    PackId::parse(&"0".repeat(32)).expect("an id")
}

fn template(identity: u64, which: u64) -> Template {
    Template::from_vector(&Synthetic::new(SEED, DIMENSION).template(identity, which), pack()).expect("a template")
}

/// A figure of both stores.
struct Row {
    what: &'static str,
    unit: &'static str,
    values: Vec<f64>,
}

#[tokio::main]
async fn main() {
    let (rows, calls) = (number("ROWS", 100_000), number("CALLS", 500));
    let server = match std::env::var("FACEMATCH_TEST_POSTGRES_URL") {
        Ok(_) => None,
        Err(_) => Some(postgres::PostgresServer::start_with(postgres::Options {
            settings: vec![
                ("shared_buffers", "1GB"),
                ("max_wal_size", "4GB"),
                // Not in files, as for tests.
                ("dynamic_shared_memory_type", "posix"),
                // The index of a million is built in memory: 1.74 KB a row.
                ("maintenance_work_mem", if rows > 500_000 { "2GB" } else { "1GB" }),
            ],
            ..Default::default()
        })),
    };
    let url = server.as_ref().map_or_else(|| postgres::named("FACEMATCH_TEST_POSTGRES_URL"), |server| server.url());
    let folder = tempfile::tempdir().expect("a folder");
    let embedded: Arc<dyn Galleries> = Arc::new(Arc::new(EmbeddedGalleries::open(folder.path()).expect("open")));
    let mut options = PostgresOptions::new(&url);
    options.statement_time_max = Duration::from_secs(60);
    let database: Arc<dyn Galleries> = Arc::new(Arc::new(PostgresGalleries::open(&options).await.expect("open")));
    let file = folder.path().join("synthetic.gallery");
    let people = write_file(&file, rows);
    println!("{rows} templates of {DIMENSION}, {calls} calls of a kind, one at a time");
    let mut table: Vec<Row> = Vec::new();
    for store in [&embedded, &database] {
        for (row, (what, unit, value)) in measure(store, &file, (rows, people), calls).await.into_iter().enumerate() {
            match table.get_mut(row) {
                Some(row) => row.values.push(value),
                None => table.push(Row { what, unit, values: vec![value] }),
            }
        }
        store.close().await;
    }
    println!("{:<44} {:>12} {:>12}   unit", "", "data folder", "PostgreSQL");
    for Row { what, unit, values } in table {
        println!("{what:<44} {:>12.3} {:>12.3}   {unit}", values[0], values[1]);
    }
}

async fn measure(
    store: &Arc<dyn Galleries>,
    file: &Path,
    (rows, people): (u64, u64),
    calls: u64,
) -> Vec<(&'static str, &'static str, f64)> {
    let began = Instant::now();
    import(store, file).await;
    let imported = began.elapsed().as_secs_f64();
    eprintln!("imported in {imported:.1} s");
    let exact = identify(store, people, calls, true).await;
    let began = Instant::now();
    let indexed = match store.capabilities().is_shared {
        // The data folder scans so many exactly, always.
        false => exact.clone(),
        true => {
            // Measured, whether it is used or misses too many.
            while store.gallery(&gallery()).await.expect("the gallery").1.recall.is_none() {
                assert!(began.elapsed() < INDEX_TIME_MAX, "no index");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            identify(store, people, calls, false).await
        }
    };
    let index_seconds = began.elapsed().as_secs_f64();
    let (_, status) = store.gallery(&gallery()).await.expect("the gallery");
    if let Some(recall) = status.recall {
        eprintln!("an index in {index_seconds:.0} s: {recall:?}, by {:?}", status.path);
    }
    let verified = timed(calls, async |at| {
        let identity = store.identity(&gallery(), &name(at * 7_919 % people)).await.expect("an identity");
        assert!(!identity.templates.is_empty());
    })
    .await;
    let enrolled = timed(calls, async |at| {
        store.enroll(gallery(), enrollment(people + at)).await.expect("enrol");
    })
    .await;
    vec![
        ("import", "templates/s", rows as f64 / imported),
        ("index built and measured", "s", if store.capabilities().is_shared { index_seconds } else { 0.0 }),
        ("identify, exact: p50", "ms", quantile(&exact.times, 0.5)),
        ("identify, exact: p99", "ms", quantile(&exact.times, 0.99)),
        ("identify, exact: mates found", "share", exact.found),
        ("identify, as it chooses: p50", "ms", quantile(&indexed.times, 0.5)),
        ("identify, as it chooses: p99", "ms", quantile(&indexed.times, 0.99)),
        ("identify, as it chooses: mates found", "share", indexed.found),
        ("verify by identity, the read: p50", "ms", quantile(&verified, 0.5)),
        ("verify by identity, the read: p99", "ms", quantile(&verified, 0.99)),
        ("enrol, durable: p50", "ms", quantile(&enrolled, 0.5)),
        ("enrol, durable: p99", "ms", quantile(&enrolled, 0.99)),
    ]
}

fn name(number: u64) -> IdentityId {
    IdentityId::parse(&format!("{number:08}")).expect("an id")
}

/// Returns how many people there are.
fn write_file(path: &Path, rows: u64) -> u64 {
    let mut file = std::fs::File::create(path).expect("a file");
    let wanted =
        SyntheticGallery { gallery: gallery(), pack_id: pack(), dimension: DIMENSION, seed: SEED, templates: rows };
    write_synthetic::<anyhow::Error>(&wanted, |part, _| Ok(file.write_all(part)?)).expect("written")
}

async fn import(store: &Arc<dyn Galleries>, path: &Path) {
    let mut file = std::fs::File::open(path).expect("the file");
    let mut import = store.begin_import(gallery(), 0).await.expect("begin");
    loop {
        // As messages of the contract have it.
        let mut part = Vec::with_capacity(1 << 20);
        Read::by_ref(&mut file).take(1 << 20).read_to_end(&mut part).expect("read");
        if part.is_empty() {
            break;
        }
        import.feed(part).await.expect("feed");
    }
    import.finish(Served::Here).await.expect("finish");
}

#[derive(Clone)]
struct Identified {
    times: Vec<f64>,
    found: f64,
}

async fn identify(store: &Arc<dyn Galleries>, people: u64, calls: u64, exact: bool) -> Identified {
    let (mut asked, mut found) = (0, 0);
    let times = timed(calls, async |at| {
        asked += 1;
        let person = at * 7_919 % people;
        let search = Search { probe: template(person, 1_000), capacity: 5, exact, scope: Scope::default() };
        let outcome = store.search(&gallery(), vec![search]).await.expect("search").remove(0);
        found += u64::from(outcome.ranked.first().is_some_and(|ranked| ranked.identity == name(person)));
    })
    .await;
    Identified { times, found: found as f64 / f64::from(asked) }
}

/// Milliseconds of each call.
async fn timed(calls: u64, mut call: impl AsyncFnMut(u64)) -> Vec<f64> {
    // Connections, plans and caches are there before it counts.
    for at in 0..20 {
        call(1_000_000 + at).await;
    }
    let mut times = Vec::new();
    for at in 0..calls {
        let began = Instant::now();
        call(at).await;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times
}

fn quantile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn enrollment(number: u64) -> Enrollment {
    let template = EnrolledTemplate {
        id: TemplateId::parse("0").expect("an id"),
        template: template(number, 0),
        face: None,
        chip: None,
        created: SystemTime::now(),
    };
    Enrollment {
        identity: name(number),
        change: IdentityChange::default(),
        templates: vec![template],
        if_exists: IfExists::Add,
        check_defaults: Default::default(),
        may_refuse_all: false,
        identities_max: None,
    }
}
