//! How large a photo says that it is, read by no decoder: a few numbers at known places. It is asked in the server's own
//! process, before it is known what a photo is worth.

use image::ImageFormat;

/// Returns width and height as a photo's header states them; `None` where it states none. What a decoder makes of the photo is
/// as large, turned or not.
pub(super) fn size(bytes: &[u8], format: ImageFormat) -> Option<(u32, u32)> {
    match format {
        ImageFormat::Jpeg => jpeg(bytes),
        // The first chunk is IHDR: after the signature, a length and a name.
        ImageFormat::Png if bytes.get(12..16)? == b"IHDR" => Some((big_endian(bytes, 16)?, big_endian(bytes, 20)?)),
        ImageFormat::Gif => Some((short(bytes, 6)?, short(bytes, 8)?)),
        ImageFormat::Bmp => bmp(bytes),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Tiff => tiff(bytes),
        _ => None,
    }
}

/// ITU-T T.81, annex B: the first frame header (SOF0 to SOF15 without DHT, JPG and DAC).
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut position = 2;
    for _ in 0..SEGMENTS_MAX {
        // Between segments there may be fill bytes, and in damaged files others.
        position += bytes.get(position..)?.iter().take(FILL_MAX).position(|byte| *byte == 0xff)?;
        position += bytes.get(position..)?.iter().take(FILL_MAX).position(|byte| *byte != 0xff)?;
        let marker = *bytes.get(position)?;
        let segment = position + 1;
        match marker {
            0x00 | 0x01 | 0xd0..=0xd8 => position = segment, // no payload
            0xd9 | 0xda => return None,                      // the end, or data, before a frame
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let side = |at| Some(u32::from(u16::from_be_bytes(array(bytes, segment + at)?)));
                return Some((side(5)?, side(3)?));
            }
            _ => position = segment + usize::from(u16::from_be_bytes(array(bytes, segment)?)),
        }
    }
    None
}

/// Segments before a JPEG's frame, and bytes between two of them. A colour profile has 255 at most, fills are a few bytes; that
/// none takes long to look for is what matters.
const SEGMENTS_MAX: usize = 4_096;
const FILL_MAX: usize = 256;

/// BITMAPCOREHEADER, whose sides are short, or one of the longer ones; a negative height is of rows from the top.
fn bmp(bytes: &[u8]) -> Option<(u32, u32)> {
    match long(bytes, 14)? {
        12 => Some((short(bytes, 18)?, short(bytes, 20)?)),
        _ => Some((long(bytes, 18)?, long(bytes, 22)?.cast_signed().unsigned_abs())),
    }
}

/// RFC 9649: what the first chunk says, of the picture or of its canvas.
fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    let three = |at| Some(u32::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?, *bytes.get(at + 2)?, 0]));
    match bytes.get(12..16)? {
        b"VP8 " => Some((short(bytes, 26)? & 0x3fff, short(bytes, 28)? & 0x3fff)),
        b"VP8L" => {
            let bits = long(bytes, 21)?;
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => Some((three(24)? + 1, three(27)? + 1)),
        _ => None,
    }
}

/// TIFF 6.0, section 2: the tags 256 and 257 of the first directory. (BigTIFF is not told to be a picture.)
fn tiff(bytes: &[u8]) -> Option<(u32, u32)> {
    let is_little = bytes.get(..2)? == b"II";
    let two = |at| Some(if is_little { short(bytes, at)? } else { u32::from(u16::from_be_bytes(array(bytes, at)?)) });
    let four = |at| if is_little { long(bytes, at) } else { big_endian(bytes, at) };
    let directory = four(4)? as usize;
    let (mut width_px, mut height_px) = (None, None);
    for entry in 0..two(directory)?.min(ENTRIES_MAX) as usize {
        let at = directory + 2 + entry * ENTRY_BYTES;
        // Shorter ones stand at the beginning of the field.
        let value = match two(at + 2)? {
            BYTE => bytes.get(at + 8).copied().map(u32::from),
            SHORT => two(at + 8),
            LONG => four(at + 8),
            _ => None,
        };
        match two(at)? {
            WIDTH => width_px = width_px.max(value),
            HEIGHT => height_px = height_px.max(value),
            _ => {}
        }
    }
    Some((width_px?, height_px?))
}

/// Tags, types of their values, and the size of an entry.
const WIDTH: u32 = 256;
const HEIGHT: u32 = 257;
const BYTE: u32 = 1;
const SHORT: u32 = 3;
const LONG: u32 = 4;
const ENTRY_BYTES: usize = 12;

/// Entries of a directory that are looked at; a photo's has some twenty, in the order of their tags.
const ENTRIES_MAX: u32 = 4_096;

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn big_endian(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(|two| u32::from(u16::from_le_bytes(two)))
}
