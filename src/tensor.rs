//! Plain tensors between the pure core and the adapter that runs networks.

use serde::Deserialize;

/// A dense f32 tensor, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Size of each axis.
    pub shape: Vec<usize>,
    /// As many values as the product of the axes.
    pub values: Vec<f32>,
}

/// The order in which a network takes colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

/// How pixels become network input: `(pixel − mean) / std` for each channel, in the network's channel order.
///
/// *Units*: `mean` and `std` are on the scale of 8-bit pixels, 0 to 255.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// Order of the channels.
    pub channels: ChannelOrder,
    /// Subtracted from each channel, in the network's channel order.
    pub mean: [f32; 3],
    /// Divides each channel, in the network's channel order.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// Makes the input of square RGB pictures. *Shape*: `[pictures, 3, side, side]`, NCHW.
    pub fn tensor(&self, pictures_rgb: &[&[u8]], side_px: u32) -> Tensor {
        let mut tensor = Tensor::default();
        self.fill(pictures_rgb, side_px, &mut tensor);
        tensor
    }

    /// As [`Preprocessing::tensor`], in a tensor whose memory is used again.
    pub fn fill(&self, pictures_rgb: &[&[u8]], side_px: u32, tensor: &mut Tensor) {
        let side = side_px as usize;
        tensor.shape = vec![pictures_rgb.len(), 3, side, side];
        tensor.values.clear();
        tensor.values.reserve(pictures_rgb.len() * 3 * side * side);
        for picture in pictures_rgb {
            let (pixels, _) = picture.as_chunks::<3>();
            for ((source, mean), std) in self.source_channels().into_iter().zip(self.mean).zip(self.std) {
                let plane = pixels.iter().map(|[red, green, blue]| match source {
                    Channel::Red => red,
                    Channel::Green => green,
                    Channel::Blue => blue,
                });
                tensor.values.extend(plane.map(|pixel| (f32::from(*pixel) - mean) / std));
            }
        }
    }

    /// Writes a row of a channel of the network's, from a row of pixels as red, green and blue; what is left of the row is
    /// black.
    pub(crate) fn write_row(&self, channel: usize, [red, green, blue]: &[Vec<u8>; 3], row: &mut [f32]) {
        let pixels = match self.source_channels().get(channel) {
            Some(Channel::Red) => red,
            Some(Channel::Green) => green,
            _ => blue,
        };
        let (mean, std) = self.scale(channel);
        let (pictured, rest) = row.split_at_mut(pixels.len().min(row.len()));
        for (value, pixel) in pictured.iter_mut().zip(pixels) {
            *value = (f32::from(*pixel) - mean) / std;
        }
        rest.fill(self.black(channel));
    }

    /// Returns what a black pixel is in a channel of the network's.
    pub(crate) fn black(&self, channel: usize) -> f32 {
        let (mean, std) = self.scale(channel);
        (0.0 - mean) / std
    }

    fn scale(&self, channel: usize) -> (f32, f32) {
        let at = |values: [f32; 3]| values.into_iter().nth(channel).unwrap_or(1.0);
        (at(self.mean), at(self.std))
    }

    fn source_channels(&self) -> [Channel; 3] {
        match self.channels {
            ChannelOrder::Rgb => [Channel::Red, Channel::Green, Channel::Blue],
            ChannelOrder::Bgr => [Channel::Blue, Channel::Green, Channel::Red],
        }
    }
}

/// A colour of a pixel.
#[derive(Clone, Copy)]
enum Channel {
    Red,
    Green,
    Blue,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_is_planar_in_the_channel_order() {
        let picture: &[u8] = &[1, 2, 3, 11, 12, 13, 21, 22, 23, 31, 32, 33];
        let rgb = Preprocessing { channels: ChannelOrder::Rgb, mean: [1.0, 0.0, 0.0], std: [1.0, 2.0, 1.0] };
        let tensor = rgb.tensor(&[picture], 2);
        assert_eq!(tensor.shape, [1, 3, 2, 2]);
        assert_eq!(tensor.values, [0.0, 10.0, 20.0, 30.0, 1.0, 6.0, 11.0, 16.0, 3.0, 13.0, 23.0, 33.0]);
        let bgr = Preprocessing { channels: ChannelOrder::Bgr, mean: [0.0; 3], std: [1.0; 3] };
        assert_eq!(bgr.tensor(&[picture], 2).values[..4], [3.0, 13.0, 23.0, 33.0]);
    }
}
