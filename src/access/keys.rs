//! The keys that are in force, and who a caller is by them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use super::grant::{Grants, Scope};
use super::key::{Credential, Key, KeyId};
use super::limits::{KeyLimits, Place, Usage};
use super::secret::{KeyText, SecretHash};
use crate::error::Error;

/// A caller, as far as the server knows it.
#[derive(Debug)]
pub struct Principal {
    name: String,
    grants: Grants,
    limits: KeyLimits,
    expires: Option<SystemTime>,
    is_revoked: AtomicBool,
    usage: Arc<Usage>,
}

impl Principal {
    fn new(name: String, grants: Grants) -> Arc<Self> {
        Arc::new(Self {
            name,
            grants,
            limits: KeyLimits::default(),
            expires: None,
            is_revoked: AtomicBool::new(false),
            usage: Arc::default(),
        })
    }

    fn of(key: &Key) -> Arc<Self> {
        Arc::new(Self {
            name: format!("key {}", key.id),
            grants: key.grants.clone(),
            limits: key.limits,
            expires: key.expires,
            is_revoked: AtomicBool::new(false),
            usage: Arc::default(),
        })
    }

    /// Returns who it is, for logs: no secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what it may do.
    ///
    /// *Errors*: [`Error::Unauthenticated`] where its key has been revoked or has expired meanwhile.
    pub fn grants(&self) -> Result<&Grants, Error> {
        let is_past = self.expires.is_some_and(|expires| expires <= SystemTime::now());
        if is_past || self.is_revoked.load(Ordering::Acquire) { Err(Error::Unauthenticated) } else { Ok(&self.grants) }
    }

    /// Takes a place for a call.
    ///
    /// *Errors*: [`Error::Overloaded`] beyond its key's limits.
    pub fn admit(&self) -> Result<Place, Error> {
        self.usage.admit(&self.limits, Instant::now())
    }

    /// Counts bytes that have come of it. Returns how long to wait before more are read.
    pub fn add_bytes(&self, count: u64) -> Option<Duration> {
        self.usage.add_bytes(count, &self.limits, Instant::now())
    }

    /// Returns from how many identities on a gallery takes no new one of it.
    pub fn identities_max(&self) -> Option<u64> {
        self.limits.identities
    }

    /// Takes one of its calls a second for a message of a stream. Returns how long to wait before more are read.
    pub fn add_message(&self) -> Option<Duration> {
        self.usage.add_message(&self.limits, Instant::now())
    }
}

/// How long it is known what was taken out of force here: longer than the reading of all keys takes.
const REMOVED_KEPT: Duration = Duration::from_secs(60);

/// The keys that are in force.
#[derive(Debug)]
pub struct Keys {
    /// Everybody, where no keys are asked for.
    anyone: Option<Arc<Principal>>,
    admin: Option<(SecretHash, Arc<Principal>)>,
    known: RwLock<HashMap<KeyId, Known>>,
    /// What was taken out of force here a moment ago.
    removed: Mutex<HashMap<KeyId, Instant>>,
    /// Compared where no key has the id that is shown: that takes as long, then.
    nobody: SecretHash,
}

#[derive(Debug)]
struct Known {
    key: Key,
    principal: Arc<Principal>,
    /// When it came into force here.
    since: Instant,
}

impl Keys {
    /// Asks for no keys: everybody may do everything. Those that there are are kept for when they are asked for.
    ///
    /// *Errors*: [`Error::Internal`] where the system has no random numbers.
    pub fn open(keys: Vec<Key>) -> Result<Self, Error> {
        Ok(Self { anyone: Some(Principal::new("anyone".into(), Grants::all())), ..Self::required(None, keys)? })
    }

    /// Asks for a key. `admin` is one that may do everything and is kept elsewhere: the first key, with which others are made.
    ///
    /// *Errors*: [`Error::Internal`] where the system has no random numbers.
    pub fn required(admin: Option<&KeyText>, keys: Vec<Key>) -> Result<Self, Error> {
        let admin = admin.map(|text| {
            Ok::<_, Error>((SecretHash::of(text)?, Principal::new("admin key file".into(), Grants::all())))
        });
        let known = keys
            .into_iter()
            .map(|key| (key.id.clone(), Known { principal: Principal::of(&key), key, since: Instant::now() }));
        Ok(Self {
            anyone: None,
            admin: admin.transpose()?,
            known: RwLock::new(known.collect()),
            removed: Mutex::default(),
            nobody: SecretHash::of(&KeyText::generate(&KeyId::generate()?)?)?,
        })
    }

