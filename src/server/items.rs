//! Calls of many items: a stream in and a stream out, each item worked on by itself.
//!
//! The next message is read only while there is room for an item, and a reply waits in a short queue until it is read. So
//! what a caller can make the server hold is one window of items, however fast it sends and however slowly it reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::Stream;
use tonic::codegen::BoxFuture;
use tonic::{Status, Streaming};
use tracing::Instrument;

use super::call::{self, bytes_of_message};
use super::engine::Engine;
use super::status::status;
use crate::error::Error;

/// Photos in hand a worker: one is worked on, one is next, and two are on their way in or wait for their flush.
const PHOTOS_A_WORKER: usize = 4;

/// Replies that wait to be read.
const WAITING_MAX: usize = 2;

const DRAINING: Error = Error::Unavailable("the server is stopping; send what has no result to another");

/// What a call of items does.
pub(super) trait Items: Send + Sized + 'static {
    type Request: Send + 'static;
    type Reply: Send + 'static;

    /// Items in hand at most, where few of them are photos.
    const ITEMS_MAX: usize;

    /// Checks the first message.
    fn begin(engine: &Arc<Engine>, first: Self::Request) -> impl Future<Output = Result<Self, Error>> + Send;

    /// Takes the item out of a later message.
    ///
    /// *Errors*: where it has none. They end the stream.
    fn item(&self, request: Self::Request) -> Result<Item<Self::Reply>, Error>;

    /// Notes a reply that is sent next.
    fn note(&mut self, _reply: &Self::Reply) {}

    /// Makes the last message, once every item has its reply.
    fn last(self) -> BoxFuture<Option<Self::Reply>, Error> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// An item and what makes its reply. An error is not the item's fault and ends the stream.
pub(super) struct Item<R> {
    pub has_photo: bool,
    pub work: BoxFuture<R, Error>,
}

/// The replies of a call. Dropped with the call, it ends all that is worked on for it.
pub(super) struct Replies<R> {
    waiting: mpsc::Receiver<R>,
    task: JoinHandle<Result<(), Status>>,
    is_over: bool,
}

impl<R> Drop for Replies<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<R> Stream for Replies<R> {
    type Item = Result<R, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(reply) = ready!(self.waiting.poll_recv(context)) {
            return Poll::Ready(Some(Ok(reply)));
        }
        let ended = ready!(Pin::new(&mut self.task).poll(context));
        self.is_over = true;
        Poll::Ready(match ended {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(Err(status)),
            Err(_) => Some(Err(panicked())),
        })
    }
}

/// Answers a call of items.
pub(super) fn answer<I: Items>(engine: &Arc<Engine>, requests: Streaming<I::Request>) -> Replies<I::Reply> {
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    // At once, and not when the first message has come: some callers wait for the reply to begin before they send one.
    let work = run::<I>(Arc::clone(engine), requests, sender);
    let task = tokio::spawn(call::within(call::current(), work).in_current_span());
    Replies { waiting, task, is_over: false }
}

/// Why no further message is read; the items in hand are finished all the same.
type End = Result<(), Status>;

async fn run<I: Items>(
    engine: Arc<Engine>,
    mut requests: Streaming<I::Request>,
    replies: mpsc::Sender<I::Reply>,
) -> Result<(), Status> {
    let mut draining = engine.draining.subscribe();
    let first = tokio::select! {
        first = requests.message() => first?,
        () = drain(&mut draining) => return Err(status(DRAINING)),
    };
    drop(bytes_of_message());
    let first = first.ok_or_else(|| status(Error::BadMessage("a stream without a message")))?;
    let mut items = I::begin(&engine, first).await.map_err(status)?;
    let photos_max = PHOTOS_A_WORKER * engine.workers.count();
    let (mut photos, mut in_hand, mut end) = (0, JoinSet::new(), None::<End>);
    loop {
        let reads = end.is_none() && photos < photos_max && in_hand.len() < I::ITEMS_MAX;
        tokio::select! {
            Some(done) = in_hand.join_next() => {
                let (has_photo, reply): (bool, Result<I::Reply, Error>) = done.map_err(|_| panicked())?;
                photos -= usize::from(has_photo);
                let reply = reply.map_err(status)?;
                items.note(&reply);
                send(&engine, &replies, reply).await?;
            }
            () = drain(&mut draining), if end.is_none() => end = Some(Err(status(DRAINING))),
            request = requests.message(), if reads => match request {
                Ok(Some(request)) => {
                    let bytes = bytes_of_message();
                    match items.item(request) {
                        Ok(Item { has_photo, work }) => {
                            photos += usize::from(has_photo);
                            let work = async move {
                                let _bytes = bytes;
                                (has_photo, work.await)
                            };
                            in_hand.spawn(call::within(call::current(), work).in_current_span());
                        }
                        Err(error) => end = Some(Err(status(error))),
                    }
                }
                Ok(None) => end = Some(Ok(())),
                Err(status) => end = Some(Err(status)),
            },
            else => break,
        }
    }
    end.unwrap_or(Ok(()))?;
    match items.last().await.map_err(status)? {
        Some(last) => send(&engine, &replies, last).await,
        None => Ok(()),
    }
}

/// *Errors*: where the caller has gone, or reads nothing for too long.
async fn send<R>(engine: &Engine, replies: &mpsc::Sender<R>, reply: R) -> Result<(), Status> {
    replies.send_timeout(reply, engine.call_time_max).await.map_err(|_| status(Error::DeadlineExceeded))
}

async fn drain(draining: &mut watch::Receiver<bool>) {
    // Without the sender there is no engine either.
    let _ = draining.wait_for(|draining| *draining).await;
}

fn panicked() -> Status {
    status(Error::internal("the work on a stream panicked"))
}
