//! Builds a gallery's graph beside serving, measures what it misses, and puts it to use only where that is little enough.
//!
//! The rows are copied a few at a time under the read lock and added outside it, so neither searches nor writes wait. What
//! is written meanwhile is caught up with at the end; the last few rows are added under the write lock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::graph::GraphSearch;
use super::index::{GraphState, Ready, Shared, read, write};
use super::mates::{MATE_COSINE, Random, moved};
use super::types::{GraphRecall, RecallTarget};
use crate::biometrics::template::dot;
use crate::error::Error;

/// Rows copied at a time: 128 KB of 512-d templates, some microseconds of the read lock.
const CHUNK_ROWS: usize = 64;

/// Rows added under the write lock at the end, about a millisecond each, and how often catching up is tried before that.
const LAST_ROWS: usize = 4;
const ROUNDS_MAX: usize = 50;

/// Probes that recall is measured with at least; more where the target asks for more than they can show. By the rule of
/// three, none missed of 3,000 shows a miss rate below one in a thousand.
const PROBES_MIN: usize = 3_000;

/// Candidates that a search keeps, tried in turn until the graph misses few enough.
const EXPANSIONS: [usize; 7] = [64, 128, 256, 512, 1_024, 2_048, 4_096];

/// Proposals asked for when measuring: as many as a search asks for first.
const PROPOSALS: usize = 64;

/// A build under way.
#[derive(Debug, Default)]
pub(super) struct Build {
    cancelled: AtomicBool,
    added: AtomicUsize,
    rows: AtomicUsize,
    /// Thousandths of the measurement that are done.
    measured: AtomicUsize,
}

impl Build {
    /// Ends the build at its next step.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Returns the share of the work that is done, from 0 to 1. Measuring is the last tenth.
    pub(super) fn progress(&self) -> f64 {
        let (added, rows) = (self.added.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed));
        let measured = self.measured.load(Ordering::Relaxed) as f64 / 1_000.0;
        if rows == 0 { 0.0 } else { (0.9 * added as f64 / rows as f64).min(0.9) + 0.1 * measured.min(1.0) }
    }

    fn check(&self) -> Result<(), Ended> {
        if self.cancelled.load(Ordering::Acquire) { Err(Ended::Cancelled) } else { Ok(()) }
    }
}

/// Why a build came to nothing.
enum Ended {
    /// The policy changed, the gallery went, or the server stops.
    Cancelled,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Ended::Failed(error)
    }
}

/// Builds, measures and puts the graph to use. The thread's body.
pub(super) fn run(shared: &Weak<Shared>, build: &Arc<Build>) {
    match try_run(shared, build) {
        Ok(()) | Err(Ended::Cancelled) => {}
        Err(Ended::Failed(error)) => {
            tracing::error!(?error, "building a graph failed; the gallery is searched exactly");
            if let Some(shared) = shared.upgrade() {
                write(&shared.index).end_build(build, GraphState::GivenUp(None));
            }
        }
    }
}

fn try_run(shared: &Weak<Shared>, build: &Arc<Build>) -> Result<(), Ended> {
    let gone = || Ended::Cancelled;
    let (dimension, mut keys, mut beyond) = {
        let shared = shared.upgrade().ok_or_else(gone)?;
        let rows = &read(&shared.index).rows;
        (rows.dimension(), rows.keys(), rows.next_key())
    };
    build.rows.store(keys.len(), Ordering::Relaxed);
    tracing::info!(rows = keys.len(), "building a graph");
    let mut graph = GraphSearch::new(dimension, keys.len())?;
    add_rows(&mut graph, shared, build, &keys)?;
    let recall = measure(&mut Measured::Own(&mut graph), shared, build, &keys)?;
    for _ in 0..ROUNDS_MAX {
        let shared_now = shared.upgrade().ok_or_else(gone)?;
        {
            let rows = &read(&shared_now.index).rows;
            keys = rows.keys_between(beyond, rows.next_key());
            if keys.len() <= LAST_ROWS {
                break;
            }
            beyond = rows.next_key();
        }
        add_rows(&mut graph, shared, build, &keys)?;
    }
    let shared = shared.upgrade().ok_or_else(gone)?;
    let mut index = write(&shared.index);
    build.check()?;
    for (key, row) in index.rows.copies(&index.rows.keys_between(beyond, index.rows.next_key())) {
        graph.add(key, &row)?;
    }
    let rows = index.rows.templates();
    if is_good_enough(&index.gallery().settings.recall_target, &recall) {
        index.end_build(build, GraphState::Ready(Ready { graph, recall, rows, again: None }));
    } else {
        index.end_build(build, GraphState::GivenUp(Some(recall)));
    }
    Ok(())
}

