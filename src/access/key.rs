//! A key as it is kept: all but its secret.

use std::fmt;
use std::time::SystemTime;

use super::grant::Grants;
use super::limits::KeyLimits;
use super::secret::{SecretHash, fill};
use crate::error::Error;

/// The longest name of a key and the longest subject of a certificate, in bytes.
const NAME_BYTES_MAX: usize = 128;
const SUBJECT_BYTES_MAX: usize = 512;

/// Names a key: twelve of `a-z 2-7`. It is no secret, and stands in logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    const LENGTH: usize = 12;

    /// Makes a new one.
    ///
    /// *Errors*: [`Error::Internal`] where the system has no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let mut random = [0; Self::LENGTH];
        fill(&mut random)?;
        // 32 letters, so each is as likely as the others.
        Ok(Self(
            random
                .iter()
                .map(|byte| {
                    char::from(b"abcdefghijklmnopqrstuvwxyz234567".get(usize::from(byte % 32)).copied().unwrap_or(b'a'))
                })
                .collect(),
        ))
    }

    /// Checks an id.
    ///
    /// *Errors*: [`Error::BadField`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
        if text.len() == Self::LENGTH && text.bytes().all(is_fit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::bad_field("key_id", "the id of a key: twelve of a-z and 2-7"))
        }
    }

    /// Returns its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What proves that a caller is the key's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Its text.
    Secret(SecretHash),
    /// A client certificate with this subject, as RFC 4514 writes it.
    CertificateSubject(String),
}

/// What is stated of a new key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For people.
    pub display_name: String,
    /// What it may do.
    pub grants: Grants,
    /// How much of it.
    pub limits: KeyLimits,
    /// From when on it is worth nothing.
    pub expires: Option<SystemTime>,
    /// Of the client certificate that stands for it; without one it gets a secret.
    pub certificate_subject: Option<String>,
}

impl NewKey {
    /// Checks texts and times.
    ///
    /// *Errors*: [`Error::BadField`].
    pub fn check(&self, now: SystemTime) -> Result<(), Error> {
        let is_fit =
            |text: &str, bytes_max: usize| (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control);
        if !is_fit(&self.display_name, NAME_BYTES_MAX) {
            return Err(Error::bad_field("display_name", "1 to 128 bytes without control characters"));
        }
        if self.certificate_subject.as_ref().is_some_and(|subject| !is_fit(subject, SUBJECT_BYTES_MAX)) {
            return Err(Error::bad_field("certificate_subject", "at most 512 bytes without control characters"));
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err(Error::bad_field("expire_time", "in the future"));
        }
        Ok(())
    }
}

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in logs.
    pub id: KeyId,
    /// For people.
    pub display_name: String,
    /// What proves that a caller is its own.
    pub credential: Credential,
    /// What it may do.
    pub grants: Grants,
    /// How much of it.
    pub limits: KeyLimits,
    /// When it was made.
    pub created: SystemTime,
    /// From when on it is worth nothing.
    pub expires: Option<SystemTime>,
}
