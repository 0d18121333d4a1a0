//! The worker pool: one thread and one pipeline a core, fed by one bounded queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::Error;
use crate::model::PackError;
use crate::pipeline::Pipeline;

/// A place in the queue: taken once by a call, used by one job at a time.
pub struct Place(Arc<Held>);

/// What a place takes: one of all places, and for an item of a stream one of the streams' share.
struct Held {
    _place: OwnedSemaphorePermit,
    _of_streams: Option<OwnedSemaphorePermit>,
}

/// Places a worker that all streams together may take: one that is worked on and one that is next keep a worker busy, and
/// the rest of the queue is left to calls that are refused where it is full.
const STREAM_PLACES_A_WORKER: usize = 2;

type Job = Box<dyn FnOnce(&mut Pipeline) + Send>;

const STOPPED: Error = Error::Unavailable("the workers have stopped");

/// Threads that turn photos into templates.
pub struct Workers {
    places: Arc<Semaphore>,
    stream_places: Arc<Semaphore>,
    queue: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
    count: usize,
    queue_max: usize,
}

struct Shared {
    alive: AtomicUsize,
    /// Moving mean of a job's time, in microseconds: what a refused caller's delay is made of.
    job_micros: AtomicU64,
}

impl Workers {
    /// Starts one thread a pipeline; `queue_max` calls may wait for them. `reopen` replaces a pipeline after a panic.
    ///
    /// *Errors*: the operating system refuses a thread.
    pub fn start(
        pipelines: Vec<Pipeline>,
        queue_max: usize,
        reopen: impl Fn() -> Result<Pipeline, PackError> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(queue_max + pipelines.len());
        let jobs = Arc::new(Mutex::new(jobs));
        let reopen: Arc<Reopen> = Arc::new(reopen);
        let count = pipelines.len();
        let shared = Arc::new(Shared { alive: AtomicUsize::new(count), job_micros: AtomicU64::new(100_000) });
        let mut threads = Vec::with_capacity(count);
        for (number, pipeline) in pipelines.into_iter().enumerate() {
            let worker =
                Worker { pipeline, jobs: Arc::clone(&jobs), shared: Arc::clone(&shared), reopen: Arc::clone(&reopen) };
            let named = std::thread::Builder::new().name(format!("worker-{number}"));
            threads.push(named.spawn(move || worker.run())?);
        }
        let places = Arc::new(Semaphore::new(queue_max + count));
        let of_streams = (STREAM_PLACES_A_WORKER * count).min((queue_max + count) / 2).max(1);
        Ok(Self {
            places,
            stream_places: Arc::new(Semaphore::new(of_streams)),
            queue: Mutex::new(Some(queue)),
            threads: Mutex::new(threads),
            shared,
            count,
            queue_max,
        })
    }

    /// Takes a place in the queue for a call.
    ///
    /// *Errors*: [`Error::Overloaded`], at once, where all are taken; [`Error::Unavailable`] where no worker is left.
    pub fn reserve(&self) -> Result<Place, Error> {
        if self.shared.alive.load(Ordering::Acquire) == 0 {
            return Err(STOPPED);
        }
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let permit = permit.map_err(|_| Error::Overloaded { retry_after: self.retry_after() })?;
        Ok(Place(Arc::new(Held { _place: permit, _of_streams: None })))
    }

    /// Takes a place for an item of a stream, which waits for it: its caller is kept from sending more meanwhile. In turn,
    /// whoever waits.
    ///
    /// *Errors*: [`Error::Unavailable`] where no worker is left.
    pub async fn wait_for_place(&self) -> Result<Place, Error> {
        let of_streams = Arc::clone(&self.stream_places).acquire_owned().await.map_err(|_| STOPPED)?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| STOPPED)?;
        if self.shared.alive.load(Ordering::Acquire) == 0 {
            return Err(STOPPED);
        }
        Ok(Place(Arc::new(Held { _place: place, _of_streams: Some(of_streams) })))
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
        job: impl FnOnce(&mut Pipeline) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        // A job that is left in the queue keeps its place until a worker has passed over it.
        let held = Arc::clone(&place.0);
        let boxed: Job = Box::new(move |pipeline| {
            let _held = held;
            if sender.is_closed() {
                return; // nobody waits for the answer
            }
            let started = Instant::now();
            // Where this panics, the sender is dropped and the caller gets INTERNAL.
            let result = job(pipeline);
            shared.note(started.elapsed());
            drop(sender.send(result));
        });
        let queue = lock(&self.queue).clone().ok_or(STOPPED)?;
        // Never full: it holds as many jobs as there are places.
        queue.try_send(boxed).map_err(|_| STOPPED)?;
        drop(queue);
        receiver.await.map_err(|_| if self.are_alive() { Error::internal("a job panicked") } else { STOPPED })?
    }

    /// Tells whether every worker is alive.
    pub fn are_alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire) == self.count
    }

    /// Finishes what is queued and ends the threads. Blocks.
    pub fn stop(&self) {
        drop(lock(&self.queue).take());
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

type Reopen = dyn Fn() -> Result<Pipeline, PackError> + Send + Sync;

struct Worker {
    pipeline: Pipeline,
    jobs: Arc<Mutex<Receiver<Job>>>,
    shared: Arc<Shared>,
    reopen: Arc<Reopen>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.alive.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Worker {
    fn run(mut self) {
        loop {
            // The lock is held while waiting: the other idle workers wait for the lock instead.
            let job = lock(&self.jobs).recv();
            let Ok(job) = job else { return };
            if catch_unwind(AssertUnwindSafe(|| job(&mut self.pipeline))).is_ok() {
                continue;
            }
            // A bad photo costs itself alone. What a panic left in the sessions is not trusted.
            tracing::error!("a job panicked; opening the worker's sessions again");
            match (self.reopen)() {
                Ok(pipeline) => self.pipeline = pipeline,
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
