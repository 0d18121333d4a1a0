//! Plain tensors between the pure core and the adapter that runs networks.

use serde::Deserialize;

/// A dense f32 tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
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
        let side = side_px as usize;
        let mut values = Vec::with_capacity(pictures_rgb.len() * 3 * side * side);
        let source_channels = match self.channels {
            ChannelOrder::Rgb => [0, 1, 2],
            ChannelOrder::Bgr => [2, 1, 0],
        };
        for picture in pictures_rgb {
            for ((channel, mean), std) in source_channels.into_iter().zip(self.mean).zip(self.std) {
                let plane = picture.iter().skip(channel).step_by(3);
                values.extend(plane.map(|pixel| (f32::from(*pixel) - mean) / std));
            }
        }
        Tensor { shape: vec![pictures_rgb.len(), 3, side, side], values }
    }
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
