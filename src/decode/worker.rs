//! The other end of `apart.rs`: a process that gives up what it could do, then decodes the photos that come in.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use super::frames::{self, Kind, Reply};
use super::{PhotoError, PhotoLimits, confinement, decode};

/// The first argument of a process that is a decoder.
pub(crate) const COMMAND: &str = "decode-worker";

/// What a decoder is told when it is started.
pub(super) struct Task {
    pub limits: PhotoLimits,
    /// Address space beyond what the program itself takes.
    pub memory_bytes_max: u64,
}

impl Task {
    /// Writes it as arguments.
    pub(super) fn arguments(&self) -> [String; 5] {
        let PhotoLimits { bytes_max, pixels_max, side_max_px } = self.limits;
        let numbers = [bytes_max as u64, pixels_max, side_max_px.into(), self.memory_bytes_max];
        let [bytes, pixels, side, memory] = numbers.map(|number| number.to_string());
        [COMMAND.to_owned(), bytes, pixels, side, memory]
    }

    /// Reads it from the arguments after the command's name.
    fn read(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut next = || arguments.next()?.parse::<u64>().ok();
        let bytes_max = usize::try_from(next()?).ok()?;
        let (pixels_max, side_max_px) = (next()?, u32::try_from(next()?).ok()?);
        Some(Self { limits: PhotoLimits { bytes_max, pixels_max, side_max_px }, memory_bytes_max: next()? })
    }
}

/// Decodes the photos that come in by the standard input, a socket, until no more come.
///
/// *Errors*: the arguments are not those of a server, or it has gone.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> io::Result<()> {
    let task = Task::read(arguments).ok_or_else(|| io::Error::other("it is a server's own command"))?;
    let mut server = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // A panic's words may quote the photo; that there was one is the answer.
    std::panic::set_hook(Box::new(|_| ()));
    match confinement::confine(server.as_fd(), task.memory_bytes_max) {
        Ok(Ok(())) => frames::write_text(Kind::Ready, "", &mut server)?,
        Ok(Err(unfiltered)) => frames::write_text(Kind::Ready, &unfiltered, &mut server)?,
        Err(error) => return frames::write_text(Kind::CannotStart, &error.to_string(), &mut server),
    }
    while let Some(photo) = frames::read_photo(&mut server, task.limits.bytes_max)? {
        answer(&photo, &task.limits, &mut server)?;
    }
    Ok(())
}

fn answer(photo: &[u8], limits: &PhotoLimits, server: &mut impl Write) -> io::Result<()> {
    match decode(photo, limits) {
        Ok(picture) => Reply::of_size(Kind::Picture, picture.dimensions()).write(picture.as_raw(), server),
        Err(PhotoError::TooLarge { width_px, height_px, .. }) => {
            Reply::of_size(Kind::TooLarge, (width_px, height_px)).write(&[], server)
        }
        Err(PhotoError::Truncated) => Reply::of_size(Kind::Truncated, (0, 0)).write(&[], server),
        Err(PhotoError::Undecodable(cause)) => frames::write_text(Kind::Undecodable, &cause.to_string(), server),
        // What needs no decoder the server has told already.
        Err(error) => frames::write_text(Kind::Undecodable, &error.to_string(), server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_is_read_as_it_was_written_and_anything_else_is_none() {
        let task = Task { limits: PhotoLimits::default(), memory_bytes_max: u64::MAX };
        let arguments = task.arguments();
        let read = Task::read(arguments[1..].iter().cloned()).expect("a task");
        assert_eq!((read.limits, read.memory_bytes_max), (task.limits, task.memory_bytes_max));
        assert!(Task::read(arguments[1..4].iter().cloned()).is_none());
        assert!(Task::read(["1", "2", "-3", "4"].map(str::to_owned).into_iter()).is_none());
    }
}
