//! Bytes → upright RGB image within limits. The one place where photo bytes enter.

#[cfg(target_os = "linux")]
mod apart;
#[cfg(target_os = "linux")]
mod confinement;
mod decoder;
#[cfg(target_os = "linux")]
mod frames;
mod header;
#[cfg(target_os = "linux")]
pub(crate) mod worker;

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder as JpegDecoder, JpegError, PixelFormat};

pub use self::decoder::{Decoder, DecoderError, Decoders, Isolation};

/// What a photo may cost. Checked before anything is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhotoLimits {
    /// The largest file, in bytes.
    pub bytes_max: usize,
    /// The most pixels.
    pub pixels_max: u64,
    /// The longest side, in pixels.
    pub side_max_px: u32,
}

impl Default for PhotoLimits {
    /// 20 MiB, 64 megapixels (an 8,000 x 8,000 photo, 192 MiB as RGB) and 16,384 pixels a side.
    fn default() -> Self {
        Self { bytes_max: 20 << 20, pixels_max: 64 << 20, side_max_px: 16_384 }
    }
}

/// Why a photo was refused.
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    /// No bytes.
    #[error("the photo is empty")]
    Empty,
    /// More bytes than allowed.
    #[error("the photo has {found} bytes; at most {limit} are accepted")]
    TooManyBytes {
        /// Its size.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a format that is read.
    #[error("the photo is {found}; JPEG, PNG, WebP, BMP, GIF and TIFF are read")]
    UnsupportedFormat {
        /// What it looks like.
        found: &'static str,
    },
    /// The header states more pixels than allowed, or none.
    #[error(
        "the photo is {width_px} x {height_px} pixels; at most {pixels_max} pixels and {side_max_px} a side are accepted"
    )]
    TooLarge {
        /// Width in the header.
        width_px: u32,
        /// Height in the header.
        height_px: u32,
        /// The limit on pixels.
        pixels_max: u64,
        /// The limit on a side.
        side_max_px: u32,
    },
    /// The file ends before the picture does.
    #[error("the photo ends before the picture is complete")]
    Truncated,
    /// The bytes are not a valid picture.
    #[error("the photo cannot be decoded")]
    Undecodable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The process that photos are decoded in, where that is not this one, did not survive it.
    #[error("the photo ended the process that decoded it: {how}")]
    DecoderDied {
        /// How.
        how: DecoderEnd,
    },
}

/// How a process that decodes photos ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderEnd {
    /// By itself or by a signal, such as that of a limit.
    Died,
    /// It was ended for taking too long.
    TooLong,
    /// It was ended for an answer that is none.
    Nonsense,
}

impl std::fmt::Display for DecoderEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DecoderEnd::Died => "it died",
            DecoderEnd::TooLong => "it took too long",
            DecoderEnd::Nonsense => "it answered nonsense",
        })
    }
}

impl PhotoError {
    /// Returns the stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            PhotoError::Empty => "PHOTO_EMPTY",
            PhotoError::TooManyBytes { .. } | PhotoError::TooLarge { .. } => "PHOTO_TOO_LARGE",
            PhotoError::UnsupportedFormat { .. } => "PHOTO_UNSUPPORTED_FORMAT",
            PhotoError::Truncated => "PHOTO_TRUNCATED",
            PhotoError::Undecodable(_) => "PHOTO_UNDECODABLE",
            PhotoError::DecoderDied { .. } => "PHOTO_DECODER_DIED",
        }
    }
}

