//! The gRPC server: layers, services, protobuf ↔ domain, errors → status. The adapter of tonic and prost.

mod bulk_enroll;
mod calibrate;
mod calibration;
mod call;
mod codec;
mod convert;
mod engine;
mod enroll;
mod enrollment;
mod face;
mod gallery;
mod identify;
mod in_flight;
mod items;
mod layers;
mod metrics;
mod migrate;
mod observe;
mod sample;
mod search;
mod settings;
mod status;
mod transfer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic_health::server::HealthReporter;

use self::bulk_enroll::ItemsInFlight;
pub use self::codec::{CheckedCodec, CheckedDecoder};
pub(crate) use self::convert::{detect_reply, face_choice_reply, verify_reply};
use self::engine::Engine;
use self::layers::CallLayer;
use self::metrics::MetricsPage;
use self::observe::ObserveLayer;
pub(crate) use self::settings::{quality_gate, quality_gate_reply};
use crate::config::{Config, ConfigError};
use crate::contract::calibration_service_server::CalibrationServiceServer;
use crate::contract::enrollment_service_server::EnrollmentServiceServer;
use crate::contract::face_service_server::FaceServiceServer;
use crate::contract::gallery_service_server::GalleryServiceServer;
use crate::contract::match_service_server::MatchServiceServer;
use crate::contract::{self as proto};
use crate::gallery::{Galleries, StoreError};
use crate::model::{Pack, PackError};
use crate::pipeline::Pipelines;
use crate::runtime::{Admission, Capacity, Searches, Workers, machine};

/// How often health follows the engine.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

/// What health is told of: the server as a whole, and each service.
const HEALTH_SERVICES: [&str; 6] = [
    "",
    "facematch.v1.FaceService",
    "facematch.v1.GalleryService",
    "facematch.v1.EnrollmentService",
    "facematch.v1.MatchService",
    "facematch.v1.CalibrationService",
];

/// How often an idle connection is asked whether the other end is still there, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes that a connection may send ahead of what is read. A stream that is not read may send a megabyte ahead, hyper's
/// default, which is also its default for the whole connection: with that, one such stream would hold up all other calls.
const CONNECTION_BYTES_AHEAD: u32 = 16 << 20;

/// Calls that one connection may always have open at a time.
const STREAMS_MIN: usize = 16;

