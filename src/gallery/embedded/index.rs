//! What is searched: one index a gallery, in memory, rebuilt from the store at start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;

use roaring::RoaringBitmap;

use super::batch::Batch;
use super::builder::{self, Build};
use super::curve_record::CurveOwner;
use super::exact::{ExactSearch, Wanted};
use super::graph::GraphSearch;
use super::metadata::MetadataIndex;
use super::ranking::Ranking;
use super::record::value_record;
use super::snapshot::Person;
use super::types::{
    Gallery, GalleryCounts, GalleryStatus, GraphRecall, Identity, RecallTarget, Scope, Search, SearchOutcome,
    SearchPath, SearchPolicy,
};
use crate::biometrics::calibration::{KnownCurve, Random};
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::Error;

/// A gallery's settings and rows.
pub(super) struct GalleryIndex {
    /// Of its key range: another one of the same id has another number.
    pub(super) number: u64,
    gallery: Gallery,
    pub(super) rows: ExactSearch,
    metadata: MetadataIndex,
    pub(super) graph: GraphState,
    damaged: BTreeSet<IdentityId>,
    /// Identities set or dropped since the last snapshot.
    pub(super) changes: u64,
    /// Templates without a row of their own, because the gallery's fusion makes one row of an identity's: by its number.
    fused: HashMap<u32, usize>,
    fused_total: usize,
}

/// What there is of a graph. But for `Ready` the exact search answers.
pub(super) enum GraphState {
    /// The policy asks for none.
    Absent,
    /// It is being built; these rows went meanwhile.
    Building(Arc<Build>, Vec<u64>),
    /// It proposes.
    Ready(Ready),
    /// It failed, or misses too many mates.
    GivenUp(Option<GraphRecall>),
}

/// A graph in use.
pub(super) struct Ready {
    pub graph: GraphSearch,
    /// What it was measured to miss, and how many rows there were.
    pub recall: GraphRecall,
    pub rows: usize,
    /// While it is measured again.
    pub again: Option<Arc<Build>>,
}

/// A graph is measured again once the gallery has grown by one in this many.
const GROWN_SHARE: usize = 4;

impl Ready {
    fn is_outgrown(&self, rows: usize, target: RecallTarget) -> bool {
        self.again.is_none() && (rows > self.rows + self.rows / GROWN_SHARE || !target.is_met_by(&self.recall))
    }
}

/// A change of the store that the index must follow.
pub(super) enum Delta {
    /// With the number of its key range.
    GallerySet(u64, Box<Gallery>),
    /// With all that is in it.
    GalleryAdded(Box<GalleryIndex>),
    /// Settings that change the rows: all of them anew, as the store has them at this point.
    GalleryRebuilt(Box<GalleryIndex>),
    GalleryDropped(GalleryId),
    IdentitySet(GalleryId, Box<Identity>),
    IdentityDropped(GalleryId, IdentityId),
    CurveSet(CurveOwner, Option<Arc<KnownCurve>>),
}

/// All galleries' indexes. One writer applies deltas; searches share a gallery's read lock.
#[derive(Default)]
pub(super) struct Indexes {
    galleries: RwLock<BTreeMap<GalleryId, Arc<Shared>>>,
    curves: RwLock<BTreeMap<CurveOwner, Arc<KnownCurve>>>,
    /// Graphs being built: waited for at the end.
    builders: Mutex<Vec<JoinHandle<()>>>,
}

/// One gallery's index and the searches that wait for it.
pub(super) struct Shared {
    pub index: RwLock<GalleryIndex>,
    batch: Batch,
}

/// Proposals that a graph is asked for first, at least, and how often it is asked for four times as many.
const PROPOSALS_MIN: usize = 64;
const PROPOSAL_ROUNDS: usize = 3;

/// Rows from which the automatic policy asks for a graph: an exact search of a core takes about 30 ms there, of 512.
const GRAPH_ROWS_MIN: usize = 4_000_000;

