//! By default a photo is put before the detector without padding; the same faces are found as in the padded square that
//! callers get who state the sides.

mod common;

use std::path::{Path, PathBuf};

use facematch::biometrics::face::Face;
use facematch::detect::scales::Scales;
use facematch::pipeline::{Detected, DetectionSettings};

/// Faces whose score is this close to the limit may be found by one and not by the other.
const SCORE_TOLERANCE: f32 = 0.1;
const SCORE_MIN: f32 = 0.5;

/// Boxes of one face overlap at least so much.
const OVERLAP_MIN: f32 = 0.6;

fn photos(folder: &Path, step: usize) -> Vec<PathBuf> {
    let mut photos = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { photos.push(path) }
        }
    }
    photos.sort();
    photos.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "jpg")).step_by(step).collect()
}

/// What two ways of looking make of the same photos.
#[derive(Default)]
struct Comparison {
    photos: usize,
    pairs: usize,
    /// Found by one alone, with a score that is not close to the limit.
    alone: usize,
    /// Of the pairs: distance of each landmark, in eye distances.
    distances: Vec<f64>,
}

impl Comparison {
    fn note(&mut self, rectangle: &Detected, square: &Detected) {
        self.photos += 1;
        let mut unmatched: Vec<&Face> = rectangle.faces.iter().collect();
        let is_clear = |face: &Face| face.detection_score >= SCORE_MIN + SCORE_TOLERANCE;
        for face in &square.faces {
            let overlap = |index: &usize| unmatched[*index].rectangle.iou(&face.rectangle);
            let best = (0..unmatched.len()).max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
            let Some(index) = best.filter(|index| overlap(index) >= OVERLAP_MIN) else {
                self.alone += usize::from(is_clear(face));
                continue;
            };
            let found = unmatched.swap_remove(index);
            self.pairs += 1;
            let pairs = found.landmarks.iter().zip(&face.landmarks);
            self.distances.extend(pairs.map(|(a, b)| f64::from(a.distance_px(*b) / face.eye_distance_px())));
        }
        self.alone += unmatched.into_iter().filter(|face| is_clear(face)).count();
    }
}

/// Looks at photos by default, and at the sides that this took, stated.
fn compare(shared: &Path, pack: &str, photos: &[PathBuf]) -> Comparison {
    let pack = common::pack(shared, pack);
    assert!(pack.detector.takes_rectangles);
    let found = common::over_all_cores(&pack, photos, |pipeline, photo| {
        let photo = std::fs::read(photo).expect("read a photo");
        let rectangle = pipeline.detect(&photo, &DetectionSettings::default()).expect("detect");
        let scales = Scales::from_sides("sides", &rectangle.sides_px).expect("sides");
        let square = pipeline.detect(&photo, &DetectionSettings { scales, score_min: None }).expect("detect");
        assert_eq!(rectangle.sides_px, square.sides_px);
        (rectangle, square)
    });
    let mut comparison = Comparison::default();
    found.iter().for_each(|(rectangle, square)| comparison.note(rectangle, square));
    let Comparison { photos, pairs, alone, distances } = &mut comparison;
    let [median, high, worst] = [0.5, 0.99, 1.0].map(|share| common::quantile(distances, share));
    println!(
        "{photos} photos, {pairs} faces found by both, {alone} by one alone; landmarks / eye distance: median \
         {median:.4}, 99 % {high:.4}, worst {worst:.4}"
    );
    comparison
}

#[test]
fn portraits_have_the_same_faces_without_padding() {
    let Some(shared) = common::shared("portraits_have_the_same_faces_without_padding") else { return };
    let photos = photos(&shared.join("faces/lfw/photos"), 20);
    for pack in [common::STRONG_PACK, "scrfd500-edgeface-xxs"] {
        let mut found = compare(&shared, pack, &photos);
        assert!(found.photos >= 350 && found.pairs >= found.photos * 97 / 100);
        assert!(found.alone * 200 <= found.pairs, "{} faces found by one alone", found.alone);
        assert!(common::quantile(&mut found.distances, 0.5) <= 0.02);
        assert!(common::quantile(&mut found.distances, 0.99) <= 0.06);
    }
}

#[test]
fn wide_photos_have_the_same_faces_without_padding() {
    let Some(shared) = common::shared("wide_photos_have_the_same_faces_without_padding") else { return };
    let photos = photos(&shared.join("faces/wider/photos"), 5);
    for pack in [common::STRONG_PACK, "scrfd500-edgeface-xxs"] {
        let mut found = compare(&shared, pack, &photos);
        assert!(found.photos >= 100 && found.pairs >= 500);
        assert!(found.alone * 50 <= found.pairs, "{} faces found by one alone", found.alone);
        assert!(common::quantile(&mut found.distances, 0.5) <= 0.02);
        assert!(common::quantile(&mut found.distances, 0.99) <= 0.1);
    }
}

#[test]
fn strips_are_looked_at_without_a_fault() {
    let Some(shared) = common::shared("strips_are_looked_at_without_a_fault") else { return };
    for pack in [common::STRONG_PACK, "scrfd500-edgeface-xxs"] {
        let mut pipeline = common::pipeline(&shared, pack);
        for (width, height) in [(3_000, 1), (1, 3_000), (1, 1), (33, 640), (640, 33), (129, 97)] {
            let mut png = std::io::Cursor::new(Vec::new());
            let picture = image::RgbImage::from_pixel(width, height, image::Rgb([90, 120, 200]));
            picture.write_to(&mut png, image::ImageFormat::Png).expect("encode");
            let found = pipeline.detect(&png.into_inner(), &DetectionSettings::default()).expect("detect");
            assert_eq!((found.width_px, found.height_px, found.faces.len()), (width, height, 0));
        }
    }
}
