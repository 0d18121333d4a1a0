//! Galleries: their settings, and how much they hold.

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::connect::{Fault, Session};
use super::curves;
use super::records;
use super::rows::rewrite_rows;
use super::schema::{self, Tables};
use crate::biometrics::ids::{GalleryId, PackId};
use crate::error::{Entity, Error};
use crate::gallery::IsListed;
use crate::gallery::changes::GalleryChange;
use crate::gallery::record::{now, time};
use crate::gallery::types::{
    Deletion, Gallery, GalleryCounts, GallerySettings, GalleryStatus, GraphRecall, Page, SearchPath,
};

/// What the advisory locks of a gallery are for; the second number is a hash of its id, so that now and then two galleries wait
/// for each other.
#[derive(Clone, Copy)]
pub(super) enum Lock {
    /// Writers of identities share it; who changes the gallery itself has it alone.
    Gallery = 0x6661_0001,
    /// Enrolments that look at others have it alone: of two with the same face the second sees the first.
    Others = 0x6661_0002,
    /// An import or a migration.
    Work = 0x6661_0003,
    /// The building of an index.
    Graph = 0x6661_0004,
}

/// How often what is again the same is tried.
const TRIES_MAX: u32 = 8;

/// Tries of something that another server's change may spoil.
#[derive(Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Waits a moment where another try may help.
    ///
    /// *Errors*: what the fault is, where none will.
    pub(super) async fn after(&mut self, fault: Fault) -> Result<(), Error> {
        self.0 += 1;
        if !matches!(fault, Fault::Again | Fault::Taken) {
            return Err(fault.into_error());
        }
        if self.0 >= TRIES_MAX {
            tracing::error!(?fault, "a statement fails again and again: is a table missing?");
            return Err(fault.into_error());
        }
        tokio::time::sleep(Duration::from_millis(2u64 << self.0)).await;
        Ok(())
    }
}

/// How the index of a gallery stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum GraphState {
    Building,
    Ready { recall: GraphRecall, rows: u64 },
    GivenUp { recall: GraphRecall, rows: u64, target: f64 },
}

/// A gallery as it is found.
pub(super) struct Found {
    pub tables: Tables,
    pub gallery: Gallery,
    pub counts: GalleryCounts,
    pub graph: Option<GraphState>,
}

impl Found {
    pub(super) fn status(&self) -> GalleryStatus {
        let (path, build_progress, recall) = match self.graph {
            None => (SearchPath::Exact, None, None),
            // The database tells how far it is, but not of what follows: its measurement.
            Some(GraphState::Building) => (SearchPath::Exact, Some(0.0), None),
            Some(GraphState::Ready { recall, .. }) => (SearchPath::Graph, None, Some(recall)),
            Some(GraphState::GivenUp { recall, .. }) => (SearchPath::Exact, None, Some(recall)),
        };
        GalleryStatus { counts: self.counts, path, build_progress, recall }
    }
}

/// A gallery, with its counts and how its index stands, in one row.
const GALLERY: &str = r"
    select g.id, g.number, g.record, c.identities, c.templates,
           x.state, x.rows, x.expansion, x.probes, x.missed, x.target, x.measured_micros
    from gallery g
    left join lateral (
        select sum(identities)::bigint as identities, sum(templates)::bigint as templates
        from gallery_count where number = g.number
    ) c on true
    left join gallery_graph x on x.number = g.number";

pub(super) fn found(row: &Row) -> Result<Found, Fault> {
    let id: &str = row.try_get(0)?;
    let id = GalleryId::parse(id).map_err(|_| Error::DataLoss("a gallery's id is not one"))?;
    let count = |at: usize| -> Result<u64, Fault> {
        let count: Option<i64> = row.try_get(at)?;
        Ok(u64::try_from(count.unwrap_or(0)).unwrap_or(0))
    };
    let state: Option<i16> = row.try_get(5)?;
    let graph = match state {
        None => None,
        Some(0) => Some(GraphState::Building),
        Some(state) => {
            let expansion: i32 = row.try_get(7)?;
            let recall = GraphRecall {
                probes: count(8)?,
                missed: count(9)?,
                expansion: usize::try_from(expansion).unwrap_or(0),
                time: time(count(11)?),
            };
            let rows = count(6)?;
            Some(match state {
                1 => GraphState::Ready { recall, rows },
                _ => GraphState::GivenUp { recall, rows, target: row.try_get(10)? },
            })
        }
    };
    Ok(Found {
        tables: Tables { number: row.try_get(1)? },
        gallery: records::unseal_gallery(id, row.try_get(2)?)?,
        counts: GalleryCounts { identities: count(3)?, templates: count(4)?, damaged_identities: 0 },
        graph,
    })
}

