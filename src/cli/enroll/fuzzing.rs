//! Targets of fuzzers: what people are enrolled from. See `crate::fuzzing`.
#![allow(clippy::expect_used, reason = "a panic here is what a fuzzer looks for")]

use super::bounded::Input;
use super::manifest::{Columns, Manifest, read_csv, read_jsonl};
use super::source::{Taker, given};
use crate::fuzzing::{Run, Scratch};

/// Whose photos are in a folder that has one, `1.jpg`.
fn source(read: impl Fn(Input, &Columns, &mut Taker) -> anyhow::Result<()> + Clone + Send + Sync + 'static) -> Run {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("1.jpg"), b"abc").expect("write a photo");
    let manifest = Manifest::of_photos(scratch.path().to_path_buf());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    Box::new(move |bytes| {
        let _kept = &scratch;
        let columns = manifest.columns(None).expect("columns");
        let (input, read) = (Input::of_bytes(bytes.to_vec()), read.clone());
        let lines_max = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        let (lines, _) = runtime.block_on(given(move |taker| read(input, &columns, taker)));
        // No more events than there are lines, or entries of 512 bytes in what gzip swells to 1,032 times itself at most.
        assert!(lines.len() <= lines_max.max(bytes.len() * 1_032 / 512 + 2), "{} events", lines.len());
    })
}

pub(crate) fn csv() -> Run {
    source(read_csv)
}

pub(crate) fn jsonl() -> Run {
    source(read_jsonl)
}

pub(crate) fn tar() -> Run {
    source(|input, _, taker| super::archive::read(input, taker))
}
