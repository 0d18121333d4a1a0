//! Enrolled identities: the store is the truth, the index is a cache of it in memory.
//!
//! write → `writer` (one thread, group commit) → `store` (sled, durable) → `index` (visible to search) → reply
//!
//! What is durable when: everything a reply speaks of. A write's reply is sent after the flush *and* after the index has
//! it, so whoever was told of a write finds it. A read of an identity may see a write shortly before its reply.
//!
//! [`Galleries`] is the seam: nothing outside this folder knows what lies behind it.

mod batch;
mod builder;
mod coarse;
mod crash;
mod exact;
pub mod filter;
mod galleries;
mod graph;
mod index;
mod marker;
mod metadata;
mod ranking;
mod record;
mod store;
mod synthetic;
mod types;
mod writer;

pub use exact::{ExactSearch, Wanted};
pub use galleries::{Enrollment, Galleries, GalleryChange, IdentityChange, Page};
pub use ranking::{Ranked, Ranking};
pub use synthetic::Synthetic;
pub(crate) use types::check_display_name;
pub use types::{
    Deletion, Enrolled, EnrolledTemplate, Gallery, GalleryCounts, GallerySettings, GalleryStatus, GraphRecall,
    Identity, IfExists, MetadataValue, PersonDetails, Scope, Search, SearchOutcome, SearchPath, SearchPolicy,
    StoreError,
};
