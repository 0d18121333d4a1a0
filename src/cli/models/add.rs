//! `models add`: a pack from an archive or a folder on this machine.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::super::Answer;
use super::install::Installation;
use super::{House, licence};
use crate::model::{self, Entry, PackName, UnpackError};

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
        installation.from(&path.to_string_lossy());
        match entry {
            Some(entry) => take_of_catalogue(&mut installation, entry, &path)?,
            None => take(&path, installation.folder())?,
        }
        installation.end(entry.is_some_and(|entry| entry.licence.must_be_accepted))?;
        Ok(Answer::Yes)
    }
}

fn take(path: &Path, into: &Path) -> Result<(), UnpackError> {
    if path.is_dir() { model::copy(path, into) } else { model::unpack(path, into) }
}

/// Takes what is to have a name of the catalogue: the published archive, or what has the published files in it. Whoever reads
/// that name expects its publisher's weights, fed as the catalogue has it.
fn take_of_catalogue(installation: &mut Installation<'_>, entry: &Entry, path: &Path) -> anyhow::Result<()> {
    let name = &entry.name;
    let another = || format!("this is not the {name} of the catalogue; give it another name with --name");
    let archive = entry.files.iter().find(|file| file.is_archive() && path.is_file());
    if let Some(file) = archive
        && installation.check(file, path).with_context(another)?.is_none()
    {
        return Ok(model::unpack(path, installation.folder())?);
    }
    take(path, installation.folder())?;
    let files: Vec<_> = entry.files.iter().filter(|file| !file.is_archive()).collect();
    let names: Vec<&str> = files.iter().map(|file| file.file.as_str()).collect();
    if installation.staged().has_manifest() && !names.contains(&"pack.toml") {
        return Err(anyhow::anyhow!("{} has a pack.toml of its own", path.display()).context(another()));
    }
    let mut all_known = !files.is_empty();
    for file in files {
        let taken = installation.folder().join(&file.file);
        let missing = || anyhow::anyhow!("{} is missing", file.file);
        taken.exists().then_some(()).ok_or_else(missing).with_context(another)?;
        all_known &= installation.check(file, &taken).with_context(another)?.is_none();
    }
    if !names.is_empty() {
        installation.staged().keep_only(&names)?;
    }
    if !all_known {
        installation.not_checked(if path.is_dir() { "from a folder" } else { "no checksum of it is known" });
    }
    Ok(())
}
