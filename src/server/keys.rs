//! KeyService: access keys are made, listed and revoked.

use std::sync::Arc;
use std::time::SystemTime;

use tonic::{Request, Response, Status};

use super::convert;
use super::engine::Engine;
use super::status::status;
use crate::access::{
    Credential, GalleryPattern, Grant, Grants, Key, KeyId, KeyLimits, KeyText, NewKey, Scope, SecretHash,
};
use crate::contract as proto;
use crate::error::Error;

pub(super) struct KeyServer(pub Arc<Engine>);

#[tonic::async_trait]
impl proto::key_service_server::KeyService for KeyServer {
    async fn create_key(
        &self,
        request: Request<proto::CreateKeyRequest>,
    ) -> Result<Response<proto::CreateKeyResponse>, Status> {
        create(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn list_keys(
        &self,
        _request: Request<proto::ListKeysRequest>,
    ) -> Result<Response<proto::ListKeysResponse>, Status> {
        let keys = self.0.keys.list().iter().map(reply).collect();
        Ok(Response::new(proto::ListKeysResponse { keys }))
    }

    async fn revoke_key(
        &self,
        request: Request<proto::RevokeKeyRequest>,
    ) -> Result<Response<proto::RevokeKeyResponse>, Status> {
        let id = KeyId::parse(&request.into_inner().key_id).map_err(status)?;
        let removed = self.0.galleries.remove_key(id.clone()).await;
        // Out of force in any case: whether the store could forget it is another matter.
        self.0.keys.remove(&id);
        removed.map_err(status)?;
        Ok(Response::new(proto::RevokeKeyResponse {}))
    }
}

async fn create(engine: &Engine, request: proto::CreateKeyRequest) -> Result<proto::CreateKeyResponse, Error> {
    let stated = request.key.ok_or_else(|| Error::bad_field("key", "present"))?;
    let new = new_key(stated).map_err(|error| error.at("key"))?;
    let id = KeyId::generate()?;
    let (credential, secret) = match new.certificate_subject {
        Some(subject) => (Credential::CertificateSubject(subject), String::new()),
        None => {
            let text = KeyText::generate(&id)?;
            (Credential::Secret(SecretHash::of(&text)?), text.expose().to_owned())
        }
    };
    let NewKey { display_name, grants, limits, expires, .. } = new;
    // As the store has it, to the microsecond.
    let created = SystemTime::now();
    let key = Key { id, display_name, credential, grants, limits, created, expires };
    engine.galleries.set_key(key.clone()).await?;
    let reply = reply(&key);
    engine.keys.add(key);
    Ok(proto::CreateKeyResponse { key: Some(reply), secret })
}

fn new_key(stated: proto::Key) -> Result<NewKey, Error> {
    let grants = stated.grants.into_iter().map(grant).collect::<Result<Vec<_>, Error>>()?;
    let proto::KeyLimits { calls_per_second, concurrent_calls, bytes_per_second, identities } =
        stated.limits.unwrap_or_default();
    let new = NewKey {
        display_name: stated.display_name,
        grants: Grants::new(grants)?,
        limits: KeyLimits { calls_per_second, concurrent_calls, bytes_per_second, identities },
        expires: stated.expire_time.map(|time| convert::time("expire_time", time)).transpose()?,
        certificate_subject: Some(stated.certificate_subject).filter(|subject| !subject.is_empty()),
    };
    new.check(SystemTime::now())?;
    Ok(new)
}

fn grant(stated: proto::Grant) -> Result<Grant, Error> {
    let scope = scope(stated.scope()).ok_or_else(|| Error::bad_field("grants.scope", "a scope"))?;
    Ok(Grant { scope, galleries: GalleryPattern::parse(&stated.galleries).map_err(|error| error.at("grants"))? })
}

/// Returns the scope that a number of the contract stands for; `None` where none is stated.
pub(crate) fn scope(stated: proto::KeyScope) -> Option<Scope> {
    Scope::ALL.into_iter().find(|scope| scope_reply(*scope) == stated)
}

/// The other way.
fn scope_reply(scope: Scope) -> proto::KeyScope {
    match scope {
        Scope::Read => proto::KeyScope::Read,
        Scope::Enrol => proto::KeyScope::Enrol,
        Scope::Delete => proto::KeyScope::Delete,
        Scope::Admin => proto::KeyScope::Admin,
    }
}

pub(crate) fn grant_reply(grant: &Grant) -> proto::Grant {
    proto::Grant { scope: scope_reply(grant.scope).into(), galleries: grant.galleries.to_string() }
}

fn reply(key: &Key) -> proto::Key {
    let KeyLimits { calls_per_second, concurrent_calls, bytes_per_second, identities } = key.limits;
    proto::Key {
        key_id: key.id.as_str().to_owned(),
        display_name: key.display_name.clone(),
        grants: key.grants.iter().map(grant_reply).collect(),
        limits: Some(proto::KeyLimits { calls_per_second, concurrent_calls, bytes_per_second, identities }),
        create_time: Some(convert::time_reply(key.created)),
        expire_time: key.expires.map(convert::time_reply),
        certificate_subject: match &key.credential {
            Credential::Secret(_) => String::new(),
            Credential::CertificateSubject(subject) => subject.clone(),
        },
    }
}
