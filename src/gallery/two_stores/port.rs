//! Routes each call to the store that serves its gallery. A write runs to its end whatever becomes of its call: a switch must not
//! come between its beginning and its effect.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::{Place, Standing, TwoStores, Which, lock};
use crate::access::{Key, KeyId};
use crate::biometrics::calibration::KnownCurve;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::error::{Entity, Error};
use crate::gallery::{
    Capabilities, Compaction, CurveOwner, Deletion, Embed, Enrolled, Enrollment, ExportPart, Galleries, Gallery,
    GalleryChange, GallerySettings, GalleryStatus, Health, Identity, IdentityChange, IdentityOutline, ImportState,
    Importing, IsListed, Lasting, MigrationPlan, MigrationState, NewCurve, Page, Search, SearchOutcome, Served,
};

/// States that wait for the other end: what a slow one can make the server hold.
const WAITING_MAX: usize = 2;

const NOT_OPENED: &str = "a store could not be reached yet";

/// How often, and how long apart, what an import holds that has just been let go of is asked for.
const LET_GO_TRIES: usize = 100;
const LET_GO_INTERVAL: Duration = Duration::from_millis(100);

type Store = Arc<dyn Galleries>;

impl TwoStores {
    /// Writes to a gallery, and notes whose record was written to. What was noted before the writing ends would be read too early.
    async fn write<T: Send + 'static, F: Future<Output = Result<T, Error>> + Send + 'static>(
        self: &Arc<Self>,
        id: &GalleryId,
        whom: Option<IdentityId>,
        job: impl FnOnce(Store) -> F + Send + 'static,
    ) -> Result<T, Error> {
        let (stores, (place, _), id) = (Arc::clone(self), self.place(id).await?, id.clone());
        let written = async move {
            let _passing = Arc::clone(&place.gate).read_owned().await;
            let standing = stores.standing(&id, &place).await?;
            let store = Arc::clone(stores.side(standing.served_from).get()?);
            let result = job(store).await;
            whom.into_iter().for_each(|whom| place.note(whom));
            result
        };
        to_its_end(written).await
    }

    /// Deletes from the store that serves a gallery, then from what a move left in the other.
    async fn delete(
        self: &Arc<Self>,
        id: &GalleryId,
        whom: IdentityId,
        job: impl Fn(Store, IsCopy) -> BoxFuture<'static, Result<Deletion, Error>> + Send + 'static,
    ) -> Result<Deletion, Error> {
        let (stores, (place, _), id) = (Arc::clone(self), self.place(id).await?, id.clone());
        let deleted = async move {
            let _passing = Arc::clone(&place.gate).read_owned().await;
            let standing = stores.standing(&id, &place).await?;
            let served = job(Arc::clone(stores.side(standing.served_from).get()?), IsCopy(false)).await;
            place.note(whom);
            if !standing.has_copy || !matches!(served, Ok(_) | Err(Error::NotFound(_))) {
                return served;
            }
            match stores.delete_from_copy(&id, standing, job).await {
                // The first was deleted by a call that did not come to its end.
                Ok(Some(deletion)) => Ok(served.unwrap_or(deletion)),
                Ok(None) => served,
                Err(error) => {
                    tracing::error!(%error, "what a move left in the other store still holds what was deleted");
                    Err(error)
                }
            }
        };
        to_its_end(deleted).await
    }

