//! Commands: one file each. `serve`, `detect`, `verify`, `calibrate`, `predict` and `score` run the models, `models` keeps them, `store`
//! keeps keys; `config` and `doctor` look at the settings and the machine; the others are clients of the contract.

mod arguments;
mod audit;
mod calibrate;
mod config;
mod curve;
#[cfg(target_os = "linux")]
mod decode_worker;
mod detect;
mod doctor;
mod draw;
mod embeddings;
mod enroll;
mod gallery;
mod gallery_file;
mod health;
mod identify;
mod identity;
mod key;
mod load;
mod local;
mod models;
mod output;
mod predict;
mod remote;
mod scoring;
mod serve;
mod settings;
mod store;
mod verify;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::enroll::fuzzing;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::Output;
pub use self::output::printable_lines;
use crate::config::{ConfigError, Reading, SETTINGS, Scope};
use crate::telemetry;

/// How a command ended when nothing went wrong. An error is the third way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A match; or simply done. Exit code 0.
    Yes,
    /// No match; or some photos gave no face. Exit code 1.
    No,
    /// Stopped by Ctrl-C, in good order. Exit code 130, as shells have it.
    Interrupted,
}

impl Answer {
    fn yes_if(yes: bool) -> Self {
        if yes { Answer::Yes } else { Answer::No }
    }
}

const AFTER_HELP: &str = "\
Exit codes: 0 match, or done · 1 no match; detect, enroll, calibrate: a photo without a face; load: calls failed;
models verify: a pack is damaged; config check, doctor: a fault; health: not serving · 2 error · 130 enroll: stopped by Ctrl-C

