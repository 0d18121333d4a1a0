//! Erases from the database's files what was deleted: VACUUM, of each gallery's tables.
//!
//! A deletion is in force at once for every search. VACUUM takes what was deleted out of tables and indexes and gives its room to
//! what comes next; until that comes, bytes may still lie in free room of a page, of tables more than of indexes, which it zeroes.
//! `vacuum full`, an administrator's, writes a table anew without them, and locks it meanwhile. What neither reaches: the write-ahead
//! log until its files are reused, backups, and standbys until they have replayed it (`docs/scaling.md`).

use tokio::sync::mpsc;

use super::connect::{Connections, Fault};
use super::galleries::{self, Found};
use crate::error::Error;
use crate::gallery::lasting::Compaction;
use crate::gallery::types::Page;

/// A lock of the database's that one compaction of all servers has.
const LOCK: i64 = 0x6661_6365_7661_6363;

pub(super) async fn compact(
    connections: &Connections,
    states: &mpsc::Sender<Result<Compaction, Error>>,
) -> Result<(), Fault> {
    let mut session = connections.take_for_long().await?;
    let is_alone = session.query_one("select pg_try_advisory_lock($1)", &[&LOCK]).await?;
    if !is_alone.try_get::<_, bool>(0)? {
        session.done();
        return Err(Fault::Error(Error::UnderWay("another compaction")));
    }
    // From here on the connection is not given back: the lock goes with it.
    session.batch_execute("set statement_timeout = 0").await?;
    super::schema::drop_some(&mut session).await?;
    let Page { items, .. } = galleries::list(&session, None, usize::MAX, &|_| true).await?;
    let bytes = "select coalesce(sum(pg_total_relation_size(oid)), 0)::bigint from pg_class
                 where relkind = 'r' and relname ~ '^(identity|row|chip)_[0-9]+$'";
    let bytes_of = async |session: &super::connect::Session| -> Result<u64, Fault> {
        Ok(session.query_one(bytes, &[]).await?.try_get::<_, i64>(0)?.cast_unsigned())
    };
    let mut state = Compaction {
        identities: 0,
        identities_total: items.iter().map(|(_, status)| status.counts.identities).sum(),
        bytes_before: bytes_of(&session).await?,
        bytes_after: None,
    };
    for (gallery, status) in items {
        let tables = match galleries::find(&session, &gallery.id).await {
            Ok(Found { tables, .. }) => tables,
            // Deleted meanwhile.
            Err(Fault::Error(Error::NotFound(_))) => continue,
            Err(fault) => return Err(fault),
        };
        for table in [tables.identity(), tables.row(), tables.chip()] {
            let vacuumed = session.batch_execute(&format!("vacuum (index_cleanup on) {table}")).await;
            match vacuumed.map_err(Fault::from) {
                Ok(()) | Err(Fault::Again) => {}
                Err(fault) => return Err(fault),
            }
        }
        state.identities += status.counts.identities;
        // Nobody waits for it any more.
        states.send(Ok(state)).await.map_err(|_| Error::DeadlineExceeded)?;
    }
    state.bytes_after = Some(bytes_of(&session).await?);
    states.send(Ok(state)).await.map_err(|_| Error::DeadlineExceeded)?;
    Ok(())
}
