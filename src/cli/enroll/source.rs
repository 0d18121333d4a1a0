//! Where photos come from: what is found, in the order in which it is found, and how much of it is read ahead.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::metadata::Metadata;

/// Photos of more bytes are not sent: with its item such a photo still fits a message of the server's default size.
const PHOTO_BYTES_MAX: u64 = (64 << 20) - (256 << 10);

/// Bytes of the photos on their way, in steps of a KiB: a photo waits where those before it are large.
const STEPS_IN_FLIGHT_MAX: u32 = 256 << 10;
const STEP_BYTES: usize = 1 << 10;

/// As long as an id may be.
const ID_BYTES_MAX: usize = 128;

/// File names that are photos, also those that are refused: then with a reason.
const PHOTO_EXTENSIONS: [&str; 12] =
    ["jpg", "jpeg", "jpe", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "heic", "heif"];

/// Where a photo was found, as people are told and as programs are.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The file or the archive's entry; of a line that names none, empty.
    pub photo: String,
    /// The line of the manifest.
    pub line: Option<u64>,
}

impl Place {
    pub(super) fn of_photo(photo: impl Into<String>) -> Self {
        Self { photo: photo.into(), line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.photo.as_str()) {
            (None, photo) => write!(f, "{photo}"),
            (Some(line), "") => write!(f, "line {line}"),
            (Some(line), photo) => write!(f, "line {line}: {photo}"),
        }
    }
}

/// A photo that is enrolled next, or was sent and has no result yet.
pub(super) struct Item {
    pub place: Place,
    pub identity: String,
    pub key: String,
    pub display_name: String,
    pub metadata: Metadata,
    pub data: Vec<u8>,
    /// Its place among those in flight, and its bytes'.
    _room: [OwnedSemaphorePermit; 2],
}

/// What is told of a photo that is not sent.
pub(super) struct Unusable {
    pub place: Place,
    /// Where it is known.
    pub identity: String,
    pub key: String,
    pub reason: &'static str,
    pub message: String,
}

/// What a source gives.
pub(super) enum Event {
    Item(Box<Item>),
    Unusable(Box<Unusable>),
    /// Things that are no photos, in words.
    PassedOver(String),
}

/// A photo as a source finds it: nothing of it has been read yet.
pub(super) struct Found<'a> {
    pub place: Place,
    pub identity: String,
    pub key: String,
    pub display_name: String,
    pub metadata: Metadata,
    pub bytes: Bytes<'a>,
}

/// Where a photo's bytes are.
pub(super) enum Bytes<'a> {
    File(PathBuf),
    /// The next so many of an archive.
    Entry(&'a mut dyn Read, u64),
}

/// Nobody takes what is found: the command is ending.
#[derive(Debug, thiserror::Error)]
#[error("the command is ending")]
pub(super) struct Gone;

/// Takes what a source finds: reads a photo once there is room for it, and hands it on.
pub(super) struct Taker {
    events: mpsc::Sender<anyhow::Result<Event>>,
    room: Arc<Semaphore>,
    room_bytes: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
    /// A hash of each identity and key so far, where a source may have them twice: 8 bytes a photo.
    keys: Option<HashSet<u64>>,
    hasher: RandomState,
}

impl Taker {
    /// *Returns* what takes `in_flight` photos at a time, and where they come out.
    pub(super) fn new(in_flight: usize) -> (Self, mpsc::Receiver<anyhow::Result<Event>>) {
        let (events, taken) = mpsc::channel(1);
        let taker = Self {
            events,
            room: Arc::new(Semaphore::new(in_flight)),
            room_bytes: Arc::new(Semaphore::new(STEPS_IN_FLIGHT_MAX as usize)),
            runtime: tokio::runtime::Handle::current(),
            keys: None,
            hasher: RandomState::new(),
        };
        (taker, taken)
    }

    /// Refuses a key that an identity had before: the server would take the second photo for the first one, sent again.
    pub(super) fn refuse_repeated_keys(&mut self) {
        self.keys = Some(HashSet::new());
    }

