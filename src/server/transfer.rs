//! Galleries as files, and compaction: the calls that last. Each ends with its caller.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::call;
use super::engine::Engine;
use super::status::status;
use crate::biometrics::ids::GalleryId;
use crate::contract as proto;
use crate::error::Error;
use crate::gallery::{Compaction, ExportPart, Gallery, ImportState, Lasting, Served};

/// Replies that wait for the other end: what a slow one can make the server hold.
const WAITING_MAX: usize = 2;

/// Replies as they come, and in the end the error, for which a slow taker's queue may have no place.
pub(super) struct Replies<T> {
    replies: mpsc::Receiver<T>,
    failure: Arc<OnceLock<Status>>,
    is_ended: bool,
}

impl<T> Stream for Replies<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        match ready!(self.replies.poll_recv(context)) {
            Some(reply) => Poll::Ready(Some(Ok(reply))),
            None => {
                self.is_ended = true;
                Poll::Ready(self.failure.get().cloned().map(Err))
            }
        }
    }
}

pub(super) async fn export(
    engine: &Engine,
    request: &proto::ExportGalleryRequest,
) -> Result<Replies<proto::ExportGalleryResponse>, Error> {
    let id = GalleryId::parse(&request.gallery_id)?;
    let (_, standing) = engine.galleries.gallery(&id).await?;
    let identity_total = standing.counts.identities;
    let reply = move |ExportPart { bytes, identities, damaged }| proto::ExportGalleryResponse {
        data: bytes,
        identity_count: identities,
        identity_total,
        damaged_identity_count: damaged,
    };
    Ok(stream(engine, engine.galleries.export(&id).await?, reply, None))
}

pub(super) async fn compact(engine: &Engine) -> Result<Replies<proto::CompactGalleriesResponse>, Error> {
    Ok(stream(engine, engine.galleries.compact().await?, compaction_reply, None))
}

pub(super) async fn import_state(
    engine: &Engine,
    request: &proto::GetImportRequest,
) -> Result<proto::GetImportResponse, Error> {
    let id = GalleryId::parse(&request.gallery_id)?;
    let ImportState { export_id, offset } = engine.galleries.import_state(&id).await?;
    Ok(proto::GetImportResponse { export_id, offset })
}

pub(super) async fn import(
    engine: &Engine,
    mut requests: Streaming<proto::ImportGalleryRequest>,
) -> Result<Gallery, Status> {
    let first = requests.message().await?.unwrap_or_default();
    let id = GalleryId::parse(&first.gallery_id).map_err(status)?;
    let mut import = engine.galleries.begin_import(id, first.offset).await.map_err(status)?;
    import.feed(first.data).await.map_err(status)?;
    while let Some(request) = requests.message().await? {
        import.feed(request.data).await.map_err(status)?;
    }
    import.finish(Served::Here).await.map_err(status)
}

/// Replies with the states of something that lasts, until its end or its caller's. Where a server that stops must not wait for
/// it, `stopping` is what its caller is told then.
pub(super) fn stream<S: Send + 'static, T: Send + 'static>(
    engine: &Engine,
    mut states: Lasting<S>,
    reply: impl Fn(S) -> T + Send + Sync + 'static,
    stopping: Option<&'static str>,
) -> Replies<T> {
    let (sender, replies) = mpsc::channel(WAITING_MAX);
    let (call, wait_max, mut draining) = (call::current(), engine.call_time_max, engine.draining.subscribe());
    let failure = Arc::new(OnceLock::new());
    let of_task = Arc::clone(&failure);
    // Not waited for: it ends when the replies cannot be sent. The failure is there before the stream can end: the sender is
    // dropped after it.
    tokio::spawn(async move {
        let told = async {
            loop {
                let state = tokio::select! {
                    state = states.recv() => state,
                    () = sender.closed() => return Err(Error::DeadlineExceeded),
                    _ = draining.wait_for(|is_draining| *is_draining && stopping.is_some()) => {
                        return Err(Error::Unavailable(stopping.unwrap_or_default()));
                    }
                };
                let Some(state) = state else { return Ok(()) };
                if let Some(call) = &call {
                    // Its rights may end meanwhile.
                    call.principal().grants()?;
                }
                let sent = sender.send_timeout(reply(state?), wait_max).await;
                sent.map_err(|_| Error::DeadlineExceeded)?;
            }
        };
        if let Err(error) = told.await {
            let _ = of_task.set(status(error));
        }
    });
    Replies { replies, failure, is_ended: false }
}

fn compaction_reply(state: Compaction) -> proto::CompactGalleriesResponse {
    let Compaction { identities, identities_total, bytes_before, bytes_after } = state;
    proto::CompactGalleriesResponse {
        identity_count: identities,
        identity_total: identities_total,
        bytes_before,
        bytes_after,
    }
}
