//! Which input sides the detector is run at.

use crate::error::Error;

/// Input sides are multiples of the coarsest stride.
pub const STRIDE_MAX_PX: u32 = 32;

/// The sides a caller may ask for, in pixels. Time and memory grow with the square.
pub const SIDE_RANGE_PX: std::ops::RangeInclusive<u32> = 64..=1_280;

/// The large side of the default: the one the published figures of SCRFD are for.
const LARGE_SIDE_PX: u32 = 640;

/// The small side of the default. Faces that fill a photo are larger than any anchor at 640 and are missed there; at
/// 128 they are ordinary. InsightFace 2.1 has the same two.
const SMALL_SIDE_PX: u32 = 128;

/// The detector input sides for one photo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scales {
    /// Two, chosen by the photo's size: a large one for small faces and a small one for faces that fill the frame.
    #[default]
    Auto,
    /// Exactly these, one or two.
    Sides(Vec<u32>),
}

impl Scales {
    /// Checks the sides a caller asks for; none means [`Scales::Auto`].
    ///
    /// *Errors*: [`Error::BadField`] where there are more than two, or one is not a multiple of 32 in the range.
    pub fn from_sides(field: &'static str, sides: &[u32]) -> Result<Self, Error> {
        let fits = |side: &u32| SIDE_RANGE_PX.contains(side) && side.is_multiple_of(STRIDE_MAX_PX);
        if sides.len() > 2 || !sides.iter().all(fits) {
            return Err(Error::bad_field(field, "at most two multiples of 32 from 64 to 1280"));
        }
        Ok(if sides.is_empty() { Scales::Auto } else { Scales::Sides(sides.to_vec()) })
    }

    /// Returns the sides for a photo whose longer side is given, large first.
    ///
    /// A small photo is not enlarged to 640: that adds cost and no detail (an LFW photo of 250 pixels is detected at
    /// 256, at a sixth of the cost, with the same faces found).
    pub fn sides_px(&self, long_side_px: u32) -> Vec<u32> {
        match self {
            Scales::Sides(sides) => sides.clone(),
            Scales::Auto => {
                let needed = long_side_px.next_multiple_of(STRIDE_MAX_PX).min(LARGE_SIDE_PX);
                if needed <= SMALL_SIDE_PX { vec![SMALL_SIDE_PX] } else { vec![needed, SMALL_SIDE_PX] }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_off_the_grid_are_bad_field() {
        for sides in [&[32][..], &[100], &[1312], &[640, 128, 64], &[0]] {
            assert!(Scales::from_sides("f", sides).is_err(), "{sides:?}");
        }
    }

    #[test]
    fn auto_never_enlarges_beyond_need() {
        for (long, sides) in [(40, vec![128]), (128, vec![128]), (250, vec![256, 128]), (4_000, vec![640, 128])] {
            assert_eq!(Scales::Auto.sides_px(long), sides, "{long}");
        }
    }

    #[test]
    fn one_side_is_exactly_that() -> Result<(), Error> {
        assert_eq!(Scales::from_sides("f", &[640])?.sides_px(40), vec![640]);
        Ok(())
    }
}
