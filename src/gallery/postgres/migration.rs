//! A gallery moves to another pack: new templates of its kept chips, in new tables beside the running gallery, then one switch.
//!
//! Who changes meanwhile is known by the number of the transaction that wrote each row, which the database keeps; the last few are
//! made anew while nobody else writes. A migration that broke off leaves its tables and a row that says so; the keeper of any
//! server removes both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_postgres::IsolationLevel;

use super::connect::{Connections, Fault, Session};
use super::galleries::{Found, Lock, find, lock_alone, new_tables, try_lock};
use super::records;
use super::rows::{copy_in, read, remove_some};
use super::schema::Tables;
use super::transfer::read_chips;
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::{Entity, Error};
use crate::gallery::comparison::{COMPARED_MAX, Comparing};
use crate::gallery::lasting::{Embed, MigrationComparison, MigrationPlan, MigrationState};
use crate::gallery::record::now;
use crate::gallery::types::{Gallery, Identity};

/// Identities that are embedded and written together.
const STEP_IDENTITIES: usize = 32;

/// Changed identities that are left to the switch, for which all writes of the gallery wait.
const LAST_CHANGES_MAX: usize = 16;

/// How often the changes of meanwhile are caught up with before it.
const ROUNDS_MAX: usize = 30;

/// Where states of it go.
pub(super) type States = mpsc::Sender<Result<MigrationState, Error>>;

struct Migration {
    /// Has the lock, and so is not given back.
    session: Session,
    from: Tables,
    to: Tables,
    before: Gallery,
    after: Gallery,
    embed: Arc<Embed>,
    /// By which transaction each identity that is there was written when it was read.
    versions: BTreeMap<IdentityId, i64>,
}

pub(super) async fn migrate(
    connections: &Connections,
    id: &GalleryId,
    plan: &MigrationPlan,
    embed: Arc<Embed>,
    states: &States,
) -> Result<(), Fault> {
    let mut session = connections.take_for_long().await?;
    let sql = "select pg_try_advisory_lock($1, hashtext($2))";
    if !session.query_one(sql, &[&(Lock::Work as i32), &id.as_str()]).await?.try_get::<_, bool>(0)? {
        session.done();
        return Err(Fault::Error(Error::UnderWay("an import into this gallery, or another migration of it,")));
    }
    // From here on the connection is not given back: the lock goes with it.
    session.batch_execute("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0").await?;
    let Found { tables: from, gallery: before, counts, .. } = find(&session, id).await?;
    if before.pack_id == plan.pack_id {
        unlock(&session, id).await?;
        return Err(Fault::Error(Error::bad_field("pack_id", "another pack than the gallery's")));
    }
    if let Err(fault) = check_chips(&session, from, &before, counts.templates).await {
        unlock(&session, id).await?;
        return Err(fault);
    }
    // Of one that broke off: the lock is ours.
    remove_staged(&mut session, id, None).await?;
    let after = before.clone().moved(&plan.pack_id, plan.dimension, now());
    let transaction = session.transaction().await?;
    let to = new_tables(&transaction).await?;
    transaction.batch_execute(&to.make(plan.dimension)).await?;
    let sql = "insert into gallery_staged (id, number, record) values ($1, $2, '')";
    transaction.execute(sql, &[&id.as_str(), &to.number]).await?;
    transaction.commit().await?;
    let mut migration = Migration { session, from, to, before, after, embed, versions: BTreeMap::new() };
    let migrated = migration.run(plan, counts.identities, states).await;
    if migrated.is_err() || plan.is_trial {
        // Where this fails, the keeper does it.
        let _ = remove_staged(&mut migration.session, id, Some(to)).await;
    }
    // Whoever is told of the end may begin another one; else the lock goes with the connection, a moment later.
    let unlocked = unlock(&migration.session, id).await;
    let state = migrated?;
    unlocked?;
    tell(states, state).await
}

