//! Two stores behind one port: each gallery is served from one of them, and moves to the other while it is served.
//!
//! Which one serves a gallery is said by the first store alone, in the gallery's record there ([`Served`]); what the first store
//! has nothing of is served from the second. So one write to the first store switches, a server that was killed at any moment finds
//! what holds, and the first store does without the second. What a move leaves behind is the way back: deletions are passed on to
//! it, nothing else is. The two are known to belong together by when the gallery was made.
//!
//! `port.rs` routes, `moving.rs` moves.

#[cfg(test)]
mod failing;
mod moving;
mod port;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use self::moving::{MovePlan, MoveState};
use super::changes::GalleryChange;
use super::port::Galleries;
use super::postgres::PostgresOptions;
use super::types::{Gallery, Served};
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::{Entity, Error};

/// Galleries that are looked at together.
const LISTED: usize = 1_000;

/// Places that are kept before those of no gallery go.
const PLACES_MAX: usize = 10_000;

/// A store, and the address that people know it by.
#[derive(Clone)]
pub(super) struct Side {
    pub address: String,
    /// Set once it could be opened.
    pub opened: Arc<OnceLock<Arc<dyn Galleries>>>,
}

impl Side {
    pub(super) fn new(address: String, galleries: Option<Arc<dyn Galleries>>) -> Self {
        let opened = OnceLock::new();
        galleries.into_iter().for_each(|galleries| drop(opened.set(galleries)));
        Self { address, opened: Arc::new(opened) }
    }

    /// *Errors*: [`Error::Unavailable`] where it could not be opened yet.
    fn get(&self) -> Result<&Arc<dyn Galleries>, Error> {
        self.opened.get().ok_or(Error::Unavailable("the other store could not be reached yet"))
    }

