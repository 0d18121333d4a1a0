//! Tables: those of all galleries, and those that each gallery has of its own.
//!
//! | Table | A row is |
//! |---|---|
//! | `facematch_format` | a version of these tables, the oldest that can work on them, and when they became it |
//! | `gallery` | a gallery: its id, its number, its record |
//! | `gallery_count` | a part of how much a gallery holds: the sum over its slots is the whole |
//! | `gallery_graph` | how the index of a gallery stands, and what it was measured to miss |
//! | `gallery_staged` | an import that has not ended |
//! | `gallery_dropped` | a number whose tables are still to be dropped |
//! | `curve` | a calibration curve |
//! | `access_key` | an access key, without its secret |
//! | `identity_N` | an identity of gallery N: its record, which holds its templates, and its metadata to filter by |
//! | `row_N` | what the identity is found by: a template, or the mean of all, in half precision |
//! | `chip_N` | an aligned chip of a template |
//!
//! A gallery has tables of its own because one index over several, with a WHERE, loses mates: the index proposes candidates before
//! anything is filtered. An identity's rows carry its id, by which a gallery can be distributed: `docs/scaling.md`.
//!
//! Texts are compared by bytes (`collate "C"`), as everywhere in the engine.

use deadpool_postgres::GenericClient;

use super::connect::{Connections, Fault, PostgresError, Session};

/// The version of the tables that this program makes and speaks. Servers of two versions work beside each other, while all are
/// replaced one by one: a new version only adds, and what nobody needs any more goes a version later.
const FORMAT: i32 = 1;

/// The oldest version whose servers can work on tables of [`FORMAT`]: it is written down with them, for those that start.
const SPOKEN_FROM: i32 = 1;

