//! `audit`: who did what to which gallery when.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Answer;
use super::output::Output;
use crate::audit;

/// Check an audit log that `serve --audit-log` wrote
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Check that no line was changed, taken out or put in. With --json: {"count", "head", "first_time", "last_time"}
    ///
    /// Older files of the log, which have numbers behind their names, are checked before it. What was taken out at the end only
    /// shows by the head: note it elsewhere now and then, and state it the next time with --contains.
    Verify {
        /// The log
        #[arg(value_name = "FILE")]
        log: PathBuf,
        /// A head that was noted before: it must be that of a line of the log
        #[arg(long, value_name = "HASH")]
        contains: Option<String>,
    },
}

pub(super) fn run(output: &Output, arguments: &Arguments) -> anyhow::Result<Answer> {
    let Action::Verify { log, contains } = &arguments.action;
    let (mut first, mut last) = (String::new(), String::new());
    let mut is_contained = contains.is_none();
    let head = audit::verify(log, |entry, hash| {
        if first.is_empty() {
            first.clone_from(&entry.time);
        }
        last.clone_from(&entry.time);
        is_contained |= contains.as_deref() == Some(hash);
    })?;
    if !is_contained {
        anyhow::bail!(
            "no line of {} has the hash that was noted: its end was taken out, or all of it was written anew",
            log.display()
        );
    }
    let value = serde_json::json!({ "count": head.count, "head": head.hash, "first_time": first, "last_time": last });
    output.value(&value, || format!("{} entries, from {first} to {last}\nhead {}", head.count, head.hash))?;
    Ok(Answer::Yes)
}
