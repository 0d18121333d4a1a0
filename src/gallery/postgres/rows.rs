//! Identities in their tables: what is written of one, one at a time or in bulk.

use std::collections::BTreeMap;

use bytes::Bytes;
use deadpool_postgres::Transaction;
use pgvector::HalfVector;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, Type};

use super::connect::Fault;
use super::records;
use super::schema::{SLOTS, Tables};
use super::scope::document;
use super::search::rows_of;
use crate::biometrics::ids::IdentityId;
use crate::error::Error;
use crate::gallery::types::{Gallery, Identity};

/// Identities that are read or written together where all are.
const AT_A_TIME: i32 = 500;

/// Reads an identity, and keeps others from writing to it where `is_locked`.
pub(super) async fn read(
    transaction: &Transaction<'_>,
    tables: Tables,
    id: &IdentityId,
    dimension: usize,
    is_locked: bool,
) -> Result<Option<Identity>, Fault> {
    let lock = if is_locked { " for update" } else { "" };
    let sql = format!("select record from {} where id = $1{lock}", tables.identity());
    let statement = transaction.prepare_cached(&sql).await?;
    let Some(row) = transaction.query_opt(&statement, &[&id.as_str()]).await? else { return Ok(None) };
    let mut identity = records::identity(tables, id.clone(), row.try_get(0)?, dimension)?;
    if identity.templates.iter().any(|enrolled| enrolled.chip.is_some()) {
        let sql = format!("select template_id, picture from {} where identity_id = $1", tables.chip());
        let statement = transaction.prepare_cached(&sql).await?;
        let rows = transaction.query(&statement, &[&id.as_str()]).await?;
        let chips = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let chips = chips.collect::<Result<BTreeMap<&str, &[u8]>, tokio_postgres::Error>>()?;
        records::put_chips(&mut identity, |template| chips.get(template).copied())?;
    }
    Ok(Some(identity))
}

/// Writes an identity in the place of what there is of it.
///
/// *Errors*: [`Fault::Taken`] where it is thought to be new and is not.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    tables: Tables,
    gallery: &Gallery,
    before: Option<&Identity>,
    after: &Identity,
) -> Result<(), Fault> {
    let id = after.id.as_str();
    let record = records::seal_identity(tables, after);
    let metadata = Json(document(&after.details.metadata));
    let table = tables.identity();
    let sql = match before {
        None => format!("insert into {table} (id, record, metadata) values ($1, $2, $3)"),
        Some(_) => format!("update {table} set record = $2, metadata = $3 where id = $1"),
    };
    let statement = transaction.prepare_cached(&sql).await?;
    transaction.execute(&statement, &[&id, &record, &metadata]).await?;
    let fusion = gallery.settings.fusion;
    let rows_before: BTreeMap<String, HalfVector> =
        before.map(|before| rows_of(before, fusion)).unwrap_or_default().into_iter().collect();
    let rows_after: BTreeMap<String, HalfVector> = rows_of(after, fusion).into_iter().collect();
    let gone: Vec<&String> = rows_before.keys().filter(|id| rows_after.get(*id) != rows_before.get(*id)).collect();
    if !gone.is_empty() {
        let sql = format!("delete from {} where identity_id = $1 and template_id = any($2)", tables.row());
        let statement = transaction.prepare_cached(&sql).await?;
        transaction.execute(&statement, &[&id, &gone]).await?;
    }
    let sql = format!("insert into {} (identity_id, template_id, features) values ($1, $2, $3)", tables.row());
    let statement = transaction.prepare_cached(&sql).await?;
    for (template, features) in rows_after.iter().filter(|(id, row)| rows_before.get(*id) != Some(*row)) {
        transaction.execute(&statement, &[&id, template, features]).await?;
    }
    write_chips(transaction, tables, before, after).await?;
    let templates = |identity: &Identity| identity.templates.len() as i64;
    let more = templates(after) - before.map_or(0, templates);
    add_counts(transaction, tables, id, i64::from(before.is_none()), more).await
}

