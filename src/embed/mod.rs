//! Face → aligned 112x112 chip → tensor → template. Pure: the network itself is run by the caller.

mod align;
mod quality;
mod similarity;

pub use align::{CHIP_SIDE_PX, Chip};
pub use quality::measure;
pub use similarity::Similarity;