/// Rows from which searches share passes: below, a search is done sooner than it could be shared.
const BATCH_ROWS_MIN: usize = 32 * 1_024;

impl GalleryIndex {
    pub(super) fn new(number: u64, gallery: Gallery) -> Self {
        let rows = ExactSearch::new(gallery.dimension);
        Self {
            number,
            gallery,
            rows,
            metadata: MetadataIndex::default(),
            graph: GraphState::Absent,
            damaged: BTreeSet::new(),
            changes: 0,
            fused: HashMap::new(),
            fused_total: 0,
        }
    }

    /// Makes one of rows, the metadata of their identities, and how many templates have no row of their own.
    pub(super) fn restore(
        number: u64,
        gallery: Gallery,
        rows: ExactSearch,
        metadata: MetadataIndex,
        fused: HashMap<u32, usize>,
    ) -> Self {
        Self { rows, metadata, fused_total: fused.values().sum(), fused, ..Self::new(number, gallery) }
    }

    pub(super) fn gallery(&self) -> &Gallery {
        &self.gallery
    }

    pub(super) fn damaged(&self) -> &BTreeSet<IdentityId> {
        &self.damaged
    }

    /// Returns the identities of some numbers, with their metadata.
    pub(super) fn people(&self, numbers: std::ops::Range<u32>) -> Vec<Person> {
        let people = numbers.filter_map(|number| {
            let id = self.rows.identity(number)?.as_str().to_owned();
            let metadata = self.metadata.metadata(number).into_iter();
            let metadata = metadata.map(|(key, value)| (key, value_record(&value))).collect();
            let fused = self.fused.get(&number).map_or(0, |fused| *fused as u32);
            Some(Person { number, id, metadata, fused })
        });
        people.collect()
    }

    pub(super) fn id(&self) -> &GalleryId {
        &self.gallery.id
    }

    pub(super) fn set_identity(&mut self, identity: &Identity) {
        self.drop_identity(&identity.id);
        let rows = identity.compared_by(self.gallery.settings.fusion);
        for (id, template) in &rows {
            let key = self.rows.add(&identity.id, id, template.values());
            self.on_graph(|graph| graph.add(key, template.values()));
        }
        if let Some(number) = self.rows.number(&identity.id) {
            self.metadata.insert(number, &identity.details.metadata);
            let fused = identity.templates.len() - rows.len();
            if fused > 0 {
                self.fused.insert(number, fused);
                self.fused_total += fused;
            }
        }
    }

    pub(super) fn set_damaged(&mut self, identity: IdentityId) {
        self.damaged.insert(identity);
    }

    pub(super) fn set_gallery(&mut self, gallery: Gallery) {
        self.gallery = gallery;
    }

    pub(super) fn drop_identity(&mut self, identity: &IdentityId) {
        self.changes += 1;
        self.damaged.remove(identity);
        if let Some(number) = self.rows.number(identity) {
            self.metadata.remove(number);
            self.fused_total -= self.fused.remove(&number).unwrap_or(0);
        }
        for key in self.rows.remove(identity) {
            if let GraphState::Building(_, removed) = &mut self.graph {
                removed.push(key);
            }
            self.on_graph(|graph| graph.remove(key));
        }
    }

    /// A graph that fails is given up: the exact search answers until the policy is set again.
    fn on_graph(&mut self, change: impl FnOnce(&mut GraphSearch) -> Result<(), Error>) {
        if let GraphState::Ready(Ready { graph, .. }) = &mut self.graph
            && let Err(error) = change(graph)
        {
            tracing::error!(error = ?error, "graph index failed; searching exactly");
            self.graph = GraphState::GivenUp(None);
        }
    }

    /// Takes what a build came to, unless another one or none is wanted by now.
    pub(super) fn end_build(&mut self, build: &Arc<Build>, came_to: GraphState) {
        let GraphState::Building(current, removed) = &mut self.graph else { return };
        if !Arc::ptr_eq(current, build) {
            return;
        }
        let removed = std::mem::take(removed);
        self.graph = came_to;
        for key in removed {
            self.on_graph(|graph| graph.remove(key));
        }
    }

