//! The one writer: changes wait in a bounded queue and are made durable in groups.
//!
//! A group: run each change in order → one flush → the index follows in order → replies. Concurrent callers so share a
//! flush (group commit), and a reply means durable and visible.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::crash::step;
use super::error::StoreError;
use super::index::{Delta, Indexes};
use super::store::{Store, Write};
use crate::error::Error;
use crate::telemetry::{RefusedBy, count_refusal, observe_flush};

/// Changes that wait at most; the next is refused.
const QUEUE_MAX: usize = 1_024;

/// Changes that share a flush at most: bounds how long the first of them waits for the others.
const GROUP_MAX: usize = 128;

/// Identities of deleted galleries removed between two groups at most.
const PURGE_STEP: usize = 5_000;

/// What to tell a caller who finds the queue full.
const RETRY_AFTER: Duration = Duration::from_millis(200);

const STOPPED: Error = Error::Unavailable("the store takes no more writes");

/// A change: looks at the store, applies at most one write, and returns what to do when its group is durable or failed.
type Job = Box<dyn FnOnce(&mut Change<'_>) -> Reply + Send>;
type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// What a change works with.
pub(super) struct Change<'a> {
    /// The store as of this moment, all earlier changes included.
    pub store: &'a Store,
    sequence: &'a mut u64,
    deltas: &'a mut Vec<Delta>,
    is_written: &'a mut bool,
}

impl Change<'_> {
    /// Applies a write and notes how the index must follow. Returns its sequence number.
    pub(super) fn apply(&mut self, write: Write, delta: Delta) -> Result<u64, Error> {
        let sequence = self.apply_unseen(write)?;
        self.deltas.push(delta);
        Ok(sequence)
    }

    /// Applies a write of which the index knows nothing. Returns its sequence number.
    pub(super) fn apply_unseen(&mut self, write: Write) -> Result<u64, Error> {
        let sequence = self.next_sequence();
        *self.is_written = true;
        self.store.apply(write, sequence)?;
        *self.sequence = sequence;
        Ok(sequence)
    }

    /// Notes how the index must follow what was applied unseen.
    pub(super) fn follow(&mut self, delta: Delta) {
        self.deltas.push(delta);
    }

    /// Returns the number of the last write.
    pub(super) fn sequence(&self) -> u64 {
        *self.sequence
    }

    /// Makes what was written so far durable.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.store.flush()
    }

    /// Returns what the index does not have yet: how it must follow the earlier changes of the group, in their order.
    pub(super) fn pending(&self) -> &[Delta] {
        self.deltas
    }

    /// Returns the number that the next write will have: never used before.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence.saturating_add(1)
    }
}

pub(super) struct Writer {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    running: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn start(store: Arc<Store>, indexes: Arc<Indexes>, sequence: u64) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let running = Arc::new(AtomicBool::new(true));
        let mut worker = Worker { store, indexes, sequence, running: Arc::clone(&running) };
        let thread = std::thread::Builder::new().name("gallery-writer".into()).spawn(move || worker.run(&jobs));
        let thread = thread.map_err(StoreError::NoThread)?;
        Ok(Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), running })
    }

    /// Runs a change and returns its result once it is durable and visible.
    ///
    /// *Errors*: the change's own; [`Error::Overloaded`] where the queue is full; [`Error::Unavailable`] where the flush
    /// failed, now or before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Change<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (job, outcome) = job(change);
        let queue = lock(&self.queue).clone().ok_or(STOPPED)?;
        queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                count_refusal(RefusedBy::Writes);
                Error::Overloaded { retry_after: RETRY_AFTER }
            }
            TrySendError::Disconnected(_) => STOPPED,
        })?;
        outcome.await.map_err(|_| STOPPED)?
    }

    /// Queues a change of the engine's own, whatever waits already; [`Submitted::wait`] returns its result. Blocks while
    /// the queue is full.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Change<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<Submitted<T>, Error> {
        let (job, outcome) = job(change);
        let queue = lock(&self.queue).clone().ok_or(STOPPED)?;
        queue.send(job).map_err(|_| STOPPED)?;
        Ok(Submitted(outcome))
    }

    /// Tells whether writes are taken.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Finishes what is queued and ends the thread. Blocks.
    pub(super) fn stop(&self) {
        drop(lock(&self.queue).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the gallery writer panicked");
        }
    }
}

