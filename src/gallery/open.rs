//! Which store keeps the galleries: the one place that knows them all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::changes::GalleryChange;
use super::embedded::{EmbeddedGalleries, MasterKey, StoreError};
use super::port::Galleries;
use super::postgres::{PostgresError, PostgresGalleries, PostgresOptions};
use super::two_stores::{Side, TwoStores};
use super::types::Served;
use crate::biometrics::ids::GalleryId;
use crate::error::Error;

/// Galleries that are looked at together.
const LISTED: usize = 1_000;

/// How often a second store is tried that could not be reached.
const OPEN_INTERVAL: Duration = Duration::from_secs(5);

/// Where galleries are kept.
#[derive(Clone, Debug)]
pub enum StoreLocation {
    /// In a folder of this machine.
    Folder(PathBuf),
    /// In a database that other servers share.
    Postgres(PostgresOptions),
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The one of this machine.
    #[error(transparent)]
    Embedded(#[from] StoreError),
    /// A database.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A database is to be encrypted here.
    #[error(
        "an encryption key is given, and galleries in a database are not encrypted by this server: the database must find what \
         it is asked for. Give no key, and encrypt the database's disk"
    )]
    NotEncrypting,
    /// A gallery has moved to a store that is not here.
    #[error(
        "gallery {} has moved to another store, and this one has the copy that the move left: state that store as second_store; where \
         no way back is wanted any more, `facematch gallery drop-copy` then deletes the copy",
        .0.as_str()
    )]
    Elsewhere(GalleryId),
    /// What should be the second store says which one serves a gallery.
    #[error("what gallery {} is served from is said by second_store: make it the store, and the other one second_store", .0.as_str())]
    Turned(GalleryId),
    /// Both stores are one.
    #[error("store and second_store are the same: state another second_store, or none")]
    Same,
    /// The galleries cannot be listed.
    #[error("cannot list the galleries")]
    Galleries(#[source] Error),
}

/// Galleries as a server has them.
pub struct OpenGalleries {
    /// All of them.
    pub galleries: Arc<dyn Galleries>,
    /// The same, where they are in two stores: what moves them.
    pub two_stores: Option<Arc<TwoStores>>,
}

impl StoreLocation {
    /// Returns the address that people know the store by; holds nothing secret.
    pub fn address(&self) -> String {
        match self {
            StoreLocation::Folder(folder) => folder.display().to_string(),
            StoreLocation::Postgres(options) => options.shown(),
        }
    }
}

/// Opens or makes a store, or two. `key` is the one that a folder is encrypted with.
///
/// *Errors*: [`OpenError`].
pub async fn open_galleries(
    location: StoreLocation,
    second: Option<StoreLocation>,
    key: Option<MasterKey>,
) -> Result<OpenGalleries, OpenError> {
    let is_folder = |location: &StoreLocation| matches!(location, StoreLocation::Folder(_));
    let has_folder = is_folder(&location) || second.as_ref().is_some_and(is_folder);
    if key.is_some() && !has_folder {
        return Err(OpenError::NotEncrypting);
    }
    let address = location.address();
    let galleries = open(&location, key.as_ref()).await?;
    let Some(second) = second else {
        check_alone(galleries.as_ref()).await?;
        return Ok(OpenGalleries { galleries, two_stores: None });
    };
    if second.address() == address {
        return Err(OpenError::Same);
    }
    if key.is_some() && !(is_folder(&location) && is_folder(&second)) {
        tracing::warn!("galleries that move to a database are not encrypted there by this server");
    }
    let first = Side::new(address, Some(galleries));
    let second = open_second(second, key).await?;
    let both = Arc::new(TwoStores::new(first, second));
    if let Some(turned) = both.find_turned().await.map_err(OpenError::Galleries)? {
        return Err(OpenError::Turned(turned));
    }
    Ok(OpenGalleries { galleries: Arc::new(Arc::clone(&both)), two_stores: Some(both) })
}

async fn open(location: &StoreLocation, key: Option<&MasterKey>) -> Result<Arc<dyn Galleries>, OpenError> {
    match location {
        StoreLocation::Folder(folder) => {
            let (folder, key) = (folder.clone(), key.cloned());
            let opened = tokio::task::spawn_blocking(move || EmbeddedGalleries::open_with_key(&folder, key.as_ref()));
            Ok(Arc::new(Arc::new(opened.await.map_err(|_| StoreError::Panicked)??)))
        }
        StoreLocation::Postgres(options) => Ok(Arc::new(Arc::new(PostgresGalleries::open(options).await?))),
    }
}

/// Opens the other store, now or once it can be reached: what the first serves does not need it.
async fn open_second(location: StoreLocation, key: Option<MasterKey>) -> Result<Side, OpenError> {
    let address = location.address();
    match open(&location, key.as_ref()).await {
        Ok(galleries) => Ok(Side::new(address, Some(galleries))),
        Err(OpenError::Postgres(error @ PostgresError::Connect { .. })) => {
            tracing::error!(%error, "the second store cannot be reached; the server goes on without it until it can");
            let side = Side::new(address, None);
            let opened = Arc::downgrade(&side.opened);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(OPEN_INTERVAL).await;
                    let Some(opened) = opened.upgrade() else { return };
                    if let Ok(galleries) = open(&location, key.as_ref()).await {
                        let _ = opened.set(galleries);
                        tracing::info!("the second store is there");
                        return;
                    }
                }
            });
            Ok(side)
        }
        Err(error) => Err(error),
    }
}

/// Checks that no gallery of a store is served by another one, which is not here. What another has of those that this one serves is
/// given up: deletions could not be passed on to it.
async fn check_alone(galleries: &dyn Galleries) -> Result<(), OpenError> {
    let mut after = None;
    loop {
        let page = galleries.list_galleries(after.as_ref(), LISTED, &|_| true).await.map_err(OpenError::Galleries)?;
        for (gallery, _) in &page.items {
            match gallery.settings.served {
                Served::Here | Served::HereWithStaleCopy => {}
                Served::HereWithCopy => {
                    tracing::warn!("what a move left of a gallery in another store is no way back any more");
                    let given_up = GalleryChange { served: Some(Served::HereWithStaleCopy), ..Default::default() };
                    let updated = galleries.update_gallery(gallery.id.clone(), given_up).await;
                    updated.map_err(OpenError::Galleries)?;
                }
                Served::Elsewhere => return Err(OpenError::Elsewhere(gallery.id.clone())),
            }
        }
        match page.items.last() {
            Some((last, _)) if page.more => after = Some(last.id.clone()),
            _ => return Ok(()),
        }
    }
}
