//! Calibration curves and access keys: rows that are read whole. Curves are large and asked for by every search, so each server
//! keeps those that it has read, and looks once in half a second whether they are still the ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connect::{Fault, Session};
use super::galleries::{Found, lock_shared, next_number};
use crate::access::{Credential, Key, KeyId};
use crate::biometrics::calibration::{CurveOf, KnownCurve};
use crate::biometrics::ids::GalleryId;
use crate::error::{Entity, Error};
use crate::gallery::curve_record::{CurveOwner, CurveRecord, NewCurve, curve_record, known_curve};
use crate::gallery::key_record::{KeyRecord, key, key_record};
use crate::gallery::record::{now, seal, unseal};

/// How long a curve is taken for what it was.
const FRESH: Duration = Duration::from_millis(500);

/// Curves that are kept in memory.
const KEPT_MAX: usize = 256;

/// The curves that this server has read.
#[derive(Default)]
pub(super) struct Curves(Mutex<HashMap<String, KnownAt>>);

#[derive(Clone)]
struct KnownAt {
    revision: Option<i64>,
    curve: Option<Arc<KnownCurve>>,
    looked: Instant,
}

fn name(owner: &CurveOwner) -> String {
    match owner {
        CurveOwner::Gallery(id) => of_gallery(id),
        CurveOwner::Pack(id) => format!("p/{}", id.as_str()),
    }
}

/// What a gallery's own curve is called.
pub(super) fn of_gallery(id: &GalleryId) -> String {
    format!("g/{}", id.as_str())
}

impl Curves {
    /// Returns what is known of an owner's curve, if that is fresh.
    pub(super) fn fresh(&self, owner: &CurveOwner) -> Option<Option<Arc<KnownCurve>>> {
        let known = self.known(&name(owner))?;
        (known.looked.elapsed() < FRESH).then_some(known.curve)
    }

    fn known(&self, name: &str) -> Option<KnownAt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn keep(&self, name: String, revision: Option<i64>, curve: Option<Arc<KnownCurve>>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(name, KnownAt { revision, curve, looked: Instant::now() });
    }

    /// Reads an owner's curve where it is another than the one that is known.
    pub(super) async fn read(&self, session: &Session, owner: &CurveOwner) -> Result<Option<Arc<KnownCurve>>, Fault> {
        let name = name(owner);
        let known = self.known(&name);
        let revision = known.as_ref().and_then(|known| known.revision);
        let sql = "select revision, case when revision is distinct from $2 then record end from curve where owner = $1";
        let statement = session.prepare_cached(sql).await?;
        let row = session.query_opt(&statement, &[&name, &revision]).await?;
        let (revision, curve) = match row {
            None => (None, None),
            Some(row) => {
                let record: Option<&[u8]> = row.try_get(1)?;
                let curve = match record {
                    None => known.and_then(|known| known.curve),
                    Some(record) => unsealed(&name, record),
                };
                (Some(row.try_get(0)?), curve)
            }
        };
        self.keep(name, revision, curve.clone());
        Ok(curve)
    }

    /// Sets a curve, and takes it for known.
    pub(super) async fn set(
        &self,
        session: &mut Session,
        owner: &CurveOwner,
        new: &NewCurve,
    ) -> Result<Arc<KnownCurve>, Fault> {
        let transaction = session.transaction().await?;
        let (pack_id, of) = match owner {
            CurveOwner::Pack(pack_id) => (pack_id.clone(), CurveOf::Pack),
            CurveOwner::Gallery(id) => {
                let Found { gallery, counts, .. } = lock_shared(&transaction, id).await?;
                (gallery.pack_id, CurveOf::Gallery { identities: counts.identities })
            }
        };
        if new.pack_id != pack_id {
            let found = new.pack_id.clone();
            return Err(Fault::Error(Error::PackMismatch { expected: pack_id, found }));
        }
        let known = Arc::new(KnownCurve::new(pack_id, &new.curve, of, new.source.clone(), Some(now())));
        let (name, revision) = (name(owner), next_number(&transaction).await?);
        let record = seal(name.as_bytes(), &curve_record(&known));
        let sql = "insert into curve (owner, revision, record) values ($1, $2, $3)
                   on conflict (owner) do update set revision = excluded.revision, record = excluded.record";
        transaction.execute(sql, &[&name, &revision, &record]).await?;
        transaction.commit().await?;
        self.keep(name, Some(revision), Some(Arc::clone(&known)));
        Ok(known)
    }

    pub(super) async fn remove(&self, session: &Session, owner: &CurveOwner) -> Result<(), Fault> {
        let name = name(owner);
        let removed = session.execute("delete from curve where owner = $1", &[&name]).await?;
        self.keep(name, None, None);
        if removed == 0 { Err(Fault::Error(Error::NotFound(Entity::Curve))) } else { Ok(()) }
    }
}

/// A damaged curve is done without: what it would tell is an error then, never a guess.
fn unsealed(name: &str, record: &[u8]) -> Option<Arc<KnownCurve>> {
    match unseal::<CurveRecord>(name.as_bytes(), record).and_then(known_curve) {
        Ok(known) => Some(Arc::new(known)),
        Err(error) => {
            tracing::error!(owner = name, %error, "a calibration curve is damaged and not used; set it again");
            None
        }
    }
}

/// Returns the access keys. A damaged one is not among them: nobody gets in by it.
pub(super) async fn keys(session: &Session) -> Result<Vec<Key>, Fault> {
    let statement = session.prepare_cached("select id, record from access_key order by id").await?;
    let mut keys = Vec::new();
    for row in session.query(&statement, &[]).await? {
        let text: &str = row.try_get(0)?;
        let read = || {
            key(KeyId::parse(text)?, unseal::<KeyRecord>(text.as_bytes(), row.try_get(1).map_err(Error::internal)?)?)
        };
        match read() {
            Ok(key) => keys.push(key),
            Err(error) => {
                tracing::error!(key = text, %error, "an access key is damaged and not in force; revoke it and make another")
            }
        }
    }
    Ok(keys)
}

/// *Errors*: [`Error::AlreadyExists`].
pub(super) async fn set_key(session: &Session, new: &Key) -> Result<(), Fault> {
    let subject = match &new.credential {
        Credential::Secret(_) => None,
        Credential::CertificateSubject(subject) => Some(subject.as_str()),
    };
    let id = new.id.as_str();
    let sql = "insert into access_key (id, certificate_subject, record) values ($1, $2, $3)";
    match session.execute(sql, &[&id, &subject, &seal(id.as_bytes(), &key_record(new))]).await.map_err(Fault::from) {
        Ok(_) => Ok(()),
        Err(Fault::Taken) => Err(Fault::Error(Error::AlreadyExists(Entity::Key))),
        Err(fault) => Err(fault),
    }
}

/// *Errors*: [`Error::NotFound`].
pub(super) async fn remove_key(session: &Session, id: &KeyId) -> Result<(), Fault> {
    let removed = session.execute("delete from access_key where id = $1", &[&id.as_str()]).await?;
    if removed == 0 { Err(Fault::Error(Error::NotFound(Entity::Key))) } else { Ok(()) }
}
