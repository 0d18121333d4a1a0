//! What was deleted is in no file of the data folder after a compaction, which costs nobody anything.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use common::people::{all, assert_index_agrees, best, create, enrollment, gallery, identity, template};
use facematch::error::Error;
use facematch::gallery::{Compaction, EmbeddedGalleries, SyntheticGallery, write_synthetic};

/// Tells whether a template's values are in any file of a folder: any 16 bytes of them, so that a part is found too, as they
/// are in memory or packed as records have them (the lower halves of all values one after the other).
fn is_on_disk(folder: &Path, number: u64, which: u64) -> bool {
    let template = template(number, which);
    let whole: Vec<u8> = template.values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let halves: Vec<u8> = template.values().iter().flat_map(|value| (value.to_bits() as u16).to_le_bytes()).collect();
    let parts = |bytes: &[u8]| -> Vec<[u8; 16]> {
        bytes.chunks_exact(32).map(|part| *part.first_chunk().expect("16")).collect()
    };
    let needles: std::collections::HashSet<[u8; 16]> = parts(&whole).into_iter().chain(parts(&halves)).collect();
    let first: std::collections::HashSet<u8> = needles.iter().map(|needle| needle[0]).collect();
    files(folder).iter().any(|file| {
        file.windows(16)
            .any(|window| first.contains(&window[0]) && window.first_chunk().is_some_and(|w| needles.contains(w)))
    })
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push(std::fs::read(&entry).expect("read"));
        }
    }
    found
}

fn compact(galleries: &EmbeddedGalleries) -> Compaction {
    galleries.compact(|_| Ok(())).expect("compact")
}

async fn enroll(galleries: &EmbeddedGalleries, id: &str, number: u64, which: &[u64]) {
    galleries.enroll(gallery(id), enrollment(number, which)).await.expect("enrol");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio")
}

#[test]
fn deleted_identity_template_and_gallery_are_in_no_file() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
    runtime.block_on(async {
        create(&galleries, "a").await;
        create(&galleries, "b").await;
        for number in 0..50 {
            enroll(&galleries, "a", number, &[0, 1]).await;
            enroll(&galleries, "b", 1_000 + number, &[0]).await;
        }
        galleries.delete_identity(gallery("a"), identity(7)).await.expect("delete");
        let template = facematch::biometrics::ids::TemplateId::parse("1").expect("an id");
        galleries.delete_template(gallery("a"), identity(8), template).await.expect("delete");
        galleries.delete_gallery(gallery("b"), true).await.expect("delete");
    });
    // Without this the test would not show that it can find anything.
    assert!(is_on_disk(folder.path(), 7, 0) && is_on_disk(folder.path(), 8, 1) && is_on_disk(folder.path(), 1_003, 0));
    let before = all(&galleries, "a");
    let done = compact(&galleries);
    assert!(done.bytes_after.is_some_and(|bytes| bytes > 0));
    let check = |galleries: &EmbeddedGalleries, when: &str| {
        for (number, which) in [(7, 0), (7, 1), (8, 1), (1_003, 0), (1_049, 0)] {
            assert!(!is_on_disk(folder.path(), number, which), "{when}: template {which} of {number} is in a file");
        }
        assert!(is_on_disk(folder.path(), 8, 0) && is_on_disk(folder.path(), 9, 1), "{when}");
        assert!(all(galleries, "a") == before, "{when}");
        assert_index_agrees(galleries, "a", when);
    };
    check(&galleries, "after the compaction");
    runtime.block_on(enroll(&galleries, "a", 60, &[0]));
    runtime.block_on(galleries.delete_identity(gallery("a"), identity(60))).expect("delete");
    galleries.close();
    drop(galleries);
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open again");
    check(&galleries, "after a restart");
    compact(&galleries);
    check(&galleries, "after another one");
    assert!(!is_on_disk(folder.path(), 60, 0));
}

/// A gallery whose records are still being removed behind its deletion, and what an import that broke off has left.
#[test]
fn gallery_and_broken_import_deleted_just_before_are_in_no_file() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
    let file = synthetic_file(30_000);
    let mut import = galleries.begin_import(gallery("large"), 0).expect("begin");
    import.feed(&file).expect("feed");
    import.finish().expect("finish");
    let mut broken = galleries.begin_import(gallery("broken"), 0).expect("begin");
    // Before its first step nothing of it is in the store yet; it goes first all the same.
    for part in [&file[..1_000], &file[1_000..file.len() - 1]] {
        broken.feed(part).expect("feed");
        assert!(matches!(runtime.block_on(galleries.delete_gallery(gallery("broken"), true)), Err(Error::UnderWay(_))));
    }
    drop(broken);
    runtime.block_on(galleries.delete_gallery(gallery("broken"), true)).expect("delete");
    assert!(galleries.import_state(&gallery("broken")).is_err());
    runtime.block_on(galleries.delete_gallery(gallery("large"), true)).expect("delete");
    compact(&galleries);
    for number in [0, 17, 4_000, 9_000] {
        assert!(!is_on_disk(folder.path(), number, 0), "a template of {number} is in a file");
    }
}

