//! Indexes of large galleries: built beside serving, measured on the gallery itself, and used only where they miss few enough.
//!
//! One server of all builds a gallery's index, under a lock that goes with its connection. The database's index proposes rows; how
//! many candidates it must keep so that the mates of enough probes are among them is measured and written down for all servers.

use std::time::SystemTime;

use pgvector::HalfVector;

use super::connect::{Connections, Fault, Session};
use super::galleries::{Found, GraphState, Lock, find};
use super::records;
use super::schema::Tables;
use crate::biometrics::ids::GalleryId;
use crate::biometrics::template::{Template, dot};
use crate::error::{Entity, Error};
use crate::gallery::mates::{MATE_COSINE, Random, moved};
use crate::gallery::record::micros;
use crate::gallery::types::{GraphRecall, SearchPolicy};

/// Rows from which on the automatic policy has an index: an exact search of so many takes 60 to 75 ms of the database's processor,
/// one by an index that misses one mate in a thousand some 20.
const GRAPH_ROWS_MIN: u64 = 100_000;

/// Neighbours are looked for among so many when a row is added: at the database's default of 64 an index needs 1,000 candidates in
/// a search to find the mates for which this one needs 400, for twice the time of a build.
const CONSTRUCTION: usize = 128;

/// The longest vectors that the index takes.
const DIMENSION_MAX: usize = 4_000;

/// Candidates that a search keeps, tried in turn until the index misses few enough: 1,000 is the database's own limit.
const EXPANSIONS: [usize; 6] = [64, 128, 200, 400, 700, 1_000];

/// Rows that are asked for when measuring.
const PROPOSALS: usize = 64;

/// What there is to do about a gallery's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Todo {
    Nothing,
    Build,
    Measure,
    Drop,
}

fn todo(found: &Found, is_whole: bool) -> Todo {
    let rows = found.counts.templates;
    let is_wanted = found.gallery.dimension <= DIMENSION_MAX
        && match found.gallery.settings.search_policy {
            SearchPolicy::Auto => rows >= GRAPH_ROWS_MIN,
            SearchPolicy::Exact => false,
            SearchPolicy::Graph => rows > 0,
        };
    let target = found.gallery.settings.recall_target;
    let has_grown = |then: u64| rows > then + then / 4;
    match found.graph {
        None if is_wanted => Todo::Build,
        None => Todo::Nothing,
        Some(_) if !is_wanted => Todo::Drop,
        // Of a server that ended before it was done: whoever gets the lock goes on.
        Some(GraphState::Building) => Todo::Build,
        // Somebody dropped it.
        Some(_) if !is_whole => Todo::Build,
        Some(GraphState::Ready { rows, recall }) if has_grown(rows) || !target.is_met_by(&recall) => Todo::Measure,
        Some(GraphState::GivenUp { rows, target: then, .. }) if has_grown(rows) || target.share() < then => {
            Todo::Measure
        }
        Some(GraphState::Ready { .. } | GraphState::GivenUp { .. }) => Todo::Nothing,
    }
}

/// Tells whether a gallery's index is there and can be used.
async fn is_whole(session: &Session, found: &Found) -> Result<bool, Fault> {
    let sql = "select coalesce((select indisvalid from pg_index where indexrelid = to_regclass($1)), false)";
    let statement = session.prepare_cached(sql).await?;
    Ok(session.query_one(&statement, &[&found.tables.graph()]).await?.try_get(0)?)
}

/// Does what there is to do about a gallery's index, if no other server does.
pub(super) async fn keep(connections: &Connections, id: &GalleryId) -> Result<(), Fault> {
    let session = connections.take_for_long().await?;
    let todo_now = match find(&session, id).await {
        Ok(found) => todo(&found, is_whole(&session, &found).await?),
        Err(Fault::Error(Error::NotFound(Entity::Gallery))) => Todo::Nothing,
        Err(fault) => return Err(fault),
    };
    if todo_now == Todo::Nothing {
        session.done();
        return Ok(());
    }
    let sql = "select pg_try_advisory_lock($1, hashtext($2))";
    if !session.query_one(sql, &[&(Lock::Graph as i32), &id.as_str()]).await?.try_get::<_, bool>(0)? {
        session.done();
        return Ok(());
    }
    // From here on the connection is not given back: the lock goes with it.
    let found = find(&session, id).await?;
    session.batch_execute("set statement_timeout = 0").await?;
    match todo(&found, is_whole(&session, &found).await?) {
        Todo::Nothing => Ok(()),
        Todo::Drop => drop_graph(&session, found.tables).await,
        Todo::Measure => measure(&session, &found).await,
        Todo::Build => {
            build(&session, &found).await?;
            measure(&session, &found).await
        }
    }
}

async fn drop_graph(session: &Session, tables: Tables) -> Result<(), Fault> {
    // Not used from here on, by any server.
    session.execute("delete from gallery_graph where number = $1", &[&tables.number]).await?;
    session.batch_execute(&format!("drop index concurrently if exists {}", tables.graph())).await?;
    Ok(())
}