    async fn delete_from_copy(
        &self,
        id: &GalleryId,
        standing: Standing,
        job: impl Fn(Store, IsCopy) -> BoxFuture<'static, Result<Deletion, Error>> + Send,
    ) -> Result<Option<Deletion>, Error> {
        if !self.is_copy(id, standing.served_from).await? {
            return Ok(None);
        }
        match job(Arc::clone(self.side(standing.served_from.other()).get()?), IsCopy(true)).await {
            Ok(deletion) => Ok(Some(deletion)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a gallery: first what a move left of it, so that nothing can bring that back.
    async fn delete_whole(&self, id: &GalleryId, force: bool) -> Result<Deletion, Error> {
        let (place, standing) = self.place(id).await?;
        self.check_may_go(id, standing, force).await?;
        // A move, or a migration, is ended first by whoever began it.
        let _working = place.begin_work()?;
        let _named = self.names.lock().await;
        let _alone = place.gate.write().await;
        let standing = self.standing(id, &place).await?;
        self.check_may_go(id, standing, force).await?;
        let mut of_copy = None;
        if standing.has_copy || standing.served_from == Which::Second {
            of_copy = self.delete_what_is_left(id, standing).await?;
        }
        let deleted = self.side(standing.served_from).get()?.delete_gallery(id.clone(), force).await;
        place.stand(None);
        match (deleted, of_copy) {
            (Err(Error::NotFound(_)), Some(deletion)) => Ok(deletion),
            (deleted, _) => deleted,
        }
    }

    /// *Errors*: [`Error::GalleryNotEmpty`].
    async fn check_may_go(&self, id: &GalleryId, standing: Standing, force: bool) -> Result<(), Error> {
        let serving = self.side(standing.served_from).get()?;
        let counts = match serving.gallery(id).await {
            Ok((_, status)) => Some(status.counts),
            Err(Error::NotFound(Entity::Gallery)) => None,
            Err(error) => return Err(error),
        };
        if let Some(identities) = counts.map(|counts| counts.identities).filter(|identities| !force && *identities > 0)
        {
            return Err(Error::GalleryNotEmpty { identities });
        }
        Ok(())
    }

    /// Deletes what a move left in the store that does not serve a gallery, also what one that broke off has; `None` where there is
    /// nothing.
    pub(super) async fn delete_what_is_left(
        &self,
        id: &GalleryId,
        standing: Standing,
    ) -> Result<Option<Deletion>, Error> {
        let other = self.side(standing.served_from.other());
        let is_there = other.find(id).await?.is_some();
        if is_there && !self.is_copy(id, standing.served_from).await? {
            return Ok(None);
        }
        for _ in 0..LET_GO_TRIES {
            match other.get()?.delete_gallery(id.clone(), is_there).await {
                Ok(deletion) => return Ok(Some(deletion)),
                Err(Error::NotFound(_)) => return Ok(None),
                // The move has just ended: its import lets go of it behind it.
                Err(Error::UnderWay(_)) => tokio::time::sleep(LET_GO_INTERVAL).await,
                Err(error) => return Err(error),
            }
        }
        Err(Error::UnderWay("an import into what the other store has of this gallery"))
    }
}

/// Whether what a move left is deleted from.
#[derive(Clone, Copy)]
struct IsCopy(bool);

/// Runs a write on a task of its own.
async fn to_its_end<T: Send + 'static>(
    written: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let written = tokio::spawn(written.in_current_span()).await;
    // A panic's own words may quote what must not be logged.
    written.map_err(|_| Error::internal("a write to a gallery panicked"))?
}

/// Reads from the store that serves a gallery; once more where the gallery has moved meanwhile, and what it left is gone.
macro_rules! read {
    ($stores:ident, $id:expr, |$store:ident| $read:expr) => {{
        let (place, standing) = $stores.place($id).await?;
        let $store = $stores.side(standing.served_from).get()?;
        match $read.await {
            Err(Error::NotFound(Entity::Gallery)) if $stores.standing($id, &place).await? != standing => {
                let $store = $stores.serving($id).await?;
                $read.await
            }
            done => done,
        }
    }};
}

#[async_trait]
impl Galleries for Arc<TwoStores> {
    fn capabilities(&self) -> Capabilities {
        self.first.get().map_or(Capabilities { is_shared: false }, |first| first.capabilities())
    }

    fn health(&self) -> Health {
        // What the first store serves does not need the second.
        let needs_second =
            |place: &Arc<Place>| lock(&place.standing).is_some_and(|standing| standing.served_from == Which::Second);
        let second = match lock(&self.places).values().any(needs_second) {
            true => self.second.get().map_or(Health::Unreachable(NOT_OPENED), |second| second.health()),
            false => Health::Ready,
        };
        match (self.first.get().map_or(Health::Unreachable(NOT_OPENED), |first| first.health()), second) {
            (Health::Ready, second) => second,
            (Health::ReadOnly(_), second @ Health::Unreachable(_)) => second,
            (first, _) => first,
        }
    }

    async fn close(&self) {
        for side in [&self.first, &self.second] {
            if let Some(galleries) = side.opened.get() {
                galleries.close().await;
            }
        }
    }

    async fn create_gallery(
        &self,
        id: GalleryId,
        settings: GallerySettings,
        pack_id: PackId,
        dimension: usize,
    ) -> Result<Gallery, Error> {
        let _named = self.names.lock().await;
        self.check_free(&id).await?;
        self.first.get()?.create_gallery(id, settings, pack_id, dimension).await
    }

    async fn gallery(&self, id: &GalleryId) -> Result<(Gallery, GalleryStatus), Error> {
        read!(self, id, |store| store.gallery(id))
    }

    async fn list_galleries(
        &self,
        after: Option<&GalleryId>,
        count: usize,
        is_listed: IsListed<'_>,
    ) -> Result<Page<(Gallery, GalleryStatus)>, Error> {
        let mut items = Vec::new();
        let mut after = after.cloned();
        loop {
            // The same page of both: beyond the shorter one's end nothing is known of the other yet.
            let first = self.first.get()?.list_galleries(after.as_ref(), count, is_listed).await?;
            let second = self.second.get()?.list_galleries(after.as_ref(), count, is_listed).await?;
            let ends = [&first, &second].into_iter().filter(|page| page.more);
            let known_until = ends.filter_map(|page| page.items.last().map(|(gallery, _)| gallery.id.clone())).min();
            let listed = first.items.iter().chain(&second.items).map(|(gallery, _)| gallery.id.clone());
            let ids: BTreeSet<GalleryId> = listed.filter(|id| known_until.iter().all(|end| id <= end)).collect();
            for id in ids {
                let at = match self.place(&id).await?.1.served_from {
                    Which::First => &first,
                    Which::Second => &second,
                };
                let item = match at.items.iter().find(|(gallery, _)| gallery.id == id) {
                    Some(item) => item.clone(),
                    // It has moved since the pages were read, or is gone.
                    None => match self.gallery(&id).await {
                        Ok(item) => item,
                        Err(Error::NotFound(_)) => continue,
                        Err(error) => return Err(error),
                    },
                };
                if items.len() == count {
                    return Ok(Page { items, more: true });
                }
                items.push(item);
            }
            match known_until {
                Some(end) => after = Some(end),
                None => return Ok(Page { items, more: false }),
            }
        }
    }

    async fn update_gallery(&self, id: GalleryId, wanted: GalleryChange) -> Result<Gallery, Error> {
        self.write(&id.clone(), None, move |store| async move { store.update_gallery(id, wanted).await }).await
    }

    async fn delete_gallery(&self, id: GalleryId, force: bool) -> Result<Deletion, Error> {
        let stores = Arc::clone(self);
        to_its_end(async move { stores.delete_whole(&id, force).await }).await
    }

    async fn enroll(&self, gallery: GalleryId, enrollment: Enrollment) -> Result<Enrolled, Error> {
        let whom = Some(enrollment.identity.clone());
        self.write(&gallery.clone(), whom, move |store| async move { store.enroll(gallery, enrollment).await }).await
    }

    async fn identity(&self, gallery: &GalleryId, id: &IdentityId) -> Result<Identity, Error> {
        read!(self, gallery, |store| store.identity(gallery, id))
    }

    async fn identities(&self, gallery: &GalleryId, ids: &[IdentityId]) -> Result<Vec<Result<Identity, Error>>, Error> {
        read!(self, gallery, |store| store.identities(gallery, ids))
    }

    async fn list_identities(
        &self,
        gallery: &GalleryId,
        after: Option<&IdentityId>,
        count: usize,
    ) -> Result<Page<IdentityOutline>, Error> {
        read!(self, gallery, |store| store.list_identities(gallery, after, count))
    }

    async fn some_identities(&self, gallery: &GalleryId, count: usize, seed: u64) -> Result<Vec<IdentityId>, Error> {
        read!(self, gallery, |store| store.some_identities(gallery, count, seed))
    }

    async fn update_identity(
        &self,
        gallery: GalleryId,
        id: IdentityId,
        wanted: IdentityChange,
    ) -> Result<Identity, Error> {
        let job =
            move |whom, gallery| move |store: Store| async move { store.update_identity(gallery, whom, wanted).await };
        self.write(&gallery.clone(), Some(id.clone()), job(id, gallery)).await
    }

    async fn delete_identity(&self, gallery: GalleryId, id: IdentityId) -> Result<Deletion, Error> {
        let (at, whom) = (gallery.clone(), id.clone());
        self.delete(&gallery, id, move |store, _| {
            let (at, whom) = (at.clone(), whom.clone());
            Box::pin(async move { store.delete_identity(at, whom).await })
        })
        .await
    }

    async fn delete_template(
        &self,
        gallery: GalleryId,
        identity: IdentityId,
        template: TemplateId,
    ) -> Result<Deletion, Error> {
        let (at, whom) = (gallery.clone(), identity.clone());
        self.delete(&gallery, identity, move |store, IsCopy(is_copy)| {
            let (at, whom, template) = (at.clone(), whom.clone(), template.clone());
            Box::pin(async move {
                match store.delete_template(at.clone(), whom.clone(), template.clone()).await {
                    // The copy has not what was enrolled since.
                    Err(Error::LastTemplate) if is_copy => store.delete_identity(at, whom).await,
                    deleted => deleted,
                }
            })
        })
        .await
    }

    async fn settle(&self) -> Result<(), Error> {
        for side in [&self.first, &self.second] {
            if let Some(galleries) = side.opened.get() {
                galleries.settle().await?;
            }
        }
        Ok(())
    }

    async fn search(&self, gallery: &GalleryId, searches: Vec<Search>) -> Result<Vec<SearchOutcome>, Error> {
        read!(self, gallery, |store| store.search(gallery, searches.clone()))
    }

    async fn curve(&self, owner: &CurveOwner) -> Result<Option<Arc<KnownCurve>>, Error> {
        match owner {
            CurveOwner::Gallery(id) => read!(self, id, |store| store.curve(owner)),
            CurveOwner::Pack(_) => self.first.get()?.curve(owner).await,
        }
    }

    async fn set_curve(&self, owner: CurveOwner, new: NewCurve) -> Result<Arc<KnownCurve>, Error> {
        match owner.clone() {
            CurveOwner::Gallery(id) => {
                self.write(&id, None, move |store| async move { store.set_curve(owner, new).await }).await
            }
            CurveOwner::Pack(_) => self.first.get()?.set_curve(owner, new).await,
        }
    }

    async fn remove_curve(&self, owner: CurveOwner) -> Result<(), Error> {
        match owner.clone() {
            CurveOwner::Gallery(id) => {
                self.write(&id, None, move |store| async move { store.remove_curve(owner).await }).await
            }
            CurveOwner::Pack(_) => self.first.get()?.remove_curve(owner).await,
        }
    }

    async fn keys(&self) -> Result<Vec<Key>, Error> {
        self.first.get()?.keys().await
    }

    async fn set_key(&self, new: Key) -> Result<(), Error> {
        self.first.get()?.set_key(new).await
    }

    async fn remove_key(&self, id: KeyId) -> Result<(), Error> {
        self.first.get()?.remove_key(id).await
    }

    async fn export(&self, gallery: &GalleryId) -> Result<Lasting<ExportPart>, Error> {
        read!(self, gallery, |store| store.export(gallery))
    }

    async fn import_state(&self, gallery: &GalleryId) -> Result<ImportState, Error> {
        self.first.get()?.import_state(gallery).await
    }

    async fn begin_import(&self, id: GalleryId, offset: u64) -> Result<Box<dyn Importing>, Error> {
        self.check_free(&id).await?;
        let import = self.first.get()?.begin_import(id.clone(), offset).await?;
        Ok(Box::new(CheckedImport { stores: Arc::clone(self), id, import }))
    }

    async fn compact(&self) -> Result<Lasting<Compaction>, Error> {
        let second = Arc::clone(self.second.get()?);
        let mut first = self.first.get()?.compact().await?;
        let (sender, states) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let compacted = async {
                let mut done = Compaction::default();
                while let Some(state) = first.recv().await {
                    done = state?;
                    // Not the last yet.
                    send(&sender, Compaction { bytes_after: None, ..done }).await?;
                }
                let mut second = second.compact().await?;
                while let Some(state) = second.recv().await {
                    send(&sender, both(&done, &state?)).await?;
                }
                Ok(())
            };
            if let Err(error) = compacted.await {
                // Where nobody waits, nobody is told.
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(states)
    }

    async fn migrate(
        &self,
        id: &GalleryId,
        plan: MigrationPlan,
        embed: Arc<Embed>,
    ) -> Result<Lasting<MigrationState>, Error> {
        let (place, _) = self.place(id).await?;
        let working = place.begin_work()?;
        let mut migrating = self.serving(id).await?.migrate(id, plan, embed).await?;
        let (sender, states) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let _working = working;
            loop {
                let state = tokio::select! {
                    state = migrating.recv() => state,
                    // It is let go of, which ends it.
                    () = sender.closed() => return,
                };
                let Some(state) = state else { return };
                if sender.send(state).await.is_err() {
                    return;
                }
            }
        });
        Ok(states)
    }
}

impl TwoStores {
    /// Checks that neither store serves a gallery.
    async fn check_free(&self, id: &GalleryId) -> Result<(), Error> {
        let (place, standing) = self.place(id).await?;
        match self.side(standing.served_from).get()?.gallery(id).await {
            Err(Error::NotFound(Entity::Gallery)) => {
                // Another server may have deleted it: it is not where it was any more.
                place.stand(None);
                Ok(())
            }
            Ok(_) => Err(Error::AlreadyExists(Entity::Gallery)),
            Err(error) => Err(error),
        }
    }
}

/// An import that ends only while neither store serves a gallery of its id.
struct CheckedImport {
    stores: Arc<TwoStores>,
    id: GalleryId,
    import: Box<dyn Importing>,
}

#[async_trait]
impl Importing for CheckedImport {
    async fn feed(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.import.feed(bytes).await
    }