    /// Takes what measuring the graph in use came to, unless it is no longer the one.
    pub(super) fn end_measurement(&mut self, build: &Arc<Build>, end: impl FnOnce(Ready) -> GraphState) {
        match std::mem::replace(&mut self.graph, GraphState::Absent) {
            GraphState::Ready(ready) if ready.again.as_ref().is_some_and(|again| Arc::ptr_eq(again, build)) => {
                self.graph = end(ready);
            }
            other => self.graph = other,
        }
    }

    /// Tells whether the policy asks for a graph.
    fn wants_graph(&self) -> bool {
        match self.gallery.settings.search_policy {
            SearchPolicy::Exact => false,
            SearchPolicy::Graph => true,
            SearchPolicy::Auto => self.rows.templates() >= GRAPH_ROWS_MIN,
        }
    }

    /// Searches by graph; `None` where there is none, or it has no place free, or not everyone is meant.
    fn search_graph(&self, search: &Search) -> Result<Option<SearchOutcome>, Error> {
        let GraphState::Ready(Ready { graph, .. }) = &self.graph else { return Ok(None) };
        if search.exact || !search.scope.is_everyone() {
            return Ok(None);
        }
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
            templates: (self.rows.templates() + self.fused_total) as u64,
            damaged_identities: self.damaged.len() as u64,
        }
    }

    fn status(&self) -> GalleryStatus {
        let (path, build_progress, recall) = match &self.graph {
            GraphState::Absent => (SearchPath::Exact, None, None),
            GraphState::Building(build, _) => (SearchPath::Exact, Some(build.progress()), None),
            GraphState::Ready(Ready { recall, again, .. }) => {
                (SearchPath::Graph, again.as_ref().map(|again| again.progress()), Some(*recall))
            }
            GraphState::GivenUp(recall) => (SearchPath::Exact, None, *recall),
        };
        GalleryStatus { counts: self.counts(), path, build_progress, recall }
    }
}

impl Indexes {
    pub(super) fn apply(&self, delta: Delta) {
        match delta {
            Delta::GallerySet(number, gallery) => self.set_gallery(number, *gallery),
            Delta::GalleryAdded(index) => self.insert(*index),
            Delta::GalleryRebuilt(index) => self.replace(*index),
            Delta::GalleryDropped(id) => self.drop_gallery(&id),
            Delta::IdentitySet(gallery, identity) => self.change(&gallery, |index| index.set_identity(&identity)),
            Delta::IdentityDropped(gallery, identity) => self.change(&gallery, |index| index.drop_identity(&identity)),
            Delta::CurveSet(owner, curve) => self.set_curve(owner, curve),
        }
    }

    pub(super) fn curve(&self, owner: &CurveOwner) -> Option<Arc<KnownCurve>> {
        read(&self.curves).get(owner).cloned()
    }

    pub(super) fn set_curve(&self, owner: CurveOwner, curve: Option<Arc<KnownCurve>>) {
        let mut curves = write(&self.curves);
        match curve {
            Some(curve) => curves.insert(owner, curve),
            None => curves.remove(&owner),
        };
    }

    /// Returns up to `count` of a gallery's identities, chosen by chance.
    ///
    /// *Errors*: [`Error::NotFound`].
    pub(super) fn some_identities(
        &self,
        gallery: &GalleryId,
        count: usize,
        seed: u64,
    ) -> Result<Vec<IdentityId>, Error> {
        let shared = self.find(gallery).ok_or(Error::NotFound(crate::error::Entity::Gallery))?;
        let index = read(&shared.index);
        let mut numbers: Vec<u32> =
            (0..index.rows.numbers() as u32).filter(|number| index.rows.identity(*number).is_some()).collect();
        Random::new(seed).shuffle(&mut numbers);
        Ok(numbers.iter().take(count).filter_map(|number| index.rows.identity(*number).cloned()).collect())
    }

