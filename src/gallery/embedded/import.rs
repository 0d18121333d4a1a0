//! Reads a gallery from a file. What has come is durable in steps, but nobody sees a gallery before its end has come.
//!
//! Its identities lie under a number of their own from the start, and a staged record says how far the file has been read;
//! both are written together. The end makes the number a gallery's, in one write. An import that breaks off leaves the staged
//! record: it goes on where that says, or another file takes its place.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::archive::{Decoder, End, Frame, Header, Position, begun_gallery, check_end, check_header, check_identity};
use super::galleries::{EmbeddedGalleries, build_index};
use super::index::{Delta, GalleryIndex};
use super::lasting::ImportState;
use super::record::{self, StagedRecord};
use super::store::{Store, StoredGallery, Write};
use super::types::{Gallery, Served};
use super::writer::{Submitted, Writer};
use crate::biometrics::ids::{GalleryId, PackId};
use crate::error::{Entity, Error};

/// Bytes of the file between two durable steps, about: fewer cost flushes, more would let other writes wait.
const STEP_BYTES: u64 = 2 << 20;

/// Imports under way at a time: each holds some megabytes of messages.
const IMPORTS_MAX: usize = 8;

/// What to tell one import too many.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A gallery's import under way. Dropped, it has broken off, and can be resumed.
pub struct Import {
    id: GalleryId,
    store: Arc<Store>,
    writer: Arc<Writer>,
    decoder: Decoder,
    begun: Option<Begun>,
    /// Where the last step ended.
    stepped: Position,
    step: Write,
    /// The step before, which may still be on its way to the disk.
    submitted: Steps,
    end: Option<End>,
    _sole: Sole,
}

/// What is there once the header has come.
struct Begun {
    staged: StagedRecord,
    gallery: StoredGallery,
    index: GalleryIndex,
}

impl EmbeddedGalleries {
    /// Returns how far an import into a gallery had come when it broke off.
    ///
    /// *Errors*: [`Error::NotFound`] where there is none.
    pub fn import_state(&self, gallery: &GalleryId) -> Result<ImportState, Error> {
        let staged = self.store.staged(gallery)?.ok_or(Error::NotFound(Entity::Import))?;
        Ok(ImportState { export_id: staged.export_id, offset: staged.offset })
    }

    /// Begins to import a gallery from the start of a file, or resumes at the offset that [`EmbeddedGalleries::import_state`]
    /// says. Blocks; resuming reads what is there.
    ///
    /// *Errors*: [`Error::AlreadyExists`] where there is such a gallery; [`Error::UnderWay`]; [`Error::BadField`] where
    /// it is not there that the import broke off.
    pub fn begin_import(&self, id: GalleryId, offset: u64) -> Result<Import, Error> {
        let sole = Sole::take(&self.importing, &id)?;
        if self.store.gallery(&id)?.is_some() {
            return Err(Error::AlreadyExists(Entity::Gallery));
        }
        let mut import = Import {
            id,
            store: Arc::clone(&self.store),
            writer: Arc::clone(&self.writer),
            decoder: Decoder::default(),
            begun: None,
            stepped: Position::default(),
            step: Write::default(),
            submitted: Steps(None),
            end: None,
            _sole: sole,
        };
        if offset > 0 {
            import.resume(offset)?;
        }
        Ok(import)
    }
}

