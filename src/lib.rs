//! facematch: a gRPC identity-matching engine.
//!
//! Face photos go in, templates come out, identities are kept durable, and two questions are answered: *is this the same
//! person?* (1:1) and *who is this?* (1:N).
//!
//! # The house
//! Data flows down this list; a module uses those above it.
//!
//! | Module | What |
//! |---|---|
//! | [`error`] | the engine's errors by class: the caller's fault, not now, ours |
//! | [`biometrics`] | pure types and maths: ids, faces, templates, scores, thresholds, decisions |
//! | [`decode`] | bytes → upright RGB photo within limits: where photo bytes enter |
//! | [`tensor`] | plain tensors and how pixels become them |
//! | [`detect`] | photo → faces |
//! | [`embed`] | face → aligned chip → template |
//! | [`model`] | model packs and the sessions that run them (adapter: ort) |
//! | [`pipeline`] | one photo through decode, detect, align, embed |
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

pub mod biometrics;
pub mod decode;
pub mod detect;
pub mod embed;
pub mod error;
pub mod model;
pub mod pipeline;
pub mod tensor;