async fn write_chips(
    transaction: &Transaction<'_>,
    tables: Tables,
    before: Option<&Identity>,
    after: &Identity,
) -> Result<(), Fault> {
    let ids = |identity: &Identity| -> Vec<String> {
        let kept = identity.templates.iter().filter(|enrolled| enrolled.chip.is_some());
        kept.map(|enrolled| enrolled.id.as_str().to_owned()).collect()
    };
    let (known, kept) = (before.map(ids).unwrap_or_default(), ids(after));
    let gone: Vec<&String> = known.iter().filter(|id| !kept.contains(id)).collect();
    if !gone.is_empty() {
        let sql = format!("delete from {} where identity_id = $1 and template_id = any($2)", tables.chip());
        transaction.execute(&sql, &[&after.id.as_str(), &gone]).await?;
    }
    for enrolled in after.templates.iter().filter(|enrolled| !known.iter().any(|id| id == enrolled.id.as_str())) {
        let Some(chip) = enrolled.chip.as_deref() else { continue };
        let sql = format!("insert into {} (identity_id, template_id, picture) values ($1, $2, $3)", tables.chip());
        let statement = transaction.prepare_cached(&sql).await?;
        transaction.execute(&statement, &[&after.id.as_str(), &enrolled.id.as_str(), &chip]).await?;
    }
    Ok(())
}

/// Removes an identity, of which nothing need be readable. Returns whether there was one.
pub(super) async fn remove(transaction: &Transaction<'_>, tables: Tables, id: &IdentityId) -> Result<bool, Fault> {
    let removed = remove_some(transaction, tables, std::slice::from_ref(id)).await?;
    Ok(removed > 0)
}

/// Removes identities. Returns how many there were.
pub(super) async fn remove_some(
    transaction: &Transaction<'_>,
    tables: Tables,
    ids: &[IdentityId],
) -> Result<u64, Fault> {
    let texts: Vec<&str> = ids.iter().map(IdentityId::as_str).collect();
    let Some(first) = texts.first() else { return Ok(0) };
    // How many templates they have is told by the records, one of which may be damaged; the rows are counted then.
    let mut templates = 0;
    let sql = format!("delete from {} where id = any($1) returning id, record", tables.identity());
    let statement = transaction.prepare_cached(&sql).await?;
    let gone = transaction.query(&statement, &[&texts]).await?;
    let sql = format!("delete from {} where identity_id = any($1) returning identity_id", tables.row());
    let statement = transaction.prepare_cached(&sql).await?;
    let rows = transaction.query(&statement, &[&texts]).await?;
    for row in &gone {
        let text: &str = row.try_get(0)?;
        templates += match records::templates(tables, &records::identity_id(text)?, row.try_get(1)?) {
            Ok(templates) => templates as i64,
            Err(_) => {
                let own = rows.iter().filter(|row| row.try_get::<_, &str>(0).is_ok_and(|id| id == text));
                own.count() as i64
            }
        };
    }
    let sql = format!("delete from {} where identity_id = any($1)", tables.chip());
    let statement = transaction.prepare_cached(&sql).await?;
    transaction.execute(&statement, &[&texts]).await?;
    add_counts(transaction, tables, first, -(gone.len() as i64), -templates).await?;
    Ok(gone.len() as u64)
}

/// Adds to a gallery's counts, in a slot by an identity's id. Last in a transaction: whoever writes to the same slot waits for its
/// end.
pub(super) async fn add_counts(
    transaction: &Transaction<'_>,
    tables: Tables,
    identity: &str,
    identities: i64,
    templates: i64,
) -> Result<(), Fault> {
    if identities == 0 && templates == 0 {
        return Ok(());
    }
    let slot = (crc32fast::hash(identity.as_bytes()) % SLOTS.unsigned_abs() as u32) as i16;
    let sql = "update gallery_count set identities = identities + $3, templates = templates + $4 where number = $1 and slot = $2";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&tables.number, &slot, &identities, &templates]).await?;
    Ok(())
}

