//! `store`: keys, and the encryption of a store that no server runs on.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::Answer;
use super::output::Output;
use crate::config::Config;
use crate::gallery::{KeyChange, MasterKey, change_key};
use crate::runtime::core_dumps;

/// Make keys, and encrypt, decrypt or give another key to a store that no server runs on
///
/// Killed at any time, a store opens by the key of before or by the new one, and the command may be run again.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key: 32 random bytes as a line of base64. Its id, which is no secret, is told on stderr
    ///
    /// Keep a copy where the store's backups are not: without its key nothing brings a store back. A file that stdout leads to
    /// is made its owner's alone.
    NewKey {
        /// Where to; one that exists is not touched [default: stdout]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Encrypt a plain store. With --json: key_id, identities, damaged
    Encrypt {
        #[command(flatten)]
        key: KeyFile,
    },
    /// Wrap the keys of an encrypted store by another key. With --json: key_id, identities, damaged
    RotateKey {
        #[command(flatten)]
        key: KeyFile,
        /// File of the new key
        #[arg(long, value_name = "FILE")]
        new_key_file: PathBuf,
    },
    /// Make an encrypted store a plain one. With --json: key_id (none), identities, damaged
    Decrypt {
        #[command(flatten)]
        key: KeyFile,
    },
}

#[derive(Args)]
struct KeyFile {
    /// File of the store's key [default: that of encryption_key_file, or FACEMATCH_ENCRYPTION_KEY]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl KeyFile {
    fn read(&self, config: &Config) -> anyhow::Result<MasterKey> {
        let key = self.key_file.as_deref().map(MasterKey::read).transpose()?;
        let key = key.map_or_else(|| config.master_key(), |key| Ok(Some(key)))?;
        key.context("no key: name its file with --key-file; `facematch store new-key FILE` makes one")
    }
}

pub(super) fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    core_dumps::forbid();
    match arguments.action {
        Action::NewKey { file } => new_key(file.as_deref()),
        Action::Encrypt { key } => change(config, output, None, Some(&key.read(config)?)),
        Action::RotateKey { key, new_key_file } => {
            change(config, output, Some(&key.read(config)?), Some(&MasterKey::read(&new_key_file)?))
        }
        Action::Decrypt { key } => change(config, output, Some(&key.read(config)?), None),
    }
}

fn new_key(path: Option<&Path>) -> anyhow::Result<Answer> {
    let key = MasterKey::random()?;
    let cannot = || format!("cannot write {}", path.unwrap_or(Path::new("to stdout")).display());
    let mut file = match path {
        Some(path) => owners_alone().open(path).with_context(cannot)?,
        None => standard_output().with_context(cannot)?,
    };
    writeln!(file, "{}", *key.to_text()).with_context(cannot)?;
    if path.is_some() {
        file.sync_all().with_context(cannot)?;
    }
    eprintln!("key {}", key.id());
    Ok(Answer::Yes)
}

fn owners_alone() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Stdout without a buffer that would keep the key; where a shell made a file for it, a file of its owner alone.
#[cfg(unix)]
pub(super) fn standard_output() -> std::io::Result<std::fs::File> {
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    let file = std::fs::File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    if file.metadata()?.is_file() {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(windows)]
pub(super) fn standard_output() -> std::io::Result<std::fs::File> {
    use std::os::windows::io::AsHandle;
    Ok(std::fs::File::from(std::io::stdout().as_handle().try_clone_to_owned()?))
}

fn change(
    config: &Config,
    output: &Output,
    from: Option<&MasterKey>,
    to: Option<&MasterKey>,
) -> anyhow::Result<Answer> {
    let bar = output.progress(0, "identities");
    let changed = change_key(&config.data, from, to, |change| {
        bar.set_length(change.identities_total);
        bar.set_position(change.identities);
    })?;
    bar.finish_and_clear();
    let KeyChange { identities, damaged, was_done, .. } = changed;
    if damaged > 0 {
        eprintln!("facematch: {damaged} identities had damaged records, and still have");
    }
    let key_id = to.map(|key| key.id().to_string());
    let state = key_id.as_ref().map_or_else(|| "not encrypted".to_owned(), |id| format!("encrypted with key {id}"));
    let value = serde_json::json!({ "key_id": key_id, "identities": identities, "damaged": damaged });
    output.value(&value, || match was_done {
        true => format!("the store is {state} already"),
        false => format!("the store is {state} now: {identities} identities"),
    })?;
    Ok(Answer::Yes)
}
