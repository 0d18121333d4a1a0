//! The runtime library and the packs.

use std::path::Path;

use super::Finding;
use crate::config::{Config, ConfigError, Reading};
use crate::model::{Pack, PackSource, describe_runtime};

pub(super) fn examine(reading: &Reading) -> Vec<Finding> {
    let library = reading.value("runtime_library").map(Path::new);
    let mut findings = vec![runtime(library)];
    findings.extend(packs(&reading.config));
    findings
}

fn runtime(configured: Option<&Path>) -> Finding {
    match describe_runtime(configured) {
        Ok((path, version)) => Finding::ok("runtime library", format!("ONNX Runtime {version}, {}", path.display())),
        Err(error) => {
            let mend = "`make setup` fetches it; ORT_DYLIB_PATH names another, of version 1.24 or later";
            Finding::fail("runtime library", format!("{:#}", anyhow::Error::new(error)), mend)
        }
    }
}

fn packs(config: &Config) -> Vec<Finding> {
    let sources = config.pack_source().and_then(|own| Ok([vec![own], config.other_pack_sources()?].concat()));
    match sources {
        Ok(sources) => sources.iter().map(pack).collect(),
        Err(error) => vec![Finding::fail("pack", error.to_string(), missing(&error))],
    }
}

fn missing(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::NoPack => "--pack ./models/starter is one to try things with",
        _ => "`facematch models list` shows what there is",
    }
}

/// Loads a pack as the server would: its files are those of the manifest, and its networks compute what they did.
fn pack(source: &PackSource) -> Finding {
    match Pack::load(source) {
        Ok(pack) if pack.golden_is_stated => {
            Finding::ok("pack", format!("{}, {}: computes what its manifest says", pack.name, pack.id))
        }
        Ok(pack) => Finding::warn(
            "pack",
            format!("{}, {}: its manifest does not say what it must compute", pack.name, pack.id),
            "add what `facematch models golden` prints to its pack.toml, so that damage is noticed",
        ),
        Err(error) => Finding::fail(
            "pack",
            format!("{:#}", anyhow::Error::new(error)),
            "get it anew: `facematch models remove` and `pull`, or copy its folder again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::model::Tuning;

    #[test]
    fn library_that_is_not_there_fails_and_says_what_to_do() {
        let found = runtime(Some(Path::new("/nonexistent/libonnxruntime.so")));
        assert_eq!(found.state, State::Fail);
        assert!(found.found.contains("/nonexistent") && found.mend.contains("make setup"), "{found:?}");
    }

    #[test]
    fn pack_that_is_not_there_fails() {
        let source =
            PackSource { folder: "/nonexistent".into(), files: None, runtime_library: None, tuning: Tuning::Off };
        assert_eq!(pack(&source).state, State::Fail);
    }
}
