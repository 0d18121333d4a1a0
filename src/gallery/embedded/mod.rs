//! Galleries on this machine: the store is the truth, the index is a cache of it in memory.
//!
//! write → `writer` (one thread, group commit) → `store` (sled, durable) → `index` (visible to search) → reply
//!
//! What is durable when: everything a reply speaks of. A write's reply is sent after the flush *and* after the index has
//! it, so whoever was told of a write finds it. A read of an identity may see a write shortly before its reply.

mod batch;
mod builder;
mod coarse;
mod compaction;
mod crash;
mod curves;
mod encryption;
mod enrolment;
mod error;
mod exact;
mod export;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod galleries;
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
mod port;
#[cfg(test)]
mod random_operations;
mod snapshot;
mod store;
mod writer;

// What all stores share, by the names that it has one folder up.
use super::{
    archive, changes, comparison, curve_record, filter, key_record, lasting, mates, packed, ranking, record, types,
    value,
};

pub use self::encryption::{KeyError, KeyId, MasterKey};
pub use self::error::StoreError;
pub use self::exact::{ExactSearch, Wanted};
pub use self::galleries::EmbeddedGalleries;
pub use self::import::Import;
pub use self::key_change::{KeyChange, KeyChangeError, change_key};
