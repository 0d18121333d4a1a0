//! What is searched: one index a gallery, in memory, rebuilt from the store at start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::exact::ExactSearch;
use super::graph::GraphSearch;
use super::types::{Gallery, GalleryCounts, Identity, SearchOutcome, SearchPath, SearchPolicy};
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::biometrics::template::Template;
use crate::error::Error;

/// A gallery's settings and rows.
pub(super) struct GalleryIndex {
    gallery: Gallery,
    rows: ExactSearch,
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
    galleries: RwLock<BTreeMap<GalleryId, Arc<RwLock<GalleryIndex>>>>,
}

impl GalleryIndex {
    pub(super) fn new(gallery: Gallery) -> Self {
        let rows = ExactSearch::new(gallery.dimension);
        Self { gallery, rows, graph: None, damaged: BTreeSet::new() }
    }

    pub(super) fn set_identity(&mut self, identity: &Identity) {
        self.drop_identity(&identity.id);
        for enrolled in &identity.templates {
            let key = self.rows.add(&identity.id, &enrolled.id, enrolled.template.values());
            self.on_graph(|graph| graph.add(key, enrolled.template.values()));
        }
    }

    pub(super) fn set_damaged(&mut self, identity: IdentityId) {
        self.damaged.insert(identity);
    }

    fn drop_identity(&mut self, identity: &IdentityId) {
        self.damaged.remove(identity);
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

    fn search(&self, probe: &Template, capacity: usize, exact: bool) -> Result<SearchOutcome, Error> {
        probe.check_fits(&self.gallery.pack_id, self.gallery.dimension)?;
        let graph = self.graph.as_ref().filter(|_| !exact);
        let proposed = graph.map_or(Ok(None), |graph| graph.propose(probe.values(), capacity))?;
        let (ranking, path) = match proposed {
            Some(keys) => (self.rows.rank(probe.values(), &keys, capacity), SearchPath::Graph),
            None => (self.rows.search(probe.values(), capacity), SearchPath::Exact),
        };
        Ok(SearchOutcome { ranked: ranking.into_best_first(), identities: self.rows.identities() as u64, path })
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
        let shared = Arc::new(RwLock::new(index));
        follow_policy(&shared);
        write(&self.galleries).insert(id, shared);
    }

    /// Searches a gallery.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::PackMismatch`].
    pub(super) fn search(
        &self,
        gallery: &GalleryId,
        probe: &Template,
        capacity: usize,
        exact: bool,
    ) -> Result<SearchOutcome, Error> {
        let index = self.find(gallery).ok_or(Error::NotFound(crate::error::Entity::Gallery))?;
        read(&index).search(probe, capacity, exact)
    }

    pub(super) fn gallery(&self, id: &GalleryId) -> Option<(Gallery, GalleryCounts)> {
        let index = self.find(id)?;
        let index = read(&index);
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
        let page = following.by_ref().take(count).map(|(_, index)| {
            let index = read(index);
            (index.gallery.clone(), index.counts())
        });
        (page.collect(), following.next().is_some())
    }

    fn set_gallery(&self, gallery: Gallery) {
        match self.find(&gallery.id) {
            Some(index) => {
                write(&index).gallery = gallery;
                follow_policy(&index);
            }
            None => self.insert(GalleryIndex::new(gallery)),
        }
    }

    fn change(&self, gallery: &GalleryId, change: impl FnOnce(&mut GalleryIndex)) {
        // No index: the gallery was deleted later in the same group.
        if let Some(index) = self.find(gallery) {
            change(&mut write(&index));
        }
    }

    fn find(&self, id: &GalleryId) -> Option<Arc<RwLock<GalleryIndex>>> {
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
