//! Takes a pack's files out of an archive or a folder of anybody: nothing is written outside the folder that is given, and
//! no more than a pack can have. The adapter of zip: no other module names it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::read::ZipFileEntry;

use super::manifest;
use crate::runtime::disk;

/// Most entries of an archive or a folder. The largest pack known has seven.
const ENTRIES_MAX: usize = 256;

/// Most bytes of a file, and of a pack. The largest recogniser known (ResNet-100) has 260 MB, its pack 427 MB.
const FILE_BYTES_MAX: u64 = 1 << 30;
const PACK_BYTES_MAX: u64 = 2 << 30;

/// How much larger a pack may be than its archive: weights hardly compress, so what grows by more is made to fill a disk.
const GROWTH_MAX: u64 = 32;

/// Longest name of a file.
const NAME_BYTES_MAX: usize = 128;

/// What a pack leaves free on the disk.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Kinds of files in a Unix mode: all, and a regular file.
const MODE_KIND: u32 = 0o170_000;
const MODE_REGULAR: u32 = 0o100_000;

/// Why a pack's files could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A file that is no archive, or a damaged one.
    #[error("{}: no ZIP archive, or a damaged one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file that no pack has. Nothing of the archive is used.
    #[error("{}: the file {file:?} in it {fault}; nothing of it is used", path.display())]
    Refused {
        /// The archive or folder.
        path: PathBuf,
        /// Its name.
        file: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// More than a pack can have.
    #[error("{}: expected at most {max} {what}, found more", path.display())]
    TooLarge {
        /// The archive or folder.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        max: u64,
    },
    /// No model in it.
    #[error("{}: expected *.onnx files, found none", path.display())]
    NoModel {
        /// The archive or folder.
        path: PathBuf,
    },
    /// A disk without room.
    #[error("{} has {free} bytes free; {needed} are needed, some of which stay free", folder.display())]
    NoRoom {
        /// A folder on it.
        folder: PathBuf,
        /// What is needed.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// A file that cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Takes a pack's files out of a ZIP archive: models, manifest, licences, whatever folder of it they are in. Other files are
/// passed over. What is written is on the disk when it returns.
///
/// *Errors*: [`UnpackError`]; the folder then holds what must not be used.
pub fn unpack(archive: &Path, into: &Path) -> Result<(), UnpackError> {
    let file = File::open(archive).map_err(failed("read", archive))?;
    let archive_bytes = file.metadata().map_err(failed("read", archive))?.len();
    let damaged = |error: zip::result::ZipError| damaged(archive, error);
    let mut zip = ZipArchive::new(file).map_err(damaged)?;
    let mut taken = Taken::new(archive, into, PACK_BYTES_MAX.min(archive_bytes.saturating_mul(GROWTH_MAX)));
    if zip.len() > ENTRIES_MAX {
        return Err(taken.too_large("entries", ENTRIES_MAX as u64));
    }
    // The library knows entries by name: of two of a name it gives the second alone.
    if zip.has_duplicate_names() {
        return Err(UnpackError::Damaged {
            path: archive.to_path_buf(),
            source: "two of its files have one name".into(),
        });
    }
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(damaged)?;
        let name = match entry_name(&entry) {
            Ok(Some(name)) => name,
            Ok(None) => continue,
            Err(fault) => return Err(taken.refused(&String::from_utf8_lossy(entry.name_raw()), fault)),
        };
        let bytes = entry.size();
        taken.take(&name, bytes, zip.by_index(index).map_err(damaged)?)?;
    }
    taken.end()
}

/// Takes a pack's files out of a folder, as [`unpack`] does out of an archive. Links are followed, folders within it are not.
///
/// *Errors*: [`UnpackError`].
pub fn copy(folder: &Path, into: &Path) -> Result<(), UnpackError> {
    let mut taken = Taken::new(folder, into, PACK_BYTES_MAX);
    for (count, entry) in std::fs::read_dir(folder).map_err(failed("read", folder))?.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(taken.too_large("files", ENTRIES_MAX as u64));
        }
        let path = entry.map_err(failed("read", folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_of_a_pack(name)) else {
            continue;
        };
        // A device or a pipe may have no end.
        let metadata = std::fs::metadata(&path).map_err(failed("read", &path))?;
        if metadata.is_file() {
            taken.take(name, metadata.len(), File::open(&path).map_err(failed("read", &path))?)?;
        }
    }
    taken.end()
}

/// Takes one file, as [`copy`] takes those of a folder.
///
/// *Errors*: [`UnpackError`].
pub fn copy_file(path: &Path, into: &Path) -> Result<(), UnpackError> {
    let mut taken = Taken::new(path, into, PACK_BYTES_MAX);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let file = File::open(path).map_err(failed("read", path))?;
    let bytes = file.metadata().map_err(failed("read", path))?.len();
    taken.take(name, bytes, file)
}

