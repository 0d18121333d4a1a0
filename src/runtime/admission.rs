//! Admission: one limit on calls and one on the bytes of their messages, taken before any work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::Error;

/// What a refused caller is told to wait at least. A worker is done with a photo in about 100 ms.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The limits and what is taken of them.
#[derive(Debug)]
pub struct Admission {
    calls_max: usize,
    bytes_max: usize,
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

/// One admitted call; given back, with its bytes, when dropped.
#[derive(Debug)]
pub struct CallPermit {
    admission: Arc<Admission>,
    bytes: usize,
}

/// Bytes of a message that was taken out of its call; given back when dropped.
#[derive(Debug)]
pub struct HeldBytes {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.admission.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Admission {
    /// Sets the limits.
    pub fn new(calls_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { calls_max, bytes_max, calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0) })
    }

    /// Admits a call.
    ///
    /// *Errors*: [`Error::Overloaded`] where as many calls as allowed are in.
    pub fn admit(self: &Arc<Self>) -> Result<CallPermit, Error> {
        take(&self.calls, 1, self.calls_max)?;
        Ok(CallPermit { admission: Arc::clone(self), bytes: 0 })
    }

    /// Returns how many calls and bytes are in.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.calls.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl CallPermit {
    /// Counts bytes of the call's messages as they arrive.
    ///
    /// *Errors*: [`Error::Overloaded`] where all calls together would hold more than allowed.
    pub fn take_bytes(&mut self, count: usize) -> Result<(), Error> {
        take(&self.admission.bytes, count, self.admission.bytes_max)?;
        self.bytes += count;
        Ok(())
    }

    /// Hands the bytes taken so far over to what holds them from now on: an item of a stream.
    pub fn hand_over_bytes(&mut self) -> HeldBytes {
        HeldBytes { admission: Arc::clone(&self.admission), bytes: std::mem::take(&mut self.bytes) }
    }

    /// Gives the bytes back that are no longer held.
    pub fn give_back_bytes(&mut self) {
        self.admission.bytes.fetch_sub(std::mem::take(&mut self.bytes), Ordering::AcqRel);
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.admission.calls.fetch_sub(1, Ordering::AcqRel);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

fn take(counter: &AtomicUsize, count: usize, limit: usize) -> Result<(), Error> {
    let fits = |taken: usize| taken.checked_add(count).filter(|sum| *sum <= limit);
    let taken = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
    taken.map(|_| ()).map_err(|_| Error::Overloaded { retry_after: RETRY_AFTER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_beyond_a_limit_is_overloaded_until_one_ends() {
        let admission = Admission::new(2, 100);
        let mut first = admission.admit().expect("a place");
        let mut second = admission.admit().expect("a place");
        assert!(matches!(admission.admit(), Err(Error::Overloaded { .. })));
        first.take_bytes(30).expect("room");
        first.give_back_bytes();
        first.take_bytes(60).expect("room");
        assert!(matches!(second.take_bytes(41), Err(Error::Overloaded { .. })));
        second.take_bytes(40).expect("room");
        drop(first);
        assert_eq!(admission.in_flight(), (1, 40));
        assert!(admission.admit().is_ok());
        let item = second.hand_over_bytes();
        second.take_bytes(20).expect("room");
        drop(second);
        assert_eq!(admission.in_flight(), (0, 40), "the item's bytes are held");
        drop(item);
        assert_eq!(admission.in_flight(), (0, 0));
    }
}
