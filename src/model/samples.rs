//! Pictures to try a network on, where there are no photos: the same on every machine and in every run.

use crate::tensor::{Preprocessing, Tensor};

/// Cells a side of the grid that makes the large shapes of a picture.
const GRID: u32 = 8;

/// Levels up to which noise is added, either way.
const NOISE: i32 = 12;

/// Makes network inputs: smooth random colours with noise on them, so that no value repeats and every channel of a network
/// meets values on both sides of zero. *Shape*: each `[batch, 3, side, side]`.
pub(super) fn samples(preprocessing: &Preprocessing, side_px: u32, batch: usize, count: usize) -> Vec<Tensor> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        let pictures: Vec<Vec<u8>> = (0..batch).map(|_| picture(&mut random, side_px)).collect();
        let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        preprocessing.tensor(&pictures, side_px)
    };
    (0..count).map(|_| next()).collect()
}

/// RGB, row by row.
fn picture(random: &mut Random, side_px: u32) -> Vec<u8> {
    let corners: Vec<[f32; 3]> =
        (0..(GRID + 1) * (GRID + 1)).map(|_| [(); 3].map(|()| (random.next() % 256) as f32)).collect();
    let corner = |row: u32, column: u32| corners.get((row * (GRID + 1) + column) as usize).copied().unwrap_or_default();
    let place = |at: u32| {
        let place = at as f32 * GRID as f32 / side_px as f32;
        (place as u32, place.fract())
    };
    let mut pixels = Vec::with_capacity((side_px * side_px * 3) as usize);
    for y in 0..side_px {
        let (row, down) = place(y);
        for x in 0..side_px {
            let (column, across) = place(x);
            let (top, bottom) = (
                [corner(row, column), corner(row, column + 1)],
                [corner(row + 1, column), corner(row + 1, column + 1)],
            );
            let mix = |[left, right]: [[f32; 3]; 2], channel: usize| {
                let of = |corner: [f32; 3]| corner.into_iter().nth(channel).unwrap_or_default();
                of(left) * (1.0 - across) + of(right) * across
            };
            for channel in 0..3 {
                let level = mix(top, channel) * (1.0 - down) + mix(bottom, channel) * down;
                let noise = (random.next() % (2 * NOISE as u64 + 1)) as i32 - NOISE;
                pixels.push((level as i32 + noise).clamp(0, 255) as u8);
            }
        }
    }
    pixels
}

/// Marsaglia's xorshift64*, of which the upper half is used.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ChannelOrder;

    #[test]
    fn samples_fill_the_range_and_are_the_same_again() {
        let preprocessing = Preprocessing { channels: ChannelOrder::Rgb, mean: [127.5; 3], std: [127.5; 3] };
        let made = samples(&preprocessing, 32, 2, 3);
        assert_eq!(made, samples(&preprocessing, 32, 2, 3));
        assert!(made.iter().all(|tensor| tensor.shape == [2, 3, 32, 32]));
        assert_ne!(made[0].values, made[1].values);
        let values = || made.iter().flat_map(|tensor| &tensor.values);
        assert!(values().any(|value| *value < -0.9) && values().any(|value| *value > 0.9));
    }
}
