//! Enrols in the writer's turn.

use super::galleries::{find_gallery, set_identity};
use super::index::Indexes;
use super::others::Others;
use super::writer::Change;
use crate::biometrics::ids::GalleryId;
use crate::error::Error;
use crate::gallery::enrolment::{Enrolled, Enrolling, Enrollment};

/// *Errors*: those of [`super::EmbeddedGalleries::enroll`].
pub(super) fn enroll(
    change: &mut Change<'_>,
    indexes: &Indexes,
    gallery: &GalleryId,
    enrollment: Enrollment,
) -> Result<Enrolled, Error> {
    let stored = find_gallery(change.store, gallery)?;
    let existing = change.store.identity(&stored, &enrollment.identity)?;
    let enrolling = Enrolling::begin(&stored.gallery, existing, enrollment)?;
    let others = Others::new(&stored.gallery, indexes, change.pending());
    let identities = enrolling.identities_max().map_or(0, |_| others.count());
    let probes = enrolling.duplicate_probes();
    let best_others = if probes.is_empty() { Vec::new() } else { others.best(enrolling.identity(), &probes)? };
    let enrolled = enrolling.decide(identities, best_others)?;
    set_identity(change, &stored, enrolled.identity.clone())?;
    Ok(enrolled)
}
