//! The photos of `models/samples`: people who do not exist.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use facematch::biometrics::face::FaceSelection;
use facematch::biometrics::template::Template;
use facematch::pipeline::{DetectionSettings, Pipeline};

/// How many photos there are of each person, besides those in group pictures.
pub const PHOTOS: usize = 4;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/samples")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Those to be enrolled.
pub fn people() -> Vec<String> {
    names(&folder().join("people"))
}

/// Those not to be enrolled.
pub fn strangers() -> Vec<String> {
    names(&folder().join("strangers"))
}

/// A photo of somebody, from 1.
pub fn photo(name: &str, number: usize) -> Vec<u8> {
    let of = |kind: &str| folder().join(kind).join(name).join(format!("{number}.jpg"));
    let path = Some(of("people")).filter(|path| path.is_file()).unwrap_or_else(|| of("strangers"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// The group pictures by file name: who stands in them, from left to right.
pub fn groups() -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut reader = csv::Reader::from_path(folder().join("groups.csv")).expect("open groups.csv");
    for row in reader.deserialize::<(String, usize, String)>() {
        let (picture, place, name) = row.expect("a row");
        let of_picture = groups.entry(picture).or_default();
        assert_eq!(place, of_picture.len(), "from left to right");
        of_picture.push(name);
    }
    groups
}

pub fn group(picture: &str) -> Vec<u8> {
    std::fs::read(folder().join("groups").join(picture)).expect("a group picture")
}

/// The templates of all faces of a photo, from left to right. Every face that is found has one.
pub fn templates(pipeline: &mut Pipeline, photo: &[u8]) -> Vec<Template> {
    let acquired = pipeline.acquire(photo, &DetectionSettings::default(), FaceSelection::All).expect("a photo");
    let faces = acquired.detected.faces;
    let mut chosen = acquired.chosen.unwrap_or_default();
    assert_eq!(chosen.len(), faces.len(), "each face has a template");
    chosen.sort_by(|(a, _), (b, _)| faces[*a].rectangle.x_min_px.total_cmp(&faces[*b].rectangle.x_min_px));
    chosen.into_iter().map(|(_, template)| template).collect()
}