    /// Finds out who a caller is, by the key that it shows or else by the subject of its certificate, which was checked.
    ///
    /// *Errors*: [`Error::Unauthenticated`], whatever is wrong.
    pub fn principal(&self, shown: Option<&KeyText>, subject: Option<&str>) -> Result<Arc<Principal>, Error> {
        if let Some(anyone) = &self.anyone {
            return Ok(Arc::clone(anyone));
        }
        let found = match shown {
            Some(text) => self.by_text(text),
            None => self.by_subject(subject.ok_or(Error::Unauthenticated)?),
        };
        let found = found.ok_or(Error::Unauthenticated)?;
        found.grants()?;
        Ok(found)
    }

    fn by_text(&self, text: &KeyText) -> Option<Arc<Principal>> {
        if let Some((hash, principal)) = &self.admin
            && hash.is_of(text)
        {
            return Some(Arc::clone(principal));
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let shown = text.id().and_then(|id| known.get(&id));
        let (hash, principal) = match shown {
            Some(Known { key: Key { credential: Credential::Secret(hash), .. }, principal, .. }) => {
                (hash, Some(principal))
            }
            _ => (&self.nobody, None),
        };
        hash.is_of(text).then_some(principal)?.cloned()
    }

    fn by_subject(&self, subject: &str) -> Option<Arc<Principal>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_its =
            |known: &&Known| matches!(&known.key.credential, Credential::CertificateSubject(its) if its == subject);
        known.values().find(is_its).map(|known| Arc::clone(&known.principal))
    }

