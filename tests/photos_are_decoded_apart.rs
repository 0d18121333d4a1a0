//! Photos decoded in a process of their own: the same pixels and errors, and a process that fails costs one photo.
#![cfg(target_os = "linux")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use common::decoders::{isolation, signal, wait_until, wait_until_exchanging};
use facematch::decode::{Decoder, DecoderEnd, DecoderError, Decoders, Isolation, PhotoError, PhotoLimits, decode};
use facematch::error::Error;
use image::{DynamicImage, ImageFormat, RgbImage};

fn decoder(limits: PhotoLimits, isolation: Isolation) -> Decoder {
    Decoders::new(limits, Some(isolation)).open()
}

/// Pictures that differ everywhere, so that a byte out of place is seen.
fn gradient(width: u32, height: u32) -> DynamicImage {
    let pixel = |x, y| image::Rgb([(x * 7 + y) as u8, (y * 3) as u8, (x ^ y) as u8]);
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, pixel))
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("encode");
    bytes.into_inner()
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(std::fs::read(&path).expect("a file"));
        }
    }
    found
}

/// Sound ones of each format, whole, cut and with bytes turned; what is no picture; what is too large; the inputs of the
/// fuzzers; real and hostile ones, where there are any.
fn photos() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut photos = vec![Vec::new(), b"no picture".to_vec(), vec![0xff; 3_000]];
    let formats =
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Tiff];
    for format in formats {
        let photo = encoded(&gradient(61, 47), format);
        for cut in [9, photo.len() / 2, photo.len() - 1] {
            photos.push(photo[..cut].to_vec());
        }
        for at in (0..photo.len()).step_by(photo.len() / 40) {
            let mut turned = photo.clone();
            turned[at] ^= 0x55;
            photos.push(turned);
        }
        photos.extend([photo, encoded(&gradient(2_000, 2), format), encoded(&gradient(1, 1), format)]);
    }
    photos.extend(files(&root.join("models/samples")));
    photos.extend(files(&root.join("fuzz/corpus/photo")));
    if let Some(shared) = common::shared("pixels_and_errors_are_those_of_decoding_here: hard photos") {
        photos.extend(files(&shared.join("faces/hard")));
    }
    photos
}

#[test]
fn pixels_and_errors_are_those_of_decoding_here() {
    // Small enough for some photos to be beyond them in each way.
    let limits = PhotoLimits { bytes_max: 2 << 20, pixels_max: 3_000_000, side_max_px: 1_900 };
    let decoder = decoder(limits, isolation(&limits));
    decoder.start();
    let process = decoder.process_id();
    let mut reasons = std::collections::BTreeMap::new();
    for (number, photo) in photos().iter().enumerate() {
        let (here, apart) = (decode(photo, &limits), decoder.decode(photo));
        match (&here, &apart) {
            (Ok(here), Ok(apart)) => assert!(here == apart, "pixels of photo {number}"),
            (Err(here), Err(Error::Photo(apart))) => assert_eq!(told(here), told(apart), "photo {number}"),
            _ => panic!("photo {number}: {:?} here, {:?} apart", here.err(), apart.err()),
        }
        *reasons.entry(here.as_ref().map_or_else(PhotoError::reason, |_| "")).or_insert(0) += 1;
        drop(apart.map(|picture| decoder.take_back(picture)));
    }
    assert_eq!(decoder.process_id(), process, "none of them ended it");
    let known =
        ["", "PHOTO_EMPTY", "PHOTO_TOO_LARGE", "PHOTO_TRUNCATED", "PHOTO_UNDECODABLE", "PHOTO_UNSUPPORTED_FORMAT"];
    assert!(reasons.keys().eq(known.iter()), "{reasons:?}");
}

/// All that an error tells.
fn told(error: &PhotoError) -> [String; 3] {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    [error.reason().to_owned(), error.to_string(), cause.unwrap_or_default()]
}

