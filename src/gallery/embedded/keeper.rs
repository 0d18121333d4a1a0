//! Keeps snapshots of the indexes, and the memory small: a thread that looks now and then whether enough has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::StoreError;
use super::index::{Indexes, Shared, read, write};
use super::snapshot::{self, Subject};
use super::store::{Store, Write};
use super::writer::Writer;
use crate::biometrics::ids::GalleryId;
use crate::error::{Entity, Error};
use crate::runtime::disk;

/// Templates from which a gallery has a snapshot: fewer are read from the store in half a second. The tests of this folder
/// have small galleries.
const ROWS_MIN: u64 = if cfg!(test) { 1 } else { 20_000 };

/// A snapshot is taken again once this share of the gallery has changed: a tenth is read from the store in the time that
/// the rest takes from the snapshot.
const CHANGED_SHARE: u64 = 10;

/// What a snapshot leaves free on the disk, for the writes that go on.
const FREE_BYTES_MIN: u64 = 64 << 20;

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
            self.store.shed_some();
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
            if rows < ROWS_MIN {
                self.end_log(&shared);
                continue;
            }
            if changes < rows / CHANGED_SHARE {
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
        let number = read(&shared.index).number;
        let gallery = id.clone();
        let begun = self.writer.submit(move |change| {
            check_is_there(change.store, &gallery, number)?;
            if !change.store.is_logged(number) {
                let (mut write, sequence) = (Write::default(), change.next_sequence());
                change.store.log_changes(&mut write, number, sequence);
                change.apply_unseen(write)?;
            }
            Ok(change.sequence())
        })?;
        let sequence = begun.wait()?;
        let (changes, bytes) = {
            let index = read(&shared.index);
            (index.changes, (index.rows.templates() * index.rows.dimension() * 4) as u64)
        };
        // A disk that filled up would stop all writes.
        if disk::free_bytes(&self.data).is_some_and(|free| free < bytes.saturating_add(FREE_BYTES_MIN)) {
            return Err(Error::Unavailable("the disk has no room for a snapshot"));
        }
        let (store_id, key) = (self.store.id(), self.store.key());
        let subject = Subject { store_id, number, sequence, index: &shared.index, key };
        let written = snapshot::write_file(&self.data, &subject);
        if read(&shared.index).number != number {
            // It moved to another pack meanwhile: what was written is of two galleries, and is removed as of one that is no more.
            return Err(Error::NotFound(Entity::Gallery));
        }
        let again = written.map_err(Error::internal)?;
        let gallery = id.clone();
        let trimmed = self.writer.submit(move |change| {
            check_is_there(change.store, &gallery, number)?;
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

    /// A gallery that has shrunk needs no snapshot, and no log, which would grow.
    fn end_log(&self, shared: &Shared) {
        let number = read(&shared.index).number;
        if !self.store.is_logged(number) {
            return;
        }
        let _files = lock(&self.files);
        self.remove(|of| of == number);
        let ended = self.writer.submit(move |change| {
            let mut write = Write::default();
            change.store.end_log(&mut write, number)?;
            change.apply_unseen(write).map(drop)
        });
        if let Err(error) = ended.and_then(super::writer::Submitted::wait) {
            tracing::warn!(?error, "the log of a small gallery cannot be ended");
        }
    }

    /// Runs a job while no snapshot is written, and removes all of them after it where it went well: they may hold what was
    /// deleted.
    pub(super) fn replace_all<T>(&self, job: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let _files = lock(&self.files);
        let done = job()?;
        let is_removed = self.remove(|_| true);
        for (_, shared) in self.indexes.all() {
            let mut index = write(&shared.index);
            index.changes = index.rows.templates() as u64;
        }
        if !is_removed {
            return Err(Error::Unavailable("it is compacted, but a snapshot of before cannot be removed: see the log"));
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

    /// Tells whether all went well.
    fn remove(&self, is_unwanted: impl Fn(u64) -> bool) -> bool {
        let mut is_removed = true;
        for entry in std::fs::read_dir(snapshot::folder(&self.data)).into_iter().flatten().flatten() {
            let path = entry.path();
            // One that is not named so was never finished.
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".snapshot"));
            let number = name.and_then(|name| name.parse().ok());
            if number.is_none_or(&is_unwanted)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(%error, "a snapshot that is no longer used cannot be removed");
                is_removed = false;
            }
        }
        is_removed
    }
}

/// Another gallery may have been made under the id since.
fn check_is_there(store: &Store, id: &GalleryId, number: u64) -> Result<(), Error> {
    let is_there = store.gallery(id)?.is_some_and(|stored| stored.number == number);
    if is_there { Ok(()) } else { Err(Error::NotFound(Entity::Gallery)) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