/// Decodes a photo into upright 8-bit RGB.
///
/// The EXIF orientation is applied. Gray, CMYK, palette and 16-bit pictures are converted; alpha is dropped, as OpenCV
/// and so InsightFace do (the colours under it are kept: blending would turn a fully transparent photo black).
///
/// *Errors*: every variant of [`PhotoError`] but [`PhotoError::DecoderDied`]. *Cost*: 4 ms for a 2-megapixel JPEG.
pub fn decode(bytes: &[u8], limits: &PhotoLimits) -> Result<RgbImage, PhotoError> {
    let (format, stated) = check_bytes(bytes, limits)?;
    // A decoder that panics on hostile bytes (of 43,848 mutated JPEGs two made one: a failed bounds check) must not cost
    // more than the photo.
    let decoded = std::panic::catch_unwind(|| match format {
        ImageFormat::Jpeg => decode_jpeg(bytes, limits),
        format => decode_other(bytes, format, limits),
    });
    let (mut picture, orientation) =
        decoded.unwrap_or_else(|_| Err(PhotoError::Undecodable("the decoder panicked".into())))?;
    // Room was made for what the header states.
    if stated != Some((picture.width(), picture.height())) {
        return Err(PhotoError::Undecodable("the picture is of another size than the header states".into()));
    }
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// Width and height as the header states them; `None` where it states none.
type Stated = Option<(u32, u32)>;

/// What can be told without a decoder.
fn check_bytes(bytes: &[u8], limits: &PhotoLimits) -> Result<(ImageFormat, Stated), PhotoError> {
    if bytes.is_empty() {
        return Err(PhotoError::Empty);
    }
    if bytes.len() > limits.bytes_max {
        return Err(PhotoError::TooManyBytes { found: bytes.len(), limit: limits.bytes_max });
    }
    let format = supported_format(bytes)?;
    let stated = header::size(bytes, format);
    if let Some((width_px, height_px)) = stated {
        check_size(width_px, height_px, limits)?;
    }
    Ok((format, stated))
}

/// Returns how many pixels will be decoded of a photo, by its header; none of what is no picture that is read or is over the
/// limits, whatever it states.
///
/// *Cost*: microseconds; no decoder sees it.
pub fn pixels(bytes: &[u8], limits: &PhotoLimits) -> u64 {
    match check_bytes(bytes, limits) {
        Ok((_, Some((width_px, height_px)))) => u64::from(width_px) * u64::from(height_px),
        _ => 0,
    }
}

/// JPEG has a decoder of its own, because its pixels must be libjpeg-turbo's to the last bit: image's differ by a level
/// or two, which moves an embedding to a cosine of .9976 to the one that the rest of the field computes.
fn decode_jpeg(bytes: &[u8], limits: &PhotoLimits) -> Result<(DynamicImage, Orientation), PhotoError> {
    let within = DecodeLimits {
        max_pixels: limits.pixels_max,
        max_scans: JPEG_SCANS_MAX,
        max_memory: Some(limits.pixels_max.saturating_mul(ALLOCATION_BYTES_PER_PIXEL)),
        ..DecodeLimits::default()
    };
    let mut decoder = JpegDecoder::new_with_limits(bytes, within).map_err(jpeg_error)?;
    let header = decoder.header();
    check_size(header.width.into(), header.height.into(), limits)?;
    // The decoder notices most missing ends, but not that of a gray picture.
    if !jpeg_is_complete(bytes) {
        return Err(PhotoError::Truncated);
    }
    decoder.set_output_format(PixelFormat::Rgb);
    let decoded = decoder.decode_image().map_err(jpeg_error)?;
    let orientation = decoded.exif_orientation().and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms);
    let (width, height) = (decoded.width as u32, decoded.height as u32);
    let picture = RgbImage::from_raw(width, height, decoded.data)
        .ok_or_else(|| PhotoError::Undecodable("the decoder returned too few pixels".into()))?;
    Ok((picture.into(), orientation))
}

fn decode_other(
    bytes: &[u8],
    format: ImageFormat,
    limits: &PhotoLimits,
) -> Result<(DynamicImage, Orientation), PhotoError> {
    let reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width_px, height_px) = decoder.dimensions();
    check_size(width_px, height_px, limits)?;
    decoder.set_limits(allocation_limits(limits)).map_err(undecodable)?;
    // A file without readable EXIF is taken as it is.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(undecodable)?, orientation))
}

/// A JPEG may refine itself in scans, each a pass over all pixels; cameras and browsers write about ten.
const JPEG_SCANS_MAX: usize = 100;

/// A 16-bit RGBA picture, twice (decoder buffer and result).
const ALLOCATION_BYTES_PER_PIXEL: u64 = 16;

fn check_size(width_px: u32, height_px: u32, limits: &PhotoLimits) -> Result<(), PhotoError> {
    let pixels = u64::from(width_px) * u64::from(height_px);
    if pixels == 0 || pixels > limits.pixels_max || width_px.max(height_px) > limits.side_max_px {
        let PhotoLimits { pixels_max, side_max_px, .. } = *limits;
        return Err(PhotoError::TooLarge { width_px, height_px, pixels_max, side_max_px });
    }
    Ok(())
}

