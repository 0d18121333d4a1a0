//! Enrolment: new templates are held against those that are enrolled. What every store does between reading and writing; it
//! must do all three in one turn, so that of two calls with the same face the second sees the first's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::changes::IdentityChange;
use super::ranking::Ranked;
use super::record::now;
use super::types::{EnrolledTemplate, Gallery, GallerySettings, Identity, IfExists, PersonDetails};
use crate::biometrics::enrolment::{CheckDefaults, CheckPolicy, Finding};
use crate::biometrics::ids::{IdentityId, TemplateId};
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

/// An enrolment that a store has begun: who it is about is known, what is wanted is taken apart. The store finds out what
/// [`Enrolling::identities_max`] and [`Enrolling::duplicate_probes`] ask for, decides, and writes.
pub(super) struct Enrolling {
    identity: Identity,
    is_new: bool,
    new: Vec<EnrolledTemplate>,
    has_known: bool,
    may_refuse_all: bool,
    identities_max: Option<u64>,
    lines: Lines,
    policies: [CheckPolicy; 2],
    time: SystemTime,
}

impl Enrolling {
    /// Takes the identity as it is now, if there is one.
    ///
    /// *Errors*: [`Error::PackMismatch`]; [`Error::AlreadyExists`].
    pub(super) fn begin(gallery: &Gallery, existing: Option<Identity>, enrollment: Enrollment) -> Result<Self, Error> {
        for enrolled in &enrollment.templates {
            enrolled.template.check_fits(&gallery.pack_id, gallery.dimension)?;
        }
        if existing.is_some() && enrollment.if_exists == IfExists::Refuse {
            return Err(Error::AlreadyExists(Entity::Identity));
        }
        let (is_new, time) = (existing.is_none(), now());
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
        let GallerySettings { duplicates, consistency, .. } = &gallery.settings;
        Ok(Self {
            identity,
            is_new,
            new,
            has_known: !known.is_empty(),
            may_refuse_all: enrollment.may_refuse_all,
            identities_max: enrollment.identities_max.filter(|_| is_new),
            lines: Lines::of(&gallery.settings, enrollment.check_defaults),
            policies: [duplicates.policy, consistency.policy],
            time,
        })
    }

    /// Returns from how many identities on the gallery takes no new one, where that must be looked at.
    pub(super) fn identities_max(&self) -> Option<u64> {
        self.identities_max
    }

    /// Returns who is enrolled, or would be.
    pub(super) fn identity(&self) -> &IdentityId {
        &self.identity.id
    }

    /// Returns the templates for each of which the best other identity must be found; none where the gallery does not look.
    pub(super) fn duplicate_probes(&self) -> Vec<&Template> {
        let probes = self.new.iter().map(|enrolled| &enrolled.template);
        if self.lines.duplicate.is_some() { probes.collect() } else { Vec::new() }
    }

    /// Decides, by how many identities the gallery holds and the best other identity of each probe.
    ///
    /// *Errors*: [`Error::IdentitiesMax`]; [`Error::Refused`]; [`Error::TooManyTemplates`]; [`Error::BadField`].
    pub(super) fn decide(mut self, identities: u64, best_others: Vec<Option<Ranked>>) -> Result<Enrolled, Error> {
        if let Some(limit) = self.identities_max.filter(|limit| identities >= *limit) {
            return Err(Error::IdentitiesMax { limit });
        }
        let Taken { added, first_refused, refused, warnings } = self.take_in(best_others)?;
        let nothing_enrolled = added.is_empty() && !self.has_known && !self.may_refuse_all;
        if let Some(finding) = first_refused.filter(|_| nothing_enrolled || self.identity.templates.is_empty()) {
            return Err(Error::Refused(finding));
        }
        let found = self.identity.templates.len();
        if found > Identity::TEMPLATES_MAX {
            return Err(Error::TooManyTemplates { found, limit: Identity::TEMPLATES_MAX });
        }
        if found == 0 {
            return Err(Error::bad_field("samples", "at least one that gives a template"));
        }
        self.identity.updated = self.time;
        Ok(Enrolled { identity: self.identity, is_new: self.is_new, added, refused, warnings })
    }

    /// Adds those of the new templates that the gallery's policies let in, one after the other.
    fn take_in(&mut self, best_others: Vec<Option<Ranked>>) -> Result<Taken, Error> {
        let mut best_others = best_others.into_iter();
        let mut taken = Taken::default();
        for enrolled in std::mem::take(&mut self.new) {
            let duplicate = self.lines.duplicate.and_then(|line| duplicate(line, best_others.next()?));
            let unlike = match self.lines.consistency {
                Some(line) => find_unlike(line, &enrolled.template, &self.identity)?,
                None => None,
            };
            let found = [duplicate, unlike].into_iter().zip(self.policies);
            let found = found.filter_map(|(found, policy)| Some((found?, policy)));
            let (refusals, warnings): (Vec<_>, Vec<_>) = found.partition(|(_, policy)| *policy == CheckPolicy::Reject);
            if !warnings.is_empty() {
                taken.warnings.insert(enrolled.id.clone(), warnings.into_iter().map(|(finding, _)| finding).collect());
            }
            if let Some((finding, _)) = refusals.into_iter().next() {
                taken.first_refused.get_or_insert_with(|| finding.clone());
                taken.refused.insert(enrolled.id, finding);
            } else {
                taken.added.insert(enrolled.id.clone());
                self.identity.templates.push(enrolled);
            }
        }
        Ok(taken)
    }
}

/// What became of new templates.
#[derive(Default)]
struct Taken {
    added: BTreeSet<TemplateId>,
    first_refused: Option<Finding>,
    refused: BTreeMap<TemplateId, Finding>,
    warnings: BTreeMap<TemplateId, Vec<Finding>>,
}

/// The other identity that a template might be of.
fn duplicate(line: Threshold, best: Option<Ranked>) -> Option<Finding> {
    let best = best.filter(|best| line.admits(best.score))?;
    Some(Finding::DuplicateIdentity { identity: best.identity, score: best.score, threshold: line })
}

/// Finds out whether a template is unlike all that its identity has.
fn find_unlike(line: Threshold, template: &Template, identity: &Identity) -> Result<Option<Finding>, Error> {
    let scores = identity.templates.iter().map(|known| template.score(&known.template));
    let best = scores.collect::<Result<Vec<Score>, Error>>()?.into_iter().max_by(Score::total_cmp);
    let unlike = best.filter(|best| !line.admits(*best));
    Ok(unlike.map(|score| Finding::UnlikeIdentity { score, threshold: line }))
}
