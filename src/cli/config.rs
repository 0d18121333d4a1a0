//! `config`: the settings themselves.

use clap::{Args, Subcommand};

use super::Answer;
use super::output::Output;
use crate::config::{Reading, reference};

/// Show the settings that are in force, with every fault in them, or the reference of all there are
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show each setting with its value and where that was stated; secrets are masked. Exit code 1: there are faults, and all
    /// of them are told. With --json: settings (key, value, origin), faults
    Check,
    /// Print the reference of all settings, as Markdown
    Reference,
}

pub(super) fn run(reading: &Reading, output: &Output, arguments: &Arguments) -> anyhow::Result<Answer> {
    match arguments.action {
        Action::Check => check(reading, output),
        Action::Reference => {
            let page = reference();
            output.value(&serde_json::json!({ "markdown": page }), || page.clone())?;
            Ok(Answer::Yes)
        }
    }
}

fn check(reading: &Reading, output: &Output) -> anyhow::Result<Answer> {
    let settings = reading.settings.iter().map(|found| {
        serde_json::json!({ "key": found.setting.key, "value": found.shown(), "origin": found.origin.to_string() })
    });
    let settings: Vec<serde_json::Value> = settings.collect();
    output.value(&serde_json::json!({ "settings": settings, "faults": reading.faults }), || text(reading))?;
    Ok(Answer::yes_if(reading.faults.is_empty()))
}

fn text(reading: &Reading) -> String {
    let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or_default();
    let key_width = widest(&mut reading.settings.iter().map(|found| found.setting.key.len()));
    let origin_width = widest(&mut reading.settings.iter().map(|found| found.origin.to_string().len()));
    let mut lines = Vec::new();
    for found in &reading.settings {
        let (key, origin, value) = (found.setting.key, found.origin.to_string(), found.shown());
        lines.push(format!("{key:key_width$}  {origin:origin_width$}  {value}").trim_end().to_owned());
    }
    lines.extend(reading.faults.iter().map(|fault| format!("fault: {fault}")));
    lines.join("\n")
}
