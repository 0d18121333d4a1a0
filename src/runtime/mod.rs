//! What refuses work, and what does it: admission before anything is read, bounded and fair queues, one worker a core.

mod admission;
pub(crate) mod core_dumps;
pub(crate) mod disk;
mod fair_queue;
mod gate;
pub mod machine;
pub(crate) mod private_file;
mod searches;
mod turns;
mod workers;

pub use admission::{Admission, CallPermit, Capacity, HeldPart};
pub use gate::{Caller, Gate, GatePass};
pub use searches::{Searches, Turn};
pub use workers::{Place, Workers};
