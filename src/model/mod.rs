//! Model packs and the ONNX Runtime sessions that run them. The adapter of ort: no other module names it.

mod cache;
mod folder;
mod golden;
mod graph;
mod library;
mod manifest;
mod pack;
mod rewrite;
mod samples;
mod session;
mod tune;

pub use golden::Golden;
pub use library::{LibraryError, load_runtime};
pub use manifest::curve_section;
pub use pack::{Pack, PackError, PackSource, Tuning};
pub use session::{DetectorSession, RecognizerSession};
