//! Checked identifiers. None of them is ever logged.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // Identifiers may be names of people: they never reach a log through `Debug`.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

id! {
    /// Names a gallery: 1 to 64 of `a-z 0-9 - _ .`, starting with a letter or digit.
    GalleryId
}
id! {
    /// Names an identity within its gallery: 1 to 128 bytes of UTF-8 without control characters.
    IdentityId
}
id! {
    /// Names a template within its identity: 1 to 128 bytes of UTF-8 without control characters.
    TemplateId
}

impl GalleryId {
    /// The longest gallery id, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Checks a gallery id.
    ///
    /// *Errors*: [`Error::BadField`] where it is empty, too long or has another character.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let starts_well = text.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
        let all_known =
            text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte));
        if !starts_well || !all_known || text.len() > Self::BYTES_MAX {
            return Err(Error::bad_field(
                "gallery_id",
                "1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl IdentityId {
    /// Checks an identity id.
    ///
    /// *Errors*: [`Error::BadField`] where it is empty, too long or has a control character.
    pub fn parse(text: &str) -> Result<Self, Error> {
        free_id("identity_id", text).map(Self)
    }

    /// Makes an id that sorts by time of making (UUID version 7).
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }
}

impl TemplateId {
    /// Stands for all templates of an identity together, where a gallery's fusion makes one of them: the empty text, which
    /// names no template.
    pub(crate) fn of_all() -> Self {
        Self("".into())
    }

    /// Checks a template id.
    ///
    /// *Errors*: [`Error::BadField`] where it is empty, too long or has a control character.
    pub fn parse(text: &str) -> Result<Self, Error> {
        free_id("template_id", text).map(Self)
    }

    /// Makes an id that sorts by time of making (UUID version 7).
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }
}

fn free_id(field: &'static str, text: &str) -> Result<Arc<str>, Error> {
    let fits = (1..=128).contains(&text.len()) && !text.chars().any(char::is_control);
    if !fits {
        return Err(Error::bad_field(field, "1 to 128 bytes without control characters"));
    }
    Ok(text.into())
}

/// Names what computed a template: a hash of the recognition model and its preprocessing.
///
/// Two packs with the same recogniser and the same preprocessing have the same id, whatever their detectors.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackId(String);

impl PackId {
    /// Checks a pack id as it comes from a client or from the store.
    ///
    /// *Errors*: [`Error::BadField`] where it is not 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !fits {
            return Err(Error::bad_field("pack_id", "32 hexadecimal digits, as Embed returns them"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Takes digits that were just computed.
    pub(crate) fn from_digits(digits: String) -> Self {
        Self(digits)
    }

    /// Returns the 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gallery_id_outside_its_alphabet_is_bad_field() {
        for text in ["", "Staff", "-x", "a b", "a/b", "é", &"a".repeat(65)] {
            assert!(GalleryId::parse(text).is_err(), "{text:?}");
        }
        for text in ["a", "staff", "2024-staff_x.y", &"a".repeat(64)] {
            assert!(GalleryId::parse(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn identity_id_with_control_or_excess_is_bad_field() {
        for text in ["", "a\nb", "\u{0}", &"a".repeat(129)] {
            assert!(IdentityId::parse(text).is_err(), "{text:?}");
        }
        assert!(IdentityId::parse("Łukasz O'Neill/3").is_ok());
    }

    #[test]
    fn identity_debug_hides_the_name() -> Result<(), Error> {
        assert!(!format!("{:?}", IdentityId::parse("Ada")?).contains("Ada"));
        Ok(())
    }
}
