//! Items over the BulkEnroll stream: each is sent until it has its result, over as many connections as that takes.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::super::remote;
use super::ledger::Ledger;
use super::source::{Event, Item, Unusable};
use crate::client::Channel;
use crate::contract as proto;
use crate::contract::enrollment_service_client::EnrollmentServiceClient;
use proto::bulk_enroll_request::Message as Request;
use proto::bulk_enroll_response::Message as Reply;

/// Waits before the next try, where the server states none: the first, then twice as long each time, up to the last.
const BACKOFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(15)];

/// How all items came to their end.
pub(super) enum End {
    /// Each has its result.
    Finished,
    /// Somebody asked to stop: those that were on their way have their results, or were given up by a second request.
    Interrupted,
}

/// What is sent, where to, and what has no result yet.
pub(super) struct Transfer {
    pub client: EnrollmentServiceClient<Channel>,
    pub options: proto::BulkEnrollOptions,
    /// How long to go on trying without a result.
    pub patience: Duration,
    pub ledger: Ledger,
    /// What the source gives; `None` once it has ended.
    events: Option<mpsc::Receiver<anyhow::Result<Event>>>,
    /// In the order in which they were found: no more than the source lets be in flight.
    pending: Vec<Pending>,
    interrupts: watch::Receiver<u32>,
    /// What ended the source early.
    source_fault: Option<anyhow::Error>,
    trouble: Option<Trouble>,
}

struct Pending {
    item: Item,
    is_sent: bool,
}

/// Since when there was no result, and how often it was tried since.
struct Trouble {
    since: Instant,
    tries: u32,
}

/// Why a stream ended before its end.
enum Break {
    /// The call's status.
    Status(Status),
    Interrupted,
    /// What is no fault of the server.
    Own(anyhow::Error),
}

impl From<Status> for Break {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<anyhow::Error> for Break {
    fn from(error: anyhow::Error) -> Self {
        Self::Own(error)
    }
}

/// Where to, and from where.
pub(super) struct Ends {
    pub client: EnrollmentServiceClient<Channel>,
    pub events: mpsc::Receiver<anyhow::Result<Event>>,
    pub interrupts: watch::Receiver<u32>,
}

impl Transfer {
    pub(super) fn new(ends: Ends, options: proto::BulkEnrollOptions, patience: Duration, ledger: Ledger) -> Self {
        let Ends { client, events, interrupts } = ends;
        Self {
            client,
            options,
            patience,
            ledger,
            events: Some(events),
            pending: Vec::new(),
            interrupts,
            source_fault: None,
            trouble: None,
        }
    }

    /// Sends all that the source gives, until each item has its result.
    ///
    /// *Errors*: of the source, of the report, and what would fail the next item too.
    pub(super) async fn run(&mut self) -> anyhow::Result<End> {
        loop {
            // A stream is opened when there is something to send: the server ends one that brings nothing for a while.
            while self.pending.is_empty() {
                let Some(events) = &mut self.events else { return self.end() };
                tokio::select! {
                    event = events.recv() => self.take(event)?,
                    _ = self.interrupts.changed() => return Ok(End::Interrupted),
                }
            }
            match self.stream().await {
                Ok(()) => {}
                Err(Break::Interrupted) => return Ok(End::Interrupted),
                Err(Break::Own(error)) => return Err(error),
                Err(Break::Status(status)) => {
                    if let Some(delay) = self.recover(&status)? {
                        if self.is_interrupted() {
                            return Ok(End::Interrupted);
                        }
                        tokio::select! {
                            () = tokio::time::sleep(delay) => {}
                            _ = self.interrupts.changed() => return Ok(End::Interrupted),
                        }
                    }
                }
            }
        }
    }

    fn end(&mut self) -> anyhow::Result<End> {
        match self.source_fault.take() {
            Some(fault) => Err(fault),
            None if self.is_interrupted() => Ok(End::Interrupted),
            None => Ok(End::Finished),
        }
    }

    fn is_interrupted(&self) -> bool {
        *self.interrupts.borrow() > 0
    }

    /// One stream, until all is sent and answered.
    async fn stream(&mut self) -> Result<(), Break> {
        let (sender, requests) = mpsc::channel(1);
        let options = proto::BulkEnrollRequest { message: Some(Request::Options(self.options.clone())) };
        sender.try_send(options).context("send to a new stream")?;
        let mut replies = tokio::select! {
            replies = self.client.bulk_enroll(ReceiverStream::new(requests)) => replies?.into_inner(),
            _ = self.interrupts.changed() => return Err(Break::Interrupted),
        };
        let (mut sender, mut is_ending) = (Some(sender), false);
        self.pending.iter_mut().for_each(|pending| pending.is_sent = false);
        loop {
            let unsent = self.pending.iter().position(|pending| !pending.is_sent);
            if unsent.is_none() && self.events.is_none() {
                sender = None; // tells the server that this was all
            }
            let can_take = unsent.is_none() && !is_ending;
            tokio::select! {
                reply = replies.message() => match reply?.and_then(|reply| reply.message) {
                    Some(Reply::Result(result)) => self.note(result)?,
                    Some(Reply::Summary(_)) => {}
                    None if self.pending.is_empty() => return Ok(()),
                    None => return Err(Status::unavailable("the server ended the stream early").into()),
                },
                room = reserve(sender.as_ref()), if unsent.is_some() && !is_ending => match (room, unsent) {
                    (Ok(room), Some(unsent)) => self.send(room, unsent),
                    _ => is_ending = true, // its status says why
                },
                event = next(&mut self.events), if can_take => self.take(event)?,
                _ = self.interrupts.changed() => {
                    if *self.interrupts.borrow() > 1 {
                        return Err(Break::Interrupted);
                    }
                    self.stop();
                }
            }
        }
    }

