//! Galleries as files: the format is that of every store, so they move from one to another.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::IsolationLevel;

use super::PostgresGalleries;
use super::connect::{Connections, Fault, Session};
use super::galleries::{Found, Lock, add_gallery, find_within, new_tables};
use super::records;
use super::rows::{copy_in, remove_some, rewrite_rows};
use super::schema::Tables;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId};
use crate::error::{Entity, Error};
use crate::gallery::archive::{
    Decoder, Encoder, End, Frame, Header, PART_BYTES, Position, begun_gallery, check_end, check_header, check_identity,
};
use crate::gallery::lasting::{ExportPart, ImportState};
use crate::gallery::port::Importing;
use crate::gallery::record::{self, StagedRecord, gallery_record, seal, unseal};
use crate::gallery::types::{Gallery, Identity, Served};

/// Identities that are read together.
const AT_A_TIME: i32 = 200;

/// Bytes of a file between two transactions, about.
const STEP_BYTES: u64 = 4 << 20;

/// Sends a gallery as a file, as one transaction sees it: nothing that is written meanwhile is in it.
pub(super) async fn export(
    session: &mut Session,
    id: &GalleryId,
    parts: &mpsc::Sender<Result<ExportPart, Error>>,
) -> Result<(), Fault> {
    let transaction = session.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = transaction.start().await?;
    // A file takes as long as its taker does.
    transaction
        .batch_execute("set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0")
        .await?;
    let Found { tables, gallery, .. } = find_within(&transaction, id).await?;
    let mut encoder = Encoder::default();
    let mut state = ExportPart::default();
    encoder.header(&Header::new(&gallery));
    let sql = format!("select id, record from {} order by id", tables.identity());
    let statement = transaction.prepare_cached(&sql).await?;
    let portal = transaction.bind(&statement, &[]).await?;
    loop {
        let rows = transaction.query_portal(&portal, AT_A_TIME).await?;
        if rows.is_empty() {
            break;
        }
        let mut identities = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = records::identity_id(row.try_get(0)?)?;
            match records::identity(tables, id, row.try_get(1)?, gallery.dimension) {
                Ok(identity) => identities.push(identity),
                Err(error) => {
                    tracing::error!(%error, "an identity is damaged and not exported");
                    state.damaged += 1;
                }
            }
        }
        read_chips(&transaction, tables, &mut identities).await?;
        for identity in &identities {
            encoder.identity(identity);
            state.identities += 1;
            if encoder.waiting() >= PART_BYTES {
                send(parts, ExportPart { bytes: encoder.take(), ..state }).await?;
            }
        }
    }
    encoder.end(gallery_record(0, &gallery), 0);
    send(parts, ExportPart { bytes: encoder.take(), ..state }).await?;
    transaction.commit().await?;
    Ok(())
}

async fn send(parts: &mpsc::Sender<Result<ExportPart, Error>>, part: ExportPart) -> Result<(), Fault> {
    // Nobody takes it any more.
    Ok(parts.send(Ok(part)).await.map_err(|_| Error::DeadlineExceeded)?)
}

