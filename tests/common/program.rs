//! The program itself, run as a user runs it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A command line of the program, with no settings in this process's environment.
pub fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facematch"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FACEMATCH_")) {
        command.env_remove(name);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command
}

/// One with the strong pack.
pub fn program(shared: &Path) -> Command {
    let mut command = bare(&[]);
    command.env("FACEMATCH_PACK", Path::new("tests/packs").join(super::STRONG_PACK));
    command.env("FACEMATCH_PACK_FILES", shared.join("models"));
    command.env("FACEMATCH_CACHE", super::cache_folder());
    command
}

#[track_caller]
pub fn run(command: &mut Command, exit_code: i32) -> String {
    let output = command.output().expect("run the program");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(exit_code), "{command:?}\n{out}\n{err}");
    out + &err
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

pub fn lfw(shared: &Path, person: &str, number: usize) -> PathBuf {
    shared.join(format!("faces/lfw/photos/{person}/{person}_{number:04}.jpg"))
}

/// A server of its own process, stopped by SIGTERM or killed.
pub struct Served {
    child: Child,
    pub endpoint: String,
}

impl Served {
    pub fn start(shared: &Path, data: &Path) -> Self {
        Self::start_with(shared, data, &[])
    }

    /// Starts one with further flags.
    pub fn start_with(shared: &Path, data: &Path, flags: &[&str]) -> Self {
        let mut command = program(shared);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--json", "--data"]).arg(data).args(flags);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start the server");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its address");
        let address: Value = serde_json::from_str(&line).expect("its address");
        let endpoint = format!("http://{}", address["address"].as_str().expect("an address"));
        Self { child, endpoint }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self, shared: &Path, arguments: &[&str]) -> Command {
        let mut command = program(shared);
        command.args(arguments).args(["--endpoint", &self.endpoint]);
        command
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("kill the server");
        self.child.wait().expect("the server ends");
    }

    pub fn stop(mut self) {
        let terminate = Command::new("kill").arg(self.child.id().to_string()).status().expect("send SIGTERM");
        assert!(terminate.success());
        assert_eq!(self.child.wait().expect("the server ends").code(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Where a test has failed; after `stop` there is nothing left to end.
        let _ = self.child.kill();
    }
}