/// The format told from the bytes, never from a name.
fn supported_format(bytes: &[u8]) -> Result<ImageFormat, PhotoError> {
    let unsupported = |found| Err(PhotoError::UnsupportedFormat { found });
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Jpeg
            | ImageFormat::Png
            | ImageFormat::WebP
            | ImageFormat::Bmp
            | ImageFormat::Gif
            | ImageFormat::Tiff),
        ) => Ok(format),
        Ok(ImageFormat::Avif) => unsupported("an AVIF picture"),
        Ok(_) => unsupported("a picture of another format"),
        Err(_) if bytes.get(4..8) == Some(b"ftyp") => unsupported("a HEIF or AVIF picture"),
        Err(_) => unsupported("not a picture"),
    }
}

fn allocation_limits(limits: &PhotoLimits) -> image::Limits {
    let mut allocation = image::Limits::default();
    allocation.max_image_width = Some(limits.side_max_px);
    allocation.max_image_height = Some(limits.side_max_px);
    allocation.max_alloc = Some(limits.pixels_max.saturating_mul(ALLOCATION_BYTES_PER_PIXEL));
    allocation
}

fn undecodable(error: image::ImageError) -> PhotoError {
    match &error {
        image::ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => PhotoError::Truncated,
        _ => PhotoError::Undecodable(error.into()),
    }
}

fn jpeg_error(error: JpegError) -> PhotoError {
    match error {
        JpegError::UnexpectedEof => PhotoError::Truncated,
        error => PhotoError::Undecodable(error.into()),
    }
}

