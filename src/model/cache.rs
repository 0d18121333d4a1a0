//! Tuned networks on disk, so that a start after the first costs nothing. A cache: it may be deleted, damaged or not
//! writable, and all that is lost is time.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ort::environment::Environment;
use sha2::{Digest, Sha256};

use super::session::{self, Network};

/// Grows with every change to what tuning does, so that what an older version left is not used.
const VERSION: u32 = 1;

/// First bytes of a file.
const MAGIC: &[u8; 8] = b"FMTUNED\x01";

const HASH_BYTES: usize = 32;

/// A folder of tuned networks: each in a file named by what it was made of.
pub(super) struct Cache {
    folder: PathBuf,
    machine: String,
}

impl Cache {
    pub fn new(folder: &Path) -> Self {
        // A graph that was laid out for one processor may be slow on another, or not run at all.
        Self { folder: folder.to_path_buf(), machine: format!("{} {}", ort::info(), processor()) }
    }

    /// A hash of the model, the runtime, the processor and the version of tuning.
    fn key(&self, model_sha256: &str) -> [u8; HASH_BYTES] {
        let mut hash = Sha256::new();
        for part in [&VERSION.to_string(), model_sha256, &self.machine] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn path(&self, key: &[u8]) -> PathBuf {
        let digits: String = key.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{digits}.network"))
    }

    /// Reads a network, where there is an undamaged one.
    pub fn read(&self, model_sha256: &str) -> Option<Network> {
        let key = self.key(model_sha256);
        let path = self.path(&key);
        let file = std::fs::read(&path).ok()?;
        let network = content(&file, &key);
        if network.is_none() {
            tracing::warn!(path = %path.display(), "a tuned network of the cache is damaged; tuning again");
        }
        network.map(|bytes| Network { bytes: bytes.into(), is_optimized: true })
    }

    /// Has the runtime save the optimised graph of a network, and keeps it. `None`, and a line in the log, where that
    /// cannot be done.
    pub fn write(&self, model_sha256: &str, network: &Network, environment: &Environment) -> Option<Network> {
        let key = self.key(model_sha256);
        let written = self.write_file(&key, network, environment);
        let kept = written.inspect_err(|error| {
            tracing::warn!(folder = %self.folder.display(), error, "a tuned network cannot be kept: the next start tunes again");
        });
        kept.ok()
    }

    fn write_file(&self, key: &[u8], network: &Network, environment: &Environment) -> Result<Network, String> {
        let path = self.path(key);
        create_private(&self.folder).map_err(|error| error.to_string())?;
        let part = Part::new(&path);
        session::save_optimized(environment, network, &part.0).map_err(|error| error.to_string())?;
        let bytes = std::fs::read(&part.0).map_err(|error| error.to_string())?;
        let replace = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&part.0)?;
            for written in [MAGIC.as_slice(), key, &Sha256::digest(&bytes), &bytes] {
                file.write_all(written)?;
            }
            // Not synced: a file that a crash cut short is noticed by its hash.
            std::fs::rename(&part.0, &path)
        };
        replace().map_err(|error| error.to_string())?;
        Ok(Network { bytes: bytes.into(), is_optimized: true })
    }
}

/// The network in a file: its first bytes, its key and its hash must be right.
fn content<'a>(file: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let rest = file.strip_prefix(MAGIC)?.strip_prefix(key)?;
    let (hash, bytes) = rest.split_at_checked(HASH_BYTES)?;
    (Sha256::digest(bytes).as_slice() == hash).then_some(bytes)
}

/// A file under a temporary name, removed unless it was renamed. Nobody else's: two starts at a time do not meet in it.
struct Part(PathBuf);

impl Part {
    fn new(path: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(path.with_extension(format!("{process}-{count}.part")))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Makes a folder that nobody else may write to: who can put a network there decides who is recognised.
fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// What tells this processor from others: model and instruction sets, where the system tells them.
fn processor() -> String {
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = described.split("\n\n").next().unwrap_or_default();
    let telling = ["model name", "flags", "CPU implementer", "CPU part", "Features"];
    let lines = first.lines().filter(|line| telling.iter().any(|name| line.starts_with(name)));
    lines.fold(std::env::consts::ARCH.to_owned(), |all, line| format!("{all}\n{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_a_damaged_or_foreign_file_is_none() {
        let (key, bytes) = ([7; HASH_BYTES], b"a network");
        let file = [MAGIC.as_slice(), &key, &Sha256::digest(bytes), bytes].concat();
        assert_eq!(content(&file, &key), Some(bytes.as_slice()));
        assert_eq!(content(&file, &[8; HASH_BYTES]), None);
        for position in 0..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= 0x10;
            assert_eq!(content(&damaged, &key), None, "byte {position}");
            assert_eq!(content(&file[..position], &key), None, "cut at {position}");
        }
    }

    #[test]
    fn key_differs_by_model_and_machine() {
        let cache = |machine: &str| Cache { folder: PathBuf::new(), machine: machine.to_owned() };
        assert_ne!(cache("a").key("1"), cache("a").key("2"));
        assert_ne!(cache("a").key("1"), cache("b").key("1"));
    }
}
