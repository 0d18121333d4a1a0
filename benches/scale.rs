//! A gallery of a million (`ROWS` for another number): how fast it is imported, how soon a server answers after a start, what
//! it takes of memory and disk, what filters cost, and how long a search waits at most while long work goes on.
//!
//! `cargo bench --bench scale`. Each phase runs in a process of its own, so that one does not hold another's memory.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use facematch::biometrics::ids::{GalleryId, IdentityId, PackId};
use facematch::biometrics::template::Template;
use facematch::error::Error;
use facematch::gallery::filter::Filter;
use facematch::gallery::{EmbeddedGalleries, Scope, Search, Synthetic, SyntheticGallery, write_synthetic};

const DIMENSION: usize = 512;
const SEED: u64 = 1;

fn rows() -> u64 {
    std::env::var("ROWS").map_or(1_000_000, |rows| rows.parse().expect("ROWS is a number"))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "phase", phase, folder, ..] => run(phase, Path::new(folder)),
        _ => all(),
    }
}

fn all() {
    let folder = tempfile::tempdir().expect("a folder");
    println!("{} templates of {DIMENSION} in {}", rows(), folder.path().display());
    for phase in ["import", "start from snapshot", "start without snapshot", "search", "stalls"] {
        let program = std::env::current_exe().expect("this program");
        let status = Command::new(program).args(["phase", phase]).arg(folder.path()).status().expect("a phase");
        assert!(status.success(), "{phase}: {status}");
    }
}

fn run(phase: &str, folder: &Path) {
    match phase {
        "import" => import(folder),
        "start from snapshot" => start(folder, phase),
        "start without snapshot" => {
            std::fs::remove_dir_all(folder.join("snapshots")).expect("snapshots");
            start(folder, phase);
        }
        "search" => search(folder),
        "stalls" => stalls(folder),
        _ => panic!("there is no phase {phase}"),
    }
}

fn gallery() -> GalleryId {
    GalleryId::parse("synthetic").expect("an id")
}

fn pack() -> PackId {
    PackId::parse(&"0".repeat(32)).expect("an id")
}

fn report(what: &str, value: String) {
    println!("{what:<58} {value}");
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// What the process holds, and the share of what the vectors need in the forms that are kept: 4 bytes a value in full, one
/// in the two planes, 16 a row for their scales.
fn report_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    let resident = line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0;
    let forms = rows() as f64 * (DIMENSION as f64 * 5.0 + 16.0);
    report("  resident", format!("{:.2} GB, {:.2} of the forms kept", resident / 1e9, resident / forms));
}

fn import(folder: &Path) {
    let wanted =
        SyntheticGallery { gallery: gallery(), pack_id: pack(), dimension: DIMENSION, seed: SEED, templates: rows() };
    // Made before the clock starts: making people who do not exist is no part of importing them.
    let mut parts: Vec<Vec<u8>> = Vec::new();
    write_synthetic(&wanted, |part, _| {
        parts.push(part.to_vec());
        Ok::<(), Error>(())
    })
    .expect("a file");
    let galleries = EmbeddedGalleries::open(folder).expect("open");
    let started = Instant::now();
    let mut import = galleries.begin_import(gallery(), 0).expect("begin");
    for part in parts {
        import.feed(&part).expect("feed");
        drop(part);
    }
    import.finish().expect("finish");
    find(&galleries, 7, Scope::default());
    let time = started.elapsed();
    report(
        "import, durable, to the first answer",
        format!("{}, {:.0} templates/s", seconds(time), rows() as f64 / time.as_secs_f64()),
    );
    report_memory();
    let started = Instant::now();
    galleries.close();
    report("close, with a snapshot", seconds(started.elapsed()));
    let raw = rows() as f64 * DIMENSION as f64 * 4.0;
    let disk = bytes(folder) as f64;
    report("disk", format!("{:.2} GB, {:.2} of the raw f32", disk / 1e9, disk / raw));
}

fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let of_entry = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().expect("metadata");
        if metadata.is_dir() { bytes(&entry.path()) } else { metadata.len() }
    };
    entries.map(of_entry).sum()
}

fn probe(identity: u64) -> Template {
    Template::from_vector(&Synthetic::new(SEED, DIMENSION).template(identity, 1_000), pack()).expect("a template")
}

