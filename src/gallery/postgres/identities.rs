//! Identities: enrolled, read, changed, deleted. Each change is one transaction, so it is durable and visible when it returns, or
//! has not happened.

use std::collections::BTreeMap;

use tokio_postgres::IsolationLevel;

use super::connect::{Fault, Session};
use super::galleries::{Found, Lock, find, find_within, lock, lock_shared, next_number};
use super::records;
use super::rows::{read, remove, write};
use super::search::best_others;
use crate::biometrics::ids::{GalleryId, IdentityId, TemplateId};
use crate::error::{Entity, Error};
use crate::gallery::changes::IdentityChange;
use crate::gallery::enrolment::{Enrolled, Enrolling, Enrollment};
use crate::gallery::record::now;
use crate::gallery::types::{Deletion, Identity, IdentityOutline, Page};

pub(super) async fn enroll(
    session: &mut Session,
    gallery: &GalleryId,
    enrollment: &Enrollment,
) -> Result<Enrolled, Fault> {
    let transaction = session.transaction().await?;
    let found = lock_shared(&transaction, gallery).await?;
    let Found { tables, gallery: settings, .. } = &found;
    let before = read(&transaction, *tables, &enrollment.identity, settings.dimension, true).await?;
    let enrolling = Enrolling::begin(settings, before.clone(), enrollment.clone())?;
    let probes = enrolling.duplicate_probes();
    let (mut identities, mut best) = (0, Vec::new());
    if !probes.is_empty() || enrolling.identities_max().is_some() {
        lock(&transaction, Lock::Others, gallery).await?;
        // As it is now that nobody else enrols.
        let found = find_within(&transaction, gallery).await?;
        identities = found.counts.identities;
        best = best_others(&transaction, &found, enrolling.identity(), &probes).await?;
    }
    let enrolled = enrolling.decide(identities, best)?;
    write(&transaction, *tables, settings, before.as_ref(), &enrolled.identity).await?;
    transaction.commit().await?;
    Ok(enrolled)
}

/// Returns an identity.
///
/// *Errors*: [`Error::NotFound`].
pub(super) async fn identity(session: &mut Session, gallery: &GalleryId, id: &IdentityId) -> Result<Identity, Fault> {
    // Its record and its chips as of one moment.
    let transaction = session.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await?;
    let found = find_within(&transaction, gallery).await?;
    let identity = read(&transaction, found.tables, id, found.gallery.dimension, false).await?;
    transaction.commit().await?;
    Ok(identity.ok_or(Error::NotFound(Entity::Identity))?)
}

/// Returns some identities, without their chips, in the order of the ids.
pub(super) async fn identities(
    session: &mut Session,
    gallery: &GalleryId,
    ids: &[IdentityId],
) -> Result<Vec<Result<Identity, Error>>, Fault> {
    let Found { tables, gallery, .. } = find(session, gallery).await?;
    let texts: Vec<&str> = ids.iter().map(IdentityId::as_str).collect();
    let sql = format!("select id, record from {} where id = any($1)", tables.identity());
    let statement = session.prepare_cached(&sql).await?;
    let rows = session.query(&statement, &[&texts]).await?;
    let mut known: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for row in &rows {
        known.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let read = |id: &IdentityId| {
        let record = known.get(id.as_str()).ok_or(Error::NotFound(Entity::Identity))?;
        records::identity(tables, id.clone(), record, gallery.dimension)
    };
    Ok(ids.iter().map(read).collect())
}

pub(super) async fn list(
    session: &Session,
    gallery: &GalleryId,
    after: Option<&IdentityId>,
    count: usize,
) -> Result<Page<IdentityOutline>, Fault> {
    let Found { tables, gallery, .. } = find(session, gallery).await?;
    let sql = format!("select id, record from {} where id > $1 order by id limit $2", tables.identity());
    let statement = session.prepare_cached(&sql).await?;
    let limit = i64::try_from(count).unwrap_or(i64::MAX - 1) + 1;
    let rows = session.query(&statement, &[&after.map_or("", IdentityId::as_str), &limit]).await?;
    let outline = |row: &tokio_postgres::Row| -> Result<IdentityOutline, Fault> {
        let id = records::identity_id(row.try_get(0)?)?;
        let identity = records::identity(tables, id.clone(), row.try_get(1)?, gallery.dimension);
        if let Err(error) = &identity {
            tracing::error!(%error, "the record of an identity is damaged");
        }
        Ok(IdentityOutline { id, known: identity.ok().map(|identity| identity.outline()) })
    };
    let items = rows.iter().take(count).map(outline).collect::<Result<_, Fault>>()?;
    Ok(Page { items, more: rows.len() > count })
}

pub(super) async fn some(
    session: &Session,
    gallery: &GalleryId,
    count: usize,
    seed: u64,
) -> Result<Vec<IdentityId>, Fault> {
    let Found { tables, .. } = find(session, gallery).await?;
    let sql = format!("select id from {} order by hashtextextended(id, $1), id limit $2", tables.identity());
    let limit = i64::try_from(count).unwrap_or(i64::MAX);
    let rows = session.query(&sql, &[&seed.cast_signed(), &limit]).await?;
    rows.iter().map(|row| Ok(records::identity_id(row.try_get(0)?)?)).collect()
}

pub(super) async fn update(
    session: &mut Session,
    gallery: &GalleryId,
    id: &IdentityId,
    wanted: &IdentityChange,
) -> Result<Identity, Fault> {
    change(session, gallery, id, |identity| {
        wanted.clone().apply_to(&mut identity.details);
        Ok(())
    })
    .await
    .map(|(identity, _)| identity)
}

pub(super) async fn delete_template(
    session: &mut Session,
    gallery: &GalleryId,
    id: &IdentityId,
    template: &TemplateId,
) -> Result<Deletion, Fault> {
    let change = change(session, gallery, id, |identity| {
        let before = identity.templates.len();
        identity.templates.retain(|enrolled| enrolled.id != *template);
        if identity.templates.len() == before {
            return Err(Error::NotFound(Entity::Template));
        }
        if identity.templates.is_empty() { Err(Error::LastTemplate) } else { Ok(()) }
    });
    let (identity, sequence) = change.await?;
    Ok(Deletion { sequence: sequence.cast_unsigned(), time: identity.updated })
}

/// Changes an identity. Returns it, and the number of the change.
async fn change(
    session: &mut Session,
    gallery: &GalleryId,
    id: &IdentityId,
    change: impl FnOnce(&mut Identity) -> Result<(), Error> + Send,
) -> Result<(Identity, i64), Fault> {
    let transaction = session.transaction().await?;
    let Found { tables, gallery, .. } = lock_shared(&transaction, gallery).await?;
    let before = read(&transaction, tables, id, gallery.dimension, true).await?;
    let before = before.ok_or(Error::NotFound(Entity::Identity))?;
    let mut after = before.clone();
    change(&mut after)?;
    after.updated = now();
    write(&transaction, tables, &gallery, Some(&before), &after).await?;
    let sequence = next_number(&transaction).await?;
    transaction.commit().await?;
    Ok((after, sequence))
}

pub(super) async fn delete(session: &mut Session, gallery: &GalleryId, id: &IdentityId) -> Result<Deletion, Fault> {
    let transaction = session.transaction().await?;
    let Found { tables, .. } = lock_shared(&transaction, gallery).await?;
    if !remove(&transaction, tables, id).await? {
        return Err(Fault::Error(Error::NotFound(Entity::Identity)));
    }
    let sequence = next_number(&transaction).await?;
    transaction.commit().await?;
    Ok(Deletion { sequence: sequence.cast_unsigned(), time: now() })
}
