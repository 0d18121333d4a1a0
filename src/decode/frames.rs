//! What a server and a process that decodes photos for it say to each other: frames of a fixed header, little-endian, and a
//! body of the length that it states. Neither end allocates before the header is checked.

use std::io::{self, Read, Write};

use super::PhotoLimits;

/// The first bytes of each frame: what begins otherwise is no answer of a decoder.
const MAGIC: u32 = u32::from_le_bytes(*b"fmph");

const REQUEST_BYTES: usize = 8;
const REPLY_BYTES: usize = 24;

/// The longest text of a reply: a decoder's own words on a photo.
pub(super) const TEXT_BYTES_MAX: u64 = 4 << 10;

const BYTES_PER_PIXEL: u64 = 3;

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The limits are in force; the text, where there is one, says what is not.
    Ready,
    /// A limit cannot be set. The text says which.
    CannotStart,
    /// The pixels of a picture, RGB.
    Picture,
    /// [`super::PhotoError::TooLarge`].
    TooLarge,
    /// [`super::PhotoError::Truncated`].
    Truncated,
    /// [`super::PhotoError::Undecodable`], with the decoder's words.
    Undecodable,
}

const KINDS: [Kind; 6] =
    [Kind::Ready, Kind::CannotStart, Kind::Picture, Kind::TooLarge, Kind::Truncated, Kind::Undecodable];

/// The header of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub kind: Kind,
    /// Of a picture, or of one that is too large.
    pub width_px: u32,
    pub height_px: u32,
    /// Bytes that follow.
    pub length: u64,
}

impl Reply {
    pub(super) fn of_size(kind: Kind, (width_px, height_px): (u32, u32)) -> Self {
        let pixels = u64::from(width_px) * u64::from(height_px);
        let length = if kind == Kind::Picture { pixels.saturating_mul(BYTES_PER_PIXEL) } else { 0 };
        Self { kind, width_px, height_px, length }
    }

    pub(super) fn write(self, body: &[u8], to: &mut impl Write) -> io::Result<()> {
        let mut header = Vec::with_capacity(REPLY_BYTES);
        header.extend(MAGIC.to_le_bytes());
        header.extend((self.kind as u32).to_le_bytes());
        header.extend(self.width_px.to_le_bytes());
        header.extend(self.height_px.to_le_bytes());
        header.extend(self.length.to_le_bytes());
        to.write_all(&header)?;
        to.write_all(body)
    }

    /// Reads a header. `None`: it is not one of a picture within the limits, of a short text, or of nothing.
    pub(super) fn read(from: &mut impl Read, limits: &PhotoLimits) -> io::Result<Option<Self>> {
        let mut header = [0; REPLY_BYTES];
        from.read_exact(&mut header)?;
        let mut numbers = header.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let mut next = || numbers.next().unwrap_or_default();
        let (magic, kind, width_px, height_px) = (next(), next(), next(), next());
        let length = u64::from(next()) | u64::from(next()) << 32;
        let kind = KINDS.into_iter().find(|known| *known as u32 == kind);
        let reply = kind.map(|kind| Self { kind, width_px, height_px, length });
        Ok(reply.filter(|reply| magic == MAGIC && reply.is_sound(limits)))
    }

    fn is_sound(&self, limits: &PhotoLimits) -> bool {
        match self.kind {
            Kind::Picture => {
                super::check_size(self.width_px, self.height_px, limits).is_ok()
                    && *self == Reply::of_size(self.kind, (self.width_px, self.height_px))
            }
            Kind::Ready | Kind::CannotStart | Kind::Undecodable => self.length <= TEXT_BYTES_MAX,
            Kind::TooLarge | Kind::Truncated => self.length == 0,
        }
    }
}

/// Writes a reply of words, as many as there may be.
pub(super) fn write_text(kind: Kind, text: &str, to: &mut impl Write) -> io::Result<()> {
    let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX as usize)).unwrap_or_default();
    Reply { kind, width_px: 0, height_px: 0, length: text.len() as u64 }.write(text.as_bytes(), to)
}

