//! One pass over a large gallery serves every search that waits for one.
//!
//! A search queues its probe and then waits for its turn to lead. Whoever leads takes the probes that wait, its own among
//! them, and runs one pass for all; the others find their answers when their turn comes. No timer, no thread: a lone search
//! leads at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::types::{Search, SearchOutcome};

/// Probes of one pass at most. A pass of eight takes about three times as long as a pass of one.
const PROBES_MAX: usize = 8;

/// Searches that wait for a pass over one gallery.
#[derive(Default)]
pub(super) struct Batch {
    waiting: Mutex<Vec<Arc<Waiting>>>,
    /// Held by who leads.
    pass: Mutex<()>,
}

/// A search that waits.
pub(super) struct Waiting {
    pub search: Search,
    outcome: Mutex<Option<SearchOutcome>>,
}

impl Batch {
    /// Returns the outcomes of searches in their order, from passes that began after this call did. `pass` runs one:
    /// outcomes in the order of the searches.
    pub(super) fn search_many(
        &self,
        searches: Vec<Search>,
        pass: impl Fn(&[Arc<Waiting>]) -> Vec<SearchOutcome>,
    ) -> Option<Vec<SearchOutcome>> {
        let waiting = |search| Arc::new(Waiting { search, outcome: Mutex::new(None) });
        let own: Vec<Arc<Waiting>> = searches.into_iter().map(waiting).collect();
        // All at once, so that the first pass takes as many as it can.
        lock(&self.waiting).extend(own.iter().map(Arc::clone));
        own.iter().map(|own| self.outcome(own, &pass)).collect()
    }

    /// Waits for the turn of a search that is queued, and leads where nobody has answered it by then.
    fn outcome(
        &self,
        own: &Arc<Waiting>,
        pass: impl Fn(&[Arc<Waiting>]) -> Vec<SearchOutcome>,
    ) -> Option<SearchOutcome> {
        let _leading = lock(&self.pass);
        if let Some(outcome) = lock(&own.outcome).take() {
            return Some(outcome);
        }
        // Its own first: a leader who died has taken others' probes with it, and each must still be answered.
        let mut searches = vec![Arc::clone(own)];
        let mut waiting = lock(&self.waiting);
        waiting.retain(|other| !Arc::ptr_eq(other, own));
        let others = waiting.len().min(PROBES_MAX - 1);
        searches.extend(waiting.drain(..others));
        drop(waiting);
        for (search, outcome) in searches.iter().zip(pass(&searches)) {
            *lock(&search.outcome) = Some(outcome);
        }
        lock(&own.outcome).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::ids::PackId;
    use crate::biometrics::template::Template;
    use crate::gallery::{Scope, SearchPath};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn search(capacity: usize) -> Search {
        let probe = Template::from_vector(&[1.0], PackId::from_digits("0".repeat(32))).expect("a template");
        Search { probe, capacity, exact: true, scope: Scope::default() }
    }

    fn search_one(
        batch: &Batch,
        search: Search,
        pass: impl Fn(&[Arc<Waiting>]) -> Vec<SearchOutcome>,
    ) -> Option<SearchOutcome> {
        batch.search_many(vec![search], pass)?.pop()
    }

    #[test]
    fn searches_of_one_call_share_passes() {
        let (batch, passes) = (Batch::default(), Mutex::new(Vec::new()));
        let searches = (0..20).map(search).collect();
        let outcomes = batch.search_many(searches, |searches| {
            lock(&passes).push(searches.len());
            answer(searches)
        });
        let found: Vec<u64> = outcomes.expect("outcomes").iter().map(|outcome| outcome.identities).collect();
        assert_eq!(found, (0..20).collect::<Vec<u64>>());
        assert_eq!(*lock(&passes), [8, 8, 4]);
    }

    /// Answers each search with its own capacity, so that a mix-up shows.
    fn answer(searches: &[Arc<Waiting>]) -> Vec<SearchOutcome> {
        let outcome = |search: &Arc<Waiting>| SearchOutcome {
            ranked: Vec::new(),
            identities: search.search.capacity as u64,
            searched: 0,
            path: SearchPath::Exact,
        };
        searches.iter().map(outcome).collect()
    }

    #[test]
    fn every_search_gets_its_own_outcome_and_passes_are_shared() {
        let (batch, passes) = (Batch::default(), AtomicUsize::new(0));
        let (batch, passes) = (&batch, &passes);
        std::thread::scope(|scope| {
            // The first leader waits until all others have queued, so that the next pass is full.
            let (release, released) = std::sync::mpsc::channel::<()>();
            let leader = scope.spawn(move || {
                search_one(batch, search(1_000), |searches| {
                    released.recv().expect("released");
                    answer(searches)
                })
            });
            while batch.pass.try_lock().is_ok() {
                std::thread::yield_now();
            }
            let others: Vec<_> = (0..20)
                .map(|capacity| {
                    scope.spawn(move || {
                        search_one(batch, search(capacity), |searches| {
                            passes.fetch_add(1, Ordering::Relaxed);
                            answer(searches)
                        })
                    })
                })
                .collect();
            while lock(&batch.waiting).len() < 20 {
                std::thread::yield_now();
            }
            release.send(()).expect("the leader waits");
            assert_eq!(leader.join().expect("a thread").map(|outcome| outcome.identities), Some(1_000));
            for (capacity, other) in others.into_iter().enumerate() {
                let outcome = other.join().expect("a thread");
                assert_eq!(outcome.map(|outcome| outcome.identities), Some(capacity as u64));
            }
        });
        assert_eq!(passes.load(Ordering::Relaxed), 3, "20 searches in passes of 8");
    }

    #[test]
    fn leader_who_dies_costs_the_others_nothing() {
        let batch = Batch::default();
        let (batch_ref, failed) = (&batch, AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        search_one(batch_ref, search(7), |searches| {
                            assert_ne!(failed.fetch_add(1, Ordering::Relaxed), 0, "the first leader dies");
                            answer(searches)
                        })
                    }));
                    assert!(result.is_err() || result.ok().flatten().is_some_and(|outcome| outcome.identities == 7));
                });
            }
        });
        assert!(lock(&batch.waiting).is_empty());
    }
}
