//! A queue that serves callers in turn: of each its oldest item, then the next caller.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Items by caller, whose turn is next first.
pub(super) struct RoundRobin<K, T>(VecDeque<(K, VecDeque<T>)>);

impl<K: PartialEq, T> RoundRobin<K, T> {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn push(&mut self, caller: K, item: T) {
        match self.0.iter_mut().find(|(other, _)| *other == caller) {
            Some((_, items)) => items.push_back(item),
            None => self.0.push_back((caller, [item].into())),
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        loop {
            let (caller, mut items) = self.0.pop_front()?;
            let item = items.pop_front();
            if !items.is_empty() {
                self.0.push_back((caller, items));
            }
            if item.is_some() {
                return item;
            }
        }
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(_, items)| items.len()).sum()
    }
}

/// Items of several callers, taken by several threads. It is kept short by whoever adds to it.
pub(super) struct FairQueue<K, T> {
    state: Mutex<State<K, T>>,
    changed: Condvar,
}

struct State<K, T> {
    turns: RoundRobin<K, T>,
    is_closed: bool,
}

impl<K: PartialEq, T> FairQueue<K, T> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { turns: RoundRobin::new(), is_closed: false }), changed: Condvar::new() }
    }

    /// Adds an item; gives it back where the queue is closed.
    pub(super) fn push(&self, caller: K, item: T) -> Result<(), T> {
        let mut state = self.state();
        if state.is_closed {
            return Err(item);
        }
        state.turns.push(caller, item);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the next item, waiting for one; `None` where the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(item) = state.turns.pop() {
                return Some(item);
            } else if state.is_closed {
                return None;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes no more items; those that are in are still served.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Takes no more items, and drops those that are in.
    pub(super) fn abandon(&self) {
        self.close();
        let left = std::mem::replace(&mut self.state().turns, RoundRobin::new());
        drop(left);
    }

    /// Returns how many items wait.
    pub(super) fn len(&self) -> usize {
        self.state().turns.len()
    }

    fn state(&self) -> MutexGuard<'_, State<K, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_served_in_turn_and_each_in_its_own_order() {
        let queue = FairQueue::new();
        for item in ["a1", "a2", "a3", "b1", "c1", "b2"] {
            queue.push(item.as_bytes().first().copied(), item).expect("open");
        }
        assert_eq!(queue.len(), 6);
        queue.close();
        assert_eq!(queue.push(Some(b'd'), "d1"), Err("d1"));
        let served: Vec<&str> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(served, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn thread_that_waits_gets_what_comes_or_learns_of_the_end() {
        let queue = FairQueue::new();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| queue.pop())).collect();
            queue.push(1, 7).expect("open");
            queue.close();
            let mut got: Vec<Option<i32>> =
                waiting.into_iter().map(|thread| thread.join().expect("a thread")).collect();
            got.sort();
            assert_eq!(got, [None, Some(7)]);
        });
        let queue = FairQueue::new();
        queue.push(1, 7).expect("open");
        queue.abandon();
        assert_eq!(queue.pop(), None);
    }
}
