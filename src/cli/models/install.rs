//! What `pull` and `add` do alike: check, put together, try, move in, and say what there is now.

use std::path::Path;

use anyhow::Context;
use serde_json::json;

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
        Ok(Self { house, locked, entry, name, staged, from: Vec::new(), first_used: Vec::new() })
    }

    /// Returns the folder to put files into.
    pub(super) fn folder(&self) -> &Path {
        self.staged.folder()
    }

    /// Notes where files came from.
    pub(super) fn from(&mut self, from: &str) {
        self.from.push(from.to_owned());
    }

    /// Checks a published file: against the catalogue's checksum, or else the one that it had before.
    pub(super) fn check(&mut self, file: &'a Published, path: &Path) -> anyhow::Result<()> {
        let found = model::sha256_of(path).with_context(|| format!("cannot read {}", path.display()))?;
        match &file.sha256 {
            Some(expected) => {
                let by = source_text(file.sha256_by);
                anyhow::ensure!(
                    found.eq_ignore_ascii_case(expected),
                    "{}: expected SHA-256 {expected} ({by}), found {found}",
                    file.file
                );
            }
            None if self.locked.check_recorded(self.name, file, &found)? => {}
            None => self.first_used.push((file, found)),
        }
        Ok(())
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
        let record = Record { format: 1, from: self.from.join(" "), licence, licence_accepted, files };
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
            "licence": record.licence, "files": record.files,
            "pack_id": tried.as_ref().map(|pack| pack.id.as_str()),
            "dimension": tried.as_ref().map(|pack| pack.recognizer.dimension),
        });
        self.house.output.value(&value, || {
            let name = self.name;
            let facts = tried.as_ref().map_or_else(String::new, |pack| {
                format!("\npack {}, {} numbers a template", pack.id.as_str(), pack.recognizer.dimension)
            });
            format!("{name} is installed in {}{facts}\n{}\nuse it with --pack {name}", folder.display(), record.licence)
        })
    }
}
