//! Many people over a stream that may break off: each item is sent until it has its result.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status, Streaming};

use proto::bulk_enroll_request::Message as Request;
use proto::bulk_enroll_response::Message as Reply;

use super::retry::is_transient;
use super::{Channel, Client, REPLY_BYTES_MAX, Repeat, Retry};
use crate::contract as proto;
use crate::contract::enrollment_service_client::EnrollmentServiceClient;

/// How a bulk enrolment is done.
#[derive(Clone, Debug)]
pub struct BulkSettings {
    /// What holds for all items.
    pub options: proto::BulkEnrollOptions,
    /// Items on their way at a time, each kept until it has its result.
    pub items_max: usize,
    /// How long to go on where no result comes.
    pub patience: Duration,
}

impl BulkSettings {
    /// The settings of an enrolment into a gallery: 64 items on their way, a minute's patience.
    pub fn new(gallery_id: impl Into<String>) -> Self {
        let options = proto::BulkEnrollOptions { gallery_id: gallery_id.into(), ..Default::default() };
        Self { options, items_max: 64, patience: Duration::from_secs(60) }
    }
}

/// The results of a bulk enrolment, as they come.
pub struct BulkResults<S> {
    client: EnrollmentServiceClient<Channel>,
    retry: Retry,
    settings: BulkSettings,
    /// `None` at its end.
    items: Option<S>,
    pending: Vec<Pending>,
    open: Option<Open>,
    trouble: Option<Trouble>,
    resumed: u32,
}

/// An item without a result.
struct Pending {
    item: proto::BulkEnrollItem,
    is_sent: bool,
}

impl Pending {
    fn is_of(&self, result: &proto::BulkEnrollResult) -> bool {
        let proto::BulkEnrollItem { idempotency_key, identity_id, .. } = &self.item;
        let identity_id = if identity_id.is_empty() { idempotency_key } else { identity_id };
        *idempotency_key == result.idempotency_key && *identity_id == result.identity_id
    }
}

/// A stream that is open.
struct Open {
    /// `None` once all is sent.
    sender: Option<mpsc::Sender<proto::BulkEnrollRequest>>,
    replies: Streaming<proto::BulkEnrollResponse>,
}

/// Since when no result has come, and how often it was tried.
struct Trouble {
    since: Instant,
    tries: u32,
}

impl Client {
    /// Enrols many people, an item a photo or embedding. Items are taken as the server has room. A bad one fails alone. A
    /// stream that breaks off is gone on with; what the same items in a later call find enrolled is not enrolled again.
    ///
    /// ```no_run
    /// # use facematch::client::{BulkSettings, Client};
    /// # use facematch::contract::BulkEnrollItem;
    /// # async fn enroll(client: Client, items: Vec<BulkEnrollItem>) -> Result<(), tonic::Status> {
    /// let mut results = client.bulk_enroll(BulkSettings::new("staff"), tokio_stream::iter(items));
    /// while let Some(result) = results.next().await? {
    ///     println!("{}: {:?}", result.idempotency_key, result.outcome());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn bulk_enroll<S>(&self, settings: BulkSettings, items: S) -> BulkResults<S>
    where
        S: Stream<Item = proto::BulkEnrollItem> + Unpin,
    {
        let client = EnrollmentServiceClient::new(self.channel()).max_decoding_message_size(REPLY_BYTES_MAX);
        BulkResults {
            client,
            retry: self.retry,
            settings,
            items: Some(items),
            pending: Vec::new(),
            open: None,
            trouble: None,
            resumed: 0,
        }
    }
}

impl<S: Stream<Item = proto::BulkEnrollItem> + Unpin> BulkResults<S> {
    /// Returns the next result, in any order; `None` when each item has one. To be dropped while it waits does no harm.
    ///
    /// *Errors*: what another stream would meet too, such as `GALLERY_NOT_FOUND`; what broke the last one, where no result
    /// came for as long as the settings say.
    pub async fn next(&mut self) -> Result<Option<proto::BulkEnrollResult>, Status> {
        loop {
            if self.open.is_none() && !self.has_work().await {
                return Ok(None);
            }
            match self.turn().await {
                Ok(Some(result)) => {
                    self.trouble = None;
                    return Ok(Some(result));
                }
                Ok(None) => self.open = None,
                Err(status) => {
                    self.open = None;
                    let delay = self.recover(status)?;
                    tokio::time::sleep(delay).await;
                }
            }
        }
    }

