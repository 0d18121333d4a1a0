//! What decoding in a process of its own costs: the same photos decoded here and there, in turn.
//!
//! `cargo bench --bench isolated_decoding -- [PHOTO...]`; without photos, of a picture of its own as a JPEG of 250 pixels a side,
//! as LFW's are, and of 12 megapixels. The ratio is the median of those of rounds, whose halves ran one after the other.

use std::time::{Duration, Instant};

use facematch::decode::{Decoder, Decoders, Isolation, PhotoLimits};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};

const ROUNDS: usize = 41;

fn main() {
    let limits = PhotoLimits::default();
    let isolation = Isolation { program: env!("CARGO_BIN_EXE_facematch").into(), ..Isolation::of(&limits) };
    let here = Decoder::from(limits);
    let apart = Decoders::new(limits, Some(isolation)).open();
    apart.start();
    for (name, photo) in photos() {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push((time(&here, &photo), time(&apart, &photo)));
        }
        let ratio = median(times.iter().map(|(here, apart)| apart.as_secs_f64() / here.as_secs_f64()));
        let [here, apart] = [median(seconds(&times, |(here, _)| here)), median(seconds(&times, |(_, apart)| apart))];
        println!("{name}: here {:.2} ms, apart {:.2} ms, ratio {ratio:.3}", here * 1e3, apart * 1e3);
    }
}

fn time(decoder: &Decoder, photo: &[u8]) -> Duration {
    let started = Instant::now();
    let picture = decoder.decode(photo).expect("a photo");
    decoder.take_back(picture);
    started.elapsed()
}

fn seconds(
    times: &[(Duration, Duration)],
    which: fn((Duration, Duration)) -> Duration,
) -> impl Iterator<Item = f64> + '_ {
    times.iter().map(move |both| which(*both).as_secs_f64())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn photos() -> Vec<(String, Vec<u8>)> {
    let stated = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let stated: Vec<_> = stated.map(|path| (path.clone(), std::fs::read(path).expect("a photo"))).collect();
    if !stated.is_empty() {
        return stated;
    }
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/models/samples/groups");
    let first = std::fs::read_dir(sample).expect("samples").next().expect("a picture").expect("an entry").path();
    let picture = image::open(first).expect("a picture").into_rgb8();
    let sizes = [("250 x 250", 250, 250), ("4000 x 3000", 4_000, 3_000)];
    let of_size = |(name, width, height): (&str, u32, u32)| {
        let mut bytes = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
        resize(&picture, width, height, FilterType::Triangle).write_with_encoder(encoder).expect("encode");
        (name.to_owned(), bytes)
    };
    sizes.into_iter().map(of_size).collect()
}