/// Each brings the tables from the version of its place to the next.
const STEPS: [&str; FORMAT as usize] = [r#"
create sequence gallery_number;
create table gallery (
    id text collate "C" primary key,
    number bigint not null unique,
    record bytea not null
);
create table gallery_count (
    number bigint not null,
    slot smallint not null,
    identities bigint not null,
    templates bigint not null,
    primary key (number, slot)
) with (fillfactor = 50);
create table gallery_graph (
    number bigint primary key,
    -- 0: being built, 1: in use, 2: given up.
    state smallint not null,
    rows bigint not null,
    expansion integer not null default 0,
    probes bigint not null default 0,
    missed bigint not null default 0,
    target float8 not null default 0,
    measured_micros bigint not null default 0
);
create table gallery_staged (
    id text collate "C" primary key,
    number bigint not null,
    record bytea not null
);
create table gallery_dropped (number bigint primary key);
create table curve (
    owner text collate "C" primary key,
    revision bigint not null,
    record bytea not null
);
create table access_key (
    id text collate "C" primary key,
    certificate_subject text collate "C" unique,
    record bytea not null
);
"#];

/// The oldest server that will do.
const SERVER_MIN: i32 = 160_000;
const TOO_OLD: &str = "it is older than PostgreSQL 16";

/// A lock that is nobody else's, by its number among the database's advisory locks: tables change under it.
const SCHEMA_LOCK: i64 = 0x6661_6365_6d61_7463;

/// Makes the tables, or brings them up to date. Replicas that start together take turns.
///
/// *Errors*: [`PostgresError::Unfit`] where the database has no vectors, or tables of a newer version.
pub(super) async fn prepare(connections: &Connections) -> Result<(), PostgresError> {
    let mut session = connections.first().await?;
    let unfit = |what: String| PostgresError::Unfit { shown: connections.shown().to_owned(), what };
    let told = |error: tokio_postgres::Error| PostgresError::Connect {
        shown: connections.shown().to_owned(),
        source: Box::new(error),
    };
    let transaction = session.transaction().await.map_err(told)?;
    transaction.execute("select pg_advisory_xact_lock($1)", &[&SCHEMA_LOCK]).await.map_err(told)?;
    let version: i32 =
        transaction.query_one("select current_setting('server_version_num')::int", &[]).await.map_err(told)?.get(0);
    if version < SERVER_MIN {
        return Err(unfit(TOO_OLD.to_owned()));
    }
    let found = "select extversion from pg_extension where extname = 'vector'";
    if transaction.query_opt(found, &[]).await.map_err(told)?.is_none() {
        let made = transaction.execute("create extension vector", &[]).await;
        made.map_err(|error| {
            let why = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
            unfit(format!(
                "the extension pgvector is missing ({why}); have an administrator run: create extension vector"
            ))
        })?;
    }
    let vectors: String = transaction.query_one(found, &[]).await.map_err(told)?.get(0);
    if !has_iterative_scans(&vectors) {
        return Err(unfit(format!("its pgvector is {vectors}, and 0.8 is the oldest that will do")));
    }
    transaction
        .batch_execute(
            "create table if not exists facematch_format (version integer not null, changed timestamptz not null);
             alter table facematch_format add column if not exists spoken_from integer",
        )
        .await
        .map_err(told)?;
    let found = format_of(&transaction).await.map_err(told)?;
    found.check().map_err(|why| unfit(format!("{why}; use that or a later one")))?;
    for (step, version) in STEPS.iter().zip(1..).skip(usize::try_from(found.version).unwrap_or(0)) {
        transaction.batch_execute(step).await.map_err(told)?;
        let sql = "insert into facematch_format (version, spoken_from, changed) values ($1, $2, now())";
        transaction.execute(sql, &[&version, &SPOKEN_FROM]).await.map_err(told)?;
        tracing::info!(version, "made the tables of the store");
    }
    for (setting, value, why) in [
        ("fsync", "off", "a crash of its machine may lose everything"),
        ("full_page_writes", "off", "a crash may damage it"),
    ] {
        let row = transaction.query_one("select current_setting($1)", &[&setting]).await.map_err(told)?;
        if row.get::<_, String>(0) == value {
            tracing::warn!(setting, value, why, "the database is not safe");
        }
    }
    let row = transaction.query_one("select current_setting('synchronous_commit')", &[]).await.map_err(told)?;
    if row.get::<_, String>(0) == "off" {
        return Err(unfit(
            "synchronous_commit is off for this role: what is acknowledged would not be durable".to_owned(),
        ));
    }
    transaction.commit().await.map_err(told)?;
    session.done();
    Ok(())
}

/// What a database says of its tables: all 0 where there are none.
#[derive(Default)]
struct Format {
    version: i32,
    spoken_from: i32,
}

impl Format {
    /// *Errors*: in words, where this program cannot work on them.
    fn check(&self) -> Result<(), String> {
        match self.spoken_from > FORMAT {
            true => Err(format!(
                "its tables are of version {}, and this program, which knows none above {FORMAT}, cannot work on them: a newer \
                 facematch made them",
                self.version
            )),
            false => Ok(()),
        }
    }
}

async fn format_of(client: &impl GenericClient) -> Result<Format, tokio_postgres::Error> {
    // What does not say so is spoken by its own version alone; the column came later than the table.
    let sql = "select version, coalesce((to_jsonb(it) ->> 'spoken_from')::int, version) from facematch_format as it
               order by version desc limit 1";
    let row = client.query_opt(sql, &[]).await?;
    Ok(row.map_or_else(Format::default, |row| Format { version: row.get(0), spoken_from: row.get(1) }))
}

/// Looks at a database without a word to it. Returns what it is.
///
/// *Errors*: [`PostgresError`] where it cannot keep galleries.
pub(super) async fn examine(connections: &Connections) -> Result<String, PostgresError> {
    let session = connections.first().await?;
    let unfit = |what: String| PostgresError::Unfit { shown: connections.shown().to_owned(), what };
    let told = |error: tokio_postgres::Error| PostgresError::Connect {
        shown: connections.shown().to_owned(),
        source: Box::new(error),
    };
    let sql = "select current_setting('server_version_num')::int, current_setting('server_version'),
                      (select extversion from pg_extension where extname = 'vector'),
                      to_regclass('facematch_format') is not null, current_setting('transaction_read_only')::bool,
                      coalesce(has_schema_privilege(current_schema(), 'create'), false)";
    let row = session.query_one(sql, &[]).await.map_err(told)?;
    let (number, version): (i32, String) = (row.get(0), row.get(1));
    if number < SERVER_MIN {
        return Err(unfit(TOO_OLD.to_owned()));
    }
    if row.get(4) {
        return Err(unfit("it takes no writes: it is a standby".to_owned()));
    }
    if !row.get::<_, bool>(5) {
        return Err(unfit(
            "this role may not make tables: let it own the database, or a schema that is first in its search_path"
                .to_owned(),
        ));
    }
    let vectors: Option<String> = row.get(2);
    match &vectors {
        None => {
            return Err(unfit(
                "the extension pgvector is missing; have an administrator run: create extension vector".to_owned(),
            ));
        }
        Some(vectors) if !has_iterative_scans(vectors) => {
            return Err(unfit(format!("its pgvector is {vectors}, and 0.8 is the oldest that will do")));
        }
        Some(_) => {}
    }
    let tables = if row.get(3) {
        let found = format_of(&*session).await.map_err(told)?;
        found.check().map_err(unfit)?;
        format!("tables of version {}", found.version)
    } else {
        "tables will be made".to_owned()
    };
    session.done();
    Ok(format!("{}: PostgreSQL {version}, pgvector {}, {tables}", connections.shown(), vectors.unwrap_or_default()))
}

fn has_iterative_scans(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (0, 8)
}

/// The names of a gallery's own tables. Numbers come from a sequence and are never used again, so a table's name always means the
/// same gallery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tables {
    pub number: i64,
}