    fn send(&mut self, room: mpsc::Permit<'_, proto::BulkEnrollRequest>, index: usize) {
        if let Some(pending) = self.pending.get_mut(index) {
            pending.is_sent = true;
            room.send(proto::BulkEnrollRequest { message: Some(Request::Item(request(&pending.item))) });
        }
    }

    /// Takes no more, and finishes what is on its way.
    fn stop(&mut self) {
        self.events = None;
        self.pending.retain(|pending| pending.is_sent);
        let on_their_way = self.pending.len();
        self.ledger
            .say(&format!("stopping: waiting for {on_their_way} photos on their way; Ctrl-C again gives them up"));
    }

    fn take(&mut self, event: Option<anyhow::Result<Event>>) -> anyhow::Result<()> {
        match event {
            Some(Ok(Event::Item(item))) => self.pending.push(Pending { item: *item, is_sent: false }),
            Some(Ok(Event::Unusable(unusable))) => self.ledger.unusable(*unusable)?,
            Some(Ok(Event::PassedOver(what))) => self.ledger.say(&format!("passed over: {what}")),
            Some(Err(fault)) => {
                // What was found before it is finished first.
                self.source_fault = Some(fault);
                self.events = None;
            }
            None => self.events = None,
        }
        Ok(())
    }

    fn note(&mut self, result: proto::BulkEnrollResult) -> anyhow::Result<()> {
        let is_of = |pending: &Pending| {
            pending.item.key == result.idempotency_key && pending.item.identity == result.identity_id
        };
        let Some(index) = self.pending.iter().position(is_of) else { return Ok(()) };
        let Pending { item, .. } = self.pending.remove(index);
        self.trouble = None;
        self.ledger.result(&item, result)
    }

    /// Decides what to do about a stream that broke off: how long to wait before the next.
    ///
    /// *Errors*: what another stream would meet too; and where there was no result for too long.
    fn recover(&mut self, status: &Status) -> anyhow::Result<Option<Duration>> {
        if status.code() == Code::OutOfRange {
            // A message is larger than the server takes; if any is, then the largest.
            return self.give_up_the_largest(status).map(|()| None);
        }
        if !is_worth_another_try(status) {
            return Err(remote::failed(status.clone()));
        }
        if self.pending.is_empty() {
            return Ok(None); // the source gave nothing for as long as the server waits
        }
        let trouble = self.trouble.get_or_insert(Trouble { since: Instant::now(), tries: 0 });
        let left = self.patience.saturating_sub(trouble.since.elapsed());
        if left.is_zero() {
            let waited = trouble.since.elapsed().as_secs();
            let context = format!("no photo got a result for {waited} s; the same command again goes on from here");
            return Err(remote::failed(status.clone()).context(context));
        }
        let [first, last] = BACKOFF;
        let backoff = first.saturating_mul(1 << trouble.tries.min(10)).min(last);
        trouble.tries += 1;
        let stated = remote::retry_delay(status).unwrap_or_default();
        if trouble.tries == 1 {
            self.ledger.say(&format!("the stream broke off, trying again: {:#}", remote::failed(status.clone())));
        }
        self.ledger.summary.reconnects += 1;
        Ok(Some(backoff.max(stated).min(left)))
    }

    fn give_up_the_largest(&mut self, status: &Status) -> anyhow::Result<()> {
        let sent = self.pending.iter().enumerate().filter(|(_, pending)| pending.is_sent);
        let largest = sent.max_by_key(|(_, pending)| pending.item.data.len()).map(|(index, _)| index);
        let Some(index) = largest else { return Err(remote::failed(status.clone())) };
        let Item { place, identity, key, .. } = self.pending.remove(index).item;
        let message = "larger than a message to this server may be".to_owned();
        self.ledger.unusable(Unusable { place, identity, key, reason: "PHOTO_TOO_LARGE", message })
    }
}

/// Tells whether a stream may fare better if it is opened again: the server is stopping, overloaded or out of reach. What a
/// server that is there says without a reason is the transport's.
fn is_worth_another_try(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted => true,
        Code::Unknown | Code::Internal | Code::Cancelled => remote::reason(status).is_none(),
        _ => false,
    }
}

fn request(item: &Item) -> proto::BulkEnrollItem {
    proto::BulkEnrollItem {
        idempotency_key: item.key.clone(),
        identity_id: item.identity.clone(),
        display_name: item.display_name.clone(),
        metadata: item.metadata.clone(),
        // A copy: the photo is kept until its result has come.
        source: Some(proto::bulk_enroll_item::Source::Photo(proto::Photo { data: item.data.clone() })),
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

async fn next(events: &mut Option<mpsc::Receiver<anyhow::Result<Event>>>) -> Option<anyhow::Result<Event>> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}