    /// Puts a key in force.
    pub fn add(&self, key: Key) {
        let known = Known { principal: Principal::of(&key), key: key.clone(), since: Instant::now() };
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key.id, known);
    }

    /// Takes a key out of force, for calls and streams that are in too.
    pub fn remove(&self, id: &KeyId) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        removed.retain(|_, when| when.elapsed() < REMOVED_KEPT);
        removed.insert(id.clone(), Instant::now());
        if let Some(known) = self.known.write().unwrap_or_else(PoisonError::into_inner).remove(id) {
            known.principal.is_revoked.store(true, Ordering::Release);
        }
    }

    /// Puts in force what others have made and out of force what they have revoked: `keys` are all that there were at some time
    /// after `asked`. What was made or revoked here since then is not among them yet, or still.
    pub fn follow(&self, keys: Vec<Key>, asked: Instant) {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |id: &KeyId| removed.get(id).is_some_and(|when| *when >= asked);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        for key in keys.into_iter().filter(|key| !is_gone(&key.id)) {
            // Keys do not change.
            let kept = before.remove(&key.id);
            let kept = kept.unwrap_or_else(|| Known { principal: Principal::of(&key), key, since: Instant::now() });
            known.insert(kept.key.id.clone(), kept);
        }
        for (id, own) in before {
            if own.since >= asked {
                known.insert(id, own);
            } else {
                own.principal.is_revoked.store(true, Ordering::Release);
            }
        }
    }

    /// Returns the keys, by id.
    pub fn list(&self) -> Vec<Key> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<Key> = known.values().map(|known| known.key.clone()).collect();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        keys
    }

    /// Tells whether somebody may make keys: by the admin key, by another that is in force, or since nobody is asked for one.
    pub fn can_begin(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let may_make_keys =
            |known: &Known| known.principal.grants().is_ok_and(|grants| grants.allow_everywhere(Scope::Admin));
        self.anyone.is_some() || self.admin.is_some() || known.values().any(may_make_keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(credential: Credential, expires: Option<SystemTime>) -> Key {
        Key {
            id: KeyId::generate().expect("an id"),
            display_name: "a test".into(),
            credential,
            grants: Grants::new(vec!["read:*".parse().expect("a grant")]).expect("grants"),
            limits: KeyLimits::default(),
            created: SystemTime::now(),
            expires,
        }
    }

    fn secret_key(expires: Option<SystemTime>) -> (Key, KeyText) {
        let id = KeyId::generate().expect("an id");
        let text = KeyText::generate(&id).expect("a key");
        let hash = SecretHash::of(&text).expect("a hash");
        (Key { id, ..key(Credential::Secret(hash), expires) }, text)
    }

    #[test]
    fn key_is_known_until_it_is_revoked_or_expires() {
        let (known, text) = secret_key(None);
        let (expired, expired_text) = secret_key(Some(SystemTime::now() - Duration::from_secs(1)));
        let (_, unknown_text) = secret_key(None);
        let keys = Keys::required(None, vec![known.clone(), expired]).expect("keys");
        let principal = keys.principal(Some(&text), None).expect("known");
        assert_eq!(principal.name(), format!("key {}", known.id));
        for shown in [Some(&expired_text), Some(&unknown_text), None] {
            assert!(matches!(keys.principal(shown, None), Err(Error::Unauthenticated)));
        }
        keys.remove(&known.id);
        assert!(matches!(keys.principal(Some(&text), None), Err(Error::Unauthenticated)));
        // Calls that are in know it too.
        assert!(matches!(principal.grants(), Err(Error::Unauthenticated)));
    }

    #[test]
    fn keys_follow_what_others_make_and_revoke_but_not_to_before_what_was_done_here() {
        let ((old, old_text), (new, new_text), (mine, mine_text)) =
            (secret_key(None), secret_key(None), secret_key(None));
        let keys = Keys::required(None, vec![old.clone()]).expect("keys");
        let principal = keys.principal(Some(&old_text), None).expect("known");
        let asked = Instant::now();
        keys.add(mine);
        keys.follow(vec![old.clone(), new.clone()], asked);
        assert!([&old_text, &new_text, &mine_text].iter().all(|text| keys.principal(Some(text), None).is_ok()));
        assert!(Arc::ptr_eq(&principal, &keys.principal(Some(&old_text), None).expect("the same")));
        keys.remove(&new.id);
        keys.follow(vec![new.clone()], asked);
        assert!(keys.principal(Some(&new_text), None).is_err(), "a revoked key is back");
        // The old one was revoked elsewhere: calls that are in know it too.
        assert!(keys.principal(Some(&old_text), None).is_err() && principal.grants().is_err());
        keys.follow(vec![new], Instant::now());
        assert!(keys.principal(Some(&mine_text), None).is_err());
    }

    #[test]
    fn keys_are_made_by_nobody_whose_own_has_expired() {
        let now = SystemTime::now();
        for (expires, may) in [(None, true), (Some(now + Duration::from_secs(3_600)), true), (Some(now), false)] {
            let (key, _) = secret_key(expires);
            let admin = Key { grants: Grants::all(), ..key.clone() };
            assert_eq!(Keys::required(None, vec![key, admin]).expect("keys").can_begin(), may, "{expires:?}");
        }
        let (reader, _) = secret_key(None);
        assert!(!Keys::required(None, vec![reader]).expect("keys").can_begin());
    }

    #[test]
    fn right_secret_of_another_key_is_nobodys() {
        let ((one, one_text), (other, _)) = (secret_key(None), secret_key(None));
        let keys = Keys::required(None, vec![one.clone(), other.clone()]).expect("keys");
        let mixed = one_text.expose().replace(one.id.as_str(), other.id.as_str());
        let mixed = KeyText::stated(&mixed).expect("a key");
        assert!(keys.principal(Some(&mixed), None).is_err());
    }

    #[test]
    fn certificate_stands_for_its_key_and_a_wrong_secret_is_not_made_up_for_by_it() {
        let subject = "CN=door,O=Corp";
        let keys = Keys::required(None, vec![key(Credential::CertificateSubject(subject.into()), None)]).expect("keys");
        assert!(keys.principal(None, Some(subject)).is_ok());
        assert!(keys.principal(None, Some("CN=door")).is_err());
        let (_, text) = secret_key(None);
        assert!(keys.principal(Some(&text), Some(subject)).is_err());
    }

    #[test]
    fn admin_key_may_do_everything_and_without_keys_everybody_may() {
        let text = KeyText::stated(&"an admin's own secret of some length".repeat(2)).expect("a key");
        let keys = Keys::required(Some(&text), Vec::new()).expect("keys");
        let principal = keys.principal(Some(&text), None).expect("the admin");
        assert!(principal.grants().expect("in force").allow_everywhere(Scope::Admin));
        assert!(keys.can_begin() && !Keys::required(None, Vec::new()).expect("keys").can_begin());
        let anyone = Keys::open(Vec::new()).expect("keys").principal(None, None).expect("anyone");
        assert!(anyone.grants().expect("in force").allow_everywhere(Scope::Admin));
    }
}