/// Puts the chips of some identities in their places.
pub(super) async fn read_chips(
    transaction: &Transaction<'_>,
    tables: Tables,
    identities: &mut [Identity],
) -> Result<(), Fault> {
    let has_chip = |identity: &&Identity| identity.templates.iter().any(|enrolled| enrolled.chip.is_some());
    let ids: Vec<&str> = identities.iter().filter(has_chip).map(|identity| identity.id.as_str()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let sql = format!("select identity_id, template_id, picture from {} where identity_id = any($1)", tables.chip());
    let statement = transaction.prepare_cached(&sql).await?;
    let rows = transaction.query(&statement, &[&ids]).await?;
    let mut chips: BTreeMap<(&str, &str), &[u8]> = BTreeMap::new();
    for row in &rows {
        chips.insert((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
    }
    for identity in identities {
        let id = identity.id.clone();
        records::put_chips(identity, |template| chips.get(&(id.as_str(), template)).copied())?;
    }
    Ok(())
}

/// A gallery's import under way: each step is a transaction that has what came and how far it is. The connection is kept, since
/// its lock keeps other imports away.
pub(super) struct PostgresImport {
    galleries: Arc<PostgresGalleries>,
    id: GalleryId,
    /// Holds the lock.
    session: Option<Session>,
    decoder: Decoder,
    begun: Option<Begun>,
    /// Where the last step ended.
    stepped: Position,
    /// What came since; `None` was removed.
    step: BTreeMap<IdentityId, Option<Identity>>,
    /// The step before, which has the connection until it is written.
    writing: Option<JoinHandle<(Session, Result<(), Fault>)>>,
    end: Option<End>,
}

/// What is written in one transaction.
struct Step {
    id: GalleryId,
    /// With how far it came.
    staged: StagedRecord,
    tables: Tables,
    gallery: Gallery,
    /// Those who may be there already.
    known: Vec<IdentityId>,
    identities: Vec<Identity>,
}

impl Step {
    async fn write(&self, session: &mut Session) -> Result<(), Fault> {
        let Step { id, staged, tables, gallery, known, identities } = self;
        let transaction = session.transaction().await?;
        // Not waited for: where the database loses the last steps, how far they came is lost with them. The end is waited for, and
        // all that came before it then.
        transaction.batch_execute("set local synchronous_commit = off").await?;
        remove_some(&transaction, *tables, known).await?;
        copy_in(&transaction, *tables, gallery, identities).await?;
        let sealed = seal(&staged_key(id), staged);
        let sql = "update gallery_staged set record = $3 where id = $1 and number = $2";
        if transaction.execute(sql, &[&id.as_str(), &tables.number, &sealed]).await? == 0 {
            return Err(Fault::Error(DELETED));
        }
        transaction.commit().await?;
        Ok(())
    }
}

struct Begun {
    staged: StagedRecord,
    tables: Tables,
    gallery: Gallery,
    /// The last identity that was written: files have them in order, so those behind it are new.
    last: Option<IdentityId>,
    /// Nobody knows what was written before a break.
    is_resumed: bool,
}

/// Somebody deleted what had come of it.
const DELETED: Error = Error::NotFound(Entity::Import);
const NO_HEADER: Error = Error::GalleryFile("it has no header");

fn staged_key(id: &GalleryId) -> Vec<u8> {
    [b"staged/", id.as_str().as_bytes()].concat()
}

async fn staged(session: &Session, id: &GalleryId) -> Result<Option<StagedRecord>, Fault> {
    // Of a gallery that is there, it is a migration's.
    let sql = "select record from gallery_staged where id = $1 and not exists (select from gallery where id = $1)";
    let row = session.query_opt(sql, &[&id.as_str()]).await?;
    row.map(|row| Ok(unseal(&staged_key(id), row.try_get(0)?)?)).transpose()
}

/// Returns how far an import had come.
pub(super) async fn import_state(session: &Session, id: &GalleryId) -> Result<ImportState, Fault> {
    let staged = staged(session, id).await?.ok_or(Error::NotFound(Entity::Import))?;
    Ok(ImportState { export_id: staged.export_id, offset: staged.offset })
}

/// Begins an import, or resumes one.
pub(super) async fn begin_import(
    galleries: &Arc<PostgresGalleries>,
    connections: &Connections,
    id: &GalleryId,
    offset: u64,
) -> Result<PostgresImport, Fault> {
    let session = connections.take_for_long().await?;
    let sql = "select pg_try_advisory_lock($1, hashtext($2)), exists (select from gallery where id = $2)";
    let row = session.query_one(sql, &[&(Lock::Work as i32), &id.as_str()]).await?;
    let mut import = PostgresImport {
        galleries: Arc::clone(galleries),
        id: id.clone(),
        session: Some(session),
        decoder: Decoder::default(),
        begun: None,
        stepped: Position::default(),
        step: BTreeMap::new(),
        writing: None,
        end: None,
    };
    if !row.try_get::<_, bool>(0)? {
        return Err(Fault::Error(Error::UnderWay("another import into this gallery, or a migration of it,")));
    }
    if row.try_get(1)? {
        return Err(Fault::Error(Error::AlreadyExists(Entity::Gallery)));
    }
    if offset > 0 {
        import.resume(offset).await?;
    }
    Ok(import)
}

impl PostgresImport {
    fn session(&mut self) -> Result<&mut Session, Fault> {
        Ok(self.session.as_mut().ok_or_else(|| Error::internal("an import without a connection"))?)
    }

    async fn resume(&mut self, offset: u64) -> Result<(), Fault> {
        let id = self.id.clone();
        let staged = staged(self.session()?, &id).await?.filter(|staged| staged.offset == offset);
        let staged = staged.ok_or_else(|| Error::bad_field("offset", "where the import broke off: see GetImport"))?;
        let pack_id = PackId::parse(&staged.pack_id).map_err(Error::internal)?;
        let tables = Tables { number: staged.number.cast_signed() };
        let gallery = begun_gallery(id, pack_id, staged.dimension as usize, staged.gallery.as_ref());
        self.stepped = Position { offset, chain: staged.chain, frames: staged.frames };
        self.decoder = Decoder::resume(self.stepped);
        self.begun = Some(Begun { staged, tables, gallery, last: None, is_resumed: true });
        Ok(())
    }

    async fn begin(&mut self, header: Header) -> Result<(), Fault> {
        let id = self.id.clone();
        let gallery = check_header(id.clone(), &header)?;
        let transaction = self.session()?.transaction().await?;
        // An import that broke off gives way; its number is never used again.
        let sql = "delete from gallery_staged where id = $1 returning number";
        if let Some(row) = transaction.query_opt(sql, &[&id.as_str()]).await? {
            transaction.batch_execute(&Tables { number: row.try_get(0)? }.unmake()).await?;
        }
        let tables = new_tables(&transaction).await?;
        transaction.batch_execute(&tables.make(gallery.dimension)).await?;
        let staged = StagedRecord {
            number: tables.number.cast_unsigned(),
            export_id: header.export_id,
            pack_id: header.pack_id,
            dimension: header.dimension,
            gallery: header.gallery,
            ..StagedRecord::default()
        };
        let sql = "insert into gallery_staged (id, number, record) values ($1, $2, $3)";
        let sealed = seal(&staged_key(&id), &staged);
        transaction.execute(sql, &[&id.as_str(), &tables.number, &sealed]).await?;
        transaction.commit().await?;
        self.begun = Some(Begun { staged, tables, gallery, last: None, is_resumed: false });
        Ok(())
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.decoder.feed(bytes);
        while let Some(frame) = self.decoder.next()? {
            if self.end.is_some() {
                return Err(Fault::Error(Error::GalleryFile("something follows its end")));
            }
            match frame {
                Frame::Header(header) => self.begin(header).await?,
                Frame::Identity(id, record) => {
                    let gallery = &self.begun.as_ref().ok_or(NO_HEADER)?.gallery;
                    let identity = record::identity(id, record, gallery.dimension);
                    let identity = identity.map_err(|_| Error::GalleryFile("an identity has a value that is none"))?;
                    check_identity(&identity, gallery)?;
                    self.step.insert(identity.id.clone(), Some(identity));
                }
                Frame::Removed(id) => {
                    self.begun.as_ref().ok_or(NO_HEADER)?;
                    self.step.insert(id, None);
                }
                Frame::End(end) => self.end = Some(end),
            }
            if self.decoder.position().offset - self.stepped.offset >= STEP_BYTES {
                self.take_step().await?;
            }
        }
        Ok(())
    }

    /// Has what came since the last step written, and how far it came with it, while what follows is read.
    async fn take_step(&mut self) -> Result<(), Fault> {
        self.written().await?;
        let Some(Begun { staged, tables, gallery, last, is_resumed }) = &mut self.begun else { return Ok(()) };
        let position = self.decoder.position();
        // An end is read again after a break.
        if position == self.stepped || self.end.is_some() && position.frames == self.stepped.frames + 1 {
            return Ok(());
        }
        let step = std::mem::take(&mut self.step);
        let is_new = |id: &IdentityId| !*is_resumed && last.as_ref().is_none_or(|last| id > last);
        let known = step.keys().filter(|id| !is_new(id)).cloned().collect();
        let greatest = step.keys().next_back().cloned();
        // At its end it stands where it stood: an end is read again after a break.
        let Position { offset, chain, frames } = if self.end.is_some() { self.stepped } else { position };
        let step = Step {
            id: self.id.clone(),
            staged: StagedRecord { offset, chain, frames, ..staged.clone() },
            tables: *tables,
            gallery: gallery.clone(),
            known,
            identities: step.into_values().flatten().collect(),
        };
        *last = last.take().max(greatest);
        self.stepped = position;
        let mut session = self.session.take().ok_or_else(|| Error::internal("an import without a connection"))?;
        self.writing = Some(tokio::spawn(async move {
            let written = step.write(&mut session).await;
            (session, written)
        }));
        Ok(())
    }

    /// Waits for the step that is being written.
    async fn written(&mut self) -> Result<(), Fault> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        // A panic's own words may quote what must not be logged.
        let (session, written) = writing.await.map_err(|_| Error::internal("a step of an import panicked"))?;
        self.session = Some(session);
        written
    }

    async fn end(&mut self, served: Served) -> Result<Gallery, Fault> {
        self.take_step().await?;
        self.written().await?;
        if self.decoder.has_rest() {
            return Err(Fault::Error(Error::GalleryFile("something follows its end, or its last frame is cut short")));
        }
        let end = self.end.take().ok_or(Error::GalleryFile("its end is missing"))?;
        let Begun { tables, gallery: begun, .. } = self.begun.take().ok_or(NO_HEADER)?;
        let gallery = check_end(end, &begun, served)?;
        let id = self.id.clone();
        let transaction = self.session()?.transaction().await?;
        if gallery.settings.fusion != begun.settings.fusion {
            // Rows were made as identities came, before the rule was known.
            transaction.batch_execute("set local statement_timeout = 0").await?;
            rewrite_rows(&transaction, tables, &gallery).await?;
        }
        add_gallery(&transaction, tables, &gallery).await?;
        let sql = "delete from gallery_staged where id = $1 and number = $2";
        if transaction.execute(sql, &[&id.as_str(), &tables.number]).await? == 0 {
            return Err(Fault::Error(DELETED));
        }
        transaction.commit().await?;
        // Planned by how much there is, from now on; else when the database comes to it by itself.
        let (identity, row) = (tables.identity(), tables.row());
        let sql = format!("set lock_timeout = '500ms'; analyze {identity}; analyze {row}");
        if let Err(error) = self.session()?.batch_execute(&sql).await {
            tracing::info!(%error, "an imported gallery is not analysed yet");
        }
        Ok(gallery)
    }
}

#[async_trait]
impl Importing for PostgresImport {
    async fn feed(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.take(&bytes).await.map_err(Fault::into_error)
    }

    async fn finish(mut self: Box<Self>, served: Served) -> Result<Gallery, Error> {
        let gallery = self.end(served).await.map_err(Fault::into_error)?;
        self.galleries.keeping.wake();
        Ok(gallery)
    }
}

// The connection is not given back, so that its lock goes with it: see `Session`.