fn is_good_enough(target: &RecallTarget, recall: &GraphRecall) -> bool {
    let GraphRecall { probes, missed, expansion, .. } = *recall;
    if target.is_met_by(recall) {
        tracing::info!(probes, missed, expansion, "graph in use");
        return true;
    }
    tracing::warn!(probes, missed, expansion, "the graph misses too many mates; the gallery is searched exactly");
    false
}

/// Measures a graph in use again, because the gallery has grown or its target is another one. The thread's body.
pub(super) fn run_again(shared: &Weak<Shared>, build: &Arc<Build>) {
    match try_run_again(shared, build) {
        Ok(()) | Err(Ended::Cancelled) => {}
        Err(Ended::Failed(error)) => {
            tracing::error!(?error, "measuring a graph failed; the gallery is searched exactly");
            if let Some(shared) = shared.upgrade() {
                write(&shared.index).end_measurement(build, |_| GraphState::GivenUp(None));
            }
        }
    }
}

fn try_run_again(shared: &Weak<Shared>, build: &Arc<Build>) -> Result<(), Ended> {
    build.rows.store(1, Ordering::Relaxed);
    build.added.store(1, Ordering::Relaxed);
    let keys = read(&shared.upgrade().ok_or(Ended::Cancelled)?.index).rows.keys();
    let recall = measure(&mut Measured::InUse, shared, build, &keys)?;
    let shared = shared.upgrade().ok_or(Ended::Cancelled)?;
    let mut index = write(&shared.index);
    build.check()?;
    let (target, rows) = (index.gallery().settings.recall_target, index.rows.templates());
    index.end_measurement(build, |ready| {
        if is_good_enough(&target, &recall) {
            GraphState::Ready(Ready { graph: ready.graph, recall, rows, again: None })
        } else {
            GraphState::GivenUp(Some(recall))
        }
    });
    Ok(())
}

/// The graph that is measured.
enum Measured<'a> {
    /// One that nobody else has yet.
    Own(&'a mut GraphSearch),
    /// The gallery's, which answers searches meanwhile.
    InUse,
}

impl Measured<'_> {
    fn expansion(&self, shared: &Weak<Shared>) -> Result<usize, Ended> {
        let Measured::InUse = self else { return Ok(0) };
        let shared = shared.upgrade().ok_or(Ended::Cancelled)?;
        match &read(&shared.index).graph {
            GraphState::Ready(ready) => Ok(ready.recall.expansion),
            _ => Err(Ended::Cancelled),
        }
    }

    fn set_expansion(&mut self, shared: &Weak<Shared>, expansion: usize) -> Result<(), Ended> {
        match self {
            Measured::Own(graph) => graph.set_expansion(expansion),
            Measured::InUse => {
                let shared = shared.upgrade().ok_or(Ended::Cancelled)?;
                let GraphState::Ready(ready) = &mut write(&shared.index).graph else { return Err(Ended::Cancelled) };
                ready.graph.set_expansion(expansion);
            }
        }
        Ok(())
    }

    fn propose(&self, shared: &Weak<Shared>, probe: &[f32]) -> Result<Vec<u64>, Ended> {
        let proposed = match self {
            Measured::Own(graph) => graph.propose(probe, PROPOSALS)?,
            Measured::InUse => {
                let shared = shared.upgrade().ok_or(Ended::Cancelled)?;
                let GraphState::Ready(ready) = &read(&shared.index).graph else { return Err(Ended::Cancelled) };
                ready.graph.propose(probe, PROPOSALS)?
            }
        };
        Ok(proposed.unwrap_or_default())
    }
}

fn add_rows(graph: &mut GraphSearch, shared: &Weak<Shared>, build: &Build, keys: &[u64]) -> Result<(), Ended> {
    for chunk in keys.chunks(CHUNK_ROWS) {
        build.check()?;
        let copies = {
            let shared = shared.upgrade().ok_or(Ended::Cancelled)?;
            read(&shared.index).rows.copies(chunk)
        };
        for (key, row) in copies {
            graph.add(key, &row)?;
        }
        build.added.fetch_add(chunk.len(), Ordering::Relaxed);
    }
    Ok(())
}

