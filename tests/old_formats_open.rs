//! Stores and gallery files of every format that there was: they open, hold who was in them, and take writes.
//!
//! `tests/fixtures/` has them as they were written in their time. Those of today's format are written by
//! `FACEMATCH_FIXTURES=FOLDER cargo test --test old_formats_open`, before a change of the format.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::people::{DIMENSION, assert_index_agrees, best, enrollment, gallery, identity, pack, template};
use facematch::biometrics::calibration::{Curve, ScoreCounts};
use facematch::biometrics::face::{Face, Landmarks, Point, Rectangle};
use facematch::biometrics::fusion::Fusion;
use facematch::biometrics::ids::TemplateId;
use facematch::biometrics::pose::Pose;
use facematch::biometrics::quality::FaceQuality;
use facematch::gallery::{
    CurveOwner, EmbeddedGalleries, EnrolledTemplate, Enrollment, GallerySettings, IdentityChange, IfExists, MasterKey,
    MetadataValue, NewCurve, PersonDetails,
};

/// Stores by the format that they have, and whether they are encrypted.
const STORES: [(&str, bool); 3] =
    [("store-format-1", false), ("store-format-2", false), ("store-format-2-encrypted", true)];
const GALLERY_FILES: [&str; 1] = ["gallery-file-1"];

/// Who is in the gallery `people` of each: of those who were enrolled, one was deleted.
const ENROLLED: std::ops::Range<u64> = 0..5;
const DELETED: u64 = 3;

/// The key of all encrypted fixtures.
fn key() -> MasterKey {
    MasterKey::parse(&"5e".repeat(32), "the fixtures").expect("a key")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn time(number: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number)
}

