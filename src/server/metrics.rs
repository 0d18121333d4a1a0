//! The page that Prometheus reads: HTTP on an address of its own, so that it can be kept from the callers of the engine.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::ServerError;
use super::engine::Engine;
use crate::gallery::{Gallery, GalleryStatus, SearchPath};
use crate::telemetry::{Gauges, add_process, page};

/// Galleries with gauges of their own, in order of id: each is a handful of time series.
const GALLERIES_MAX: usize = 1_000;

/// Connections at a time: who opens more waits, and takes no file descriptors from the engine's callers.
const CONNECTIONS_MAX: usize = 16;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) struct MetricsPage {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl MetricsPage {
    /// *Errors*: [`ServerError::Listen`].
    pub(super) async fn serve(at: SocketAddr, engine: Arc<Engine>) -> Result<Self, ServerError> {
        let cannot_listen = |source| ServerError::Listen { address: at, source };
        let listener = TcpListener::bind(at).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = FewConnections { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
        let router = Router::new().route("/metrics", get(answer)).with_state(engine);
        let serving = tokio::spawn(async move {
            tokio::select! {
                ended = axum::serve(listener, router) => if let Err(error) = ended {
                    tracing::error!(%error, "the metrics page ended");
                },
                _ = stopped => {}
            }
        });
        tracing::info!(%address, "serving metrics");
        Ok(Self { address, stop, serving })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn stop(self) {
        drop(self.stop);
        if self.serving.await.is_err() {
            tracing::error!("the metrics page panicked");
        }
    }
}

async fn answer(State(engine): State<Arc<Engine>>) -> Response {
    // Where the store cannot be asked, the page has all but its galleries.
    let galleries = engine.galleries.list_galleries(None, usize::MAX, &|_| true).await;
    let galleries = galleries.map(|page| page.items).ok();
    // Reads /proc.
    let made = tokio::task::spawn_blocking(move || page(gauges(&engine, galleries))).await;
    match made {
        Ok(Ok(page)) => ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn gauges(engine: &Engine, galleries: Option<Vec<(Gallery, GalleryStatus)>>) -> Gauges {
    let mut gauges = Gauges::default();
    let build = [("version", env!("CARGO_PKG_VERSION")), ("pack", engine.pack.id.as_str())];
    gauges.set("facematch_build", &build, 1.0);
    gauges.set("facematch_healthy", &[], f64::from(u8::from(engine.is_healthy())));
    gauges.set("facematch_workers", &[], engine.workers.alive() as f64);
    gauges.set("facematch_queue_length", &[], engine.workers.waiting() as f64);
    let (taken, capacity) = (engine.admission.taken(), engine.admission.capacity());
    let permits = [
        ("calls", (taken.calls, capacity.calls)),
        ("bytes", (taken.bytes, capacity.bytes)),
        ("pixels", (taken.pixels, capacity.pixels)),
        ("workers", engine.workers.taken_of()),
        ("searches", engine.searches.taken_of()),
    ];
    for (of, (taken, limit)) in permits {
        gauges.set("facematch_permits_taken", &[("of", of)], taken as f64);
        gauges.set("facematch_permits", &[("of", of)], limit as f64);
    }
    if let Some(galleries) = &galleries {
        gauges.set("facematch_galleries", &[], galleries.len() as f64);
    }
    for (gallery, status) in galleries.iter().flatten().take(GALLERIES_MAX) {
        let id = [("gallery", gallery.id.as_str())];
        gauges.set("facematch_gallery_identities", &id, status.counts.identities as f64);
        gauges.set("facematch_gallery_templates", &id, status.counts.templates as f64);
        gauges.set("facematch_gallery_damaged_identities", &id, status.counts.damaged_identities as f64);
        let path = match status.path {
            SearchPath::Exact => "exact",
            SearchPath::Graph => "graph",
        };
        gauges.set("facematch_gallery_search_path", &[("gallery", gallery.id.as_str()), ("path", path)], 1.0);
        if let Some(recall) = status.recall {
            gauges.set("facematch_gallery_graph_miss_rate", &id, recall.missed as f64 / recall.probes.max(1) as f64);
        }
    }
    add_process(&mut gauges);
    gauges
}

/// Accepts no more connections than it has places.
struct FewConnections {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

struct Connection {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
}

impl Listener for FewConnections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection { stream, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
