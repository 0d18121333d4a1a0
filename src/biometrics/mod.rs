//! Pure types and maths of the domain: no input or output, no library of an adapter.

pub mod calibration;
pub mod decision;
pub mod enrolment;
pub mod face;
pub mod fusion;
pub mod ids;
pub mod interval;
pub mod pose;
pub mod quality;
pub mod score;
pub mod template;