/// Returns the name under which an entry is kept; `None` where it is no file of a pack. What is wrong with it is the error:
/// an archive that tries to lead elsewhere is not used at all.
fn entry_name(entry: &ZipFileEntry<'_>) -> Result<Option<String>, &'static str> {
    let raw = std::str::from_utf8(entry.name_raw()).map_err(|_| "has a name that is not UTF-8")?;
    let decoded = entry.name().map_err(|_| "has a name that cannot be read")?;
    if decoded != raw {
        return Err("has two names");
    }
    if raw.contains(['\\', ':']) || raw.chars().any(char::is_control) {
        return Err("has a name with a character that leads elsewhere on some systems");
    }
    if raw.starts_with('/') || raw.split('/').any(|part| part == "..") {
        return Err("leads out of the archive");
    }
    if entry.is_dir() {
        return Ok(None);
    }
    if entry.unix_mode().is_some_and(|mode| !matches!(mode & MODE_KIND, 0 | MODE_REGULAR)) {
        return Err("is a link or a device");
    }
    if entry.encrypted() {
        return Err("is encrypted");
    }
    let name = raw.rsplit('/').next().unwrap_or_default();
    Ok(is_of_a_pack(name).then(|| name.to_owned()))
}

/// Tells by its name whether a file is kept: a model, the manifest, or what says on which terms they are given.
fn is_of_a_pack(name: &str) -> bool {
    // What begins with a dot is hidden; macOS puts such files beside each file of an archive.
    if name.starts_with('.') || name.len() > NAME_BYTES_MAX {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    let (stem, extension) = lower.split_once('.').unwrap_or((lower.as_str(), ""));
    let tells_terms = ["licence", "license", "notice", "copying", "readme"].iter().any(|word| stem.starts_with(word));
    name.ends_with(".onnx") || name == manifest::FILE_NAME || tells_terms && matches!(extension, "" | "txt" | "md")
}

/// The files that are taken, and what is left of the limits.
struct Taken<'a> {
    from: &'a Path,
    into: &'a Path,
    /// In lower case: some file systems tell no difference.
    names: BTreeSet<String>,
    bytes_max: u64,
    left: u64,
}

impl<'a> Taken<'a> {
    fn new(from: &'a Path, into: &'a Path, bytes_max: u64) -> Self {
        Self { from, into, names: BTreeSet::new(), bytes_max, left: bytes_max }
    }

    /// Writes a file of so many bytes. They are counted as they come: what an archive says of its sizes may not be so.
    fn take(&mut self, name: &str, bytes: u64, mut content: impl Read) -> Result<(), UnpackError> {
        if !self.names.insert(name.to_lowercase()) {
            return Err(self.refused(name, "is there twice"));
        }
        if bytes > FILE_BYTES_MAX {
            return Err(self.too_large("bytes of a file", FILE_BYTES_MAX));
        }
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| self.too_large("bytes of all files", self.bytes_max))?;
        self.check_room(bytes)?;
        let path = self.into.join(name);
        let mut file = File::create_new(&path).map_err(failed("write", &path))?;
        let mut buffer = vec![0; 1 << 16];
        let mut come = 0;
        loop {
            let read = content.read(&mut buffer).map_err(|error| damaged(self.from, error))?;
            let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
            come += read as u64;
            if come > bytes {
                break;
            }
            file.write_all(part).map_err(failed("write", &path))?;
        }
        if come != bytes {
            return Err(self.refused(name, "has another size than is stated"));
        }
        file.sync_all().map_err(failed("write", &path))
    }

    fn check_room(&self, bytes: u64) -> Result<(), UnpackError> {
        let needed = bytes.saturating_add(FREE_BYTES_MIN);
        match disk::free_bytes(self.into) {
            Some(free) if free < needed => Err(UnpackError::NoRoom { folder: self.into.to_path_buf(), needed, free }),
            _ => Ok(()),
        }
    }

    fn end(self) -> Result<(), UnpackError> {
        let is_there = self.names.iter().any(|name| name.ends_with(".onnx"));
        if is_there { Ok(()) } else { Err(UnpackError::NoModel { path: self.from.to_path_buf() }) }
    }

    fn refused(&self, file: &str, fault: &'static str) -> UnpackError {
        UnpackError::Refused { path: self.from.to_path_buf(), file: file.to_owned(), fault }
    }

    fn too_large(&self, what: &'static str, max: u64) -> UnpackError {
        UnpackError::TooLarge { path: self.from.to_path_buf(), what, max }
    }
}

fn damaged(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> UnpackError {
    UnpackError::Damaged { path: path.to_path_buf(), source: source.into() }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> UnpackError + use<> {
    let path = path.to_path_buf();
    move |source| UnpackError::Io { doing, path, source }
}
