//! Enrolled identities: the store is the truth, the index is a cache of it in memory.
//!
//! write → `writer` (one thread, group commit) → `store` (sled, durable) → `index` (visible to search) → reply
//!
//! What is durable when: everything a reply speaks of. A write's reply is sent after the flush *and* after the index has
//! it, so whoever was told of a write finds it. A read of an identity may see a write shortly before its reply.
//!
//! [`Galleries`] is the seam: nothing outside this folder knows what lies behind it.

mod archive;
mod batch;
mod builder;
mod coarse;
mod compaction;
mod crash;
mod curves;
mod encryption;
mod enrolment;
mod exact;
mod export;
pub mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod galleries;
mod gallery_record;
mod graph;
mod import;
mod index;
mod keeper;
mod key_change;
mod keys;
mod marker;
mod memory;
mod metadata;
mod migration;
mod others;
mod packed;
#[cfg(test)]
mod random_operations;
mod ranking;
mod record;
mod snapshot;
mod store;
mod synthetic;
mod types;
mod writer;

pub use archive::read_file_ids;
pub use compaction::Compaction;
pub use curves::{CurveOwner, NewCurve};
pub use encryption::{KeyError, KeyId, MasterKey};
pub use enrolment::{Enrolled, Enrollment};
pub use exact::{ExactSearch, Wanted};
pub use export::ExportPart;
pub use galleries::{Galleries, GalleryChange, IdentityChange, Page};
pub use import::{Import, ImportState};
pub use key_change::{KeyChange, KeyChangeError, change_key};
pub use migration::{Embed, MigrationComparison, MigrationPlan, MigrationState};
pub use ranking::{Ranked, Ranking};
pub use synthetic::{Synthetic, SyntheticGallery, write_synthetic};
pub(crate) use types::check_display_name;
pub use types::{
    Deletion, EnrolledTemplate, Gallery, GalleryCounts, GallerySettings, GalleryStatus, GraphRecall, Identity,
    IfExists, MetadataValue, PersonDetails, RecallTarget, Scope, Search, SearchOutcome, SearchPath, SearchPolicy,
    StoreError,
};