    /// Tells how many streams broke off and were gone on with.
    pub fn resumed(&self) -> u32 {
        self.resumed
    }

    /// Waits for something to send: no stream is open while there is nothing, for a server does not wait for ever.
    async fn has_work(&mut self) -> bool {
        while let (true, Some(items)) = (self.pending.is_empty(), &mut self.items) {
            match items.next().await {
                Some(item) => self.pending.push(Pending { item, is_sent: false }),
                None => self.items = None,
            }
        }
        !self.pending.is_empty()
    }

    async fn open(&mut self) -> Result<Open, Status> {
        let (sender, requests) = mpsc::channel(1);
        let first = proto::BulkEnrollRequest { message: Some(Request::Options(self.settings.options.clone())) };
        sender.try_send(first).map_err(|_| Status::internal("a new stream takes no message"))?;
        self.pending.iter_mut().for_each(|pending| pending.is_sent = false);
        let replies = self.client.bulk_enroll(ReceiverStream::new(requests)).await?.into_inner();
        Ok(Open { sender: Some(sender), replies })
    }

    /// Sends and reads until there is a result; `None` where the stream has ended with all of them.
    async fn turn(&mut self) -> Result<Option<proto::BulkEnrollResult>, Status> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        let open = self.open.insert(open);
        let mut is_ending = false;
        loop {
            let unsent = self.pending.iter().position(|pending| !pending.is_sent);
            if unsent.is_none() && self.items.is_none() {
                open.sender = None; // tells the server that this was all
            }
            let can_take = unsent.is_none() && !is_ending && self.pending.len() < self.settings.items_max.max(1);
            tokio::select! {
                reply = open.replies.message() => match reply?.and_then(|reply| reply.message) {
                    Some(Reply::Result(result)) => {
                        if let Some(index) = self.pending.iter().position(|pending| pending.is_of(&result)) {
                            self.pending.remove(index);
                            return Ok(Some(result));
                        }
                    }
                    Some(Reply::Summary(_)) => {}
                    None if self.pending.is_empty() => return Ok(None),
                    None => return Err(Status::unavailable("the server ended the stream early")),
                },
                room = reserve(open.sender.as_ref()), if unsent.is_some() && !is_ending => match room {
                    Ok(room) => {
                        if let Some(pending) = unsent.and_then(|index| self.pending.get_mut(index)) {
                            pending.is_sent = true;
                            // A copy: it is kept until its result has come.
                            room.send(proto::BulkEnrollRequest { message: Some(Request::Item(pending.item.clone())) });
                        }
                    }
                    Err(_) => is_ending = true, // its status says why
                },
                item = next(&mut self.items), if can_take => match item {
                    Some(item) => self.pending.push(Pending { item, is_sent: false }),
                    None => self.items = None,
                },
            }
        }
    }

    /// Decides how long to wait before the next stream; returns the status where there is to be none.
    fn recover(&mut self, status: Status) -> Result<Duration, Status> {
        let is_late = status.code() == Code::DeadlineExceeded;
        if is_late && self.pending.is_empty() {
            return Ok(Duration::ZERO); // the source gave nothing for as long as the server waits
        }
        if !is_late && !is_transient(&status, Repeat::Always) {
            return Err(status);
        }
        let trouble = self.trouble.get_or_insert(Trouble { since: Instant::now(), tries: 0 });
        trouble.tries += 1;
        let delay = self.retry.wait(&status, trouble.tries);
        if trouble.since.elapsed() + delay > self.settings.patience {
            return Err(status);
        }
        self.resumed += 1;
        Ok(delay)
    }
}

async fn reserve(
    sender: Option<&mpsc::Sender<proto::BulkEnrollRequest>>,
) -> Result<mpsc::Permit<'_, proto::BulkEnrollRequest>, mpsc::error::SendError<()>> {
    match sender {
        Some(sender) => sender.reserve().await,
        None => std::future::pending().await,
    }
}

async fn next<S: Stream + Unpin>(items: &mut Option<S>) -> Option<S::Item> {
    match items {
        Some(items) => items.next().await,
        None => std::future::pending().await,
    }
}
