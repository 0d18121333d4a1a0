//! Decoding in a process of its own (`worker.rs`): what a photo can do to a decoder, it does to that. Nothing that the process
//! says is trusted: its pixels are pixels, and everything else is checked before it is acted on.
//!
//! It speaks by a socket rather than by pipes, for sockets know how long they may take. A picture costs a copy in and a copy
//! out; what cost more was the fresh memory of each, so that of the last picture is used again.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::RgbImage;

use super::decoder::{DecoderError, Down, Isolation};
use super::frames::{self, Kind, Reply};
use super::worker::Task;
use super::{DecoderEnd, PhotoError, PhotoLimits, check_bytes};
use crate::error::Error;

/// How long a process may take to come up: milliseconds, but not on a machine that swaps.
const START_TIME_MAX: Duration = Duration::from_secs(10);

/// The largest picture whose memory is kept for the next: one of 16 megapixels, as phones take them.
const SPARE_BYTES_MAX: usize = 48 << 20;

/// A decoder whose process is started when it is needed, and again when it has died.
pub(super) struct Apart {
    limits: PhotoLimits,
    isolation: Isolation,
    process: Option<Process>,
    spare: Vec<u8>,
    down: Down,
}

impl Apart {
    pub(super) fn new(limits: PhotoLimits, isolation: Isolation, down: Down) -> Self {
        Self { limits, isolation, process: None, spare: Vec::new(), down }
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    pub(super) fn take_back(&mut self, picture: RgbImage) {
        let memory = picture.into_raw();
        if memory.capacity() <= SPARE_BYTES_MAX && memory.capacity() > self.spare.capacity() {
            self.spare = memory;
        }
    }

    /// Starts the process, unless there is one that lives.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        // One that died while it had no photo is no photo's fault.
        if self.process.as_mut().is_some_and(Process::has_ended) {
            tracing::warn!(process = self.process_id(), "a process that decodes photos has died");
            self.process = None;
        }
        if self.process.is_none() {
            let started = Process::start(&self.limits, &self.isolation);
            self.down.set(started.is_err());
            let (process, _) = started.map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "photos cannot be decoded");
                Error::Unavailable("photos cannot be decoded: no process for it can be started")
            })?;
            self.process = Some(process);
        }
        Ok(())
    }

    pub(super) fn decode(&mut self, photo: &[u8]) -> Result<RgbImage, Error> {
        let (_, stated) = check_bytes(photo, &self.limits)?;
        self.start()?;
        let Some(mut process) = self.process.take() else { return Err(Error::internal("a decoder has no process")) };
        let asked = Asked { photo, stated, limits: &self.limits, time_max: self.isolation.time_max };
        match process.decode(&asked, &mut self.spare) {
            Ok(decoded) => {
                self.process = Some(process);
                Ok(decoded?)
            }
            Err(how) => {
                let (id, ended) = (process.child.id(), process.end());
                tracing::warn!(process = id, %how, ended, "a photo ended the process that decoded it");
                Err(PhotoError::DecoderDied { how }.into())
            }
        }
    }
}

/// A photo, and what may come of it.
struct Asked<'a> {
    photo: &'a [u8],
    /// Width and height in its header.
    stated: Option<(u32, u32)>,
    limits: &'a PhotoLimits,
    time_max: Duration,
}

impl Asked<'_> {
    /// Tells whether it is as large as the photo says; upright, it may have been turned.
    fn is_answered_by(&self, width_px: u32, height_px: u32) -> bool {
        [(width_px, height_px), (height_px, width_px)].map(Some).contains(&self.stated)
    }
}

/// Starts a process and ends it. Returns what of its limits is not in force, if something is not.
pub(super) fn try_one(limits: &PhotoLimits, isolation: &Isolation) -> Result<Option<String>, DecoderError> {
    Process::start(limits, isolation).map(|(_, lacking)| Some(lacking).filter(|text| !text.is_empty()))
}

struct Process {
    child: Child,
    socket: UnixStream,
}