    /// Takes a photo; waits for room first.
    ///
    /// *Errors*: [`Gone`], and what ends the source: an archive that cannot be read on. Files that cannot be read are
    /// unusable photos.
    pub(super) fn photo(&mut self, found: Found<'_>) -> anyhow::Result<()> {
        let Found { place, identity, key, display_name, metadata, bytes } = found;
        if let Some(keys) = &mut self.keys
            && !keys.insert(self.hasher.hash_one((&identity, &key)))
        {
            let message =
                format!("the key {key:?} of {identity:?} was there before; each photo of a person needs its own");
            return self.unusable(Unusable { place, identity, key, reason: "REPEATED_KEY", message });
        }
        let place_in_flight = self.wait(&self.room, 1)?;
        let data = match bytes {
            Bytes::File(path) => read_file(&path),
            Bytes::Entry(entry, size) => read_entry(entry, size)?,
        };
        let data = match data {
            Ok(data) => data,
            Err((reason, message)) => return self.unusable(Unusable { place, identity, key, reason, message }),
        };
        let steps = u32::try_from(data.len().div_ceil(STEP_BYTES)).unwrap_or(u32::MAX).min(STEPS_IN_FLIGHT_MAX);
        let bytes_in_flight = self.wait(&self.room_bytes, steps)?;
        let room = [place_in_flight, bytes_in_flight];
        self.give(Event::Item(Box::new(Item { place, identity, key, display_name, metadata, data, _room: room })))
    }

    /// *Errors*: [`Gone`].
    pub(super) fn unusable(&mut self, unusable: Unusable) -> anyhow::Result<()> {
        self.give(Event::Unusable(Box::new(unusable)))
    }

    /// *Errors*: [`Gone`].
    pub(super) fn passed_over(&mut self, what: String) -> anyhow::Result<()> {
        self.give(Event::PassedOver(what))
    }

    /// Tells what ended the source early.
    pub(super) fn failed(&mut self, error: anyhow::Error) {
        if !error.is::<Gone>() {
            // Without a receiver there is nobody to tell.
            let _ = self.events.blocking_send(Err(error));
        }
    }

    fn give(&self, event: Event) -> anyhow::Result<()> {
        Ok(self.events.blocking_send(Ok(event)).map_err(|_| Gone)?)
    }

    fn wait(&self, room: &Arc<Semaphore>, count: u32) -> anyhow::Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(room).acquire_many_owned(count);
        self.runtime.block_on(async {
            tokio::select! {
                permit = permit => Ok(permit?),
                () = self.events.closed() => Err(Gone.into()),
            }
        })
    }
}

