//! What all services share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::bulk_enroll::ItemsInFlight;
use super::layers::permit_of_call;
use crate::biometrics::face::FaceSelection;
use crate::error::Error;
use crate::gallery::Galleries;
use crate::model::Pack;
use crate::pipeline::{Acquired, Detected, DetectionSettings};
use crate::runtime::{Place, Workers};

/// The engine behind the services.
pub(super) struct Engine {
    pub pack: Arc<Pack>,
    pub workers: Workers,
    pub galleries: Arc<Galleries>,
    /// Longest time of a call, and of a wait within one that lasts.
    pub call_time_max: Duration,
    /// Turns true when the server stops: streams take no further items.
    pub draining: watch::Sender<bool>,
    pub items_in_flight: ItemsInFlight,
}

impl Engine {
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

    /// Runs what reads the store or scans a gallery off the async workers.
    pub(super) async fn with_galleries<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Galleries) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let galleries = Arc::clone(&self.galleries);
        // A caller who goes does not stop the job: it keeps the call's place until it is done.
        let permit = permit_of_call();
        // A panic's own words may quote what must not be logged.
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            job(&galleries)
        })
        .await;
        done.map_err(|_| Error::internal("a read of a gallery panicked"))?
    }

    /// Tells whether the engine can do all its work.
    pub(super) fn is_healthy(&self) -> bool {
        self.workers.are_alive() && self.galleries.is_writable()
    }
}
