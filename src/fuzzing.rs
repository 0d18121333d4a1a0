//! What the fuzzers of `fuzz/` throw bytes at. Each target takes any bytes and panics where something is wrong with what came of
//! them; the tests below replay `fuzz/corpus`, without a fuzzer. Not part of the API: there for the feature `fuzzing` alone.
#![allow(missing_docs, reason = "for fuzz/ alone")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is what a fuzzer looks for"
)]

#[cfg(test)]
mod seeds;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::RgbImage;

use crate::biometrics::face::{Face, FaceSelection};
use crate::decode::{PhotoLimits, decode, pixels};
use crate::detect::head::{Geometry, Head, Output};
use crate::detect::suppress::suppress;
use crate::embed::{Chip, measure};
use crate::error::Error;
use crate::gallery::filter::{BYTES_MAX, Filter};

/// Takes bytes and does with them what the engine would.
pub type Run = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Makes a target ready.
pub type Open = fn() -> Run;

/// Each target by its name, which is that of its corpus and of its program in `fuzz/`, and what makes it ready.
pub const TARGETS: [(&str, Open); 14] = [
    ("photo", || Box::new(photo)),
    ("detector", || Box::new(detector)),
    ("manifest", || Box::new(crate::model::fuzzing::manifest)),
    ("catalogue", crate::model::fuzzing::catalogue),
    ("unpack", crate::model::fuzzing::unpack),
    ("record", || Box::new(crate::gallery::fuzzing::record)),
    ("snapshot", crate::gallery::fuzzing::snapshot),
    ("gallery_file", crate::gallery::fuzzing::gallery_file),
    ("filter", || Box::new(filter)),
    ("enroll_csv", crate::cli::fuzzing::csv),
    ("enroll_jsonl", crate::cli::fuzzing::jsonl),
    ("enroll_tar", crate::cli::fuzzing::tar),
    ("message", || Box::new(crate::server::fuzzing::message)),
    ("rpc", crate::server::fuzzing::rpc),
];

/// Makes a target ready.
pub fn open(name: &str) -> Run {
    let (_, open) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target's name");
    open()
}

/// Small ones, so that a fuzzer reaches them, and is not kept busy with pixels.
const PHOTO_LIMITS: PhotoLimits = PhotoLimits { bytes_max: 1 << 20, pixels_max: 1 << 18, side_max_px: 2_048 };

fn photo(bytes: &[u8]) {
    let counted = pixels(bytes, &PHOTO_LIMITS);
    let Ok(picture) = decode(bytes, &PHOTO_LIMITS) else { return };
    let (width, height) = picture.dimensions();
    let decoded = u64::from(width) * u64::from(height);
    assert!(decoded > 0 && decoded <= PHOTO_LIMITS.pixels_max && width.max(height) <= PHOTO_LIMITS.side_max_px);
    // What was admitted is what it takes.
    assert_eq!(counted, decoded, "{width} x {height}");
    assert_eq!(picture.as_raw().len() as u64, decoded * 3);
}

/// Sides of the input, in pixels: the least that a detector of three strides takes, as SCRFD and YuNet.
const INPUT_PX: (usize, usize) = (64, 32);

