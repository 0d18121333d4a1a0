//! The gRPC server: layers, services, protobuf ↔ domain, errors → status. The adapter of tonic and prost.

mod access;
mod bulk_enroll;
mod calibrate;
mod calibration;
mod call;
mod codec;
mod connections;
mod convert;
mod engine;
mod enroll;
mod enrollment;
mod face;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gallery;
mod identify;
mod in_flight;
mod items;
mod keys;
mod layers;
mod metrics;
mod migrate;
mod move_gallery;
mod observe;
mod sample;
mod search;
mod settings;
mod status;
mod tls;
mod transfer;
mod web;

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower::util::option_layer;
use zeroize::Zeroizing;

use self::access::{AccessLayer, Auditing, STRANGERS_A_SECOND};
use self::bulk_enroll::ItemsInFlight;
pub use self::codec::{CheckedCodec, CheckedDecoder};
use self::connections::{Acceptor, ConnectionLimits};
pub(crate) use self::convert::{detect_reply, face_choice_reply, verify_reply};
use self::engine::Engine;
pub(crate) use self::keys::{grant_reply, scope};
use self::layers::CallLayer;
use self::metrics::MetricsPage;
use self::observe::ObserveLayer;
pub(crate) use self::settings::{quality_gate, quality_gate_reply};
use self::tls::Tls;
pub use self::tls::TlsError;
use crate::access::{KeyText, Keys, Throttle};
use crate::audit::{AuditError, AuditLog};
use crate::config::{Config, ConfigError};
use crate::contract::calibration_service_server::CalibrationServiceServer;
use crate::contract::enrollment_service_server::EnrollmentServiceServer;
use crate::contract::face_service_server::FaceServiceServer;
use crate::contract::gallery_service_server::GalleryServiceServer;
use crate::contract::key_service_server::KeyServiceServer;
use crate::contract::match_service_server::MatchServiceServer;
use crate::contract::{self as proto};
use crate::decode::{DecoderError, Decoders};
use crate::error::Error;
use crate::gallery::{Galleries, KeyError, OpenError, OpenGalleries, open_galleries};
use crate::model::{Pack, PackError};
use crate::pipeline::Pipelines;
use crate::runtime::{Admission, Capacity, Searches, Workers, machine, private_file};

/// How often health follows the engine.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

/// How often the keys follow a store that other servers work on too.
const KEYS_INTERVAL: Duration = Duration::from_millis(500);

/// What health is told of: the server as a whole, and each service.
const HEALTH_SERVICES: [&str; 7] = [
    "",
    "facematch.v1.FaceService",
    "facematch.v1.GalleryService",
    "facematch.v1.EnrollmentService",
    "facematch.v1.MatchService",
    "facematch.v1.CalibrationService",
    "facematch.v1.KeyService",
];

/// How often an idle connection is asked whether the other end is still there, and how long it may take to answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes that a connection may send ahead of what is read. A stream that is not read may send a megabyte ahead, hyper's
/// default, which is also its default for the whole connection: with that, one such stream would hold up all other calls.
const CONNECTION_BYTES_AHEAD: u32 = 16 << 20;

/// Calls that one connection may always have open at a time.
const STREAMS_MIN: usize = 16;

/// Bytes of the headers of a call: a key, a request id and a trace take a few hundred.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Streams that a connection may have opened and reset before the server has begun with them; one that does more often is
/// closed (CVE-2023-44487).
const RESETS_PENDING_MAX: usize = 20;

/// A key of 256 bytes and what stands around it.
const ADMIN_KEY_FILE_BYTES_MAX: u64 = 1 << 10;

/// Why a server could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting is missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no key where one is named.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The model pack cannot be loaded.
    #[error("cannot load the model pack")]
    Pack(#[from] PackError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit log cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The admin key cannot be read.
    #[error("cannot read a key of 32 to 256 bytes from the admin key file {}", .0.display())]
    AdminKey(PathBuf),
    /// Others may read the admin key.
    #[error(
        "the admin key file {path} can be read by others than its owner (mode {mode:03o}): make it the owner's alone by `chmod 600 \
         {path}`, and if somebody may have read it, make another by `facematch key generate`",
        path = path.display()
    )]
    AdminKeyOfOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Keys are asked for, and nobody could make the first.
    #[error(
        "keys are required, and there is none that may make others: name a file with one as admin_key_file; `facematch key \
         generate > FILE` makes one"
    )]
    NoKeys,
    /// The keys cannot be read.
    #[error("cannot read the access keys")]
    Keys(#[source] Error),
    /// Photos cannot be decoded where they should be.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
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
    audit: Option<Arc<AuditLog>>,
    drain_time_max: Duration,
}

