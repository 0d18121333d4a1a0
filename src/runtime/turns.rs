//! Places that are waited for, given to callers in turn: however many items of one wait, the next place is another's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::fair_queue::RoundRobin;
use super::gate::Caller;

/// So many places, and who waits for one.
pub struct Turns {
    state: Mutex<State>,
    places: usize,
}

struct State {
    free: usize,
    waiting: RoundRobin<Caller, oneshot::Sender<HeldTurn>>,
}

/// A place; given to whose turn it is next when dropped.
pub struct HeldTurn {
    turns: Arc<Turns>,
}

impl Turns {
    /// Makes places.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { free: places, waiting: RoundRobin::new() }), places })
    }

    /// Waits for a place. Dropping the future gives up waiting.
    pub async fn wait(self: &Arc<Self>, caller: Caller) -> HeldTurn {
        loop {
            let coming = {
                let mut state = self.state();
                if state.free > 0 {
                    state.free -= 1;
                    return HeldTurn { turns: Arc::clone(self) };
                }
                let (sender, coming) = oneshot::channel();
                state.waiting.push(caller, sender);
                coming
            };
            // The sender is kept until it is this one's turn.
            if let Ok(held) = coming.await {
                return held;
            }
        }
    }

    /// Returns how many places are taken.
    pub fn taken(&self) -> usize {
        self.places - self.state().free
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldTurn {
    fn drop(&mut self) {
        let next = {
            let mut state = self.turns.state();
            loop {
                match state.waiting.pop() {
                    Some(next) if next.is_closed() => {} // gave up waiting
                    Some(next) => break Some(next),
                    None => break None,
                }
            }
        };
        match next {
            // Whoever gives up at this very moment drops the place, which goes on to the next.
            Some(next) => drop(next.send(HeldTurn { turns: Arc::clone(&self.turns) })),
            None => self.turns.state().free += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(port: u16) -> Caller {
        Caller(Some(std::net::SocketAddr::from(([127, 0, 0, 1], port))))
    }

    #[tokio::test]
    async fn places_go_round_among_callers_and_none_is_lost() {
        let turns = Turns::new(1);
        let first = turns.wait(caller(1)).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for port in [1, 1, 1, 2, 3, 2] {
            let (own, order) = (Arc::clone(&turns), Arc::clone(&order));
            waiting.spawn(async move {
                let _held = own.wait(caller(port)).await;
                order.lock().expect("the lock").push(port);
            });
            tokio::task::yield_now().await;
        }
        // One who gives up is passed over.
        let given_up = tokio::spawn({
            let own = Arc::clone(&turns);
            async move { drop(own.wait(caller(4)).await) }
        });
        tokio::task::yield_now().await;
        given_up.abort();
        assert!(given_up.await.is_err());
        drop(first);
        while waiting.join_next().await.is_some() {}
        assert_eq!(*order.lock().expect("the lock"), [1, 2, 3, 1, 2, 1]);
        assert_eq!(turns.taken(), 0);
        drop(turns.wait(caller(5)).await);
    }
}
