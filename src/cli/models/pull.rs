//! `models pull`: a pack of the catalogue, from its publisher or a mirror.

use std::path::Path;

use anyhow::Context;

use super::super::Answer;
use super::super::output::complain;
use super::install::Installation;
use super::{House, licence};
use crate::model::{self, DownloadError, Downloader, Entry, LockedPacks, PackName, Progress, Published, Source};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its name; `facematch models list` shows all
    #[arg(value_name = "NAME")]
    pack: String,
    /// Accept the licence without being asked; `facematch models info NAME` shows it
    #[arg(long)]
    accept_licence: bool,
}

impl House<'_> {
    pub(super) fn pull(&self, arguments: &Arguments) -> anyhow::Result<Answer> {
        let name = PackName::parse(&arguments.pack)?;
        let entry = self
            .catalogue
            .find(&name)
            .with_context(|| format!("the catalogue has no pack {name}; `facematch models list` shows what it has"))?;
        if let Some(instead) = &entry.instead {
            anyhow::bail!("{name} cannot be fetched. {}", instead.trim());
        }
        // Before the licence and once more after the wait: it may be there by then.
        if self.is_there(&name)? {
            return Ok(Answer::Yes);
        }
        licence::accept(&entry.licence, arguments.accept_licence)?;
        let locked = self.lock()?;
        if self.is_there(&name)? {
            return Ok(Answer::Yes);
        }
        self.fetch(entry, &locked)?;
        Ok(Answer::Yes)
    }

    fn is_there(&self, name: &PackName) -> anyhow::Result<bool> {
        if self.packs.record(name).is_err() {
            return Ok(false);
        }
        let folder = self.packs.path(name);
        let value =
            serde_json::json!({ "name": name.as_str(), "folder": folder.to_string_lossy(), "installed": false });
        self.output.value(&value, || format!("{name} is installed already, in {}", folder.display()))?;
        Ok(true)
    }

    fn fetch(&self, entry: &Entry, locked: &LockedPacks) -> anyhow::Result<()> {
        let name = &entry.name;
        let mut installation = Installation::begin(self, locked, name, Some(entry))?;
        let downloads = locked.downloads(name)?;
        let downloader = Downloader::new(&self.config.proxy)?;
        for file in &entry.files {
            let path = downloads.join(&file.file);
            let from = self.download(&downloader, file, &path)?;
            match installation.check(file, &path) {
                Ok(unknown) => unknown.into_iter().for_each(|found| installation.first_used(file, found)),
                Err(error) => {
                    // What is wrong as a whole is not gone on with.
                    locked.remove_downloads(name)?;
                    return Err(error.context(format!("{from}: what was fetched is not used")));
                }
            }
            let taken = match file.is_archive() {
                true => model::unpack(&path, installation.folder()),
                false => model::copy_file(&path, installation.folder()),
            };
            if let Err(error) = taken {
                locked.remove_downloads(name)?;
                return Err(anyhow::Error::new(error).context(format!("{from}: what was fetched is not used")));
            }
            installation.from(&from);
        }
        installation.end(entry.licence.must_be_accepted)?;
        Ok(locked.remove_downloads(name)?)
    }

    fn download(&self, downloader: &Downloader, file: &Published, path: &Path) -> anyhow::Result<String> {
        let addresses = match &self.config.mirror {
            Some(mirror) => vec![format!("{}/{}", mirror.trim_end_matches('/'), file.file)],
            None => file.addresses.clone(),
        };
        let bar = self.output.byte_progress(file.bytes);
        let mut from = String::new();
        let fetched = downloader.fetch(&addresses, file.bytes, path, &mut |progress| match progress {
            Progress::At(address, bytes) => {
                address.clone_into(&mut from);
                bar.set_position(bytes);
                // What has come before is not part of the speed.
                bar.reset_eta();
            }
            Progress::Bytes(bytes) => bar.inc(bytes),
            Progress::Again(error) => {
                let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
                complain(&bar, &format!("{error}{cause}; trying again"));
            }
        });
        bar.finish_and_clear();
        fetched.map_err(|error| match error {
            DownloadError::Cut { .. } => anyhow::Error::new(error).context("run it again to go on from there"),
            DownloadError::Unreachable { .. } => anyhow::Error::new(error).context(
                "where there is no internet, --mirror names another place, and `facematch models add` takes a file",
            ),
            error => error.into(),
        })?;
        Ok(from)
    }
}

/// Says whose word a checksum is.
pub(super) fn source_text(source: Option<Source>) -> &'static str {
    match source {
        Some(Source::Publisher) => "as its publisher states it",
        Some(Source::Others) => "as others state it; its publisher states none",
        None => "none is published: it is recorded when the file is first fetched",
    }
}
