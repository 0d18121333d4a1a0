//! A calibration looked at by others: scikit-learn counts the same scores, a real browser shows the page.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a script of `tests/python` with the tests' own Python.
#[track_caller]
fn python(script: &str, arguments: &[&Path]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    assert!(python.is_file(), "{} is missing: run `make setup-tests`, as `make test` does", python.display());
    let mut command = Command::new(python);
    let output = command.arg(root.join("tests/python").join(script)).args(arguments).output().expect("run Python");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The browser of Debian's package.
fn browser() -> PathBuf {
    let folders = std::env::var_os("PATH").expect("a PATH");
    let found = std::env::split_paths(&folders).map(|folder| folder.join("chromium-headless-shell"));
    found.into_iter().find(|path| path.is_file()).expect("chromium-headless-shell: run `make setup-tests`")
}

#[test]
fn calibration_of_the_studys_file_is_that_of_scikit_learn_and_opens_in_a_browser() {
    let test = "calibration_of_the_studys_file_is_that_of_scikit_learn_and_opens_in_a_browser";
    let Some(shared) = common::shared(test) else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a folder");
    let (out, people) = (folder.path().join("out"), folder.path().join("people"));
    let embeddings = Path::new(env!("CARGO_TARGET_TMPDIR")).join("embeddings");
    let calibrate = |arguments: &[&Path]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_facematch"));
        command.env("FACEMATCH_PACK", root.join("tests/packs").join(common::STRONG_PACK));
        command.env("FACEMATCH_PACK_FILES", shared.join("models"));
        command.env("FACEMATCH_CACHE", common::cache_folder());
        command.arg("calibrate").arg("--embeddings").arg(&embeddings).args(arguments).current_dir(root);
        let output = command.output().expect("run the program");
        print!("{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let photos = shared.join("faces/lfw/photos");
    // The first 1,500 rows: a third of the embedding.
    let train = std::fs::read_to_string(shared.join("faces/lfw/train.csv")).expect("the pairs");
    let pairs = folder.path().join("train.csv");
    std::fs::write(&pairs, train.split_inclusive('\n').take(1_501).collect::<String>()).expect("write");
    let flag = Path::new;
    calibrate(&[&pairs, flag("--photos"), &photos, flag("--out"), &out, flag("--with-photos")]);
    python("roc.py", &[&out]);

    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    std::fs::create_dir_all(&pictures).expect("a folder");
    let figures = "histogram,histogram-mated,histogram-non-mated,errors,det,roc,threshold-by-size";
    python("page.py", &[&out.join("report.html"), flag(figures), &pictures, &browser()]);

    // The same of all pairs, with what searches show.
    std::fs::create_dir(&people).expect("a folder");
    for entry in std::fs::read_dir(&photos).expect("people").take(60) {
        let entry = entry.expect("a person");
        std::os::unix::fs::symlink(entry.path(), people.join(entry.file_name())).expect("a link");
    }
    let all = folder.path().join("all");
    calibrate(&[flag("--all-pairs"), flag("--photos"), &people, flag("--out"), &all]);
    let figures = format!("{figures},searches,ranks");
    python("page.py", &[&all.join("report.html"), flag(&figures), &pictures, &browser()]);
}
