//! Writes a gallery as a file while it is searched and written to.
//!
//! The identities are read in order while writes go on; who changes meanwhile is noted, and written again behind the others.
//! The last few are written between two groups of the writer, so the file holds the gallery as it was at one moment.

use std::collections::BTreeSet;

use super::archive::{Encoder, Header, PART_BYTES};
use super::galleries::{Galleries, find_gallery};
use super::record;
use super::store::{Store, StoredGallery};
use crate::biometrics::ids::GalleryId;
use crate::error::{Entity, Error};

/// Changed identities written between two groups of the writer at most, unless they keep coming: 256 take some
/// milliseconds.
const LAST_CHANGES_MAX: usize = 256;
const ROUNDS_MAX: usize = 20;

/// A part of a file, and how far the export has come.
#[derive(Clone, Debug, Default)]
pub struct ExportPart {
    /// What follows in the file.
    pub bytes: Vec<u8>,
    /// Identities written so far, those written again counted again.
    pub identities: u64,
    /// Identities whose record is damaged: they are not in the file.
    pub damaged: u64,
}

struct Export<'a> {
    store: &'a Store,
    stored: StoredGallery,
    encoder: Encoder,
    identities: u64,
    damaged: u64,
}

impl Galleries {
    /// Writes a gallery as a file, part by part; an error of the taker ends the export. Blocks.
    ///
    /// *Errors*: [`Error::NotFound`], also where the gallery is deleted meanwhile; the taker's.
    pub fn export(
        &self,
        gallery: &GalleryId,
        mut take: impl FnMut(ExportPart) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let stored = find_gallery(&self.store, gallery)?;
        let number = stored.number;
        let watch = self.store.watch_identities(number);
        let mut export = Export { store: &self.store, stored, encoder: Encoder::default(), identities: 0, damaged: 0 };
        export.encoder.header(&Header::new(&export.stored.gallery));
        for entry in self.store.identities_after(&export.stored, None) {
            match entry?.1 {
                Ok(identity) => export.write(&identity),
                Err(_) => export.damaged += 1,
            }
            if export.encoder.waiting() >= PART_BYTES {
                take(export.part())?;
            }
        }
        let mut changed = watch.take();
        for _ in 0..ROUNDS_MAX {
            if changed.len() <= LAST_CHANGES_MAX {
                break;
            }
            export.write_changed(&changed)?;
            take(export.part())?;
            changed = watch.take();
        }
        take(export.part())?;
        let Export { stored, encoder, identities, damaged, .. } = export;
        let last = self.writer.submit(move |change| {
            changed.append(&mut watch.take());
            // Its settings as they are now, if it is still the same gallery.
            let now = find_gallery(change.store, &stored.gallery.id)?;
            if now.number != number {
                return Err(Error::NotFound(Entity::Gallery));
            }
            let mut export = Export { store: change.store, stored: now, encoder, identities, damaged };
            export.write_changed(&changed)?;
            export.encoder.end(record::gallery_record(0, &export.stored.gallery), change.sequence());
            Ok(export.part())
        })?;
        take(last.wait()?)
    }
}

impl Export<'_> {
    fn write(&mut self, identity: &super::types::Identity) {
        self.encoder.identity(identity);
        self.identities += 1;
    }

    fn write_changed(&mut self, keys: &BTreeSet<Vec<u8>>) -> Result<(), Error> {
        for key in keys {
            match self.store.noted_identity(&self.stored, key)? {
                (_, Ok(Some(identity))) => self.write(&identity),
                (id, Ok(None)) => self.encoder.removed(&id),
                (id, Err(_)) => {
                    self.encoder.removed(&id);
                    self.damaged += 1;
                }
            }
        }
        Ok(())
    }

    fn part(&mut self) -> ExportPart {
        ExportPart { bytes: self.encoder.take(), identities: self.identities, damaged: self.damaged }
    }
}
