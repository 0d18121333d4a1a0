//! How much of the server a key may use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::telemetry::{RefusedBy, count_refusal};

/// What a refused caller is told to wait where another call of its own must end first.
const RETRY_AFTER_CALL: Duration = Duration::from_millis(100);

/// What a key may use; `None` is as much as the server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Calls a second, and messages of streams; a second's worth may come at once. Messages beyond wait.
    pub calls_per_second: Option<u64>,
    /// Calls in at a time.
    pub concurrent_calls: Option<u64>,
    /// Bytes of messages a second; a second's worth may come at once. What is beyond that of a message is owed: the next call
    /// is refused, and of a stream the next message read, once it is paid.
    pub bytes_per_second: Option<u64>,
    /// A gallery that holds as many identities takes no new one from this key.
    pub identities: Option<u64>,
}

/// What is used of it now.
#[derive(Debug, Default)]
pub(super) struct Usage {
    calls: Mutex<Bucket>,
    bytes: Mutex<Bucket>,
    in_flight: AtomicU64,
}

/// A call's place among those of its key; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Usage>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Usage {
    /// Takes a place for a call.
    ///
    /// *Errors*: [`Error::Overloaded`], with how long it takes until there is one.
    pub(super) fn admit(self: &Arc<Self>, limits: &KeyLimits, now: Instant) -> Result<Place, Error> {
        let refused = |retry_after| {
            count_refusal(RefusedBy::Key);
            Error::Overloaded { retry_after }
        };
        if let Some(rate) = limits.bytes_per_second {
            lock(&self.bytes).wait(rate, now).map_or(Ok(()), |wait| Err(refused(wait)))?;
        }
        let in_flight = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(self));
        if limits.concurrent_calls.is_some_and(|most| in_flight >= most) {
            return Err(refused(RETRY_AFTER_CALL));
        }
        if let Some(rate) = limits.calls_per_second {
            lock(&self.calls).take(1, rate, now).map_or(Ok(()), |wait| Err(refused(wait)))?;
        }
        Ok(place)
    }

    /// Counts a message of a stream as a call. Returns how long to wait before more are read.
    pub(super) fn add_message(&self, limits: &KeyLimits, now: Instant) -> Option<Duration> {
        let rate = limits.calls_per_second?;
        let mut calls = lock(&self.calls);
        calls.spend(1, rate, now);
        calls.wait(rate, now)
    }

    /// Counts bytes that have come. Returns how long to wait before more are read.
    pub(super) fn add_bytes(&self, count: u64, limits: &KeyLimits, now: Instant) -> Option<Duration> {
        let rate = limits.bytes_per_second?;
        let mut bytes = lock(&self.bytes);
        bytes.spend(count, rate, now);
        bytes.wait(rate, now)
    }
}

/// Lets something happen so many times a second, and no more often.
#[derive(Debug)]
pub struct Throttle {
    rate: u64,
    bucket: Mutex<Bucket>,
}

impl Throttle {
    /// Allows it `rate` times a second.
    pub fn new(rate: u64) -> Self {
        Self { rate, bucket: Mutex::default() }
    }

    /// Tells whether it may happen now, and counts that it does.
    pub fn allows(&self) -> bool {
        lock(&self.bucket).take(1, self.rate, Instant::now()).is_none()
    }
}

/// A token bucket that may be owed to: it holds a second's worth at most.
#[derive(Debug, Default)]
struct Bucket {
    /// What is left, and when that was; `None` is a full one.
    left: Option<(f64, Instant)>,
}

impl Bucket {
    fn refilled(&self, rate: u64, now: Instant) -> f64 {
        let rate = rate as f64;
        let full = rate.max(1.0);
        self.left
            .map_or(full, |(left, then)| (left + now.saturating_duration_since(then).as_secs_f64() * rate).min(full))
    }

    /// Takes what is there whole, or tells how long it takes until it is.
    fn take(&mut self, count: u64, rate: u64, now: Instant) -> Option<Duration> {
        let left = self.refilled(rate, now) - count as f64;
        if left < 0.0 {
            return Some(Duration::from_secs_f64(-left / rate.max(1) as f64));
        }
        self.left = Some((left, now));
        None
    }

    fn spend(&mut self, count: u64, rate: u64, now: Instant) {
        self.left = Some((self.refilled(rate, now) - count as f64, now));
    }

    /// How long until nothing is owed.
    fn wait(&self, rate: u64, now: Instant) -> Option<Duration> {
        let left = self.refilled(rate, now);
        (left < 0.0).then(|| Duration::from_secs_f64(-left / rate.max(1) as f64))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(result: Result<Place, Error>) -> Duration {
        match result {
            Err(Error::Overloaded { retry_after }) => retry_after,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("admitted"),
        }
    }

    #[test]
    fn calls_beyond_the_rate_are_refused_until_their_time_has_come() {
        let (usage, limits) =
            (Arc::new(Usage::default()), KeyLimits { calls_per_second: Some(4), ..Default::default() });
        let now = Instant::now();
        for _ in 0..4 {
            drop(usage.admit(&limits, now).expect("a second's worth at once"));
        }
        assert_eq!(wait_of(usage.admit(&limits, now)), Duration::from_millis(250));
        assert_eq!(wait_of(usage.admit(&limits, now + Duration::from_millis(150))), Duration::from_millis(100));
        drop(usage.admit(&limits, now + Duration::from_millis(250)).expect("a quarter of a second later"));
        let later = now + Duration::from_secs(60);
        for _ in 0..4 {
            drop(usage.admit(&limits, later).expect("never more than a second's worth"));
        }
        wait_of(usage.admit(&limits, later));
    }

    #[test]
    fn throttle_lets_through_no_more_than_its_rate() {
        let throttle = Throttle::new(5);
        let allowed = (0..1_000).filter(|_| throttle.allows()).count();
        assert!((5..=10).contains(&allowed), "{allowed}");
    }

    #[test]
    fn place_is_free_again_when_its_call_ends_or_was_refused() {
        let limits = KeyLimits { concurrent_calls: Some(2), calls_per_second: Some(1_000), ..Default::default() };
        let (usage, now) = (Arc::new(Usage::default()), Instant::now());
        let (first, second) =
            (usage.admit(&limits, now).expect("a place"), usage.admit(&limits, now).expect("a place"));
        assert_eq!(wait_of(usage.admit(&limits, now)), RETRY_AFTER_CALL);
        drop(first);
        let third = usage.admit(&limits, now).expect("a place");
        wait_of(usage.admit(&limits, now));
        drop((second, third));
        assert_eq!(usage.in_flight.load(Ordering::Acquire), 0);
    }

    #[test]
    fn bytes_beyond_a_seconds_worth_are_owed_by_the_next_call() {
        let limits = KeyLimits { bytes_per_second: Some(1_000), ..Default::default() };
        let (usage, now) = (Arc::new(Usage::default()), Instant::now());
        assert_eq!(usage.add_bytes(1_000, &limits, now), None);
        assert_eq!(usage.add_bytes(2_000, &limits, now), Some(Duration::from_secs(2)));
        assert_eq!(wait_of(usage.admit(&limits, now + Duration::from_secs(1))), Duration::from_secs(1));
        drop(usage.admit(&limits, now + Duration::from_secs(2)).expect("paid"));
        assert_eq!(usage.add_bytes(5_000, &KeyLimits::default(), now), None);
    }
}