impl Process {
    /// Returns it once it has given up what it could do, with what it could not give up.
    fn start(limits: &PhotoLimits, isolation: &Isolation) -> Result<(Self, String), DecoderError> {
        let (socket, theirs) = UnixStream::pair().map_err(DecoderError::Start)?;
        let task = Task { limits: *limits, memory_bytes_max: isolation.memory_bytes_max };
        let mut command = Command::new(&isolation.program);
        command.args(task.arguments()).env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Self { child: command.spawn().map_err(DecoderError::Start)?, socket };
        // The command holds their end of the socket: while it does, a process that ends is not noticed.
        drop(command);
        let mut timed = Timed { socket: &process.socket, until: Instant::now() + START_TIME_MAX };
        let answered = Reply::read(&mut timed, limits).and_then(|reply| match reply {
            Some(reply @ Reply { kind: Kind::Ready | Kind::CannotStart, .. }) => {
                Ok((reply.kind, read_text(&mut timed, reply.length)?))
            }
            _ => Err(io::Error::other("it answers nonsense")),
        });
        match answered {
            Ok((Kind::Ready, lacking)) => Ok((process, lacking)),
            Ok((_, fault)) => Err(DecoderError::Confine(fault)),
            Err(error) => {
                let ended = process.end();
                Err(DecoderError::Silent(format!("{error}; {ended}")))
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The outer error says that the process is of no use any more.
    fn decode(&mut self, asked: &Asked<'_>, spare: &mut Vec<u8>) -> Result<Result<RgbImage, PhotoError>, DecoderEnd> {
        let mut timed = Timed { socket: &self.socket, until: Instant::now() + asked.time_max };
        frames::write_photo(asked.photo, &mut timed).map_err(|error| end_of(&error))?;
        let reply = Reply::read(&mut timed, asked.limits).map_err(|error| end_of(&error))?;
        let Reply { kind, width_px, height_px, length } = reply.ok_or(DecoderEnd::Nonsense)?;
        let PhotoLimits { pixels_max, side_max_px, .. } = *asked.limits;
        Ok(Err(match kind {
            Kind::Picture if !asked.is_answered_by(width_px, height_px) => return Err(DecoderEnd::Nonsense),
            Kind::Picture => {
                let pixels = read_pixels(&mut timed, length, std::mem::take(spare)).map_err(|error| end_of(&error))?;
                return Ok(Ok(RgbImage::from_raw(width_px, height_px, pixels).ok_or(DecoderEnd::Nonsense)?));
            }
            Kind::TooLarge => PhotoError::TooLarge { width_px, height_px, pixels_max, side_max_px },
            Kind::Truncated => PhotoError::Truncated,
            Kind::Undecodable => {
                PhotoError::Undecodable(read_text(&mut timed, length).map_err(|error| end_of(&error))?.into())
            }
            Kind::Ready | Kind::CannotStart => return Err(DecoderEnd::Nonsense),
        }))
    }

    /// Ends it, unless it has ended, and returns how it did: nothing is left of it.
    fn end(&mut self) -> String {
        // A process that is about to end by itself keeps its own reason.
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn end_of(error: &io::Error) -> DecoderEnd {
    match error.kind() {
        io::ErrorKind::TimedOut => DecoderEnd::TooLong,
        _ => DecoderEnd::Died,
    }
}

/// `length` was checked against the limits.
fn read_pixels(from: &mut impl Read, length: u64, mut memory: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    if memory.capacity() < length {
        // Zeroed by the kernel, when it is touched.
        memory = vec![0; length];
    }
    memory.resize(length, 0);
    from.read_exact(&mut memory)?;
    Ok(memory)
}

/// What a process says is for the log and for people, and shown as it is: letters that are none are replaced.
fn read_text(from: &mut impl Read, length: u64) -> io::Result<String> {
    let mut text = Vec::new();
    from.take(length.min(frames::TEXT_BYTES_MAX)).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).replace(char::is_control, "\u{fffd}"))
}

/// A socket all of whose reads and writes together take until a time at most.
struct Timed<'a> {
    socket: &'a UnixStream,
    until: Instant,
}

impl Timed<'_> {
    /// Zero would mean for ever.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// Linux says that a socket's time is up as if there were nothing to read.
fn time_is_up(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(buffer).map_err(time_is_up)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(buffer).map_err(time_is_up)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
