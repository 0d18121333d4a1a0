//! What encryption at rest costs: the same people imported, enrolled and started with, in a plain store and in an encrypted one,
//! in turns.
//!
//! `cargo bench --bench encryption`; `ROWS` for another number of templates than 100,000.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use facematch::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use facematch::biometrics::template::Template;
use facematch::error::Error;
use facematch::gallery::{
    EmbeddedGalleries, EnrolledTemplate, Enrollment, IdentityChange, IfExists, MasterKey, Synthetic, SyntheticGallery,
    change_key, write_synthetic,
};

const DIMENSION: usize = 512;
const SEED: u64 = 1;
const ROUNDS: usize = 3;

/// Enrolments that are in at a time, as in a stream.
const ENROLLED: u64 = 8_192;
const AT_A_TIME: u64 = 64;

const PHASES: [&str; 5] =
    ["import", "enrol, 64 at a time", "close, with a snapshot", "start from the snapshot", "start without one"];

fn main() {
    let rows = std::env::var("ROWS").map_or(100_000, |rows| rows.parse().expect("ROWS is a number"));
    let mut file = Vec::new();
    let wanted =
        SyntheticGallery { gallery: gallery(), pack_id: pack(), dimension: DIMENSION, seed: SEED, templates: rows };
    let take = |part: &[u8], _| {
        file.extend_from_slice(part);
        Ok::<(), Error>(())
    };
    write_synthetic(&wanted, take).expect("a file");
    let key = MasterKey::random().expect("a key");
    let mut times: [[Vec<Duration>; 2]; 5] = Default::default();
    for _ in 0..ROUNDS {
        for (which, key) in [None, Some(&key)].into_iter().enumerate() {
            let folder = tempfile::tempdir().expect("a folder");
            for (of_phase, time) in times.iter_mut().zip(run(folder.path(), key, &file)) {
                of_phase[which].push(time);
            }
        }
    }
    println!("{rows} templates of {DIMENSION}, the median of {ROUNDS} rounds: plain, encrypted, their ratio");
    for (phase, [plain, encrypted]) in PHASES.iter().zip(&mut times) {
        let (plain, encrypted) = (median(plain), median(encrypted));
        println!("{phase:<28} {plain:>8.3} s  {encrypted:>8.3} s  {:.2}", encrypted / plain);
    }
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), None, &file);
    let started = Instant::now();
    change_key(folder.path(), None, Some(&key), |_| ()).expect("encrypt");
    println!("to encrypt the plain one     {:>8.3} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let new = MasterKey::random().expect("a key");
    change_key(folder.path(), Some(&key), Some(&new), |_| ()).expect("rotate");
    println!("to give it another key       {:>8.3} s", started.elapsed().as_secs_f64());
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn gallery() -> GalleryId {
    GalleryId::parse("synthetic").expect("an id")
}

fn pack() -> PackId {
    PackId::parse(&"0".repeat(32)).expect("an id")
}

/// The times of the phases.
fn run(folder: &Path, key: Option<&MasterKey>, file: &[u8]) -> [Duration; 5] {
    let open = || EmbeddedGalleries::open_with_key(folder, key).expect("open");
    let galleries = Arc::new(open());
    let imported = timed(|| {
        let mut import = galleries.begin_import(gallery(), 0).expect("begin");
        file.chunks(1 << 20).for_each(|part| import.feed(part).expect("feed"));
        import.finish().expect("finish");
    });
    let enrolled = enroll(&galleries);
    let closed = timed(|| galleries.close());
    drop(galleries);
    let mut galleries = None;
    let from_snapshot = timed(|| galleries = Some(open()));
    // Nothing has changed, so that no snapshot is taken when it closes.
    galleries.take().expect("open").close();
    std::fs::remove_dir_all(folder.join("snapshots")).expect("snapshots");
    let without = timed(|| galleries = Some(open()));
    drop(galleries);
    [imported, enrolled, closed, from_snapshot, without]
}

fn timed(job: impl FnOnce()) -> Duration {
    let started = Instant::now();
    job();
    started.elapsed()
}

fn enroll(galleries: &Arc<EmbeddedGalleries>) -> Duration {
    let people = Synthetic::new(SEED + 1, DIMENSION);
    let enrollments: Vec<Enrollment> = (0..ENROLLED)
        .map(|number| Enrollment {
            identity: IdentityId::parse(&format!("new {number}")).expect("an id"),
            change: IdentityChange::default(),
            templates: vec![EnrolledTemplate {
                id: TemplateId::parse("1").expect("an id"),
                template: Template::from_vector(&people.template(number, 0), pack()).expect("a template"),
                face: None,
                chip: None,
                created: SystemTime::now(),
            }],
            if_exists: IfExists::Refuse,
            check_defaults: Default::default(),
            may_refuse_all: false,
            identities_max: None,
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("tokio");
    let mut waiting = enrollments.into_iter();
    timed(|| {
        runtime.block_on(async {
            for _ in 0..ENROLLED / AT_A_TIME {
                let mut group = tokio::task::JoinSet::new();
                for enrollment in (&mut waiting).take(AT_A_TIME as usize) {
                    let galleries = Arc::clone(galleries);
                    group.spawn(async move { galleries.enroll(gallery(), enrollment).await });
                }
                while let Some(enrolled) = group.join_next().await {
                    enrolled.expect("a task").expect("enrolled");
                }
            }
        });
    })
}