fn synthetic_file(templates: u64) -> Vec<u8> {
    let (dimension, pack_id) = (common::people::DIMENSION, common::people::pack());
    let wanted = SyntheticGallery { gallery: gallery("made"), pack_id, dimension, seed: 1, templates };
    let mut file = Vec::new();
    let take = |part: &[u8], _| {
        file.extend_from_slice(part);
        Ok::<(), Error>(())
    };
    write_synthetic(&wanted, take).expect("a file");
    file
}

/// The marker removed, as an error advises where there is no backup, while a folder of a copy that never came to its end
/// lies beside the store: nothing of it comes into the next copy.
#[test]
fn left_over_copy_never_comes_back() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
    runtime.block_on(async {
        create(&galleries, "a").await;
        for number in 0..20 {
            enroll(&galleries, "a", number, &[0]).await;
        }
    });
    galleries.close();
    drop(galleries);
    for entry in ["store-2", "store-1"].map(|name| folder.path().join(name)) {
        std::fs::create_dir_all(&entry).expect("a folder");
    }
    for file in ["db", "conf"] {
        std::fs::copy(folder.path().join("store-1").join(file), folder.path().join("store-2").join(file))
            .expect("copy");
    }
    std::fs::remove_file(folder.path().join("facematch.state")).expect("remove the marker");
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
    runtime.block_on(galleries.delete_identity(gallery("a"), identity(7))).expect("delete");
    compact(&galleries);
    assert!(galleries.identity(&gallery("a"), &identity(7)).is_err(), "a deleted identity is back");
    assert_eq!(all(&galleries, "a").len(), 19);
    assert!(!is_on_disk(folder.path(), 7, 0));
}

#[test]
fn compaction_that_is_given_up_leaves_all_as_it_was() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
    runtime.block_on(async {
        create(&galleries, "a").await;
        for number in 0..50 {
            enroll(&galleries, "a", number, &[0]).await;
        }
    });
    let before = all(&galleries, "a");
    let given_up = galleries.compact(|_| {
        assert!(matches!(galleries.compact(|_| Ok(())), Err(Error::UnderWay(_))), "two at a time");
        Err(Error::DeadlineExceeded)
    });
    assert!(matches!(given_up, Err(Error::DeadlineExceeded)));
    assert!(all(&galleries, "a") == before);
    let stores = std::fs::read_dir(folder.path()).expect("a folder").flatten();
    let stores = stores.filter(|entry| entry.file_name().to_string_lossy().starts_with("store-")).count();
    assert_eq!(stores, 1, "what was copied is gone");
    runtime.block_on(enroll(&galleries, "a", 99, &[0]));
    compact(&galleries);
    assert_eq!(all(&galleries, "a").len(), 51);
}

#[test]
fn writes_and_searches_go_on_during_compactions_and_nothing_is_lost() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = Arc::new(EmbeddedGalleries::open(folder.path()).expect("open"));
    runtime.block_on(async {
        create(&galleries, "a").await;
        for number in 0..1_000 {
            enroll(&galleries, "a", number, &[0]).await;
        }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let (slowest, written) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (galleries, stop, written) = (Arc::clone(&galleries), Arc::clone(&stop), Arc::clone(&written));
        runtime.spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                enroll(&galleries, "a", 2_000 + round, &[0]).await;
                galleries.delete_identity(gallery("a"), identity(round % 1_000)).await.expect("delete");
                enroll(&galleries, "a", round % 1_000, &[1]).await;
                round += 1;
                written.store(round, Ordering::Relaxed);
            }
            round
        })
    };
    let searcher = {
        let (galleries, stop, slowest) = (Arc::clone(&galleries), Arc::clone(&stop), Arc::clone(&slowest));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                assert!(best(&galleries, "a", template(5, 0)).is_some());
                slowest.fetch_max(started.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
        })
    };
    let mut compactions = 0;
    while compactions < 5 || written.load(Ordering::Relaxed) < 50 {
        compact(&galleries);
        compactions += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = runtime.block_on(writer).expect("the writer");
    searcher.join().expect("the searcher");
    let slowest = slowest.load(Ordering::Relaxed);
    println!("{rounds} rounds of writes, {compactions} compactions; the slowest search took {slowest} µs");
    assert_eq!(all(&galleries, "a").len() as u64, 1_000 + rounds);
    assert_index_agrees(&galleries, "a", "after compactions");
    let kept = all(&galleries, "a");
    galleries.close();
    drop(galleries);
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open again");
    assert!(all(&galleries, "a") == kept);
    assert_index_agrees(&galleries, "a", "after a restart");
}