/// Finds a gallery.
///
/// *Errors*: [`Error::NotFound`].
pub(super) async fn find(session: &Session, id: &GalleryId) -> Result<Found, Fault> {
    let statement = session.prepare_cached(&format!("{GALLERY} where g.id = $1")).await?;
    let row = session.query_opt(&statement, &[&id.as_str()]).await?;
    found(&row.ok_or(Error::NotFound(Entity::Gallery))?)
}

pub(super) async fn list(
    session: &Session,
    after: Option<&GalleryId>,
    count: usize,
    is_listed: IsListed<'_>,
) -> Result<Page<(Gallery, GalleryStatus)>, Fault> {
    const AT_A_TIME: usize = 1_000;
    let sql = format!("{GALLERY} where g.id > $1 order by g.id limit {AT_A_TIME}");
    let statement = session.prepare_cached(&sql).await?;
    let mut last = after.map_or_else(String::new, |id| id.as_str().to_owned());
    let mut page = Page { items: Vec::new(), more: false };
    loop {
        let rows = session.query(&statement, &[&last]).await?;
        for row in &rows {
            let found = found(row)?;
            last = found.gallery.id.as_str().to_owned();
            if !is_listed(&found.gallery.id) {
                continue;
            }
            if page.items.len() == count {
                page.more = true;
                return Ok(page);
            }
            let status = found.status();
            page.items.push((found.gallery, status));
        }
        if rows.len() < AT_A_TIME {
            return Ok(page);
        }
    }
}

pub(super) async fn create(
    session: &mut Session,
    id: &GalleryId,
    settings: &GallerySettings,
    pack_id: &PackId,
    dimension: usize,
) -> Result<Gallery, Fault> {
    let transaction = session.transaction().await?;
    let mut gallery = Gallery::with_defaults(id.clone(), pack_id.clone(), dimension, now());
    gallery.settings = settings.clone();
    let tables = new_tables(&transaction).await?;
    add_gallery(&transaction, tables, &gallery).await?;
    transaction.batch_execute(&tables.make(dimension)).await?;
    transaction.commit().await?;
    Ok(gallery)
}

pub(super) async fn update(session: &mut Session, id: &GalleryId, wanted: &GalleryChange) -> Result<Gallery, Fault> {
    let transaction = session.transaction().await?;
    let Found { tables, gallery: before, .. } = lock_alone(&transaction, id).await?;
    let mut gallery = before.clone();
    wanted.clone().apply_to(&mut gallery.settings);
    gallery.updated = now();
    let record = records::seal_gallery(tables.number, &gallery);
    transaction.execute("update gallery set record = $2 where id = $1", &[&id.as_str(), &record]).await?;
    if gallery.settings.fusion != before.settings.fusion {
        transaction.batch_execute("set local statement_timeout = 0").await?;
        rewrite_rows(&transaction, tables, &gallery).await?;
        // What was measured was of other rows: not used until it is measured again.
        let sql = "update gallery_graph set state = 2, rows = 0 where number = $1";
        transaction.execute(sql, &[&tables.number]).await?;
    }
    transaction.commit().await?;
    Ok(gallery)
}