    /// Takes an index that was built from the store at start.
    pub(super) fn insert(&self, index: GalleryIndex) {
        let id = index.gallery.id.clone();
        let shared = Arc::new(Shared { index: RwLock::new(index), batch: Batch::default() });
        self.follow_policy(&shared);
        write(&self.galleries).insert(id, shared);
    }

    /// Puts an index in the place of the one that is searched. A graph, or one being built, is of the old rows and goes.
    fn replace(&self, index: GalleryIndex) {
        // No index: the gallery was deleted later in the same group.
        let Some(shared) = self.find(&index.gallery.id) else { return };
        cancel_build(&shared);
        // A search sees the one or the other, and none waits for what takes long: building the new, freeing the old.
        let before = std::mem::replace(&mut *write(&shared.index), index);
        drop(before);
        self.follow_policy(&shared);
    }

    /// Searches a gallery for several probes, which share passes; outcomes in the order of the searches.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::PackMismatch`].
    pub(super) fn search_many(&self, gallery: &GalleryId, searches: Vec<Search>) -> Result<Vec<SearchOutcome>, Error> {
        let shared = self.find(gallery).ok_or(Error::NotFound(crate::error::Entity::Gallery))?;
        let index = read(&shared.index);
        for search in &searches {
            search.probe.check_fits(&index.gallery.pack_id, index.gallery.dimension)?;
        }
        // All by graph, or none: a pass takes little longer for one more.
        let by_graph: Result<Option<Vec<SearchOutcome>>, Error> =
            searches.iter().map(|search| index.search_graph(search)).collect();
        if let Some(outcomes) = by_graph? {
            return Ok(outcomes);
        }
        if index.rows.templates() < BATCH_ROWS_MIN {
            return Ok(index.search_exactly(&searches.iter().collect::<Vec<&Search>>()));
        }
        // Let go, or a write that waits would keep the leader's pass from ever beginning.
        drop(index);
        let outcomes = shared.batch.search_many(searches, |waiting| {
            let searches: Vec<&Search> = waiting.iter().map(|waiting| &waiting.search).collect();
            read(&shared.index).search_exactly(&searches)
        });
        outcomes.ok_or_else(|| Error::internal("a search without an outcome"))
    }

    /// Returns every gallery's index, by id.
    pub(super) fn all(&self) -> Vec<(GalleryId, Arc<Shared>)> {
        read(&self.galleries).iter().map(|(id, shared)| (id.clone(), Arc::clone(shared))).collect()
    }

    /// Returns how many identities all galleries hold.
    pub(super) fn identities(&self) -> u64 {
        read(&self.galleries).values().map(|shared| read(&shared.index).counts().identities).sum()
    }

    pub(super) fn gallery(&self, id: &GalleryId) -> Option<(Gallery, GalleryStatus)> {
        let shared = self.find(id)?;
        let index = read(&shared.index);
        Some((index.gallery.clone(), index.status()))
    }

    /// Returns up to `count` galleries after an id, by id, and whether there are more.
    pub(super) fn galleries_after(
        &self,
        after: Option<&GalleryId>,
        count: usize,
        is_listed: impl Fn(&GalleryId) -> bool,
    ) -> (Vec<(Gallery, GalleryStatus)>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let galleries = read(&self.galleries);
        let following = galleries.range((after.map_or(Unbounded, Excluded), Unbounded));
        let mut following = following.filter(|(id, _)| is_listed(id));
        let page = following.by_ref().take(count).map(|(_, shared)| {
            let index = read(&shared.index);
            (index.gallery.clone(), index.status())
        });
        (page.collect(), following.next().is_some())
    }

