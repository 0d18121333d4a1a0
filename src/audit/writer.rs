//! What writes the log: a thread of its own, a few lines and one sync at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::chain::{Chained, Head, older_files};
use crate::error::Error;

/// Entries that calls have taken a place for, or that wait to be written.
const PLACES: usize = 4_096;

/// Lines between two syncs at most.
const GROUP_MAX: usize = 256;

/// From this size on a new file is begun; the old one gets a number behind its name.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// How long to wait after a failed write.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// How long a server that stops waits for a disk that is full.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Where the last line is looked for: longer than any, since an entry names few galleries.
const TAIL_BYTES: u64 = 1 << 20;

const UNWRITABLE: Error = Error::Unavailable("the audit log cannot be written, and no call goes without an entry");

/// A log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened, or another process has it.
    #[error("cannot open the audit log {}", path.display())]
    Unopenable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The end of the file is no line of an audit log.
    #[error("the end of {} is not that of an audit log; see `facematch audit verify`, and name another file", path.display())]
    NotALog {
        /// Which.
        path: PathBuf,
    },
}

/// What is noted of a call.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it ended.
    pub time: SystemTime,
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

/// A place for one entry.
pub struct EntryPlace(mpsc::OwnedPermit<Waiting>);

/// An entry, and who waits for it.
type Waiting = (Entry, oneshot::Sender<()>);

impl EntryPlace {
    /// Hands the entry over to be written. What it returns ends when the entry is on the disk, or will never be.
    pub fn fill(self, entry: Entry) -> oneshot::Receiver<()> {
        let (written, is_written) = oneshot::channel();
        drop(self.0.send((entry, written)));
        is_written
    }
}

/// An open log.
pub struct AuditLog {
    /// Taken when the log is closed.
    places: Mutex<Option<mpsc::Sender<Waiting>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    is_failing: Arc<AtomicBool>,
}

impl AuditLog {
    /// Opens a log or begins one. What a crash left of a last line is cut off.
    ///
    /// *Errors*: [`AuditError`]. Blocks.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let unopenable = |source| AuditError::Unopenable { path: path.to_path_buf(), source };
        let mut file = Files::open(path).map_err(unopenable)?;
        let head = match file.head().map_err(unopenable)? {
            Tail::Empty => Head::default(),
            Tail::Line(line) => Head::of_last(&line).ok_or_else(|| AuditError::NotALog { path: path.to_path_buf() })?,
        };
        let (places, entries) = mpsc::channel(PLACES);
        let is_failing = Arc::new(AtomicBool::new(false));
        let mut writer = Writer { files: file, head, is_failing: Arc::clone(&is_failing) };
        let thread = std::thread::Builder::new().name("audit-writer".into()).spawn(move || writer.run(entries));
        let thread = thread.map_err(unopenable)?;
        Ok(Self { places: Mutex::new(Some(places)), thread: Mutex::new(Some(thread)), is_failing })
    }

    /// Takes a place for an entry.
    ///
    /// *Errors*: [`Error::Unavailable`] where nothing can be written, or what is to be written has no place.
    pub fn place(&self) -> Result<EntryPlace, Error> {
        if self.is_failing.load(Ordering::Acquire) {
            return Err(UNWRITABLE);
        }
        let places = lock(&self.places).clone().ok_or(UNWRITABLE)?;
        places.try_reserve_owned().map(EntryPlace).map_err(|_| UNWRITABLE)
    }

    /// Writes what waits and closes the log. Blocks; what cannot be written within ten seconds is lost, and told of.
    pub fn close(&self) {
        drop(lock(&self.places).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the audit log's writer panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    files: Files,
    head: Head,
    is_failing: Arc<AtomicBool>,
}

impl Writer {
    fn run(&mut self, mut entries: mpsc::Receiver<Waiting>) {
        let (mut group, mut failing_since) = (Vec::new(), None);
        while entries.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            while let Err(error) = self.write(&group) {
                if !self.is_failing.swap(true, Ordering::AcqRel) {
                    tracing::error!(%error, "the audit log cannot be written; calls that need an entry are refused until it can");
                }
                let since = *failing_since.get_or_insert_with(Instant::now);
                if entries.is_closed() && since.elapsed() >= CLOSE_WAIT_MAX {
                    tracing::error!(lost = group.len() + entries.len(), "entries of the audit log are lost");
                    return;
                }
                std::thread::sleep(RETRY_WAIT);
            }
            if self.is_failing.swap(false, Ordering::AcqRel) {
                tracing::info!("the audit log can be written again");
                failing_since = None;
            }
            for (_, written) in group.drain(..) {
                // Whoever waited may have gone.
                let _ = oneshot::Sender::send(written, ());
            }
        }
    }

    fn write(&mut self, group: &[Waiting]) -> std::io::Result<()> {
        let mut head = self.head.clone();
        let lines = group.iter().map(|(entry, _)| head.line(chained(entry))).collect::<std::io::Result<String>>()?;
        self.files.append(&lines)?;
        self.head = head;
        Ok(())
    }
}

