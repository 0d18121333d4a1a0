//! facematch: a gRPC identity-matching engine.
//!
//! Face photos go in, templates come out, identities are kept durable, and two questions are answered: *is this the same
//! person?* (1:1) and *who is this?* (1:N).
//!
//! # The house
//! Data flows down this list.
//!
//! | Module | What |
//! |---|---|
//! | [`config`] | defaults < file < environment < flags → one checked config |
//! | [`error`] | the engine's errors by class: the caller's fault, not now, ours |
//! | [`telemetry`] | what is told of the work: log, metrics, traces, times of stages |
//! | [`biometrics`] | pure types and maths: ids, faces, templates, scores, thresholds, decisions, calibration |
//! | [`access`] | who may do what, and how much of it: scopes, grants, keys, limits |
//! | [`audit`] | who did what to which gallery when, hash-chained |
//! | [`decode`] | bytes → upright RGB photo within limits: where photo bytes enter |
//! | [`tensor`] | plain tensors and how pixels become them |
//! | [`detect`] | photo → faces |
//! | [`embed`] | face → aligned chip → template |
//! | [`model`] | model packs: fetched, kept, run, made faster (adapters: ort, ureq, zip) |
//! | [`pipeline`] | one photo through decode, detect, align, embed |
//! | [`runtime`] | admission, worker pool: what refuses work |
//! | [`gallery`] | enrolled identities: the store is the truth, the index a cache (adapters: sled, usearch) |
//! | [`matching`] | verify and identify: where thresholds are applied |
//! | [`contract`] | the generated code of `proto/facematch/v1` |
//! | [`server`] | gRPC: layers, services, protobuf ↔ domain, errors → status (adapter: tonic, prost) |
//! | [`client`] | the other side of the contract: TLS, keys, deadlines, another try where it does no harm (adapter: tonic) |
//! | [`cli`] | one file a command; remote commands are clients of the same contract |
//!
//! The core (`biometrics`, `decode`, `detect`, `embed`, `matching`) names no type of tonic, prost, sled, usearch or ort.

// No panic on a server path; a needed exception says why. Tests may panic: there it is a failure.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing
    )
)]

pub mod config;
pub mod error;
pub mod telemetry;

pub mod access;
pub mod audit;
pub mod biometrics;
pub mod decode;
pub mod tensor;

pub mod detect;
pub mod embed;
pub mod model;
pub mod pipeline;

pub mod gallery;
pub mod matching;
pub mod runtime;

pub mod cli;
pub mod client;
pub mod contract;
pub mod server;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
