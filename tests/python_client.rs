//! A client in another language: Python's grpcio, with stubs made from `proto/` by Google's own compiler.

mod common;

use std::path::Path;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn python_enrols_verifies_identifies_and_deletes() {
    let Some(shared) = common::shared("python_enrols_verifies_identifies_and_deletes") else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    assert!(python.is_file(), "{} is missing: run `make setup-tests`, as `make test` does", python.display());
    let data = tempfile::tempdir().expect("a folder");
    let running = common::serve(&shared, data.path(), &[]).await;
    let address = running.server.address().to_string();
    let mut client = Command::new(python);
    client.arg(root.join("tests/python/client.py")).arg(&address).arg(root.join("proto")).arg(&shared);
    let output = tokio::task::spawn_blocking(move || client.output()).await.expect("a task").expect("run Python");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    running.stop().await;
}