fn chained(entry: &Entry) -> Chained {
    let Entry { time, who, peer, call, galleries, code, request_id } = entry.clone();
    let time = prost_types::Timestamp::from(time).to_string();
    Chained { n: 0, time, who, peer, call, galleries, code, request_id }
}

/// The last line of a file.
enum Tail {
    Empty,
    Line(String),
}

/// The file that is written to.
struct Files {
    path: PathBuf,
    file: File,
    /// Bytes that are known to be whole lines.
    length: u64,
}

impl Files {
    fn open(path: &Path) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => std::io::Error::other("another process has it"),
            std::fs::TryLockError::Error(error) => error,
        })?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_path_buf(), file, length })
    }

    /// Cuts off a line without an end, and returns the last line; of the newest older file where this one is empty.
    fn head(&mut self) -> std::io::Result<Tail> {
        let (start, tail) = tail(&mut self.file)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < tail.len() {
            tracing::warn!("the last line of the audit log was cut off, by a crash or a full disk; it is removed");
            self.length = start + whole as u64;
            self.file.set_len(self.length)?;
        }
        if whole > 0 {
            return Ok(Tail::Line(last_line(tail.get(..whole).unwrap_or_default())));
        }
        match older_files(&self.path).into_iter().max() {
            Some((_, older)) => Ok(Tail::Line(last_line(&tail_of(&older)?))),
            None => Ok(Tail::Empty),
        }
    }

    /// Appends lines, wholly or not at all, and syncs them.
    fn append(&mut self, lines: &str) -> std::io::Result<()> {
        if self.length >= FILE_BYTES_MAX {
            self.begin_another()?;
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        if let Err(error) = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data()) {
            // Half a line is none: who reads the log meanwhile finds whole ones.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    fn begin_another(&mut self) -> std::io::Result<()> {
        let number = older_files(&self.path).into_iter().map(|(number, _)| number).max().unwrap_or(0) + 1;
        let mut older = self.path.clone().into_os_string();
        older.push(format!(".{number}"));
        match std::fs::rename(&self.path, &older) {
            // An attempt of before came this far.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        *self = Self::open(&self.path)?;
        Ok(())
    }
}

fn tail(file: &mut File) -> std::io::Result<(u64, Vec<u8>)> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok((start, tail))
}

fn tail_of(path: &Path) -> std::io::Result<Vec<u8>> {
    Ok(tail(&mut File::open(path)?)?.1)
}

