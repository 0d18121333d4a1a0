//! Who may do what: scopes, grants, keys and what a key may use. Nothing here knows gRPC.
//!
//! A caller shows a key, or a client certificate whose subject a key is bound to, and so becomes a [`Principal`]: what it may do
//! ([`Grants`]) and how much of it ([`KeyLimits`]). Where the server asks for no keys, everybody is one principal with all
//! rights.

mod grant;
mod key;
mod keys;
mod limits;
mod secret;

pub use grant::{GalleryPattern, Grant, Grants, Scope};
pub use key::{Credential, Key, KeyId, NewKey};
pub use keys::{Keys, Principal};
pub use limits::{KeyLimits, Place, Throttle};
pub use secret::{KeyText, SecretHash};