/// Tells whether a JPEG's picture data ends with its end marker.
///
/// Walks the marker segments (ITU-T T.81, annex B), so that neither an end marker inside an EXIF thumbnail nor data
/// that cameras append after the picture misleads it.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut position = 2; // past the start marker, which told us the format
    while let Some(&[0xff, marker]) = bytes.get(position..position + 2) {
        position += 2;
        match marker {
            0xd9 => return true,
            0xff => position -= 1,          // fill byte
            0x00 | 0x01 | 0xd0..=0xd8 => {} // no payload
            _ => {
                let Some(&[high, low]) = bytes.get(position..position + 2) else { return false };
                position += usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
        // After a scan header, a stray byte or a restart, entropy-coded data runs to the next real marker.
        if matches!(marker, 0xda | 0x00 | 0xd0..=0xd7) {
            position = next_marker(bytes, position);
        }
    }
    false
}

fn next_marker(bytes: &[u8], from: usize) -> usize {
    bytes
        .get(from..)
        .and_then(|rest| rest.windows(2).position(|pair| matches!(pair, [0xff, 0x01..=0xff])))
        .map_or(bytes.len(), |offset| from + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("encode");
        bytes.into_inner()
    }

    const FORMATS: [ImageFormat; 6] =
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Tiff];

    fn gradient(width: u32, height: u32) -> DynamicImage {
        DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8 * 3, y as u8 * 3, 90])))
    }

    #[test]
    fn decode_of_no_picture_is_refused_with_its_reason() {
        let limits = PhotoLimits::default();
        let cases: [(&[u8], &str); 4] = [
            (b"", "PHOTO_EMPTY"),
            (b"hello, world, this is text", "PHOTO_UNSUPPORTED_FORMAT"),
            (b"\0\0\0\x20ftypavif\0\0\0\0avif", "PHOTO_UNSUPPORTED_FORMAT"),
            (b"\x89PNG\r\n\x1a\n", "PHOTO_TRUNCATED"),
        ];
        for (bytes, reason) in cases {
            assert_eq!(decode(bytes, &limits).expect_err("refused").reason(), reason);
        }
    }

    #[test]
    fn decode_over_a_limit_is_too_large() {
        let png = encoded(&gradient(40, 20), ImageFormat::Png);
        let base = PhotoLimits::default();
        for limits in [
            PhotoLimits { bytes_max: png.len() - 1, ..base },
            PhotoLimits { pixels_max: 799, ..base },
            PhotoLimits { side_max_px: 39, ..base },
        ] {
            assert_eq!(decode(&png, &limits).expect_err("refused").reason(), "PHOTO_TOO_LARGE");
        }
        assert!(decode(&png, &PhotoLimits { bytes_max: png.len(), pixels_max: 800, side_max_px: 40 }).is_ok());
    }

    #[test]
    fn pixels_are_counted_of_what_will_be_decoded_alone() {
        let limits = PhotoLimits { pixels_max: 800, ..PhotoLimits::default() };
        for format in FORMATS {
            assert_eq!(pixels(&encoded(&gradient(40, 20), format), &limits), 800);
            assert_eq!(pixels(&encoded(&gradient(40, 21), format), &limits), 0);
        }
        assert_eq!(pixels(b"hello", &limits), 0);
    }

    #[test]
    fn header_states_what_is_decoded() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/photo");
        let corpus = std::fs::read_dir(root).expect("a corpus").map(|entry| entry.expect("an entry").path());
        let corpus = corpus.map(|path| std::fs::read(path).expect("a photo"));
        let made = FORMATS.into_iter().flat_map(|format| [(1, 1), (80, 2), (3, 70)].map(|(w, h)| (format, w, h)));
        let made = made.map(|(format, width, height)| encoded(&gradient(width, height), format));
        let limits = PhotoLimits::default();
        for photo in made.chain(corpus) {
            if let Ok(picture) = decode(&photo, &limits) {
                let (width, height) = picture.dimensions();
                assert_eq!(pixels(&photo, &limits), u64::from(width) * u64::from(height));
            }
        }
    }

    #[test]
    fn header_with_rows_from_the_top_or_a_second_frame_is_not_misread() {
        let limits = PhotoLimits::default();
        let mut bmp = encoded(&gradient(40, 20), ImageFormat::Bmp);
        bmp[22..26].copy_from_slice(&(-20i32).to_le_bytes());
        assert_eq!((pixels(&bmp, &limits), decode(&bmp, &limits).expect("a picture").height()), (800, 20));
        // Two sizes in one file: whichever a decoder takes, it is the one that room was made for, or an error.
        let mut jpeg = encoded(&gradient(40, 20), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame header");
        let second: Vec<u8> = jpeg[frame..frame + 19].to_vec();
        jpeg.splice(frame..frame, second);
        jpeg[frame + 5..frame + 9].copy_from_slice(&[0, 2, 0, 3]);
        assert_eq!(pixels(&jpeg, &limits), 6);
        assert!(decode(&jpeg, &limits).is_err(), "of another size");
    }

    #[test]
    fn decode_truncated_jpeg_is_truncated_at_every_length() {
        let jpeg = encoded(&gradient(48, 32), ImageFormat::Jpeg);
        let limits = PhotoLimits::default();
        assert!(decode(&jpeg, &limits).is_ok());
        for length in 1..jpeg.len() {
            assert!(decode(&jpeg[..length], &limits).is_err(), "{length} of {} bytes", jpeg.len());
        }
    }

    #[test]
    fn decode_jpeg_with_appended_data_is_read() {
        let mut jpeg = encoded(&gradient(48, 32), ImageFormat::Jpeg);
        jpeg.extend_from_slice(b"maker's own data");
        assert!(decode(&jpeg, &PhotoLimits::default()).is_ok());
    }

    #[test]
    fn decode_turns_every_format_and_depth_into_rgb() {
        let picture = gradient(24, 16);
        let expected = picture.to_rgb8();
        let limits = PhotoLimits::default();
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
            assert_eq!(decode(&encoded(&picture, format), &limits).expect("decode"), expected, "{format:?}");
        }
        let deep = DynamicImage::ImageRgb16(picture.to_rgb16());
        assert_eq!(decode(&encoded(&deep, ImageFormat::Png), &limits).expect("decode"), expected);
        let mut clear = picture.to_rgba8();
        clear.pixels_mut().for_each(|pixel| pixel.0[3] = 0);
        let clear = DynamicImage::ImageRgba8(clear);
        assert_eq!(decode(&encoded(&clear, ImageFormat::Png), &limits).expect("decode"), expected);
    }
}