fn last_line(lines: &[u8]) -> String {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    let begin = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    String::from_utf8_lossy(lines.get(begin..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::chain::{ChainError, verify};
    use super::*;

    fn entry(call: &str) -> Entry {
        Entry {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            who: "key abc".into(),
            peer: "127.0.0.1:1".into(),
            call: call.into(),
            galleries: vec!["staff".into()],
            code: "OK".into(),
            request_id: "r".into(),
        }
    }

    fn write(path: &Path, calls: &[&str]) {
        let log = AuditLog::open(path).expect("a log");
        calls.iter().for_each(|call| drop(log.place().expect("a place").fill(entry(call))));
        log.close();
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).expect("a file").lines().map(str::to_owned).collect()
    }

    fn broken_at(path: &Path) -> u64 {
        match verify(path, None, |_, _| {}) {
            Err(ChainError::Broken { line, .. }) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn log_goes_on_after_a_restart_and_verifies() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        write(&path, &["a", "b"]);
        write(&path, &["c"]);
        let mut calls = Vec::new();
        let head = verify(&path, None, |entry, _| calls.push(entry.call.clone())).expect("whole");
        assert_eq!((head.count, calls.join("")), (3, "abc".to_owned()));
        assert!(lines(&path)[2].starts_with(&head.hash));
    }

    #[test]
    fn line_that_was_changed_taken_out_or_put_in_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        write(&path, &["a", "b", "c", "d"]);
        let whole = lines(&path);
        type Damage = fn(&mut Vec<String>);
        let damages: [(Damage, u64); 5] = [
            (|lines| lines[1] = lines[1].replace("staff", "stuff"), 2),
            (|lines| drop(lines.remove(1)), 2),
            (|lines| lines.swap(1, 2), 2),
            (|lines| lines.insert(2, lines[1].clone()), 3),
            (|lines| drop(lines.remove(0)), 1),
        ];
        for (damage, line) in damages {
            let mut lines = whole.clone();
            damage(&mut lines);
            std::fs::write(&path, lines.join("\n") + "\n").expect("write");
            assert_eq!(broken_at(&path), line);
        }
        // Taken out at the end: only the head that was noted tells.
        std::fs::write(&path, whole[..3].join("\n") + "\n").expect("write");
        assert_ne!(verify(&path, None, |_, _| {}).expect("whole").hash, whole[3][..64]);
    }

    #[test]
    fn half_a_line_of_a_crash_is_cut_off_and_what_is_no_log_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        write(&path, &["a", "b"]);
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, &text[..text.len() - 9]).expect("write");
        write(&path, &["c"]);
        assert_eq!(verify(&path, None, |_, _| {}).expect("whole").count, 2);
        let other = folder.path().join("other.txt");
        std::fs::write(&other, "something else\n").expect("write");
        assert!(matches!(AuditLog::open(&other), Err(AuditError::NotALog { .. })));
        assert_eq!(std::fs::read_to_string(&other).expect("a file"), "something else\n");
    }

    #[test]
    fn older_files_come_first_and_the_chain_goes_through_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        for number in 1..=11 {
            write(&path, &["a", "b"]);
            if number < 11 {
                std::fs::rename(&path, folder.path().join(format!("audit.log.{number}"))).expect("rename");
            }
        }
        assert_eq!(verify(&path, None, |_, _| {}).expect("whole").count, 22);
        std::fs::remove_file(folder.path().join("audit.log.2")).expect("remove");
        assert_eq!(broken_at(&path), 1);
    }

    #[test]
    fn log_whose_beginning_is_kept_elsewhere_verifies_from_its_head_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, older) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        write(&path, &["a", "b", "c"]);
        std::fs::rename(&path, &older).expect("rename");
        write(&path, &["d", "e"]);
        let kept = verify(&older, None, |_, _| {}).expect("whole");
        std::fs::rename(&older, folder.path().join("archived")).expect("archive");
        assert_eq!(broken_at(&path), 1);
        let head = verify(&path, Some(&kept.hash), |_, _| {}).expect("whole from there");
        assert_eq!((kept.count, head.count), (3, 5));
        // From another line it is not, and what is taken out after it shows as ever.
        assert!(verify(&path, Some(&head.hash), |_, _| {}).is_err());
        write(&path, &["f"]);
        let all = lines(&path);
        std::fs::write(&path, [&all[0], "\n", &all[2], "\n"].concat()).expect("write");
        assert!(matches!(verify(&path, Some(&kept.hash), |_, _| {}), Err(ChainError::Broken { line: 2, .. })));
    }

    #[test]
    fn second_process_does_not_get_the_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let log = AuditLog::open(&path).expect("a log");
        assert!(matches!(AuditLog::open(&path), Err(AuditError::Unopenable { .. })));
        log.close();
        assert!(matches!(log.place(), Err(Error::Unavailable(_))));
    }
}
