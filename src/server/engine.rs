//! What all services share.

use std::sync::Arc;

use crate::biometrics::face::FaceSelection;
use crate::biometrics::ids::GalleryId;
use crate::error::Error;
use crate::gallery::{Galleries, Search, SearchOutcome};
use crate::model::Pack;
use crate::pipeline::{Acquired, Detected, DetectionSettings};
use crate::runtime::{Place, Workers};

/// The engine behind the services.
pub(super) struct Engine {
    pub pack: Arc<Pack>,
    pub workers: Workers,
    pub galleries: Arc<Galleries>,
}

impl Engine {
    pub(super) fn new(pack: Arc<Pack>, workers: Workers, galleries: Arc<Galleries>) -> Self {
        Self { pack, workers, galleries }
    }

    pub(super) async fn detect(&self, photo: Vec<u8>, settings: DetectionSettings) -> Result<Detected, Error> {
        let mut place = self.workers.reserve()?;
        self.workers.run(&mut place, move |pipeline| pipeline.detect(&photo, &settings)).await
    }

    pub(super) async fn acquire(
        &self,
        place: &mut Place,
        photo: Vec<u8>,
        settings: DetectionSettings,
        selection: FaceSelection,
    ) -> Result<Acquired, Error> {
        self.workers.run(place, move |pipeline| pipeline.acquire(&photo, &settings, selection)).await
    }

    pub(super) async fn search(&self, gallery: GalleryId, search: Search) -> Result<SearchOutcome, Error> {
        self.with_galleries(move |galleries| galleries.search(&gallery, search)).await
    }

    /// Runs what reads the store or scans a gallery off the async workers.
    pub(super) async fn with_galleries<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Galleries) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let galleries = Arc::clone(&self.galleries);
        tokio::task::spawn_blocking(move || job(&galleries)).await.map_err(Error::internal)?
    }

    /// Tells whether the engine can do all its work.
    pub(super) fn is_healthy(&self) -> bool {
        self.workers.are_alive() && self.galleries.is_writable()
    }
}
