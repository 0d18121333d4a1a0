//! The facematch program. The one place where a command's end becomes an exit code.

use std::io::Write;
use std::process::ExitCode;

use facematch::cli::{self, Answer};

fn main() -> ExitCode {
    match cli::run() {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Ok(Answer::Interrupted) => ExitCode::from(130),
        Err(error) => {
            // `{:#}`: the error and its causes in one line.
            let _ = writeln!(std::io::stderr(), "facematch: {}", cli::printable_lines(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}
