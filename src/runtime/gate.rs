//! A gate: so much work in at a time, shared fairly among callers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who asks for work: a connection. Those whose connection is not known count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub Option<SocketAddr>);

/// Counts who is in.
///
/// While there are places, anybody gets one. When all are taken, a caller with less than an equal share of them gets one all
/// the same, so that whoever came first, with many calls at a time, does not shut the others out; twice the places is the end.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    places: usize,
    taken: usize,
    by_caller: HashMap<Caller, usize>,
}

/// A place behind the gate; given back when dropped.
#[derive(Debug)]
pub struct GatePass {
    gate: Arc<Gate>,
    caller: Caller,
}

impl Gate {
    /// Makes a gate with places.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { places, taken: 0, by_caller: HashMap::new() }) })
    }

    /// Lets a caller in; `None`, at once, where there is no place for it.
    pub fn enter(self: &Arc<Self>, caller: Caller) -> Option<GatePass> {
        let mut state = self.state();
        let own = state.by_caller.get(&caller).copied().unwrap_or(0);
        let callers = state.by_caller.len() + usize::from(own == 0);
        let is_below_share = own < (state.places / callers).max(1) && state.taken < 2 * state.places;
        if state.taken >= state.places && !is_below_share {
            return None;
        }
        state.taken += 1;
        state.by_caller.insert(caller, own + 1);
        Some(GatePass { gate: Arc::clone(self), caller })
    }

    /// Changes how many places there are. Whoever is in stays in.
    pub fn set_places(&self, places: usize) {
        self.state().places = places;
    }

    /// Returns how many are in, and how many places there are.
    pub fn taken_of(&self) -> (usize, usize) {
        let state = self.state();
        (state.taken, state.places)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GatePass {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.taken -= 1;
        if let Some(own) = state.by_caller.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                state.by_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(port: u16) -> Caller {
        Caller(Some(SocketAddr::from(([127, 0, 0, 1], port))))
    }

    #[test]
    fn caller_alone_gets_all_places_and_no_more() {
        let gate = Gate::new(4);
        let passes: Vec<_> = (0..6).map_while(|_| gate.enter(caller(1))).collect();
        assert_eq!((passes.len(), gate.taken_of()), (4, (4, 4)));
        drop(passes);
        assert_eq!(gate.taken_of(), (0, 4));
        assert!(gate.state().by_caller.is_empty());
    }

    #[test]
    fn caller_who_comes_late_gets_its_share_and_the_greedy_one_no_more() {
        let gate = Gate::new(6);
        let greedy: Vec<_> = (0..6).map_while(|_| gate.enter(caller(1))).collect();
        let late: Vec<_> = (0..6).map_while(|_| gate.enter(caller(2))).collect();
        assert_eq!((greedy.len(), late.len()), (6, 3));
        assert!(gate.enter(caller(1)).is_none());
        // However many come, there is an end.
        let many: Vec<_> = (3..100).filter_map(|port| gate.enter(caller(port))).collect();
        assert_eq!((many.len(), gate.taken_of().0), (3, 12));
    }

    #[test]
    fn fewer_places_let_nobody_in_until_enough_have_left() {
        let gate = Gate::new(3);
        let mut passes: Vec<_> = (0..3).map_while(|_| gate.enter(caller(1))).collect();
        gate.set_places(1);
        passes.truncate(1);
        assert!(gate.enter(caller(1)).is_none());
        passes.clear();
        assert!(gate.enter(caller(1)).is_some());
    }
}
