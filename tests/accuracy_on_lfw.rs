//! Accuracy is whole: no photo of LFW is lost, and the error rates are what the models are capable of.
//!
//! The pack is SCRFD-2.5g + EdgeFace-XS. Every rate is printed with the comparisons it rests on and its 95 % interval.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use facematch::biometrics::face::FaceSelection;
use facematch::biometrics::interval::wilson;
use facematch::biometrics::template::{Template, dot};
use facematch::pipeline::DetectionSettings;

struct Pair {
    images: [String; 2],
    mated: bool,
}

/// Reads `image1,image2,label`.
fn pairs(path: &Path) -> Vec<Pair> {
    let mut reader = csv::Reader::from_path(path).expect("open the pairs");
    let rows = reader.deserialize::<(String, String, u8)>().map(|row| row.expect("a pair"));
    rows.map(|(a, b, label)| Pair { images: [a, b], mated: label == 1 }).collect()
}

/// The template of each photo of some pairs, or the reason that there is none.
fn templates(shared: &Path, pairs: &[Pair]) -> HashMap<String, Result<Template, String>> {
    let names: BTreeSet<&String> = pairs.iter().flat_map(|pair| &pair.images).collect();
    let names: Vec<&String> = names.into_iter().collect();
    let photos = shared.join("faces/lfw/photos");
    let pack = common::pack(shared, common::STRONG_PACK);
    let acquired = common::over_all_cores(&pack, &names, |pipeline, name| {
        let photo = std::fs::read(photos.join(name)).expect("read a photo");
        // As Verify does by default: two scales, the largest face.
        let acquired = pipeline.acquire(&photo, &DetectionSettings::default(), FaceSelection::Largest);
        let chosen = acquired.map_err(|error| error.reason().to_owned())?.chosen;
        let (_, template) = chosen.map_err(|reason| reason.to_string())?.swap_remove(0);
        Ok(template)
    });
    names.into_iter().cloned().zip(acquired).collect()
}

#[test]
fn no_training_photo_is_without_a_face() {
    let Some(shared) = common::shared("no_training_photo_is_without_a_face") else { return };
    let pairs = pairs(&shared.join("faces/lfw/train.csv"));
    assert_eq!(pairs.len(), 5_000);
    let templates = templates(&shared, &pairs);
    let lost: Vec<_> = templates.iter().filter_map(|(name, result)| Some((name, result.as_ref().err()?))).collect();
    println!("{} photos of {} pairs; failures to acquire: {}", templates.len(), pairs.len(), lost.len());
    assert!(lost.is_empty(), "no template from {lost:?}");
}

#[test]
fn test_pairs_are_told_apart_at_fmr_one_in_a_thousand() {
    let Some(shared) = common::shared("test_pairs_are_told_apart_at_fmr_one_in_a_thousand") else { return };
    let pairs = pairs(&shared.join("faces/lfw/test_labels.csv"));
    let templates = templates(&shared, &pairs);
    let score = |pair: &Pair| {
        let [a, b] = pair.images.each_ref().map(|name| templates[name].as_ref().expect("a template"));
        a.score(b).expect("one pack").cosine()
    };
    let (mated, non_mated): (Vec<&Pair>, Vec<&Pair>) = pairs.iter().partition(|pair| pair.mated);
    let mated: Vec<f32> = mated.into_iter().map(score).collect();
    let mut non_mated: Vec<f32> = non_mated.into_iter().map(score).collect();
    non_mated.sort_by(f32::total_cmp);

    // The lowest threshold that at most one in a thousand non-mated scores reaches.
    let allowed = non_mated.len() / 1_000;
    let threshold = non_mated[non_mated.len() - 1 - allowed].next_up();
    let rejected = mated.iter().filter(|score| **score < threshold).count();
    let fnmr = rejected as f64 / mated.len() as f64;
    let (low, high) = wilson(rejected as u64, mated.len() as u64);
    println!(
        "FNMR {fnmr:.4} [{low:.4}, {high:.4}] at FMR 1e-3, cosine {threshold:.4}; {} mated, {} non-mated pairs",
        mated.len(),
        non_mated.len()
    );
    report_all_cross_pairs(&templates);
    assert!(fnmr <= 0.015);
}

/// Prints the thresholds that all pairs of photos of different people support: what a pack's manifest states.
fn report_all_cross_pairs(templates: &HashMap<String, Result<Template, String>>) {
    let person = |name: &str| PathBuf::from(name).parent().map(Path::to_path_buf);
    let templates: Vec<_> =
        templates.iter().filter_map(|(name, template)| Some((person(name), template.as_ref().ok()?))).collect();
    let mut scores = Vec::new();
    for (index, (person, template)) in templates.iter().enumerate() {
        let others = templates[index + 1..].iter().filter(|(other, _)| other != person);
        scores.extend(others.map(|(_, other)| dot(template.values(), other.values())));
    }
    scores.sort_by(f32::total_cmp);
    for fmr in [1e-2, 1e-3, 1e-4, 1e-5, 1e-6] {
        let allowed = (scores.len() as f64 * fmr) as usize;
        println!(
            "FMR {fmr:e}: cosine {:.4} ({allowed} of {} cross pairs)",
            scores[scores.len() - 1 - allowed].next_up(),
            scores.len()
        );
    }
}
