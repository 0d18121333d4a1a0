//! What is searched: one index a gallery, in memory, rebuilt from the store at start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use roaring::RoaringBitmap;

use super::batch::Batch;
use super::exact::{ExactSearch, Wanted};
use super::graph::GraphSearch;
use super::metadata::MetadataIndex;
use super::ranking::Ranking;
use super::types::{Gallery, GalleryCounts, Identity, Scope, Search, SearchOutcome, SearchPath, SearchPolicy};
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::Error;

/// A gallery's settings and rows.
pub(super) struct GalleryIndex {
    gallery: Gallery,
    rows: ExactSearch,
    metadata: MetadataIndex,
    /// There while the policy asks for it and it has not failed; without it the exact search answers.
    graph: Option<GraphSearch>,
    damaged: BTreeSet<IdentityId>,
}

/// A change of the store that the index must follow.
pub(super) enum Delta {
    GallerySet(Gallery),
    GalleryDropped(GalleryId),
    IdentitySet(GalleryId, Box<Identity>),
    IdentityDropped(GalleryId, IdentityId),
}

/// All galleries' indexes. One writer applies deltas; searches share a gallery's read lock.
#[derive(Default)]
pub(super) struct Indexes {
    galleries: RwLock<BTreeMap<GalleryId, Arc<Shared>>>,
}

/// One gallery's index and the searches that wait for it.
struct Shared {
    index: RwLock<GalleryIndex>,
    batch: Batch,
}

/// Proposals that a graph is asked for first, at least, and how often it is asked for four times as many.
const PROPOSALS_MIN: usize = 64;
const PROPOSAL_ROUNDS: usize = 3;

/// Rows from which searches share passes: below, a search is done sooner than it could be shared.
const BATCH_ROWS_MIN: usize = 32 * 1_024;

impl GalleryIndex {
    pub(super) fn new(gallery: Gallery) -> Self {
        let rows = ExactSearch::new(gallery.dimension);
        Self { gallery, rows, metadata: MetadataIndex::default(), graph: None, damaged: BTreeSet::new() }
    }

    pub(super) fn set_identity(&mut self, identity: &Identity) {
        self.drop_identity(&identity.id);
        for enrolled in &identity.templates {
            let key = self.rows.add(&identity.id, &enrolled.id, enrolled.template.values());
            self.on_graph(|graph| graph.add(key, enrolled.template.values()));
        }
        if let Some(number) = self.rows.number(&identity.id) {
            self.metadata.insert(number, &identity.details.metadata);
        }
    }

    pub(super) fn set_damaged(&mut self, identity: IdentityId) {
        self.damaged.insert(identity);
    }

    fn drop_identity(&mut self, identity: &IdentityId) {
        self.damaged.remove(identity);
        if let Some(number) = self.rows.number(identity) {
            self.metadata.remove(number);
        }
        for key in self.rows.remove(identity) {
            self.on_graph(|graph| graph.remove(key));
        }
    }

    /// A graph that fails is given up: the exact search answers until the next start.
    fn on_graph(&mut self, change: impl FnOnce(&mut GraphSearch) -> Result<(), Error>) {
        if let Some(Err(error)) = self.graph.as_mut().map(change) {
            tracing::error!(error = ?error, "graph index failed; searching exactly");
            self.graph = None;
        }
    }

    /// Searches by graph; `None` where there is none, or it has no place free, or not everyone is meant.
    fn search_graph(&self, search: &Search) -> Result<Option<SearchOutcome>, Error> {
        let graph = self.graph.as_ref().filter(|_| !search.exact && search.scope.is_everyone());
        let Some(graph) = graph else { return Ok(None) };
        let (probe, capacity) = (search.probe.values(), search.capacity);
        let mut count = capacity.saturating_mul(4).max(PROPOSALS_MIN);
        // Templates of one identity may crowd the front: then more are asked for, until as many identities are ranked as
        // wanted. An identity whose every template scores high takes few rounds; where many do, the exact search is as fast.
        for _ in 0..PROPOSAL_ROUNDS {
            let Some(keys) = graph.propose(probe, count)? else { return Ok(None) };
            let ranking = self.rows.rank(probe, &keys, capacity);
            if ranking.len() >= capacity.min(self.rows.identities()) {
                return Ok(Some(self.outcome(ranking, SearchPath::Graph, None)));
            }
            count = count.saturating_mul(4);
        }
        Ok(None)
    }

    /// Searches exactly, for all in one pass.
    fn search_exactly(&self, searches: &[&Search]) -> Vec<SearchOutcome> {
        let selected: Vec<Option<RoaringBitmap>> = searches.iter().map(|search| self.select(&search.scope)).collect();
        let wanted: Vec<Wanted<'_>> = searches
            .iter()
            .zip(&selected)
            .map(|(search, only)| Wanted {
                probe: search.probe.values(),
                capacity: search.capacity,
                only: only.as_ref(),
            })
            .collect();
        let rankings = self.rows.search_many(&wanted).into_iter().zip(&selected);
        rankings.map(|(ranking, only)| self.outcome(ranking, SearchPath::Exact, only.as_ref())).collect()
    }

