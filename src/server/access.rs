//! Who may call what: one table, looked at twice. By the call's name, before anything of its message is read; and by the galleries
//! that each message names, before a handler sees it (`codec.rs`). What is refused says nothing of what there is.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};

use super::codec::Named;
use super::connections::{OpenCall, Peer};
use super::layers::is_own;
use super::status::status;
use crate::access::{KeyText, Keys, Place, Principal, Scope, Throttle};
use crate::audit::{AuditLog, EntryPlace};
use crate::error::Error;

/// What a call takes where its messages name no gallery.
#[derive(Clone, Copy, PartialEq)]
enum Otherwise {
    /// The scope on any gallery: the call is about none, or about what the handler leaves out (ListGalleries).
    Anywhere,
    /// The scope on all galleries.
    Everywhere,
}

/// What a call takes: the scope, on each gallery that its messages name.
pub(super) struct Rule {
    method: &'static str,
    scope: Scope,
    otherwise: Otherwise,
}

const fn rule(method: &'static str, scope: Scope, otherwise: Otherwise) -> Rule {
    Rule { method, scope, otherwise }
}

use Otherwise::{Anywhere, Everywhere};

/// Every call of the contract. One that is not here is refused.
const RULES: [Rule; 31] = [
    rule("FaceService/Detect", Scope::Read, Anywhere),
    rule("FaceService/Embed", Scope::Read, Anywhere),
    rule("FaceService/Verify", Scope::Read, Anywhere),
    rule("MatchService/Identify", Scope::Read, Anywhere),
    rule("MatchService/IdentifyStream", Scope::Read, Anywhere),
    rule("EnrollmentService/Enroll", Scope::Enrol, Anywhere),
    rule("EnrollmentService/BulkEnroll", Scope::Enrol, Anywhere),
    rule("EnrollmentService/GetIdentity", Scope::Read, Anywhere),
    rule("EnrollmentService/ListIdentities", Scope::Read, Anywhere),
    rule("EnrollmentService/UpdateIdentity", Scope::Enrol, Anywhere),
    rule("EnrollmentService/DeleteIdentity", Scope::Delete, Anywhere),
    rule("EnrollmentService/DeleteTemplate", Scope::Delete, Anywhere),
    rule("GalleryService/CreateGallery", Scope::Admin, Anywhere),
    rule("GalleryService/GetGallery", Scope::Read, Anywhere),
    rule("GalleryService/ListGalleries", Scope::Read, Anywhere),
    rule("GalleryService/UpdateGallery", Scope::Admin, Anywhere),
    rule("GalleryService/DeleteGallery", Scope::Admin, Anywhere),
    rule("GalleryService/ExportGallery", Scope::Admin, Anywhere),
    rule("GalleryService/ImportGallery", Scope::Admin, Anywhere),
    rule("GalleryService/GetImport", Scope::Admin, Anywhere),
    rule("GalleryService/MigrateGallery", Scope::Admin, Anywhere),
    rule("GalleryService/MoveGallery", Scope::Admin, Anywhere),
    rule("GalleryService/DeleteGalleryCopy", Scope::Admin, Anywhere),
    rule("GalleryService/CompactGalleries", Scope::Admin, Everywhere),
    rule("CalibrationService/Calibrate", Scope::Admin, Anywhere),
    rule("CalibrationService/SetCurve", Scope::Admin, Anywhere),
    rule("CalibrationService/GetCurve", Scope::Read, Anywhere),
    rule("CalibrationService/DeleteCurve", Scope::Admin, Anywhere),
    rule("KeyService/CreateKey", Scope::Admin, Everywhere),
    rule("KeyService/ListKeys", Scope::Admin, Everywhere),
    rule("KeyService/RevokeKey", Scope::Admin, Everywhere),
];

const PACKAGE: &str = "/facematch.v1.";

fn rule_of(path: &str) -> Option<&'static Rule> {
    let method = path.strip_prefix(PACKAGE)?;
    RULES.iter().find(|rule| rule.method == method)
}

/// What an open call may be asked for, and what is noted of it.
pub(super) struct Access {
    pub principal: Arc<Principal>,
    rule: &'static Rule,
    trail: Arc<Trail>,
    auditing: Option<Auditing>,
    /// Among the calls of its key.
    _place: Place,
    /// The connection is not idle: calls that are refused do not count.
    _open: Option<OpenCall>,
}

