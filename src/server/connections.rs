//! Where bytes enter: connections, as many as there may be. When all places are taken, the connection that has been idle for
//! longest makes way for the next: whoever opens many and asks nothing does not keep others out.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::tls::{self, RELOAD_INTERVAL, Tls};

/// How long to wait where the system gives no connection: it is out of file descriptors, and will be for a while.
const ACCEPT_WAIT: Duration = Duration::from_millis(50);

/// How long a connection must have been idle to make way, so that one that has just come can ask something.
const EVICTED_AFTER: Duration = Duration::from_millis(500);

/// How often connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What limits connections.
#[derive(Clone, Copy)]
pub(super) struct ConnectionLimits {
    pub count_max: usize,
    /// One without a call for as long is closed.
    pub idle_time_max: Duration,
}

/// The other end of a connection, as each of its requests carries it.
#[derive(Clone)]
pub(super) struct Peer {
    pub address: SocketAddr,
    /// Of the client certificate that it has shown, which was checked.
    pub subject: Option<Arc<str>>,
    activity: Arc<Activity>,
}

/// What a connection is used for.
struct Activity {
    open_calls: AtomicUsize,
    idle_since: Mutex<Instant>,
    close: CancellationToken,
}

/// A call that keeps its connection from being idle, until it is dropped.
pub(super) struct OpenCall(Arc<Activity>);

impl OpenCall {
    /// Begins one, where the request came over a connection.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let activity = Arc::clone(&request.extensions().get::<Peer>()?.activity);
        activity.open_calls.fetch_add(1, Ordering::AcqRel);
        Some(Self(activity))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.open_calls.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Activity {
    /// For how long there has been no call; `None` where there is one.
    fn idle_time(&self) -> Option<Duration> {
        let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.open_calls.load(Ordering::Acquire) == 0).then(|| since.elapsed())
    }
}

/// A connection as the server reads and writes it.
pub(super) struct Connection {
    stream: Transport,
    peer: Peer,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.closed.as_mut().poll(context).is_ready() {
            // As if the other end had gone.
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// The connections that there are.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<Vec<Weak<Activity>>>>);

impl Open {
    fn add(&self, activity: &Arc<Activity>) {
        self.lock().push(Arc::downgrade(activity));
    }

    /// Closes those that have been idle for too long.
    fn close_idle(&self, idle_time_max: Duration) {
        self.lock().retain(|activity| {
            let Some(activity) = activity.upgrade() else { return false };
            if activity.idle_time().is_some_and(|time| time >= idle_time_max) {
                activity.close.cancel();
            }
            true
        });
    }

    /// Closes the one that has been idle for longest.
    fn evict(&self) {
        let open = self.lock();
        let idle = open.iter().filter_map(Weak::upgrade).filter(|activity| !activity.close.is_cancelled());
        let idle = idle.filter_map(|activity| Some((activity.idle_time()?, activity)));
        if let Some((time, activity)) = idle.max_by_key(|(time, _)| *time)
            && time >= EVICTED_AFTER
        {
            activity.close.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Activity>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts connections, one after the other; they shake hands beside each other.
pub(super) struct Acceptor {
    pub listener: TcpListener,
    pub tls: Option<Arc<Tls>>,
    pub limits: ConnectionLimits,
}

impl Acceptor {
    /// Starts accepting. Ends when what it returns is dropped.
    pub(super) fn start(self) -> Incoming {
        let (sender, connections) = mpsc::channel(1);
        let task = tokio::spawn(self.run(sender));
        Incoming { connections, task }
    }

    async fn run(self, sender: mpsc::Sender<std::io::Result<Connection>>) {
        let places = Arc::new(Semaphore::new(self.limits.count_max));
        let open = Open::default();
        let mut shaking = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        let mut reload = tokio::time::interval(RELOAD_INTERVAL);
        loop {
            tokio::select! {
                accepted = self.accept(&places, &open) => {
                    let Some((stream, address, place)) = accepted else { return };
                    let (tls, open, sender) = (self.tls.clone(), open.clone(), sender.clone());
                    shaking.spawn(async move {
                        if let Some(connection) = connect(stream, address, place, tls, &open).await {
                            // Nobody takes it where the server stops.
                            let _ = sender.send(Ok(connection)).await;
                        }
                    });
                }
                Some(_) = shaking.join_next(), if !shaking.is_empty() => {}
                _ = sweep.tick() => open.close_idle(self.limits.idle_time_max),
                _ = reload.tick() => {
                    if let Some(tls) = self.tls.clone() {
                        // Reads files.
                        drop(tokio::task::spawn_blocking(move || tls.reload()).await);
                    }
                }
            }
        }
    }

    /// *Errors*: `None` never while the server runs.
    async fn accept(
        &self,
        places: &Arc<Semaphore>,
        open: &Open,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = loop {
            let wait = tokio::time::timeout(ACCEPT_WAIT, Arc::clone(places).acquire_owned());
            match wait.await {
                Ok(place) => break place.ok()?,
                Err(_) => open.evict(),
            }
        };
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return Some((stream, address, place)),
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    open.evict();
                    tokio::time::sleep(ACCEPT_WAIT).await;
                }
            }
        }
    }
}

async fn connect(
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
    tls: Option<Arc<Tls>>,
    open: &Open,
) -> Option<Connection> {
    // Small replies are not held back.
    stream.set_nodelay(true).ok()?;
    let close = CancellationToken::new();
    let mut closed = Box::pin(close.clone().cancelled_owned());
    let activity =
        Arc::new(Activity { open_calls: AtomicUsize::new(0), idle_since: Mutex::new(Instant::now()), close });
    // From here on it may have to make way: before the handshake too, which a silent one never ends.
    open.add(&activity);
    let (stream, subject) = match tls {
        None => (Transport::Plain(stream), None),
        Some(tls) => {
            let shaken = tokio::select! {
                shaken = tls.accept(stream) => shaken,
                () = &mut closed => return None,
            };
            match shaken {
                Ok(stream) => {
                    let subject = tls::subject(&stream);
                    (Transport::Tls(Box::new(stream)), subject)
                }
                Err(error) => {
                    tracing::debug!(%error, "a TLS handshake failed");
                    return None;
                }
            }
        }
    };
    let peer = Peer { address, subject: subject.map(Arc::from), activity };
    Some(Connection { stream, peer, closed, _place: place })
}

/// Connections as they come.
pub(super) struct Incoming {
    connections: mpsc::Receiver<std::io::Result<Connection>>,
    task: JoinHandle<()>,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl tokio_stream::Stream for Incoming {
    type Item = std::io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_recv(context)
    }
}