async fn build(session: &Session, found: &Found) -> Result<(), Fault> {
    let Found { tables, counts, .. } = found;
    let (graph, row) = (tables.graph(), tables.row());
    tracing::info!(rows = counts.templates, "building an index");
    let sql = "insert into gallery_graph (number, state, rows) values ($1, 0, $2) on conflict (number) do update set state = 0";
    session.execute(sql, &[&tables.number, &counts.templates.cast_signed()]).await?;
    // One that is not whole, of a server that ended.
    session.batch_execute(&format!("drop index concurrently if exists {graph}")).await?;
    session
        .batch_execute(&format!("create index concurrently {graph} on {row} using hnsw (features halfvec_ip_ops) with (ef_construction = {CONSTRUCTION})"))
        .await?;
    Ok(())
}

/// Raises the expansion until the index proposes the mates of enough probes, and writes down what was measured at the last.
///
/// A probe is another template of the row's identity where there is one that clearly is its mate, else the row moved at random to
/// the cosine of a photo that only just matches.
async fn measure(session: &Session, found: &Found) -> Result<(), Fault> {
    let Found { tables, gallery, counts, .. } = found;
    let target = gallery.settings.recall_target;
    let wanted = 1_000.max((3.0 / (1.0 - target.share())).ceil() as usize);
    let probes = probes(session, found, wanted).await?;
    let mut recall = GraphRecall { probes: 0, missed: 0, expansion: 0, time: SystemTime::now() };
    for expansion in EXPANSIONS {
        recall = GraphRecall { probes: 0, missed: 0, expansion, time: SystemTime::now() };
        session.batch_execute(&settings(expansion, "")).await?;
        let sql =
            format!("select identity_id, template_id from {} order by features <#> $1 limit {PROPOSALS}", tables.row());
        let statement = session.prepare_cached(&sql).await?;
        for (mate, probe) in &probes {
            let rows = session.query(&statement, &[&HalfVector::from_f32_slice(probe)]).await?;
            let mut is_found = false;
            for row in rows {
                is_found |= (row.try_get::<_, &str>(0)?, row.try_get::<_, &str>(1)?) == (&*mate.0, &*mate.1);
            }
            recall.probes += 1;
            recall.missed += u64::from(!is_found);
        }
        if target.is_met_by(&recall) {
            break;
        }
    }
    let GraphRecall { probes, missed, expansion, time } = recall;
    let is_met = target.is_met_by(&recall);
    if is_met {
        tracing::info!(probes, missed, expansion, "index in use");
    } else {
        tracing::warn!(probes, missed, expansion, "the index misses too many mates; the gallery is searched exactly");
    }
    let sql = "update gallery_graph set state = $2, rows = $3, expansion = $4, probes = $5, missed = $6, target = $7,
               measured_micros = $8 where number = $1";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] = [
        &tables.number,
        &if is_met { 1i16 } else { 2 },
        &counts.templates.cast_signed(),
        &i32::try_from(expansion).unwrap_or(i32::MAX),
        &probes.cast_signed(),
        &missed.cast_signed(),
        &target.share(),
        &micros(time).cast_signed(),
    ];
    session.execute(sql, &values).await?;
    Ok(())
}

/// A row, and a vector that should find it.
type Probe = ((String, String), Vec<f32>);

async fn probes(session: &Session, found: &Found, wanted: usize) -> Result<Vec<Probe>, Fault> {
    let Found { tables, gallery, .. } = found;
    let sql = format!("select id, record from {} order by hashtextextended(id, 1) limit $1", tables.identity());
    let limit = i64::try_from(wanted).unwrap_or(i64::MAX);
    let mut random = Random::new();
    let mut probes = Vec::with_capacity(wanted);
    for row in session.query(&sql, &[&limit]).await? {
        let id: String = row.try_get(0)?;
        let identity = records::identity_id(&id)?;
        let Ok(identity) = records::identity(*tables, identity, row.try_get(1)?, gallery.dimension) else { continue };
        let templates = identity.compared_by(gallery.settings.fusion);
        let Some((mate, template)) = templates.first() else { continue };
        let clearly = |other: &&(_, Template)| dot(other.1.values(), template.values()) >= MATE_COSINE;
        let sibling = templates.iter().skip(1).find(clearly).filter(|_| probes.len() % 2 == 0);
        let probe = sibling.map_or_else(|| moved(template.values(), &mut random), |(_, other)| other.values().to_vec());
        probes.push(((id, mate.as_str().to_owned()), probe));
    }
    Ok(probes)
}

/// What makes the database search a gallery by its index. `scope` is empty, or `local`.
pub(super) fn settings(expansion: usize, scope: &str) -> String {
    format!(
        "set {scope} hnsw.ef_search = {expansion}; set {scope} hnsw.iterative_scan = strict_order; set {scope} enable_seqscan = off;"
    )
}
