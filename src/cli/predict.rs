//! `predict` and `score`: a file of pairs, answered.

use std::path::PathBuf;

use anyhow::Context;

use super::Answer;
use super::arguments::{Detection, Face};
use super::calibrate::pairs::{Columns, Pairs, read};
use super::calibrate::report::read_curve;
use super::embeddings::{Acquired, Acquisition, by_reason, check_pack};
use super::output::Output;
use super::scoring::{score_rows, write_scores};
use crate::biometrics::score::{ErrorRate, Score, Threshold};
use crate::config::Config;

/// Say of each pair of photos in a file whether it shows the same person. Needs no server
///
/// The file is written again with the columns label_pred, score and reason. A pair with a photo that gives no template is
/// labelled 0 and has the reason. Exit code 0: done; 1: some photos gave no template; 2: error. With --json: one object with
/// the counts, the threshold and where it came from.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pairs: PairsOfPhotos,
    /// Cosine from -1 to 1: a score at or above it is a match
    #[arg(
        long,
        value_name = "COSINE",
        allow_negative_numbers = true,
        required_unless_present = "fmr",
        conflicts_with = "fmr"
    )]
    threshold: Option<f32>,
    /// The false match rate to keep to, such as 1e-3: the threshold is read off the curve
    #[arg(long, value_name = "RATE", requires = "curve")]
    fmr: Option<f64>,
    /// The report.json of `calibrate`
    #[arg(long, value_name = "FILE")]
    curve: Option<PathBuf>,
}

/// Score each pair of photos in a file. Needs no server
///
/// The file is written again with the columns score and reason: why there is no score. Exit code 0: done; 1: some photos gave
/// no template; 2: error. With --json: one object with the counts.
#[derive(clap::Args)]
pub(super) struct ScoreArguments {
    #[command(flatten)]
    pairs: PairsOfPhotos,
}

/// A file, its photos, and how they are looked at.
#[derive(clap::Args)]
struct PairsOfPhotos {
    /// Pairs of photos: the columns image1 and image2; others are kept
    #[arg(value_name = "PAIRS.csv")]
    file: PathBuf,
    /// The folder that the photos' paths are below
    #[arg(long, value_name = "DIR")]
    photos: PathBuf,
    /// The file to write
    #[arg(long, short, value_name = "FILE.csv", default_value = "predictions.csv")]
    out: PathBuf,
    /// Where templates are kept by photo and pack, such as a calibration's [default: nowhere]
    #[arg(long, value_name = "DIR")]
    embeddings: Option<PathBuf>,
    #[command(flatten)]
    columns: Columns,
    #[command(flatten)]
    face: Face,
    #[command(flatten)]
    detection: Detection,
}

/// A threshold and where it came from.
struct Stated {
    threshold: Threshold,
    source: String,
    pack: Option<String>,
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    let stated = stated(&arguments)?;
    let (pairs, acquired, scores) = arguments.pairs.score(config, output).await?;
    if let Some(pack) = &stated.pack {
        check_pack(pack, &acquired.pack.id)?;
    }
    let PairsOfPhotos { file, out, .. } = &arguments.pairs;
    write_scores(file, out, &pairs, &scores, &acquired, Some(stated.threshold))?;
    let is_match = |score: &&Option<f32>| score.is_some_and(|score| stated.threshold.admits(Score::from_cosine(score)));
    let matches = scores.iter().filter(is_match).count();
    let mut told = told(&pairs, &acquired, &scores);
    if let Some(object) = told.as_object_mut() {
        object.insert("matches".to_owned(), matches.into());
        object.insert("threshold".to_owned(), super::calibrate::report::cosine(stated.threshold.cosine()));
        object.insert("threshold_source".to_owned(), stated.source.clone().into());
    }
    let text = || {
        let threshold = stated.threshold.cosine();
        format!("{}\n{matches} labelled 1 at a threshold of {threshold} ({})", text(&told, out), stated.source)
    };
    output.value(&told, text)?;
    Ok(Answer::yes_if(acquired.templates.iter().all(Result::is_ok)))
}

pub(super) async fn run_score(config: &Config, output: &Output, arguments: ScoreArguments) -> anyhow::Result<Answer> {
    let (pairs, acquired, scores) = arguments.pairs.score(config, output).await?;
    let PairsOfPhotos { file, out, .. } = &arguments.pairs;
    write_scores(file, out, &pairs, &scores, &acquired, None)?;
    let told = told(&pairs, &acquired, &scores);
    output.value(&told, || text(&told, out))?;
    Ok(Answer::yes_if(acquired.templates.iter().all(Result::is_ok)))
}

fn stated(arguments: &Arguments) -> anyhow::Result<Stated> {
    if let Some(cosine) = arguments.threshold {
        let threshold = Threshold::from_cosine("--threshold", cosine)?;
        return Ok(Stated { threshold, source: "as asked".to_owned(), pack: None });
    }
    let (Some(fmr), Some(path)) = (arguments.fmr, &arguments.curve) else {
        anyhow::bail!("a --threshold, or --fmr and a --curve, is needed");
    };
    ErrorRate::new("--fmr", fmr)?;
    let cannot_read = || format!("cannot read a curve from {}", path.display());
    let report = std::fs::read(path).with_context(cannot_read)?;
    let report: serde_json::Value = serde_json::from_slice(&report).with_context(cannot_read)?;
    let (curve, pack) = read_curve(&report).with_context(cannot_read)?;
    let cosine = curve.threshold_for_fmr(fmr).with_context(|| format!("FMR {fmr:e} by {}", path.display()))?;
    let found = curve.fmr(cosine);
    let source = format!(
        "FMR {:.2e}, 95 % interval {:.2e} to {:.2e}, of {} non-mated comparisons in {}",
        found.value(),
        found.interval.low,
        found.interval.high,
        found.of,
        path.display()
    );
    Ok(Stated { threshold: Threshold::from_cosine("threshold", cosine)?, source, pack: Some(pack) })
}

impl PairsOfPhotos {
    async fn score(&self, config: &Config, output: &Output) -> anyhow::Result<(Pairs, Acquired, Vec<Option<f32>>)> {
        let pairs = read(&self.file, &self.columns, false)?;
        pairs.check_photos(&self.photos, &self.file)?;
        let acquisition = Acquisition {
            config,
            output,
            settings: self.detection.settings()?,
            selection: self.face.selection(),
            cache: self.embeddings.as_deref(),
        };
        let paths: Vec<PathBuf> = pairs.photos.iter().map(|photo| self.photos.join(photo)).collect();
        let acquired = acquisition.run(&paths).await?;
        let scores = score_rows(&pairs, &acquired, config.workers);
        Ok((pairs, acquired, scores))
    }
}

fn told(pairs: &Pairs, acquired: &Acquired, scores: &[Option<f32>]) -> serde_json::Value {
    let failures = acquired.templates.iter().filter_map(|template| template.as_ref().err());
    serde_json::json!({
        "pairs": pairs.rows.len(),
        "scored": scores.iter().flatten().count(),
        "photos": pairs.photos.len(),
        "photos_without_template": by_reason(failures),
        "pack_id": acquired.pack.id.as_str(),
    })
}

fn text(told: &serde_json::Value, out: &std::path::Path) -> String {
    let none = serde_json::json!({});
    let without = if told["photos_without_template"] == none {
        String::new()
    } else {
        format!("; photos without a template: {}", told["photos_without_template"])
    };
    format!("{} of {} pairs scored in {}{without}", told["scored"], told["pairs"], out.display())
}