impl Access {
    /// Checks what a message of the call names, and notes the galleries.
    ///
    /// *Errors*: [`Error::Unauthenticated`] where the caller's key is no longer in force; [`Error::PermissionDenied`].
    pub(super) fn check(&self, named: Named) -> Result<(), Error> {
        let grants = self.principal.grants()?;
        let scope = if named.templates { Scope::Admin } else { self.rule.scope };
        let denied = |on| {
            self.trail.note_refusal(self.auditing.as_ref());
            Err(Error::PermissionDenied { scope: scope.as_str(), on })
        };
        let of_all = named.all_galleries || self.rule.otherwise == Everywhere;
        let all_named = named.galleries.iter().all(|gallery| grants.allow(scope, gallery));
        self.trail.add_galleries(named.galleries);
        if !all_named {
            return denied("each gallery that the request names");
        }
        if of_all && !grants.allow_everywhere(scope) {
            return denied("all galleries");
        }
        if grants.allow_somewhere(scope) { Ok(()) } else { denied("some gallery") }
    }
}

/// Galleries that an entry of the audit log names at most.
const NOTED_MAX: usize = 64;

/// What the audit log is told of a call: who makes it, and which galleries it names. Made with the call, filled in on its way.
#[derive(Default)]
pub(super) struct Trail(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    place: Option<EntryPlace>,
    who: String,
    galleries: BTreeSet<String>,
}

/// What a call has left in its trail.
pub(super) struct Left {
    pub place: EntryPlace,
    pub who: String,
    pub galleries: Vec<String>,
}

impl Trail {
    /// A stream may name another with each message: only so many are noted.
    fn add_galleries(&self, galleries: BTreeSet<String>) {
        let mut noted = self.lock();
        let room = NOTED_MAX.saturating_sub(noted.galleries.len());
        noted.galleries.extend(galleries.into_iter().take(room));
    }

    /// A call that only asks has no place for an entry until it is refused. It is refused, then, whether or not there is one.
    fn note_refusal(&self, auditing: Option<&Auditing>) {
        let mut noted = self.lock();
        if noted.place.is_none() {
            noted.place = auditing.and_then(|auditing| auditing.log.place().ok());
        }
    }

    fn begin(&self, place: Option<EntryPlace>, who: &str) {
        let mut noted = self.lock();
        noted.place = place;
        noted.who = who.to_owned();
    }

