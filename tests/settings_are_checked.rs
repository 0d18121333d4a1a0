//! `facematch config`: every setting with where it was stated, every fault in one run, no secret; and the reference.

mod common;

use std::path::Path;
use std::process::Command;

use common::program::{json, program, run};

fn config(arguments: &[&str]) -> Command {
    let mut command = program(Path::new("unused"));
    for name in ["FACEMATCH_PACK", "FACEMATCH_PACK_FILES", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"] {
        command.env_remove(name);
    }
    command.arg("config").args(arguments);
    command
}

#[test]
fn every_fault_is_told_in_one_run_beside_what_is_in_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("facematch.toml");
    std::fs::write(&file, "queue_max = 7\nno_such = 1\n").expect("a file");
    let check = || {
        let mut command = config(&["check", "--listen", "nowhere", "--config"]);
        command.arg(&file).env("FACEMATCH_WORKERS", "many");
        command
    };
    let told = run(&mut check(), 1);
    for part in ["--listen must be", "FACEMATCH_WORKERS must be", "there is no setting \"no_such\""] {
        assert!(told.lines().any(|line| line.starts_with("fault: ") && line.contains(part)), "{part:?} in\n{told}");
    }
    let line = |key: &str| {
        let words = told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.into_iter().find(|words| words.first() == Some(&key)).unwrap_or_else(|| panic!("{key} in\n{told}"))
    };
    assert_eq!(line("listen"), ["listen", "flag", "nowhere"]);
    assert_eq!(line("workers"), ["workers", "FACEMATCH_WORKERS", "many"]);
    assert_eq!(line("queue_max"), ["queue_max", "file", "7"]);
    assert_eq!(line("log_format"), ["log_format", "default", "text"]);
    assert_eq!(line("pack"), ["pack", "default"]);
    let output = check().arg("--json").output().expect("run");
    assert_eq!(json(&output)["faults"].as_array().map(Vec::len), Some(3));
}

#[test]
fn sound_settings_pass_and_passwords_are_not_told() {
    let mut command =
        config(&["check", "--proxy", "http://ann:s3cret@proxy:3128", "--otlp-endpoint", "http://b:s3cret@h:1"]);
    let told = run(&mut command, 0);
    assert!(told.contains("http://proxy:3128") && told.contains("http://h:1") && !told.contains("s3cret"), "{told}");
}

#[test]
fn reference_is_the_page_of_the_repository() {
    let page = run(&mut config(&["reference"]), 0);
    assert_eq!(page, include_str!("../docs/configuration.md"));
}
