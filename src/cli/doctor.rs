//! `doctor`: whether this machine is fit to serve, and how to mend what is not.

mod certificate;
mod data;
mod database;
mod machine;
mod models;
mod network;
mod secrets;

use std::time::{Instant, SystemTime};

use super::Answer;
use super::output::Output;
use crate::config::Reading;
use crate::gallery::StoreLocation;

/// Check whether this machine is fit to serve: library, pack, disk, limits, clock, ports, keys. For each fault, how to mend it
///
/// Run it where, as whom and with the settings with which the server will run, and before it does: a port that the server has
/// is taken. Exit code 1: something FAILs; a WARN is for a person to judge. With --json: checks (name, state, found, mend)
#[derive(clap::Args)]
pub(super) struct Arguments {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warn => "WARN",
            State::Fail => "FAIL",
        }
    }
}

/// What one check found.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    state: State,
    found: String,
    /// What to do about it; empty where all is well.
    mend: String,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), mend: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), mend: mend.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, state: State::Fail, found: found.into(), mend: mend.into() }
    }
}

pub(super) fn run(reading: &Reading, output: &Output) -> anyhow::Result<Answer> {
    let findings = examine(reading);
    let checks: Vec<serde_json::Value> = findings
        .iter()
        .map(|Finding { name, state, found, mend }| {
            serde_json::json!({ "name": name, "state": state.word(), "found": found, "mend": mend })
        })
        .collect();
    output.value(&serde_json::json!({ "checks": checks }), || text(&findings))?;
    Ok(Answer::yes_if(findings.iter().all(|finding| finding.state != State::Fail)))
}

fn examine(reading: &Reading) -> Vec<Finding> {
    if !reading.faults.is_empty() {
        // What would be checked is not known.
        let mend = "`facematch config check` shows where each setting was stated";
        return reading.faults.iter().map(|fault| Finding::fail("settings", fault, mend)).collect();
    }
    let (wall, steady) = (SystemTime::now(), Instant::now());
    let config = &reading.config;
    let mut findings = vec![Finding::ok("settings", "no fault")];
    findings.extend(models::examine(reading));
    for store in [config.store().map(Some), config.second_store()] {
        findings.extend(match store {
            Ok(Some(StoreLocation::Folder(folder))) => data::examine(&folder),
            Ok(Some(StoreLocation::Postgres(options))) => vec![database::examine(&options)],
            Ok(None) => vec![],
            Err(error) => {
                let mend = "put the password into that file, for its owner to read";
                vec![Finding::fail("database", error.to_string(), mend)]
            }
        });
    }
    findings.extend(machine::examine(config));
    findings.extend(network::examine(config));
    findings.extend(secrets::examine(reading, wall));
    // Last: the models took a while, in which both clocks should have gone equally far.
    let now = SystemTime::now();
    findings.push(machine::clock(now, now.duration_since(wall).ok(), steady.elapsed()));
    findings
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for Finding { name, state, found, mend } in findings {
        lines.push(format!("{:4}  {name:width$}  {found}", state.word()));
        if !mend.is_empty() {
            lines.push(format!("{:4}  {:width$}  -> {mend}", "", ""));
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    lines.push(format!("{} OK, {} WARN, {} FAIL", count(State::Ok), count(State::Warn), count(State::Fail)));
    lines.join("\n")
}
