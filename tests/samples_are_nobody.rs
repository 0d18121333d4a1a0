//! The people of `models/samples` do not exist: the strong pack takes them for nobody whose photos they were made from, nor
//! for each other, and finds every one.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::samples;
use facematch::biometrics::face::FaceSelection;
use facematch::biometrics::template::{Template, dot};
use facematch::pipeline::DetectionSettings;
use sha2::{Digest, Sha256};

/// The identification threshold of the pack that looks at them.
const TOLD_APART_COSINE: f32 = 0.4;

/// The strong pack's cosine at FMR 1e-4, one to one: `facematch calibrate --all-pairs` over the 7,057 photos of LFW at hand,
/// 24,710,210 non-mated pairs of which 2,468 reach it (FNMR .0020 of 186,886 mated pairs).
const FMR_1E4_COSINE: f32 = 0.3386;

/// Of each source person so many photos are compared; with `FACEMATCH_EVERY_PHOTO` set all photos of all people are.
const PHOTOS_OF_A_PERSON: usize = 12;

/// Which photos of LFW, `PERSON/PHOTO`, each sample person was blended from: a list a source person.
fn sources() -> BTreeMap<String, Vec<Vec<String>>> {
    let text = std::fs::read(samples::folder().join("sources.json")).expect("read sources.json");
    serde_json::from_slice(&text).expect("lists by name")
}

fn person(photo: &str) -> &str {
    photo.split('/').next().expect("a first part")
}

#[test]
fn sample_person_is_of_six_people_or_more_whom_training_may_see() {
    let sources = sources();
    let names: Vec<String> = sources.keys().cloned().collect();
    let mut sampled = [samples::people(), samples::strangers()].concat();
    sampled.sort();
    assert_eq!(names, sampled);
    assert!(samples::people().len() >= 12 && !samples::strangers().is_empty());
    let mut seen = BTreeSet::new();
    for (name, people) in &sources {
        assert!(people.len() >= 6, "{name} is of {}", people.len());
        for photos in people {
            let of_person = person(&photos[0]);
            assert!(photos.iter().all(|photo| person(photo) == of_person), "{name}: {photos:?}");
            assert!(photos.iter().collect::<BTreeSet<_>>().len() > samples::PHOTOS, "{name}: {photos:?}");
            assert!(seen.insert(of_person), "{of_person} is in two samples");
            // The rule of models/training/heldout.py.
            let digest = Sha256::digest(of_person.as_bytes());
            let remainder = digest.iter().fold(0, |remainder, byte| (remainder * 256 + u32::from(*byte)) % 100);
            assert!(remainder >= 20, "{of_person} is held out");
        }
    }
}

/// The photos to be compared with the samples, below LFW's folder.
fn photos_to_compare(lfw: &Path) -> Vec<String> {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("a folder of LFW");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect::<BTreeSet<_>>()
    };
    let sources = sources();
    let used: BTreeSet<&String> = sources.values().flatten().flatten().collect();
    let source_people: BTreeSet<&str> = used.iter().map(|photo| person(photo)).collect();
    let every = std::env::var_os("FACEMATCH_EVERY_PHOTO").is_some();
    let mut chosen: BTreeSet<String> = used.iter().map(|photo| (*photo).clone()).collect();
    for of_person in names(lfw).iter().filter(|name| every || source_people.contains(name.as_str())) {
        let photos = names(&lfw.join(of_person)).into_iter().map(|photo| format!("{of_person}/{photo}"));
        chosen.extend(photos.take(if every { usize::MAX } else { PHOTOS_OF_A_PERSON }));
    }
    chosen.into_iter().collect()
}

/// Templates of all sample faces with their names, those of group pictures too.
fn sample_templates(shared: &Path) -> Vec<(String, Template)> {
    let numbered = |name: String| (1..=samples::PHOTOS).map(move |number| (name.clone(), number));
    let portraits: Vec<_> = [samples::people(), samples::strangers()].concat().into_iter().flat_map(numbered).collect();
    let pack = common::pack(shared, common::STRONG_PACK);
    let found = common::over_all_cores(&pack, &portraits, |pipeline, (name, number)| {
        let found = samples::templates(pipeline, &samples::photo(name, *number));
        assert_eq!(found.len(), 1, "faces in photo {number} of {name}");
        (name.clone(), found.into_iter().next().expect("one"))
    });
    let groups: Vec<_> = samples::groups().into_iter().collect();
    let in_groups = common::over_all_cores(&pack, &groups, |pipeline, (picture, names)| {
        let found = samples::templates(pipeline, &samples::group(picture));
        assert_eq!(found.len(), names.len(), "faces in group picture {picture}");
        names.iter().cloned().zip(found).collect::<Vec<_>>()
    });
    found.into_iter().chain(in_groups.into_iter().flatten()).collect()
}

#[test]
fn sample_is_found_is_itself_and_is_nobody_else() {
    let Some(shared) = common::shared("sample_is_found_is_itself_and_is_nobody_else") else { return };
    let sampled = sample_templates(&shared);
    let (mut mated, mut non_mated) = (Vec::new(), Vec::new());
    for (at, (name, template)) in sampled.iter().enumerate() {
        for (other, others) in &sampled[at + 1..] {
            let score = dot(template.values(), others.values());
            if name == other { &mut mated } else { &mut non_mated }.push((score, format!("{name}, {other}")));
        }
    }
    mated.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    non_mated.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    println!("{} faces; {} mated pairs, the worst {:?}", sampled.len(), mated.len(), mated[0]);
    println!("{} non-mated pairs, the worst {:?}", non_mated.len(), non_mated[0]);
    assert!(mated[0].0 >= FMR_1E4_COSINE, "{:?}", mated[0]);
    // They are told apart at the pack's threshold for searches; blends look more alike than people do.
    assert!(non_mated[0].0 < TOLD_APART_COSINE, "{:?}", non_mated[0]);

    let lfw = shared.join("faces/lfw/photos");
    let photos = photos_to_compare(&lfw);
    let pack = common::pack(&shared, common::STRONG_PACK);
    let nearest = common::over_all_cores(&pack, &photos, |pipeline, photo| {
        let data = std::fs::read(lfw.join(photo)).expect("read a photo");
        let acquired = pipeline.acquire(&data, &DetectionSettings::default(), FaceSelection::Largest);
        let template = acquired.expect("a photo").chosen.expect("a face").swap_remove(0).1;
        let score = |(name, sample): &(String, Template)| (dot(template.values(), sample.values()), name.clone());
        let nearest = sampled.iter().map(score).max_by(|(a, _), (b, _)| a.total_cmp(b)).expect("samples");
        (nearest.0, photo.clone(), nearest.1)
    });
    let nearest = nearest.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("photos");
    println!("{} photos of LFW, the nearest to a sample {nearest:?}", photos.len());
    assert!(nearest.0 < FMR_1E4_COSINE, "{nearest:?}");
}
