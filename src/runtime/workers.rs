//! The worker pool: one thread and one set of pipelines a core, fed by one bounded queue that serves callers in turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::fair_queue::FairQueue;
use super::gate::{Caller, Gate, GatePass};
use super::turns::{HeldTurn, Turns};
use crate::error::Error;
use crate::model::PackError;
use crate::pipeline::Pipelines;
use crate::telemetry::{RefusedBy, Stage, StageTimes, count_refusal};

/// A place in the queue: taken once by a call, used by one job at a time.
pub struct Place {
    whose: Whose,
    held: Arc<Held>,
    times: StageTimes,
}

impl Place {
    /// Tells whether an item of a stream has it, and so may wait for other things too.
    pub fn is_of_stream(&self) -> bool {
        self.whose.is_stream
    }

    /// Returns how long the stages of the jobs since the last call of this took.
    pub fn take_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }
}

/// Who waits for a job. A stream and the calls of its connection are served in turn, like two callers.
#[derive(Clone, Copy, PartialEq)]
struct Whose {
    caller: Caller,
    is_stream: bool,
}

enum Held {
    OfCall { _pass: GatePass },
    OfStream { _turn: HeldTurn },
}

/// Places a worker that all streams together have, besides those of calls: one that is worked on and one that is next keep a
/// worker busy.
const STREAM_PLACES_A_WORKER: usize = 2;

type Job = Box<dyn FnOnce(&mut Pipelines) + Send>;

const STOPPED: Error = Error::Unavailable("the workers have stopped");

/// Threads that turn photos into templates.
pub struct Workers {
    gate: Arc<Gate>,
    stream_places: Arc<Turns>,
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
    count: usize,
    queue_max: usize,
}

type Queue = FairQueue<Whose, Job>;

struct Shared {
    alive: AtomicUsize,
    /// Moving mean of a job's time, in microseconds: what a refused caller's delay is made of.
    job_micros: AtomicU64,
}

impl Workers {
    /// Starts one thread a set of pipelines; `queue_max` calls may wait for them. `reopen` replaces one after a panic.
    ///
    /// *Errors*: the operating system refuses a thread.
    pub fn start(
        pipelines: Vec<Pipelines>,
        queue_max: usize,
        reopen: impl Fn() -> Result<Pipelines, PackError> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let reopen: Arc<Reopen> = Arc::new(reopen);
        let count = pipelines.len();
        let shared = Arc::new(Shared { alive: AtomicUsize::new(count), job_micros: AtomicU64::new(100_000) });
        let mut threads = Vec::with_capacity(count);
        for (number, pipelines) in pipelines.into_iter().enumerate() {
            let worker = Worker {
                pipelines,
                queue: Arc::clone(&queue),
                shared: Arc::clone(&shared),
                reopen: Arc::clone(&reopen),
            };
            let named = std::thread::Builder::new().name(format!("worker-{number}"));
            threads.push(named.spawn(move || worker.run())?);
        }
        Ok(Self {
            gate: Gate::new(queue_max + count),
            stream_places: Turns::new(STREAM_PLACES_A_WORKER * count),
            queue,
            threads: Mutex::new(threads),
            shared,
            count,
            queue_max,
        })
    }

    /// Takes a place in the queue for a call.
    ///
    /// *Errors*: [`Error::Overloaded`], at once, where all are taken; [`Error::Unavailable`] where no worker is left.
    pub fn reserve(&self, caller: Caller) -> Result<Place, Error> {
        if self.shared.alive.load(Ordering::Acquire) == 0 {
            return Err(STOPPED);
        }
        let pass = self.gate.enter(caller).ok_or_else(|| {
            count_refusal(RefusedBy::Workers);
            Error::Overloaded { retry_after: self.retry_after() }
        })?;
        let whose = Whose { caller, is_stream: false };
        Ok(Place { whose, held: Arc::new(Held::OfCall { _pass: pass }), times: StageTimes::default() })
    }

