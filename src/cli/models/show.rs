//! `models info` and `verify`: what a pack is, and whether it still is what was installed.

use std::fmt::Write;

use indicatif::DecimalBytes;
use serde_json::{Value, json};

use super::super::Answer;
use super::super::arguments::count;
use super::super::output::printable;
use super::House;
use super::pull::source_text;
use crate::model::{Entry, Pack, PackError, PackName, PackSource, PacksError, Record, Tuning};

impl House<'_> {
    pub(super) fn info(&self, name: &PackName) -> anyhow::Result<Answer> {
        let entry = self.catalogue.find(name);
        let installed = match self.packs.record(name) {
            Ok(record) => Some(self.installed(name, &record)),
            Err(PacksError::NotInstalled { .. }) if entry.is_some() => None,
            Err(error @ PacksError::NotInstalled { .. }) => return Err(error.into()),
            Err(error) => {
                Some(json!({ "folder": self.packs.path(name).to_string_lossy(), "damaged": error_text(error) }))
            }
        };
        let value = json!({ "name": name.as_str(), "catalogue": entry.map(entry_json), "installed": installed });
        self.output.value(&value, || {
            let mut text = name.to_string();
            entry.inspect(|entry| text.push_str(&entry_text(entry)));
            match &installed {
                Some(installed) => text.push_str(&installed_text(installed)),
                None => text.push_str("\nnot installed"),
            }
            // Line by line: what a manifest of anybody says steers no terminal.
            text.lines().map(printable).collect::<Vec<_>>().join("\n")
        })?;
        Ok(Answer::Yes)
    }

    pub(super) fn golden(&self, pack: &str) -> anyhow::Result<Answer> {
        // As the files have them: tuning must come to the same.
        let source = PackSource { tuning: Tuning::Off, ..self.config.source(pack)? };
        let golden = Pack::golden(&source)?;
        let value = json!({ "detector": golden.detector, "recognizer": golden.recognizer });
        self.output.value(&value, || golden.section())?;
        Ok(Answer::Yes)
    }

    fn installed(&self, name: &PackName, record: &Record) -> Value {
        let folder = self.packs.path(name);
        let files: Vec<Value> = record
            .files
            .iter()
            .map(|(file, sha256)| {
                let bytes = std::fs::metadata(folder.join(file)).ok().map(|metadata| metadata.len());
                json!({ "file": file, "bytes": bytes, "sha256": sha256 })
            })
            .collect();
        let loaded = match Pack::load(&self.config.untuned_source(&folder)) {
            Ok(pack) => json!({
                "pack_id": pack.id.as_str(), "name": pack.name, "licence": pack.licence,
                "dimension": pack.recognizer.dimension, "detector": pack.detector.head.kind().name(),
                "verification_cosine": pack.verification.map(|threshold| threshold.cosine()),
                "identification_cosine": pack.identification.map(|threshold| threshold.cosine()),
            }),
            Err(error) => json!({ "error": error_text(error) }),
        };
        json!({
            "folder": folder.to_string_lossy(), "from": record.from, "licence": record.licence,
            "licence_accepted": record.licence_accepted, "files": files, "loaded": loaded,
        })
    }

    pub(super) fn verify(&self, names: &[String]) -> anyhow::Result<Answer> {
        let names = match names {
            [] => self.packs.names()?,
            names => names.iter().map(|name| PackName::parse(name)).collect::<Result<_, _>>()?,
        };
        let mut all_whole = true;
        for name in &names {
            let (files, faults) = match self.packs.record(name) {
                Ok(record) => (record.files.len(), self.faults(name, &record)?),
                Err(error @ PacksError::NotInstalled { .. }) => return Err(error.into()),
                Err(error) => (0, vec![error_text(error)]),
            };
            all_whole &= faults.is_empty();
            let value = json!({ "name": name.as_str(), "files": files, "faults": faults });
            self.output.value(&value, || match faults.as_slice() {
                [] => format!("{name}: as it was installed, {}", count(files, "file", "files")),
                faults => printable(&format!("{name}: {}", faults.join("; "))),
            })?;
        }
        Ok(Answer::yes_if(all_whole))
    }

    fn faults(&self, name: &PackName, record: &Record) -> anyhow::Result<Vec<String>> {
        let folder = self.packs.path(name);
        let mut faults: Vec<String> = match record.differences(&folder) {
            Ok(differences) => differences.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error_text(error)],
        };
        match Pack::load(&self.config.untuned_source(&folder)) {
            Ok(_) => {}
            // Nothing is known of the pack then.
            Err(error @ PackError::Library(_)) => return Err(error.into()),
            Err(error) => faults.push(error_text(error)),
        }
        Ok(faults)
    }
}

/// The error and its causes.
fn error_text(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

fn entry_json(entry: &Entry) -> Value {
    json!({ "about": entry.about, "licence": entry.licence, "files": entry.files, "instead": entry.instead })
}

fn entry_text(entry: &Entry) -> String {
    let mut text = format!(": {}\n\n{}\n{}\n", entry.about, entry.licence.title, entry.licence.text.trim());
    if entry.licence.must_be_accepted {
        text.push_str("This licence must be accepted before the pack is fetched.\n");
    }
    for file in &entry.files {
        let (size, addresses) = (DecimalBytes(file.bytes), file.addresses.join("\n  or "));
        // Writing to a text cannot fail.
        let _ = write!(text, "\n{}, {size}\n     {addresses}\n", file.file);
        let _ = writeln!(text, "  SHA-256 {}: {}", file.sha256.as_deref().unwrap_or("-"), source_text(file.sha256_by));
    }
    if let Some(instead) = &entry.instead {
        let _ = write!(text, "\n{}\n", instead.trim());
    }
    text
}

fn installed_text(installed: &Value) -> String {
    let field = |value: &Value, key: &str| value.get(key).map(shown).unwrap_or_default();
    if installed.get("damaged").is_some() {
        let (folder, damaged) = (field(installed, "folder"), field(installed, "damaged"));
        return format!("\ninstalled in {folder}\ndamaged: {damaged}");
    }
    let mut text = format!("\ninstalled in {}, from {}\n", field(installed, "folder"), field(installed, "from"));
    let _ = writeln!(text, "licence: {}", field(installed, "licence"));
    for file in installed.get("files").and_then(Value::as_array).into_iter().flatten() {
        let size = file
            .get("bytes")
            .and_then(Value::as_u64)
            .map_or_else(|| "missing".to_owned(), |bytes| DecimalBytes(bytes).to_string());
        let _ = writeln!(text, "  {}, {size}, SHA-256 {}", field(file, "file"), field(file, "sha256"));
    }
    let Some(loaded) = installed.get("loaded") else { return text };
    if loaded.get("error").is_some() {
        let _ = writeln!(text, "cannot be loaded: {}", field(loaded, "error"));
        return text;
    }
    let threshold = |key: &str| match loaded.get(key).and_then(Value::as_f64) {
        Some(cosine) => format!("{cosine:.4}"),
        None => "none of its own".to_owned(),
    };
    let _ = writeln!(
        text,
        "pack {}, {} numbers a template, detector {}",
        field(loaded, "pack_id"),
        field(loaded, "dimension"),
        field(loaded, "detector")
    );
    let _ = writeln!(
        text,
        "thresholds: verification {}, identification {}",
        threshold("verification_cosine"),
        threshold("identification_cosine")
    );
    text
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
