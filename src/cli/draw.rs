//! Faces drawn on a photo, for a person to look at.

use std::path::{Path, PathBuf};

use anyhow::Context;
use image::{Rgb, RgbImage};

use crate::biometrics::face::{Face, Point};

const BOX_COLOR: Rgb<u8> = Rgb([0, 220, 90]);
const LANDMARK_COLOR: Rgb<u8> = Rgb([255, 60, 60]);

/// Where each photo's drawing goes: the file named, or for several photos a file of the photo's name in a folder.
pub(super) fn targets(out: &Path, photos: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    if photos.len() == 1 && !out.is_dir() {
        anyhow::ensure!(is_writable_format(out), "--draw writes .png and .jpg files, not {}", out.display());
        let same =
            |photo: &PathBuf| photo.canonicalize().ok().is_some_and(|photo| out.canonicalize().ok() == Some(photo));
        anyhow::ensure!(!photos.iter().any(same), "--draw would replace the photo itself: {}", out.display());
        return Ok(vec![out.to_path_buf()]);
    }
    anyhow::ensure!(
        photos.len() == 1 || !is_writable_format(out),
        "--draw must be a folder where there are several photos, not {}",
        out.display()
    );
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let mut targets = Vec::with_capacity(photos.len());
    for (index, photo) in photos.iter().enumerate() {
        let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
        // Numbered, because photos of one name may come from several folders.
        targets.push(out.join(format!("{:04}-{stem}.png", index + 1)));
    }
    Ok(targets)
}

fn is_writable_format(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| ["png", "jpg", "jpeg"].iter().any(|known| extension == *known))
}

/// Draws each face's box and five points, in lines that stay visible on a large photo.
pub(super) fn draw_faces(picture: &mut RgbImage, faces: &[Face]) {
    let width_px = i64::from((picture.width().max(picture.height()) / 400).max(1));
    for face in faces {
        let corners = &face.rectangle;
        let (left, top) = (corners.x_min_px.round() as i64, corners.y_min_px.round() as i64);
        let (right, bottom) = (corners.x_max_px.round() as i64, corners.y_max_px.round() as i64);
        fill(picture, (left, top), (right, top + width_px), BOX_COLOR);
        fill(picture, (left, bottom - width_px), (right, bottom), BOX_COLOR);
        fill(picture, (left, top), (left + width_px, bottom), BOX_COLOR);
        fill(picture, (right - width_px, top), (right, bottom), BOX_COLOR);
        for Point { x_px, y_px } in face.landmarks {
            let (x, y) = (x_px.round() as i64, y_px.round() as i64);
            fill(picture, (x - width_px, y - width_px), (x + width_px + 1, y + width_px + 1), LANDMARK_COLOR);
        }
    }
}

/// Fills a rectangle, as much of it as lies in the picture. The second corner is excluded.
fn fill(picture: &mut RgbImage, from: (i64, i64), to: (i64, i64), color: Rgb<u8>) {
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    for y in from.1.clamp(0, height)..to.1.clamp(0, height) {
        for x in from.0.clamp(0, width)..to.0.clamp(0, width) {
            picture.put_pixel(x as u32, y as u32, color);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::face::{Landmarks, Rectangle};

    #[test]
    fn face_beyond_the_border_is_drawn_as_far_as_it_is_seen() {
        let mut picture = RgbImage::new(20, 20);
        let rectangle = Rectangle { x_min_px: -5.0, y_min_px: 3.0, x_max_px: 10.0, y_max_px: 1e9 };
        let landmarks: Landmarks = [Point { x_px: 5.0, y_px: 8.0 }; 5];
        draw_faces(&mut picture, &[Face { rectangle, detection_score: 1.0, landmarks, quality: None }]);
        assert_eq!(picture.get_pixel(0, 3), &BOX_COLOR);
        assert_eq!(picture.get_pixel(9, 19), &BOX_COLOR);
        assert_eq!(picture.get_pixel(5, 8), &LANDMARK_COLOR);
        assert_eq!(picture.get_pixel(2, 10), &Rgb([0, 0, 0]));
    }

    #[test]
    fn targets_of_equal_names_are_distinct() {
        let folder = tempfile::tempdir().expect("a folder");
        let photos = [PathBuf::from("a/1.jpg"), PathBuf::from("b/1.jpg")];
        let targets = targets(folder.path(), &photos).expect("targets");
        assert_ne!(targets[0], targets[1]);
        assert!(super::targets(Path::new("out.txt"), &photos[..1]).is_err());
    }
}
