//! The aligned chip: a face turned, scaled and shifted so that its five points lie where ArcFace networks expect them.

use std::io::Cursor;

use image::codecs::png::{PngDecoder, PngEncoder};
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageEncoder, RgbImage};

use super::similarity::Similarity;
use crate::biometrics::face::{Landmarks, Point};
use crate::error::Error;

/// Side of a chip, in pixels.
pub const CHIP_SIDE_PX: u32 = 112;

/// Where the five points lie in a chip.
///
/// *Source*: `arcface_dst` in InsightFace's `face_align.py`; every ArcFace-trained network shares it.
const ARCFACE_POINTS: Landmarks = [
    Point { x_px: 38.2946, y_px: 51.6963 },
    Point { x_px: 73.5318, y_px: 51.5014 },
    Point { x_px: 56.0252, y_px: 71.7366 },
    Point { x_px: 41.5493, y_px: 92.3655 },
    Point { x_px: 70.7299, y_px: 92.2041 },
];

/// A face as networks see it: 112 x 112 RGB.
#[derive(Clone, PartialEq)]
pub struct Chip {
    pixels: Vec<u8>,
}

impl std::fmt::Debug for Chip {
    /// A face must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chip(..)")
    }
}

impl Chip {
    /// Cuts a face out of a photo by its landmarks. `None` where the landmarks coincide.
    ///
    /// Bilinear, black beyond the border, like OpenCV's `warpAffine` (version 5; version 4 rounds positions to 1/32 px).
    /// The embeddings of the reference vectors' 189 faces agree to a cosine of at least .99999.
    pub fn cut(photo: &RgbImage, landmarks: &Landmarks) -> Option<Self> {
        let to_photo = face_to_photo(landmarks)?;
        let mut pixels = Vec::with_capacity((CHIP_SIDE_PX * CHIP_SIDE_PX * 3) as usize);
        for row in 0..CHIP_SIDE_PX {
            for column in 0..CHIP_SIDE_PX {
                let (x, y) = to_photo.apply(f64::from(column), f64::from(row));
                pixels.extend(sample(photo, x, y));
            }
        }
        Some(Self { pixels })
    }

    /// Returns the pixels: RGB, row by row, 112 · 112 · 3 bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Returns the chip as a PNG: not a level is lost, so that another network sees what it would have seen of the photo.
    ///
    /// *Cost*: a millisecond; some 20 kB.
    pub fn to_png(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let encoder = PngEncoder::new(&mut bytes);
        let written = encoder.write_image(&self.pixels, CHIP_SIDE_PX, CHIP_SIDE_PX, ExtendedColorType::Rgb8);
        written.map_err(Error::internal)?;
        Ok(bytes)
    }

    /// Reads a chip that [`Chip::to_png`] wrote.
    ///
    /// *Errors*: [`Error::DataLoss`] for anything else.
    pub fn from_png(bytes: &[u8]) -> Result<Self, Error> {
        const NO_CHIP: Error = Error::DataLoss("a chip is no PNG of 112 x 112 RGB");
        let decoder = PngDecoder::new(Cursor::new(bytes)).map_err(|_| NO_CHIP)?;
        // Known before anything is allocated.
        let is_chip = decoder.dimensions() == (CHIP_SIDE_PX, CHIP_SIDE_PX) && decoder.color_type() == ColorType::Rgb8;
        let mut pixels = vec![0; (CHIP_SIDE_PX * CHIP_SIDE_PX * 3) as usize];
        if !is_chip || decoder.read_image(&mut pixels).is_err() {
            return Err(NO_CHIP);
        }
        Ok(Self { pixels })
    }

    /// Returns the pixel at a position; `None` beyond the chip.
    pub(super) fn pixel(&self, column: u32, row: u32) -> Option<[u8; 3]> {
        let (pixels, _) = self.pixels.as_chunks::<3>();
        pixels.get((row * CHIP_SIDE_PX + column) as usize).copied()
    }
}

/// Carries positions in a chip to the photo. `None` where the landmarks coincide.
pub(super) fn face_to_photo(landmarks: &Landmarks) -> Option<Similarity> {
    Some(Similarity::fit(landmarks, &ARCFACE_POINTS)?.inverse())
}

/// Interpolates between the four pixels around a position; pixels beyond the border are black.
pub(super) fn sample(photo: &RgbImage, x: f64, y: f64) -> [u8; 3] {
    let (left, top) = (floor(x), floor(y));
    let (right_share, bottom_share) = ((x - left as f64) as f32, (y - top as f64) as f32);
    let shares = [
        (1.0 - right_share) * (1.0 - bottom_share),
        right_share * (1.0 - bottom_share),
        (1.0 - right_share) * bottom_share,
        right_share * bottom_share,
    ];
    let mut sum = [0.0f32; 3];
    for (pixel, share) in corners(photo, left, top).into_iter().zip(shares) {
        for (channel, value) in sum.iter_mut().zip(pixel) {
            *channel += share * f32::from(*value);
        }
    }
    // Rounded to the nearest, halves up, as f32::round does, which calls a function for it: exact in f64.
    sum.map(|value| (f64::from(value) + 0.5) as u8)
}