fn find(galleries: &EmbeddedGalleries, identity: u64, scope: Scope) -> IdentityId {
    let search = Search { probe: probe(identity), capacity: 5, exact: true, scope };
    let outcome = galleries.search(&gallery(), search).expect("search");
    outcome.ranked.into_iter().next().expect("somebody").identity
}

fn start(folder: &Path, phase: &str) {
    let started = Instant::now();
    let galleries = EmbeddedGalleries::open(folder).expect("open");
    let found = find(&galleries, 7, Scope::default());
    report(&format!("{phase}, to the first answer"), seconds(started.elapsed()));
    assert_eq!(found.as_str(), "00000007");
    report_memory();
    galleries.close();
}

/// The median of many searches.
fn time(galleries: &EmbeddedGalleries, scope: &Scope) -> Duration {
    let mut times: Vec<Duration> = (0..41)
        .map(|turn| {
            let probe = Search { probe: probe(turn * 100 + 7), capacity: 5, exact: true, scope: scope.clone() };
            let started = Instant::now();
            galleries.search(&gallery(), probe).expect("search");
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn search(folder: &Path) {
    let galleries = EmbeddedGalleries::open(folder).expect("open");
    let filter = |text: &str| Scope { filter: Some(Filter::parse("filter", text).expect(text)), candidates: None };
    let everyone = time(&galleries, &Scope::default());
    report("search of everyone, all cores", format!("{:.2} ms", everyone.as_secs_f64() * 1e3));
    let half = rows() / 6;
    for (what, scope) in [
        ("1 % by a text", filter("group = \"07\"")),
        (
            "10 % by a list of texts",
            filter("group IN (\"00\",\"01\",\"02\",\"03\",\"04\",\"05\",\"06\",\"07\",\"08\",\"09\")"),
        ),
        ("half by a range of numbers", filter(&format!("number < {half}"))),
        ("all but 1 %", filter("NOT group = \"07\"")),
        (
            "1,000 candidates",
            Scope {
                filter: None,
                candidates: Some(
                    (0..1_000).map(|at| IdentityId::parse(&format!("{:08}", at * 97)).expect("an id")).collect(),
                ),
            },
        ),
    ] {
        let filtered = time(&galleries, &scope);
        let ratio = filtered.as_secs_f64() / everyone.as_secs_f64();
        report(&format!("search of {what}"), format!("{:.2} ms, {ratio:.2} of everyone", filtered.as_secs_f64() * 1e3));
    }
    galleries.close();
}

/// Searches for the whole time a job takes, of a small gallery, so that waiting shows and not scanning.
fn stalls(folder: &Path) {
    let galleries = EmbeddedGalleries::open(folder).expect("open");
    let few = GalleryId::parse("few").expect("an id");
    let wanted =
        SyntheticGallery { gallery: few.clone(), pack_id: pack(), dimension: DIMENSION, seed: 2, templates: 1_000 };
    let mut import = galleries.begin_import(few, 0).expect("begin");
    write_synthetic(&wanted, |part, _| import.feed(part)).expect("feed");
    import.finish().expect("finish");
    type Job = fn(&EmbeddedGalleries);
    let jobs: [(&str, Job); 3] = [
        ("nothing", |_| std::thread::sleep(Duration::from_secs(2))),
        ("an export", |galleries| galleries.export(&gallery(), |_| Ok(())).expect("export")),
        ("a compaction", |galleries| {
            galleries.compact(|_| Ok(())).expect("compact");
        }),
    ];
    for (what, job) in jobs {
        let (stop, slowest, count) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let template = probe(3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let few = GalleryId::parse("few").expect("an id");
                while !stop.load(Ordering::Relaxed) {
                    let search = Search { probe: template.clone(), capacity: 5, exact: true, scope: Scope::default() };
                    let started = Instant::now();
                    galleries.search(&few, search).expect("search");
                    slowest.fetch_max(started.elapsed().as_micros() as u64, Ordering::Relaxed);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            let started = Instant::now();
            job(&galleries);
            stop.store(true, Ordering::Relaxed);
            let (slowest, count) = (slowest.load(Ordering::Relaxed) as f64 / 1e3, count.load(Ordering::Relaxed));
            let text = format!("{slowest:.1} ms of {count} ({})", seconds(started.elapsed()));
            report(&format!("slowest search of 1,000 beside {what}"), text);
        });
    }
    galleries.close();
}
