//! Enrolment: new templates are held against those that are enrolled, and written.
//!
//! It runs in the writer's turn, so that of two calls with the same face the second sees the first's.

use std::collections::{BTreeMap, BTreeSet};

use super::galleries::{IdentityChange, find_gallery, set_identity};
use super::index::Indexes;
use super::others::Others;
use super::record::now;
use super::types::{EnrolledTemplate, Gallery, GallerySettings, Identity, IfExists, PersonDetails};
use super::writer::Change;
use crate::biometrics::enrolment::{CheckDefaults, CheckPolicy, Finding};
use crate::biometrics::ids::{GalleryId, IdentityId, TemplateId};
use crate::biometrics::score::{Score, Threshold};
use crate::biometrics::template::Template;
use crate::error::{Entity, Error};

/// What to enrol.
#[derive(Clone)]
pub struct Enrollment {
    /// Who.
    pub identity: IdentityId,
    /// What to keep of the person; of one who exists, what is stated replaces what is kept.
    pub change: IdentityChange,
    /// At least one, unless the identity exists. Ids that the identity has already are passed over.
    pub templates: Vec<EnrolledTemplate>,
    /// What to do where the identity exists.
    pub if_exists: IfExists,
    /// Where the gallery's checks draw the line, if it does not say.
    pub check_defaults: CheckDefaults,
    /// Whether it is enough that none of the templates is enrolled: others of the call are already.
    pub may_refuse_all: bool,
    /// A gallery of as many identities takes no new one; `None` takes any number.
    pub identities_max: Option<u64>,
}

/// What an enrolment made.
pub struct Enrolled {
    /// The identity as it is now.
    pub identity: Identity,
    /// Whether it is new.
    pub is_new: bool,
    /// Which templates were added: not those whose ids it had already.
    pub added: BTreeSet<TemplateId>,
    /// Which were not, because of the gallery's policies, and why.
    pub refused: BTreeMap<TemplateId, Finding>,
    /// What the gallery's policies warn of.
    pub warnings: BTreeMap<TemplateId, Vec<Finding>>,
}

/// The gallery's lines: `None` where it does not look.
struct Lines {
    duplicate: Option<Threshold>,
    consistency: Option<Threshold>,
}

impl Lines {
    fn of(settings: &GallerySettings, defaults: CheckDefaults) -> Self {
        let GallerySettings { duplicates, consistency, identification, .. } = settings;
        let duplicate = duplicates.cosine.or(*identification).unwrap_or(defaults.duplicate);
        Self {
            duplicate: (duplicates.policy != CheckPolicy::Off).then_some(duplicate),
            consistency: (consistency.policy != CheckPolicy::Off)
                .then_some(consistency.cosine.unwrap_or(defaults.consistency)),
        }
    }
}

/// Enrols in the writer's turn. *Errors*: those of [`super::Galleries::enroll`].
pub(super) fn enroll(
    change: &mut Change<'_>,
    indexes: &Indexes,
    gallery: &GalleryId,
    enrollment: Enrollment,
) -> Result<Enrolled, Error> {
    let stored = find_gallery(change.store, gallery)?;
    for enrolled in &enrollment.templates {
        enrolled.template.check_fits(&stored.gallery.pack_id, stored.gallery.dimension)?;
    }
    let existing = change.store.identity(&stored, &enrollment.identity)?;
    if existing.is_some() && enrollment.if_exists == IfExists::Refuse {
        return Err(Error::AlreadyExists(Entity::Identity));
    }
    let is_new = existing.is_none();
    if let Some(limit) = enrollment.identities_max.filter(|_| is_new)
        && Others::new(&stored.gallery, indexes, change.pending()).count() >= limit
    {
        return Err(Error::IdentitiesMax { limit });
    }
    let time = now();
    let mut identity = existing.unwrap_or_else(|| Identity {
        id: enrollment.identity,
        details: PersonDetails::default(),
        templates: Vec::new(),
        created: time,
        updated: time,
    });
    enrollment.change.apply_to(&mut identity.details);
    let mut ids: BTreeSet<TemplateId> = identity.templates.iter().map(|known| known.id.clone()).collect();
    let (new, known): (Vec<_>, Vec<_>) =
        enrollment.templates.into_iter().partition(|enrolled| ids.insert(enrolled.id.clone()));
    let others = Others::new(&stored.gallery, indexes, change.pending());
    let taken = take_in(&stored.gallery, enrollment.check_defaults, &others, &mut identity, new)?;
    let Taken { added, first_refused, refused, warnings } = taken;
    let nothing_enrolled = added.is_empty() && known.is_empty() && !enrollment.may_refuse_all;
    if let Some(finding) = first_refused.filter(|_| nothing_enrolled || identity.templates.is_empty()) {
        return Err(Error::Refused(finding));
    }
    let found = identity.templates.len();
    if found > Identity::TEMPLATES_MAX {
        return Err(Error::TooManyTemplates { found, limit: Identity::TEMPLATES_MAX });
    }
    if found == 0 {
        return Err(Error::bad_field("samples", "at least one that gives a template"));
    }
    identity.updated = time;
    Ok(Enrolled { identity: set_identity(change, &stored, identity)?, is_new, added, refused, warnings })
}

