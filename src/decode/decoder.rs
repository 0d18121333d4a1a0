//! Where photos are decoded: in this process, or in others that have nothing to lose.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(target_os = "linux")]
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use image::RgbImage;

#[cfg(target_os = "linux")]
use super::apart::Apart;
use super::{ALLOCATION_BYTES_PER_PIXEL, PhotoLimits, decode};
use crate::error::Error;

/// How photos are decoded in processes of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// The program that decodes: this one, which knows what to do by its first argument.
    pub program: PathBuf,
    /// A process that takes longer over a photo is ended.
    pub time_max: Duration,
    /// The memory that a process may take, besides the program's own.
    pub memory_bytes_max: u64,
}

/// The largest photo that is allowed takes about a second on a slow core; twenty of them where the machine is overloaded.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Of what is upright, converted, and on its way; and of the decoders' tables.
const RESULT_BYTES_PER_PIXEL: u64 = 4;
const RESERVE_BYTES: u64 = 64 << 20;

impl Isolation {
    /// Returns what photos within some limits take, by this program.
    pub fn of(limits: &PhotoLimits) -> Self {
        let pixels = limits.pixels_max.saturating_mul(ALLOCATION_BYTES_PER_PIXEL + RESULT_BYTES_PER_PIXEL);
        Self {
            // Not its path, where an upgrade may have put another by now.
            program: "/proc/self/exe".into(),
            time_max: TIME_MAX,
            memory_bytes_max: pixels.saturating_add(limits.bytes_max as u64).saturating_add(RESERVE_BYTES),
        }
    }
}

/// Why a process that decodes photos does not start.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The operating system refuses it.
    #[error("cannot start a process that decodes photos")]
    Start(#[source] std::io::Error),
    /// It cannot set its limits.
    #[error("a process that decodes photos cannot set its limits: {0}")]
    Confine(String),
    /// It ends, or says something else, before it is ready.
    #[error("a process that decodes photos does not come up: {0}")]
    Silent(String),
    /// There is none on this system.
    #[error("photos cannot be decoded in processes of their own on this system")]
    Unsupported,
}

/// Makes the decoders of workers, one each, and knows how they are.
pub struct Decoders {
    limits: PhotoLimits,
    isolation: Option<Isolation>,
    down: Arc<AtomicUsize>,
}

impl Decoders {
    /// Takes what photos may cost, and where they are decoded: `None` is this process.
    pub fn new(limits: PhotoLimits, isolation: Option<Isolation>) -> Self {
        Self { limits, isolation, down: Arc::default() }
    }

    /// Makes one. Its process starts with the first photo, or by [`Decoder::start`].
    pub fn open(&self) -> Decoder {
        match &self.isolation {
            #[cfg(target_os = "linux")]
            Some(isolation) => {
                let apart = Apart::new(self.limits, isolation.clone(), Down::new(&self.down));
                Decoder(Place::Apart(Arc::new(Mutex::new(apart))))
            }
            _ => self.limits.into(),
        }
    }

    /// Starts a process and ends it, where there are to be any. Returns what of its limits is not in force, if something
    /// is not.
    ///
    /// *Errors*: [`DecoderError`].
    pub fn try_one(&self) -> Result<Option<String>, DecoderError> {
        #[cfg(target_os = "linux")]
        return self.isolation.as_ref().map_or(Ok(None), |isolation| super::apart::try_one(&self.limits, isolation));
        #[cfg(not(target_os = "linux"))]
        return if self.isolation.is_none() { Ok(None) } else { Err(DecoderError::Unsupported) };
    }

    /// Tells whether none has a process that could not be started when it was last needed.
    pub fn are_well(&self) -> bool {
        self.down.load(Ordering::Acquire) == 0
    }
}

/// Counted for as long as a decoder's process cannot be started.
#[derive(Debug)]
pub(super) struct Down {
    count: Arc<AtomicUsize>,
    is_down: bool,
}

#[cfg(target_os = "linux")]
impl Down {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        Self { count: Arc::clone(count), is_down: false }
    }

    pub(super) fn set(&mut self, is_down: bool) {
        match (self.is_down, is_down) {
            (false, true) => drop(self.count.fetch_add(1, Ordering::AcqRel)),
            (true, false) => drop(self.count.fetch_sub(1, Ordering::AcqRel)),
            _ => {}
        }
        self.is_down = is_down;
    }
}

#[cfg(target_os = "linux")]
impl Drop for Down {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Decodes the photos of one worker. A clone is the same decoder.
#[derive(Clone)]
pub struct Decoder(Place);

#[derive(Clone)]
enum Place {
    Here(PhotoLimits),
    #[cfg(target_os = "linux")]
    Apart(Arc<Mutex<Apart>>),
}

impl From<PhotoLimits> for Decoder {
    /// Decodes in this process.
    fn from(limits: PhotoLimits) -> Self {
        Self(Place::Here(limits))
    }
}

impl Decoder {
    /// Starts its process, where it has one. A process ends with the thread that started it, so this is for the thread that
    /// will decode. What goes wrong is logged, and tried again with the next photo.
    pub fn start(&self) {
        #[cfg(target_os = "linux")]
        if let Place::Apart(apart) = &self.0 {
            drop(lock(apart).start());
        }
    }

    /// Decodes a photo: see [`decode`].
    ///
    /// *Errors*: [`Error::Photo`]; [`Error::Unavailable`] where its process cannot be started.
    pub fn decode(&self, photo: &[u8]) -> Result<RgbImage, Error> {
        match &self.0 {
            Place::Here(limits) => Ok(decode(photo, limits)?),
            #[cfg(target_os = "linux")]
            Place::Apart(apart) => lock(apart).decode(photo),
        }
    }

    /// Takes the memory of a picture, for the next one.
    pub fn take_back(&self, picture: RgbImage) {
        match &self.0 {
            Place::Here(_) => drop(picture),
            #[cfg(target_os = "linux")]
            Place::Apart(apart) => lock(apart).take_back(picture),
        }
    }

    /// Returns the id of its process, where it has one that runs.
    pub fn process_id(&self) -> Option<u32> {
        match &self.0 {
            Place::Here(_) => None,
            #[cfg(target_os = "linux")]
            Place::Apart(apart) => lock(apart).process_id(),
        }
    }
}

#[cfg(target_os = "linux")]
fn lock(apart: &Mutex<Apart>) -> std::sync::MutexGuard<'_, Apart> {
    apart.lock().unwrap_or_else(PoisonError::into_inner)
}
