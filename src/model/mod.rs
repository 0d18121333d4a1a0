//! Model packs and the ONNX Runtime sessions that run them. The adapter of ort: no other module names it.

mod folder;
mod graph;
mod library;
mod manifest;
mod pack;
mod session;

pub use library::{LibraryError, load_runtime};
pub use pack::{Pack, PackError, PackSource};
pub use session::{DetectorSession, RecognizerSession};
