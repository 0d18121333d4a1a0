//! What is recorded of an installed pack: where it came from, under which terms, and the SHA-256 of each of its files.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the record in a pack's folder. It comes and goes with the folder, so a pack is never there without it.
pub(super) const FILE_NAME: &str = "installed.toml";

/// What is recorded of a pack when it is installed, and holds from then on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this format: 1.
    pub format: u32,
    /// The address, archive or folder that it came from.
    pub from: String,
    /// Title of its licence.
    pub licence: String,
    /// Whether the licence was accepted, where it must be.
    pub licence_accepted: bool,
    /// The SHA-256 of each file, by name.
    pub files: BTreeMap<String, String>,
}

/// How a pack's files differ from what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A file is gone.
    #[error("{file} is missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// A file has another content.
    #[error("{file}: expected SHA-256 {expected}, found {found}")]
    Changed {
        /// The file.
        file: String,
        /// As recorded.
        expected: String,
        /// As computed.
        found: String,
    },
    /// A file has come that a pack is read from.
    #[error("{file} was not there when the pack was installed")]
    Added {
        /// The file.
        file: String,
    },
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no record.
    #[error("{}: {fault}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

impl Record {
    /// Reads the record of a pack; `None` where the folder has none: it was put there by hand.
    ///
    /// *Errors*: [`RecordError`].
    pub fn read(folder: &Path) -> Result<Option<Self>, RecordError> {
        let path = folder.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RecordError::Unreadable { path, source }),
        };
        let bad = |fault: String| RecordError::Bad { path: path.clone(), fault };
        let record: Self = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if record.format != 1 {
            return Err(bad(format!("format is {}; this version reads format 1", record.format)));
        }
        Ok(Some(record))
    }

    /// Computes every file's checksum anew and compares.
    ///
    /// *Errors*: [`RecordError::Unreadable`]. *Cost*: reads every file.
    pub fn differences(&self, folder: &Path) -> Result<Vec<Difference>, RecordError> {
        let found = checksums(folder)?;
        let mut differences = Vec::new();
        for (file, expected) in &self.files {
            let (file, expected) = (file.clone(), expected.clone());
            match found.get(&file) {
                None => differences.push(Difference::Missing { file }),
                Some(found) if *found != expected => {
                    differences.push(Difference::Changed { file, expected, found: found.clone() });
                }
                Some(_) => {}
            }
        }
        let added = found.into_keys().filter(|file| !self.files.contains_key(file));
        differences.extend(added.map(|file| Difference::Added { file }));
        Ok(differences)
    }
}

/// Computes the SHA-256 of every file of a folder but the record, by name.
///
/// *Errors*: [`RecordError::Unreadable`].
pub fn checksums(folder: &Path) -> Result<BTreeMap<String, String>, RecordError> {
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        |source| RecordError::Unreadable { path, source }
    };
    let mut sums = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name != FILE_NAME && path.is_file() {
            sums.insert(name, sha256_of(&path).map_err(unreadable(&path))?);
        }
    }
    Ok(sums)
}

/// Bytes of a file that are read at a time.
const READ_BYTES: usize = 64 << 10;

/// Computes the SHA-256 of a file, in hexadecimal digits, without holding the file in memory.
///
/// *Errors*: those of reading it.
pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut read) = (Sha256::new(), vec![0; READ_BYTES]);
    loop {
        match file.read(&mut read)? {
            0 => return Ok(super::pack::hex(&hash.finalize())),
            count => hash.update(read.get(..count).unwrap_or_default()),
        }
    }
}
