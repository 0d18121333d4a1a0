//! All that is asked of the galleries on this machine.

use std::path::Path;
use std::sync::Arc;

use super::changes::{GalleryChange, IdentityChange};
use super::compaction::Compacting;
use super::curves;
use super::encryption::MasterKey;
use super::enrolment;
use super::error::StoreError;
use super::import::{Importing, Sole};
use super::index::{Delta, GalleryIndex, Indexes};
use super::keeper::Keeper;
use super::migration;
use super::record::now;
use super::snapshot;
use super::store::{Store, StoredGallery, Write};
use super::types::{Deletion, Gallery, GallerySettings, GalleryStatus, Identity, Page, Search, SearchOutcome};
use super::writer::{Change, Writer};
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::error::{Entity, Error};
use crate::gallery::enrolment::{Enrolled, Enrollment};

/// All galleries of a data folder.
pub struct EmbeddedGalleries {
    pub(super) store: Arc<Store>,
    pub(super) indexes: Arc<Indexes>,
    pub(super) writer: Arc<Writer>,
    pub(super) importing: Importing,
    pub(super) compacting: Compacting,
    pub(super) keeper: Keeper,
}

impl EmbeddedGalleries {
    /// Opens or makes the store in a folder and builds the indexes.
    ///
    /// A damaged identity is logged, counted ([`crate::gallery::GalleryCounts::damaged_identities`]) and not searched; a damaged gallery
    /// record is an error, since nothing tells which identities were its own.
    ///
    /// *Errors*: [`StoreError`]. *Cost*: reads every record. Blocks.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_with_key(folder, None)
    }

    /// Does the same by the key that the store is encrypted with. A new store is encrypted where there is a key.
    ///
    /// *Errors*: the same; where there is another key than the store's, or none, or one and the store is plain, nothing is
    /// touched.
    pub fn open_with_key(folder: &Path, key: Option<&MasterKey>) -> Result<Self, StoreError> {
        let store = Store::open(folder, key)?;
        let unopenable =
            |error: Error| StoreError::Unopenable { folder: folder.to_path_buf(), source: Box::new(error) };
        let indexes = Indexes::default();
        for entry in store.galleries() {
            let (id, stored) = entry.map_err(unopenable)?;
            let stored = stored.map_err(|_| StoreError::DamagedGallery(id))?;
            let loaded = snapshot::load(folder, &store, &stored).unwrap_or_else(|error| {
                tracing::warn!(%error, "a snapshot of an index is not used; the index is built from the store");
                None
            });
            indexes.insert(match loaded {
                Some(index) => index,
                None => build_index(&store, &stored).map_err(unopenable)?,
            });
        }
        remove_broken_migrations(&store).map_err(unopenable)?;
        for (owner, curve) in curves::read_curves(&store).map_err(unopenable)? {
            indexes.set_curve(owner, Some(curve));
        }
        store.shed(indexes.identities());
        let sequence = store.sequence().map_err(unopenable)?;
        let (store, indexes) = (Arc::new(store), Arc::new(indexes));
        let writer = Arc::new(Writer::start(Arc::clone(&store), Arc::clone(&indexes), sequence)?);
        let keeper = Keeper::start(folder, Arc::clone(&store), Arc::clone(&indexes), Arc::clone(&writer))?;
        let (importing, compacting) = (Importing::default(), Compacting::default());
        Ok(Self { store, indexes, writer, importing, compacting, keeper })
    }

    /// Tells whether writes are taken: not after a failed flush.
    pub fn is_writable(&self) -> bool {
        self.writer.is_running()
    }

    /// Finishes the queued writes; later ones are refused. Blocks.
    pub fn close(&self) {
        self.keeper.stop();
        self.writer.stop();
        self.indexes.stop();
    }

    /// Makes an empty gallery.
    ///
    /// *Errors*: [`Error::AlreadyExists`].
    pub async fn create_gallery(
        &self,
        id: GalleryId,
        settings: GallerySettings,
        pack_id: PackId,
        dimension: usize,
    ) -> Result<Gallery, Error> {
        let change = move |change: &mut Change<'_>| {
            if change.store.gallery(&id)?.is_some() {
                return Err(Error::AlreadyExists(Entity::Gallery));
            }
            let time = now();
            let gallery = Gallery { id, settings, pack_id, dimension, created: time, updated: time };
            set_gallery(change, StoredGallery { number: change.next_sequence(), gallery })
        };
        self.writer.run(change).await
    }

    /// Returns a gallery and how much it holds.
    ///
    /// *Errors*: [`Error::NotFound`].
    pub fn gallery(&self, id: &GalleryId) -> Result<(Gallery, GalleryStatus), Error> {
        self.indexes.gallery(id).ok_or(Error::NotFound(Entity::Gallery))
    }

    /// Returns up to `count` of some galleries after an id.
    pub fn list_galleries(
        &self,
        after: Option<&GalleryId>,
        count: usize,
        is_listed: impl Fn(&GalleryId) -> bool,
    ) -> Page<(Gallery, GalleryStatus)> {
        let (items, more) = self.indexes.galleries_after(after, count, is_listed);
        Page { items, more }
    }

    /// Changes a gallery's settings.
    ///
    /// *Errors*: [`Error::NotFound`]. *Cost*: of a new fusion rule, every identity is read and its rows are made anew, with
    /// memory for both until then; writes wait for that, searches do not.
    pub async fn update_gallery(&self, id: GalleryId, wanted: GalleryChange) -> Result<Gallery, Error> {
        let change = move |change: &mut Change<'_>| {
            let mut stored = find_gallery(change.store, &id)?;
            let fusion_before = stored.gallery.settings.fusion;
            wanted.apply_to(&mut stored.gallery.settings);
            stored.gallery.updated = now();
            if stored.gallery.settings.fusion == fusion_before {
                return set_gallery(change, stored);
            }
            // Of the store as it is now: what was written before is in it, what is written later follows as deltas.
            let delta = Delta::GalleryRebuilt(Box::new(build_index(change.store, &stored)?));
            write_gallery(change, stored, delta)
        };
        self.writer.run(change).await
    }

    /// Deletes a gallery; `force` also one that holds identities. Where there is none, what an import that broke off has left.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::GalleryNotEmpty`].
    pub async fn delete_gallery(&self, id: GalleryId, force: bool) -> Result<Deletion, Error> {
        let indexes = Arc::clone(&self.indexes);
        // What an import that broke off has left is deleted too; one that is under way goes first, also before its first step.
        let sole = match (self.store.staged(&id), self.store.gallery(&id)) {
            (Ok(None), Ok(Some(_))) => None,
            _ => Some(Sole::take(&self.importing, &id)?),
        };
        let change = move |change: &mut Change<'_>| {
            let _sole = sole;
            if change.store.gallery(&id)?.is_none()
                && let Some(staged) = change.store.staged(&id)?
            {
                let mut write = Write::default();
                write.remove_range(staged.number);
                write.remove_staged(&id);
                return Ok(Deletion { sequence: change.apply_unseen(write)?, time: now() });
            }
            let stored = find_gallery(change.store, &id)?;
            let is_empty = change.store.identities_after(&stored, None).next().is_none();
            if !is_empty && !force {
                let identities = indexes.gallery(&id).map_or(1, |(_, status)| status.counts.identities.max(1));
                return Err(Error::GalleryNotEmpty { identities });
            }
            let mut write = Write::default();
            write.remove_gallery(&stored);
            Ok(Deletion { sequence: change.apply(write, Delta::GalleryDropped(id))?, time: now() })
        };
        self.writer.run(change).await
    }

    /// Enrols an identity or adds templates to one, as the gallery's policies allow.
    ///
    /// *Errors*: [`Error::NotFound`] without the gallery; [`Error::PackMismatch`]; [`Error::AlreadyExists`];
    /// [`Error::TooManyTemplates`]; [`Error::Refused`] where a policy refuses every template. *Cost*: of the policy on
    /// duplicates an exact search, for which later writes wait.
    pub async fn enroll(&self, gallery: GalleryId, enrollment: Enrollment) -> Result<Enrolled, Error> {
        let indexes = Arc::clone(&self.indexes);
        self.writer.run(move |change| enrolment::enroll(change, &indexes, &gallery, enrollment)).await
    }

    /// Returns an identity.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::DataLoss`] where its record is damaged.
    pub fn identity(&self, gallery: &GalleryId, id: &IdentityId) -> Result<Identity, Error> {
        self.read_of(gallery, |stored| find_identity(&self.store, stored, id))
    }

    /// Reads of a gallery's identities, again where it moved to another pack meanwhile: those of before are then being removed.
    fn read_of<T>(&self, gallery: &GalleryId, read: impl Fn(&StoredGallery) -> Result<T, Error>) -> Result<T, Error> {
        let mut stored = find_gallery(&self.store, gallery)?;
        loop {
            let found = read(&stored);
            let now = find_gallery(&self.store, gallery)?;
            if now.number == stored.number {
                return found;
            }
            stored = now;
        }
    }

    /// Returns up to `count` identities after an id, as `keep` makes them, one at a time: a page of whole identities, with
    /// all their templates, would be megabytes. `keep` gets `None` for one whose record is damaged.
    ///
    /// *Errors*: [`Error::NotFound`] without the gallery.
    pub fn list_identities<T>(
        &self,
        gallery: &GalleryId,
        after: Option<&IdentityId>,
        count: usize,
        keep: impl Fn(&IdentityId, Option<Identity>) -> T,
    ) -> Result<Page<T>, Error> {
        self.read_of(gallery, |stored| {
            let mut following = self.store.identities_after(stored, after);
            let items = following.by_ref().take(count);
            let items = items.map(|entry| entry.map(|(id, identity)| keep(&id, identity.ok())));
            let items = items.collect::<Result<_, Error>>()?;
            Ok(Page { items, more: following.next().is_some() })
        })
    }

    /// Changes an identity's details.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::DataLoss`].
    pub async fn update_identity(
        &self,
        gallery: GalleryId,
        id: IdentityId,
        wanted: IdentityChange,
    ) -> Result<Identity, Error> {
        let change = move |change: &mut Change<'_>| {
            let stored = find_gallery(change.store, &gallery)?;
            let mut identity = find_identity(change.store, &stored, &id)?;
            wanted.apply_to(&mut identity.details);
            identity.updated = now();
            set_identity(change, &stored, identity)
        };
        self.writer.run(change).await
    }

    /// Deletes an identity and its templates; a damaged one too.
    ///
    /// *Errors*: [`Error::NotFound`].
    pub async fn delete_identity(&self, gallery: GalleryId, id: IdentityId) -> Result<Deletion, Error> {
        let change = move |change: &mut Change<'_>| {
            let stored = find_gallery(change.store, &gallery)?;
            if !change.store.contains(&stored, &id)? {
                return Err(Error::NotFound(Entity::Identity));
            }
            let mut write = Write::default();
            write.remove_identity(stored.number, &id);
            Ok(Deletion { sequence: change.apply(write, Delta::IdentityDropped(gallery, id))?, time: now() })
        };
        self.writer.run(change).await
    }

    /// Deletes one template of several.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::LastTemplate`]; [`Error::DataLoss`].
    pub async fn delete_template(
        &self,
        gallery: GalleryId,
        identity: IdentityId,
        template: TemplateId,
    ) -> Result<Deletion, Error> {
        let change = move |change: &mut Change<'_>| {
            let stored = find_gallery(change.store, &gallery)?;
            let mut identity = find_identity(change.store, &stored, &identity)?;
            let before = identity.templates.len();
            identity.templates.retain(|enrolled| enrolled.id != template);
            if identity.templates.len() == before {
                return Err(Error::NotFound(Entity::Template));
            }
            if identity.templates.is_empty() {
                return Err(Error::LastTemplate);
            }
            identity.updated = now();
            let mut write = Write::default();
            write.set_identity(stored.number, &identity);
            let delta = Delta::IdentitySet(gallery, Box::new(identity));
            Ok(Deletion { sequence: change.apply(write, delta)?, time: now() })
        };
        self.writer.run(change).await
    }

    /// Returns once everything that was written before is durable and visible.
    ///
    /// *Errors*: [`Error::Unavailable`] where it never will be.
    pub async fn settle(&self) -> Result<(), Error> {
        loop {
            match self.writer.run(|_| Ok(())).await {
                Err(Error::Overloaded { retry_after }) => tokio::time::sleep(retry_after).await,
                settled => return settled,
            }
        }
    }

    /// Ranks the identities of a gallery, ties by id. Blocks for as long as the search takes.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::PackMismatch`].
    pub fn search(&self, gallery: &GalleryId, search: Search) -> Result<SearchOutcome, Error> {
        let outcome = self.search_many(gallery, vec![search])?.pop();
        outcome.ok_or_else(|| Error::internal("a search without an outcome"))
    }

    /// Ranks the identities of a gallery for several probes, which share passes over it; outcomes in the order of the
    /// searches. Blocks for as long as the searches take.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::PackMismatch`].
    pub fn search_many(&self, gallery: &GalleryId, searches: Vec<Search>) -> Result<Vec<SearchOutcome>, Error> {
        self.indexes.search_many(gallery, searches)
    }
}

