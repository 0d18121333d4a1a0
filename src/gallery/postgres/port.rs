//! The port, in PostgreSQL. Each call takes a connection, does its work on it in time, and gives it back; what another server's
//! change has spoilt is tried again.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_postgres::IsolationLevel;

use super::connect::{Fault, Session};
use super::galleries::{Found, GraphState, Tries};
use super::{PostgresGalleries, compaction, curves, galleries, graph, identities, migration, search, transfer};
use crate::access::{Key, KeyId};
use crate::biometrics::calibration::KnownCurve;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::error::Error;
use crate::gallery::{
    Capabilities, Compaction, CurveOwner, Deletion, Embed, Enrolled, Enrollment, ExportPart, Galleries, Gallery,
    GalleryChange, GallerySettings, GalleryStatus, Health, Identity, IdentityChange, IdentityOutline, ImportState,
    Importing, IsListed, Lasting, MigrationPlan, MigrationState, NewCurve, Page, Search, SearchOutcome, SearchPath,
};

/// States that wait for the other end: what a slow one can make the server hold.
const WAITING_MAX: usize = 2;

const NO_ANSWER: Error = Error::Unavailable("the database does not answer in time");

/// Does some work on a connection, and again where that helps.
macro_rules! work_on {
    ($connections:expr, $galleries:ident, |$session:ident| $work:expr) => {{
        let mut tries = Tries::default();
        loop {
            let attempt = async {
                let mut taken = $connections.take().await?;
                let $session = &mut taken;
                let result = $work.await;
                taken.end(result)
            };
            match tokio::time::timeout($galleries.time_max, attempt).await {
                Ok(Ok(done)) => break Ok(done),
                Ok(Err(fault)) => tries.after(fault).await?,
                Err(_) => break Err(NO_ANSWER),
            }
        }
    }};
}

/// The same on a connection of those for calls.
macro_rules! work {
    ($galleries:ident, |$session:ident| $work:expr) => {
        work_on!($galleries.connections, $galleries, |$session| $work)
    };
}

