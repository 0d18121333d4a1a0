//! The folder of installed packs, each in a folder by its name. A pack is put together beside them and moved in whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::catalogue::Published;
use super::installed::{self, Record, RecordError};

/// Held by whoever changes the folder.
const LOCK: &str = ".lock";

/// Where packs are put together. Below the same folder, so that moving one in is a rename.
const STAGING: &str = ".staging";

/// Where downloads wait for their end, so that one that was cut goes on from there.
const DOWNLOADS: &str = ".downloads";

/// Checksums of published files that their publisher states none of.
const CHECKSUMS: &str = "checksums.toml";

/// The same on its way.
const CHECKSUMS_NEW: &str = "checksums.toml.new";

/// The name of a pack: 1 to 64 of `a-z 0-9 - _ .`, starting with a letter or digit, and none of the files beside the packs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackName(String);

/// What is wrong with the folder of packs, or with what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum PacksError {
    /// A text that is no name.
    #[error("a pack's name is 1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit; found {found:?}")]
    BadName {
        /// The text.
        found: String,
    },
    /// A name under which another file lies beside the packs.
    #[error("{name} is no name for a pack: a file beside the packs is called so")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// A file or folder that cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A record that cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A pack that is not there.
    #[error("no pack {name} is installed in {}", folder.display())]
    NotInstalled {
        /// Its name.
        name: String,
        /// The folder of packs.
        folder: PathBuf,
    },
    /// A folder among the packs that nothing is recorded of.
    #[error("{} has no {}: nothing tells what was installed", folder.display(), installed::FILE_NAME)]
    NoRecord {
        /// The folder.
        folder: PathBuf,
    },
    /// A pack whose place is taken.
    #[error("{} is there already", folder.display())]
    Taken {
        /// The pack's folder.
        folder: PathBuf,
    },
    /// A file that is not what was published before.
    #[error("{file}: expected SHA-256 {expected}, recorded in {} when it was first fetched, found {found}", path.display())]
    NotAsBefore {
        /// The file.
        file: String,
        /// As recorded.
        expected: String,
        /// As computed.
        found: String,
        /// Where it is recorded.
        path: PathBuf,
    },
    /// A file whose content is not what it must be.
    #[error("{}: {fault}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

