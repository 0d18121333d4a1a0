//! `models`: the packs of the catalogue and those that are installed.

mod add;
mod install;
mod licence;
mod pull;
mod show;

use std::io::IsTerminal;

use clap::{Args, Subcommand};
use indicatif::DecimalBytes;

use super::Answer;
use super::output::{Output, printable};
use crate::config::Config;
use crate::model::{Catalogue, Entry, LockedPacks, PackName, Packs, PacksError};

/// Fetch, add, check, show and remove model packs. Needs no server
///
/// An installed pack is used by its name: `facematch serve --pack NAME`. The licence of a pack is its publisher's; where it
/// forbids a use, it must be accepted.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the packs that are known by name and those that are installed. With --json: one pack a line
    List,
    /// Fetch a pack of the catalogue and install it. A download that was cut goes on where it ended
    Pull(pull::Arguments),
    /// Install a pack from a ZIP archive or a folder: for machines without internet, and for packs of your own
    Add(add::Arguments),
    /// Compare all files with their checksums, and load each pack once. Exit code 1: a pack is damaged. With --json: one pack a line
    Verify {
        /// Their names [default: all that are installed]
        #[arg(value_name = "NAME")]
        packs: Vec<String>,
    },
    /// Remove an installed pack, damaged or not
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        pack: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show a pack: licence, files, sizes, and what it computes
    Info {
        /// Its name
        #[arg(value_name = "NAME")]
        pack: String,
    },
    /// Print what a pack's networks compute, as the [golden] section of its manifest. With --json: detector, recognizer
    Golden {
        /// Its name, or a folder, which has a slash in it
        #[arg(value_name = "PACK")]
        pack: String,
    },
}

pub(super) fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    let catalogue = Catalogue::read(config.catalogue.as_deref())?;
    let house = House { config, output, catalogue, packs: Packs::new(config.models()?) };
    match arguments.action {
        Action::List => house.list(),
        Action::Pull(arguments) => house.pull(&arguments),
        Action::Add(arguments) => house.add(&arguments),
        Action::Verify { packs } => house.verify(&packs),
        Action::Remove { pack, yes } => house.remove(&PackName::parse(&pack)?, yes),
        Action::Info { pack } => house.info(&PackName::parse(&pack)?),
        Action::Golden { pack } => house.golden(&pack),
    }
}

/// What each of the actions works with.
struct House<'a> {
    config: &'a Config,
    output: &'a Output,
    catalogue: Catalogue,
    packs: Packs,
}

impl House<'_> {
    fn lock(&self) -> anyhow::Result<LockedPacks> {
        Ok(self.packs.lock(|| eprintln!("facematch: waiting for another facematch that installs or removes a pack"))?)
    }

    fn list(&self) -> anyhow::Result<Answer> {
        let mut names: Vec<PackName> = self.catalogue.packs.iter().map(|entry| entry.name.clone()).collect();
        names.extend(self.packs.names()?.into_iter().filter(|name| self.catalogue.find(name).is_none()));
        for name in &names {
            let entry = self.catalogue.find(name);
            let (record, state) = match self.packs.record(name) {
                Ok(record) => (Some(record), "installed"),
                Err(PacksError::NotInstalled { .. }) => (None, ""),
                Err(_) => (None, "damaged"),
            };
            let licence = entry.map(|entry| entry.licence.title.clone());
            let licence = licence.or_else(|| Some(record.as_ref()?.licence.clone())).unwrap_or_default();
            let about = entry.map_or("added by hand", |entry| entry.about.as_str());
            let bytes = entry.map(Entry::bytes).filter(|bytes| *bytes > 0);
            let value = serde_json::json!({
                "name": name.as_str(), "about": about, "licence": licence, "bytes": bytes,
                "licence_must_be_accepted": entry.is_some_and(|entry| entry.licence.must_be_accepted),
                "installed": record.is_some(), "damaged": state == "damaged",
            });
            self.output.value(&value, || {
                let size = bytes.map_or_else(|| "-".to_owned(), |bytes| DecimalBytes(bytes).to_string());
                printable(&format!("{name:<14} {size:>10}  {state:<9}  {about}. {licence}"))
            })?;
        }
        Ok(Answer::Yes)
    }

    fn remove(&self, name: &PackName, yes: bool) -> anyhow::Result<Answer> {
        let folder = self.packs.find(name)?;
        if !yes && !asked(&format!("Remove {}?", folder.display()))? {
            anyhow::bail!("nothing was removed; --yes removes without asking");
        }
        self.lock()?.remove(name)?;
        let value = serde_json::json!({ "removed": name.as_str() });
        self.output.value(&value, || format!("{name} is removed"))?;
        Ok(Answer::Yes)
    }
}

/// Asks at the terminal; where there is none, nobody says yes.
fn asked(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    eprint!("{question} Type yes or no: ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}
