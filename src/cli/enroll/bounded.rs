//! A file or stdin that is read to its end, however long it is, a part of bounded size at a time.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;

/// Bytes that are read of a file at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// What is read, and how far.
pub(super) struct Input {
    pub reader: BufReader<Counted>,
    /// Bytes, where the end is known.
    pub bytes: Option<u64>,
    pub read: Arc<AtomicU64>,
}

impl Input {
    /// Opens a file, or stdin.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let (reader, bytes): (Box<dyn Read + Send>, _) = match path {
            None => (Box::new(std::io::stdin()), None),
            Some(path) => {
                let cannot_read = || format!("cannot read {}", path.display());
                let file = std::fs::File::open(path).with_context(cannot_read)?;
                let about = file.metadata().with_context(cannot_read)?;
                anyhow::ensure!(!about.is_dir(), "{} is a folder", path.display());
                (Box::new(file), about.is_file().then_some(about.len()))
            }
        };
        let counted = Counted { reader, read: Arc::clone(&read) };
        Ok(Self { reader: BufReader::with_capacity(BUFFER_BYTES, counted), bytes, read })
    }

    /// Reads what a test states.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Self {
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { reader: Box::new(std::io::Cursor::new(bytes)), read: Arc::clone(&read) };
        Self { reader: BufReader::new(counted), bytes: None, read }
    }

    /// Tells whether it is compressed, without taking anything of it.
    pub(super) fn is_gzip(&mut self) -> anyhow::Result<bool> {
        Ok(self.reader.fill_buf().context("cannot read")?.starts_with(&[0x1f, 0x8b]))
    }
}

/// Counts what is read.
pub(super) struct Counted {
    reader: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// How much a reader below a parser may still give, and whether it came to its end: shared with whoever drives the parser.
#[derive(Default)]
pub(super) struct Allowance {
    left: AtomicU64,
    ended: AtomicBool,
}

impl Allowance {
    /// Allows the next part so many bytes.
    pub(super) fn set(&self, bytes: u64) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// Tells whether the reader came to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// A reader that fails where a part is larger than is allowed: a parser may hold a whole part in memory.
pub(super) struct Bounded<R> {
    reader: R,
    allowance: Arc<Allowance>,
}

impl<R> Bounded<R> {
    pub(super) fn new(reader: R) -> (Self, Arc<Allowance>) {
        let allowance = Arc::new(Allowance::default());
        (Self { reader, allowance: Arc::clone(&allowance) }, allowance)
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.allowance.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(std::io::Error::other("a part of it is larger than any that is read"));
        }
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.reader.read(buffer.get_mut(..room).unwrap_or_default())?;
        self.allowance.left.fetch_sub(read as u64, Ordering::Relaxed);
        if read == 0 && room > 0 {
            self.allowance.ended.store(true, Ordering::Relaxed);
        }
        Ok(read)
    }
}
