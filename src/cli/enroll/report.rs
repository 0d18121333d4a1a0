//! The report: a row for each photo without a template, and for each warning; written as they come, and not kept.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use super::super::arguments::finding_text;
use super::source::Place;
use crate::contract as proto;

/// The columns of a report as CSV.
const COLUMNS: [&str; 9] =
    ["photo", "line", "identity_id", "key", "outcome", "reason", "message", "measured", "finding_identity_id"];

/// What is reported of a photo.
pub(super) struct Row {
    pub place: Place,
    pub identity: String,
    pub key: String,
    pub outcome: Outcome,
    pub reason: String,
    pub message: String,
    pub shortfalls: Vec<proto::QualityShortfall>,
    pub finding: Option<proto::EnrollmentFinding>,
}

/// What became of a photo that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was not sent.
    Unusable,
    /// Its own fault.
    Refused,
    /// The server's.
    Failed,
    /// It is enrolled, and the gallery's policies warn of it.
    Warned,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Unusable => "unusable",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Warned => "warned",
        }
    }
}

impl Row {
    /// What a finding warns of.
    pub(super) fn warning(place: Place, identity: String, key: String, finding: &proto::EnrollmentFinding) -> Self {
        Self {
            place,
            identity,
            key,
            outcome: Outcome::Warned,
            reason: kind(finding).to_owned(),
            message: finding_text(finding),
            shortfalls: Vec::new(),
            finding: Some(finding.clone()),
        }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let shortfall = |short: &proto::QualityShortfall| {
            let proto::QualityShortfall { measure, value, limit_name, limit } = short;
            json!({ "measure": measure, "value": value, "limit_name": limit_name, "limit": limit })
        };
        let finding = self.finding.as_ref().map(|finding| {
            let proto::EnrollmentFinding { identity_id, score, cosine, .. } = finding;
            json!({ "kind": kind(finding), "identity_id": identity_id, "score": score, "cosine": cosine })
        });
        let shortfalls: Vec<serde_json::Value> = self.shortfalls.iter().map(shortfall).collect();
        let mut row = serde_json::Map::new();
        let mut put = |name: &str, value: serde_json::Value| row.insert(name.to_owned(), value);
        put("photo", self.place.photo.as_str().into());
        put("identity_id", self.identity.as_str().into());
        put("key", self.key.as_str().into());
        put("outcome", self.outcome.name().into());
        put("reason", self.reason.as_str().into());
        put("message", self.message.as_str().into());
        if let Some(line) = self.place.line {
            put("line", line.into());
        }
        if !shortfalls.is_empty() {
            put("shortfalls", shortfalls.into());
        }
        if let Some(finding) = finding {
            put("finding", finding);
        }
        row.into()
    }

    fn record(&self) -> [String; COLUMNS.len()] {
        let shortfall = |short: &proto::QualityShortfall| {
            format!("{}={} {}={}", short.measure, short.value, short.limit_name, short.limit)
        };
        let found = self.finding.iter().map(|found| format!("score={} cosine={}", found.score, found.cosine));
        let measured: Vec<String> = self.shortfalls.iter().map(shortfall).chain(found).collect();
        [
            self.place.photo.clone(),
            self.place.line.map(|line| line.to_string()).unwrap_or_default(),
            self.identity.clone(),
            self.key.clone(),
            self.outcome.name().to_owned(),
            self.reason.clone(),
            self.message.clone(),
            measured.join("; "),
            self.finding.as_ref().map(|found| found.identity_id.clone()).unwrap_or_default(),
        ]
    }
}

/// Names come from anybody, and spreadsheets run what looks like a formula: such a cell begins with an apostrophe.
fn no_formula(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

fn kind(finding: &proto::EnrollmentFinding) -> &'static str {
    match finding.kind() {
        proto::FindingKind::DuplicateIdentity => "DUPLICATE_IDENTITY",
        proto::FindingKind::UnlikeIdentity => "UNLIKE_IDENTITY",
        proto::FindingKind::Unspecified => "UNKNOWN",
    }
}

/// The file that rows are written to: each at once, so that what has happened is there however the command ends.
pub(super) struct Report {
    path: PathBuf,
    rows: Rows,
}

enum Rows {
    Csv(Box<csv::Writer<File>>),
    Json(File),
}

impl Report {
    /// Makes the file anew: CSV, or JSON lines, by its name.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase()).unwrap_or_default();
        let is_csv = match extension.to_str() {
            Some("csv") => true,
            Some("jsonl" | "ndjson") => false,
            _ => anyhow::bail!("--report must be a name that ends in .csv or .jsonl, found {}", path.display()),
        };
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let rows = if is_csv { Rows::Csv(Box::new(csv::Writer::from_writer(file))) } else { Rows::Json(file) };
        let mut report = Self { path: path.to_path_buf(), rows };
        if let Rows::Csv(writer) = &mut report.rows {
            writer.write_record(COLUMNS)?;
            writer.flush()?;
        }
        Ok(report)
    }

    /// Writes a row.
    pub(super) fn write(&mut self, row: &Row) -> anyhow::Result<()> {
        let written = match &mut self.rows {
            Rows::Csv(writer) => writer
                .write_record(row.record().map(no_formula))
                .map_err(std::io::Error::from)
                .and_then(|()| writer.flush()),
            Rows::Json(file) => file.write_all(format!("{}\n", row.json()).as_bytes()),
        };
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_is_no_formula() {
        for (cell, written) in [("=1+1", "'=1+1"), ("@x", "'@x"), ("-1", "'-1"), ("a=1", "a=1"), ("", "")] {
            assert_eq!(no_formula(cell.to_owned()), written);
        }
    }
}
