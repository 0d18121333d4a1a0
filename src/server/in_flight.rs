//! Work that is under way, by key: of two pieces with one key the second waits and takes the first's outcome.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// What is under way.
pub(super) struct InFlight<K, V>(Mutex<HashMap<K, Entry<V>>>);

struct Entry<V> {
    outcome: Arc<OnceCell<V>>,
    users: usize,
}

impl<K, V> Default for InFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

/// Whose work made an outcome.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome<V> {
    Own(V),
    /// That of an earlier piece with the same key, which was under way when this one came.
    Others(V),
}

impl<K: Eq + Hash + Clone, V: Clone> InFlight<K, V> {
    /// Does a piece of work, unless one with this key is under way: then waits for its outcome. Where that one fails or is
    /// given up, the next does the work itself.
    ///
    /// *Errors*: the work's own.
    pub(super) async fn once<E>(&self, key: K, work: impl Future<Output = Result<V, E>>) -> Result<Outcome<V>, E> {
        let user = self.enter(key);
        let mut is_own = false;
        let outcome = user
            .outcome
            .get_or_try_init(|| {
                is_own = true;
                work
            })
            .await?
            .clone();
        Ok(if is_own { Outcome::Own(outcome) } else { Outcome::Others(outcome) })
    }

    fn enter(&self, key: K) -> User<'_, K, V> {
        let mut entries = lock(&self.0);
        let entry = entries.entry(key.clone()).or_insert_with(|| Entry { outcome: Arc::default(), users: 0 });
        entry.users += 1;
        User { in_flight: self, outcome: Arc::clone(&entry.outcome), key }
    }
}

/// Keeps an entry for as long as somebody needs it, however that ends.
struct User<'a, K: Eq + Hash, V> {
    in_flight: &'a InFlight<K, V>,
    outcome: Arc<OnceCell<V>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for User<'_, K, V> {
    fn drop(&mut self) {
        let mut entries = lock(&self.in_flight.0);
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.users -= 1;
            if entry.users == 0 {
                entries.remove(&self.key);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::task::Poll;

    #[tokio::test]
    async fn second_of_a_key_takes_the_firsts_outcome_and_nothing_is_left() {
        let in_flight: InFlight<&str, u32> = InFlight::default();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let first = in_flight.once("a", async {
            released.await.map_err(drop)?;
            Ok::<_, ()>(1)
        });
        let second = in_flight.once("a", async { Err(()) });
        let other = in_flight.once("b", ready(Ok::<_, ()>(2)));
        let let_go = async {
            assert_eq!(other.await, Ok(Outcome::Own(2)));
            assert_eq!(release.send(()), Ok(()));
        };
        let (first, second, ()) = tokio::join!(first, second, let_go);
        assert_eq!((first, second), (Ok(Outcome::Own(1)), Ok(Outcome::Others(1))));
        assert!(lock(&in_flight.0).is_empty());
    }

    #[tokio::test]
    async fn second_does_the_work_where_the_first_fails_or_is_given_up() {
        let in_flight: InFlight<&str, u32> = InFlight::default();
        {
            let given_up = in_flight.once("a", pending::<Result<u32, ()>>());
            tokio::pin!(given_up);
            assert!(std::future::poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context).is_pending())).await);
        }
        let failed = in_flight.once("a", ready(Err::<u32, _>(())));
        let third = in_flight.once("a", ready(Ok::<_, ()>(3)));
        assert_eq!(tokio::join!(failed, third), (Err(()), Ok(Outcome::Own(3))));
        assert!(lock(&in_flight.0).is_empty());
    }
}
