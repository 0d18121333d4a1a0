//! Admission: what calls take of the server before any work, by what they cost: a place, the bytes of their messages, the
//! pixels of their photos.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::telemetry::{RefusedBy, count_refusal};

/// What a refused caller is told to wait at least. A worker is done with a photo in about 100 ms.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Permits are of so many bytes or pixels, so that large pools can be counted.
const UNIT: usize = 1_024;

/// How much there is of what calls take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Calls in at a time.
    pub calls: usize,
    /// Bytes of all calls' messages at a time.
    pub bytes: usize,
    /// Pixels of all photos of calls that wait for a worker or are worked on, and of all those of streams.
    pub pixels: usize,
}

/// The pools, and what is taken of them.
#[derive(Debug)]
pub struct Admission {
    capacity: Capacity,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    pixels: Arc<Semaphore>,
    /// A pool of their own: what waits for a large photo of a stream must not hold up calls.
    stream_pixels: Arc<Semaphore>,
}

/// One admitted call; given back, with its bytes, when dropped.
#[derive(Debug)]
pub struct CallPermit {
    admission: Arc<Admission>,
    _call: OwnedSemaphorePermit,
    /// Bytes taken, and the permits that they are rounded up to.
    bytes: usize,
    held: Option<OwnedSemaphorePermit>,
}

/// A part of a pool that was taken; given back when dropped.
#[derive(Debug)]
pub struct HeldPart {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// Sets the limits.
    pub fn new(capacity: Capacity) -> Arc<Self> {
        let pool = |size: usize| Arc::new(Semaphore::new(size.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            capacity,
            calls: pool(capacity.calls),
            bytes: pool(capacity.bytes.div_ceil(UNIT)),
            pixels: pool(capacity.pixels.div_ceil(UNIT)),
            stream_pixels: pool(capacity.pixels.div_ceil(UNIT)),
        })
    }

    /// Admits a call.
    ///
    /// *Errors*: [`Error::Overloaded`] where as many calls as allowed are in.
    pub fn admit(self: &Arc<Self>) -> Result<CallPermit, Error> {
        let call = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| overloaded(RefusedBy::Calls))?;
        Ok(CallPermit { admission: Arc::clone(self), _call: call, bytes: 0, held: None })
    }

    /// Takes what a photo of so many pixels costs until it is done.
    ///
    /// *Errors*: [`Error::Overloaded`] where all photos together would have more than allowed.
    pub fn take_pixels(&self, pixels: u64) -> Result<HeldPart, Error> {
        let permit = Arc::clone(&self.pixels).try_acquire_many_owned(self.units_of_pixels(pixels));
        Ok(HeldPart { _permit: Some(permit.map_err(|_| overloaded(RefusedBy::Pixels))?) })
    }

    /// Takes what a photo of a stream costs, once that is there; in turn, whoever waits.
    pub async fn wait_for_pixels(&self, pixels: u64) -> HeldPart {
        // The pool is never closed.
        HeldPart {
            _permit: Arc::clone(&self.stream_pixels).acquire_many_owned(self.units_of_pixels(pixels)).await.ok(),
        }
    }

    /// A photo with more pixels than there are takes them all: it is worked on alone.
    fn units_of_pixels(&self, pixels: u64) -> u32 {
        let all = self.capacity.pixels.div_ceil(UNIT);
        u32::try_from((pixels / UNIT as u64 + 1).min(all as u64)).unwrap_or(u32::MAX)
    }

    /// Returns how much is taken, pixels and bytes rounded up.
    pub fn taken(&self) -> Capacity {
        let taken = |pool: &Semaphore, size: usize| size.saturating_sub(pool.available_permits());
        Capacity {
            calls: taken(&self.calls, self.capacity.calls),
            bytes: taken(&self.bytes, self.capacity.bytes.div_ceil(UNIT)) * UNIT,
            pixels: taken(&self.pixels, self.capacity.pixels.div_ceil(UNIT)) * UNIT
                + taken(&self.stream_pixels, self.capacity.pixels.div_ceil(UNIT)) * UNIT,
        }
    }

    /// Returns the limits.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }
}

fn overloaded(by: RefusedBy) -> Error {
    count_refusal(by);
    Error::Overloaded { retry_after: RETRY_AFTER }
}

impl CallPermit {
    /// Counts bytes of the call's messages as they arrive.
    ///
    /// *Errors*: [`Error::Overloaded`] where all calls together would hold more than allowed.
    pub fn take_bytes(&mut self, count: usize) -> Result<(), Error> {
        let refused = || overloaded(RefusedBy::Bytes);
        let bytes = self.bytes.saturating_add(count);
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(bytes.div_ceil(UNIT).saturating_sub(held)).map_err(|_| refused())?;
        let more = Arc::clone(&self.admission.bytes).try_acquire_many_owned(more).map_err(|_| refused())?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Hands the bytes taken so far over to what holds them from now on: an item of a stream.
    pub fn hand_over_bytes(&mut self) -> HeldPart {
        self.bytes = 0;
        HeldPart { _permit: self.held.take() }
    }

    /// Gives the bytes back that are no longer held.
    pub fn give_back_bytes(&mut self) {
        drop(self.hand_over_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(admission: &Admission) -> (usize, usize, usize) {
        let Capacity { calls, bytes, pixels } = admission.taken();
        (calls, bytes / UNIT, pixels / UNIT)
    }

    #[test]
    fn call_beyond_a_limit_is_overloaded_until_one_ends() {
        let admission = Admission::new(Capacity { calls: 2, bytes: 100 * UNIT, pixels: UNIT });
        let mut first = admission.admit().expect("a place");
        let mut second = admission.admit().expect("a place");
        assert!(matches!(admission.admit(), Err(Error::Overloaded { .. })));
        first.take_bytes(30 * UNIT).expect("room");
        first.give_back_bytes();
        first.take_bytes(60 * UNIT).expect("room");
        assert!(matches!(second.take_bytes(41 * UNIT), Err(Error::Overloaded { .. })));
        second.take_bytes(40 * UNIT - 1).expect("room");
        second.take_bytes(1).expect("the byte that the last one was rounded up by");
        drop(first);
        assert_eq!(taken(&admission), (1, 40, 0));
        assert!(admission.admit().is_ok());
        let item = second.hand_over_bytes();
        second.take_bytes(20).expect("room");
        drop(second);
        assert_eq!(taken(&admission), (0, 40, 0), "the item's bytes are held");
        drop(item);
        assert_eq!(taken(&admission), (0, 0, 0));
    }

    #[tokio::test]
    async fn photo_takes_its_pixels_and_a_huge_one_all_of_them() {
        let admission = Admission::new(Capacity { calls: 1, bytes: 1, pixels: 10 * UNIT });
        let small = admission.take_pixels(3 * UNIT as u64).expect("room");
        assert!(matches!(admission.take_pixels(7 * UNIT as u64), Err(Error::Overloaded { .. })));
        drop(small);
        let small = admission.wait_for_pixels(3 * UNIT as u64).await;
        let huge = admission.wait_for_pixels(1 << 40);
        tokio::pin!(huge);
        assert!(std::future::poll_fn(|context| std::task::Poll::Ready(huge.as_mut().poll(context).is_pending())).await);
        drop(admission.take_pixels(1 << 40).expect("calls have pixels of their own"));
        drop(small);
        let huge = huge.await;
        assert_eq!(taken(&admission), (0, 0, 10));
        drop(huge);
        assert_eq!(taken(&admission), (0, 0, 0));
    }
}
