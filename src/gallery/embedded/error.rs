//! Why the store could not be opened.

use super::encryption::KeyId;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot be opened as a store.
    #[error("cannot open the store in {}", folder.display())]
    Unopenable {
        /// The folder.
        folder: std::path::PathBuf,
        /// What the store says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the store open.
    #[error("the store in {} is open in another process", folder.display())]
    InUse {
        /// The folder.
        folder: std::path::PathBuf,
    },
    /// A store that has lost what was written to it.
    #[error(
        "the store in {} is damaged: {what}; restore the folder from a backup, or remove {} to go on with what is left",
        folder.display(),
        marker.display()
    )]
    Damaged {
        /// The folder.
        folder: std::path::PathBuf,
        /// The file whose word the store does not keep.
        marker: std::path::PathBuf,
        /// How that shows.
        what: &'static str,
    },
    /// A store of a format that this version does not know.
    #[error(
        "the store in {} has format {found}, and this version knows none above {known}: a newer facematch wrote it; use that \
         or a later one",
        folder.display()
    )]
    NewerFormat {
        /// The folder.
        folder: std::path::PathBuf,
        /// The last that this version knows.
        known: u32,
        /// What the store says.
        found: u32,
    },
    /// An encrypted store, and no key.
    #[error(
        "the store in {} is encrypted with key {key}, and no key is given: name its file in encryption_key_file \
         (--encryption-key-file, FACEMATCH_ENCRYPTION_KEY_FILE)",
        folder.display()
    )]
    KeyMissing {
        /// The folder.
        folder: std::path::PathBuf,
        /// The id of its key.
        key: KeyId,
    },
    /// An encrypted store, and another key.
    #[error("the store in {} is encrypted with key {expected}, and key {found} is given: give that one", folder.display())]
    WrongKey {
        /// The folder.
        folder: std::path::PathBuf,
        /// The id of its key.
        expected: KeyId,
        /// The id of the one that is given.
        found: KeyId,
    },
    /// A plain store, and a key.
    #[error(
        "the store in {} is not encrypted, and key {key} is given: encrypt it by `facematch store encrypt` while no server \
         runs on it, or give no key",
        folder.display()
    )]
    NotEncrypted {
        /// The folder.
        folder: std::path::PathBuf,
        /// The id of the one that is given.
        key: KeyId,
    },
    /// A gallery's own record is damaged.
    #[error("the record of gallery {0:?} is damaged; restore the data folder from a backup")]
    DamagedGallery(String),
    /// Opening it panicked. What it said is not told: it may quote what must not be logged.
    #[error("opening the store panicked")]
    Panicked,
    /// The operating system refused a thread.
    #[error("cannot start the writer")]
    NoThread(#[source] std::io::Error),
}