impl Import {
    /// Takes what follows in the file. Blocks.
    ///
    /// *Errors*: [`Error::GalleryFile`]; those of a write.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.decoder.feed(bytes);
        while let Some(frame) = self.decoder.next()? {
            if self.end.is_some() {
                return Err(Error::GalleryFile("something follows its end"));
            }
            match frame {
                Frame::Header(header) => self.begin(header)?,
                Frame::Identity(id, record) => {
                    let begun = self.begun.as_mut().ok_or(NO_HEADER)?;
                    let gallery = &begun.gallery.gallery;
                    let identity = record::identity(id, record, gallery.dimension);
                    let identity = identity.map_err(|_| Error::GalleryFile("an identity has a value that is none"))?;
                    check_identity(&identity, gallery)?;
                    begun.index.set_identity(&identity);
                    self.step.set_identity(begun.gallery.number, &identity);
                }
                Frame::Removed(id) => {
                    let begun = self.begun.as_mut().ok_or(NO_HEADER)?;
                    begun.index.drop_identity(&id);
                    self.step.remove_identity(begun.gallery.number, &id);
                }
                Frame::End(end) => self.end = Some(end),
            }
            if self.decoder.position().offset - self.stepped.offset >= STEP_BYTES {
                self.take_step()?;
            }
        }
        Ok(())
    }

    /// Makes the gallery visible. Blocks.
    ///
    /// *Errors*: [`Error::GalleryFile`] where the end has not come; [`Error::AlreadyExists`].
    pub fn finish(self) -> Result<Gallery, Error> {
        self.finish_as(Served::Here)
    }

    /// The same, or what another store serves as yet.
    pub(super) fn finish_as(mut self, served: Served) -> Result<Gallery, Error> {
        self.take_step()?;
        self.submitted.0.take().map_or(Ok(()), Submitted::wait)?;
        if self.decoder.has_rest() {
            return Err(Error::GalleryFile("something follows its end, or its last frame is cut short"));
        }
        let end = self.end.ok_or(Error::GalleryFile("its end is missing"))?;
        let mut begun = self.begun.ok_or(NO_HEADER)?;
        self.submitted.0 = None;
        let gallery = check_end(end, &begun.gallery.gallery, served)?;
        if gallery.settings.fusion == begun.gallery.gallery.settings.fusion {
            begun.index.set_gallery(gallery.clone());
        } else {
            // Rows were made as identities came, before the rule was known.
            let stored = StoredGallery { number: begun.gallery.number, gallery: gallery.clone() };
            begun.index = build_index(&self.store, &stored)?;
        }
        let identities = begun.index.rows.identities() as u64;
        let visible = self.writer.submit(move |change| {
            if change.store.gallery(&gallery.id)?.is_some() {
                return Err(Error::AlreadyExists(Entity::Gallery));
            }
            let mut write = Write::default();
            write.set_gallery(&StoredGallery { number: begun.gallery.number, gallery: gallery.clone() });
            write.remove_staged(&gallery.id);
            change.apply(write, Delta::GalleryAdded(Box::new(begun.index)))?;
            Ok(gallery)
        })?;
        let gallery = visible.wait()?;
        self.store.shed(identities);
        Ok(gallery)
    }

    fn begin(&mut self, header: Header) -> Result<(), Error> {
        let gallery = check_header(self.id.clone(), &header)?;
        let id = self.id.clone();
        // An import that broke off gives way; its number is never used again.
        let number = self.writer.submit(move |change| {
            let mut write = Write::default();
            if let Some(staged) = change.store.staged(&id)? {
                write.remove_range(staged.number);
            }
            write.remove_staged(&id);
            change.apply_unseen(write)
        })?;
        let staged = StagedRecord {
            number: number.wait()?,
            export_id: header.export_id,
            pack_id: header.pack_id,
            dimension: header.dimension,
            gallery: header.gallery,
            ..StagedRecord::default()
        };
        let gallery = StoredGallery { number: staged.number, gallery };
        let index = GalleryIndex::new(gallery.number, gallery.gallery.clone());
        self.begun = Some(Begun { staged, gallery, index });
        Ok(())
    }

    fn resume(&mut self, offset: u64) -> Result<(), Error> {
        let staged = self.store.staged(&self.id)?.filter(|staged| staged.offset == offset);
        let staged = staged.ok_or_else(|| Error::bad_field("offset", "where the import broke off: see GetImport"))?;
        let pack_id = PackId::parse(&staged.pack_id).map_err(Error::internal)?;
        let settings = staged.gallery.as_ref();
        let gallery = begun_gallery(self.id.clone(), pack_id, staged.dimension as usize, settings);
        let gallery = StoredGallery { number: staged.number, gallery };
        let index = build_index(&self.store, &gallery)?;
        self.stepped = Position { offset, chain: staged.chain, frames: staged.frames };
        self.decoder = Decoder::resume(self.stepped);
        self.begun = Some(Begun { staged, gallery, index });
        Ok(())
    }

    /// Has what came since the last step written, and how far it came with it.
    fn take_step(&mut self) -> Result<(), Error> {
        let Some(begun) = &self.begun else { return Ok(()) };
        let position = self.decoder.position();
        // An end is read again after a break.
        if position == self.stepped || self.end.is_some() && position.frames == self.stepped.frames + 1 {
            return Ok(());
        }
        let mut write = std::mem::take(&mut self.step);
        if self.end.is_none() {
            let Position { offset, chain, frames } = position;
            write.set_staged(&self.id, &StagedRecord { offset, chain, frames, ..begun.staged.clone() });
        }
        // One step may be on its way while the next is read.
        let before = self.submitted.0.replace(self.writer.submit(move |change| change.apply_unseen(write).map(drop))?);
        self.stepped = position;
        before.map_or(Ok(()), Submitted::wait)
    }
}

const NO_HEADER: Error = Error::GalleryFile("it has no header");

/// Ids of the galleries that are being imported: two imports must not write to one staged record.
pub(super) type Importing = Arc<Mutex<BTreeSet<GalleryId>>>;

pub(super) struct Sole {
    importing: Importing,
    id: GalleryId,
}

impl Sole {
    pub(super) fn take(importing: &Importing, id: &GalleryId) -> Result<Self, Error> {
        let mut ids = importing.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= IMPORTS_MAX {
            return Err(Error::Overloaded { retry_after: RETRY_AFTER });
        }
        if !ids.insert(id.clone()) {
            return Err(Error::UnderWay("another import into this gallery, or a migration of it,"));
        }
        Ok(Self { importing: Arc::clone(importing), id: id.clone() })
    }
}

/// The last step, which whoever lets the import go waits for: what [`EmbeddedGalleries::import_state`] says then is the last word.
struct Steps(Option<Submitted<()>>);

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(submitted) = self.0.take() {
            // Its error is not lost: the next step, or the resumed import, meets it.
            let _ = submitted.wait();
        }
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        self.importing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
