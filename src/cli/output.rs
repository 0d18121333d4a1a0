//! What commands print: answers to stdout, for people or as JSON; progress and complaints to stderr.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::contract;

/// Where a command's answer goes, and how it is written.
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a reply of the contract: its JSON, or the text made for people.
    pub(super) fn reply<M: Message + Name>(&self, reply: &M, text: impl FnOnce(&M) -> String) -> anyhow::Result<()> {
        if self.json {
            print(&reply_json(reply)?.to_string())
        } else {
            print(printable_lines(text(reply).trim_end()).as_str())
        }
    }

    /// Prints a value that is no reply of the contract.
    pub(super) fn value(&self, value: &serde_json::Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { print(&value.to_string()) } else { print(printable_lines(text().trim_end()).as_str()) }
    }

    /// Starts a progress bar over bytes.
    pub(super) fn byte_progress(&self, count: u64) -> ProgressBar {
        self.bar(Some(count), "{bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left")
    }

    /// Starts a progress bar over things of a kind, on stderr; invisible where that is no terminal, or the answer is
    /// JSON.
    pub(super) fn progress(&self, count: usize, things: &str) -> ProgressBar {
        let template = format!("{{bar:30}} {{human_pos}}/{{human_len}} {things}  {{per_sec}}  {{eta}} left  {{msg}}");
        self.bar(Some(count as u64), &template)
    }

    /// Starts a progress bar that looks as `template` says; without a count it has no end.
    pub(super) fn bar(&self, count: Option<u64>, template: &str) -> ProgressBar {
        let target = if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(count, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }
}

/// Prints one line to stdout. Whoever reads it may have seen enough, as `head` has: the exit code still tells the answer.
fn print(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Complains on stderr, without disturbing a progress bar.
pub(super) fn complain(bar: &ProgressBar, line: &str) {
    let line = printable(line);
    if std::io::stderr().is_terminal() {
        bar.suspend(|| eprintln!("facematch: {line}"));
    } else {
        eprintln!("facematch: {line}");
    }
}

/// Names come from files and archives of anybody: what would steer a terminal is written out.
pub(super) fn printable(line: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    line.chars().map(shown).collect()
}

/// Returns lines in which what would steer a terminal is written out.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// A reply in protobuf's JSON mapping, with the names of the `.proto` files, 64-bit numbers as numbers, and every field.
pub(super) fn reply_json<M: Message + Name>(reply: &M) -> anyhow::Result<serde_json::Value> {
    let pool = DescriptorPool::decode(contract::DESCRIPTORS)?;
    let descriptor = pool.get_message_by_name(&M::full_name());
    let descriptor = descriptor.ok_or_else(|| anyhow::anyhow!("the contract has no {}", M::full_name()))?;
    let message = DynamicMessage::decode(descriptor, reply.encode_to_vec().as_slice())?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false).skip_default_fields(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out() {
        assert_eq!(printable("ann\u{1b}[2J\né"), "ann\\u{1b}[2J\\né");
    }

    #[test]
    fn reply_json_has_the_names_of_the_contract_and_every_field() {
        let reply = contract::IdentifyResponse {
            decision: contract::IdentifyDecision::Match.into(),
            identity_count: 7,
            ..Default::default()
        };
        let json = reply_json(&reply).expect("json");
        assert_eq!(json["decision"], "IDENTIFY_DECISION_MATCH");
        assert_eq!(json["identity_count"], 7);
        assert_eq!(json["candidates"], serde_json::json!([]));
    }
}
