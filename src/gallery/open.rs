//! Which store keeps the galleries.

use std::path::PathBuf;
use std::sync::Arc;

use super::embedded::{EmbeddedGalleries, MasterKey, StoreError};
use super::port::Galleries;

/// Where galleries are kept.
#[derive(Clone, Debug)]
pub enum StoreLocation {
    /// In a folder of this machine.
    Folder(PathBuf),
}

/// Opens or makes a store. `key` is the one that it is encrypted with.
///
/// *Errors*: [`StoreError`].
pub async fn open_galleries(
    location: StoreLocation,
    key: Option<MasterKey>,
) -> Result<Arc<dyn Galleries>, StoreError> {
    match location {
        StoreLocation::Folder(folder) => {
            let opened = tokio::task::spawn_blocking(move || EmbeddedGalleries::open_with_key(&folder, key.as_ref()));
            let galleries = opened.await.map_err(|_| StoreError::Panicked)??;
            Ok(Arc::new(Arc::new(galleries)))
        }
    }
}