/// Sends a photo.
pub(super) fn write_photo(photo: &[u8], to: &mut impl Write) -> io::Result<()> {
    let length = u32::try_from(photo.len()).map_err(io::Error::other)?;
    let mut header = Vec::with_capacity(REQUEST_BYTES);
    header.extend(MAGIC.to_le_bytes());
    header.extend(length.to_le_bytes());
    to.write_all(&header)?;
    to.write_all(photo)
}

/// Reads a photo; `None` where no more come.
pub(super) fn read_photo(from: &mut impl Read, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; REQUEST_BYTES];
    match from.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut numbers = header.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let (magic, length) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default() as usize);
    if magic != MAGIC || length > bytes_max {
        return Err(io::Error::other("no photo"));
    }
    let mut photo = vec![0; length];
    from.read_exact(&mut photo)?;
    Ok(Some(photo))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PhotoLimits = PhotoLimits { bytes_max: 1_000, pixels_max: 800, side_max_px: 40 };

    fn read(reply: Reply) -> Option<Reply> {
        let mut frame = Vec::new();
        reply.write(&[], &mut frame).expect("a frame");
        Reply::read(&mut frame.as_slice(), &LIMITS).expect("a header")
    }

    #[test]
    fn reply_beyond_the_limits_is_none() {
        let good = Reply::of_size(Kind::Picture, (40, 20));
        assert_eq!(good.length, 2_400);
        assert_eq!(read(good), Some(good));
        for bad in [
            Reply { length: 2_401, ..good },
            Reply { length: u64::MAX, ..good },
            Reply { width_px: 0, length: 0, ..good },
            Reply::of_size(Kind::Picture, (40, 21)),
            Reply::of_size(Kind::Picture, (41, 1)),
            Reply::of_size(Kind::Picture, (u32::MAX, u32::MAX)),
            Reply { kind: Kind::Truncated, ..good },
            Reply { kind: Kind::Undecodable, length: TEXT_BYTES_MAX + 1, ..good },
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn header_of_another_kind_or_magic_is_none() {
        let mut frame = Vec::new();
        Reply::of_size(Kind::Truncated, (0, 0)).write(&[], &mut frame).expect("a frame");
        for (at, byte) in [(0, b'F'), (4, 6), (7, 1)] {
            let mut other = frame.clone();
            other[at] = byte;
            assert_eq!(Reply::read(&mut other.as_slice(), &LIMITS).expect("a header"), None, "byte {at}");
        }
        assert!(Reply::read(&mut &frame[..REPLY_BYTES - 1], &LIMITS).is_err());
    }

    #[test]
    fn photo_longer_than_may_be_is_an_error_and_the_end_is_none() {
        let mut frame = Vec::new();
        write_photo(&[7; 1_001], &mut frame).expect("a frame");
        assert!(read_photo(&mut frame.as_slice(), 1_000).is_err());
        assert_eq!(read_photo(&mut frame.as_slice(), 1_001).expect("a frame"), Some(vec![7; 1_001]));
        assert_eq!(read_photo(&mut [].as_slice(), 1_000).expect("the end"), None);
        assert!(read_photo(&mut b"GET / HTTP/1.1".as_slice(), usize::MAX).is_err());
    }

    #[test]
    fn long_text_is_cut_at_a_letter() {
        let mut frame = Vec::new();
        write_text(Kind::Undecodable, &"ä".repeat(3_000), &mut frame).expect("a frame");
        let text = String::from_utf8(frame.split_off(REPLY_BYTES)).expect("whole letters");
        assert_eq!(text.len() as u64, TEXT_BYTES_MAX);
        assert!(Reply::read(&mut frame.as_slice(), &LIMITS).expect("a header").is_some());
    }
}