/// What became of new templates.
#[derive(Default)]
struct Taken {
    added: BTreeSet<TemplateId>,
    first_refused: Option<Finding>,
    refused: BTreeMap<TemplateId, Finding>,
    warnings: BTreeMap<TemplateId, Vec<Finding>>,
}

/// Adds those of the new templates to an identity that the gallery's policies let in, one after the other.
fn take_in(
    gallery: &Gallery,
    defaults: CheckDefaults,
    others: &Others<'_>,
    identity: &mut Identity,
    new: Vec<EnrolledTemplate>,
) -> Result<Taken, Error> {
    let lines = Lines::of(&gallery.settings, defaults);
    let duplicates = match lines.duplicate {
        Some(line) => find_duplicates(others, line, &identity.id, &new)?,
        None => vec![None; new.len()],
    };
    let mut taken = Taken::default();
    for (enrolled, duplicate) in new.into_iter().zip(duplicates) {
        let unlike = match lines.consistency {
            Some(line) => find_unlike(line, &enrolled.template, identity)?,
            None => None,
        };
        let policies = [gallery.settings.duplicates.policy, gallery.settings.consistency.policy];
        let found = [duplicate, unlike].into_iter().zip(policies).filter_map(|(found, policy)| Some((found?, policy)));
        let (refusals, warnings): (Vec<_>, Vec<_>) = found.partition(|(_, policy)| *policy == CheckPolicy::Reject);
        if !warnings.is_empty() {
            taken.warnings.insert(enrolled.id.clone(), warnings.into_iter().map(|(finding, _)| finding).collect());
        }
        if let Some((finding, _)) = refusals.into_iter().next() {
            taken.first_refused.get_or_insert_with(|| finding.clone());
            taken.refused.insert(enrolled.id, finding);
        } else {
            taken.added.insert(enrolled.id.clone());
            identity.templates.push(enrolled);
        }
    }
    Ok(taken)
}

/// Finds for each template the other identity that it might be of.
fn find_duplicates(
    others: &Others<'_>,
    line: Threshold,
    own: &IdentityId,
    new: &[EnrolledTemplate],
) -> Result<Vec<Option<Finding>>, Error> {
    let probes: Vec<&Template> = new.iter().map(|enrolled| &enrolled.template).collect();
    let best = others.best(own, &probes)?.into_iter().map(|best| best.filter(|best| line.admits(best.score)));
    let found = best.map(|best| {
        best.map(|best| Finding::DuplicateIdentity { identity: best.identity, score: best.score, threshold: line })
    });
    Ok(found.collect())
}

/// Finds out whether a template is unlike all that its identity has.
fn find_unlike(line: Threshold, template: &Template, identity: &Identity) -> Result<Option<Finding>, Error> {
    let scores = identity.templates.iter().map(|known| template.score(&known.template));
    let best = scores.collect::<Result<Vec<Score>, Error>>()?.into_iter().max_by(Score::total_cmp);
    let unlike = best.filter(|best| !line.admits(*best));
    Ok(unlike.map(|score| Finding::UnlikeIdentity { score, threshold: line }))
}
