//! Model packs: where they come from, where they are kept, and the ONNX Runtime sessions that run them. The adapter of ort: no
//! other module names it.

mod cache;
mod catalogue;
mod download;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod golden;
mod graph;
mod installed;
mod library;
mod manifest;
mod pack;
mod packs;
mod rewrite;
mod samples;
mod session;
mod tune;
mod unpack;

pub use catalogue::{Catalogue, CatalogueError, Entry, Licence, Published, Source};
pub use download::{DownloadError, Downloader, Progress, Proxy, SLACK_BYTES, shown_address};
pub use golden::Golden;
pub use installed::{Difference, Record, RecordError, checksums, sha256_of};
pub use library::{LibraryError, describe_runtime, load_runtime};
pub use manifest::curve_section;
pub use pack::{Pack, PackError, PackSource, Tuning};
pub use packs::{LockedPacks, PackName, Packs, PacksError, Staged};
pub use session::{DetectorSession, RecognizerSession};
pub use unpack::{UnpackError, copy, copy_file, unpack};