impl Server {
    /// Loads the pack, opens the store, starts the workers, and listens. Returns once calls are answered.
    ///
    /// *Errors*: whatever of these fails, with what was attempted.
    pub async fn start(config: &Config) -> Result<Self, ServerError> {
        let engine = Arc::new(open_engine(config).await?);
        let cannot_listen = |source| ServerError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (stop, stopped) = oneshot::channel();
        let metrics = match config.metrics_listen {
            Some(at) => Some(MetricsPage::serve(at, Arc::clone(&engine)).await?),
            None => None,
        };
        let audit = config.security.audit_log.as_deref().map(AuditLog::open).transpose()?.map(Arc::new);
        let serving = serve(config, Arc::clone(&engine), audit.clone(), listener, stopped).await?;
        tracing::info!(%address, pack = %engine.pack.id, "serving");
        warn_of_open_doors(config);
        Ok(Self { address, engine, stop, serving, metrics, audit, drain_time_max: config.drain_time_max })
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
        let (engine, audit) = (self.engine, self.audit);
        let workers = Arc::clone(&engine);
        tokio::task::spawn_blocking(move || workers.workers.stop()).await?;
        engine.galleries.close().await;
        if let Some(audit) = audit {
            tokio::task::spawn_blocking(move || audit.close()).await?;
        }
        tracing::info!("stopped");
        served
    }
}

async fn open_engine(config: &Config) -> Result<Engine, ServerError> {
    let key = config.master_key()?;
    let packs = config.clone();
    let Packs { pack, other_packs, decoders, pipelines, open } =
        tokio::task::spawn_blocking(move || load_packs(&packs)).await??;
    let OpenGalleries { galleries, two_stores } = open_galleries(config.store()?, config.second_store()?, key).await?;
    let keys = Arc::new(open_keys(config, galleries.as_ref()).await?);
    let workers = Workers::start(pipelines, config.queue_max, open).map_err(ServerError::Threads)?;
    let capacity =
        Capacity { calls: config.calls_max, bytes: config.in_flight_bytes_max, pixels: config.in_flight_pixels_max };
    Ok(Engine {
        pack,
        other_packs,
        photo_limits: config.photo,
        decoders,
        admission: Admission::new(capacity),
        workers,
        searches: Searches::new(machine::cores(), config.search_wait_max),
        galleries,
        two_stores,
        keys,
        call_time_max: config.call_time_max,
        draining: watch::Sender::new(false),
        items_in_flight: ItemsInFlight::default(),
        calibrating: Arc::new(Semaphore::new(1)),
    })
}

/// The packs that the server runs, and a pipeline of them for each worker.
struct Packs<O> {
    pack: Arc<Pack>,
    other_packs: Vec<Arc<Pack>>,
    decoders: Arc<Decoders>,
    pipelines: Vec<Pipelines>,
    /// Makes another.
    open: O,
}

/// Blocks.
fn load_packs(
    config: &Config,
) -> Result<Packs<impl Fn() -> Result<Pipelines, PackError> + Send + Sync + use<>>, ServerError> {
    let pack = Arc::new(Pack::load(&config.pack_source()?)?);
    tracing::info!(name = pack.name, licence = pack.licence, "model pack loaded");
    let others = config.other_pack_sources()?;
    let other_packs =
        others.iter().map(|source| Ok(Arc::new(Pack::load(source)?))).collect::<Result<Vec<_>, PackError>>()?;
    for other in &other_packs {
        tracing::info!(name = other.name, licence = other.licence, pack = %other.id, "another model pack loaded");
    }
    let decoders = Arc::new(open_decoders(config)?);
    let open = {
        let (pack, others, decoders) = (Arc::clone(&pack), other_packs.clone(), Arc::clone(&decoders));
        move || Pipelines::open(&pack, &others, decoders.open())
    };
    let pipelines = (0..config.workers).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
    Ok(Packs { pack, other_packs, decoders, pipelines, open })
}

fn open_decoders(config: &Config) -> Result<Decoders, ServerError> {
    let decoders = Decoders::new(config.photo, config.isolation.clone());
    if let Some(lacking) = decoders.try_one()? {
        tracing::warn!(lacking, "processes that decode photos have limits, but no filter of system calls");
    }
    Ok(decoders)
}