#[test]
fn process_killed_in_mid_photo_costs_that_photo_alone() {
    let limits = PhotoLimits::default();
    let decoder = decoder(limits, isolation(&limits));
    decoder.start();
    let process = decoder.process_id().expect("a process");
    // Stopped, it cannot answer before it is killed.
    signal(process, "STOP");
    let photo = encoded(&gradient(640, 480), ImageFormat::Png);
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (decoder, photo) = (&decoder, &photo);
        let decoding = scope.spawn(move || {
            sender.send(common::decoders::thread_id()).expect("the test waits");
            decoder.decode(photo)
        });
        let thread = receiver.recv().expect("a thread");
        wait_until_exchanging(thread);
        signal(process, "KILL");
        assert_eq!(end(decoding.join().expect("no panic")), DecoderEnd::Died);
    });
    assert_eq!(decoder.decode(&photo).expect("the next photo"), gradient(640, 480).into_rgb8());
    let next = decoder.process_id().expect("a process");
    assert_ne!(next, process);
    // One that is killed between photos costs none.
    signal(next, "KILL");
    wait_until("it is dead", || {
        common::decoders::state(next) != Some('S') && common::decoders::state(next) != Some('R')
    });
    decoder.decode(&photo).expect("a photo of a new process");
}

#[test]
fn stopped_process_is_ended_at_its_deadline() {
    let limits = PhotoLimits::default();
    let time_max = Duration::from_secs(2);
    let decoder = decoder(limits, Isolation { time_max, ..isolation(&limits) });
    decoder.start();
    let process = decoder.process_id().expect("a process");
    signal(process, "STOP");
    let started = std::time::Instant::now();
    // Larger than the socket holds: the write waits; smaller: the read does.
    let photo = encoded(&gradient(900, 900), ImageFormat::Bmp);
    assert_eq!(end(decoder.decode(&photo)), DecoderEnd::TooLong);
    assert!(started.elapsed() >= time_max && started.elapsed() < time_max * 5, "{:?}", started.elapsed());
    assert_eq!(common::decoders::state(process), None, "nothing is left of it");
    let small = encoded(&gradient(9, 9), ImageFormat::Png);
    decoder.decode(&small).expect("the next photo");
    signal(decoder.process_id().expect("a process"), "STOP");
    assert_eq!(end(decoder.decode(&small)), DecoderEnd::TooLong);
}

#[test]
fn photo_beyond_the_memory_costs_itself_alone() {
    let limits = PhotoLimits::default();
    let memory_bytes_max = 24 << 20;
    let decoder = decoder(limits, Isolation { memory_bytes_max, ..isolation(&limits) });
    for (large, format) in [((4_000, 3_000), ImageFormat::Jpeg), ((2_400, 2_000), ImageFormat::Bmp)] {
        let photo = encoded(&gradient(large.0, large.1), format);
        assert!(decode(&photo, &limits).is_ok(), "it is within the limits of photos");
        assert_eq!(end(decoder.decode(&photo)), DecoderEnd::Died, "{format:?}");
        let small = gradient(320, 240);
        let found = decoder.decode(&encoded(&small, ImageFormat::Png)).expect("a small one");
        assert_eq!(found, small.into_rgb8());
    }
}

/// What a process has left when it decodes: no file but its own, no other process, and a filter of system calls.
#[test]
fn process_has_given_up_what_it_could_do() {
    let limits = PhotoLimits::default();
    let decoder = decoder(limits, isolation(&limits));
    decoder.start();
    let process = decoder.process_id().expect("a process");
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).expect(file);
    let limits = read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    for (name, most) in
        [("Max core file size", "0"), ("Max file size", "0"), ("Max processes", "0"), ("Max open files", "0")]
    {
        assert_eq!(limit(name), [most, most], "{name}");
    }
    let memory: u64 = limit("Max address space")[0].parse().expect("a number");
    assert!(memory > 1 << 30, "{memory}");
    let status = read("status");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(read("oom_score_adj").trim(), "1000");
}

