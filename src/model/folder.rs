//! A plain InsightFace folder: model files without a manifest. What each is, is told from its inputs and outputs.

use std::path::{Path, PathBuf};

use ort::environment::Environment;

use super::graph;
use super::manifest::{default_nms_iou_max, default_score_min};
use super::pack::{DetectorSpec, ModelFile, PackError, PackParts, RecognizerSpec};
use super::session::Signature;
use crate::detect::head::{Head, HeadKind};
use crate::embed::CHIP_SIDE_PX;
use crate::tensor::{ChannelOrder, Preprocessing};

/// Reads every `*.onnx` of a folder and keeps the one detector and the one recogniser; landmark, age and gender models
/// are passed over.
pub(super) fn read(folder: &Path, environment: &Environment) -> Result<PackParts, PackError> {
    let mut detectors = Vec::new();
    let mut recognizers = Vec::new();
    for path in model_paths(folder)? {
        let file = ModelFile::read(&path)?;
        let opened = file.network.open(environment);
        let opened = opened.map_err(|source| PackError::NotAModel { path: path.clone(), source: source.into() })?;
        let signature = Signature::of(&opened);
        if let Some(spec) = detector(&signature) {
            detectors.push((file, spec));
        } else if let Some(spec) = recognizer(&signature, &file, &path)? {
            recognizers.push((file, spec));
        }
    }
    let (detector_file, detector) = the_only(detectors, "detector with landmarks", folder)?;
    let (recognizer_file, recognizer) = the_only(recognizers, "112x112 recogniser", folder)?;
    Ok(PackParts {
        name: folder.file_name().map_or_else(|| "pack".into(), |name| name.to_string_lossy().into_owned()),
        licence: "not stated; see where the folder came from".to_owned(),
        detector_file,
        detector,
        recognizer_file,
        recognizer,
        verification: None,
        identification: None,
        curve: None,
        curve_pack: None,
        golden: None,
    })
}

fn model_paths(folder: &Path) -> Result<Vec<PathBuf>, PackError> {
    let unreadable = |source| PackError::Unreadable { path: folder.to_path_buf(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "onnx") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn detector(signature: &Signature) -> Option<DetectorSpec> {
    let head = Head::from_outputs(&signature.head_outputs())?;
    let preprocessing = match head.kind() {
        HeadKind::Scrfd => Preprocessing { channels: ChannelOrder::Rgb, mean: [127.5; 3], std: [128.0; 3] },
        HeadKind::Yunet => Preprocessing { channels: ChannelOrder::Bgr, mean: [0.0; 3], std: [1.0; 3] },
    };
    Some(DetectorSpec {
        head,
        preprocessing,
        // Both are set from the file when the pack is put together.
        fixed_side_px: None,
        takes_rectangles: false,
        score_min: default_score_min(),
        nms_iou_max: default_nms_iou_max(),
    })
}

fn recognizer(signature: &Signature, file: &ModelFile, path: &Path) -> Result<Option<RecognizerSpec>, PackError> {
    let side = Some(CHIP_SIDE_PX as usize);
    let takes_chips = matches!(signature.inputs.as_slice(), [input] if input.get(1..) == Some(&[Some(3), side, side]));
    let dimension = match signature.outputs.as_slice() {
        [(_, axes)] if axes.len() == 2 => axes.last().copied().flatten(),
        _ => None,
    };
    let (true, Some(dimension)) = (takes_chips, dimension) else { return Ok(None) };
    let raw = graph::normalizes_its_input(&file.network.bytes)
        .map_err(|source| PackError::NotAModel { path: path.to_path_buf(), source: source.into() })?;
    let (mean, std) = if raw { (0.0, 1.0) } else { (127.5, 127.5) };
    let preprocessing = Preprocessing { channels: ChannelOrder::Rgb, mean: [mean; 3], std: [std; 3] };
    Ok(Some(RecognizerSpec { preprocessing, dimension, batch: None }))
}

fn the_only<T>(mut found: Vec<(ModelFile, T)>, kind: &'static str, folder: &Path) -> Result<(ModelFile, T), PackError> {
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => Err(PackError::NotOne {
            kind,
            folder: folder.to_path_buf(),
            found: found.into_iter().chain(last).map(|(file, _)| file.name).collect(),
        }),
    }
}
