//! Photo → network input.

use image::RgbImage;

use super::head::Geometry;
use super::resize::resize_bilinear;
use super::scales::STRIDE_MAX_PX;
use crate::tensor::{Preprocessing, Tensor};

/// Where a photo lies in a detector's input: scaled into the top left corner, the rest black.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    photo_px: Size,
    fitted_px: Size,
    canvas_px: Size,
    /// Whether the width is mapped back by its own scale.
    has_two_scales: bool,
}

/// Width and height, in pixels.
type Size = (u32, u32);

impl Letterbox {
    /// Scales a photo to fit `side_px` and puts it on a square canvas of `canvas_px` (at least `side_px`; larger for a
    /// network with one fixed input size).
    ///
    /// The same as InsightFace's: top left, not centred; both axes are mapped back by the one scale of the height, even
    /// where the width was rounded down, so that coordinates agree with its to the pixel.
    pub fn square(photo: &RgbImage, side_px: u32, canvas_px: u32) -> Self {
        let photo_px = photo.dimensions();
        let fitted_px = fitted_size(photo_px, side_px);
        Self { photo_px, fitted_px, canvas_px: (canvas_px, canvas_px), has_two_scales: false }
    }

    /// Scales a photo to fit `side_px` and puts it on the smallest canvas that a detector takes: sides that are multiples
    /// of the coarsest stride.
    ///
    /// *Cost*: a detector's time goes by the canvas; that of a photo of 3:2 is .68 of the square.
    pub fn rectangle(photo: &RgbImage, side_px: u32) -> Self {
        let photo_px = photo.dimensions();
        // Also a photo that is a few pixels smaller: taken as it is (250 for 256), 1 % of LFW's landmarks move by more than
        // .3 of the eye distance.
        let fitted_px = fitted_size(photo_px, side_px);
        let (width, height) = fitted_px;
        let canvas_px = (width.next_multiple_of(STRIDE_MAX_PX), height.next_multiple_of(STRIDE_MAX_PX));
        Self { photo_px, fitted_px, canvas_px, has_two_scales: true }
    }

    /// Returns where the network's outputs lie in the photo.
    pub fn geometry(&self) -> Geometry {
        let y_scale = self.fitted_px.1 as f32 / self.photo_px.1 as f32;
        let x_scale = if self.has_two_scales { self.fitted_px.0 as f32 / self.photo_px.0 as f32 } else { y_scale };
        let (width_px, height_px) = (self.canvas_px.0 as usize, self.canvas_px.1 as usize);
        Geometry { width_px, height_px, x_scale, y_scale }
    }

    /// Makes the network input of the photo. *Shape*: `[1, 3, height, width]`. The tensor's memory is used again.
    ///
    /// Bilinear without low-pass, like OpenCV's default: the detectors were trained on it.
    pub fn fill(&self, photo: &RgbImage, preprocessing: &Preprocessing, input: &mut Tensor) {
        let (width, height) = (self.canvas_px.0 as usize, self.canvas_px.1 as usize);
        input.shape = vec![1, 3, height, width];
        input.values.resize(3 * width * height, 0.0);
        let mut planes = input.values.chunks_exact_mut((width * height).max(1));
        let mut rows = [(); 3].map(|()| planes.next().unwrap_or_default().chunks_exact_mut(width.max(1)));
        resize_bilinear(photo, self.fitted_px.0, self.fitted_px.1, |pixels| {
            for (channel, rows) in rows.iter_mut().enumerate() {
                if let Some(row) = rows.next() {
                    preprocessing.write_row(channel, pixels, row);
                }
            }
        });
        for (channel, rows) in rows.into_iter().enumerate() {
            rows.for_each(|row| row.fill(preprocessing.black(channel)));
        }
    }
}

/// The longer side becomes `side_px`, the other is rounded down (InsightFace's rule), but never to nothing.
fn fitted_size((width, height): Size, side_px: u32) -> Size {
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
    use crate::tensor::ChannelOrder;

    #[test]
    fn fitted_size_keeps_the_ratio_and_never_vanishes() {
        assert_eq!(fitted_size((250, 250), 640), (640, 640));
        assert_eq!(fitted_size((1_000, 500), 640), (640, 320));
        assert_eq!(fitted_size((500, 1_000), 640), (320, 640));
        assert_eq!(fitted_size((16_000, 1), 640), (640, 1));
        assert_eq!(fitted_size((1, 16_000), 640), (1, 640));
    }

    const PREPROCESSING: Preprocessing =
        Preprocessing { channels: ChannelOrder::Bgr, mean: [1.0, 2.0, 3.0], std: [2.0, 1.0, 1.0] };

    /// An input that was used before.
    fn used() -> Tensor {
        Tensor { shape: vec![7], values: vec![-99.0; 7] }
    }

    #[test]
    fn square_puts_the_photo_top_left_on_black() {
        let photo = RgbImage::from_pixel(20, 10, image::Rgb([10, 20, 30]));
        let boxed = Letterbox::square(&photo, 64, 96);
        assert_eq!(boxed.geometry(), Geometry { width_px: 96, height_px: 96, x_scale: 3.2, y_scale: 3.2 });
        let mut input = used();
        boxed.fill(&photo, &PREPROCESSING, &mut input);
        assert_eq!(input.shape, [1, 3, 96, 96]);
        assert_eq!(input.values.len(), 3 * 96 * 96);
        let pixel = |x: usize, y: usize| [0, 1, 2].map(|plane| input.values[(plane * 96 + y) * 96 + x]);
        let (colour, black) = ([14.5, 18.0, 7.0], [-0.5, -2.0, -3.0]);
        for ((x, y), expected) in
            [((0, 0), colour), ((63, 31), colour), ((64, 0), black), ((0, 32), black), ((95, 95), black)]
        {
            assert_eq!(pixel(x, y), expected, "at {x}, {y}");
        }
    }

    #[test]
    fn rectangle_is_the_photo_up_to_the_next_stride() {
        let geometry = |width, height, side| {
            let Geometry { width_px, height_px, x_scale, y_scale } =
                Letterbox::rectangle(&RgbImage::new(width, height), side).geometry();
            ((width_px, height_px), (x_scale, y_scale))
        };
        assert_eq!(geometry(1_280, 720, 640), ((640, 384), (0.5, 0.5)));
        assert_eq!(geometry(1_000, 333, 640), ((640, 224), (0.64, 213.0 / 333.0)));
        assert_eq!(geometry(333, 1_000, 640), ((224, 640), (213.0 / 333.0, 0.64)));
        assert_eq!(geometry(250, 250, 256), ((256, 256), (1.024, 1.024)));
        assert_eq!(geometry(256, 100, 256), ((256, 128), (1.0, 1.0)));
        assert_eq!(geometry(64, 32, 128), ((128, 64), (2.0, 2.0)));
        assert_eq!(geometry(16_000, 1, 640), ((640, 32), (0.04, 1.0)));
    }

    #[test]
    fn rectangle_holds_the_photo_unchanged_where_it_fits() {
        let photo = RgbImage::from_fn(64, 33, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
        let mut input = used();
        Letterbox::rectangle(&photo, 64).fill(&photo, &PREPROCESSING, &mut input);
        assert_eq!(input.shape, [1, 3, 64, 64]);
        for (x, y, pixel) in photo.enumerate_pixels() {
            let at = |plane: usize| input.values[(plane * 64 + y as usize) * 64 + x as usize];
            let [red, green, blue] = pixel.0.map(f32::from);
            assert_eq!([at(0), at(1), at(2)], [(blue - 1.0) / 2.0, green - 2.0, red - 3.0]);
        }
    }
}