fn details(number: u64) -> PersonDetails {
    let metadata = [
        ("site", MetadataValue::Text(format!("site of {number}"))),
        ("age", MetadataValue::Number(number as f64 + 0.5)),
        ("staff", MetadataValue::Flag(number.is_multiple_of(2))),
        ("since", MetadataValue::Time { seconds: -5 - number as i64, nanos: 7 }),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    PersonDetails { display_name: format!("Person {number}"), metadata }
}

/// The first template with everything that is known of a photo, the second as an embedding.
fn templates(number: u64) -> Vec<EnrolledTemplate> {
    let quality = FaceQuality {
        face_side_px: 100.0 + number as f32,
        sharpness: 0.25,
        brightness: 0.5,
        contrast: 0.75,
        clipped_share: 0.125,
        pose: Pose { yaw_degrees: 6.0, pitch_degrees: -7.0, roll_degrees: 8.0 },
    };
    let face = Face {
        rectangle: Rectangle { x_min_px: 1.0, y_min_px: 2.0, x_max_px: 101.0, y_max_px: 102.0 },
        detection_score: 0.875,
        landmarks: Landmarks::from([Point { x_px: 50.0, y_px: 60.0 }; 5]),
        quality: Some(quality),
    };
    let chip = image::RgbImage::from_fn(112, 112, |x, y| image::Rgb([x as u8, y as u8, number as u8]));
    let of = |which: u64, face, chip: Option<Vec<u8>>| EnrolledTemplate {
        id: TemplateId::parse(&which.to_string()).expect("an id"),
        template: template(number, which),
        face,
        chip: chip.map(Into::into),
        created: time(which),
    };
    vec![of(0, Some(face), Some(common::png(&chip))), of(1, None, None)]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("tokio")
}

/// Fills a store; what it must hold later is in [`assert_holds_people`] and [`assert_holds_the_rest`].
async fn fill(galleries: &EmbeddedGalleries) {
    let settings = GallerySettings { display_name: "People".to_owned(), keep_chips: true, ..Default::default() };
    galleries.create_gallery(gallery("people"), settings.clone(), pack(), DIMENSION).await.expect("create");
    for number in ENROLLED {
        let PersonDetails { display_name, metadata } = details(number);
        let enrollment = Enrollment {
            identity: identity(number),
            change: IdentityChange { display_name: Some(display_name), metadata: Some(metadata) },
            templates: templates(number),
            if_exists: IfExists::Refuse,
            check_defaults: Default::default(),
            may_refuse_all: false,
            identities_max: None,
        };
        galleries.enroll(gallery("people"), enrollment).await.expect("enrol");
    }
    galleries.delete_identity(gallery("people"), identity(DELETED)).await.expect("delete");
    let fused = GallerySettings { fusion: Fusion::Mean, ..settings };
    galleries.create_gallery(gallery("fused"), fused.clone(), pack(), DIMENSION).await.expect("create");
    galleries.enroll(gallery("fused"), enrollment(1, &[0, 1, 2])).await.expect("enrol");
    galleries.create_gallery(gallery("gone"), fused, pack(), DIMENSION).await.expect("create");
    galleries.enroll(gallery("gone"), enrollment(2, &[0])).await.expect("enrol");
    galleries.delete_gallery(gallery("gone"), true).await.expect("delete");
    galleries.set_curve(CurveOwner::Gallery(gallery("people")), curve()).await.expect("set a curve");
}

fn curve() -> NewCurve {
    let (mut mated, mut non_mated) = (ScoreCounts::default(), ScoreCounts::default());
    (0..100).for_each(|at| mated.add(0.3 + at as f32 / 200.0).expect("a score"));
    (0..3_000).for_each(|at| non_mated.add(at as f32 / 8_000.0).expect("a score"));
    NewCurve { pack_id: pack(), curve: Curve::of(&mated, &non_mated), source: "a test".to_owned() }
}

fn assert_holds_people(galleries: &EmbeddedGalleries, name: &str) {
    let (found, status) = galleries.gallery(&gallery("people")).expect("the gallery");
    assert!(found.settings.keep_chips && found.settings.display_name == "People", "{name}");
    let expected: Vec<u64> = ENROLLED.filter(|number| *number != DELETED).collect();
    let counts = status.counts;
    let there = (counts.identities, counts.templates, counts.damaged_identities);
    assert_eq!(there, (expected.len() as u64, 2 * expected.len() as u64, 0), "{name}");
    for number in expected {
        let found = galleries.identity(&gallery("people"), &identity(number)).expect("the identity");
        assert!(found.details == details(number) && found.templates == templates(number), "{name}: {number}");
        for which in [0, 1] {
            let (found, score) = best(galleries, "people", template(number, which)).expect("somebody");
            assert!(found == identity(number) && score > 0.999, "{name}: {number} by {which}: {score}");
        }
    }
}

fn assert_holds_the_rest(galleries: &EmbeddedGalleries, name: &str) {
    let (fused, status) = galleries.gallery(&gallery("fused")).expect("the gallery");
    assert_eq!((fused.settings.fusion, status.counts.templates), (Fusion::Mean, 3), "{name}");
    assert!(galleries.gallery(&gallery("gone")).is_err(), "{name}");
    let curve = galleries.curve(&CurveOwner::Gallery(gallery("people"))).expect("the curve");
    assert_eq!((curve.curve.mated.total(), curve.curve.non_mated.total()), (100, 3_000), "{name}");
}

/// Enrols, adds, and deletes.
async fn assert_takes_writes(galleries: &EmbeddedGalleries, name: &str) {
    galleries.enroll(gallery("people"), enrollment(10, &[0])).await.expect("enrol");
    galleries.enroll(gallery("people"), enrollment(1, &[7])).await.expect("add");
    galleries.delete_identity(gallery("people"), identity(2)).await.expect("delete");
    assert_index_agrees(galleries, "people", name);
    assert_eq!(best(galleries, "people", template(10, 0)).expect("somebody").0, identity(10), "{name}");
    assert_ne!(best(galleries, "people", template(2, 0)).expect("somebody").0, identity(2), "{name}");
}

#[test]
fn store_of_every_format_opens_with_who_was_in_it_and_takes_writes() {
    for (name, is_encrypted) in STORES {
        let key = is_encrypted.then(key);
        let folder = tempfile::tempdir().expect("a folder");
        let packed = std::fs::File::open(fixture(&format!("{name}.tar.gz"))).expect("the fixture");
        tar::Archive::new(flate2::read::GzDecoder::new(packed)).unpack(folder.path()).expect("unpack");
        let open = || EmbeddedGalleries::open_with_key(folder.path(), key.as_ref());
        let galleries = open().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_holds_people(&galleries, name);
        assert_holds_the_rest(&galleries, name);
        runtime().block_on(assert_takes_writes(&galleries, name));
        galleries.close();
        drop(galleries);
        let galleries = open().unwrap_or_else(|error| panic!("{name}, again: {error}"));
        assert_index_agrees(&galleries, "people", name);
        assert_holds_the_rest(&galleries, name);
        galleries.close();
    }
}

#[test]
fn gallery_file_of_every_format_is_imported_and_takes_writes() {
    for name in GALLERY_FILES {
        let folder = tempfile::tempdir().expect("a folder");
        let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
        let file = std::fs::read(fixture(&format!("{name}.gallery"))).expect("the fixture");
        let mut import = galleries.begin_import(gallery("people"), 0).expect("begin");
        import.feed(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        import.finish().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_holds_people(&galleries, name);
        runtime().block_on(assert_takes_writes(&galleries, name));
        galleries.close();
    }
}

/// Writes the fixtures of today's format into a folder, where one is named; their names are to be added above.
#[test]
fn fixtures_are_written_where_asked() {
    let Ok(folder) = std::env::var("FACEMATCH_FIXTURES").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, key) in [("store-format", None), ("store-format-encrypted", Some(key()))] {
        let data = tempfile::tempdir().expect("a folder");
        let galleries = EmbeddedGalleries::open_with_key(data.path(), key.as_ref()).expect("open");
        runtime().block_on(fill(&galleries));
        let mut file = Vec::new();
        let take = |part: facematch::gallery::ExportPart| {
            file.extend_from_slice(&part.bytes);
            Ok(())
        };
        galleries.export(&gallery("people"), take).expect("export");
        std::fs::write(folder.join("gallery-file.gallery"), file).expect("write");
        galleries.close();
        drop(galleries);
        pack_folder(data.path(), &folder.join(format!("{name}.tar.gz")));
    }
}

fn pack_folder(folder: &Path, file: &Path) {
    let file = std::fs::File::create(file).expect("a file");
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::best()));
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all(".", folder).expect("pack");
    archive.into_inner().and_then(|packed| packed.finish()).expect("pack");
}