impl PackName {
    /// Checks a name.
    ///
    /// *Errors*: [`PacksError::BadName`], [`PacksError::ReservedName`].
    pub fn parse(text: &str) -> Result<Self, PacksError> {
        let letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let starts_well = text.bytes().next().is_some_and(letter_or_digit);
        let all_known = text.bytes().all(|byte| letter_or_digit(byte) || b"-_.".contains(&byte));
        if !starts_well || !all_known || text.len() > 64 {
            return Err(PacksError::BadName { found: text.to_owned() });
        }
        if [CHECKSUMS, CHECKSUMS_NEW].contains(&text) {
            return Err(PacksError::ReservedName { name: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PackName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// A folder of packs; it need not be there yet.
#[derive(Clone, Debug)]
pub struct Packs {
    folder: PathBuf,
}

/// A folder of packs that nobody else changes meanwhile.
pub struct LockedPacks {
    packs: Packs,
    _lock: File,
}

/// A folder in which a pack is put together.
pub struct Staged {
    packs: Packs,
    name: PackName,
    folder: PathBuf,
}

/// The file of checksums.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Checksums {
    /// By `PACK/FILE`.
    files: BTreeMap<String, String>,
}

impl Packs {
    /// Names the folder; nothing is read or made.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// Returns where a pack lies, or would.
    pub fn path(&self, name: &PackName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    /// Returns a pack's folder, whatever state the pack is in.
    ///
    /// *Errors*: [`PacksError::NotInstalled`].
    pub fn find(&self, name: &PackName) -> Result<PathBuf, PacksError> {
        let not_installed = || PacksError::NotInstalled { name: name.to_string(), folder: self.folder.clone() };
        Some(self.path(name)).filter(|folder| folder.is_dir()).ok_or_else(not_installed)
    }

    /// Returns the record of a pack.
    ///
    /// *Errors*: [`PacksError::NotInstalled`]; of a damaged pack [`PacksError::NoRecord`], [`PacksError::Record`].
    pub fn record(&self, name: &PackName) -> Result<Record, PacksError> {
        let folder = self.find(name)?;
        Record::read(&folder)?.ok_or(PacksError::NoRecord { folder })
    }

    /// Returns the names of all packs that are installed, damaged ones too, in order.
    ///
    /// *Errors*: those of reading the folder.
    pub fn names(&self) -> Result<Vec<PackName>, PacksError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.folder)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("read", &self.folder))?.path();
            let name = path.file_name().and_then(|name| PackName::parse(name.to_str()?).ok());
            names.extend(name.filter(|_| path.is_dir()));
        }
        names.sort();
        Ok(names)
    }

    /// Makes the folder where there is none, and waits until nobody else changes it; `on_wait` is called before a wait.
    ///
    /// *Errors*: those of the file system.
    pub fn lock(&self, on_wait: impl FnOnce()) -> Result<LockedPacks, PacksError> {
        std::fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        let path = self.folder.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(failed("write", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                on_wait();
                lock.lock().map_err(failed("lock", &path))?;
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        Ok(LockedPacks { packs: self.clone(), _lock: lock })
    }
}

impl LockedPacks {
    /// Makes an empty folder to put a pack together in. What an end before its time left there is removed.
    ///
    /// *Errors*: [`PacksError::Taken`]; those of the file system.
    pub fn stage(&self, name: &PackName) -> Result<Staged, PacksError> {
        let place = self.packs.path(name);
        if place.exists() {
            return Err(PacksError::Taken { folder: place });
        }
        self.clear_staging()?;
        let folder = self.packs.folder.join(STAGING).join(name.as_str());
        std::fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        Ok(Staged { packs: self.packs.clone(), name: name.clone(), folder })
    }

    /// Makes the folder of a pack's downloads.
    ///
    /// *Errors*: those of the file system.
    pub fn downloads(&self, name: &PackName) -> Result<PathBuf, PacksError> {
        let folder = self.packs.folder.join(DOWNLOADS).join(name.as_str());
        std::fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        Ok(folder)
    }

    /// Removes a pack's downloads.
    ///
    /// *Errors*: those of the file system.
    pub fn remove_downloads(&self, name: &PackName) -> Result<(), PacksError> {
        remove(&self.packs.folder.join(DOWNLOADS).join(name.as_str()))
    }

    /// Removes a pack, damaged or not: it is gone at once, and its files after that.
    ///
    /// *Errors*: [`PacksError::NotInstalled`]; those of the file system.
    pub fn remove(&self, name: &PackName) -> Result<(), PacksError> {
        let place = self.packs.find(name)?;
        self.clear_staging()?;
        let staging = self.packs.folder.join(STAGING);
        std::fs::create_dir_all(&staging).map_err(failed("make", &staging))?;
        std::fs::rename(&place, staging.join(name.as_str())).map_err(failed("remove", &place))?;
        sync(&self.packs.folder)?;
        self.clear_staging()
    }

    /// Compares the checksum of a published file that has none in the catalogue with the one that is recorded. Tells whether
    /// one is.
    ///
    /// *Errors*: [`PacksError::NotAsBefore`]; those of the file of checksums.
    pub fn check_recorded(&self, name: &PackName, file: &Published, found: &str) -> Result<bool, PacksError> {
        let key = key(name, file);
        match self.checksums()?.files.remove(&key) {
            Some(expected) if expected != found => Err(PacksError::NotAsBefore {
                file: key,
                expected,
                found: found.to_owned(),
                path: self.checksums_path(),
            }),
            recorded => Ok(recorded.is_some()),
        }
    }

    /// Records the checksum of a published file: it must be the same from then on, also when the pack is removed meanwhile.
    ///
    /// *Errors*: those of the file of checksums.
    pub fn record_checksum(&self, name: &PackName, file: &Published, found: &str) -> Result<(), PacksError> {
        let (path, mut checksums) = (self.checksums_path(), self.checksums()?);
        checksums.files.insert(key(name, file), found.to_owned());
        let new = self.packs.folder.join(CHECKSUMS_NEW);
        write_synced(&new, &written(&path, &checksums)?)?;
        std::fs::rename(&new, &path).map_err(failed("write", &path))?;
        sync(&self.packs.folder)
    }

    fn checksums_path(&self) -> PathBuf {
        self.packs.folder.join(CHECKSUMS)
    }

    fn checksums(&self) -> Result<Checksums, PacksError> {
        let path = self.checksums_path();
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| PacksError::Bad { path, fault: error.to_string() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Checksums::default()),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    fn clear_staging(&self) -> Result<(), PacksError> {
        remove(&self.packs.folder.join(STAGING))
    }
}

impl Staged {
    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tells whether the pack brought a manifest.
    pub fn has_manifest(&self) -> bool {
        self.folder.join(super::manifest::FILE_NAME).exists()
    }

    /// Removes every file but some.
    ///
    /// *Errors*: those of the file system.
    pub fn keep_only(&self, names: &[&str]) -> Result<(), PacksError> {
        for entry in std::fs::read_dir(&self.folder).map_err(failed("read", &self.folder))? {
            let entry = entry.map_err(failed("read", &self.folder))?;
            if !names.iter().any(|name| entry.file_name() == *name) {
                std::fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Writes a manifest, where the pack brought none.
    ///
    /// *Errors*: those of the file system.
    pub fn write_manifest(&self, text: &str) -> Result<(), PacksError> {
        let path = self.folder.join(super::manifest::FILE_NAME);
        if self.has_manifest() { Ok(()) } else { write_synced(&path, text) }
    }

    /// Writes the pack's record and moves the pack in. From then on it is found by its name, also after a crash.
    ///
    /// *Errors*: those of the file system.
    pub fn install(self, record: &Record) -> Result<PathBuf, PacksError> {
        let path = self.folder.join(installed::FILE_NAME);
        write_synced(&path, &written(&path, record)?)?;
        sync(&self.folder)?;
        let place = self.packs.path(&self.name);
        std::fs::rename(&self.folder, &place).map_err(failed("write", &place))?;
        sync(&self.packs.folder)?;
        Ok(place)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Moved away by then where all went well; else what is left is removed by the next one.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn remove(folder: &Path) -> Result<(), PacksError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn key(name: &PackName, file: &Published) -> String {
    format!("{name}/{}", file.file)
}

fn written(path: &Path, content: &impl Serialize) -> Result<String, PacksError> {
    toml::to_string(content).map_err(|error| PacksError::Bad { path: path.to_path_buf(), fault: error.to_string() })
}

fn write_synced(path: &Path, text: &str) -> Result<(), PacksError> {
    let write = || {
        let mut file = File::create(path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed("write", path))
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> Result<(), PacksError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write", folder))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PacksError {
    let path = path.to_path_buf();
    move |source| PacksError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_leads_out_of_no_folder() {
        for text in ["", ".", "..", ".staging", "a/b", "a\\b", "Über", "A", "c:", "-x", &"x".repeat(65)] {
            assert!(PackName::parse(text).is_err(), "{text:?}");
        }
        for text in [CHECKSUMS, CHECKSUMS_NEW] {
            assert!(matches!(PackName::parse(text), Err(PacksError::ReservedName { .. })), "{text:?}");
        }
        assert_eq!(PackName::parse("buffalo_l.v2-0").expect("a name").as_str(), "buffalo_l.v2-0");
    }

    #[test]
    fn what_is_staged_is_no_pack_until_it_is_installed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (packs, name) = (Packs::new(folder.path()), PackName::parse("one").expect("a name"));
        let locked = packs.lock(|| panic!("nobody else")).expect("lock");
        assert!(matches!(locked.remove(&name), Err(PacksError::NotInstalled { .. })));
        drop(locked.stage(&name).expect("stage"));
        assert!(packs.names().expect("names").is_empty() && !packs.path(&name).exists());

        let staged = locked.stage(&name).expect("stage again");
        std::fs::write(staged.folder().join("a.onnx"), b"a").expect("write");
        let files = installed::checksums(staged.folder()).expect("checksums");
        let (from, licence) = ("here".to_owned(), "free".to_owned());
        let record = Record { format: 1, from, licence, licence_accepted: false, files };
        let place = staged.install(&record).expect("install");
        assert_eq!(packs.names().expect("names"), std::slice::from_ref(&name));
        assert_eq!(packs.record(&name).expect("the record"), record);
        assert!(matches!(locked.stage(&name), Err(PacksError::Taken { .. })));
        assert!(record.differences(&place).expect("read").is_empty());
        std::fs::write(place.join("a.onnx"), b"b").expect("write");
        std::fs::write(place.join("b.onnx"), b"b").expect("write");
        let differences: Vec<String> =
            record.differences(&place).expect("read").iter().map(ToString::to_string).collect();
        assert!(differences[0].starts_with("a.onnx: expected SHA-256 ca978112"), "{differences:?}");
        assert_eq!(differences[1], "b.onnx was not there when the pack was installed");

        locked.remove(&name).expect("remove");
        assert!(packs.names().expect("names").is_empty() && !folder.path().join(STAGING).exists());
    }

    #[test]
    fn folder_is_changed_by_one_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let packs = Packs::new(folder.path());
        let locked = packs.lock(|| panic!("nobody else")).expect("lock");
        let (waits, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| packs.lock(|| waits.send(()).expect("tell")).map(drop));
            told.recv().expect("it waits");
            assert!(!second.is_finished());
            drop(locked);
            second.join().expect("a thread").expect("lock");
        });
    }

    #[test]
    fn file_without_a_checksum_must_be_the_same_ever_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let (packs, name) = (Packs::new(folder.path()), PackName::parse("one").expect("a name"));
        let locked = packs.lock(|| {}).expect("lock");
        let (file, addresses) = ("one.zip".to_owned(), vec!["https://h/one.zip".to_owned()]);
        let file = Published { file, addresses, bytes: 5, sha256: None, sha256_by: None };
        assert!(!locked.check_recorded(&name, &file, "aa").expect("not yet"));
        locked.record_checksum(&name, &file, "aa").expect("record");
        assert!(locked.check_recorded(&name, &file, "aa").expect("the same"));
        let error = locked.check_recorded(&name, &file, "bb").expect_err("another").to_string();
        assert!(error.contains("expected SHA-256 aa") && error.contains("found bb"), "{error}");
        std::fs::write(folder.path().join(CHECKSUMS), "nonsense").expect("write");
        assert!(matches!(locked.check_recorded(&name, &file, "aa"), Err(PacksError::Bad { .. })));
    }
}
