//! What the tests share: real models and photos, where they are, and what to do where they are not.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use facematch::decode::PhotoLimits;
use facematch::model::{Pack, PackSource};
use facematch::pipeline::Pipeline;

/// The strongest of the test packs: SCRFD-2.5g and EdgeFace-XS.
pub const STRONG_PACK: &str = "scrfd25-edgeface-xs";

/// Every test pack; together they hold every output layout, dimension, preprocessing and batch that the engine reads.
pub const PACKS: [&str; 5] =
    [STRONG_PACK, "scrfd500-edgeface-xxs", "scrfd25kps-y1", "scrfd500named-y1raw", "yunet-foamliu"];

/// The folder with real models and photos, or `None`, after saying so, where this machine has none.
///
/// In CI its absence is a failure. Elsewhere the test counts as skipped: it is named on stderr and in the file
/// `FACEMATCH_SKIPPED`, whose lines `make test` counts.
pub fn shared(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("FACEMATCH_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    if folder.join("models").is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "{test}: {} is missing, which CI must have", folder.display());
    eprintln!("skipped {test}: no models and photos at {} (FACEMATCH_SHARED)", folder.display());
    if let Some(list) = std::env::var_os("FACEMATCH_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).expect("open the list");
        writeln!(list, "{test}").expect("write the list");
    }
    None
}

/// Where a test pack lies.
pub fn pack_source(shared: &Path, name: &str) -> PackSource {
    PackSource {
        folder: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs").join(name),
        files: Some(shared.join("models")),
        runtime_library: std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from),
    }
}

pub fn pack(shared: &Path, name: &str) -> Arc<Pack> {
    Arc::new(Pack::load(&pack_source(shared, name)).unwrap_or_else(|error| panic!("load {name}: {error}")))
}

pub fn pipeline(shared: &Path, name: &str) -> Pipeline {
    Pipeline::open(pack(shared, name), PhotoLimits::default()).expect("open the pipeline")
}

/// Runs a job over items with a pipeline a core; results in the order of the items.
pub fn over_all_cores<T: Sync, R: Send>(
    pack: &Arc<Pack>,
    items: &[T],
    job: impl Fn(&mut Pipeline, &T) -> R + Sync,
) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || {
        let mut pipeline = Pipeline::open(Arc::clone(pack), PhotoLimits::default()).expect("open the pipeline");
        let mut done = Vec::new();
        while let Some((index, item)) = {
            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            items.get(index).map(|item| (index, item))
        } {
            done.push((index, job(&mut pipeline, item)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a worker")).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The value below which a share of the values lies; `values` must not be empty.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}
