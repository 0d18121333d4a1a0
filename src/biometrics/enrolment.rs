//! What a gallery checks of a new template against those that are enrolled.

use std::fmt;

use super::ids::IdentityId;
use super::score::{Score, Threshold};

/// What a gallery does about a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckPolicy {
    /// Does not look.
    #[default]
    Off,
    /// Enrols, and tells.
    Warn,
    /// Does not enrol.
    Reject,
}

/// A check and where it draws the line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Check {
    /// What is done about a finding.
    pub policy: CheckPolicy,
    /// The cosine; `None` is the default of the check.
    pub cosine: Option<Threshold>,
}

/// The cosines of checks whose gallery states none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckDefaults {
    /// From which another identity is the same person: the pack's identification threshold.
    pub duplicate: Threshold,
    /// Below which a template is not the same person's: the pack's verification threshold.
    pub consistency: Threshold,
}

impl Default for CheckDefaults {
    /// Those of a pack that states none.
    fn default() -> Self {
        Self { duplicate: Threshold::IDENTIFICATION_DEFAULT, consistency: Threshold::VERIFICATION_DEFAULT }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Another identity scores at or above the line: the person is enrolled already.
    DuplicateIdentity {
        /// The best of the others.
        identity: IdentityId,
        /// Its score.
        score: Score,
        /// The line.
        threshold: Threshold,
    },
    /// The identity's own templates all score below the line: somebody else's photo.
    UnlikeIdentity {
        /// The best of them.
        score: Score,
        /// The line.
        threshold: Threshold,
    },
}

impl Finding {
    /// Returns the stable reason of a refusal.
    pub fn reason(&self) -> &'static str {
        match self {
            Finding::DuplicateIdentity { .. } => "DUPLICATE_IDENTITY",
            Finding::UnlikeIdentity { .. } => "UNLIKE_IDENTITY",
        }
    }

    /// Returns the score and the line it was held against.
    pub fn measured(&self) -> (Score, Threshold) {
        match self {
            Finding::DuplicateIdentity { score, threshold, .. } | Finding::UnlikeIdentity { score, threshold } => {
                (*score, *threshold)
            }
        }
    }

    /// Returns who is enrolled already.
    pub fn duplicate_of(&self) -> Option<&IdentityId> {
        match self {
            Finding::DuplicateIdentity { identity, .. } => Some(identity),
            Finding::UnlikeIdentity { .. } => None,
        }
    }
}

// For the caller. It names an identity, so it never goes to a log.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (score, threshold) = self.measured();
        let (score, cosine) = (score.cosine(), threshold.cosine());
        match self {
            Finding::DuplicateIdentity { identity, .. } => {
                write!(f, "already enrolled as {:?} (score {score:.4}, duplicate from {cosine:.4})", identity.as_str())
            }
            Finding::UnlikeIdentity { .. } => {
                write!(
                    f,
                    "does not look like this identity's other photos (best score {score:.4}, alike from {cosine:.4})"
                )
            }
        }
    }
}

impl std::error::Error for Finding {}
