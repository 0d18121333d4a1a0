//! Keeps snapshots of the indexes: a thread that looks now and then whether enough has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::index::{Indexes, Shared, read, write};
use super::snapshot::{self, Subject};
use super::store::{Store, Write};
use super::types::StoreError;
use super::writer::Writer;
use crate::biometrics::ids::GalleryId;
use crate::error::{Entity, Error};

/// Templates from which a gallery has a snapshot: fewer are read from the store in half a second.
const ROWS_MIN: u64 = 20_000;

/// A snapshot is taken again once this share of the gallery has changed: a tenth is read from the store in the time that
/// the rest takes from the snapshot.
const CHANGED_SHARE: u64 = 10;

/// How often it is looked, and how long after a failure, which is mostly a full disk.
const INTERVAL: Duration = Duration::from_secs(10);
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(300);

/// What the thread works with.
pub(super) struct Snapshots {
    data: PathBuf,
    store: Arc<Store>,
    indexes: Arc<Indexes>,
    writer: Arc<Writer>,
    /// Held while files are written or removed.
    files: Mutex<()>,
}

pub(super) struct Keeper {
    pub(super) snapshots: Arc<Snapshots>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(super) fn start(
        data: &Path,
        store: Arc<Store>,
        indexes: Arc<Indexes>,
        writer: Arc<Writer>,
    ) -> Result<Self, StoreError> {
        let snapshots =
            Arc::new(Snapshots { data: data.to_path_buf(), store, indexes, writer, files: Mutex::default() });
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (of_thread, stop_of_thread) = (Arc::clone(&snapshots), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("snapshots".into());
        let thread = thread.spawn(move || of_thread.keep(&stop_of_thread)).map_err(StoreError::NoThread)?;
        Ok(Self { snapshots, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread, then takes the snapshots that are due, so that the next start need not read what changed. Blocks.
    pub(super) fn stop(&self) {
        if self.end_thread() {
            self.snapshots.take_due();
        }
    }

    fn end_thread(&self) -> bool {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
        let Some(thread) = lock(&self.thread).take() else { return false };
        if thread.join().is_err() {
            tracing::error!("the thread that keeps snapshots panicked");
        }
        true
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end_thread();
    }
}

impl Snapshots {
    fn keep(&self, (stopped, changed): &(Mutex<bool>, Condvar)) {
        let mut interval = INTERVAL;
        loop {
            let until = Instant::now() + interval;
            let mut is_stopped = lock(stopped);
            while !*is_stopped {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                (is_stopped, _) = changed.wait_timeout(is_stopped, left).unwrap_or_else(PoisonError::into_inner);
            }
            if *is_stopped {
                return;
            }
            drop(is_stopped);
            interval = if self.take_due() { INTERVAL } else { INTERVAL_AFTER_FAILURE };
        }
    }

    /// Takes the snapshots that are due; tells whether all went well.
    fn take_due(&self) -> bool {
        let mut all_well = true;
        for (id, shared) in self.indexes.all() {
            let (rows, changes) = {
                let index = read(&shared.index);
                (index.rows.templates() as u64, index.changes)
            };
            if rows < ROWS_MIN || changes < rows / CHANGED_SHARE {
                continue;
            }
            match self.take(&id, &shared) {
                Ok(()) | Err(Error::NotFound(Entity::Gallery)) => {}
                Err(error) => {
                    tracing::warn!(?error, "a snapshot of an index cannot be written; the next start takes longer");
                    all_well = false;
                }
            }
        }
        self.remove_others();
        all_well
    }

    /// Takes the snapshot of a gallery. Blocks.
    ///
    /// *Errors*: [`Error::NotFound`] where the gallery is deleted meanwhile; those of the disk and of the store.
    pub(super) fn take(&self, id: &GalleryId, shared: &Shared) -> Result<(), Error> {
        let _files = lock(&self.files);
        let started = Instant::now();
        // After this change the index has everything up to its sequence number, and what follows is logged.
        let gallery = id.clone();
        let begun = self.writer.submit(move |change| {
            let number = change.store.gallery(&gallery)?.ok_or(Error::NotFound(Entity::Gallery))?.number;
            if !change.store.is_logged(number) {
                let (mut write, sequence) = (Write::default(), change.next_sequence());
                change.store.log_changes(&mut write, number, sequence);
                change.apply_unseen(write)?;
            }
            Ok((number, change.sequence()))
        })?;
        let (number, sequence) = begun.wait()?;
        let changes = read(&shared.index).changes;
        let subject = Subject { store_id: self.store.id(), number, sequence, index: &shared.index };
        let again = snapshot::write_file(&self.data, &subject).map_err(Error::internal)?;
        let trimmed = self.writer.submit(move |change| {
            let mut write = Write::default();
            change.store.trim_log(&mut write, number, sequence)?;
            change.apply_unseen(write)
        })?;
        trimmed.wait()?;
        {
            let mut index = write(&shared.index);
            index.changes = index.changes.saturating_sub(changes);
        }
        let rows = read(&shared.index).rows.templates();
        tracing::info!(rows, again, seconds = started.elapsed().as_secs_f64(), "snapshot of an index written");
        Ok(())
    }

    /// Runs a job while no snapshot is written, and removes all of them after it where it went well: they may hold what was
    /// deleted.
    pub(super) fn replace_all<T>(&self, job: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let _files = lock(&self.files);
        let done = job()?;
        self.remove(|_| true);
        for (_, shared) in self.indexes.all() {
            let mut index = write(&shared.index);
            index.changes = index.rows.templates() as u64;
        }
        Ok(done)
    }

    /// Removes the snapshots of galleries that are no more.
    fn remove_others(&self) {
        let _files = lock(&self.files);
        let numbers: BTreeSet<u64> = self
            .indexes
            .all()
            .iter()
            .filter_map(|(id, _)| Some(self.store.gallery(id).ok().flatten()?.number))
            .collect();
        self.remove(|number| !numbers.contains(&number));
    }

    fn remove(&self, is_unwanted: impl Fn(u64) -> bool) {
        for entry in std::fs::read_dir(snapshot::folder(&self.data)).into_iter().flatten().flatten() {
            let path = entry.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if number.is_none_or(&is_unwanted)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(%error, "a snapshot that is no longer used cannot be removed");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