    fn set_gallery(&self, number: u64, gallery: Gallery) {
        match self.find(&gallery.id) {
            Some(shared) => {
                write(&shared.index).gallery = gallery;
                self.follow_policy(&shared);
            }
            None => self.insert(GalleryIndex::new(number, gallery)),
        }
    }

    fn change(&self, gallery: &GalleryId, change: impl FnOnce(&mut GalleryIndex)) {
        // No index: the gallery was deleted later in the same group.
        let Some(shared) = self.find(gallery) else { return };
        change(&mut write(&shared.index));
        self.follow_policy(&shared);
    }

    fn drop_gallery(&self, id: &GalleryId) {
        // Let go before gigabytes are given back, for which nobody waits.
        let dropped = write(&self.galleries).remove(id);
        self.set_curve(CurveOwner::Gallery(id.clone()), None);
        if let Some(shared) = dropped {
            cancel_build(&shared);
        }
    }

    /// Starts a build where the policy asks for a graph and there is none, and drops what it does not ask for.
    fn follow_policy(&self, shared: &Arc<Shared>) {
        enum Step {
            Drop,
            Build,
            MeasureAgain,
        }
        let step = {
            let index = read(&shared.index);
            let (rows, target) = (index.rows.templates(), index.gallery.settings.recall_target);
            match (index.wants_graph(), &index.graph) {
                (true, GraphState::Absent) => Step::Build,
                (true, GraphState::Ready(ready)) if ready.is_outgrown(rows, target) => Step::MeasureAgain,
                // A lower target, which what was measured meets.
                (true, GraphState::GivenUp(Some(recall))) if target.is_met_by(recall) => Step::Build,
                (false, GraphState::Absent) | (true, _) => return,
                (false, _) => Step::Drop,
            }
        };
        let build = Arc::new(Build::default());
        let run = match step {
            Step::Drop => {
                cancel_build(shared);
                // Freed once the lock is let go.
                let before = std::mem::replace(&mut write(&shared.index).graph, GraphState::Absent);
                drop(before);
                return;
            }
            Step::Build => {
                write(&shared.index).graph = GraphState::Building(Arc::clone(&build), Vec::new());
                builder::run
            }
            Step::MeasureAgain => {
                let GraphState::Ready(ready) = &mut write(&shared.index).graph else { return };
                ready.again = Some(Arc::clone(&build));
                builder::run_again
            }
        };
        let weak = Arc::downgrade(shared);
        let work = Arc::clone(&build);
        let thread = std::thread::Builder::new().name("graph-builder".into()).spawn(move || run(&weak, &work));
        let mut builders = self.builders.lock().unwrap_or_else(PoisonError::into_inner);
        builders.retain(|builder| !builder.is_finished());
        match thread {
            Ok(thread) => builders.push(thread),
            Err(error) => {
                tracing::error!(%error, "no thread to build or measure a graph; searching exactly");
                let mut index = write(&shared.index);
                index.end_build(&build, GraphState::GivenUp(None));
                index.end_measurement(&build, |_| GraphState::GivenUp(None));
            }
        }
    }

    /// Ends the builds under way and waits for their threads.
    pub(super) fn stop(&self) {
        read(&self.galleries).values().for_each(|shared| cancel_build(shared));
        let builders = std::mem::take(&mut *self.builders.lock().unwrap_or_else(PoisonError::into_inner));
        for builder in builders {
            if builder.join().is_err() {
                tracing::error!("a graph builder panicked");
            }
        }
    }

    pub(super) fn find(&self, id: &GalleryId) -> Option<Arc<Shared>> {
        read(&self.galleries).get(id).cloned()
    }
}

fn cancel_build(shared: &Shared) {
    match &read(&shared.index).graph {
        GraphState::Building(build, _) | GraphState::Ready(Ready { again: Some(build), .. }) => build.cancel(),
        _ => {}
    }
}

// A poisoned lock means that a panic was caught in the middle of a read, or of a write whose delta is then lost to the
// index; reading on is right for the first, and the second ends the writer, which turns health to not serving.
pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