/// `f64::floor` is a function call where SSE4.1 is not taken for granted. A saturating cast: a position far outside stays
/// outside.
fn floor(value: f64) -> i64 {
    let truncated = value as i64;
    if truncated as f64 > value { truncated.saturating_sub(1) } else { truncated }
}

const BLACK: [u8; 3] = [0; 3];

/// The pixel at a position and those to its right, below, and below to its right.
fn corners(photo: &RgbImage, left: i64, top: i64) -> [&[u8; 3]; 4] {
    let width = photo.width() as usize;
    let (pixels, _) = photo.as_raw().as_chunks::<3>();
    if let (Ok(column), Ok(row)) = (usize::try_from(left), usize::try_from(top))
        && column < width.saturating_sub(1)
        && let Some(start) = row.checked_mul(width).and_then(|start| start.checked_add(column))
        && let (Some([a, b, ..]), Some([c, d, ..])) = (pixels.get(start..), pixels.get(start + width..))
    {
        return [a, b, c, d];
    }
    [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| {
        let position = (u32::try_from(left.saturating_add(dx)), u32::try_from(top.saturating_add(dy)));
        let (Ok(x), Ok(y)) = position else { return &BLACK };
        photo.get_pixel_checked(x, y).map_or(&BLACK, |pixel| &pixel.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chip_of_a_face_already_in_place_is_the_photo() {
        let photo = RgbImage::from_fn(112, 112, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let chip = Chip::cut(&photo, &ARCFACE_POINTS).expect("a chip");
        assert_eq!(chip.pixels(), photo.as_raw().as_slice());
    }

    /// As written down in `f64::floor` and `f32::round`, pixel by pixel.
    fn plain_sample(photo: &RgbImage, x: f64, y: f64) -> [u8; 3] {
        let (right, bottom) = ((x - x.floor()) as f32, (y - y.floor()) as f32);
        let mut sum = [0.0f32; 3];
        for (dx, dy, share) in [
            (0.0, 0.0, (1.0 - right) * (1.0 - bottom)),
            (1.0, 0.0, right * (1.0 - bottom)),
            (0.0, 1.0, (1.0 - right) * bottom),
            (1.0, 1.0, right * bottom),
        ] {
            let (x, y) = (x.floor() + dx, y.floor() + dy);
            let inside = x >= 0.0 && y >= 0.0 && x < f64::from(photo.width()) && y < f64::from(photo.height());
            let pixel = if inside { photo.get_pixel(x as u32, y as u32).0 } else { [0; 3] };
            sum.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += share * f32::from(level));
        }
        sum.map(|value| value.round() as u8)
    }

    #[test]
    fn sample_is_the_plain_rule_inside_and_across_the_border() {
        let photo = RgbImage::from_fn(9, 7, |x, y| image::Rgb([(x * 53 + y * 101) as u8, (x * y * 31) as u8, 255]));
        for step in 0..40_000 {
            let (x, y) = (f64::from(step % 200) / 14.0 - 2.0, f64::from(step / 200) / 18.0 - 2.0);
            assert_eq!(sample(&photo, x, y), plain_sample(&photo, x, y), "at {x}, {y}");
        }
        for far in [f64::NAN, f64::INFINITY, -1e300, 1e300] {
            assert_eq!(sample(&photo, far, 1.0), [0; 3], "at {far}");
        }
    }

    #[test]
    fn chip_beyond_the_border_is_black() {
        let photo = RgbImage::from_pixel(112, 112, image::Rgb([200; 3]));
        let far = ARCFACE_POINTS.map(|p| Point { x_px: p.x_px + 1e6, y_px: p.y_px });
        let chip = Chip::cut(&photo, &far).expect("a chip");
        assert!(chip.pixels().iter().all(|value| *value == 0));
    }

    #[test]
    fn chip_undoes_scale() {
        let photo = RgbImage::from_fn(448, 448, |x, y| image::Rgb([(x / 4) as u8, (y / 4) as u8, 0]));
        let large = ARCFACE_POINTS.map(|p| Point { x_px: p.x_px * 4.0, y_px: p.y_px * 4.0 });
        let chip = Chip::cut(&photo, &large).expect("a chip");
        let index = ((60 * 112 + 50) * 3) as usize;
        assert!(chip.pixels()[index].abs_diff(50) <= 1 && chip.pixels()[index + 1].abs_diff(60) <= 1);
    }
}
