//! `facematch doctor`: a machine that is fit passes; each fault is found, named and comes with how to mend it.

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::program::{program, text};
use serde_json::Value;

/// `doctor` with the starter pack, an address that is free and a data folder.
fn doctor(data: &Path) -> Command {
    with_pack(&starter(), data)
}

fn with_pack(pack: &Path, data: &Path) -> Command {
    let mut command = program(Path::new("unused"));
    command.args(["doctor", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command.arg("--pack").arg(pack).arg("--pack-files").arg(pack);
    command
}

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter")
}

/// Runs it; what it found by name.
#[track_caller]
fn run(command: &mut Command, exit_code: i32) -> Vec<Value> {
    let output = command.output().expect("run the program");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(exit_code), "{command:?}\n{out}\n{err}");
    let checks: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    checks["checks"].as_array().expect("checks").clone()
}

/// What it says of one thing, which must be a failure with a way out.
#[track_caller]
fn failure<'a>(checks: &'a [Value], name: &str) -> &'a str {
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} in {checks:?}"));
    assert_eq!(check["state"], "FAIL", "{check}");
    assert!(check["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{check}");
    check["found"].as_str().expect("what was found")
}

#[test]
fn machine_that_is_fit_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let checks = run(&mut doctor(&folder.path().join("data")), 0);
    let names: Vec<&str> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    for name in ["settings", "runtime library", "pack", "data folder", "address", "clock"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let of = |name: &str| checks.iter().find(|check| check["name"] == name).expect("a check");
    assert!(of("runtime library")["found"].as_str().is_some_and(|found| found.starts_with("ONNX Runtime 1.")));
    assert!(of("pack")["found"].as_str().is_some_and(|found| found.starts_with("starter, ")), "{}", of("pack"));
    if cfg!(target_os = "linux") {
        for name in ["free disk", "file system", "open files", "memory", "cores"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
    }
    assert!(!folder.path().join("data").exists(), "it makes nothing");
}

#[test]
fn pack_that_is_damaged_or_computes_something_else_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let pack = folder.path().join("pack");
    std::fs::create_dir(&pack).expect("a folder");
    for name in ["pack.toml", "detector.onnx", "recognizer.onnx"] {
        std::fs::copy(starter().join(name), pack.join(name)).expect("copied");
    }
    let manifest = std::fs::read_to_string(pack.join("pack.toml")).expect("a manifest");
    let (before, sums) = manifest.split_once("detector = [").expect("what the detector computed");
    let (_, others) = sums.split_once(',').expect("several sums");
    std::fs::write(pack.join("pack.toml"), [before, "detector = [9.41368,", others].concat()).expect("written");
    let checks = run(&mut with_pack(&pack, &data), 1);
    assert!(failure(&checks, "pack").contains("the detector does not compute what it did"), "{checks:?}");

    std::fs::write(pack.join("pack.toml"), manifest).expect("written");
    let mut network = std::fs::read(pack.join("recognizer.onnx")).expect("a network");
    let middle = network.len() / 2;
    network[middle] ^= 1;
    std::fs::write(pack.join("recognizer.onnx"), network).expect("written");
    let checks = run(&mut with_pack(&pack, &data), 1);
    assert!(failure(&checks, "pack").contains("expected SHA-256"), "{checks:?}");
}

#[test]
fn library_that_is_absent_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let checks = run(doctor(&folder.path().join("data")).args(["--runtime-library", "/nonexistent/lib.so"]), 1);
    assert!(failure(&checks, "runtime library").contains("/nonexistent/lib.so"), "{checks:?}");
}

#[test]
fn folder_that_cannot_be_made_and_address_that_is_taken_fail_in_one_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = doctor(&file.join("data"));
    command.args(["--metrics-listen", &address]);
    let checks = run(&mut command, 1);
    failure(&checks, "data folder");
    assert!(failure(&checks, "metrics address").contains(&address), "{checks:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn too_few_open_files_fail() {
    let folder = tempfile::tempdir().expect("a folder");
    let fit = doctor(&folder.path().join("data"));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""]).arg(fit.get_program()).args(fit.get_args());
    command.current_dir(fit.get_current_dir().expect("a folder"));
    let checks = run(&mut command, 1);
    assert!(failure(&checks, "open files").starts_with("100 at a time"), "{checks:?}");
}

#[test]
fn faults_of_settings_are_all_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let checks = run(doctor(&folder.path().join("data")).args(["--workers", "many", "--tune", "on"]), 1);
    assert_eq!(checks.len(), 2, "{checks:?}");
    failure(&checks, "settings");
}
