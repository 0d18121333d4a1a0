//! What may be done to which galleries.

use std::fmt;
use std::str::FromStr;

use crate::biometrics::ids::GalleryId;
use crate::error::Error;

/// What may be done. `Admin` includes all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Ask: verify, identify, detect, look at galleries and identities.
    Read,
    /// Enrol and change identities.
    Enrol,
    /// Delete identities and templates.
    Delete,
    /// Make, change, delete, export, import, move and calibrate galleries; see stored templates; and all of the above.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Enrol, Scope::Delete, Scope::Admin];

    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Enrol => "enrol",
            Scope::Delete => "delete",
            Scope::Admin => "admin",
        }
    }
}

/// Which galleries are meant: one, all whose ids begin alike (`door-*`), or all (`*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GalleryPattern {
    text: String,
    is_prefix: bool,
}

impl GalleryPattern {
    /// Reads a pattern.
    ///
    /// *Errors*: [`Error::BadField`] where it is neither an id of a gallery nor the beginning of one with `*` behind.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |_| Error::bad_field("galleries", "the id of a gallery, the beginning of one with * behind, or *");
        match text.strip_suffix('*') {
            // A beginning of an id is an id, but for the empty one.
            Some(prefix) => {
                if !prefix.is_empty() {
                    GalleryId::parse(prefix).map_err(bad)?;
                }
                Ok(Self { text: prefix.to_owned(), is_prefix: true })
            }
            None => {
                GalleryId::parse(text).map_err(bad)?;
                Ok(Self { text: text.to_owned(), is_prefix: false })
            }
        }
    }

    fn covers(&self, gallery: &str) -> bool {
        if self.is_prefix { gallery.starts_with(&self.text) } else { gallery == self.text }
    }

    fn covers_all(&self) -> bool {
        self.is_prefix && self.text.is_empty()
    }
}

impl fmt::Display for GalleryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

/// One scope on some galleries. As text: `enrol:door-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What may be done.
    pub scope: Scope,
    /// To which galleries.
    pub galleries: GalleryPattern,
}

impl FromStr for Grant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let expected = || {
            Error::bad_field(
                "grant",
                "SCOPE:GALLERIES, such as read:* or enrol:door-*; scopes are read, enrol, delete and admin",
            )
        };
        let (scope, galleries) = text.split_once(':').ok_or_else(expected)?;
        let scope = Scope::ALL.into_iter().find(|known| known.as_str() == scope).ok_or_else(expected)?;
        Ok(Self { scope, galleries: GalleryPattern::parse(galleries)? })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scope.as_str(), self.galleries)
    }
}

/// All that a principal may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// Grants of a key at most.
    pub const COUNT_MAX: usize = 64;

    /// Puts grants together.
    ///
    /// *Errors*: [`Error::BadField`] where there are none or too many.
    pub fn new(grants: Vec<Grant>) -> Result<Self, Error> {
        if (1..=Self::COUNT_MAX).contains(&grants.len()) {
            Ok(Self(grants))
        } else {
            Err(Error::bad_field("grants", "1 to 64 grants"))
        }
    }

    /// Returns the grants of everything.
    pub fn all() -> Self {
        let galleries = GalleryPattern { text: String::new(), is_prefix: true };
        Self(vec![Grant { scope: Scope::Admin, galleries }])
    }

    /// Tells whether a scope is granted on a gallery, whether or not that exists.
    pub fn allow(&self, scope: Scope, gallery: &str) -> bool {
        self.of(scope).any(|grant| grant.galleries.covers(gallery))
    }

    /// Tells whether a scope is granted on any gallery.
    pub fn allow_somewhere(&self, scope: Scope) -> bool {
        self.of(scope).next().is_some()
    }

    /// Tells whether a scope is granted on all galleries.
    pub fn allow_everywhere(&self, scope: Scope) -> bool {
        self.of(scope).any(|grant| grant.galleries.covers_all())
    }

    fn of(&self, scope: Scope) -> impl Iterator<Item = &Grant> {
        self.0.iter().filter(move |grant| grant.scope == scope || grant.scope == Scope::Admin)
    }

    /// Iterates over the grants.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        Grants::new(texts.iter().map(|text| text.parse().expect("a grant")).collect()).expect("grants")
    }

    #[test]
    fn grant_allows_its_scope_on_its_galleries_and_nothing_else() {
        let grants = grants(&["read:*", "enrol:door-*", "delete:staff"]);
        assert!(grants.allow(Scope::Read, "anything"));
        assert!(grants.allow(Scope::Enrol, "door-1") && grants.allow(Scope::Enrol, "door-"));
        assert!(!grants.allow(Scope::Enrol, "door") && !grants.allow(Scope::Enrol, "staff"));
        assert!(grants.allow(Scope::Delete, "staff") && !grants.allow(Scope::Delete, "staff-2"));
        assert!(!grants.allow_somewhere(Scope::Admin) && grants.allow_somewhere(Scope::Delete));
        assert!(grants.allow_everywhere(Scope::Read) && !grants.allow_everywhere(Scope::Enrol));
    }

    #[test]
    fn admin_includes_every_scope_on_its_own_galleries() {
        let grants = grants(&["admin:door-*"]);
        for scope in Scope::ALL {
            assert!(grants.allow(scope, "door-7") && !grants.allow(scope, "staff"), "{}", scope.as_str());
            assert!(grants.allow_somewhere(scope) && !grants.allow_everywhere(scope));
            assert!(Grants::all().allow_everywhere(scope));
        }
    }

    #[test]
    fn what_is_no_grant_is_refused_and_text_comes_back() {
        for text in ["", "read", "write:*", "read:", "Read:*", "read:**", "read:*x", "read:A", "read:a b", "enrol:-*"] {
            assert!(text.parse::<Grant>().is_err(), "{text:?}");
        }
        for text in ["read:*", "enrol:door-*", "delete:staff", "admin:a.b_c"] {
            assert_eq!(text.parse::<Grant>().expect("a grant").to_string(), text);
        }
        assert!(Grants::new(Vec::new()).is_err());
    }
}