impl Drop for Writer {
    /// Whoever let go of the galleries may open the folder again.
    fn drop(&mut self) {
        self.stop();
    }
}

/// A change that was queued.
pub(super) struct Submitted<T>(oneshot::Receiver<Result<T, Error>>);

impl<T> Submitted<T> {
    /// Returns the result once it is durable and visible. Blocks.
    pub(super) fn wait(self) -> Result<T, Error> {
        self.0.blocking_recv().map_err(|_| STOPPED)?
    }
}

fn job<T: Send + 'static>(
    change: impl FnOnce(&mut Change<'_>) -> Result<T, Error> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, Error>>) {
    let (sender, receiver) = oneshot::channel();
    let job: Job = Box::new(move |stage| {
        let result = change(stage);
        // The receiver may be gone: the caller gave up waiting, the change stands.
        Box::new(move |flushed| drop(sender.send(flushed.and(result))))
    });
    (job, receiver)
}

struct Worker {
    store: Arc<Store>,
    indexes: Arc<Indexes>,
    sequence: u64,
    /// Cleared by a failed flush, for good, and when the thread ends, however it ends.
    running: Arc<AtomicBool>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of an orderly stop: from here on nothing may be missing. After a failed flush nobody knows what is there.
        if !self.is_broken()
            && let Err(error) = self.store.mark(self.sequence)
        {
            tracing::warn!(%error, "the marker file cannot be written; damage to the store's end may go unnoticed");
        }
        self.running.store(false, Ordering::Release);
    }
}

impl Worker {
    fn run(&mut self, jobs: &Receiver<Job>) {
        let mut purging = true; // a deletion may have been cut short before the start
        loop {
            let first = if purging {
                match jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => return,
                }
            } else {
                match jobs.recv() {
                    Ok(job) => Some(job),
                    Err(_) => return,
                }
            };
            match first {
                Some(job) => {
                    self.commit(std::iter::once(job).chain(jobs.try_iter().take(GROUP_MAX - 1)));
                    purging = true; // one of them may have deleted a gallery; looking costs a lookup
                }
                None => purging = self.purge(),
            }
        }
    }

    fn commit(&mut self, group: impl Iterator<Item = Job>) {
        let mut deltas = Vec::new();
        let mut replies = Vec::new();
        let mut is_written = false;
        for job in group {
            if self.is_broken() {
                // The job is dropped with its reply channel: its caller is told that the store has stopped.
                continue;
            }
            let mut change = Change {
                store: &self.store,
                sequence: &mut self.sequence,
                deltas: &mut deltas,
                is_written: &mut is_written,
            };
            replies.push(job(&mut change));
        }
        step("applied");
        match if is_written { self.flush(replies.len()) } else { Ok(()) } {
            Ok(()) => {
                step("flushed");
                self.store.mark_some(self.sequence);
                deltas.into_iter().for_each(|delta| self.indexes.apply(delta));
                step("indexed");
                replies.into_iter().for_each(|reply| reply(Ok(())));
            }
            Err(error) => {
                tracing::error!(?error, "a flush failed; writes are refused until the store is opened again");
                self.running.store(false, Ordering::Release);
                replies.into_iter().for_each(|reply| reply(Err(STOPPED)));
            }
        }
    }

    fn flush(&self, changes: usize) -> Result<(), Error> {
        let began = Instant::now();
        let flushed = self.store.flush();
        observe_flush(began.elapsed(), changes);
        flushed
    }

    fn purge(&self) -> bool {
        if self.is_broken() {
            return false;
        }
        let purged = self.store.purge_some(PURGE_STEP).unwrap_or_else(|error| {
            tracing::error!(?error, "removing a deleted gallery's identities failed; trying again at the next start");
            false
        });
        if purged {
            step("purged");
        }
        purged
    }

    fn is_broken(&self) -> bool {
        !self.running.load(Ordering::Acquire)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
