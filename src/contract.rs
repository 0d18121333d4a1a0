//! The contract: code generated from `proto/facematch/v1`. Its comments are the contract's own documentation.
#![allow(missing_docs, reason = "generated; documented in the .proto files")]
#![allow(clippy::all, clippy::indexing_slicing, clippy::unwrap_used, reason = "generated")]

tonic::include_proto!("facematch.v1");
include!(concat!(env!("OUT_DIR"), "/redacted_debug.rs"));

/// The compiled contract, as server reflection serves it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/facematch_descriptor.bin"));