/// Writes many identities that are not there yet, in the database's own bulk format.
pub(super) async fn copy_in(
    transaction: &Transaction<'_>,
    tables: Tables,
    gallery: &Gallery,
    identities: &[Identity],
) -> Result<(), Fault> {
    let Some(first) = identities.first() else { return Ok(()) };
    let sql = format!("copy {} (id, record, metadata) from stdin binary", tables.identity());
    let sink = transaction.copy_in::<_, Bytes>(&sql).await?;
    let writer = BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::BYTEA, Type::JSONB]);
    tokio::pin!(writer);
    for identity in identities {
        let record = records::seal_identity(tables, identity);
        let metadata = Json(document(&identity.details.metadata));
        writer.as_mut().write(&[&identity.id.as_str(), &record, &metadata]).await?;
    }
    writer.finish().await?;
    copy_rows(transaction, tables, gallery, identities).await?;
    let chips = identities.iter().flat_map(|identity| {
        let kept = identity.templates.iter();
        kept.filter_map(|enrolled| Some((&identity.id, &enrolled.id, enrolled.chip.as_deref()?)))
    });
    let chips: Vec<_> = chips.collect();
    if !chips.is_empty() {
        let sql = format!("copy {} (identity_id, template_id, picture) from stdin binary", tables.chip());
        let sink = transaction.copy_in::<_, Bytes>(&sql).await?;
        let writer = BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::TEXT, Type::BYTEA]);
        tokio::pin!(writer);
        for (identity, template, chip) in chips {
            writer.as_mut().write(&[&identity.as_str(), &template.as_str(), &chip]).await?;
        }
        writer.finish().await?;
    }
    let templates: usize = identities.iter().map(|identity| identity.templates.len()).sum();
    add_counts(transaction, tables, first.id.as_str(), identities.len() as i64, templates as i64).await
}

/// Writes the rows of many identities that have none.
async fn copy_rows(
    transaction: &Transaction<'_>,
    tables: Tables,
    gallery: &Gallery,
    identities: &[Identity],
) -> Result<(), Fault> {
    let kind = transaction.prepare_cached("select null::halfvec").await?;
    let halfvec = kind.columns().first().map(|column| column.type_().clone());
    let halfvec = halfvec.ok_or_else(|| Error::internal("a statement without a column"))?;
    let sql = format!("copy {} (identity_id, template_id, features) from stdin binary", tables.row());
    let sink = transaction.copy_in::<_, Bytes>(&sql).await?;
    let writer = BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::TEXT, halfvec]);
    tokio::pin!(writer);
    for identity in identities {
        for (template, features) in rows_of(identity, gallery.settings.fusion) {
            writer.as_mut().write(&[&identity.id.as_str(), &template, &features]).await?;
        }
    }
    writer.finish().await?;
    Ok(())
}

/// Makes all rows of a gallery anew, by its fusion rule.
pub(super) async fn rewrite_rows(
    transaction: &Transaction<'_>,
    tables: Tables,
    gallery: &Gallery,
) -> Result<(), Fault> {
    transaction.execute(&format!("delete from {}", tables.row()), &[]).await?;
    let sql = format!("select id, record from {} order by id", tables.identity());
    let statement = transaction.prepare(&sql).await?;
    let portal = transaction.bind(&statement, &[]).await?;
    loop {
        let rows = transaction.query_portal(&portal, AT_A_TIME).await?;
        let mut identities = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = records::identity_id(row.try_get(0)?)?;
            match records::identity(tables, id, row.try_get(1)?, gallery.dimension) {
                Ok(identity) => identities.push(identity),
                Err(error) => tracing::error!(%error, "an identity is damaged and not searched"),
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        copy_rows(transaction, tables, gallery, &identities).await?;
    }
}
