//! What `pull` and `add` do alike: check, put together, try, move in, and say what there is now.

use std::path::Path;

use anyhow::Context;
use serde_json::json;

use super::super::output::printable;
use super::House;
use super::pull::source_text;
use crate::model::{self, Entry, LockedPacks, Pack, PackError, PackName, Published, Record, Staged};

/// A pack on its way in.
pub(super) struct Installation<'a> {
    house: &'a House<'a>,
    locked: &'a LockedPacks,
    entry: Option<&'a Entry>,
    name: &'a PackName,
    staged: Staged,
    from: Vec<String>,
    not_checked: Option<&'static str>,
    /// Checksums that are to be recorded once the pack has turned out to be one.
    first_used: Vec<(&'a Published, String)>,
}

impl<'a> Installation<'a> {
    pub(super) fn begin(
        house: &'a House<'_>,
        locked: &'a LockedPacks,
        name: &'a PackName,
        entry: Option<&'a Entry>,
    ) -> anyhow::Result<Self> {
        let staged = locked.stage(name).context("`facematch models remove` makes room for another")?;
        Ok(Self { house, locked, entry, name, staged, from: Vec::new(), not_checked: None, first_used: Vec::new() })
    }

    /// Returns the folder to put files into.
    pub(super) fn folder(&self) -> &Path {
        self.staged.folder()
    }

    /// Returns what is put together.
    pub(super) fn staged(&self) -> &Staged {
        &self.staged
    }

    /// Notes where files came from.
    pub(super) fn from(&mut self, from: &str) {
        self.from.push(from.to_owned());
    }

    /// Notes why nothing tells that these are the files of the catalogue.
    pub(super) fn not_checked(&mut self, why: &'static str) {
        self.not_checked = Some(why);
    }

    /// Notes the checksum of a file that its publisher has just given: it must have it from now on.
    pub(super) fn first_used(&mut self, file: &'a Published, found: String) {
        self.first_used.push((file, found));
    }

    /// Checks a published file: against the catalogue's checksum, or else the one that it had before. Where there is neither,
    /// returns the one it has.
    pub(super) fn check(&self, file: &Published, path: &Path) -> anyhow::Result<Option<String>> {
        let found = model::sha256_of(path).with_context(|| format!("cannot read {}", path.display()))?;
        match &file.sha256 {
            Some(expected) => {
                let by = source_text(file.sha256_by);
                anyhow::ensure!(
                    found.eq_ignore_ascii_case(expected),
                    "{}: expected SHA-256 {expected} ({by}), found {found}",
                    file.file
                );
                Ok(None)
            }
            None if self.locked.check_recorded(self.name, file, &found)? => Ok(None),
            None => Ok(Some(found)),
        }
    }

    /// Tries the pack and moves it in.
    pub(super) fn end(self, licence_accepted: bool) -> anyhow::Result<()> {
        if let Some(manifest) = self.entry.and_then(|entry| entry.manifest.as_deref()) {
            self.staged.write_manifest(manifest)?;
        }
        let tried = match Pack::load(&self.house.config.untuned_source(self.staged.folder())) {
            Ok(pack) => Some(pack),
            // Packs may be fetched where they are not run, as when an image is built.
            Err(error @ PackError::Library(_)) => {
                eprintln!("facematch: {} was not tried: {error}", self.name);
                None
            }
            Err(error) => {
                return Err(anyhow::Error::new(error).context("it is no pack that can be used; not installed"));
            }
        };
        let licence = match (self.entry, &tried) {
            (Some(entry), _) => entry.licence.title.clone(),
            (None, Some(pack)) => pack.licence.clone(),
            (None, None) => "not stated".to_owned(),
        };
        let files = model::checksums(self.staged.folder())?;
        let not_checked = self.not_checked.map(|why| format!("not checked: {why}"));
        let mut from = self.from.join(" ");
        not_checked.iter().for_each(|not_checked| from.push_str(&format!(", {not_checked}")));
        let record = Record { format: 1, from, licence, licence_accepted, files };
        for (file, found) in &self.first_used {
            self.locked.record_checksum(self.name, file, found)?;
            eprintln!(
                "facematch: {}: its publisher states no checksum. SHA-256 {found} is recorded, and it must be the same from now on",
                file.file
            );
        }
        let folder = self.staged.install(&record)?;
        let value = json!({
            "name": self.name.as_str(), "folder": folder.to_string_lossy(), "installed": true,
            "licence": record.licence, "files": record.files, "not_checked": self.not_checked,
            "pack_id": tried.as_ref().map(|pack| pack.id.as_str()),
            "dimension": tried.as_ref().map(|pack| pack.recognizer.dimension),
        });
        self.house.output.value(&value, || {
            let name = self.name;
            let facts = tried.as_ref().map_or_else(String::new, |pack| {
                format!("\npack {}, {} numbers a template", pack.id.as_str(), pack.recognizer.dimension)
            });
            let warning = not_checked.as_ref().map_or_else(String::new, |not_checked| {
                format!("\n{not_checked}. Nothing tells that these are the files of the catalogue's {name}")
            });
            // A manifest of anybody may state it.
            let licence = printable(&record.licence);
            format!("{name} is installed in {}{facts}{warning}\n{licence}\nuse it with --pack {name}", folder.display())
        })
    }
}
