//! Access keys as records.

use prost::Message;

use super::record::{micros, time};
use crate::access::{Credential, Grant, Grants, Key, KeyId, KeyLimits, SecretHash};
use crate::error::Error;

const DAMAGED: Error = Error::DataLoss("it is no access key");

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyRecord {
    #[prost(string, tag = "1")]
    display_name: String,
    /// Salt and hash; empty where a certificate stands for the key.
    #[prost(bytes = "vec", tag = "2")]
    salt: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    hash: Vec<u8>,
    #[prost(string, tag = "4")]
    pub certificate_subject: String,
    /// As text.
    #[prost(string, repeated, tag = "5")]
    grants: Vec<String>,
    #[prost(uint64, optional, tag = "6")]
    calls_per_second: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    concurrent_calls: Option<u64>,
    #[prost(uint64, optional, tag = "8")]
    bytes_per_second: Option<u64>,
    #[prost(uint64, optional, tag = "9")]
    identities: Option<u64>,
    #[prost(uint64, tag = "10")]
    created_micros: u64,
    #[prost(uint64, optional, tag = "11")]
    expires_micros: Option<u64>,
}

pub(super) fn key_record(key: &Key) -> KeyRecord {
    let (salt, hash, certificate_subject) = match &key.credential {
        Credential::Secret(SecretHash { salt, hash }) => (salt.to_vec(), hash.to_vec(), String::new()),
        Credential::CertificateSubject(subject) => (Vec::new(), Vec::new(), subject.clone()),
    };
    KeyRecord {
        display_name: key.display_name.clone(),
        salt,
        hash,
        certificate_subject,
        grants: key.grants.iter().map(Grant::to_string).collect(),
        calls_per_second: key.limits.calls_per_second,
        concurrent_calls: key.limits.concurrent_calls,
        bytes_per_second: key.limits.bytes_per_second,
        identities: key.limits.identities,
        created_micros: micros(key.created),
        expires_micros: key.expires.map(micros),
    }
}

/// *Errors*: [`Error::DataLoss`] where it is not one that was ever written.
pub(super) fn key(id: KeyId, record: KeyRecord) -> Result<Key, Error> {
    let credential = if record.certificate_subject.is_empty() {
        let salt = record.salt.try_into().map_err(|_| DAMAGED)?;
        Credential::Secret(SecretHash { salt, hash: record.hash.try_into().map_err(|_| DAMAGED)? })
    } else {
        Credential::CertificateSubject(record.certificate_subject)
    };
    let grants = record.grants.iter().map(|text| text.parse::<Grant>()).collect::<Result<_, _>>();
    Ok(Key {
        id,
        display_name: record.display_name,
        credential,
        grants: grants.and_then(Grants::new).map_err(|_| DAMAGED)?,
        limits: KeyLimits {
            calls_per_second: record.calls_per_second,
            concurrent_calls: record.concurrent_calls,
            bytes_per_second: record.bytes_per_second,
            identities: record.identities,
        },
        created: time(record.created_micros),
        expires: record.expires_micros.map(time),
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::{seal, unseal};
    use super::*;
    use crate::access::KeyText;

    #[test]
    fn record_comes_back_as_it_was_and_damage_is_no_key() {
        let id = KeyId::generate().expect("an id");
        let text = KeyText::generate(&id).expect("a key");
        let grants = ["read:*", "enrol:door-*"].map(|text| text.parse().expect("a grant"));
        let whole = Key {
            id: id.clone(),
            display_name: "the door".into(),
            credential: Credential::Secret(SecretHash::of(&text).expect("a hash")),
            grants: Grants::new(grants.to_vec()).expect("grants"),
            limits: KeyLimits { calls_per_second: Some(5), identities: Some(9), ..Default::default() },
            created: time(7),
            expires: Some(time(1 << 50)),
        };
        let by_certificate = Key { credential: Credential::CertificateSubject("CN=door".into()), ..whole.clone() };
        for kept in [whole.clone(), by_certificate] {
            let sealed = seal(b"a", &key_record(&kept));
            assert!(!sealed.windows(text.expose().len()).any(|part| part == text.expose().as_bytes()));
            let record: KeyRecord = unseal(b"a", &sealed).expect("whole");
            assert_eq!(key(id.clone(), record).expect("a key"), kept);
        }
        for spoil in [
            |record: &mut KeyRecord| record.grants.clear(),
            |record: &mut KeyRecord| record.hash.truncate(31),
            |record: &mut KeyRecord| record.salt.clear(),
        ] {
            let mut record = key_record(&whole);
            spoil(&mut record);
            assert!(matches!(key(id.clone(), record), Err(Error::DataLoss(_))));
        }
    }
}