/// The longest vectors that fit into a page of 8 KiB with their ids.
const PLAIN_MAX: usize = 3_500;

/// Parts that a gallery's counts are kept in: writers of one part wait for each other.
pub(super) const SLOTS: i16 = 64;

impl Tables {
    pub(super) fn identity(self) -> String {
        format!("identity_{}", self.number)
    }

    pub(super) fn row(self) -> String {
        format!("row_{}", self.number)
    }

    pub(super) fn chip(self) -> String {
        format!("chip_{}", self.number)
    }

    pub(super) fn graph(self) -> String {
        format!("row_{}_graph", self.number)
    }

    /// The statements that make them, for templates of a dimension.
    pub(super) fn make(self, dimension: usize) -> String {
        let Self { number } = self;
        let (identity, row, chip) = (self.identity(), self.row(), self.chip());
        // Read by every search, so not beside the table, if they fit into its pages.
        let plain = match dimension <= PLAIN_MAX {
            true => format!("alter table {row} alter column features set storage plain;"),
            false => format!("alter table {row} alter column features set storage external;"),
        };
        format!(
            r#"
            create table {identity} (
                id text collate "C" primary key,
                record bytea not null,
                metadata jsonb not null
            );
            -- Templates do not compress: trying costs time.
            alter table {identity} alter column record set storage external;
            create table {row} (
                identity_id text collate "C" not null,
                template_id text collate "C" not null,
                features halfvec({dimension}) not null,
                primary key (identity_id, template_id)
            );
            {plain}
            create table {chip} (
                identity_id text collate "C" not null,
                template_id text collate "C" not null,
                picture bytea not null,
                primary key (identity_id, template_id)
            );
            alter table {chip} alter column picture set storage external;
            insert into gallery_count select {number}, slot, 0, 0 from generate_series(0, {SLOTS} - 1) as slot;
            "#
        )
    }

    /// The statements that take them out of use; [`drop_some`] drops them.
    pub(super) fn unmake(self) -> String {
        let Self { number } = self;
        format!(
            "delete from gallery_count where number = {number};
             delete from gallery_graph where number = {number};
             insert into gallery_dropped values ({number}) on conflict do nothing;"
        )
    }
}

/// Drops tables of deleted galleries, a gallery at a time. Where one is still read, by an export, it is left for the next time:
/// nobody waits for the lock.
pub(super) async fn drop_some(session: &mut Session) -> Result<(), Fault> {
    for row in session.query("select number from gallery_dropped", &[]).await? {
        let tables = Tables { number: row.try_get(0)? };
        let transaction = session.transaction().await?;
        let (identity, row, chip) = (tables.identity(), tables.row(), tables.chip());
        let dropped = transaction
            .batch_execute(&format!(
                "set local lock_timeout = '200ms';
                 drop table if exists {identity}, {row}, {chip};
                 delete from gallery_dropped where number = {};",
                tables.number
            ))
            .await;
        match dropped.map_err(Fault::from) {
            Ok(()) => transaction.commit().await?,
            Err(Fault::Error(crate::error::Error::DeadlineExceeded) | Fault::Again) => transaction.rollback().await?,
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}