/// Why a server could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting is missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model pack cannot be loaded.
    #[error("cannot load the model pack")]
    Pack(#[from] PackError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The operating system refused a thread.
    #[error("cannot start the workers")]
    Threads(#[source] std::io::Error),
    /// The connections' side failed.
    #[error("the server ended")]
    Transport(#[from] tonic::transport::Error),
    /// A task of the server's own panicked. What it said is not told: it may quote what must not be logged.
    #[error("a task of the server panicked")]
    Task,
    /// The compiled contract cannot be served by reflection.
    #[error("the contract cannot be served by reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

impl From<tokio::task::JoinError> for ServerError {
    fn from(_: tokio::task::JoinError) -> Self {
        ServerError::Task
    }
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    engine: Arc<Engine>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    metrics: Option<MetricsPage>,
    drain_time_max: Duration,
}

impl Server {
    /// Loads the pack, opens the store, starts the workers, and listens. Returns once calls are answered.
    ///
    /// *Errors*: whatever of these fails, with what was attempted.
    pub async fn start(config: &Config) -> Result<Self, ServerError> {
        let engine = Arc::new(
            tokio::task::spawn_blocking({
                let config = config.clone();
                move || open_engine(&config)
            })
            .await??,
        );
        let cannot_listen = |source| ServerError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (stop, stopped) = oneshot::channel();
        let metrics = match config.metrics_listen {
            Some(at) => Some(MetricsPage::serve(at, Arc::clone(&engine)).await?),
            None => None,
        };
        let serving = serve(config, Arc::clone(&engine), listener, stopped).await?;
        tracing::info!(%address, pack = %engine.pack.id, "serving");
        Ok(Self { address, engine, stop, serving, metrics, drain_time_max: config.drain_time_max })
    }

    /// Returns the address that Prometheus is served on.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(MetricsPage::address)
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the server ends by itself, which is a fault.
    ///
    /// *Errors*: why it ended.
    pub async fn ended(&mut self) -> Result<(), ServerError> {
        Ok((&mut self.serving).await??)
    }

    /// Stops: takes no new calls, finishes those that are in (for as long as the drain may take), then closes the store.
    ///
    /// *Errors*: what went wrong while serving.
    pub async fn stop(self) -> Result<(), ServerError> {
        tracing::info!("draining");
        drop(self.stop);
        let mut serving = self.serving;
        let served = match tokio::time::timeout(self.drain_time_max, &mut serving).await {
            Ok(served) => served?.map_err(ServerError::from),
            Err(_) => {
                tracing::warn!("the drain took too long; the calls still in are given up");
                serving.abort();
                Ok(())
            }
        };
        // Until the end, so that the drain can be watched.
        if let Some(metrics) = self.metrics {
            metrics.stop().await;
        }
        let engine = self.engine;
        tokio::task::spawn_blocking(move || {
            engine.workers.stop();
            engine.galleries.close();
        })
        .await?;
        tracing::info!("stopped");
        served
    }
}

/// Blocks.
fn open_engine(config: &Config) -> Result<Engine, ServerError> {
    let pack = Arc::new(Pack::load(&config.pack_source()?)?);
    tracing::info!(name = pack.name, licence = pack.licence, "model pack loaded");
    let limits = config.photo;
    let others = config.other_pack_sources()?;
    let other_packs =
        others.iter().map(|source| Ok(Arc::new(Pack::load(source)?))).collect::<Result<Vec<_>, PackError>>()?;
    for other in &other_packs {
        tracing::info!(name = other.name, licence = other.licence, pack = %other.id, "another model pack loaded");
    }
    let open = {
        let (pack, others) = (Arc::clone(&pack), other_packs.clone());
        move || Pipelines::open(&pack, &others, limits)
    };
    let pipelines = (0..config.workers).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
    let galleries = Arc::new(Galleries::open(&config.data)?);
    let workers = Workers::start(pipelines, config.queue_max, open).map_err(ServerError::Threads)?;
    let capacity =
        Capacity { calls: config.calls_max, bytes: config.in_flight_bytes_max, pixels: config.in_flight_pixels_max };
    Ok(Engine {
        pack,
        other_packs,
        photo_limits: config.photo,
        admission: Admission::new(capacity),
        workers,
        searches: Searches::new(machine::cores(), config.search_wait_max),
        galleries,
        call_time_max: config.call_time_max,
        draining: watch::Sender::new(false),
        items_in_flight: ItemsInFlight::default(),
        calibrating: Arc::new(Semaphore::new(1)),
    })
}

async fn serve(
    config: &Config,
    engine: Arc<Engine>,
    listener: TcpListener,
    stopped: oneshot::Receiver<()>,
) -> Result<JoinHandle<Result<(), tonic::transport::Error>>, ServerError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, true).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let bytes_max = config.message_bytes_max;
    let router = tonic::transport::Server::builder()
        // A caller who has gone without a word must not hold a connection for ever.
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_connection_window_size(CONNECTION_BYTES_AHEAD)
        // One connection cannot take all places: a quarter of them, but enough for a client of one connection.
        .max_concurrent_streams(u32::try_from((config.calls_max / 4).max(STREAMS_MIN)).ok())
        // Outermost: what is refused below is counted too.
        .layer(ObserveLayer)
        // Without a permit nothing of a message is read, and a deadline covers everything below.
        .layer(CallLayer { admission: Arc::clone(&engine.admission), call_time_max: config.call_time_max })
        .add_service(health_service)
        .add_service(reflection)
        // tonic's limit of 4 MiB is too small for photos.
        .add_service(FaceServiceServer::new(face::FaceServer(Arc::clone(&engine))).max_decoding_message_size(bytes_max))
        .add_service(GalleryServiceServer::new(gallery::GalleryServer(Arc::clone(&engine))))
        .add_service(
            EnrollmentServiceServer::new(enrollment::EnrollmentServer(Arc::clone(&engine)))
                .max_decoding_message_size(bytes_max),
        )
        .add_service(
            MatchServiceServer::new(identify::MatchServer(Arc::clone(&engine))).max_decoding_message_size(bytes_max),
        )
        .add_service(
            CalibrationServiceServer::new(calibration::CalibrationServer(Arc::clone(&engine)))
                .max_decoding_message_size(bytes_max),
        );
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(tokio::spawn(async move {
        let (drain, draining) = oneshot::channel::<()>();
        let watch = watch_health(health, engine, stopped, drain);
        let serve = router.serve_with_incoming_shutdown(incoming, async {
            // Ends with an error when the sender is dropped, which is as good a signal.
            let _ = draining.await;
        });
        tokio::pin!(serve);
        tokio::select! {
            served = &mut serve => served,
            () = watch => serve.await,
        }
    }))
}

/// Keeps health true to the engine, and on the signal to stop turns it to NOT_SERVING before the drain begins.
async fn watch_health(
    mut health: HealthReporter,
    engine: Arc<Engine>,
    mut stopped: oneshot::Receiver<()>,
    drain: oneshot::Sender<()>,
) {
    let mut was_healthy = true;
    while tokio::time::timeout(HEALTH_INTERVAL, &mut stopped).await.is_err() {
        let is_healthy = engine.is_healthy();
        if is_healthy != was_healthy {
            tracing::error!(is_healthy, "health changed");
            set_health(&health, is_healthy).await;
            was_healthy = is_healthy;
        }
    }
    set_health(&health, false).await;
    // Streams of items end when those in hand are done; the drain waits for that.
    engine.draining.send_replace(true);
    drop(drain);
    // Ends the streams of those who watch, which would keep the drain waiting.
    for service in HEALTH_SERVICES {
        health.clear_service_status(service).await;
    }
}

async fn set_health(health: &HealthReporter, serving: bool) {
    let status = if serving { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
    for service in HEALTH_SERVICES {
        health.set_service_status(service, status).await;
    }
}
