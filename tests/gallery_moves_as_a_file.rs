//! A gallery written to a file and read again is the same one: whole or not there at all.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::people::{all, assert_index_agrees, best, create, enrollment, gallery, identity, template};
use facematch::biometrics::fusion::Fusion;
use facematch::error::{Entity, Error};
use facematch::gallery::{EmbeddedGalleries, ExportPart, GalleryChange};

fn open(folder: &Path) -> EmbeddedGalleries {
    EmbeddedGalleries::open(folder).expect("open")
}

fn export(galleries: &EmbeddedGalleries, id: &str) -> Vec<u8> {
    let mut file = Vec::new();
    let take = |part: ExportPart| {
        // About a megabyte, whatever changes meanwhile: a message of the contract must hold it.
        assert!(part.bytes.len() < 3 << 20, "a part of {} bytes", part.bytes.len());
        file.extend_from_slice(&part.bytes);
        Ok(())
    };
    galleries.export(&gallery(id), take).expect("export");
    file
}

fn import(galleries: &EmbeddedGalleries, id: &str, file: &[u8], part: usize) -> Result<(), Error> {
    let mut import = galleries.begin_import(gallery(id), 0)?;
    for part in file.chunks(part) {
        import.feed(part)?;
    }
    import.finish().map(drop)
}

async fn enroll(galleries: &EmbeddedGalleries, id: &str, number: u64, which: &[u64]) {
    galleries.enroll(gallery(id), enrollment(number, which)).await.expect("enrol");
}

/// A gallery of some people, and it as a file.
fn some_people(runtime: &tokio::runtime::Runtime, galleries: &EmbeddedGalleries, count: u64) -> Vec<u8> {
    runtime.block_on(async {
        create(galleries, "a").await;
        for number in 0..count {
            enroll(galleries, "a", number, &[0, 1, number]).await;
        }
    });
    export(galleries, "a")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio")
}

fn gallery_is_not_there(galleries: &EmbeddedGalleries, id: &str) -> bool {
    matches!(galleries.gallery(&gallery(id)), Err(Error::NotFound(Entity::Gallery)))
}

#[test]
fn damaged_file_is_refused_wherever_the_damage_is_and_nothing_is_there() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = open(folder.path());
    let file = some_people(&runtime, &galleries, 3);
    // Each byte of the frames' headers and of the first kilobyte; of the templates' values every 97th.
    for at in (0..file.len()).filter(|at| *at < 1_024 || at % 97 == 0 || *at > file.len() - 300) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x40;
        let outcome = import(&galleries, "b", &damaged, file.len());
        // A damaged version number reads as a later one.
        let is_refused = match outcome {
            Err(Error::NewerGalleryFile { .. }) => (8..12).contains(&at),
            Err(Error::GalleryFile(_)) => true,
            _ => false,
        };
        assert!(is_refused, "byte {at}: {outcome:?}");
        let cut = import(&galleries, "b", &file[..at], file.len());
        assert!(matches!(cut, Err(Error::GalleryFile(_))), "cut to {at}: {cut:?}");
        assert!(gallery_is_not_there(&galleries, "b"));
    }
    let mut longer = file.clone();
    longer.extend_from_slice(&file);
    assert!(matches!(import(&galleries, "b", &longer, 1_000), Err(Error::GalleryFile(_))));
    assert!(import(&galleries, "b", &file, 1_000).is_ok());
}

#[test]
fn import_into_a_gallery_that_is_there_or_twice_at_a_time_is_refused() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = open(folder.path());
    let file = some_people(&runtime, &galleries, 2);
    let there = import(&galleries, "a", &file, 1_000);
    assert!(matches!(there, Err(Error::AlreadyExists(Entity::Gallery))));
    let mut first = galleries.begin_import(gallery("b"), 0).expect("begin");
    first.feed(&file).expect("a whole file");
    assert!(matches!(galleries.begin_import(gallery("b"), 0), Err(Error::UnderWay(_))));
    // Made by somebody else in the meantime: that one stays.
    runtime.block_on(create(&galleries, "b"));
    assert!(matches!(first.finish(), Err(Error::AlreadyExists(Entity::Gallery))));
    assert_eq!(all(&galleries, "b").len(), 0);
}

#[test]
fn round_trip_is_identical_and_survives_a_restart() {
    let (folder, other, runtime) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a"), runtime());
    let (from, to) = (open(folder.path()), open(other.path()));
    let file = some_people(&runtime, &from, 60);
    for part in [1, 1_000, file.len()] {
        let id = format!("b{part}");
        import(&to, &id, &file, part).expect("import");
        assert!(all(&to, &id) == all(&from, "a"));
        let settings =
            |galleries: &EmbeddedGalleries, id: &str| galleries.gallery(&gallery(id)).expect("there").0.settings;
        assert_eq!(settings(&to, &id), settings(&from, "a"));
        assert_index_agrees(&to, &id, &id);
    }
    to.close();
    drop(to);
    let to = open(other.path());
    assert!(all(&to, "b1") == all(&from, "a"));
    assert_index_agrees(&to, "b1", "after a restart");
}