Start here:
  facematch verify a.jpg b.jpg                    is this the same person?
  facematch calibrate pairs.csv --photos photos/  which threshold has which error rates?
  facematch serve                                 start the server; then, in another terminal:
  facematch gallery create staff
  facematch enroll --gallery staff people/        people/NAME/*.jpg: a folder an identity; or a CSV, a TAR
  facematch identify --gallery staff photo.jpg    who is this?

A model pack is needed to serve, detect, verify and calibrate: name it with --pack or FACEMATCH_PACK, by its folder or, once
`facematch models pull` or `add` has installed it, by its name. `facematch models list` shows which there are.";

/// Matches identities by their faces: photos in, templates kept, "same person?" and "who is this?" answered over gRPC.
#[derive(Parser)]
#[command(name = "facematch", version, after_help = AFTER_HELP, max_term_width = 120)]
struct Cli {
    /// Settings file; any setting below may stand in it, with underscores for dashes [env: FACEMATCH_CONFIG] [default:
    /// facematch.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    config: Option<PathBuf>,
    /// Print JSON: a reply of the contract in protobuf's JSON mapping, or what the command's help says
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Detect(detect::Arguments),
    Verify(verify::Arguments),
    Calibrate(calibrate::Arguments),
    Predict(predict::Arguments),
    Score(predict::ScoreArguments),
    Enroll(enroll::Arguments),
    Identify(identify::Arguments),
    Gallery(gallery::Arguments),
    Identity(identity::Arguments),
    Curve(curve::Arguments),
    Key(key::Arguments),
    Audit(audit::Arguments),
    Load(load::Arguments),
    Models(models::Arguments),
    Config(config::Arguments),
    Doctor(doctor::Arguments),
    Health(health::Arguments),
    Store(store::Arguments),
}

/// Which settings each command uses, besides those of all.
const SCOPES: [(&str, &[Scope]); 19] = [
    ("serve", &[Scope::Packs, Scope::Model, Scope::Server, Scope::Data]),
    ("detect", &[Scope::Packs, Scope::Model]),
    ("verify", &[Scope::Packs, Scope::Model]),
    ("calibrate", &[Scope::Packs, Scope::Model]),
    ("predict", &[Scope::Packs, Scope::Model]),
    ("score", &[Scope::Packs, Scope::Model]),
    ("enroll", &[Scope::Client]),
    ("identify", &[Scope::Client]),
    ("gallery", &[Scope::Client]),
    ("identity", &[Scope::Client]),
    ("curve", &[Scope::Client]),
    ("key", &[Scope::Client]),
    ("audit", &[]),
    ("load", &[Scope::Client]),
    ("models", &[Scope::Packs, Scope::Catalogue]),
    ("config", &[Scope::Model, Scope::Packs, Scope::Catalogue, Scope::Data, Scope::Server, Scope::Client]),
    ("doctor", &[Scope::Packs, Scope::Model, Scope::Data, Scope::Server]),
    ("health", &[Scope::Client]),
    ("store", &[Scope::Data]),
];

/// Runs the command that the program's arguments ask for. Wrong arguments and `--help` end the process.
///
/// *Errors*: what went wrong and in doing what.
pub fn run() -> anyhow::Result<Answer> {
    #[cfg(target_os = "linux")]
    if let Some(done) = decode_worker::run() {
        return done;
    }
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let reading = Reading::of_process(&stated_settings(&matches), cli.config.as_deref());
    // Those two tell of faults themselves.
    if !reading.faults.is_empty() && !matches!(cli.command, Command::Config(_) | Command::Doctor(_)) {
        return Err(ConfigError::Invalid(reading.faults).into());
    }
    let config = reading.config.clone();
    let filter = match (&config.log, &cli.command) {
        (Some(filter), _) => filter,
        (None, Command::Serve(_)) => "info",
        (None, _) => "warn",
    };
    let output = Output::new(cli.json);
    // A server starts its own, within its runtime: what sends traces needs that.
    if !matches!(cli.command, Command::Serve(_)) {
        telemetry::start(filter, config.log_json, None);
    }
    match cli.command {
        Command::Serve(arguments) => block_on(serve::run(&config, filter, &output, &arguments)),
        Command::Detect(arguments) => detect::run(&config, &output, &arguments),
        Command::Verify(arguments) => verify::run(&config, &output, &arguments),
        Command::Calibrate(arguments) => block_on(calibrate::run(&config, &output, arguments)),
        Command::Predict(arguments) => block_on(predict::run(&config, &output, arguments)),
        Command::Score(arguments) => block_on(predict::run_score(&config, &output, arguments)),
        Command::Enroll(arguments) => block_on(enroll::run(&config, &output, arguments)),
        Command::Identify(arguments) => block_on(identify::run(&config, &output, arguments)),
        Command::Gallery(arguments) => block_on(gallery::run(&config, &output, arguments)),
        Command::Identity(arguments) => block_on(identity::run(&config, &output, arguments)),
        Command::Curve(arguments) => block_on(curve::run(&config, &output, arguments)),
        Command::Key(arguments) => block_on(key::run(&config, &output, arguments)),
        Command::Audit(arguments) => audit::run(&output, &arguments),
        Command::Load(arguments) => block_on(load::run(&config, &output, arguments)),
        Command::Models(arguments) => models::run(&config, &output, arguments),
        Command::Health(arguments) => block_on(health::run(&config, &output, arguments)),
        Command::Config(arguments) => config::run(&reading, &output, &arguments),
        Command::Doctor(doctor::Arguments {}) => doctor::run(&reading, &output),
        Command::Store(arguments) => store::run(&config, &output, arguments),
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<Answer>>) -> anyhow::Result<Answer> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let answer = runtime.block_on(command);
    // A start that was given up may still be reading the store: it is not waited for.
    runtime.shutdown_background();
    answer
}

/// The command line, with a flag for every setting that a command uses.
fn command() -> clap::Command {
    let mut command = Cli::command().args(flags(&[Scope::All]));
    for (name, scopes) in SCOPES {
        command = command.mut_subcommand(name, |subcommand| subcommand.args(flags(scopes)));
    }
    command
}

fn flags(scopes: &[Scope]) -> impl Iterator<Item = Arg> {
    let used = SETTINGS.iter().filter(|setting| scopes.contains(&setting.scope));
    used.map(|setting| {
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        Arg::new(setting.key)
            .long(setting.key.replace('_', "-"))
            .global(true)
            .value_name("VALUE")
            .help(format!("{} [env: {}]{default}", setting.help, setting.env))
            .help_heading("Settings")
            .hide_short_help(setting.key.contains("_max"))
            // What is off unless it is said may be said without a value.
            .num_args(usize::from(setting.default != "no")..=1)
            .default_missing_value("yes")
    })
}

/// Returns the settings that the command line states, by key.
fn stated_settings(matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut innermost = matches;
    while let Some((_, inner)) = innermost.subcommand() {
        innermost = inner; // global flags are handed down to it
    }
    let stated = |key: &str| innermost.try_get_one::<String>(key).ok().flatten().cloned();
    SETTINGS.iter().filter_map(|setting| Some((setting.key.to_owned(), stated(setting.key)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_command_states_which_settings_it_uses() {
        for subcommand in Cli::command().get_subcommands() {
            assert!(SCOPES.iter().any(|(name, _)| *name == subcommand.get_name()), "{}", subcommand.get_name());
        }
    }

    #[test]
    fn flag_of_a_nested_command_is_a_stated_setting() {
        let line = ["facematch", "gallery", "list", "--endpoint", "http://h:1", "--log-format", "json"];
        let stated = stated_settings(&command().try_get_matches_from(line).expect("a command line"));
        assert_eq!(stated.get("endpoint").map(String::as_str), Some("http://h:1"));
        assert_eq!(stated.get("log_format").map(String::as_str), Some("json"));
        assert_eq!(stated.len(), 2);
    }

    #[test]
    fn flag_of_what_is_off_needs_no_value() {
        let stated = |line: &[&str]| {
            let line = ["facematch", "serve"].iter().chain(line);
            command().try_get_matches_from(line).map(|matches| stated_settings(&matches))
        };
        for line in [&["--isolate-decoding"][..], &["--isolate-decoding", "yes"], &["--isolate-decoding", "--json"]] {
            let stated = stated(line).expect("a command line");
            assert_eq!(stated.get("isolate_decoding").map(String::as_str), Some("yes"), "{line:?}");
        }
        assert_eq!(stated(&["--isolate-decoding", "no"]).expect("one")["isolate_decoding"], "no");
        assert!(stated(&["--keys"]).is_err(), "which of two words is not said");
    }
}
