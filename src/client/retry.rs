//! When a call that failed is sent again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tonic::{Code, Status};

use super::{reason, retry_delay};

/// The reason of a call that was refused for want of room: nothing was done.
const OVERLOADED: &str = "OVERLOADED";

/// What another try of a call may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Twice is the same as once: it is sent again also where the first may have been carried out.
    Always,
    /// The second would fail by what the first did, or do it again: it is sent again only where the first was refused for
    /// want of room, or has not reached the engine.
    IfRefused,
}

/// How often and how soon a call is sent again. Never past its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all; 1 sends nothing again.
    pub tries_max: u32,
    /// Wait before the second try; each further one is twice as long. A random part of up to a half is taken off, so that
    /// callers who failed together do not come back together.
    pub delay_min: Duration,
    /// Longest wait, beside what the server asks for.
    pub delay_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries_max: 6, delay_min: Duration::from_millis(100), delay_max: Duration::from_secs(5) }
    }
}

impl Retry {
    /// Returns how long to wait before the next try after this many; `None`: there is none.
    pub(super) fn delay(&self, status: &Status, tries: u32, repeat: Repeat) -> Option<Duration> {
        (tries < self.tries_max && is_transient(status, repeat)).then(|| self.wait(status, tries))
    }

    /// Returns how long to wait: what the server asks for, and the backoff.
    pub(super) fn wait(&self, status: &Status, tries: u32) -> Duration {
        let doubled = self.delay_min.saturating_mul(1 << tries.saturating_sub(1).min(20));
        let backoff = doubled.min(self.delay_max).mul_f64(1.0 - random() / 2.0);
        retry_delay(status).unwrap_or_default().saturating_add(backoff)
    }
}

/// Tells whether another try may succeed and does no harm.
pub(super) fn is_transient(status: &Status, repeat: Repeat) -> bool {
    if is_unprocessed(status) {
        return true;
    }
    match status.code() {
        Code::ResourceExhausted => reason(status).as_deref() == Some(OVERLOADED),
        Code::Unavailable => repeat == Repeat::Always,
        // Without a reason it is the transport's: the connection broke.
        Code::Unknown | Code::Cancelled => repeat == Repeat::Always && reason(status).is_none(),
        _ => false,
    }
}

/// Tells whether the call's connection said that the call has not reached the engine, as one of a server that is stopped says
/// to calls that cross its farewell. Whatever their code, which the transport's library may make `INTERNAL`, another try does
/// no harm.
///
/// Source: RFC 9113, 6.8 (streams above the last one of a `GOAWAY`) and 8.7 (`REFUSED_STREAM`).
pub fn is_unprocessed(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>().filter(|error| error.is_remote()) {
            let is_farewell = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return is_farewell || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = error.source();
    }
    false
}

/// Returns a number from 0 to 1. Hashers' keys are random enough for what needs no secrets.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt};

    fn refused(reason: &str, delay: Duration) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "facematch", std::collections::HashMap::new());
        details.set_retry_info(Some(delay));
        Status::with_error_details(Code::ResourceExhausted, "full", details)
    }

    #[test]
    fn only_what_does_no_harm_is_sent_again() {
        let overloaded = refused(OVERLOADED, Duration::ZERO);
        let cases = [
            (&overloaded, true, true),
            (&refused("QUOTA", Duration::ZERO), false, false),
            (&Status::resource_exhausted("gRPC's own"), false, false),
            (&Status::unavailable("gone"), true, false),
            (&Status::unknown("transport error"), true, false),
            (&Status::internal("fault"), false, false),
            (&Status::not_found("no"), false, false),
            (&Status::deadline_exceeded("late"), false, false),
        ];
        for (status, always, if_refused) in cases {
            assert_eq!(is_transient(status, Repeat::Always), always, "{status:?}");
            assert_eq!(is_transient(status, Repeat::IfRefused), if_refused, "{status:?}");
        }
    }

    #[test]
    fn waits_grow_differ_and_are_never_below_what_is_asked_for() {
        let retry = Retry::default();
        let gone = Status::unavailable("gone");
        for tries in 1..60 {
            let most = Duration::from_millis(100).saturating_mul(1 << (tries - 1).min(20)).min(retry.delay_max);
            let waits: Vec<_> = (0..50).map(|_| retry.wait(&gone, tries)).collect();
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{tries}: {waits:?}");
            assert!(waits.iter().any(|wait| wait != &waits[0]), "{tries}");
        }
        let asked = refused(OVERLOADED, Duration::from_secs(7));
        assert!(retry.wait(&asked, 1) > Duration::from_secs(7));
    }

    #[test]
    fn tries_end() {
        let retry = Retry { tries_max: 3, ..Retry::default() };
        let gone = Status::unavailable("gone");
        assert!(retry.delay(&gone, 2, Repeat::Always).is_some());
        assert!(retry.delay(&gone, 3, Repeat::Always).is_none());
    }
}