#[test]
fn fusion_rule_of_the_file_makes_the_rows() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = open(folder.path());
    some_people(&runtime, &galleries, 20);
    let change = GalleryChange { fusion: Some(Fusion::Mean), ..Default::default() };
    runtime.block_on(galleries.update_gallery(gallery("a"), change)).expect("update");
    import(&galleries, "b", &export(&galleries, "a"), 1_000).expect("import");
    let counts = |id: &str| galleries.gallery(&gallery(id)).expect("there").1.counts;
    assert_eq!(counts("b"), counts("a"));
    for number in 0..20 {
        let best = |id: &str| best(&galleries, id, template(number, 0)).expect("somebody");
        assert_eq!(best("b"), best("a"), "the mean's score to the last bit");
        assert!(best("b").1 < 0.99);
    }
}

#[test]
fn import_that_broke_off_resumes_where_it_was_also_after_a_restart() {
    let (folder, other, runtime) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a"), runtime());
    let from = open(folder.path());
    // Some megabytes, so that there are steps between.
    let file = some_people(&runtime, &from, 6_000);
    let mut to = open(other.path());
    assert!(matches!(to.import_state(&gallery("b")), Err(Error::NotFound(Entity::Import))));
    let (mut offset, mut breaks) = (0, 0);
    loop {
        let mut import = to.begin_import(gallery("b"), offset).expect("begin");
        let rest = &file[offset as usize..];
        let part = &rest[..rest.len().min(3_300_000)];
        import.feed(part).expect("feed");
        if part.len() == rest.len() {
            import.finish().expect("finish");
            break;
        }
        drop(import);
        assert!(gallery_is_not_there(&to, "b"), "half a gallery is visible");
        if breaks == 1 {
            to.close();
            drop(to);
            to = open(other.path());
            assert!(gallery_is_not_there(&to, "b"), "half a gallery is visible");
        }
        let state = to.import_state(&gallery("b")).expect("it broke off");
        assert!(state.offset > offset && state.offset <= offset + part.len() as u64, "nothing was kept");
        assert!(to.begin_import(gallery("b"), state.offset + 1).is_err(), "an offset that is none");
        offset = state.offset;
        breaks += 1;
    }
    assert!(breaks >= 2);
    assert!(all(&to, "b") == all(&from, "a"));
    assert!(matches!(to.import_state(&gallery("b")), Err(Error::NotFound(Entity::Import))));
    let (_, status) = to.gallery(&gallery("b")).expect("there");
    assert_eq!(status.counts.identities, 6_000);
}

#[test]
fn another_file_takes_the_place_of_one_that_broke_off() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = open(folder.path());
    let file = some_people(&runtime, &galleries, 5_000);
    let mut broken = galleries.begin_import(gallery("b"), 0).expect("begin");
    broken.feed(&file[..file.len() - 1]).expect("feed");
    drop(broken);
    runtime.block_on(async {
        create(&galleries, "c").await;
        enroll(&galleries, "c", 9_999, &[0]).await;
    });
    import(&galleries, "b", &export(&galleries, "c"), 1_000).expect("import");
    assert!(all(&galleries, "b") == all(&galleries, "c"), "something of the first file is left");
}

/// Two people are always written one after the other: a file in which the second has what the first has not is of no moment
/// that ever was.
#[test]
fn export_is_of_one_moment_while_writes_go_on() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let galleries = Arc::new(open(folder.path()));
    some_people(&runtime, &galleries, 2_000);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let (galleries, stop) = (Arc::clone(&galleries), Arc::clone(&stop));
            runtime.spawn(async move {
                // The second is read before the first, the third is deleted and made again.
                let (first, second, third) = (1_900 - writer, writer, 1_000 + writer);
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    let which = 10_000 + round % 30;
                    if round % 30 == 0 {
                        for number in [second, first] {
                            let _ = galleries.delete_identity(gallery("a"), identity(number)).await;
                        }
                    }
                    enroll(&galleries, "a", first, &[which]).await;
                    enroll(&galleries, "a", second, &[which]).await;
                    galleries.delete_identity(gallery("a"), identity(third)).await.expect("delete");
                    enroll(&galleries, "a", third, &[which]).await;
                    round += 1;
                }
                round
            })
        })
        .collect();
    for round in 0..20 {
        let file = export(&galleries, "a");
        let id = format!("copy{round}");
        import(&galleries, &id, &file, 100_000).expect("import");
        let copy = all(&galleries, &id);
        for writer in 0..4 {
            let count = |number| copy.get(identity(number).as_str()).map_or(0, |found| found.templates.len());
            let (first, second) = (count(1_900 - writer), count(writer));
            let of_one_moment = first == second || first == second + 1 || second == 0;
            assert!(of_one_moment, "round {round}: {first} and {second}");
            // Gone, made again, or with the three that it began with.
            assert!([0, 1, 3].contains(&count(1_000 + writer)), "round {round}");
        }
        assert!((1_992..=2_000).contains(&copy.len()), "{}", copy.len());
    }
    stop.store(true, Ordering::Relaxed);
    let rounds: u64 = writers.into_iter().map(|writer| runtime.block_on(writer).expect("a writer")).sum();
    assert!(rounds > 20, "writes went on: {rounds}");
    assert_index_agrees(&galleries, "copy19", "the last copy");
}
