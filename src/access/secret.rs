//! The text of a key, shown once, and the salted hash of it that is kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::key::KeyId;
use crate::error::Error;

/// What every key begins with: scanners for leaked secrets look for such a word.
const PREFIX: &str = "fmk_";

/// 256 bits: nobody guesses that, so a plain hash is as good as a slow one.
const SECRET_BYTES: usize = 32;

/// The longest text that is looked at as a key.
const TEXT_BYTES_MAX: usize = 256;

/// The text of a key: `fmk_ID_SECRET`. Wiped when dropped, never in a log.
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    /// Makes a new one for a key.
    ///
    /// *Errors*: [`Error::Internal`] where the system has no random numbers.
    pub fn generate(id: &KeyId) -> Result<Self, Error> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        fill(&mut *secret)?;
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*secret));
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}_{}", id.as_str(), *secret))))
    }

    /// Takes a text that a caller or a file states.
    ///
    /// *Errors*: `None` where no key is so short or so long.
    pub fn stated(text: &str) -> Option<Self> {
        let text = text.trim();
        (SECRET_BYTES..=TEXT_BYTES_MAX).contains(&text.len()).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Returns the id in it.
    pub fn id(&self) -> Option<KeyId> {
        let (id, _) = self.0.strip_prefix(PREFIX)?.split_once('_')?;
        KeyId::parse(id).ok()
    }

    /// Returns the text, to show it once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

/// A salted SHA-256 of a key's text.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash {
    /// Random, of this key alone.
    pub salt: [u8; 16],
    /// SHA-256 of salt and text.
    pub hash: [u8; 32],
}

impl SecretHash {
    /// Hashes a key's text with a new salt.
    ///
    /// *Errors*: [`Error::Internal`] where the system has no random numbers.
    pub fn of(text: &KeyText) -> Result<Self, Error> {
        let mut salt = [0; 16];
        fill(&mut salt)?;
        Ok(Self { salt, hash: hash(&salt, text) })
    }

    /// Tells whether a text is the key's, in a time that does not depend on where they differ.
    pub fn is_of(&self, text: &KeyText) -> bool {
        hash(&self.salt, text).ct_eq(&self.hash).into()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

fn hash(salt: &[u8], text: &KeyText) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(text.expose()).finalize().into()
}

pub(super) fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_its_hashes_own_and_no_other_is() {
        let id = KeyId::generate().expect("an id");
        let (text, other) = (KeyText::generate(&id).expect("a key"), KeyText::generate(&id).expect("a key"));
        assert_eq!(text.id(), Some(id));
        let hash = SecretHash::of(&text).expect("a hash");
        assert!(hash.is_of(&text) && !hash.is_of(&other));
        let cut = KeyText::stated(&text.expose()[..text.expose().len() - 1]).expect("long enough");
        assert!(!hash.is_of(&cut));
        assert_ne!(hash, SecretHash::of(&text).expect("a hash"), "each hash has a salt of its own");
        assert!(!format!("{text:?}{hash:?}").contains(text.expose()));
    }

    #[test]
    fn what_is_no_key_has_no_id() {
        for text in ["", "short", &"x".repeat(257)] {
            assert!(KeyText::stated(text).is_none(), "{text:?}");
        }
        for text in ["fmk_", "fmk_a_", "xyz_abcdefgh_", "fmk_ABCDEFGH_"] {
            let text = format!("{text}{}", "s".repeat(43));
            assert_eq!(KeyText::stated(&text).and_then(|text| text.id()), None, "{text}");
        }
    }
}
