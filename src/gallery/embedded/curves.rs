//! Calibration curves, of galleries and of packs: kept like galleries, durable before they are used.

use std::sync::Arc;

use super::curve_record::{CurveOwner, NewCurve, curve_record, known_curve};
use super::galleries::{EmbeddedGalleries, find_gallery};
use super::index::Delta;
use super::record::now;
use super::store::{Store, Write};
use super::writer::Change;
use crate::biometrics::calibration::{CurveOf, KnownCurve};
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::{Entity, Error};

/// Reads all curves of a store. One that is damaged is done without: what it would tell is an error then, never a guess.
pub(super) fn read_curves(store: &Store) -> Result<Vec<(CurveOwner, Arc<KnownCurve>)>, Error> {
    let mut curves = Vec::new();
    for entry in store.curves() {
        match entry? {
            (owner, Ok(record)) => match known_curve(record) {
                Ok(known) => curves.push((owner, Arc::new(known))),
                Err(error) => {
                    tracing::error!(?owner, %error, "a calibration curve is damaged and not used; set it again")
                }
            },
            (owner, Err(error)) => {
                tracing::error!(?owner, %error, "a calibration curve is damaged and not used; set it again");
            }
        }
    }
    Ok(curves)
}

impl EmbeddedGalleries {
    /// Returns an owner's own curve.
    pub fn curve(&self, owner: &CurveOwner) -> Option<Arc<KnownCurve>> {
        self.indexes.curve(owner)
    }

    /// Sets the curve of a gallery or a pack, in the place of the one before.
    ///
    /// *Errors*: [`Error::NotFound`] without the gallery; [`Error::PackMismatch`] where it is of other templates.
    pub async fn set_curve(&self, owner: CurveOwner, new: NewCurve) -> Result<Arc<KnownCurve>, Error> {
        let indexes = Arc::clone(&self.indexes);
        let change = move |change: &mut Change<'_>| {
            let (pack_id, of) = match &owner {
                CurveOwner::Pack(pack_id) => (pack_id.clone(), CurveOf::Pack),
                CurveOwner::Gallery(id) => {
                    let stored = find_gallery(change.store, id)?;
                    let identities = indexes.gallery(id).map_or(0, |(_, status)| status.counts.identities);
                    (stored.gallery.pack_id, CurveOf::Gallery { identities })
                }
            };
            let NewCurve { pack_id: found, curve, source } = new;
            if found != pack_id {
                return Err(Error::PackMismatch { expected: pack_id, found });
            }
            let known = Arc::new(KnownCurve::new(found, &curve, of, source, Some(now())));
            let mut write = Write::default();
            write.set_curve(&owner, &curve_record(&known));
            change.apply(write, Delta::CurveSet(owner, Some(Arc::clone(&known))))?;
            Ok(known)
        };
        self.writer.run(change).await
    }

    /// Takes an owner's own curve away.
    ///
    /// *Errors*: [`Error::NotFound`] where there is none.
    pub async fn remove_curve(&self, owner: CurveOwner) -> Result<(), Error> {
        let change = move |change: &mut Change<'_>| {
            if !change.store.has_curve(&owner)? {
                return Err(Error::NotFound(Entity::Curve));
            }
            let mut write = Write::default();
            write.remove_curve(&owner);
            change.apply(write, Delta::CurveSet(owner, None)).map(drop)
        };
        self.writer.run(change).await
    }

    /// Returns the ids of up to `count` identities of a gallery, chosen by chance, the same for the same seed.
    ///
    /// *Errors*: [`Error::NotFound`].
    pub fn some_identities(&self, gallery: &GalleryId, count: usize, seed: u64) -> Result<Vec<IdentityId>, Error> {
        self.indexes.some_identities(gallery, count, seed)
    }
}
