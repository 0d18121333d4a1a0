//! Lines and their hashes: made, and checked.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Hexadecimal digits of a hash.
const HASH_DIGITS: usize = 64;

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What a line says.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Chained {
    /// Counts from 1.
    pub n: u64,
    /// When the call ended: RFC 3339, UTC.
    pub time: String,
    /// Whose key or certificate it was.
    pub who: String,
    /// The address that it came from.
    pub peer: String,
    /// Which call.
    pub call: String,
    /// The galleries that it named.
    pub galleries: Vec<String>,
    /// How it ended.
    pub code: String,
    /// As in the log and in the reply's metadata.
    pub request_id: String,
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many lines there are.
    pub count: u64,
    /// The last one's hash.
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { count: 0, hash: "0".repeat(HASH_DIGITS) }
    }
}

impl Head {
    /// Makes the next line and becomes its head.
    pub(super) fn line(&mut self, mut entry: Chained) -> std::io::Result<String> {
        entry.n = self.count.saturating_add(1);
        let json = serde_json::to_string(&entry)?;
        *self = Self { count: entry.n, hash: next_hash(&self.hash, &json) };
        Ok(format!("{} {json}\n", self.hash))
    }

    /// Reads the head off a last line, which is believed.
    pub(super) fn of_last(line: &str) -> Option<Self> {
        let (hash, json) = split(line)?;
        let entry: Chained = serde_json::from_str(json).ok()?;
        Some(Self { count: entry.n, hash: hash.to_owned() })
    }
}

fn next_hash(before: &str, json: &str) -> String {
    let hash = Sha256::new().chain_update(before).chain_update(json).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn split(line: &str) -> Option<(&str, &str)> {
    let (hash, json) = line.trim_end_matches('\n').split_once(' ')?;
    (hash.len() == HASH_DIGITS).then_some((hash, json))
}

/// Why a chain does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is not what was written.
    #[error("{}, line {line}: {what}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Checks a log from its first line to its last, and hands each with its hash over; older files of it, which have numbers
/// behind their names, come first. `from` is the head of what was before, where the beginning is kept elsewhere; what it was is
/// believed.
///
/// *Errors*: [`ChainError`], at the first line that is not as it was written.
pub fn verify(path: &Path, from: Option<&str>, mut each: impl FnMut(&Chained, &str)) -> Result<Head, ChainError> {
    let mut head = from.map_or_else(Head::default, |hash| Head { count: 0, hash: hash.to_owned() });
    // How many lines there were before, the first one says.
    let mut is_counted = from.is_none();
    for file in files(path) {
        verify_file(&file, &mut head, &mut is_counted, &mut each)?;
    }
    Ok(head)
}

fn verify_file(
    path: &Path,
    head: &mut Head,
    is_counted: &mut bool,
    each: &mut impl FnMut(&Chained, &str),
) -> Result<(), ChainError> {
    let unreadable = |source| ChainError::Unreadable { path: path.to_path_buf(), source };
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut line, mut number) = (String::new(), 0);
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut reader, LINE_BYTES_MAX);
        if limited.read_line(&mut line).map_err(unreadable)? == 0 {
            return Ok(());
        }
        number += 1;
        let broken = |what| ChainError::Broken { path: path.to_path_buf(), line: number, what };
        if !line.ends_with('\n') {
            return Err(broken("it is cut off"));
        }
        let (hash, json) = split(&line).ok_or_else(|| broken("it is no line of an audit log"))?;
        let entry: Chained = serde_json::from_str(json).map_err(|_| broken("it is no line of an audit log"))?;
        if next_hash(&head.hash, json) != hash {
            return Err(broken(
                "its hash is not that of itself and the line before: one of them was changed, or lines were taken out before it",
            ));
        }
        if std::mem::replace(is_counted, true) && entry.n != head.count.saturating_add(1) {
            return Err(broken("its number does not follow that of the line before"));
        }
        *head = Head { count: entry.n, hash: hash.to_owned() };
        each(&entry, hash);
    }
}

/// The files of a log, oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut older: Vec<(u64, PathBuf)> = older_files(path);
    older.sort();
    let mut files: Vec<PathBuf> = older.into_iter().map(|(_, path)| path).collect();
    // A log of which only older files are left is checked as far as it goes.
    if path.exists() || files.is_empty() {
        files.push(path.to_path_buf());
    }
    files
}

pub(super) fn older_files(path: &Path) -> Vec<(u64, PathBuf)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let found = entry.file_name();
        let number = found.to_str()?.strip_prefix(&name)?.strip_prefix('.')?.parse().ok()?;
        Some((number, entry.path()))
    });
    numbered.collect()
}