    /// Returns the numbers of the identities that a search may name; `None`: all.
    fn select(&self, scope: &Scope) -> Option<RoaringBitmap> {
        let filtered = scope.filter.as_ref().map(|filter| self.metadata.select(filter));
        let listed = scope
            .candidates
            .as_ref()
            .map(|listed| listed.iter().filter_map(|identity| self.rows.number(identity)).collect::<RoaringBitmap>());
        match (filtered, listed) {
            (Some(filtered), Some(listed)) => Some(filtered & listed),
            (filtered, listed) => filtered.or(listed),
        }
    }

    fn outcome(&self, ranking: Ranking, path: SearchPath, only: Option<&RoaringBitmap>) -> SearchOutcome {
        let identities = self.rows.identities() as u64;
        let searched = only.map_or(identities, RoaringBitmap::len);
        SearchOutcome { ranked: ranking.into_best_first(), identities, searched, path }
    }

    fn counts(&self) -> GalleryCounts {
        GalleryCounts {
            identities: self.rows.identities() as u64,
            templates: self.rows.templates() as u64,
            damaged_identities: self.damaged.len() as u64,
        }
    }
}

impl Indexes {
    pub(super) fn apply(&self, delta: Delta) {
        match delta {
            Delta::GallerySet(gallery) => self.set_gallery(gallery),
            Delta::GalleryDropped(id) => drop(write(&self.galleries).remove(&id)),
            Delta::IdentitySet(gallery, identity) => self.change(&gallery, |index| index.set_identity(&identity)),
            Delta::IdentityDropped(gallery, identity) => self.change(&gallery, |index| index.drop_identity(&identity)),
        }
    }

    /// Takes an index that was built from the store at start.
    pub(super) fn insert(&self, index: GalleryIndex) {
        let id = index.gallery.id.clone();
        let shared = Arc::new(Shared { index: RwLock::new(index), batch: Batch::default() });
        follow_policy(&shared.index);
        write(&self.galleries).insert(id, shared);
    }

    /// Searches a gallery.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::PackMismatch`].
    pub(super) fn search(&self, gallery: &GalleryId, search: Search) -> Result<SearchOutcome, Error> {
        let shared = self.find(gallery).ok_or(Error::NotFound(crate::error::Entity::Gallery))?;
        let index = read(&shared.index);
        search.probe.check_fits(&index.gallery.pack_id, index.gallery.dimension)?;
        if let Some(outcome) = index.search_graph(&search)? {
            return Ok(outcome);
        }
        let outcome = if index.rows.templates() < BATCH_ROWS_MIN {
            index.search_exactly(&[&search]).pop()
        } else {
            // Let go, or a write that waits would keep the leader's pass from ever beginning.
            drop(index);
            shared.batch.search(search, |waiting| {
                let searches: Vec<&Search> = waiting.iter().map(|waiting| &waiting.search).collect();
                read(&shared.index).search_exactly(&searches)
            })
        };
        outcome.ok_or_else(|| Error::internal("a search without an outcome"))
    }

    pub(super) fn gallery(&self, id: &GalleryId) -> Option<(Gallery, GalleryCounts)> {
        let shared = self.find(id)?;
        let index = read(&shared.index);
        Some((index.gallery.clone(), index.counts()))
    }

    /// Returns up to `count` galleries after an id, by id, and whether there are more.
    pub(super) fn galleries_after(
        &self,
        after: Option<&GalleryId>,
        count: usize,
    ) -> (Vec<(Gallery, GalleryCounts)>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let galleries = read(&self.galleries);
        let mut following = galleries.range((after.map_or(Unbounded, Excluded), Unbounded));
        let page = following.by_ref().take(count).map(|(_, shared)| {
            let index = read(&shared.index);
            (index.gallery.clone(), index.counts())
        });
        (page.collect(), following.next().is_some())
    }

    fn set_gallery(&self, gallery: Gallery) {
        match self.find(&gallery.id) {
            Some(shared) => {
                write(&shared.index).gallery = gallery;
                follow_policy(&shared.index);
            }
            None => self.insert(GalleryIndex::new(gallery)),
        }
    }

    fn change(&self, gallery: &GalleryId, change: impl FnOnce(&mut GalleryIndex)) {
        // No index: the gallery was deleted later in the same group.
        if let Some(shared) = self.find(gallery) {
            change(&mut write(&shared.index));
        }
    }

    fn find(&self, id: &GalleryId) -> Option<Arc<Shared>> {
        read(&self.galleries).get(id).cloned()
    }
}

/// Makes or drops the graph. It is built under the read lock, so that searches go on; the one writer is the caller, so
/// no row changes meanwhile.
fn follow_policy(index: &RwLock<GalleryIndex>) {
    let current = read(index);
    let graph = match (current.gallery.settings.search_policy, &current.graph) {
        (SearchPolicy::Exact, None) | (SearchPolicy::Graph, Some(_)) => return,
        (SearchPolicy::Exact, Some(_)) => None,
        (SearchPolicy::Graph, None) => {
            tracing::info!(templates = current.rows.templates(), "building graph index");
            GraphSearch::build(current.gallery.dimension, &current.rows)
                .inspect_err(|error| tracing::error!(?error, "graph index failed; searching exactly"))
                .ok()
        }
    };
    drop(current);
    write(index).graph = graph;
}

// A poisoned lock means that a panic was caught in the middle of a read, or of a write whose delta is then lost to the
// index; reading on is right for the first, and the second ends the writer, which turns health to not serving.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
