//! Which store keeps the galleries: the one place that knows them all.

use std::path::PathBuf;
use std::sync::Arc;

use super::embedded::{EmbeddedGalleries, MasterKey, StoreError};
use super::port::Galleries;
use super::postgres::{PostgresError, PostgresGalleries, PostgresOptions};

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
}

/// Opens or makes a store. `key` is the one that it is encrypted with.
///
/// *Errors*: [`OpenError`].
pub async fn open_galleries(location: StoreLocation, key: Option<MasterKey>) -> Result<Arc<dyn Galleries>, OpenError> {
    match location {
        StoreLocation::Folder(folder) => {
            let opened = tokio::task::spawn_blocking(move || EmbeddedGalleries::open_with_key(&folder, key.as_ref()));
            let galleries = opened.await.map_err(|_| StoreError::Panicked)??;
            Ok(Arc::new(Arc::new(galleries)))
        }
        StoreLocation::Postgres(_) if key.is_some() => Err(OpenError::NotEncrypting),
        StoreLocation::Postgres(options) => Ok(Arc::new(Arc::new(PostgresGalleries::open(&options).await?))),
    }
}
