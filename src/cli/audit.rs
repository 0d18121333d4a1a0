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
    ///
    /// Older files may be moved away, the oldest first, once they are checked: their head is where the rest begins, with --from.
    Verify {
        /// The log
        #[arg(value_name = "FILE")]
        log: PathBuf,
        /// A head that was noted before: it must be that of a line of the log
        #[arg(long, value_name = "HASH")]
        contains: Option<String>,
        /// The head of the older files that are kept elsewhere: the hash of their last line [default: there are none]
        #[arg(long, value_name = "HASH", value_parser = hash)]
        from: Option<String>,
    },
}

fn hash(text: &str) -> Result<String, &'static str> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash.then(|| text.to_owned()).ok_or("it must be the 64 hexadecimal digits that a line of the log begins with")
}

pub(super) fn run(output: &Output, arguments: &Arguments) -> anyhow::Result<Answer> {
    let Action::Verify { log, contains, from } = &arguments.action;
    let (mut first, mut last) = (String::new(), String::new());
    let mut is_contained = contains.is_none() || contains == from;
    let head = audit::verify(log, from.as_deref(), |entry, hash| {
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
