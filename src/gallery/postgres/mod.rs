//! Galleries in PostgreSQL with pgvector, which any number of servers share: they keep nothing that the database does not have.
//!
//! write → one transaction (`identities.rs`, `rows.rs`) → commit: durable, and visible to every search that begins after it
//!
//! search → the database proposes rows in half precision (`search.rs`) → the engine scores them by the records' templates
//!
//! `schema.rs` has the tables and says why they are so; `connect.rs` how the database is spoken to and what its errors mean.

mod compaction;
mod connect;
mod curves;
mod galleries;
mod graph;
mod identities;
mod keeper;
mod migration;
mod port;
mod records;
mod rows;
mod schema;
mod scope;
mod search;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use self::connect::Connections;
pub use self::connect::{PostgresError, PostgresOptions};
use self::curves::Curves;
use self::keeper::Keeper;

impl PostgresOptions {
    /// Looks whether the database can keep galleries, without writing to it. Returns what it is, in words.
    ///
    /// *Errors*: [`PostgresError`] that says what is wrong.
    pub async fn examine(&self) -> Result<String, PostgresError> {
        schema::examine(&Connections::new(self)?).await
    }
}

/// Connections besides those for calls.
const CONTROL: usize = 3;

/// All galleries of a database.
pub struct PostgresGalleries {
    connections: Arc<Connections>,
    /// For health, keys and what the keeper looks at: never taken by calls.
    control: Arc<Connections>,
    curves: Curves,
    keeping: Keeper,
    /// Longest time of what is asked of the database, but for what lasts.
    time_max: Duration,
}

impl PostgresGalleries {
    /// Connects, makes the tables or brings them up to date, and begins to keep the indexes.
    ///
    /// *Errors*: [`PostgresError`].
    pub async fn open(options: &PostgresOptions) -> Result<Self, PostgresError> {
        let connections = Arc::new(Connections::new(options)?);
        schema::prepare(&connections).await?;
        tracing::info!(store = connections.shown(), "the galleries are in a database");
        let mut few = options.clone();
        few.connections_max = CONTROL;
        let control = Arc::new(Connections::new(&few)?);
        let keeping = Keeper::start(Arc::clone(&connections), Arc::clone(&control));
        Ok(Self { connections, control, curves: Curves::default(), keeping, time_max: options.statement_time_max })
    }
}