async fn unlock(session: &Session, id: &GalleryId) -> Result<(), Fault> {
    let sql = "select pg_advisory_unlock($1, hashtext($2))";
    session.query_one(sql, &[&(Lock::Work as i32), &id.as_str()]).await?;
    Ok(())
}

async fn tell(states: &States, state: MigrationState) -> Result<(), Fault> {
    Ok(states.send(Ok(state)).await.map_err(|_| Error::DeadlineExceeded)?)
}

/// Checks that every template has its chip.
async fn check_chips(session: &Session, tables: Tables, gallery: &Gallery, templates: u64) -> Result<(), Fault> {
    let row = session.query_one(&format!("select count(*) from {}", tables.chip()), &[]).await?;
    if row.try_get::<_, i64>(0)?.cast_unsigned() == templates {
        return Ok(());
    }
    let (mut missing, mut identities, mut first) = (0, 0, None);
    let sql = format!("select id, record from {} order by id", tables.identity());
    for row in session.query(&sql, &[]).await? {
        let id = records::identity_id(row.try_get(0)?)?;
        let identity = records::identity(tables, id.clone(), row.try_get(1)?, gallery.dimension)?;
        let own = identity.templates.iter().filter(|enrolled| enrolled.chip.is_none()).count() as u64;
        missing += own;
        identities += u64::from(own > 0);
        if own > 0 && first.is_none() {
            first = Some(id);
        }
    }
    match first {
        Some(first) => Err(Fault::Error(Error::ChipsMissing { templates: missing, identities, first })),
        None => Ok(()),
    }
}