    /// Returns a gallery; `None` where there is none.
    async fn find(&self, id: &GalleryId) -> Result<Option<Gallery>, Error> {
        match self.get()?.gallery(id).await {
            Ok((gallery, _)) => Ok(Some(gallery)),
            Err(Error::NotFound(Entity::Gallery)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Galleries in two stores.
pub struct TwoStores {
    first: Side,
    second: Side,
    /// Of galleries that were asked for. A place that somebody uses stays: whoever passes its gate must meet whoever closes it.
    places: Mutex<BTreeMap<GalleryId, Arc<Place>>>,
    /// Held where galleries come to be, or leave a store.
    names: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    First,
    Second,
}

impl Which {
    fn other(self) -> Self {
        match self {
            Which::First => Which::Second,
            Which::Second => Which::First,
        }
    }
}

/// Where a gallery is served from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    served_from: Which,
    /// The other store has what a move left, or may have.
    has_copy: bool,
    /// And it can be gone back to.
    is_way_back: bool,
}

impl Standing {
    const ALONE_IN_FIRST: Self = Self { served_from: Which::First, has_copy: false, is_way_back: false };

    fn with_copy(served_from: Which) -> Self {
        Self { served_from, has_copy: true, is_way_back: true }
    }

    fn without_copy(self) -> Self {
        Self { has_copy: false, is_way_back: false, ..self }
    }
}

#[derive(Default)]
struct Place {
    /// `None`: to be looked up.
    standing: Mutex<Option<Standing>>,
    /// Writes pass together, each with all that it does; a switch, or the gallery's end, passes alone.
    gate: Arc<tokio::sync::RwLock<()>>,
    /// While the gallery is copied: whose records were written to meanwhile.
    changed: Mutex<Option<BTreeSet<IdentityId>>>,
    /// Taken by what makes the gallery anew: a move, or a migration to another pack.
    work: Arc<tokio::sync::Mutex<()>>,
}

impl Place {
    fn note(&self, written: IdentityId) {
        if let Some(changed) = lock(&self.changed).as_mut() {
            changed.insert(written);
        }
    }

    fn stand(&self, standing: Option<Standing>) {
        *lock(&self.standing) = standing;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TwoStores {
    pub(super) fn new(first: Side, second: Side) -> Self {
        Self { first, second, places: Mutex::default(), names: tokio::sync::Mutex::default() }
    }

    fn side(&self, which: Which) -> &Side {
        match which {
            Which::First => &self.first,
            Which::Second => &self.second,
        }
    }

    /// Returns which store an address is of, by whatever way it is written.
    fn at_address(&self, address: &str) -> Option<Which> {
        let shown = match PostgresOptions::is_address(address) {
            true => PostgresOptions::new(address).shown(),
            false => address.to_owned(),
        };
        let whole = |text: &str| std::fs::canonicalize(Path::new(text)).ok();
        let is_of = |side: &Side| {
            side.address == shown || whole(&side.address).is_some_and(|folder| Some(folder) == whole(address))
        };
        [Which::First, Which::Second].into_iter().find(|which| is_of(self.side(*which)))
    }

    /// Returns the place of a gallery, and where it stands; one that there is not would be in the first store.
    async fn place(&self, id: &GalleryId) -> Result<(Arc<Place>, Standing), Error> {
        let known = lock(&self.places).get(id).map(Arc::clone);
        if let Some(place) = known {
            let standing = self.standing(id, &place).await?;
            return Ok((place, standing));
        }
        let found = self.look_up(id).await?;
        let place = {
            let mut places = lock(&self.places);
            if places.len() >= PLACES_MAX {
                // Ids that are no gallery's, and that nobody works on.
                places.retain(|_, place| Arc::strong_count(place) > 1 || lock(&place.standing).is_some());
            }
            Arc::clone(places.entry(id.clone()).or_default())
        };
        let Some(standing) = found else { return Ok((place, Standing::ALONE_IN_FIRST)) };
        // What another one knows by now is newer.
        let standing = *lock(&place.standing).get_or_insert(standing);
        Ok((place, standing))
    }

    /// Returns where a gallery stands now.
    async fn standing(&self, id: &GalleryId, place: &Place) -> Result<Standing, Error> {
        let known = *lock(&place.standing);
        if let Some(standing) = known {
            return Ok(standing);
        }
        match self.look_up(id).await? {
            Some(standing) => Ok(*lock(&place.standing).get_or_insert(standing)),
            None => Ok(Standing::ALONE_IN_FIRST),
        }
    }

    /// `None` where there is no such gallery.
    async fn look_up(&self, id: &GalleryId) -> Result<Option<Standing>, Error> {
        Ok(match self.first.find(id).await?.map(|gallery| gallery.settings.served) {
            Some(Served::Here) => Some(Standing::ALONE_IN_FIRST),
            Some(Served::HereWithCopy) => Some(Standing::with_copy(Which::First)),
            Some(Served::HereWithStaleCopy) => {
                Some(Standing { is_way_back: false, ..Standing::with_copy(Which::First) })
            }
            Some(Served::Elsewhere) => Some(Standing::with_copy(Which::Second)),
            None => {
                let there = self.second.find(id).await?;
                there.map(|_| Standing::with_copy(Which::Second).without_copy())
            }
        })
    }

    /// Returns the store that serves a gallery.
    async fn serving(&self, id: &GalleryId) -> Result<&Arc<dyn Galleries>, Error> {
        let (_, standing) = self.place(id).await?;
        self.side(standing.served_from).get()
    }

    /// Says in the first store which one serves a gallery.
    async fn say_served(&self, id: &GalleryId, served: Served) -> Result<(), Error> {
        let wanted = GalleryChange { served: Some(served), ..Default::default() };
        self.first.get()?.update_gallery(id.clone(), wanted).await.map(drop)
    }

    /// Tells whether what the store that does not serve a gallery has of that id is a copy of it, and nobody else's.
    async fn is_copy(&self, id: &GalleryId, served_from: Which) -> Result<bool, Error> {
        let Some(first) = self.first.find(id).await? else { return Ok(false) };
        Ok(match served_from {
            Which::First => self.second.find(id).await?.is_some_and(|second| second.created == first.created),
            Which::Second => first.settings.served == Served::Elsewhere,
        })
    }

    /// Returns a gallery of which the second store says that another one serves it, or has a copy: as it would where the two are
    /// the wrong way round, and what is served now would be the copy.
    pub(super) async fn find_turned(&self) -> Result<Option<GalleryId>, Error> {
        let Ok(second) = self.second.get() else { return Ok(None) };
        let mut after = None;
        loop {
            let page = second.list_galleries(after.as_ref(), LISTED, &|_| true).await?;
            for (gallery, _) in page.items.iter().filter(|(gallery, _)| gallery.settings.served != Served::Here) {
                let here = self.first.find(&gallery.id).await?;
                if here.is_some_and(|here| here.created == gallery.created && here.settings.served == Served::Here) {
                    return Ok(Some(gallery.id.clone()));
                }
            }
            match page.items.last() {
                Some((last, _)) if page.more => after = Some(last.id.clone()),
                _ => return Ok(None),
            }
        }
    }
}
