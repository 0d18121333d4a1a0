//! What goes on beside calls: the database's health, tables of deleted galleries, indexes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::connect::{Connections, Fault};
use super::{galleries, graph, migration, schema};
use crate::biometrics::ids::GalleryId;
use crate::error::Error;
use crate::gallery::port::Health;

/// How often the database is asked how it is, and how long it may take to answer.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// How often indexes are looked after, where nobody wakes the keeper.
const KEEPING_INTERVAL: Duration = Duration::from_secs(5);

const READY: u8 = 0;
const READ_ONLY: u8 = 1;
const UNREACHABLE: u8 = 2;

/// The tasks, which end with it.
pub(super) struct Keeper {
    health: Arc<AtomicU8>,
    woken: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Keeper {
    pub(super) fn start(connections: Arc<Connections>, control: Arc<Connections>) -> Self {
        let health = Arc::new(AtomicU8::new(READY));
        let woken = Arc::new(Notify::new());
        let tasks = [
            tokio::spawn(watch_health(Arc::clone(&connections), Arc::clone(&control), Arc::clone(&health))),
            tokio::spawn(keep(connections, control, Arc::clone(&woken))),
        ];
        Self { health, woken, tasks }
    }

    /// Has indexes looked after now.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            READY => Health::Ready,
            READ_ONLY => Health::ReadOnly("the database takes no writes"),
            _ => Health::Unreachable("the database does not answer"),
        }
    }

    pub(super) fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn watch_health(connections: Arc<Connections>, control: Arc<Connections>, health: Arc<AtomicU8>) {
    loop {
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, is_writable(&control)).await;
        let now = match answer {
            Ok(Ok(true)) => READY,
            Ok(Ok(false)) => READ_ONLY,
            // All connections are in use: it does work.
            Ok(Err(Fault::Error(Error::Overloaded { .. }))) => health.load(Ordering::Acquire),
            Ok(Err(_)) | Err(_) => UNREACHABLE,
        };
        connections.set_reachable(now != UNREACHABLE);
        health.store(now, Ordering::Release);
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}

async fn is_writable(connections: &Connections) -> Result<bool, Fault> {
    let session = connections.take().await?;
    let sql = "select not (pg_is_in_recovery() or current_setting('transaction_read_only')::bool)";
    let statement = session.prepare_cached(sql).await?;
    let row = session.query_one(&statement, &[]).await?;
    let is_writable = row.try_get(0)?;
    session.done();
    Ok(is_writable)
}

async fn keep(connections: Arc<Connections>, control: Arc<Connections>, woken: Arc<Notify>) {
    loop {
        // Woken or not, it is time.
        let _ = tokio::time::timeout(KEEPING_INTERVAL, woken.notified()).await;
        let galleries = match look(&control).await {
            Ok(galleries) => galleries,
            Err(fault) => {
                tracing::warn!(?fault, "indexes are looked after later");
                continue;
            }
        };
        for id in galleries {
            // One gallery's index is no reason to leave the others'.
            if let Err(fault) = graph::keep(&connections, &id).await {
                tracing::warn!(?fault, "an index is looked after later");
            }
        }
    }
}

/// Removes what is left of things that ended. Returns the galleries that there are.
async fn look(control: &Connections) -> Result<Vec<GalleryId>, Fault> {
    let mut session = control.take().await?;
    for done in [migration::remove_all_broken(&mut session).await, schema::drop_some(&mut session).await] {
        if let Err(fault) = done {
            tracing::warn!(?fault, "what galleries have left is removed later");
        }
    }
    let page = galleries::list(&session, None, usize::MAX, &|_| true).await?;
    session.done();
    Ok(page.items.into_iter().map(|(gallery, _)| gallery.id).collect())
}
