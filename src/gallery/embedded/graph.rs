//! The HNSW graph. The adapter of usearch: no other file names it.

use std::sync::atomic::{AtomicUsize, Ordering};

use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use crate::error::Error;

/// Neighbours a node: usearch's and the paper's usual 16 (Malkov, Yashunin, arXiv 1603.09320).
const CONNECTIVITY: usize = 16;

/// Candidates kept while inserting, and while searching until a measurement says how many it takes. Identities are isolated
/// points, the worst case of a graph: at 64 it misses 6 % of the mates among 50,000, at 512 none (at 200,000: 2 %).
const EXPANSION: usize = 512;

/// Searches at a time. usearch fails a search beyond the threads it reserved; more than a machine has cores gain nothing.
const THREADS_MAX: usize = 256;

/// A graph over the rows of an exact search. Owned by one writer; readers only search.
pub(super) struct GraphSearch {
    index: Index,
    capacity: usize,
    searching: AtomicUsize,
}

impl GraphSearch {
    /// Makes an empty graph with room for some rows.
    ///
    /// *Errors*: [`Error::Internal`] where usearch refuses.
    pub(super) fn new(dimension: usize, rows: usize) -> Result<Self, Error> {
        let options = IndexOptions {
            dimensions: dimension,
            metric: MetricKind::IP,
            quantization: ScalarKind::BF16, // half the time of f32 at the same recall; rows are rescored in f32 anyway
            connectivity: CONNECTIVITY,
            expansion_add: EXPANSION,
            expansion_search: EXPANSION,
            multi: false,
        };
        let index = Index::new(&options).map_err(Error::internal)?;
        let mut graph = Self { index, capacity: 0, searching: AtomicUsize::new(0) };
        graph.make_room(rows)?;
        Ok(graph)
    }

    /// Sets how many candidates a search keeps: more are slower and miss fewer.
    pub(super) fn set_expansion(&mut self, expansion: usize) {
        self.index.change_expansion_search(expansion);
    }

    #[cfg(test)]
    pub(super) fn expansion(&self) -> usize {
        self.index.expansion_search()
    }

    /// Adds a row. *Cost*: about 1 ms at 512 dimensions.
    ///
    /// `&mut`: reserving while others search has crashed the process, so the caller's write lock must hold.
    pub(super) fn add(&mut self, key: u64, row: &[f32]) -> Result<(), Error> {
        if self.index.size() >= self.capacity {
            self.make_room(self.capacity + 1)?;
        }
        self.index.add(key, row).map_err(Error::internal)
    }

    /// Takes a row out. Its node stays until the next build; it is never proposed again.
    pub(super) fn remove(&mut self, key: u64) -> Result<(), Error> {
        self.index.remove(key).map(|_| ()).map_err(Error::internal)
    }

    /// Proposes up to `count` rows near a probe; `None` where as many searches as the graph has threads for are running.
    pub(super) fn propose(&self, probe: &[f32], count: usize) -> Result<Option<Vec<u64>>, Error> {
        let _place = match Place::take(&self.searching) {
            Some(place) => place,
            None => return Ok(None),
        };
        Ok(Some(self.index.search(probe, count).map_err(Error::internal)?.keys))
    }

    /// Reserves capacity *and threads*, ahead of need and doubling: usearch fails an addition past its capacity.
    fn make_room(&mut self, rows: usize) -> Result<(), Error> {
        let capacity = rows.max(1_024).next_power_of_two();
        self.index.reserve_capacity_and_threads(capacity, THREADS_MAX).map_err(Error::internal)?;
        self.capacity = capacity;
        Ok(())
    }
}

/// One of the reserved threads; given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(searching: &'a AtomicUsize) -> Option<Self> {
        let place = Self(searching);
        (searching.fetch_add(1, Ordering::AcqRel) < THREADS_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::ids::{IdentityId, PackId, TemplateId};
    use crate::biometrics::template::Template;
    use crate::gallery::ExactSearch;

    /// Deterministic directions that are nearly orthogonal, like identities.
    fn direction(seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let values: Vec<f32> = (0..64).map(|_| next()).collect();
        Template::from_vector(&values, PackId::from_digits("0".repeat(32))).expect("a template").values().to_vec()
    }

    #[test]
    fn graph_proposes_the_mate_and_never_a_removed_row() {
        let mut rows = ExactSearch::new(64);
        let id = |seed: u64| IdentityId::parse(&format!("person {seed}")).expect("an id");
        let template = TemplateId::parse("1").expect("an id");
        for seed in 1..=2_000 {
            rows.add(&id(seed), &template, &direction(seed));
        }
        let mut graph = GraphSearch::new(64, 2_000).expect("a graph");
        for (key, row) in rows.copies(&rows.keys()) {
            graph.add(key, &row).expect("added");
        }
        let best = |graph: &GraphSearch, rows: &ExactSearch, seed: u64| {
            let keys = graph.propose(&direction(seed), 64).expect("a search").expect("a place");
            rows.rank(&direction(seed), &keys, 5).into_best_first().first().map(|ranked| ranked.identity.clone())
        };
        for seed in [1, 77, 2_000] {
            assert_eq!(best(&graph, &rows, seed).map(|found| found == id(seed)), Some(true));
        }
        for key in rows.remove(&id(77)) {
            graph.remove(key).expect("removed");
        }
        assert_eq!(best(&graph, &rows, 77).map(|found| found == id(77)), Some(false));
        // Past the capacity reserved first (2,048): room is made.
        for seed in 2_001..=2_200 {
            let key = rows.add(&id(seed), &template, &direction(seed));
            graph.add(key, &direction(seed)).expect("added");
        }
        assert_eq!(best(&graph, &rows, 2_150).map(|found| found == id(2_150)), Some(true));
    }

    #[test]
    fn place_beyond_the_reserved_threads_is_none() {
        let searching = AtomicUsize::new(THREADS_MAX - 1);
        let last = Place::take(&searching);
        assert!(last.is_some() && Place::take(&searching).is_none());
        drop(last);
        assert!(Place::take(&searching).is_some());
    }
}
