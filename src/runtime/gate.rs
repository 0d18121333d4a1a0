//! A gate: so much work in at a time, shared fairly among callers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who asks for work: a connection. Those whose connection is not known count as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Caller(pub Option<SocketAddr>);

/// Callers who asked this long ago count among those who share the places.
const RECENT: Duration = Duration::from_secs(1);

/// Counts who is in. As many as there are places, so that nobody who is in waits for more than those.
///
/// A caller alone gets all places. Where several asked lately, also those who were refused, the last free place is for one who
/// has less than an equal share: whoever came first, with many calls at a time, does not shut the others out.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    places: usize,
    taken: usize,
    callers: HashMap<Caller, Asked>,
    tidied: Instant,
}

#[derive(Debug)]
struct Asked {
    held: usize,
    last: Instant,
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
        let state = State { places, taken: 0, callers: HashMap::new(), tidied: Instant::now() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Lets a caller in; `None`, at once, where there is no place for it.
    pub fn enter(self: &Arc<Self>, caller: Caller) -> Option<GatePass> {
        self.enter_at(caller, Instant::now())
    }

    fn enter_at(self: &Arc<Self>, caller: Caller, now: Instant) -> Option<GatePass> {
        let mut state = self.state();
        state.tidy(now);
        let asked = state.callers.entry(caller).or_insert(Asked { held: 0, last: now });
        asked.last = now;
        let held = asked.held;
        let share = (state.places / state.callers.len().max(1)).max(1);
        let leaves_one = state.taken + 1 < state.places;
        if state.taken >= state.places || (held >= share && !leaves_one) {
            return None;
        }
        state.taken += 1;
        if let Some(asked) = state.callers.get_mut(&caller) {
            asked.held += 1;
        }
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

impl State {
    /// Forgets who asked long ago. Not each time: it looks at all of them.
    fn tidy(&mut self, now: Instant) {
        if now.duration_since(self.tidied) >= RECENT / 4 {
            self.callers.retain(|_, asked| asked.held > 0 || now.duration_since(asked.last) < RECENT);
            self.tidied = now;
        }
    }
}

impl Drop for GatePass {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.taken -= 1;
        if let Some(asked) = state.callers.get_mut(&self.caller) {
            asked.held -= 1;
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
    }

    #[test]
    fn caller_who_was_refused_gets_in_before_the_greedy_one() {
        let gate = Gate::new(4);
        let (now, later) = (Instant::now(), Instant::now() + 2 * RECENT);
        let mut greedy: Vec<_> = (0..4).map_while(|_| gate.enter_at(caller(1), now)).collect();
        assert!(gate.enter_at(caller(2), now).is_none());
        // Each place that the greedy one gives back is the other's, up to its share.
        let mut others = Vec::new();
        for _ in 0..2 {
            greedy.pop();
            assert!(gate.enter_at(caller(1), now).is_none());
            others.push(gate.enter_at(caller(2), now).expect("the place"));
        }
        greedy.pop();
        assert!(gate.enter_at(caller(2), now).is_none(), "it has its share");
        greedy.push(gate.enter_at(caller(1), now).expect("below its share again"));
        // Once the other has not asked for a while, all is as before.
        drop(others);
        let more: Vec<_> = (0..9).map_while(|_| gate.enter_at(caller(1), later)).collect();
        assert_eq!((greedy.len(), more.len()), (2, 2));
        drop((greedy, more));
        assert_eq!((gate.taken_of().0, gate.state().callers.len()), (0, 1));
    }

    #[test]
    fn more_callers_than_places_get_one_each() {
        let gate = Gate::new(3);
        let passes: Vec<_> = (1..9).filter_map(|port| gate.enter(caller(port))).collect();
        assert_eq!(passes.len(), 3);
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
