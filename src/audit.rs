//! The audit log: who did what to which gallery when. A file of lines, each with a hash over itself and the line before, so that
//! what was changed or taken out later shows.
//!
//! ```text
//! HASH {"n":7,"time":"…","who":"key …","peer":"…","call":"…","galleries":["…"],"code":"OK","request_id":"…"}
//! ```
//! `HASH` is the SHA-256, in hexadecimal digits, of the hash of the line before (64 zeros for the first) and the JSON. Somebody who
//! can write the file can write all of it anew: note the last hash elsewhere now and then, and compare.
//!
//! A place for an entry is taken before its call does anything; where there is none, because the disk is full or too slow, the
//! call is refused. Entries are written when their calls end, many at a time, and synced; the end of a reply that says that
//! something was changed waits for that (`server/observe.rs`). A change that was made and not told of may have no entry.

mod chain;
mod writer;

pub use chain::{ChainError, Chained, Head, verify};
pub use writer::{AuditError, AuditLog, Entry, EntryPlace};
