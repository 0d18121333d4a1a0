//! Searches at a time: as many as are answered within a bounded wait, by how long searches take now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::gate::{Caller, Gate, GatePass};
use super::turns::{HeldTurn, Turns};
use crate::error::Error;
use crate::telemetry::{RefusedBy, count_refusal};

/// Places that there always are, and searches of all streams at a time: what two shared passes over a large gallery take.
const PLACES_MIN: usize = 16;

/// Each search takes a thread while it waits.
const PLACES_MAX: usize = 256;

/// A search's time until there are any: of 100,000 templates.
const FIRST_TIME: Duration = Duration::from_millis(1);

/// The gate of searches.
///
/// How many may be in follows from how long one takes, so that the last one in waits no longer than it should. That time is
/// measured as Little's law has it: the time each spends here, by how many are here for a core.
pub struct Searches {
    gate: Arc<Gate>,
    of_streams: Arc<Turns>,
    cores: usize,
    wait_max: Duration,
    /// Moving mean of the time that a search takes of one core, in nanoseconds.
    nanos: AtomicU64,
}

/// One search that is in.
pub struct Turn {
    searches: Arc<Searches>,
    began: Instant,
    _place: Place,
}

enum Place {
    OfCall { _pass: GatePass },
    OfStream { _turn: HeldTurn },
}

impl Searches {
    /// Makes the gate for so many cores; the last search in should wait no longer than `wait_max`.
    pub fn new(cores: usize, wait_max: Duration) -> Arc<Self> {
        let searches = Self {
            gate: Gate::new(PLACES_MIN),
            of_streams: Turns::new(PLACES_MIN),
            cores: cores.max(1),
            wait_max,
            nanos: AtomicU64::new(nanos(FIRST_TIME)),
        };
        searches.follow();
        Arc::new(searches)
    }

    /// Lets a call search.
    ///
    /// *Errors*: [`Error::Overloaded`], at once, where it would wait too long.
    pub fn enter(self: &Arc<Self>, caller: Caller) -> Result<Turn, Error> {
        let pass = self.gate.enter(caller).ok_or_else(|| {
            count_refusal(RefusedBy::Searches);
            Error::Overloaded { retry_after: self.retry_after() }
        })?;
        Ok(self.turn(Place::OfCall { _pass: pass }))
    }

    /// Lets an item of a stream search once it is its caller's turn.
    pub async fn wait(self: &Arc<Self>, caller: Caller) -> Turn {
        self.turn(Place::OfStream { _turn: self.of_streams.wait(caller).await })
    }

    /// Returns how many searches of calls are in, and how many may be.
    pub fn taken_of(&self) -> (usize, usize) {
        self.gate.taken_of()
    }

    fn turn(self: &Arc<Self>, place: Place) -> Turn {
        Turn { searches: Arc::clone(self), began: Instant::now(), _place: place }
    }

    fn note(&self, spent: Duration) {
        let in_streams = self.of_streams.taken();
        let here = (self.gate.taken_of().0 + in_streams).max(self.cores);
        let took = nanos(spent) / here as u64 * self.cores as u64;
        let mean = self.nanos.load(Ordering::Relaxed);
        self.nanos.store((mean - mean / 16 + took / 16).max(1), Ordering::Relaxed);
        self.follow();
    }

    fn follow(&self) {
        let waiting = nanos(self.wait_max) / self.nanos.load(Ordering::Relaxed).max(1);
        let places = self.cores.saturating_mul(usize::try_from(waiting).unwrap_or(usize::MAX).saturating_add(1));
        self.gate.set_places(places.clamp(PLACES_MIN, PLACES_MAX));
    }

    /// About half of what is in will be done by then.
    fn retry_after(&self) -> Duration {
        let (taken, _) = self.gate.taken_of();
        let nanos = self.nanos.load(Ordering::Relaxed).saturating_mul(taken as u64) / (2 * self.cores as u64);
        Duration::from_nanos(nanos).clamp(Duration::from_millis(5), Duration::from_secs(10))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.searches.note(self.began.elapsed());
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(spent: Duration) -> Arc<Searches> {
        let searches = Searches::new(2, Duration::from_millis(10));
        (0..200).for_each(|_| searches.note(spent));
        searches
    }

    #[test]
    fn places_follow_the_time_of_a_search() {
        // Alone on two cores, one of 1 ms leaves ten more waits of it a core.
        assert_eq!(after(Duration::from_millis(1)).taken_of().1, 2 * 11);
        assert_eq!(after(Duration::from_micros(10)).taken_of().1, PLACES_MAX);
        assert_eq!(after(Duration::from_millis(80)).taken_of().1, PLACES_MIN);
    }

    #[tokio::test]
    async fn search_beyond_the_places_is_overloaded_and_streams_have_their_own() {
        let searches = after(Duration::from_millis(80));
        let turns: Vec<Turn> = (0..PLACES_MIN).map(|_| searches.enter(Caller(None)).expect("a place")).collect();
        let Err(Error::Overloaded { retry_after }) = searches.enter(Caller(None)) else { panic!("no refusal") };
        assert!(retry_after >= Duration::from_millis(5));
        drop(searches.wait(Caller(None)).await);
        drop(turns);
        assert!(searches.enter(Caller(None)).is_ok());
    }
}
