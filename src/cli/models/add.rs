//! `models add`: a pack from an archive or a folder on this machine.

use std::path::PathBuf;

use anyhow::Context;

use super::super::Answer;
use super::install::Installation;
use super::{House, licence};
use crate::model::{self, PackName};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A ZIP archive, or a folder with *.onnx files, and pack.toml where it has one
    #[arg(value_name = "ZIP|FOLDER")]
    path: PathBuf,
    /// The name to install it under [default: that of the archive or folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Accept the licence of a pack of the catalogue without being asked
    #[arg(long)]
    accept_licence: bool,
}

impl House<'_> {
    pub(super) fn add(&self, arguments: &Arguments) -> anyhow::Result<Answer> {
        // Of `.` too the name is that of the folder.
        let cannot_read = || format!("cannot read {}", arguments.path.display());
        let path = arguments.path.canonicalize().with_context(cannot_read)?;
        // A pipe or a device may have no end.
        anyhow::ensure!(path.is_dir() || path.is_file(), "{} is neither a file nor a folder", arguments.path.display());
        let name = match (&arguments.name, if path.is_dir() { path.file_name() } else { path.file_stem() }) {
            (Some(name), _) => PackName::parse(name)?,
            (None, name) => {
                PackName::parse(&name.unwrap_or_default().to_string_lossy()).context("name it with --name")?
            }
        };
        let entry = self.catalogue.find(&name);
        if let Some(entry) = entry {
            licence::accept(&entry.licence, arguments.accept_licence)?;
        }
        let locked = self.lock()?;
        let mut installation = Installation::begin(self, &locked, &name, entry)?;
        if path.is_dir() {
            model::copy(&path, installation.folder())?;
        } else {
            let published = entry.and_then(|entry| entry.files.iter().find(|file| file.is_archive()));
            if let Some(file) = published {
                installation.check(file, &path).with_context(|| {
                    format!("this is not the {name} of the catalogue; give it another name with --name")
                })?;
            }
            model::unpack(&path, installation.folder())?;
        }
        installation.from(&path.to_string_lossy());
        installation.end(entry.is_some_and(|entry| entry.licence.must_be_accepted))?;
        Ok(Answer::Yes)
    }
}