    async fn finish(self: Box<Self>, served: Served) -> Result<Gallery, Error> {
        let _named = self.stores.names.lock().await;
        self.stores.check_free(&self.id).await?;
        self.import.finish(served).await
    }
}

impl Place {
    /// Begins what makes the gallery anew.
    ///
    /// *Errors*: [`Error::UnderWay`].
    pub(super) fn begin_work(&self) -> Result<tokio::sync::OwnedMutexGuard<()>, Error> {
        let begun = Arc::clone(&self.work).try_lock_owned();
        begun.map_err(|_| Error::UnderWay("a move of this gallery to another store, or a migration of it,"))
    }

    /// Begins to note whose records are written to.
    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        *lock(&self.changed) = Some(BTreeSet::new());
        Watch(Arc::clone(self))
    }
}

/// Notes whose records are written to, until it is dropped.
pub(super) struct Watch(Arc<Place>);

impl Watch {
    /// Takes who was noted so far.
    pub(super) fn take(&self) -> BTreeSet<IdentityId> {
        lock(&self.0.changed).as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *lock(&self.0.changed) = None;
    }
}

async fn send<T>(sender: &mpsc::Sender<Result<T, Error>>, state: T) -> Result<(), Error> {
    // Nobody takes it any more.
    sender.send(Ok(state)).await.map_err(|_| Error::DeadlineExceeded)
}

/// How far a compaction of two stores is: the first is done.
fn both(done: &Compaction, state: &Compaction) -> Compaction {
    Compaction {
        identities: done.identities + state.identities,
        identities_total: done.identities_total + state.identities_total,
        bytes_before: done.bytes_before + state.bytes_before,
        bytes_after: state.bytes_after.map(|bytes| bytes + done.bytes_after.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compaction_of_two_stores_is_the_sum_of_both() {
        let done = Compaction { identities: 3, identities_total: 4, bytes_before: 50, bytes_after: Some(20) };
        let state = Compaction { identities: 1, identities_total: 9, bytes_before: 7, bytes_after: None };
        let expected = Compaction { identities: 4, identities_total: 13, bytes_before: 57, bytes_after: None };
        assert_eq!(both(&done, &state), expected, "under way");
        let state = Compaction { bytes_after: Some(5), ..state };
        assert_eq!(both(&done, &state), Compaction { bytes_after: Some(25), ..expected });
    }
}
