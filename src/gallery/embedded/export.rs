//! Writes a gallery as a file while it is searched and written to.
//!
//! The identities are read in order while writes go on; who changes meanwhile is noted, and written again behind the others.
//! The last few are written between two groups of the writer, so the file holds the gallery as it was at one moment.

use super::archive::{Encoder, Header, PART_BYTES};
use super::galleries::{EmbeddedGalleries, find_gallery};
use super::lasting::ExportPart;
use super::record;
use super::store::StoredGallery;
use super::types::Identity;
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::Error;

/// Changed identities written between two groups of the writer at most, unless they keep coming: 256 take some
/// milliseconds.
const LAST_CHANGES_MAX: usize = 256;
const ROUNDS_MAX: usize = 20;

struct Export {
    stored: StoredGallery,
    encoder: Encoder,
    identities: u64,
    damaged: u64,
}

impl EmbeddedGalleries {
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
        let mut export = Export { stored, encoder: Encoder::default(), identities: 0, damaged: 0 };
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
            take(export.part())?;
            changed.append(&mut watch.take());
            if changed.len() <= LAST_CHANGES_MAX {
                break;
            }
            for key in std::mem::take(&mut changed) {
                let (id, identity) = self.store.noted_identity(&export.stored, &key)?;
                export.write_changed(&id, identity, &mut take)?;
            }
        }
        let id = export.stored.gallery.id.clone();
        // In the writer's turn the last changes are only read.
        let last = self.writer.submit(move |change| {
            changed.append(&mut watch.take());
            // Its settings as they are now, if it is still the same gallery.
            let now = find_gallery(change.store, &id)?;
            if now.number != number {
                // Deleted and made anew, or moved.
                return Err(Error::Unavailable("the gallery moved to another pack meanwhile; export it again"));
            }
            let last = changed.iter().map(|key| change.store.noted_identity(&now, key));
            Ok((last.collect::<Result<Vec<_>, Error>>()?, now, change.sequence()))
        })?;
        let (last, now, sequence) = last.wait()?;
        for (id, identity) in last {
            export.write_changed(&id, identity, &mut take)?;
        }
        export.encoder.end(record::gallery_record(0, &now.gallery), sequence);
        take(export.part())
    }
}

impl Export {
    fn write(&mut self, identity: &Identity) {
        self.encoder.identity(identity);
        self.identities += 1;
    }

    fn write_changed(
        &mut self,
        id: &IdentityId,
        identity: Result<Option<Identity>, Error>,
        take: &mut impl FnMut(ExportPart) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match identity {
            Ok(Some(identity)) => self.write(&identity),
            Ok(None) => self.encoder.removed(id),
            Err(_) => {
                self.encoder.removed(id);
                self.damaged += 1;
            }
        }
        if self.encoder.waiting() >= PART_BYTES { take(self.part()) } else { Ok(()) }
    }

    fn part(&mut self) -> ExportPart {
        ExportPart { bytes: self.encoder.take(), identities: self.identities, damaged: self.damaged }
    }
}
