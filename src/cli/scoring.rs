//! Scores of pairs of photos, and files of them.

use std::path::Path;

use anyhow::Context;

use super::calibrate::pairs::{Pairs, reader};
use super::embeddings::Acquired;
use crate::biometrics::score::{Score, Threshold};

/// Scores each row on all cores; `None` where a photo has no template.
pub(super) fn score_rows(pairs: &Pairs, acquired: &Acquired, threads: usize) -> Vec<Option<f32>> {
    let template = |photo: u32| acquired.templates.get(photo as usize).and_then(|template| template.as_ref().ok());
    let mut scores = vec![None; pairs.rows.len()];
    let part = pairs.rows.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        for (rows, scores) in pairs.rows.chunks(part).zip(scores.chunks_mut(part)) {
            scope.spawn(move || {
                for (row, score) in rows.iter().zip(scores) {
                    let both = template(row.a).zip(template(row.b));
                    *score = both.and_then(|(a, b)| a.score(b).ok()).map(Score::cosine);
                }
            });
        }
    });
    scores
}

/// Writes the file again with columns added: `label_pred`, where there is a threshold, `score` and `reason`. A row whose
/// photo has no template has no score, the reason why, and, as in the study, the label 0.
pub(super) fn write_scores(
    from: &Path,
    to: &Path,
    pairs: &Pairs,
    scores: &[Option<f32>],
    acquired: &Acquired,
    threshold: Option<Threshold>,
) -> anyhow::Result<()> {
    let cannot_write = || format!("cannot write {}", to.display());
    let mut reader = reader(from)?;
    let mut header = reader.headers()?.clone();
    let added: &[&str] = if threshold.is_some() { &["label_pred", "score", "reason"] } else { &["score", "reason"] };
    for name in added {
        anyhow::ensure!(
            header.iter().all(|title| title != *name),
            "{}: line 1: there is a column {name:?} already",
            from.display()
        );
        header.push_field(name);
    }
    // Under another name until it is whole.
    let partial = to.with_extension("partial");
    let mut file = csv::Writer::from_path(&partial).with_context(cannot_write)?;
    file.write_record(&header)?;
    let failure = |photo: u32| acquired.templates.get(photo as usize).and_then(|template| template.as_ref().err());
    let mut record = csv::StringRecord::new();
    for (row, score) in pairs.rows.iter().zip(scores) {
        anyhow::ensure!(reader.read_record(&mut record)?, "{} changed while it was read", from.display());
        if let Some(threshold) = threshold {
            let is_match = score.is_some_and(|score| threshold.admits(Score::from_cosine(score)));
            record.push_field(if is_match { "1" } else { "0" });
        }
        record.push_field(&score.map_or_else(String::new, |score| score.to_string()));
        let reasons: Vec<String> = [(1, row.a), (2, row.b)]
            .into_iter()
            .filter_map(|(side, photo)| Some(format!("image{side} {}", failure(photo)?)))
            .collect();
        record.push_field(&reasons.join("; "));
        file.write_record(&record)?;
    }
    file.flush().with_context(cannot_write)?;
    drop(file);
    std::fs::rename(&partial, to).with_context(cannot_write)
}
