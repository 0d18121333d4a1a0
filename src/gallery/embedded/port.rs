//! The port, on this machine. What reads the store or scans a gallery runs off the async workers.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::EmbeddedGalleries;
use super::import::Import;
use crate::access::{Key, KeyId};
use crate::biometrics::calibration::KnownCurve;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::error::Error;
use crate::gallery::{
    Capabilities, Compaction, CurveOwner, Deletion, Embed, Enrolled, Enrollment, ExportPart, Galleries, Gallery,
    GalleryChange, GallerySettings, GalleryStatus, Health, Identity, IdentityChange, IdentityOutline, ImportState,
    Importing, IsListed, Lasting, MigrationPlan, MigrationState, NewCurve, Page, Search, SearchOutcome, Served,
};

/// States that wait for the other end: what a slow one can make the server hold.
const WAITING_MAX: usize = 2;

#[async_trait]
impl Galleries for Arc<EmbeddedGalleries> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { is_shared: false }
    }

    fn health(&self) -> Health {
        if self.is_writable() { Health::Ready } else { Health::ReadOnly("a flush failed; start the server again") }
    }

    async fn close(&self) {
        let galleries = Arc::clone(self);
        // A panic in there was logged where it happened; there is nothing left to close.
        let _ = tokio::task::spawn_blocking(move || EmbeddedGalleries::close(&galleries)).await;
    }

    async fn create_gallery(
        &self,
        id: GalleryId,
        settings: GallerySettings,
        pack_id: PackId,
        dimension: usize,
    ) -> Result<Gallery, Error> {
        EmbeddedGalleries::create_gallery(self, id, settings, pack_id, dimension).await
    }

    async fn gallery(&self, id: &GalleryId) -> Result<(Gallery, GalleryStatus), Error> {
        EmbeddedGalleries::gallery(self, id)
    }

    async fn list_galleries(
        &self,
        after: Option<&GalleryId>,
        count: usize,
        is_listed: IsListed<'_>,
    ) -> Result<Page<(Gallery, GalleryStatus)>, Error> {
        Ok(EmbeddedGalleries::list_galleries(self, after, count, is_listed))
    }

    async fn update_gallery(&self, id: GalleryId, wanted: GalleryChange) -> Result<Gallery, Error> {
        EmbeddedGalleries::update_gallery(self, id, wanted).await
    }

    async fn delete_gallery(&self, id: GalleryId, force: bool) -> Result<Deletion, Error> {
        EmbeddedGalleries::delete_gallery(self, id, force).await
    }

    async fn enroll(&self, gallery: GalleryId, enrollment: Enrollment) -> Result<Enrolled, Error> {
        EmbeddedGalleries::enroll(self, gallery, enrollment).await
    }

    async fn identity(&self, gallery: &GalleryId, id: &IdentityId) -> Result<Identity, Error> {
        let (gallery, id) = (gallery.clone(), id.clone());
        blocking(self, move |galleries| galleries.identity(&gallery, &id)).await
    }

    async fn identities(&self, gallery: &GalleryId, ids: &[IdentityId]) -> Result<Vec<Result<Identity, Error>>, Error> {
        let (gallery, ids) = (gallery.clone(), ids.to_vec());
        blocking(self, move |galleries| Ok(ids.iter().map(|id| galleries.identity(&gallery, id)).collect())).await
    }

    async fn list_identities(
        &self,
        gallery: &GalleryId,
        after: Option<&IdentityId>,
        count: usize,
    ) -> Result<Page<IdentityOutline>, Error> {
        let (gallery, after) = (gallery.clone(), after.cloned());
        let outline = |id: &IdentityId, identity: Option<Identity>| IdentityOutline {
            id: id.clone(),
            known: identity.map(|identity| identity.outline()),
        };
        blocking(self, move |galleries| galleries.list_identities(&gallery, after.as_ref(), count, outline)).await
    }

    async fn some_identities(&self, gallery: &GalleryId, count: usize, seed: u64) -> Result<Vec<IdentityId>, Error> {
        let gallery = gallery.clone();
        blocking(self, move |galleries| galleries.some_identities(&gallery, count, seed)).await
    }

    async fn update_identity(
        &self,
        gallery: GalleryId,
        id: IdentityId,
        wanted: IdentityChange,
    ) -> Result<Identity, Error> {
        EmbeddedGalleries::update_identity(self, gallery, id, wanted).await
    }

    async fn delete_identity(&self, gallery: GalleryId, id: IdentityId) -> Result<Deletion, Error> {
        EmbeddedGalleries::delete_identity(self, gallery, id).await
    }

    async fn delete_template(
        &self,
        gallery: GalleryId,
        identity: IdentityId,
        template: TemplateId,
    ) -> Result<Deletion, Error> {
        EmbeddedGalleries::delete_template(self, gallery, identity, template).await
    }

    async fn settle(&self) -> Result<(), Error> {
        EmbeddedGalleries::settle(self).await
    }

    async fn search(&self, gallery: &GalleryId, searches: Vec<Search>) -> Result<Vec<SearchOutcome>, Error> {
        let gallery = gallery.clone();
        blocking(self, move |galleries| galleries.search_many(&gallery, searches)).await
    }

    async fn curve(&self, owner: &CurveOwner) -> Result<Option<Arc<KnownCurve>>, Error> {
        Ok(EmbeddedGalleries::curve(self, owner))
    }

    async fn set_curve(&self, owner: CurveOwner, new: NewCurve) -> Result<Arc<KnownCurve>, Error> {
        EmbeddedGalleries::set_curve(self, owner, new).await
    }

    async fn remove_curve(&self, owner: CurveOwner) -> Result<(), Error> {
        EmbeddedGalleries::remove_curve(self, owner).await
    }

    async fn keys(&self) -> Result<Vec<Key>, Error> {
        blocking(self, EmbeddedGalleries::keys).await
    }

    async fn set_key(&self, new: Key) -> Result<(), Error> {
        EmbeddedGalleries::set_key(self, new).await
    }

    async fn remove_key(&self, id: KeyId) -> Result<(), Error> {
        EmbeddedGalleries::remove_key(self, id).await
    }

    async fn export(&self, gallery: &GalleryId) -> Result<Lasting<ExportPart>, Error> {
        let gallery = gallery.clone();
        Ok(lasting(self, move |galleries, tell| galleries.export(&gallery, |part| tell.send(part))))
    }

    async fn import_state(&self, gallery: &GalleryId) -> Result<ImportState, Error> {
        let gallery = gallery.clone();
        blocking(self, move |galleries| galleries.import_state(&gallery)).await
    }

    async fn begin_import(&self, id: GalleryId, offset: u64) -> Result<Box<dyn Importing>, Error> {
        let import = blocking(self, move |galleries| galleries.begin_import(id, offset)).await?;
        Ok(Box::new(EmbeddedImport(Some(import))))
    }

    async fn compact(&self) -> Result<Lasting<Compaction>, Error> {
        Ok(lasting(self, |galleries, tell| {
            let done = galleries.compact(|state| tell.send(state))?;
            tell.send(done)
        }))
    }

    async fn migrate(
        &self,
        id: &GalleryId,
        plan: MigrationPlan,
        embed: Arc<Embed>,
    ) -> Result<Lasting<MigrationState>, Error> {
        let id = id.clone();
        Ok(lasting(self, move |galleries, tell| {
            // With a comparison it is the last but for whether it is switched, which is not known yet.
            let go_on = |state: MigrationState| {
                if state.comparison.is_none() { tell.send(state) } else { tell.check() }
            };
            let done = galleries.migrate(&id, plan, embed, go_on)?;
            tell.send(done)
        }))
    }
}

