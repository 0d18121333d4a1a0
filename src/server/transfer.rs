//! Galleries as files, and compaction: the calls that last. Each runs on a thread of its own and ends with its caller.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::call::{self, Call};
use super::engine::Engine;
use super::status::status;
use crate::biometrics::ids::GalleryId;
use crate::contract as proto;
use crate::error::Error;
use crate::gallery::{Compaction, ExportPart, Galleries, Gallery, Import, ImportState};

/// Replies, or parts of a file, that wait for the other end: what a slow one can make the server hold.
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

pub(super) fn export(
    engine: &Engine,
    request: &proto::ExportGalleryRequest,
) -> Result<Replies<proto::ExportGalleryResponse>, Error> {
    let id = GalleryId::parse(&request.gallery_id)?;
    let (_, standing) = engine.galleries.gallery(&id)?;
    let identity_total = standing.counts.identities;
    Ok(stream(engine, move |galleries, reply| {
        galleries.export(&id, |ExportPart { bytes, identities, damaged }| {
            reply.send(proto::ExportGalleryResponse {
                data: bytes,
                identity_count: identities,
                identity_total,
                damaged_identity_count: damaged,
            })
        })
    }))
}

pub(super) fn compact(engine: &Engine) -> Replies<proto::CompactGalleriesResponse> {
    stream(engine, |galleries, reply| {
        let done = galleries.compact(|state| reply.send(compaction_reply(state)))?;
        reply.send(compaction_reply(done))
    })
}

pub(super) fn import_state(
    engine: &Engine,
    request: &proto::GetImportRequest,
) -> Result<proto::GetImportResponse, Error> {
    let id = GalleryId::parse(&request.gallery_id)?;
    let ImportState { export_id, offset } = engine.galleries.import_state(&id)?;
    Ok(proto::GetImportResponse { export_id, offset })
}

/// What the reader of an import's stream hands to the thread that imports.
enum Sent {
    Data(Vec<u8>),
    /// The stream ended well: what breaks off never gets here.
    End,
}

pub(super) async fn import(
    engine: &Engine,
    mut requests: Streaming<proto::ImportGalleryRequest>,
) -> Result<Gallery, Status> {
    let first = requests.message().await?.unwrap_or_default();
    let id = GalleryId::parse(&first.gallery_id).map_err(status)?;
    let galleries = Arc::clone(&engine.galleries);
    let (sender, mut parts) = mpsc::channel(WAITING_MAX);
    let permit = call::current();
    let importing = tokio::task::spawn_blocking(move || -> Result<Gallery, Error> {
        let _permit = permit;
        let mut import: Import = galleries.begin_import(id, first.offset)?;
        import.feed(&first.data)?;
        loop {
            match parts.blocking_recv() {
                Some(Sent::Data(data)) => import.feed(&data)?,
                Some(Sent::End) => return import.finish(),
                None => return Err(Error::BadMessage("the stream broke off")),
            }
        }
    });
    let mut sent = Ok(());
    // A send fails where the import has ended by an error, which is then the answer.
    while let (Ok(()), Some(request)) = (&sent, requests.message().await?) {
        sent = sender.send(Sent::Data(request.data)).await;
    }
    if sent.is_ok() {
        let _ = sender.send(Sent::End).await;
    }
    let imported = importing.await.map_err(|_| status(Error::internal("an import panicked")))?;
    imported.map_err(status)
}

/// The reply side of a call that lasts.
pub(super) struct Reply<T> {
    /// Whose rights may end meanwhile.
    call: Option<Arc<Call>>,
    sender: mpsc::Sender<T>,
    handle: tokio::runtime::Handle,
    wait_max: Duration,
}

impl<T> Reply<T> {
    /// *Errors*: where the caller has gone, or its key is no longer in force.
    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(call) = &self.call {
            call.principal().grants()?;
        }
        if self.sender.is_closed() { Err(Error::DeadlineExceeded) } else { Ok(()) }
    }

    /// *Errors*: those of [`Reply::check`]; where the caller takes nothing for too long.
    pub(super) fn send(&self, message: T) -> Result<(), Error> {
        self.check()?;
        let sent = self.handle.block_on(self.sender.send_timeout(message, self.wait_max));
        sent.map_err(|_| Error::DeadlineExceeded)
    }
}

/// Runs a job on a thread of its own; what it sends, and its error, are the replies.
pub(super) fn stream<T: Send + 'static>(
    engine: &Engine,
    job: impl FnOnce(&Galleries, &Reply<T>) -> Result<(), Error> + Send + 'static,
) -> Replies<T> {
    let (sender, replies) = mpsc::channel(WAITING_MAX);
    let galleries = Arc::clone(&engine.galleries);
    let call = call::current();
    let handle = tokio::runtime::Handle::current();
    let reply = Reply { call, sender, handle, wait_max: engine.call_time_max };
    let failure = Arc::new(OnceLock::new());
    let of_job = Arc::clone(&failure);
    // Not waited for: it ends when the replies cannot be sent, or with the writer. The failure is there before the stream
    // can end: the sender is dropped after it.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = job(&galleries, &reply) {
            let _ = of_job.set(status(error));
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