/// Has what migrations that did not end have written removed.
fn remove_broken_migrations(store: &Store) -> Result<(), Error> {
    for number in store.migrations()? {
        tracing::warn!("a migration of a gallery did not end; what it had written is removed");
        let sequence = store.sequence()?.saturating_add(1);
        store.apply(migration::removal(number), sequence)?;
        store.flush()?;
    }
    Ok(())
}

pub(super) fn build_index(store: &Store, stored: &StoredGallery) -> Result<GalleryIndex, Error> {
    let mut index = GalleryIndex::new(stored.number, stored.gallery.clone());
    let mut damaged = 0;
    for entry in store.identities_after(stored, None) {
        let (id, identity) = entry?;
        match identity {
            Ok(identity) => index.set_identity(&identity),
            Err(_) => {
                index.set_damaged(id);
                damaged += 1;
            }
        }
    }
    if damaged > 0 {
        tracing::error!(
            damaged,
            "identities with damaged records are not searched: list them, delete and enrol them again, or restore"
        );
    }
    Ok(index)
}

fn set_gallery(change: &mut Change<'_>, stored: StoredGallery) -> Result<Gallery, Error> {
    let delta = Delta::GallerySet(stored.number, Box::new(stored.gallery.clone()));
    write_gallery(change, stored, delta)
}

fn write_gallery(change: &mut Change<'_>, stored: StoredGallery, delta: Delta) -> Result<Gallery, Error> {
    let mut write = Write::default();
    write.set_gallery(&stored);
    change.apply(write, delta)?;
    Ok(stored.gallery)
}

pub(super) fn set_identity(
    change: &mut Change<'_>,
    stored: &StoredGallery,
    identity: Identity,
) -> Result<Identity, Error> {
    let mut write = Write::default();
    write.set_identity(stored.number, &identity);
    change.apply(write, Delta::IdentitySet(stored.gallery.id.clone(), Box::new(identity.clone())))?;
    Ok(identity)
}

pub(super) fn find_gallery(store: &Store, id: &GalleryId) -> Result<StoredGallery, Error> {
    store.gallery(id)?.ok_or(Error::NotFound(Entity::Gallery))
}

fn find_identity(store: &Store, stored: &StoredGallery, id: &IdentityId) -> Result<Identity, Error> {
    store.identity(stored, id)?.ok_or(Error::NotFound(Entity::Identity))
}
