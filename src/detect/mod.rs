//! Image → faces. Pure: the network itself is run by the caller, between [`input`] and [`head`].
//!
//! photo → [`scales`] → [`input`] (letterbox, tensor) → network → [`head`] (decode) → [`suppress`] (one NMS) → faces

pub mod head;
pub mod input;
mod resize;
pub mod scales;
mod scrfd;
pub mod suppress;
mod yunet;
