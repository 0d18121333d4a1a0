//! What is asked to change of galleries and identities.

use std::collections::BTreeMap;

use super::types::{GallerySettings, MetadataValue, PersonDetails, RecallTarget, SearchPolicy, Served};
use crate::biometrics::decision::AmbiguityMargin;
use crate::biometrics::enrolment::CheckPolicy;
use crate::biometrics::fusion::Fusion;
use crate::biometrics::quality::QualityGate;
use crate::biometrics::score::Threshold;

/// Which settings of a gallery to change; `None` leaves one as it is.
#[derive(Clone, Debug, Default)]
pub struct GalleryChange {
    /// Free text.
    pub display_name: Option<String>,
    /// How it is searched.
    pub search_policy: Option<SearchPolicy>,
    /// How clear of a runner-up a match must be.
    pub ambiguity_margin: Option<AmbiguityMargin>,
    /// Its own identification threshold; `Some(None)` takes it away.
    pub identification: Option<Option<Threshold>>,
    /// What it asks of the photos it enrols.
    pub quality_gate: Option<QualityGate>,
    /// How the templates of an identity become its score.
    pub fusion: Option<Fusion>,
    /// What is done about a new template of somebody who is enrolled as another identity.
    pub duplicate_policy: Option<CheckPolicy>,
    /// From which cosine it is; `Some(None)` is the default.
    pub duplicate_cosine: Option<Option<Threshold>>,
    /// What is done about a new template that is unlike its identity's others.
    pub consistency_policy: Option<CheckPolicy>,
    /// Below which cosine it is; `Some(None)` is the default.
    pub consistency_cosine: Option<Option<Threshold>>,
    /// How many mates a graph must propose to be used.
    pub recall_target: Option<RecallTarget>,
    /// Whether chips of photos that are enrolled from now on are kept.
    pub keep_chips: Option<bool>,
    /// Which store serves it.
    pub served: Option<Served>,
}

/// Which details of an identity to change; `None` leaves one as it is.
#[derive(Clone, Default)]
pub struct IdentityChange {
    /// Free text.
    pub display_name: Option<String>,
    /// Replaces all metadata.
    pub metadata: Option<BTreeMap<String, MetadataValue>>,
}

impl GalleryChange {
    /// Changes what is stated.
    pub fn apply_to(self, settings: &mut GallerySettings) {
        set(&mut settings.display_name, self.display_name);
        set(&mut settings.search_policy, self.search_policy);
        set(&mut settings.ambiguity_margin, self.ambiguity_margin);
        set(&mut settings.identification, self.identification);
        set(&mut settings.quality_gate, self.quality_gate);
        set(&mut settings.fusion, self.fusion);
        set(&mut settings.duplicates.policy, self.duplicate_policy);
        set(&mut settings.duplicates.cosine, self.duplicate_cosine);
        set(&mut settings.recall_target, self.recall_target);
        set(&mut settings.keep_chips, self.keep_chips);
        set(&mut settings.served, self.served);
        set(&mut settings.consistency.policy, self.consistency_policy);
        set(&mut settings.consistency.cosine, self.consistency_cosine);
    }
}

impl IdentityChange {
    pub(super) fn apply_to(self, details: &mut PersonDetails) {
        set(&mut details.display_name, self.display_name);
        set(&mut details.metadata, self.metadata);
    }
}

fn set<T>(field: &mut T, wanted: Option<T>) {
    if let Some(value) = wanted {
        *field = value;
    }
}
