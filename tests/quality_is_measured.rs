//! Detect returns what is measured of each face, and the measures follow what is done to a photo.

mod common;

use common::Running;
use facematch::contract::{self as proto};
use image::RgbImage;

/// The largest face of a photo.
async fn face(running: &Running, data: Vec<u8>) -> proto::Face {
    let request = proto::DetectRequest { photo: Some(proto::Photo { data }), ..Default::default() };
    let reply = running.faces().detect(request).await.expect("detect").into_inner();
    let area = |face: &proto::Face| face.quality.expect("measures").face_side_px;
    reply.faces.into_iter().max_by(|a, b| area(a).total_cmp(&area(b))).expect("a face")
}

async fn quality(running: &Running, picture: &RgbImage) -> proto::FaceQuality {
    face(running, common::png(picture)).await.quality.expect("measures")
}

#[tokio::test(flavor = "multi_thread")]
async fn worse_photos_measure_worse() {
    let Some(shared) = common::shared("worse_photos_measure_worse") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    for (person, number) in [("Ai_Sugiyama", 1), ("Abdoulaye_Wade", 1), ("Al_Sharpton", 2)] {
        let photo = image::load_from_memory(&common::lfw_photo(&shared, person, number)).expect("a photo").to_rgb8();
        let (width, height) = photo.dimensions();
        let good = quality(&running, &photo).await;
        assert!((0.15..0.8).contains(&good.sharpness) && (0.2..0.8).contains(&good.brightness));
        assert!(good.yaw_degrees.abs() < 35.0 && good.pitch_degrees.abs() < 35.0 && good.roll_degrees.abs() < 15.0);
        assert!(good.weight > 0.4 && good.weight <= 1.0 && good.face_side_px > 60.0);

        let mut before = good.sharpness;
        for sigma in [1.0, 2.0, 4.0] {
            let blurred = quality(&running, &image::imageops::blur(&photo, sigma)).await;
            assert!(blurred.sharpness < 0.8 * before, "{person} blurred by {sigma}");
            before = blurred.sharpness;
        }
        assert!(before < 0.11);

        let levels = |change: &dyn Fn(f32) -> f32| {
            let mut changed = photo.clone();
            changed.iter_mut().for_each(|level| *level = change(f32::from(*level)).clamp(0.0, 255.0) as u8);
            changed
        };
        let dark = quality(&running, &levels(&|level| level * 0.4)).await;
        assert!((dark.brightness - 0.4 * good.brightness).abs() < 0.02 && dark.contrast < 0.5 * good.contrast);
        // Exposure is not taken for blur.
        assert!((dark.sharpness / good.sharpness - 1.0).abs() < 0.15);
        let burnt = quality(&running, &levels(&|level| level * 2.0 + 40.0)).await;
        assert!(
            burnt.brightness > good.brightness + 0.2
                && burnt.clipped_share > good.clipped_share + 0.05
                && burnt.weight < good.weight
        );

        // Twice as many pixels of the same photo: no sharper, and no darker.
        let cubic = image::imageops::FilterType::CatmullRom;
        let enlarged = quality(&running, &image::imageops::resize(&photo, width * 2, height * 2, cubic)).await;
        assert!((enlarged.sharpness / good.sharpness - 1.0).abs() < 0.25);
        assert!((enlarged.face_side_px / good.face_side_px - 2.0).abs() < 0.2);
        assert!((enlarged.brightness - good.brightness).abs() < 0.02);

        // A mirror turns the head the other way.
        let mirrored = quality(&running, &image::imageops::flip_horizontal(&photo)).await;
        assert!((mirrored.yaw_degrees + good.yaw_degrees).abs() < 6.0);
        assert!((mirrored.roll_degrees + good.roll_degrees).abs() < 4.0);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn turned_heads_measure_turned() {
    let Some(shared) = common::shared("turned_heads_measure_turned") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    // Seen by eye in the photos: to whose side, up or down.
    type IsSo = fn(&proto::FaceQuality) -> bool;
    let cases: [(&str, usize, IsSo); 4] = [
        ("Igor_Ivanov", 7, |quality| quality.yaw_degrees > 25.0 && quality.roll_degrees < -5.0),
        ("Guy_Ritchie", 1, |quality| quality.yaw_degrees > 20.0),
        ("Dino_de_Laurentis", 1, |quality| quality.pitch_degrees < -15.0),
        ("Zumrati_Juma", 1, |quality| quality.pitch_degrees < -15.0),
    ];
    for (person, number, is_so) in cases {
        let quality = face(&running, common::lfw_photo(&shared, person, number)).await.quality.expect("measures");
        let proto::FaceQuality { yaw_degrees, pitch_degrees, roll_degrees, .. } = quality;
        assert!(is_so(&quality), "{person}: yaw {yaw_degrees}, pitch {pitch_degrees}, roll {roll_degrees}");
    }
    let rotated = std::fs::read(shared.join("faces/hard/rot45.jpg")).expect("a photo");
    let rotated = face(&running, rotated).await.quality.expect("measures");
    assert!((rotated.roll_degrees.abs() - 45.0).abs() < 12.0, "roll {}", rotated.roll_degrees);
    running.stop().await;
}

#[test]
fn measures_are_finite_and_within_their_ranges() {
    let Some(shared) = common::shared("measures_are_finite_and_within_their_ranges") else { return };
    let pack = common::pack(&shared, common::STRONG_PACK);
    let mut photos: Vec<_> = std::fs::read_dir(shared.join("faces/wider/photos")).expect("photos").collect();
    photos.truncate(60);
    photos.extend(std::fs::read_dir(shared.join("faces/hard")).expect("photos"));
    let photos: Vec<_> = photos.into_iter().map(|entry| entry.expect("an entry").path()).collect();
    let faces = common::over_all_cores(&pack, &photos, |pipeline, path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        pipeline.detect(&bytes, &Default::default()).map(|detected| detected.faces).unwrap_or_default()
    });
    let faces: Vec<_> = faces.into_iter().flatten().collect();
    assert!(faces.len() > 100, "{} faces", faces.len());
    for face in faces {
        let quality = face.quality.expect("measures");
        let pose = quality.pose;
        assert!((0.0..=1_000.0).contains(&quality.face_side_px));
        for share in [quality.sharpness, quality.brightness, quality.contrast, quality.clipped_share] {
            assert!((0.0..=1.0).contains(&share), "{quality:?}");
        }
        for (angle, most) in [(pose.yaw_degrees, 180.0), (pose.pitch_degrees, 90.0), (pose.roll_degrees, 180.0)] {
            assert!(angle.abs() <= most, "{quality:?}");
        }
        assert!((0.01..=1.0).contains(&quality.weight(&face)));
    }
}