    /// Takes what was noted; `None` where the call needs no entry.
    pub(super) fn take(&self) -> Option<Left> {
        let Noted { place, who, galleries } = std::mem::take(&mut *self.lock());
        Some(Left { place: place?, who, galleries: galleries.into_iter().collect() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which calls the audit log is told of.
#[derive(Clone)]
pub(super) struct Auditing {
    pub log: Arc<AuditLog>,
    /// Not only those that change something, and those that were refused.
    pub all_calls: bool,
    /// Of callers whom nobody knows a few a second have a line: they must not fill the disk.
    pub strangers: Arc<Throttle>,
}

/// Lines a second of callers whom nobody knows.
pub(super) const STRANGERS_A_SECOND: u64 = 10;

/// Finds out who calls, and refuses what that caller may do nowhere.
#[derive(Clone)]
pub(super) struct AccessLayer {
    pub keys: Arc<Keys>,
    pub auditing: Option<Auditing>,
    /// Pages of these may call; `*` is any.
    pub web_origins: Arc<[String]>,
}

impl AccessLayer {
    fn admit(&self, request: &Request<Body>, rule: &'static Rule) -> Result<Access, Error> {
        check_origin(request, &self.web_origins)?;
        let trail = request.extensions().get::<Arc<Trail>>().cloned().unwrap_or_default();
        let principal = self.principal(request).inspect_err(|_| {
            if let Some(Auditing { log, .. }) = self.auditing.as_ref().filter(|auditing| auditing.strangers.allows()) {
                trail.begin(log.place().ok(), "unknown");
            }
        })?;
        let may = principal.grants()?.allow_somewhere(rule.scope);
        let audited = self.auditing.as_ref().filter(|auditing| auditing.all_calls || rule.scope != Scope::Read || !may);
        trail.begin(audited.map(|auditing| auditing.log.place()).transpose()?, principal.name());
        if !may {
            return Err(Error::PermissionDenied { scope: rule.scope.as_str(), on: "some gallery" });
        }
        let place = principal.admit()?;
        Ok(Access {
            principal,
            rule,
            trail,
            auditing: self.auditing.clone(),
            _place: place,
            _open: OpenCall::of(request),
        })
    }
}

impl AccessLayer {
    fn principal(&self, request: &Request<Body>) -> Result<Arc<Principal>, Error> {
        let peer = request.extensions().get::<Peer>();
        let shown = shown_key(request)?;
        self.keys.principal(shown.as_ref(), peer.and_then(|peer| peer.subject.as_deref()))
    }
}

/// Refuses calls of pages that may not call. Browsers keep other pages from seeing replies, but not from asking; and to a page
/// whose name leads to this machine (DNS rebinding) this is its own origin.
fn check_origin(request: &Request<Body>, allowed: &[String]) -> Result<(), Error> {
    let Some(origin) = request.headers().get(http::header::ORIGIN) else { return Ok(()) };
    let is_allowed = allowed.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes());
    if is_allowed { Ok(()) } else { Err(Error::BadMessage("pages of this origin may not call")) }
}

/// Reads `authorization: Bearer KEY` (RFC 6750).
///
/// *Errors*: [`Error::Unauthenticated`] where there is one that is none: it is not passed over in favour of a certificate.
fn shown_key(request: &Request<Body>) -> Result<Option<KeyText>, Error> {
    let Some(value) = request.headers().get(http::header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Error::Unauthenticated)?;
    let (scheme, text) = text.split_once(' ').ok_or(Error::Unauthenticated)?;
    let text = KeyText::stated(text).filter(|_| scheme.eq_ignore_ascii_case("bearer"));
    text.ok_or(Error::Unauthenticated).map(Some)
}

impl<S> tower_layer::Layer<S> for AccessLayer {
    type Service = AccessService<S>;

    fn layer(&self, inner: S) -> AccessService<S> {
        AccessService { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct AccessService<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S> Service<Request<Body>> for AccessService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Health is for probes, and reflection for anybody who has the contract anyway: neither tells of a gallery.
        if !is_own(&request) {
            return Box::pin(self.inner.call(request));
        }
        let refuse = |status: Status| -> Self::Future { Box::pin(std::future::ready(Ok(status.into_http()))) };
        let Some(rule) = rule_of(request.uri().path()) else {
            return refuse(Status::unimplemented("there is no such call"));
        };
        match self.layer.admit(&request, rule) {
            Ok(access) => {
                // The secret is of no use to anybody further in.
                request.headers_mut().remove(http::header::AUTHORIZATION);
                request.extensions_mut().insert(Arc::new(Mutex::new(Some(access))));
                Box::pin(self.inner.call(request))
            }
            Err(error) => refuse(status(error)),
        }
    }
}

/// Takes the access that the layer has given a request.
pub(super) fn take_access<B>(request: &mut Request<B>) -> Option<Access> {
    let access = request.extensions_mut().remove::<Arc<Mutex<Option<Access>>>>()?;
    access.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::super::codec::descriptors;
    use super::*;

    #[test]
    fn every_call_of_the_contract_has_a_rule_and_every_rule_a_call() {
        let own = descriptors().services().filter(|service| service.package_name() == "facematch.v1");
        let mut calls: Vec<String> = own
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|method| format!("{}/{}", method.parent_service().name(), method.name()))
            .collect();
        let mut rules: Vec<&str> = RULES.iter().map(|rule| rule.method).collect();
        calls.sort();
        rules.sort_unstable();
        assert_eq!(calls, rules);
        assert!(rule_of("/facematch.v1.MatchService/Nothing").is_none());
        assert!(rule_of("/facematch.v2.MatchService/Identify").is_none());
    }

    #[test]
    fn key_is_read_off_the_header_and_nonsense_is_no_anonymous_caller() {
        let shown = |value: &str| {
            let request = Request::builder().header("authorization", value).body(Body::empty()).expect("a request");
            shown_key(&request).map(|key| key.map(|key| key.expose().to_owned()))
        };
        let key = "k".repeat(40);
        assert_eq!(shown(&format!("Bearer {key}")).expect("a key"), Some(key.clone()));
        assert_eq!(shown(&format!("bearer {key}")).expect("a key"), Some(key.clone()));
        for nonsense in ["", "Bearer", "Bearer ", "Bearer short", &format!("Basic {key}"), &key] {
            assert!(matches!(shown(nonsense), Err(Error::Unauthenticated)), "{nonsense:?}");
        }
        assert!(shown_key(&Request::new(Body::empty())).expect("none").is_none());
    }
}
