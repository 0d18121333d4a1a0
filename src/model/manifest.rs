//! `pack.toml`: what a pack is made of. The format is documented in `models/README.md`.

use serde::Deserialize;

use crate::tensor::{ChannelOrder, Preprocessing};

/// Name of the manifest in a pack's folder.
pub(super) const FILE_NAME: &str = "pack.toml";

/// A manifest as written. Unknown keys are refused, so that a misspelt one is not a silent default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Version of this format: 1.
    pub format: u32,
    pub name: String,
    pub licence: String,
    pub detector: DetectorEntry,
    pub recognizer: RecognizerEntry,
    #[serde(default)]
    pub thresholds: ThresholdEntries,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DetectorEntry {
    #[serde(flatten)]
    pub model: ModelEntry,
    /// `scrfd` or `yunet`; checked against the file's outputs.
    pub layout: String,
    /// Faces with a lower score are not reported.
    #[serde(default = "default_score_min")]
    pub score_min: f32,
    /// Of candidates that overlap more than this the best is kept.
    #[serde(default = "default_nms_iou_max")]
    pub nms_iou_max: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecognizerEntry {
    #[serde(flatten)]
    pub model: ModelEntry,
    /// Length of an embedding; checked against the file's output.
    pub dimension: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct ModelEntry {
    /// A file name, no path.
    pub file: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
    pub channels: ChannelOrder,
    /// On the scale of 8-bit pixels.
    pub mean: [f32; 3],
    /// On the scale of 8-bit pixels.
    pub std: [f32; 3],
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThresholdEntries {
    pub verification_cosine: Option<f32>,
    pub identification_cosine: Option<f32>,
}

impl ModelEntry {
    pub fn preprocessing(&self) -> Preprocessing {
        Preprocessing { channels: self.channels, mean: self.mean, std: self.std }
    }
}

/// InsightFace's default.
pub(super) fn default_score_min() -> f32 {
    0.5
}

/// InsightFace's default.
pub(super) fn default_nms_iou_max() -> f32 {
    0.4
}

impl Manifest {
    /// Reads and checks a manifest. *Errors*: one sentence on what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Manifest = toml::from_str(text).map_err(|error| error.to_string())?;
        let entries = [("detector", &manifest.detector.model), ("recognizer", &manifest.recognizer.model)];
        if manifest.format != 1 {
            return Err(format!("format is {}; this version reads format 1", manifest.format));
        }
        for (section, entry) in entries {
            let plain_name = !entry.file.is_empty() && !entry.file.contains(['/', '\\']) && entry.file != "..";
            if !plain_name {
                return Err(format!("{section}.file must be a file name without a path, found {:?}", entry.file));
            }
            if !entry.std.iter().all(|std| std.is_normal()) || !entry.mean.iter().all(|mean| mean.is_finite()) {
                return Err(format!("{section}.mean must be finite and {section}.std finite and not zero"));
            }
        }
        for (key, value) in [
            ("detector.score_min", manifest.detector.score_min),
            ("detector.nms_iou_max", manifest.detector.nms_iou_max),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{key} must be from 0 to 1, found {value}"));
            }
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        format = 1
        name = "n"
        licence = "l"
        [detector]
        file = "d.onnx"
        sha256 = "00"
        layout = "scrfd"
        channels = "rgb"
        mean = [127.5, 127.5, 127.5]
        std = [128, 128, 128]
        [recognizer]
        file = "r.onnx"
        sha256 = "00"
        dimension = 512
        channels = "bgr"
        mean = [0, 0, 0]
        std = [1, 1, 1]
    "#;

    #[test]
    fn manifest_with_a_fault_names_it() {
        let cases = [
            ("format = 1", "format = 2", "format"),
            ("d.onnx", "../d.onnx", "detector.file"),
            ("std = [1, 1, 1]", "std = [1, 0, 1]", "recognizer.std"),
            ("\"rgb\"", "\"rbg\"", "rbg"),
            ("dimension = 512", "dimensions = 512", "dimension"),
            ("layout = \"scrfd\"", "layout = \"scrfd\"\nscore_min = 7", "score_min"),
            ("licence = \"l\"", "licence = \"l\"\ncolour = 1", "colour"),
        ];
        assert!(Manifest::parse(GOOD).is_ok());
        for (from, to, named) in cases {
            let fault = Manifest::parse(&GOOD.replace(from, to)).expect_err(to);
            assert!(fault.contains(named), "{to}: {fault}");
        }
    }
}
