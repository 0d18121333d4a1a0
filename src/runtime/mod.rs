//! What refuses work, and what does it: admission before anything is read, a bounded queue, one worker a core.

mod admission;
mod workers;

pub use admission::{Admission, CallPermit, HeldBytes};
pub use workers::{Place, Workers};
