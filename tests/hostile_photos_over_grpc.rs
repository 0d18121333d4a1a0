//! Every hard photo has its outcome, none of them a panic, a hang or a growing process.

mod common;

use facematch::contract as proto;

/// What Detect answers: so many faces, or a reason with INVALID_ARGUMENT.
#[derive(Debug, PartialEq)]
enum Outcome {
    Faces(usize),
    Refused(&'static str),
}
use Outcome::{Faces, Refused};

const HARD: [(&str, Outcome); 47] = [
    ("alpha_gradient.png", Faces(1)),
    ("alpha_zero.png", Faces(1)),
    ("animated.webp", Faces(1)),
    ("base.jpg", Faces(1)),
    ("bitrot.jpg", Faces(1)),
    ("black.jpg", Faces(0)),
    ("bomb_30000x30000_1bit.png", Refused("PHOTO_TOO_LARGE")),
    ("bw1bit.png", Faces(0)),
    ("cmyk.jpg", Faces(1)),
    ("cropped_top45pct.jpg", Faces(1)),
    ("empty.jpg", Refused("PHOTO_EMPTY")),
    ("exif_orient_1.jpg", Faces(1)),
    ("exif_orient_2.jpg", Faces(1)),
    ("exif_orient_3.jpg", Faces(1)),
    ("exif_orient_4.jpg", Faces(1)),
    ("exif_orient_5.jpg", Faces(1)),
    ("exif_orient_6.jpg", Faces(1)),
    ("exif_orient_7.jpg", Faces(1)),
    ("exif_orient_8.jpg", Faces(1)),
    // Landscapes without a person.
    ("exif_real/Landscape_1.jpg", Faces(0)),
    ("exif_real/Landscape_3.jpg", Faces(0)),
    ("exif_real/Landscape_5.jpg", Faces(0)),
    ("exif_real/Landscape_7.jpg", Faces(0)),
    ("exif_real/Portrait_0.jpg", Faces(0)),
    ("exif_real/Portrait_2.jpg", Faces(0)),
    ("exif_real/Portrait_4.jpg", Faces(0)),
    ("exif_real/Portrait_6.jpg", Faces(0)),
    ("exif_real/Portrait_8.jpg", Faces(0)),
    ("gray.jpg", Faces(1)),
    ("gray16.png", Faces(1)),
    ("gray_alpha.png", Faces(1)),
    // 86 megapixels; the default limit is 64.
    ("huge_8000.jpg", Refused("PHOTO_TOO_LARGE")),
    ("just_soi.jpg", Refused("PHOTO_TRUNCATED")),
    ("lying_header_65500.jpg", Refused("PHOTO_TOO_LARGE")),
    ("one_px.png", Faces(0)),
    ("palette.gif", Faces(1)),
    ("photo.avif", Refused("PHOTO_UNSUPPORTED_FORMAT")),
    ("photo.webp", Faces(1)),
    ("photo_lossless.webp", Faces(1)),
    ("png_named.jpg", Faces(1)),
    ("progressive.jpg", Faces(1)),
    ("q5.jpg", Faces(1)),
    ("rot45.jpg", Faces(1)),
    ("tiny_40.jpg", Faces(1)),
    ("trunc_50pct.jpg", Refused("PHOTO_TRUNCATED")),
    ("trunc_95pct.jpg", Refused("PHOTO_TRUNCATED")),
    ("trunc_header_only.jpg", Refused("PHOTO_TRUNCATED")),
];

const TRUNCATIONS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn every_hard_photo_has_its_outcome() {
    let Some(shared) = common::shared("every_hard_photo_has_its_outcome") else { return };
    let folder = shared.join("faces/hard");
    let listed: Vec<&str> = HARD.iter().map(|(name, _)| *name).collect();
    for name in names(&folder) {
        assert!(listed.contains(&name.as_str()), "{name} has no outcome in this test");
    }
    // Decoded here, and in processes of their own.
    for apart in ["no", "yes"] {
        let data = tempfile::tempdir().expect("a folder");
        let running = common::serve(&shared, data.path(), &[("isolate_decoding", apart)]).await;
        every_outcome(&running, &folder).await;
        running.stop().await;
    }
}

async fn every_outcome(running: &common::Running, folder: &std::path::Path) {
    for (name, expected) in &HARD {
        let photo = std::fs::read(folder.join(name)).expect(name);
        let reply = detect(running, photo).await;
        let found = match &reply {
            Ok(reply) => Outcome::Faces(reply.faces.len()),
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::InvalidArgument, "{name}: {status}");
                let reason = common::reason(status);
                let known = HARD.iter().find_map(|(_, outcome)| match outcome {
                    Refused(known) if *known == reason => Some(*known),
                    _ => None,
                });
                Refused(known.unwrap_or("unlisted"))
            }
        };
        assert_eq!(found, *expected, "{name}");
    }
}

/// Upright: however the file is turned, the face is where it is in the photo as a person sees it.
#[tokio::test(flavor = "multi_thread")]
async fn every_orientation_is_turned_upright() {
    let Some(shared) = common::shared("every_orientation_is_turned_upright") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let corners = async |name: &str| {
        let photo = std::fs::read(shared.join("faces/hard").join(name)).expect(name);
        let reply = detect(&running, photo).await.expect(name);
        assert_eq!((reply.width_px, reply.height_px), (888, 1_200), "{name}");
        let corners = reply.faces[0].r#box.expect("a box");
        [corners.x_min_px, corners.y_min_px, corners.x_max_px, corners.y_max_px]
    };
    let upright = corners("base.jpg").await;
    for orientation in 1..=8 {
        let turned = corners(&format!("exif_orient_{orientation}.jpg")).await;
        for (a, b) in upright.iter().zip(turned) {
            // Each file was encoded anew: a few pixels of 1,200.
            assert!((a - b).abs() < 6.0, "orientation {orientation}: {upright:?} {turned:?}");
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_photo_is_refused_at_every_length() {
    let Some(shared) = common::shared("truncated_photo_is_refused_at_every_length") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let whole = std::fs::read(shared.join("faces/hard/base.jpg")).expect("a photo");
    assert_eq!(detect(&running, whole.clone()).await.expect("the whole photo").faces.len(), 1);
    for step in 0..TRUNCATIONS {
        // From nothing to all but the last byte.
        let length = (whole.len() - 1) * step / (TRUNCATIONS - 1);
        let status = detect(&running, whole[..length].to_vec()).await.expect_err("refused");
        let expected = match length {
            0 => "PHOTO_EMPTY",
            1..=2 => "PHOTO_UNSUPPORTED_FORMAT",
            _ => "PHOTO_TRUNCATED",
        };
        assert_eq!(
            (status.code(), common::reason(&status).as_str()),
            (tonic::Code::InvalidArgument, expected),
            "{length}"
        );
    }
    running.stop().await;
}

async fn detect(running: &common::Running, data: Vec<u8>) -> Result<proto::DetectResponse, tonic::Status> {
    let request = proto::DetectRequest { photo: Some(proto::Photo { data }), ..Default::default() };
    running.faces().detect(request).await.map(tonic::Response::into_inner)
}

/// The files of the folder and of the folders in it.
fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().expect("a name").to_string_lossy().into_owned();
        if entry.is_dir() {
            names.extend(self::names(&entry).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            names.push(name);
        }
    }
    names
}
