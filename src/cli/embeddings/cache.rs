//! Templates by the photo they are of, in a file that grows: what is written is kept, whenever the program ends.
//!
//! The file: a line with its version, the dimension (u32), then records: hash of the photo (32 bytes), length of a reason
//! (u16; 0: a template follows), the reason or the values (f32), CRC-32 of all that; little-endian. A record that is not
//! whole, as the last may be after a crash, is cut off with what follows, and computed again.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use super::Hash;

const MAGIC: &[u8] = b"facematch embeddings 1\n";

/// What is known of a photo.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Known {
    /// Values of unit length.
    Template(Box<[f32]>),
    /// The reason that it has no template.
    Failure(String),
}

/// All that is known, and the file that keeps it.
pub(super) struct Cache {
    known: HashMap<Hash, Known>,
    file: Option<File>,
    waiting: Vec<u8>,
}

/// Bytes that wait before they are written: some ten templates, a second's work at most.
const WAITING_MAX: usize = 16 * 1_024;

impl Cache {
    /// Makes one that is gone with the process.
    pub fn in_memory() -> Self {
        Self { known: HashMap::new(), file: None, waiting: Vec::new() }
    }

    /// Opens a file, or makes it. Nobody else may use it meanwhile.
    pub fn open(path: &Path, dimension: usize) -> anyhow::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        file.try_lock().map_err(|_| anyhow::anyhow!("another command is using it"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let header = [MAGIC, &(dimension as u32).to_le_bytes()].concat();
        let mut known = HashMap::new();
        let good = match bytes.strip_prefix(header.as_slice()) {
            Some(mut rest) => {
                while let Some((hash, record, after)) = parse(rest, dimension) {
                    known.insert(hash, record);
                    rest = after;
                }
                bytes.len() - rest.len()
            }
            None => 0,
        };
        if good < bytes.len() {
            file.set_len(good as u64)?;
        }
        if good == 0 {
            file.write_all(&header)?;
        }
        Ok(Self { known, file: Some(file), waiting: Vec::new() })
    }

    pub fn get(&self, hash: &Hash) -> Option<&Known> {
        self.known.get(hash)
    }

    pub fn put(&mut self, hash: Hash, known: Known) -> std::io::Result<()> {
        if self.file.is_some() {
            self.waiting.extend_from_slice(&record(&hash, &known));
            if self.waiting.len() >= WAITING_MAX {
                self.flush()?;
            }
        }
        self.known.insert(hash, known);
        Ok(())
    }

    pub fn flush(&mut self) -> std::io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(&self.waiting)?;
        }
        self.waiting.clear();
        Ok(())
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Where a run was broken off; nobody is left to be told of an error.
        let _ = self.flush();
    }
}

fn record(hash: &Hash, known: &Known) -> Vec<u8> {
    let mut record = hash.to_vec();
    match known {
        Known::Template(values) => {
            record.extend(0u16.to_le_bytes());
            values.iter().for_each(|value| record.extend(value.to_le_bytes()));
        }
        Known::Failure(reason) => {
            record.extend((reason.len() as u16).to_le_bytes());
            record.extend(reason.as_bytes());
        }
    }
    record.extend(crc32fast::hash(&record).to_le_bytes());
    record
}

fn parse(bytes: &[u8], dimension: usize) -> Option<(Hash, Known, &[u8])> {
    let (hash, rest) = bytes.split_first_chunk::<32>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let reason_bytes = usize::from(u16::from_le_bytes(*length));
    let content_bytes = if reason_bytes == 0 { dimension * 4 } else { reason_bytes };
    let (content, rest) = rest.split_at_checked(content_bytes)?;
    let (stated, rest) = rest.split_first_chunk::<4>()?;
    let checked = bytes.get(..34 + content_bytes)?;
    if crc32fast::hash(checked) != u32::from_le_bytes(*stated) {
        return None;
    }
    let known = if reason_bytes == 0 {
        Known::Template(content.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
    } else {
        Known::Failure(String::from_utf8(content.to_vec()).ok()?)
    };
    Some((*hash, known, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_end_was_cut_off_the_rest_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.embeddings");
        let records = [
            ([1; 32], Known::Template([0.6, 0.8].into())),
            ([2; 32], Known::Failure("NO_FACE".to_owned())),
            ([3; 32], Known::Template([1.0, 0.0].into())),
        ];
        {
            let mut cache = Cache::open(&path, 2).expect("a cache");
            records.iter().for_each(|(hash, known)| cache.put(*hash, known.clone()).expect("put"));
            assert!(Cache::open(&path, 2).is_err(), "in use");
        }
        let whole = std::fs::read(&path).expect("the file");
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).expect("cut");
            let mut cache = Cache::open(&path, 2).expect("a cache");
            let known = records.iter().filter(|(hash, known)| cache.get(hash) == Some(known)).count();
            assert_eq!(known, cache.known.len());
            records.iter().skip(known).for_each(|(hash, known)| cache.put(*hash, known.clone()).expect("put"));
            drop(cache);
            assert_eq!(std::fs::read(&path).expect("the file"), whole, "cut at {length}");
        }
        let mut damaged = whole.clone();
        damaged[60] ^= 1;
        std::fs::write(&path, &damaged).expect("damage");
        assert!(Cache::open(&path, 2).expect("a cache").known.len() < 3);
        // Another dimension is another pack's.
        std::fs::write(&path, &whole).expect("whole");
        assert!(Cache::open(&path, 3).expect("a cache").known.is_empty());
    }
}