pub(super) async fn delete(session: &mut Session, id: &GalleryId, force: bool) -> Result<Deletion, Fault> {
    let transaction = session.transaction().await?;
    let deleted = match lock_alone(&transaction, id).await {
        Ok(Found { tables, counts, .. }) => {
            if counts.identities > 0 && !force {
                return Err(Fault::Error(Error::GalleryNotEmpty { identities: counts.identities }));
            }
            transaction.execute("delete from gallery where id = $1", &[&id.as_str()]).await?;
            transaction.execute("delete from curve where owner = $1", &[&curves::of_gallery(id)]).await?;
            // What a migration of it has left; one that is under way, or an import, sees by itself that the gallery is gone.
            if try_lock(&transaction, Lock::Work, id).await? {
                let sql = "delete from gallery_staged where id = $1 returning number";
                if let Some(row) = transaction.query_opt(sql, &[&id.as_str()]).await? {
                    transaction.batch_execute(&Tables { number: row.try_get(0)? }.unmake()).await?;
                }
            }
            tables
        }
        Err(Fault::Error(Error::NotFound(_))) => {
            // What an import that broke off has left.
            if !try_lock(&transaction, Lock::Work, id).await? {
                return Err(Fault::Error(Error::UnderWay("an import into this gallery")));
            }
            let sql = "delete from gallery_staged where id = $1 returning number";
            let row = transaction.query_opt(sql, &[&id.as_str()]).await?;
            Tables { number: row.ok_or(Error::NotFound(Entity::Gallery))?.try_get(0)? }
        }
        Err(fault) => return Err(fault),
    };
    transaction.batch_execute(&deleted.unmake()).await?;
    let sequence = next_number(&transaction).await?;
    transaction.commit().await?;
    let deletion = Deletion { sequence: sequence.cast_unsigned(), time: now() };
    // Now, if nobody reads them; else the keeper does it.
    if let Err(fault) = schema::drop_some(session).await {
        tracing::warn!(?fault, "the tables of a deleted gallery are dropped later");
    }
    Ok(deletion)
}

/// Takes a gallery for oneself: nobody else writes to it until the transaction ends. Returns it as it is then.
pub(super) async fn lock_alone(transaction: &Transaction<'_>, id: &GalleryId) -> Result<Found, Fault> {
    let statement = transaction.prepare_cached("select pg_advisory_xact_lock($1, hashtext($2))").await?;
    transaction.execute(&statement, &[&(Lock::Gallery as i32), &id.as_str()]).await?;
    find_within(transaction, id).await
}

/// Takes a gallery to write to its identities. Returns it as it is then; its settings and tables stay until the transaction ends.
pub(super) async fn lock_shared(transaction: &Transaction<'_>, id: &GalleryId) -> Result<Found, Fault> {
    let statement = transaction.prepare_cached("select pg_advisory_xact_lock_shared($1, hashtext($2))").await?;
    transaction.execute(&statement, &[&(Lock::Gallery as i32), &id.as_str()]).await?;
    find_within(transaction, id).await
}

/// Takes one of a gallery's locks, waiting for it.
pub(super) async fn lock(transaction: &Transaction<'_>, lock: Lock, id: &GalleryId) -> Result<(), Fault> {
    let statement = transaction.prepare_cached("select pg_advisory_xact_lock($1, hashtext($2))").await?;
    transaction.execute(&statement, &[&(lock as i32), &id.as_str()]).await?;
    Ok(())
}

/// Takes one of a gallery's locks if it is free.
pub(super) async fn try_lock(transaction: &Transaction<'_>, lock: Lock, id: &GalleryId) -> Result<bool, Fault> {
    let sql = "select pg_try_advisory_xact_lock($1, hashtext($2))";
    Ok(transaction.query_one(sql, &[&(lock as i32), &id.as_str()]).await?.try_get(0)?)
}

pub(super) async fn find_within(transaction: &Transaction<'_>, id: &GalleryId) -> Result<Found, Fault> {
    let statement = transaction.prepare_cached(&format!("{GALLERY} where g.id = $1")).await?;
    let row = transaction.query_opt(&statement, &[&id.as_str()]).await?;
    found(&row.ok_or(Error::NotFound(Entity::Gallery))?)
}

/// Returns a number that was never used before.
pub(super) async fn next_number(transaction: &Transaction<'_>) -> Result<i64, Fault> {
    let statement = transaction.prepare_cached("select nextval('gallery_number')").await?;
    Ok(transaction.query_one(&statement, &[]).await?.try_get(0)?)
}

pub(super) async fn new_tables(transaction: &Transaction<'_>) -> Result<Tables, Fault> {
    Ok(Tables { number: next_number(transaction).await? })
}

/// *Errors*: [`Error::AlreadyExists`].
pub(super) async fn add_gallery(transaction: &Transaction<'_>, tables: Tables, gallery: &Gallery) -> Result<(), Fault> {
    let record = records::seal_gallery(tables.number, gallery);
    let sql = "insert into gallery (id, number, record) values ($1, $2, $3)";
    let added = transaction.execute(sql, &[&gallery.id.as_str(), &tables.number, &record]).await;
    match added.map_err(Fault::from) {
        Ok(_) => Ok(()),
        Err(Fault::Taken) => Err(Fault::Error(Error::AlreadyExists(Entity::Gallery))),
        Err(fault) => Err(fault),
    }
}