/// A photo's bytes, or the reason and the words for why there are none.
type Read1 = Result<Vec<u8>, (&'static str, String)>;

fn read_file(path: &std::path::Path) -> Read1 {
    let unreadable = |error: std::io::Error| ("UNREADABLE", format!("cannot read {}: {error}", path.display()));
    // Not a pipe or a device: they may give nothing, or never end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(("UNREADABLE", format!("{} is not a file", path.display())));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut data = Vec::new();
    file.take(PHOTO_BYTES_MAX + 1).read_to_end(&mut data).map_err(unreadable)?;
    if data.len() as u64 > PHOTO_BYTES_MAX { Err(too_large()) } else { Ok(data) }
}

/// *Errors*: the archive's, from which there is no going on.
fn read_entry(entry: &mut dyn Read, size: u64) -> anyhow::Result<Read1> {
    if size > PHOTO_BYTES_MAX {
        return Ok(Err(too_large()));
    }
    // Not reserved by the size that the entry claims.
    let mut data = Vec::new();
    entry.take(PHOTO_BYTES_MAX).read_to_end(&mut data).context("it is cut short or damaged")?;
    anyhow::ensure!(data.len() as u64 == size, "it is cut short: {} of {size} bytes are there", data.len());
    Ok(Ok(data))
}

fn too_large() -> (&'static str, String) {
    ("PHOTO_TOO_LARGE", format!("larger than any photo that is sent, {} MiB", PHOTO_BYTES_MAX >> 20))
}

/// Makes an id of a name: the name, or where it is too long for one its beginning and a hash.
pub(super) fn id(name: &str) -> String {
    if name.len() <= ID_BYTES_MAX {
        return name.to_owned();
    }
    let hash: String = Sha256::digest(name).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let kept = name.floor_char_boundary(ID_BYTES_MAX - hash.len() - 1);
    format!("{}~{hash}", name.get(..kept).unwrap_or_default())
}

/// Tells whether a file's name is a photo's. `._a.jpg` is none: macOS keeps attributes of `a.jpg` there.
pub(in crate::cli) fn is_photo(file_name: &str) -> bool {
    let extension = file_name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    !file_name.starts_with("._") && extension.is_some_and(|extension| PHOTO_EXTENSIONS.contains(&extension.as_str()))
}

/// What a source gives, a line each, and how it ends.
#[cfg(any(test, feature = "fuzzing"))]
#[allow(clippy::expect_used, reason = "for tests and fuzzers")]
pub(super) async fn given(
    read: impl FnOnce(&mut Taker) -> anyhow::Result<()> + Send + 'static,
) -> (Vec<String>, anyhow::Result<()>) {
    // As many as an input has: none is let go of before the end.
    let (mut taker, mut events) = Taker::new(1 << 16);
    taker.refuse_repeated_keys();
    let reading = tokio::task::spawn_blocking(move || read(&mut taker));
    let (mut lines, mut items) = (Vec::new(), Vec::new());
    while let Some(event) = events.recv().await {
        lines.push(match event.expect("an event") {
            Event::Item(item) => {
                let mut metadata: Vec<_> = item.metadata.keys().map(|name| format!(" {name}")).collect();
                metadata.sort();
                let line = format!("{} {} {}{}", item.identity, item.key, item.data.len(), metadata.concat());
                items.push(item); // it holds its place
                line
            }
            Event::Unusable(unusable) => {
                let Unusable { place, reason, message, .. } = *unusable;
                format!("{reason} {place}: {message}")
            }
            Event::PassedOver(what) => format!("passed over: {what}"),
        });
    }
    (lines, reading.await.expect("no panic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_a_long_name_is_short_and_its_own() {
        let long = |end: &str| id(&format!("{}{end}", "é".repeat(120)));
        assert!(long("a.jpg").len() <= 128 && long("a.jpg") != long("b.jpg") && long("a.jpg") == long("a.jpg"));
        assert_eq!(id("a.jpg"), "a.jpg");
    }

    #[test]
    fn photo_is_known_by_its_name() {
        assert!(["a.jpg", "a.b.JPEG", "ä.webp", ".jpg"].into_iter().all(is_photo));
        assert!(!["jpg", "a.txt", "a.jpg.txt", "._a.jpg", ""].into_iter().any(is_photo));
    }

    #[tokio::test]
    async fn photos_beyond_those_in_flight_are_not_read() {
        let (mut taker, mut events) = Taker::new(2);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("1.jpg");
        std::fs::write(&path, b"x").expect("a file");
        let found = move |number: usize| Found {
            place: Place::default(),
            identity: "ann".to_owned(),
            key: number.to_string(),
            display_name: String::new(),
            metadata: Metadata::new(),
            bytes: Bytes::File(path.clone()),
        };
        let reading = tokio::task::spawn_blocking(move || {
            (0..4).map(|number| taker.photo(found(number))).find_map(Result::err).map(|error| error.is::<Gone>())
        });
        let (first, second) = (events.recv().await, events.recv().await);
        assert!(events.try_recv().is_err(), "two are in flight");
        drop(first);
        let third = events.recv().await;
        drop(events);
        assert_eq!(reading.await.expect("no panic"), Some(true), "the fourth finds nobody");
        drop((second, third));
    }

    #[tokio::test]
    async fn file_that_is_no_photo_is_unusable() {
        let (lines, end) = given(|taker| {
            for (key, path) in [("a", "/nowhere/a.jpg"), ("b", "/dev/zero"), ("c", "/")] {
                let (display_name, metadata) = (String::new(), Metadata::new());
                let (place, identity, key) = (Place::of_photo(key), "ann".to_owned(), key.to_owned());
                let bytes = Bytes::File(path.into());
                taker.photo(Found { place, identity, key, display_name, metadata, bytes })?;
            }
            Ok(())
        })
        .await;
        end.expect("read");
        assert!(lines.iter().all(|line| line.starts_with("UNREADABLE ")), "{lines:?}");
        assert_eq!(lines.len(), 3);
    }
}