/// Runs what blocks off the async workers.
async fn blocking<T: Send + 'static>(
    galleries: &Arc<EmbeddedGalleries>,
    job: impl FnOnce(&EmbeddedGalleries) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let galleries = Arc::clone(galleries);
    // A panic's own words may quote what must not be logged.
    let done = tokio::task::spawn_blocking(move || job(&galleries)).await;
    done.map_err(|_| Error::internal("a read of a gallery panicked"))?
}

/// Where the states of a job go.
struct Tell<T>(mpsc::Sender<Result<T, Error>>);

/// Nobody is told of it.
const NOBODY_WAITS: Error = Error::DeadlineExceeded;

impl<T> Tell<T> {
    /// *Errors*: where nobody takes it any more.
    fn send(&self, state: T) -> Result<(), Error> {
        self.0.blocking_send(Ok(state)).map_err(|_| NOBODY_WAITS)
    }

    /// *Errors*: where nobody takes the states any more.
    fn check(&self) -> Result<(), Error> {
        if self.0.is_closed() { Err(NOBODY_WAITS) } else { Ok(()) }
    }
}

/// Runs a job on a thread of its own, which ends when nobody takes its states.
fn lasting<T: Send + 'static>(
    galleries: &Arc<EmbeddedGalleries>,
    job: impl FnOnce(&EmbeddedGalleries, &Tell<T>) -> Result<(), Error> + Send + 'static,
) -> Lasting<T> {
    let (sender, states) = mpsc::channel(WAITING_MAX);
    let (galleries, tell) = (Arc::clone(galleries), Tell(sender));
    tokio::task::spawn_blocking(move || {
        if let Err(error) = job(&galleries, &tell) {
            // Where nobody waits, nobody is told.
            let _ = tell.0.blocking_send(Err(error));
        }
    });
    states
}

/// `None` after a panic in it.
struct EmbeddedImport(Option<Import>);

impl EmbeddedImport {
    async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(Import) -> (Option<Import>, Result<T, Error>) + Send + 'static,
    ) -> Result<T, Error> {
        let import = self.0.take().ok_or_else(|| Error::internal("an import panicked"))?;
        let done = tokio::task::spawn_blocking(move || job(import)).await;
        let (import, result) = done.map_err(|_| Error::internal("an import panicked"))?;
        self.0 = import;
        result
    }
}

#[async_trait]
impl Importing for EmbeddedImport {
    async fn feed(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.run(move |mut import| {
            let fed = import.feed(&bytes);
            (Some(import), fed)
        })
        .await
    }

    async fn finish(mut self: Box<Self>, served: Served) -> Result<Gallery, Error> {
        self.run(move |import| (None, import.finish_as(served))).await
    }
}

impl Drop for EmbeddedImport {
    /// An import that is let go of waits for its last step: not on an async worker.
    fn drop(&mut self) {
        if let (Some(import), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(import));
        }
    }
}