/// A kind of head, a scale and a limit, and then the values of its outputs, over and over.
fn detector(bytes: &[u8]) {
    let Some((&[kind, scale, limit], bytes)) = bytes.split_first_chunk::<3>() else { return };
    let yunet: &[(&str, usize)] = &[("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)];
    let scrfd: &[(&str, usize)] = &[("score", 1), ("bbox", 4), ("kps", 10)];
    let (maps, anchors) = if kind & 1 == 0 { (scrfd, 2) } else { (yunet, 1) };
    // Some runs with an output that is too short.
    let short = usize::from(kind >> 1);
    let mut words = bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).cycle();
    let (mut outputs, mut values) = (Vec::new(), Vec::new());
    for (name, axis) in maps {
        for stride in [8, 16, 32] {
            let rows = (INPUT_PX.0 / stride) * (INPUT_PX.1 / stride) * anchors;
            let length = (rows * axis).saturating_sub(usize::from(short == outputs.len() + 1));
            outputs.push(Output { name: format!("{name}_{stride}"), last_axis: Some(*axis) });
            values.push(words.by_ref().take(length).collect::<Vec<f32>>());
        }
    }
    let head = Head::from_outputs(&outputs).expect("a head");
    let slices: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    let scale = (f32::from(scale) + 1.0) / 64.0;
    let geometry = Geometry { width_px: INPUT_PX.0, height_px: INPUT_PX.1, x_scale: scale, y_scale: scale / 2.0 };
    let Ok(candidates) = head.decode(&slices, geometry, f32::from(limit) / 255.0) else { return };
    let faces = suppress(candidates, 0.4);
    let picture = RgbImage::from_pixel(40, 30, image::Rgb([90, 60, 30]));
    for selection in [FaceSelection::Largest, FaceSelection::Center, FaceSelection::All] {
        drop(selection.choose(&faces, picture.width(), picture.height()));
    }
    faces.iter().for_each(face_is_somewhere);
    // Of one: cutting it out takes longer than all the rest.
    let Some(face) = faces.first() else { return };
    let chip = Chip::cut(&picture, &face.landmarks);
    if let Some(quality) = measure(&picture, face, chip.as_ref()) {
        let measured = [quality.face_side_px, quality.sharpness, quality.brightness, quality.contrast];
        assert!(measured.iter().all(|value| value.is_finite()), "{measured:?}");
    }
}

fn face_is_somewhere(face: &Face) {
    let rectangle = face.rectangle;
    let sides = [rectangle.x_min_px, rectangle.y_min_px, rectangle.x_max_px, rectangle.y_max_px];
    assert!(sides.iter().all(|side| side.is_finite()), "a box without an end");
    assert!(face.landmarks.iter().all(|point| point.x_px.is_finite() && point.y_px.is_finite()), "a point nowhere");
    assert!((0.0..=1.0).contains(&face.detection_score), "a score of {}", face.detection_score);
}

fn filter(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Filter::parse("filter", text) {
        Ok(filter) => {
            assert!(text.len() <= BYTES_MAX);
            // As deep as it was let in, it is walked and dropped.
            assert!(filter.clone() == filter || format!("{filter:?}").contains("NaN"));
        }
        Err(Error::BadField { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// A folder of a target's own, gone with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("facematch-fuzzing-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("make a folder");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn corpus() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    }

    /// Replays a corpus: seeds, and what fuzzers have found.
    fn replay(name: &str) {
        let folder = corpus().join(name);
        let run = open(name);
        for input in names(&folder) {
            // The last line that is shown where it fails.
            eprintln!("{name}/{input}");
            run(&std::fs::read(folder.join(&input)).expect("read an input"));
        }
    }

    #[test]
    fn every_target_has_a_corpus_and_a_program() {
        let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(&corpus()), known, "fuzz/corpus");
        let programs = names(&corpus().with_file_name("fuzz_targets"));
        let programs: BTreeSet<String> = programs.iter().map(|name| name.trim_end_matches(".rs").to_owned()).collect();
        assert_eq!(programs, known, "fuzz/fuzz_targets");
        for name in &known {
            assert!(!names(&corpus().join(name)).is_empty(), "{name} has no inputs");
        }
    }

    macro_rules! corpora {
        ($($test:ident: $name:literal,)*) => {
            $(#[test]
            fn $test() {
                replay($name);
            })*
        };
    }

    corpora! {
        corpus_of_photo_does_no_harm: "photo",
        corpus_of_detector_does_no_harm: "detector",
        corpus_of_manifest_does_no_harm: "manifest",
        corpus_of_catalogue_does_no_harm: "catalogue",
        corpus_of_unpack_does_no_harm: "unpack",
        corpus_of_record_does_no_harm: "record",
        corpus_of_snapshot_does_no_harm: "snapshot",
        corpus_of_gallery_file_does_no_harm: "gallery_file",
        corpus_of_filter_does_no_harm: "filter",
        corpus_of_enroll_csv_does_no_harm: "enroll_csv",
        corpus_of_enroll_jsonl_does_no_harm: "enroll_jsonl",
        corpus_of_enroll_tar_does_no_harm: "enroll_tar",
        corpus_of_message_does_no_harm: "message",
        corpus_of_rpc_does_no_harm: "rpc",
    }
}