async fn open_keys(config: &Config, galleries: &dyn Galleries) -> Result<Keys, ServerError> {
    let known = galleries.keys().await.map_err(ServerError::Keys)?;
    if !config.security.keys_required {
        return Keys::open(known).map_err(ServerError::Keys);
    }
    let admin = config.security.admin_key_file.as_deref().map(admin_key).transpose()?;
    let keys = Keys::required(admin.as_ref(), known).map_err(ServerError::Keys)?;
    if keys.can_begin() { Ok(keys) } else { Err(ServerError::NoKeys) }
}

fn admin_key(path: &Path) -> Result<KeyText, ServerError> {
    let unreadable = |_| ServerError::AdminKey(path.to_path_buf());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    if let Some(mode) = private_file::mode_for_others(&file.metadata().map_err(unreadable)?) {
        return Err(ServerError::AdminKeyOfOthers { path: path.to_path_buf(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(ADMIN_KEY_FILE_BYTES_MAX as usize));
    file.take(ADMIN_KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    KeyText::stated(&text).ok_or_else(|| ServerError::AdminKey(path.to_path_buf()))
}

fn warn_of_open_doors(config: &Config) {
    let security = &config.security;
    if !security.grpc_web_origins.is_empty() && !security.keys_required {
        tracing::warn!("web pages of the named origins may call without keys: whoever opens one may do everything");
    }
    if let Some(address) = config.metrics_listen.filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            %address,
            "metrics are told beyond this machine, without TLS or keys: ids of galleries, how many people are in each, what is called"
        );
    }
    if config.listen.ip().is_loopback() {
        return;
    }
    if security.tls.is_none() {
        tracing::warn!("listening beyond this machine without TLS: faces, templates and keys can be read on their way");
    }
    if !security.keys_required {
        tracing::warn!("listening beyond this machine without keys: whoever reaches it may read and delete everything");
    }
}

async fn serve(
    config: &Config,
    engine: Arc<Engine>,
    audit: Option<Arc<AuditLog>>,
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
    let security = &config.security;
    let has_web = !security.grpc_web_origins.is_empty();
    let tls = security.tls.clone().map(|files| Tls::load(files, has_web)).transpose()?.map(Arc::new);
    let strangers = Arc::new(Throttle::new(STRANGERS_A_SECOND));
    let auditing = audit.map(|log| Auditing { log, all_calls: security.audit_all_calls, strangers });
    let router = tonic::transport::Server::builder()
        // A caller who has gone without a word must not hold a connection for ever.
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_connection_window_size(CONNECTION_BYTES_AHEAD)
        // One connection cannot take all places: a quarter of them, but enough for a client of one connection.
        .max_concurrent_streams(u32::try_from((config.calls_max / 4).max(STREAMS_MIN)).ok())
        .http2_max_header_list_size(Some(HEADER_BYTES_MAX))
        .http2_max_pending_accept_reset_streams(Some(RESETS_PENDING_MAX))
        // Browsers speak HTTP/1.1 to what is not encrypted.
        .accept_http1(has_web)
        // Calls of web pages become calls like all others, and their pages are those of the list.
        .layer(option_layer(has_web.then(|| web::cors(&security.grpc_web_origins))))
        .layer(option_layer(has_web.then(GrpcWebLayer::new)))
        // Around all that refuses: what is refused is counted too.
        .layer(ObserveLayer)
        // Nobody without the right takes a permit.
        .layer(AccessLayer {
            keys: Arc::clone(&engine.keys),
            auditing,
            web_origins: security.grpc_web_origins.as_slice().into(),
        })
        // Without a permit nothing of a message is read, and a deadline covers everything below.
        .layer(CallLayer {
            admission: Arc::clone(&engine.admission),
            call_time_max: config.call_time_max,
            message_time_max: security.message_time_max,
        })
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
        )
        .add_service(KeyServiceServer::new(keys::KeyServer(Arc::clone(&engine))));
    let limits = ConnectionLimits { count_max: security.connections_max, idle_time_max: security.connection_idle_max };
    let incoming = Acceptor { listener, tls, limits }.start();
    let refreshed = engine.galleries.capabilities().is_shared.then(|| tokio::spawn(follow_keys(Arc::clone(&engine))));
    Ok(tokio::spawn(async move {
        let _refreshed = refreshed.map(AbortOnDrop);
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

/// Ends a task with what it works for.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows the keys that other servers of the store make and revoke. While the store cannot be asked, those stay in force that
/// were.
async fn follow_keys(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(KEYS_INTERVAL).await;
        let asked = Instant::now();
        if let Ok(keys) = engine.galleries.keys().await {
            engine.keys.follow(keys, asked);
        }
    }
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
