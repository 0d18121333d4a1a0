//! Access keys: kept like galleries, durable before they are in force or out of it.

use super::galleries::EmbeddedGalleries;
use super::key_record::{key, key_record};
use super::store::Write;
use super::writer::Change;
use crate::access::{Credential, Key, KeyId};
use crate::error::{Entity, Error};

impl EmbeddedGalleries {
    /// Returns the access keys that are kept. One that is damaged is not among them: nobody gets in by it.
    ///
    /// *Errors*: those of the store.
    pub fn keys(&self) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        for entry in self.store.keys() {
            let (id, record) = entry?;
            match record.and_then(|record| key(id.clone(), record)) {
                Ok(key) => keys.push(key),
                Err(error) => {
                    tracing::error!(key = %id, %error, "an access key is damaged and not in force; revoke it and make another")
                }
            }
        }
        Ok(keys)
    }

    /// Keeps a key.
    ///
    /// *Errors*: [`Error::AlreadyExists`] where one has its id, or its certificate's subject.
    pub async fn set_key(&self, new: Key) -> Result<(), Error> {
        let change = move |change: &mut Change<'_>| {
            if change.store.has_key(&new.id)? || is_subject_taken(change, &new.credential)? {
                return Err(Error::AlreadyExists(Entity::Key));
            }
            let mut write = Write::default();
            write.set_key(&new.id, &key_record(&new));
            change.apply_unseen(write).map(drop)
        };
        self.writer.run(change).await
    }

    /// Removes a key; a damaged one too.
    ///
    /// *Errors*: [`Error::NotFound`].
    pub async fn remove_key(&self, id: KeyId) -> Result<(), Error> {
        let change = move |change: &mut Change<'_>| {
            if !change.store.has_key(&id)? {
                return Err(Error::NotFound(Entity::Key));
            }
            let mut write = Write::default();
            write.remove_key(&id);
            change.apply_unseen(write).map(drop)
        };
        self.writer.run(change).await
    }
}

fn is_subject_taken(change: &Change<'_>, credential: &Credential) -> Result<bool, Error> {
    let Credential::CertificateSubject(subject) = credential else { return Ok(false) };
    for entry in change.store.keys() {
        if matches!(entry?, (_, Ok(record)) if record.certificate_subject == *subject) {
            return Ok(true);
        }
    }
    Ok(false)
}
