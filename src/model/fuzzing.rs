//! Targets of fuzzers: what comes with packs. See `crate::fuzzing`.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a panic here is what a fuzzer looks for")]

use super::catalogue::Catalogue;
use super::manifest::Manifest;
use super::unpack::unpack as unpack_archive;
use crate::fuzzing::{Run, Scratch};

/// A manifest, and what is asked of its curve.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(manifest) = Manifest::parse(text) else { return };
    let models = [&manifest.detector.model, &manifest.recognizer.model];
    assert!(
        models.iter().all(|model| std::path::Path::new(&model.file).file_name().is_some_and(|n| *n == *model.file))
    );
    let Some(Ok((curve, _))) = manifest.curve.map(|curve| curve.read()) else { return };
    for rate in [1e-6, 1e-3, 0.5] {
        for threshold in [curve.threshold_for_fmr(rate), curve.threshold_for_fpir(rate, 1_000)].into_iter().flatten() {
            let point = curve.at(threshold);
            assert!((0.0..=1.0).contains(&point.fmr.value()), "{}", point.fmr.value());
        }
    }
}

pub(crate) fn catalogue() -> Run {
    let scratch = Scratch::new();
    Box::new(move |bytes| {
        let path = scratch.path().join("catalogue.toml");
        std::fs::write(&path, bytes).expect("write a file");
        let Ok(catalogue) = Catalogue::read(Some(&path)) else { return };
        for entry in &catalogue.packs {
            assert!(catalogue.find(&entry.name).is_some());
        }
    })
}

/// An archive of a pack: whatever it says, files come into one folder and nowhere else.
pub(crate) fn unpack() -> Run {
    let scratch = Scratch::new();
    Box::new(move |bytes| {
        let (archive, into) = (scratch.path().join("a.zip"), scratch.path().join("into"));
        std::fs::write(&archive, bytes).expect("write a file");
        let _ = std::fs::remove_dir_all(&into);
        std::fs::create_dir(&into).expect("make a folder");
        let unpacked = unpack_archive(&archive, &into);
        let mut beside: Vec<_> =
            std::fs::read_dir(scratch.path()).expect("read").map(|e| e.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["a.zip", "into"], "something lies beside the folder");
        let mut models = 0;
        for entry in std::fs::read_dir(&into).expect("read") {
            let entry = entry.expect("an entry");
            assert!(entry.file_type().expect("a type").is_file(), "something is no file");
            models += usize::from(entry.file_name().to_string_lossy().ends_with(".onnx"));
        }
        assert!(unpacked.is_err() || models > 0);
    })
}