fn probes_for(target: RecallTarget, rows: usize) -> usize {
    PROBES_MIN.max((3.0 / (1.0 - target.share())).ceil() as usize).min(rows * 3)
}

/// Raises the expansion until the graph proposes the mates of enough probes, and returns what was measured at the last.
///
/// A probe is another template of the row's identity where there is one that clearly is its mate, else the row moved at
/// random to a cosine of .45: as far from it as a photo of the same person that only just matches.
fn measure(graph: &mut Measured<'_>, shared: &Weak<Shared>, build: &Build, keys: &[u64]) -> Result<GraphRecall, Ended> {
    let target = read(&shared.upgrade().ok_or(Ended::Cancelled)?.index).gallery().settings.recall_target;
    let probes = probes_for(target, keys.len());
    let mut recall = GraphRecall { probes: 0, missed: 0, expansion: 0, time: SystemTime::now() };
    // One in use is never made to miss more.
    let least = graph.expansion(shared)?;
    for expansion in EXPANSIONS.into_iter().filter(|expansion| *expansion >= least) {
        graph.set_expansion(shared, expansion)?;
        (recall.probes, recall.missed, recall.expansion) = (0, 0, expansion);
        let mut random = Random::new();
        for at in 0..probes {
            build.check()?;
            build.measured.store(at * 1_000 / probes, Ordering::Relaxed);
            // Spread over all keys, whatever the order in which people were enrolled.
            let place = (at as u128 * keys.len() as u128 * 7_919 / probes as u128) as usize % keys.len().max(1);
            let Some(key) = keys.get(place) else { continue };
            let rows = {
                let shared = shared.upgrade().ok_or(Ended::Cancelled)?;
                read(&shared.index).rows.with_sibling(*key)
            };
            let Some((row, sibling)) = rows else { continue };
            let sibling = sibling.filter(|sibling| at % 2 == 0 && dot(&row, sibling) >= MATE_COSINE);
            let probe = sibling.unwrap_or_else(|| moved(&row, &mut random));
            let proposed = graph.propose(shared, &probe)?;
            recall.probes += 1;
            recall.missed += u64::from(!proposed.contains(key));
        }
        recall.time = SystemTime::now();
        if target.is_met_by(&recall) {
            break;
        }
    }
    Ok(recall)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::gallery::embedded::random_operations::{GALLERY, create, enroll, gallery, runtime};
    use crate::gallery::{EmbeddedGalleries, GalleryChange, SearchPolicy};

    #[test]
    fn as_many_probes_are_made_as_the_target_needs_and_rows_give() {
        let target = |share| RecallTarget::new("t", share).expect("a target");
        assert_eq!(probes_for(target(0.9), 10_000), 3_000);
        // The rule of three: 3 / .0001, and a little in floating point.
        assert!((30_000..=30_001).contains(&probes_for(target(0.9999), 100_000)));
        assert_eq!(probes_for(target(0.9999), 100), 300);
    }

    #[test]
    fn cancelled_build_ends_at_its_next_step() {
        let build = Build::default();
        assert!(build.check().is_ok());
        build.cancel();
        assert!(matches!(build.check(), Err(Ended::Cancelled)));
    }

    #[test]
    fn graph_in_use_searches_as_far_as_it_was_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
        runtime().block_on(async {
            create(&galleries, GALLERY).await;
            for number in 0..150 {
                enroll(&galleries, GALLERY, number, &[0, 1]).await.expect("enrol");
            }
            let change = GalleryChange { search_policy: Some(SearchPolicy::Graph), ..GalleryChange::default() };
            galleries.update_gallery(gallery(GALLERY), change).await.expect("update");
        });
        let shared = galleries.indexes.all().into_iter().next().expect("the gallery").1;
        let began = Instant::now();
        loop {
            if let GraphState::Ready(Ready { graph, recall, .. }) = &read(&shared.index).graph {
                assert_eq!((graph.expansion(), recall.expansion), (EXPANSIONS[0], EXPANSIONS[0]), "enough of so few");
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no graph");
            std::thread::sleep(Duration::from_millis(20));
        }
        galleries.close();
    }
}