/// Removes what a migration of a gallery has left, by whoever has its lock: in these tables, or in any.
async fn remove_staged(session: &mut Session, id: &GalleryId, tables: Option<Tables>) -> Result<(), Fault> {
    let transaction = session.transaction().await?;
    let sql = "delete from gallery_staged where id = $1 and number = coalesce($2, number) returning number";
    let number = tables.map(|tables| tables.number);
    if let Some(row) = transaction.query_opt(sql, &[&id.as_str(), &number]).await? {
        transaction.batch_execute(&Tables { number: row.try_get(0)? }.unmake()).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Removes what migrations of servers that ended have left.
pub(super) async fn remove_all_broken(session: &mut Session) -> Result<(), Fault> {
    let sql = "select s.id from gallery_staged s join gallery g on g.id = s.id";
    for row in session.query(sql, &[]).await? {
        let id = GalleryId::parse(row.try_get(0)?).map_err(|_| Error::DataLoss("a gallery's id is not one"))?;
        let transaction = session.transaction().await?;
        if !try_lock(&transaction, Lock::Work, &id).await? {
            // It is under way.
            continue;
        }
        let sql =
            "delete from gallery_staged where id = $1 and exists (select from gallery where id = $1) returning number";
        if let Some(row) = transaction.query_opt(sql, &[&id.as_str()]).await? {
            tracing::warn!("a migration of a gallery did not end; what it had written is removed");
            transaction.batch_execute(&Tables { number: row.try_get(0)? }.unmake()).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

impl Migration {
    async fn run(
        &mut self,
        plan: &MigrationPlan,
        identities_total: u64,
        states: &States,
    ) -> Result<MigrationState, Fault> {
        let mut state = MigrationState { identities_total, ..Default::default() };
        while let Some(count) = self.step().await? {
            state.identities += count;
            tell(states, state).await?;
        }
        let comparison = self.compare().await?;
        state.comparison = Some(comparison);
        if plan.is_trial {
            return Ok(state);
        }
        comparison.check(plan.loss_max)?;
        for _ in 0..ROUNDS_MAX {
            let changed = self.changed().await?;
            if changed.len() <= LAST_CHANGES_MAX {
                break;
            }
            self.follow(&changed).await?;
            if states.is_closed() {
                return Err(Fault::Error(Error::DeadlineExceeded));
            }
        }
        self.switch().await?;
        state.is_switched = true;
        Ok(state)
    }

    /// Makes the templates of the next identities anew. Returns how many those are; `None` at the end.
    async fn step(&mut self) -> Result<Option<u64>, Fault> {
        let last = self.versions.keys().next_back().map_or("", IdentityId::as_str);
        let sql = format!(
            "select id, record, xmin::text::bigint from {} where id > $1 order by id limit {STEP_IDENTITIES}",
            self.from.identity()
        );
        // Records and their chips as of one moment.
        let transaction =
            self.session.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = transaction.start().await?;
        let rows = transaction.query(&sql, &[&last]).await?;
        let mut identities = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = records::identity_id(row.try_get(0)?)?;
            self.versions.insert(id.clone(), row.try_get(2)?);
            identities.push(records::identity(self.from, id, row.try_get(1)?, self.before.dimension)?);
        }
        read_chips(&transaction, self.from, &mut identities).await?;
        transaction.commit().await?;
        let count = identities.len() as u64;
        if count == 0 {
            return Ok(None);
        }
        let made = embedded(&self.embed, identities).await?;
        let transaction = self.session.transaction().await?;
        copy_in(&transaction, self.to, &self.after, &made).await?;
        transaction.commit().await?;
        Ok(Some(count))
    }

    async fn compare(&self) -> Result<MigrationComparison, Fault> {
        let sql = format!(
            "select f.id, f.record, t.record from {} f join {} t on t.id = f.id order by hashtextextended(f.id, 1) limit $1",
            self.from.identity(),
            self.to.identity()
        );
        let mut comparing = Comparing::default();
        for row in self.session.query(&sql, &[&(COMPARED_MAX as i64)]).await? {
            let id = records::identity_id(row.try_get(0)?)?;
            let before = records::identity(self.from, id.clone(), row.try_get(1)?, self.before.dimension)?;
            comparing.add(&before, &records::identity(self.to, id, row.try_get(2)?, self.after.dimension)?);
        }
        let (before, after) = (self.before.dimension, self.after.dimension);
        let compared = tokio::task::spawn_blocking(move || comparing.finish(before, after)).await;
        Ok(compared.map_err(|_| Error::internal("a comparison panicked"))??)
    }

    /// Which identities changed since they were read.
    async fn changed(&self) -> Result<BTreeSet<IdentityId>, Fault> {
        let sql = format!("select id, xmin::text::bigint from {}", self.from.identity());
        let mut gone: BTreeSet<&IdentityId> = self.versions.keys().collect();
        let mut changed = BTreeSet::new();
        for row in self.session.query(&sql, &[]).await? {
            let id = records::identity_id(row.try_get(0)?)?;
            gone.remove(&id);
            if self.versions.get(&id) != Some(&row.try_get(1)?) {
                changed.insert(id);
            }
        }
        changed.extend(gone.into_iter().cloned());
        Ok(changed)
    }

    async fn follow(&mut self, changed: &BTreeSet<IdentityId>) -> Result<(), Fault> {
        let changed: Vec<&IdentityId> = changed.iter().collect();
        for some in changed.chunks(STEP_IDENTITIES) {
            let transaction = self.session.transaction().await?;
            let (identities, versions) = look(&transaction, self.from, &self.before, some).await?;
            transaction.commit().await?;
            let made = embedded(&self.embed, identities).await?;
            let transaction = self.session.transaction().await?;
            put(&transaction, self.to, &self.after, some, &made).await?;
            transaction.commit().await?;
            for (id, version) in some.iter().zip(versions) {
                match version {
                    Some(version) => self.versions.insert((*id).clone(), version),
                    None => self.versions.remove(*id),
                };
            }
        }
        Ok(())
    }

    /// Puts the new templates in the place of the old ones: nobody writes between the last change and the switch, and both are
    /// one transaction.
    async fn switch(&mut self) -> Result<(), Fault> {
        let id = self.before.id.clone();
        let versions = std::mem::take(&mut self.versions);
        let transaction = self.session.transaction().await?;
        // Everybody waits for it: a server that hangs in the middle is not waited for long.
        transaction.batch_execute("set local idle_in_transaction_session_timeout = '60s'").await?;
        let found = lock_alone(&transaction, &id).await?;
        if found.tables != self.from {
            // Deleted, and made anew.
            return Err(Fault::Error(Error::NotFound(Entity::Gallery)));
        }
        let sql = format!("select id, xmin::text::bigint from {}", self.from.identity());
        let mut gone: BTreeSet<&IdentityId> = versions.keys().collect();
        let mut changed = BTreeSet::new();
        for row in transaction.query(&sql, &[]).await? {
            let id = records::identity_id(row.try_get(0)?)?;
            gone.remove(&id);
            if versions.get(&id) != Some(&row.try_get(1)?) {
                changed.insert(id);
            }
        }
        changed.extend(gone.into_iter().cloned());
        if changed.len() > 4 * LAST_CHANGES_MAX {
            return Err(Fault::Error(Error::Unavailable(
                "too much is written to the gallery for it to move now; try again",
            )));
        }
        let changed: Vec<&IdentityId> = changed.iter().collect();
        let (identities, _) = look(&transaction, self.from, &self.before, &changed).await?;
        let made = embedded(&self.embed, identities).await?;
        put(&transaction, self.to, &self.after, &changed, &made).await?;
        let gallery = found.gallery.moved(&self.after.pack_id, self.after.dimension, now());
        if gallery.settings.fusion != self.after.settings.fusion {
            // Rows were made by the rule of before.
            super::rows::rewrite_rows(&transaction, self.to, &gallery).await?;
        }
        let record = records::seal_gallery(self.to.number, &gallery);
        let sql = "update gallery set number = $2, record = $3 where id = $1";
        transaction.execute(sql, &[&id.as_str(), &self.to.number, &record]).await?;
        transaction.execute("delete from gallery_staged where id = $1", &[&id.as_str()]).await?;
        transaction.batch_execute(&self.from.unmake()).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Makes templates anew, off the async workers.
async fn embedded(embed: &Arc<Embed>, identities: Vec<Identity>) -> Result<Vec<Identity>, Fault> {
    let embed = Arc::clone(embed);
    let made = tokio::task::spawn_blocking(move || embed(identities)).await;
    Ok(made.map_err(|_| Error::internal("embedding panicked"))??)
}

/// Reads some identities, whole, and by which transaction each was written; `None` of one that is gone.
async fn look(
    transaction: &deadpool_postgres::Transaction<'_>,
    tables: Tables,
    gallery: &Gallery,
    ids: &[&IdentityId],
) -> Result<(Vec<Identity>, Vec<Option<i64>>), Fault> {
    let (mut identities, mut versions) = (Vec::new(), Vec::new());
    let sql = format!("select xmin::text::bigint from {} where id = $1 for share", tables.identity());
    for id in ids {
        let row = transaction.query_opt(&sql, &[&id.as_str()]).await?;
        let version = row.map(|row| row.try_get(0)).transpose()?;
        if version.is_some() {
            identities.extend(read(transaction, tables, id, gallery.dimension, false).await?);
        }
        versions.push(version);
    }
    Ok((identities, versions))
}

/// Puts identities in the place of what there is of them; those that are not among them go.
async fn put(
    transaction: &deadpool_postgres::Transaction<'_>,
    tables: Tables,
    gallery: &Gallery,
    ids: &[&IdentityId],
    made: &[Identity],
) -> Result<(), Fault> {
    let ids: Vec<IdentityId> = ids.iter().map(|id| (*id).clone()).collect();
    remove_some(transaction, tables, &ids).await?;
    copy_in(transaction, tables, gallery, made).await
}
