//! Photo → letterboxed square → network input.

use image::RgbImage;

use super::resize::resize_bilinear;
use crate::tensor::{Preprocessing, Tensor};

/// A photo scaled into the top left corner of a square, the rest black.
///
/// The same as InsightFace's: top left, not centred; both axes are mapped back by the one scale of the height, even
/// where the width was rounded down, so that coordinates agree with its to the pixel.
pub struct Letterbox {
    /// RGB, row by row, `canvas_px * canvas_px * 3` bytes.
    pixels: Vec<u8>,
    canvas_px: u32,
    /// Pixels of the square for one pixel of the photo.
    scale: f32,
}

impl Letterbox {
    /// Scales a photo to fit `side_px` and puts it on a square canvas of `canvas_px` (at least `side_px`; larger for a
    /// network with one fixed input size).
    ///
    /// Bilinear without low-pass, like OpenCV's default: the detectors were trained on it.
    pub fn new(photo: &RgbImage, side_px: u32, canvas_px: u32) -> Self {
        let (width, height) = fitted_size(photo.width(), photo.height(), side_px);
        let fitted = resize_bilinear(photo, width, height);

        let mut pixels = vec![0; canvas_px as usize * canvas_px as usize * 3];
        let rows = pixels.chunks_exact_mut(canvas_px as usize * 3);
        for (target, row) in rows.zip(fitted.chunks_exact(width as usize * 3)) {
            for (to, from) in target.iter_mut().zip(row) {
                *to = *from;
            }
        }
        Self { pixels, canvas_px, scale: height as f32 / photo.height() as f32 }
    }

    /// Returns how many pixels of the square one pixel of the photo became.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Returns the network input. *Shape*: `[1, 3, canvas, canvas]`.
    pub fn tensor(&self, preprocessing: &Preprocessing) -> Tensor {
        preprocessing.tensor(&[&self.pixels], self.canvas_px)
    }
}

/// The longer side becomes `side_px`, the other is rounded down (InsightFace's rule), but never to nothing.
fn fitted_size(width: u32, height: u32, side_px: u32) -> (u32, u32) {
    let ratio = f64::from(height) / f64::from(width);
    if ratio > 1.0 {
        (((f64::from(side_px) / ratio) as u32).max(1), side_px)
    } else {
        (side_px, ((f64::from(side_px) * ratio) as u32).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitted_size_keeps_the_ratio_and_never_vanishes() {
        assert_eq!(fitted_size(250, 250, 640), (640, 640));
        assert_eq!(fitted_size(1_000, 500, 640), (640, 320));
        assert_eq!(fitted_size(500, 1_000, 640), (320, 640));
        assert_eq!(fitted_size(16_000, 1, 640), (640, 1));
        assert_eq!(fitted_size(1, 16_000, 640), (1, 640));
    }

    #[test]
    fn letterbox_puts_the_photo_top_left_on_black() {
        let photo = RgbImage::from_pixel(20, 10, image::Rgb([10, 20, 30]));
        let boxed = Letterbox::new(&photo, 64, 96);
        assert_eq!(boxed.scale(), 3.2);
        let pixel = |x: usize, y: usize| &boxed.pixels[(y * 96 + x) * 3..][..3];
        assert_eq!(pixel(0, 0), [10, 20, 30]);
        assert_eq!(pixel(63, 31), [10, 20, 30]);
        assert_eq!(pixel(64, 0), [0, 0, 0]);
        assert_eq!(pixel(0, 32), [0, 0, 0]);
    }
}