    /// Takes a place for an item of a stream, which waits for it: its caller is kept from sending more meanwhile. Callers
    /// take turns.
    ///
    /// *Errors*: [`Error::Unavailable`] where no worker is left.
    pub async fn wait_for_place(&self, caller: Caller) -> Result<Place, Error> {
        let turn = self.stream_places.wait(caller).await;
        if self.shared.alive.load(Ordering::Acquire) == 0 {
            return Err(STOPPED);
        }
        let whose = Whose { caller, is_stream: true };
        Ok(Place { whose, held: Arc::new(Held::OfStream { _turn: turn }), times: StageTimes::default() })
    }

    /// Returns how many calls have a place, and how many may.
    pub fn taken_of(&self) -> (usize, usize) {
        self.gate.taken_of()
    }

    /// Returns how many jobs wait for a worker.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Returns how many threads are alive.
    pub fn alive(&self) -> usize {
        self.shared.alive.load(Ordering::Acquire)
    }

    /// Returns how many threads there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs a job on the next free worker.
    ///
    /// Dropping the returned future, as happens when the caller has gone or its time is up, keeps a job that still waits
    /// from ever reaching the model.
    ///
    /// *Errors*: the job's own; [`Error::Unavailable`] where the workers have stopped; [`Error::Internal`] where the job
    /// panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        place: &mut Place,
        job: impl FnOnce(&mut Pipelines) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        // A job that is left in the queue keeps its place until a worker has passed over it.
        let held = Arc::clone(&place.held);
        let (call, in_queue, queued) = (tracing::Span::current(), Stage::Queue.span(), Instant::now());
        let boxed: Job = Box::new(move |pipelines| {
            let _held = held;
            drop(in_queue);
            if sender.is_closed() {
                return; // nobody waits for the answer
            }
            let started = Instant::now();
            // Where this panics, the sender is dropped and the caller gets INTERNAL.
            let result = call.in_scope(|| job(pipelines));
            shared.note(started.elapsed());
            let mut times = pipelines.take_times();
            times.add(Stage::Queue, started.duration_since(queued));
            drop(sender.send((result, times)));
        });
        self.queue.push(place.whose, boxed).map_err(|_| STOPPED)?;
        let done = receiver.await;
        let (result, times) =
            done.map_err(|_| if self.are_alive() { Error::internal("a job panicked") } else { STOPPED })?;
        place.times.merge(times);
        result
    }

    /// Tells whether every worker is alive.
    pub fn are_alive(&self) -> bool {
        self.alive() == self.count
    }

    /// Finishes what is queued and ends the threads. Blocks.
    pub fn stop(&self) {
        self.queue.close();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }

    /// How long until about half of the queue is done.
    fn retry_after(&self) -> Duration {
        let waiting = self.queue_max as u64;
        let micros = self.shared.job_micros.load(Ordering::Relaxed);
        Duration::from_micros(micros.saturating_mul(waiting) / (2 * self.count.max(1) as u64))
            .clamp(Duration::from_millis(10), Duration::from_secs(30))
    }
}

impl Shared {
    fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mean = self.job_micros.load(Ordering::Relaxed);
        self.job_micros.store(mean - mean / 16 + took / 16, Ordering::Relaxed);
    }
}

type Reopen = dyn Fn() -> Result<Pipelines, PackError> + Send + Sync;

struct Worker {
    pipelines: Pipelines,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    reopen: Arc<Reopen>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.shared.alive.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Nobody is left to serve them: whoever waits for one is told.
            self.queue.abandon();
        }
    }
}

impl Worker {
    fn run(mut self) {
        self.pipelines.start();
        while let Some(job) = self.queue.pop() {
            if catch_unwind(AssertUnwindSafe(|| job(&mut self.pipelines))).is_ok() {
                continue;
            }
            // A bad photo costs itself alone. What a panic left in the sessions is not trusted.
            tracing::error!("a job panicked; opening the worker's sessions again");
            match (self.reopen)() {
                Ok(pipelines) => {
                    self.pipelines = pipelines;
                    self.pipelines.start();
                }
                Err(error) => {
                    tracing::error!(%error, "a worker's sessions cannot be opened again; it ends");
                    return;
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