#[async_trait]
impl Galleries for Arc<PostgresGalleries> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { is_shared: true }
    }

    fn health(&self) -> Health {
        self.keeping.health()
    }

    async fn close(&self) {
        self.keeping.stop();
        self.connections.close();
        self.control.close();
    }

    async fn create_gallery(
        &self,
        id: GalleryId,
        settings: GallerySettings,
        pack_id: PackId,
        dimension: usize,
    ) -> Result<Gallery, Error> {
        work!(self, |session| galleries::create(session, &id, &settings, &pack_id, dimension))
    }

    async fn gallery(&self, id: &GalleryId) -> Result<(Gallery, GalleryStatus), Error> {
        let found: Result<Found, Error> = work!(self, |session| galleries::find(session, id));
        let found = found?;
        let status = found.status();
        Ok((found.gallery, status))
    }

    async fn list_galleries(
        &self,
        after: Option<&GalleryId>,
        count: usize,
        is_listed: IsListed<'_>,
    ) -> Result<Page<(Gallery, GalleryStatus)>, Error> {
        work!(self, |session| galleries::list(session, after, count, is_listed))
    }

    async fn update_gallery(&self, id: GalleryId, wanted: GalleryChange) -> Result<Gallery, Error> {
        // Rows that are made anew take their time.
        let mut tries = Tries::default();
        loop {
            let attempt = async {
                let mut session = self.connections.take().await?;
                let result = galleries::update(&mut session, &id, &wanted).await;
                session.end(result)
            };
            match attempt.await {
                Ok(gallery) => {
                    self.keeping.wake();
                    return Ok(gallery);
                }
                Err(fault) => tries.after(fault).await?,
            }
        }
    }

    async fn delete_gallery(&self, id: GalleryId, force: bool) -> Result<Deletion, Error> {
        work!(self, |session| galleries::delete(session, &id, force))
    }

    async fn enroll(&self, gallery: GalleryId, enrollment: Enrollment) -> Result<Enrolled, Error> {
        work!(self, |session| identities::enroll(session, &gallery, &enrollment))
    }

    async fn identity(&self, gallery: &GalleryId, id: &IdentityId) -> Result<Identity, Error> {
        work!(self, |session| identities::identity(session, gallery, id))
    }

    async fn identities(&self, gallery: &GalleryId, ids: &[IdentityId]) -> Result<Vec<Result<Identity, Error>>, Error> {
        work!(self, |session| identities::identities(session, gallery, ids))
    }

    async fn list_identities(
        &self,
        gallery: &GalleryId,
        after: Option<&IdentityId>,
        count: usize,
    ) -> Result<Page<IdentityOutline>, Error> {
        work!(self, |session| identities::list(session, gallery, after, count))
    }

    async fn some_identities(&self, gallery: &GalleryId, count: usize, seed: u64) -> Result<Vec<IdentityId>, Error> {
        work!(self, |session| identities::some(session, gallery, count, seed))
    }

    async fn update_identity(
        &self,
        gallery: GalleryId,
        id: IdentityId,
        wanted: IdentityChange,
    ) -> Result<Identity, Error> {
        work!(self, |session| identities::update(session, &gallery, &id, &wanted))
    }

    async fn delete_identity(&self, gallery: GalleryId, id: IdentityId) -> Result<Deletion, Error> {
        work!(self, |session| identities::delete(session, &gallery, &id))
    }

    async fn delete_template(
        &self,
        gallery: GalleryId,
        identity: IdentityId,
        template: TemplateId,
    ) -> Result<Deletion, Error> {
        work!(self, |session| identities::delete_template(session, &gallery, &identity, &template))
    }

    async fn settle(&self) -> Result<(), Error> {
        // What is read is committed, and what is committed is durable and seen by all.
        Ok(())
    }

    async fn search(&self, gallery: &GalleryId, searches: Vec<Search>) -> Result<Vec<SearchOutcome>, Error> {
        work!(self, |session| search_all(session, gallery, &searches))
    }

    async fn curve(&self, owner: &CurveOwner) -> Result<Option<Arc<KnownCurve>>, Error> {
        if let Some(known) = self.curves.fresh(owner) {
            return Ok(known);
        }
        work!(self, |session| self.curves.read(session, owner))
    }

    async fn set_curve(&self, owner: CurveOwner, new: NewCurve) -> Result<Arc<KnownCurve>, Error> {
        work!(self, |session| self.curves.set(session, &owner, &new))
    }

    async fn remove_curve(&self, owner: CurveOwner) -> Result<(), Error> {
        work!(self, |session| self.curves.remove(session, &owner))
    }

    async fn keys(&self) -> Result<Vec<Key>, Error> {
        work_on!(self.control, self, |session| curves::keys(session))
    }

    async fn set_key(&self, new: Key) -> Result<(), Error> {
        work!(self, |session| curves::set_key(session, &new))
    }

    async fn remove_key(&self, id: KeyId) -> Result<(), Error> {
        work!(self, |session| curves::remove_key(session, &id))
    }

    async fn export(&self, gallery: &GalleryId) -> Result<Lasting<ExportPart>, Error> {
        let (galleries, id) = (Arc::clone(self), gallery.clone());
        let (sender, parts) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let exported = async {
                let mut session = galleries.connections.take_for_long().await?;
                let result = transfer::export(&mut session, &id, &sender).await;
                session.end(result)
            };
            tell_end(exported.await, &sender).await;
        });
        Ok(parts)
    }

    async fn import_state(&self, gallery: &GalleryId) -> Result<ImportState, Error> {
        work!(self, |session| transfer::import_state(session, gallery))
    }

    async fn begin_import(&self, id: GalleryId, offset: u64) -> Result<Box<dyn Importing>, Error> {
        let import = transfer::begin_import(self, &self.connections, &id, offset).await;
        Ok(Box::new(import.map_err(Fault::into_error)?))
    }

    async fn compact(&self) -> Result<Lasting<Compaction>, Error> {
        let galleries = Arc::clone(self);
        let (sender, states) = mpsc::channel(WAITING_MAX);
        tokio::spawn(
            async move { tell_end(compaction::compact(&galleries.connections, &sender).await, &sender).await },
        );
        Ok(states)
    }

    async fn migrate(
        &self,
        id: &GalleryId,
        plan: MigrationPlan,
        embed: Arc<Embed>,
    ) -> Result<Lasting<MigrationState>, Error> {
        let (galleries, id) = (Arc::clone(self), id.clone());
        let (sender, states) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let migrated = migration::migrate(&galleries.connections, &id, &plan, embed, &sender).await;
            galleries.keeping.wake();
            tell_end(migrated, &sender).await;
        });
        Ok(states)
    }
}

/// Sends how something that lasts ended, where that is an error.
async fn tell_end<T>(ended: Result<(), Fault>, states: &mpsc::Sender<Result<T, Error>>) {
    if let Err(fault) = ended {
        // Where nobody waits, nobody is told.
        let _ = states.send(Err(fault.into_error())).await;
    }
}

/// The gallery's rule, its rows and its records are those of one moment.
async fn search_all(
    session: &mut Session,
    gallery: &GalleryId,
    searches: &[Search],
) -> Result<Vec<SearchOutcome>, Fault> {
    let transaction = session.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await?;
    let found = galleries::find_within(&transaction, gallery).await?;
    let has_graph = searches.iter().any(|wanted| search::path(&found, wanted) == SearchPath::Graph);
    if let (true, Some(GraphState::Ready { recall, .. })) = (has_graph, found.graph) {
        let least = searches.iter().map(|search| search.capacity * 4).max().unwrap_or(0);
        transaction.batch_execute(&graph::settings(recall.expansion.max(least).min(1_000), "local")).await?;
    }
    let mut outcomes = Vec::with_capacity(searches.len());
    for wanted in searches {
        outcomes.push(search::search(&transaction, &found, wanted, search::path(&found, wanted)).await?);
    }
    transaction.commit().await?;
    Ok(outcomes)
}
