//! What all services share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::bulk_enroll::ItemsInFlight;
use super::call;
use crate::access::Keys;
use crate::biometrics::calibration::KnownCurve;
use crate::biometrics::face::FaceSelection;
use crate::biometrics::ids::{GalleryId, PackId};
use crate::decode::{self, Decoders, PhotoLimits};
use crate::error::Error;
use crate::gallery::{CurveOwner, Galleries, Health, TwoStores};
use crate::model::Pack;
use crate::pipeline::{Acquired, Detected, DetectionSettings, Pipelines};
use crate::runtime::{Admission, Place, Searches, Turn, Workers};
use crate::telemetry::{Stage, count_failure_to_acquire};

/// How a photo is looked at.
#[derive(Clone)]
pub(super) struct Look {
    pub settings: DetectionSettings,
    pub selection: FaceSelection,
    /// Whose templates are wanted.
    pub pack_id: PackId,
}

/// The engine behind the services.
pub(super) struct Engine {
    /// Makes new galleries, and templates of photos that are for none.
    pub pack: Arc<Pack>,
    /// Serve galleries of theirs: beside the first, while galleries move from one to the other.
    pub other_packs: Vec<Arc<Pack>>,
    pub photo_limits: PhotoLimits,
    pub decoders: Arc<Decoders>,
    pub admission: Arc<Admission>,
    pub workers: Workers,
    pub searches: Arc<Searches>,
    pub galleries: Arc<dyn Galleries>,
    /// Moves galleries, where there are two stores.
    pub two_stores: Option<Arc<TwoStores>>,
    pub keys: Arc<Keys>,
    /// Longest time of a call, and of a wait within one that lasts.
    pub call_time_max: Duration,
    /// Turns true when the server stops: streams take no further items.
    pub draining: watch::Sender<bool>,
    pub items_in_flight: ItemsInFlight,
    /// Analyses take a core for seconds: one at a time.
    pub calibrating: Arc<Semaphore>,
}

impl Engine {
    pub(super) async fn detect(&self, photo: Vec<u8>, settings: DetectionSettings) -> Result<Detected, Error> {
        let mut place = self.workers.reserve(call::caller())?;
        self.with_worker(&mut place, photo, move |pipelines, photo| pipelines.first().detect(photo, &settings)).await
    }

    /// Returns a pack that runs.
    ///
    /// *Errors*: [`Error::PackMismatch`] where it does not.
    pub(super) fn pack_of(&self, pack_id: &PackId) -> Result<&Arc<Pack>, Error> {
        let mut all = std::iter::once(&self.pack).chain(&self.other_packs);
        let found = all.find(|pack| pack.id == *pack_id);
        found.ok_or_else(|| Error::PackMismatch { expected: pack_id.clone(), found: self.pack.id.clone() })
    }

    /// Counts a photo that gives no template.
    pub(super) async fn acquire(&self, place: &mut Place, photo: Vec<u8>, look: Look) -> Result<Acquired, Error> {
        let job = move |pipelines: &mut Pipelines, photo: &[u8]| {
            pipelines.of(&look.pack_id)?.acquire(photo, &look.settings, look.selection)
        };
        let acquired = self.with_worker(place, photo, job).await;
        match &acquired {
            Ok(Acquired { chosen: Err(reason), .. }) => count_failure_to_acquire(reason.reason()),
            Err(Error::Photo(fault)) => count_failure_to_acquire(fault.reason()),
            Ok(_) | Err(_) => {}
        }
        acquired
    }

    /// Has a worker look at a photo, once what its pixels cost is there.
    async fn with_worker<T: Send + 'static>(
        &self,
        place: &mut Place,
        photo: Vec<u8>,
        job: impl FnOnce(&mut Pipelines, &[u8]) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let pixels = decode::pixels(&photo, &self.photo_limits);
        let pixels = match place.is_of_stream() {
            true => self.admission.wait_for_pixels(pixels).await,
            false => self.admission.take_pixels(pixels)?,
        };
        let job = move |pipelines: &mut Pipelines| {
            let _pixels = pixels;
            job(pipelines, &photo)
        };
        let done = self.workers.run(place, job).await;
        call::merge_times(place.take_times());
        done
    }

    /// Searches a gallery. `turn` is awaited first, and kept until the search is done.
    pub(super) async fn search<T, W>(
        &self,
        turn: impl Future<Output = Result<Turn, Error>>,
        search: impl FnOnce(Arc<dyn Galleries>) -> W,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let turn = turn.await?;
        let search = |galleries| {
            let search = search(galleries);
            async move {
                let _turn = turn;
                search.await
            }
        };
        call::timed(Stage::Search, self.with_galleries(search)).await
    }

    /// Works with galleries to the end, whether or not the caller still waits: the call's place is kept until then.
    pub(super) async fn with_galleries<T, W>(&self, work: impl FnOnce(Arc<dyn Galleries>) -> W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (work, call) = (work(Arc::clone(&self.galleries)), call::current());
        let done = tokio::spawn(async move {
            let _call = call;
            work.await
        });
        // A panic's own words may quote what must not be logged.
        done.await.map_err(|_| Error::internal("work with a gallery panicked"))?
    }

    /// Runs what blocks off the async workers; it keeps the call's place until it is done.
    pub(super) async fn off_the_workers<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let call = call::current();
        let done = tokio::task::spawn_blocking(move || {
            let _call = call;
            job()
        });
        done.await.map_err(|_| Error::internal("what runs off the workers panicked"))?
    }

    /// Returns the curve that thresholds for templates of a pack are read off: of these galleries the first one's own, else
    /// the pack's, as it was set, else as its manifest has it.
    pub(super) async fn curve(
        &self,
        galleries: &[&GalleryId],
        pack_id: &PackId,
    ) -> Result<Option<Arc<KnownCurve>>, Error> {
        let owners = galleries.iter().map(|gallery| CurveOwner::Gallery((*gallery).clone()));
        for owner in owners.chain([CurveOwner::Pack(pack_id.clone())]) {
            if let Some(curve) = self.galleries.curve(&owner).await?.filter(|curve| curve.pack_id == *pack_id) {
                return Ok(Some(curve));
            }
        }
        Ok(self.pack_of(pack_id).ok().and_then(|pack| pack.curve.clone()))
    }

    /// Tells whether the engine can do all its work.
    pub(super) fn is_healthy(&self) -> bool {
        self.workers.are_alive() && self.decoders.are_well() && self.galleries.health() == Health::Ready
    }
}
