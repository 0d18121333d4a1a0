//! `pack.toml`: what a pack is made of. The format is documented in `models/README.md`.

use serde::Deserialize;

use crate::biometrics::calibration::{Curve, Inflation, KnownCurve, StatedCurve, StatedSteps};
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
    pub curve: Option<CurveEntry>,
    pub golden: Option<GoldenEntry>,
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

/// What the networks computed when the pack was made: see `golden.rs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GoldenEntry {
    pub detector: Vec<f32>,
    pub recognizer: Vec<f32>,
}

/// A calibration curve: points of a cosine, in at most four decimals, and how many scores are at or above it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CurveEntry {
    /// The id of the pack whose templates were compared: it must be this one.
    pub pack: String,
    /// Whose photos were compared, in words.
    source: String,
    /// Rising cosines, from all scores to none.
    #[serde(default)]
    mated: Vec<(f64, u64)>,
    non_mated: Vec<(f64, u64)>,
    /// Cosine, and the ratios of the variances of FMR and FNMR to those of independent comparisons.
    #[serde(default)]
    inflation: Vec<(f32, f64, f64)>,
}

/// Errors of a thinned curve are stated up to this much higher than they were counted.
const CURVE_RATIO: f64 = 1.05;

/// Writes a curve as the section of a manifest, thinned.
pub fn curve_section(curve: &Curve, pack_id: &str, source: &str) -> String {
    let thinned = curve.to_numbers().thinned(CURVE_RATIO);
    let points = |steps: &StatedSteps| {
        let point = |(at, count): &(i32, u64)| format!("[{:.4}, {count}]", f64::from(*at) / 1e4);
        lines(steps.points.iter().map(point))
    };
    let inflation = thinned.inflation.iter().map(|at| format!("[{}, {:.3}, {:.3}]", at.threshold, at.fmr, at.fnmr));
    format!(
        "[curve]                         # how many scores are at or above each cosine; errors up to 5 % above what was counted\n\
         pack = {}\nsource = {}\nmated = [\n{}]\nnon_mated = [\n{}]\n\
         inflation = [                   # cosine, and the variances of FMR and FNMR over those of independent comparisons\n{}]\n",
        toml::Value::from(pack_id),
        toml::Value::from(source),
        points(&thinned.mated),
        points(&thinned.non_mated),
        lines(inflation),
    )
}

/// Puts entries on lines of some hundred letters.
fn lines(entries: impl Iterator<Item = String>) -> String {
    let entries: Vec<String> = entries.collect();
    entries.chunks(6).map(|line| format!("    {},\n", line.join(", "))).collect()
}

impl CurveEntry {
    /// Returns the curve and where it comes from.
    ///
    /// *Errors*: one sentence on what is wrong.
    pub fn read(self) -> Result<(Curve, String), String> {
        let steps = |points: Vec<(f64, u64)>| StatedSteps {
            total: points.first().map_or(0, |(_, count)| *count),
            points: points.into_iter().map(|(cosine, count)| ((cosine * 1e4).round() as i32, count)).collect(),
        };
        let inflation = self.inflation.into_iter().map(|(threshold, fmr, fnmr)| Inflation { threshold, fmr, fnmr });
        let (mated, non_mated) = (steps(self.mated), steps(self.non_mated));
        let stated = StatedCurve { mated, non_mated, inflation: inflation.collect() };
        let curve = Curve::from_numbers(stated).map_err(|error| format!("curve.{error}"))?;
        if curve.non_mated.total() == 0
            || self.source.chars().any(char::is_control)
            || self.source.len() > KnownCurve::SOURCE_BYTES_MAX
        {
            return Err(
                "curve.non_mated must have a score, and curve.source at most 256 bytes without control characters"
                    .to_owned(),
            );
        }
        Ok((curve, self.source))
    }
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
    use crate::biometrics::calibration::ScoreCounts;

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
    fn curve_that_was_written_is_read_again() {
        let mut counts = [ScoreCounts::default(), ScoreCounts::default()];
        let [mated, non_mated] = &mut counts;
        (0..2_000).for_each(|at| mated.add(0.2 + at as f32 / 4_000.0).expect("a score"));
        (0..50_000).for_each(|at| non_mated.add(at as f32 / 200_000.0).expect("a score"));
        let inflation = vec![Inflation { threshold: 0.25, fmr: 2.5, fnmr: 1.25 }];
        let curve = Curve { inflation, ..Curve::of(mated, non_mated) };
        let text = format!("{GOOD}\n{}", curve_section(&curve, "0a", "a \"test\""));
        let entry = Manifest::parse(&text).expect("a manifest").curve.expect("a curve");
        let (read, source) = entry.read().expect("a curve");
        assert_eq!(source, "a \"test\"");
        assert_eq!(read.to_numbers(), curve.to_numbers().thinned(CURVE_RATIO));
        let threshold = |curve: &Curve| curve.threshold_for_fmr(1e-3).expect("a threshold");
        assert!((threshold(&read) - threshold(&curve)).abs() < 1e-3);
        for (spoilt, named) in [("[[0.5, 1], [0.4, 0]]", "non_mated"), ("[]", "non_mated"), ("[[0.5, 1]]", "non_mated")]
        {
            let text = format!("{GOOD}\n[curve]\npack = \"0a\"\nsource = \"s\"\nnon_mated = {spoilt}\n");
            let entry = Manifest::parse(&text).expect("a manifest").curve.expect("a curve");
            assert!(entry.read().expect_err(spoilt).contains(named));
        }
    }

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