/// As in a container whose own filter allows no further ones.
#[test]
fn process_that_is_refused_its_filter_says_so_and_decodes_within_its_limits() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let refused = SeccompFilter::new(
        [(libc::SYS_seccomp, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into().expect("a machine that has filters"),
    );
    let refused = BpfProgram::try_from(refused.expect("a filter")).expect("a program");
    let thread = std::thread::spawn(move || {
        // Of this thread, and of what it starts.
        seccompiler::apply_filter(&refused).expect("a filter");
        let limits = PhotoLimits::default();
        let decoders = Decoders::new(limits, Some(isolation(&limits)));
        let lacking = decoders.try_one().expect("a process").expect("something is lacking");
        assert!(lacking.contains("seccomp") && lacking.contains("not permitted"), "{lacking}");
        let decoder = decoders.open();
        let picture = gradient(30, 20);
        let found = decoder.decode(&encoded(&picture, ImageFormat::Png)).expect("a picture");
        assert_eq!(found, picture.into_rgb8());
        let limits = format!("/proc/{}/limits", decoder.process_id().expect("a process"));
        let limits = std::fs::read_to_string(limits).expect("limits");
        let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
        assert_eq!(files.split_whitespace().nth(3), Some("0"));
    });
    thread.join().expect("no panic");
}

#[test]
fn nonsense_ends_the_process_that_says_it_and_is_never_allocated() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("liar");
    let frame = |kind: u32, width: u32, height: u32, length: u64| {
        let numbers = [kind.to_le_bytes(), width.to_le_bytes(), height.to_le_bytes()].concat();
        let bytes = [b"fmph".as_slice(), &numbers, &length.to_le_bytes()].concat();
        bytes.iter().map(|byte| format!("\\{byte:03o}")).collect::<String>()
    };
    let photo = encoded(&gradient(100, 100), ImageFormat::Png);
    let ready = frame(0, 0, 0, 0);
    let limits = PhotoLimits::default();
    for (answer, how) in [
        (frame(2, 16_384, 16_384, 1 << 40), DecoderEnd::Nonsense),
        (frame(2, u32::MAX, u32::MAX, u64::MAX), DecoderEnd::Nonsense),
        (frame(2, 100, 100, 29_999), DecoderEnd::Nonsense),
        // A sound picture, but not of this photo.
        (frame(2, 99, 100, 29_700), DecoderEnd::Nonsense),
        (frame(5, 0, 0, 1 << 30), DecoderEnd::Nonsense),
        (frame(0, 0, 0, 0), DecoderEnd::Nonsense),
        ("HTTP/1.1 200 OK, and what goes with it".to_owned(), DecoderEnd::Nonsense),
        // It promises pixels, and ends.
        (frame(2, 100, 100, 30_000), DecoderEnd::Died),
    ] {
        // The first line of a PNG is of its signature.
        let script = format!("#!/bin/sh\nprintf '{ready}' >&0\nread -r line\nprintf '{answer}' >&0\n");
        std::fs::write(&path, script).expect("a script");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a program");
        let decoder = decoder(limits, Isolation { program: path.clone(), ..isolation(&limits) });
        assert_eq!(end(once_not_busy(|| decoder.decode(&photo))), how, "{answer}");
    }
    // A program that is none, and one that is not there, are our fault.
    for (program, is_silent) in [("/bin/true", true), ("/no such program", false)] {
        let decoders = Decoders::new(limits, Some(Isolation { program: program.into(), ..isolation(&limits) }));
        match decoders.try_one().expect_err("no decoder") {
            DecoderError::Silent(_) => assert!(is_silent, "{program}"),
            DecoderError::Start(_) => assert!(!is_silent, "{program}"),
            other => panic!("{program}: {other}"),
        }
        let decoder = decoders.open();
        assert!(decoders.are_well());
        assert!(matches!(decoder.decode(&photo), Err(Error::Unavailable(_))), "{program}");
        assert!(!decoders.are_well());
        drop(decoder);
        assert!(decoders.are_well(), "one that is no more is not counted");
    }
}

/// A script that was just written may be held open for a moment by a process that another test starts.
fn once_not_busy(decode: impl Fn() -> Result<RgbImage, Error>) -> Result<RgbImage, Error> {
    loop {
        match decode() {
            Err(Error::Unavailable(_)) => std::thread::yield_now(),
            done => return done,
        }
    }
}

fn end(decoded: Result<RgbImage, Error>) -> DecoderEnd {
    match decoded.expect_err("no picture") {
        error @ Error::Photo(PhotoError::DecoderDied { how }) => {
            assert_eq!(error.reason(), "PHOTO_DECODER_DIED");
            how
        }
        other => panic!("{other}"),
    }
}
