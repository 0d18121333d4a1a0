//! A pack's networks are made faster when it is loaded, and compute the same.

mod common;

use std::path::{Path, PathBuf};

use facematch::biometrics::face::FaceSelection;
use facematch::biometrics::template::{Template, dot};
use facematch::decode::PhotoLimits;
use facematch::detect::scales::Scales;
use facematch::model::{Pack, PackSource, Tuning};
use facematch::pipeline::{Acquired, DetectionSettings, Pipeline};

/// What the templates of a tuned and of an untouched pack have in common at least.
const COSINE_MIN: f32 = 0.999_99;

fn load(shared: &Path, name: &str, tuning: Tuning) -> Pack {
    Pack::load(&PackSource { tuning, ..common::pack_source(shared, name) }).expect(name)
}

fn auto(cache: &Path) -> Tuning {
    Tuning::Auto { cache: Some(cache.to_path_buf()) }
}

/// Every 120th photo of LFW by name, and some crowds: real faces, large and small.
fn photos(shared: &Path) -> Vec<Vec<u8>> {
    let files = |folder: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let people = files(shared.join("faces/lfw/photos"));
    let mut photos: Vec<PathBuf> = people.into_iter().step_by(60).flat_map(|person| files(person).pop()).collect();
    let mut crowds = files(shared.join("faces/wider/photos"));
    crowds.retain(|path| path.is_file());
    photos.extend(crowds.into_iter().step_by(50));
    photos.iter().map(|path| std::fs::read(path).expect("read a photo")).collect()
}

fn acquire(pack: Pack, photos: &[Vec<u8>]) -> (Vec<Acquired>, Vec<Template>) {
    let mut pipeline = Pipeline::open(pack.into(), PhotoLimits::default()).expect("open the pipeline");
    let settings = DetectionSettings { scales: Scales::Sides(vec![320]), score_min: None };
    let acquired: Vec<Acquired> =
        photos.iter().map(|photo| pipeline.acquire(photo, &settings, FaceSelection::All).expect("acquire")).collect();
    let chosen = acquired.iter().filter_map(|acquired| acquired.chosen.as_ref().ok()).flatten();
    let templates = chosen.map(|(_, template)| template.clone()).collect();
    (acquired, templates)
}

#[test]
fn tuned_packs_find_the_same_faces_and_make_the_same_templates() {
    let Some(shared) = common::shared("tuned_packs_find_the_same_faces_and_make_the_same_templates") else { return };
    let cache = tempfile::tempdir().expect("a folder");
    let photos = photos(&shared);
    for name in common::PACKS {
        let (plain, expected) = acquire(load(&shared, name, Tuning::Off), &photos);
        // Tuned now; tuned as the cache keeps it; tuned without a cache.
        for tuning in [auto(cache.path()), auto(cache.path()), Tuning::Auto { cache: None }] {
            let pack = load(&shared, name, tuning);
            assert_eq!(pack.id, load(&shared, name, Tuning::Off).id, "templates stay comparable");
            let (tuned, found) = acquire(pack, &photos);
            for (plain, tuned) in plain.iter().zip(&tuned) {
                assert_eq!(plain.detected.faces.len(), tuned.detected.faces.len(), "{name}");
                let pairs = plain.detected.faces.iter().zip(&tuned.detected.faces);
                pairs.for_each(|(a, b)| assert!(a.rectangle.iou(&b.rectangle) > 0.999, "{name}"));
            }
            let cosines = expected.iter().zip(&found).map(|(a, b)| dot(a.values(), b.values()));
            let worst = cosines.fold(1.0, f32::min);
            println!("{name}: {} faces in {} photos, worst cosine {worst:.7}", found.len(), photos.len());
            assert!(found.len() > 50 && worst >= COSINE_MIN, "{name}: {worst}");
        }
    }
}

/// The files of a cache.
fn cached(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn damaged_or_foreign_cache_is_made_anew() {
    let Some(shared) = common::shared("damaged_or_foreign_cache_is_made_anew") else { return };
    let name = "scrfd500-edgeface-xxs";
    let cache = tempfile::tempdir().expect("a folder");
    let photos: Vec<Vec<u8>> = vec![common::lfw_photo(&shared, "Ai_Sugiyama", 1)];
    let (_, expected) = acquire(load(&shared, name, Tuning::Off), &photos);
    load(&shared, name, auto(cache.path()));
    let paths = cached(cache.path());
    let [first, second] = paths.as_slice() else { panic!("two networks, found {paths:?}") };
    let good = [first, second].map(|path| std::fs::read(path).expect("read"));

    let mut rotten = good[0].clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    let cases: [(&str, &[u8], &[u8]); 4] = [
        ("a flipped bit", &rotten, &good[1]),
        ("cut short", &good[0], &good[1][..good[1].len() / 2]),
        ("empty", b"", b""),
        ("exchanged", &good[1], &good[0]),
    ];
    for (what, one, other) in cases {
        std::fs::write(first, one).expect("write");
        std::fs::write(second, other).expect("write");
        let (_, found) = acquire(load(&shared, name, auto(cache.path())), &photos);
        assert!(dot(expected[0].values(), found[0].values()) >= COSINE_MIN, "{what}");
        assert_eq!(cached(cache.path()), paths, "{what}: nothing is left lying about");
        for path in &paths {
            assert!(std::fs::read(path).expect("read").len() > 100_000, "{what}: made anew");
        }
    }
}

#[test]
fn cache_that_cannot_be_written_costs_only_time() {
    let Some(shared) = common::shared("cache_that_cannot_be_written_costs_only_time") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"a file where the folder should be").expect("write");
    let photos: Vec<Vec<u8>> = vec![common::lfw_photo(&shared, "Ai_Sugiyama", 1)];
    let name = "scrfd500-edgeface-xxs";
    let (_, expected) = acquire(load(&shared, name, Tuning::Off), &photos);
    for cache in [&file, &file.join("below")] {
        let (_, found) = acquire(load(&shared, name, auto(cache)), &photos);
        assert!(dot(expected[0].values(), found[0].values()) >= COSINE_MIN);
    }
}
