//! What lies in `deploy/` fits the program: its settings, its drain, its compiler. What linters of their own formats see is not
//! looked at here (`make deploy-lint`).

use std::path::{Path, PathBuf};

use facematch::config::{FILE_ENV, SETTINGS};

/// Variables of compose itself: what the file asks of whoever starts it.
const OF_COMPOSE: [&str; 4] = ["FACEMATCH_IMAGE", "FACEMATCH_PUBLISH", "FACEMATCH_PACK_FOLDER", "FACEMATCH_SECRETS"];

/// Variables of TLS, keys and encryption at rest, for which the files are written.
const OF_SECRETS: [&str; 8] = [
    "FACEMATCH_TLS_CERTIFICATE",
    "FACEMATCH_TLS_KEY",
    "FACEMATCH_TLS_CA",
    "FACEMATCH_KEYS",
    "FACEMATCH_ADMIN_KEY_FILE",
    "FACEMATCH_INSECURE_LISTEN",
    "FACEMATCH_ENCRYPTION_KEY",
    "FACEMATCH_ENCRYPTION_KEY_FILE",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

const FILES: [&str; 7] = [
    "deploy/Dockerfile",
    "deploy/compose.yaml",
    "deploy/compose.replicas.yaml",
    "deploy/facematch.service",
    "deploy/kubernetes/base/statefulset.yaml",
    "deploy/kubernetes/mesh/plain.yaml",
    "deploy/kubernetes/replicas/pod.yaml",
];

/// What follows a word, up to the first letter that is not of a number.
fn number_after(text: &str, word: &str) -> u64 {
    let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("no {word}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {word}"))
}

#[test]
fn every_variable_is_a_setting() {
    for path in FILES {
        let text = read(path);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words =
            text.split(|c| !is_of_name(c)).filter(|word| word.starts_with("FACEMATCH_") && *word != "FACEMATCH_");
        for word in words {
            let is_known = SETTINGS.iter().any(|setting| setting.env == word)
                || [FILE_ENV].contains(&word)
                || OF_COMPOSE.contains(&word)
                || OF_SECRETS.contains(&word);
            assert!(is_known, "{path}: {word} is no setting");
        }
    }
}

#[test]
fn time_to_stop_is_longer_than_the_drain() {
    let drain = SETTINGS.iter().find(|setting| setting.key == "drain_time_max_ms").expect("the setting");
    let drain_seconds = drain.default.parse::<u64>().expect("a number").div_ceil(1_000);
    let pause = number_after(&read("deploy/kubernetes/base/statefulset.yaml"), "sleep: {seconds: ");
    // Ten seconds to close a store: it has been flushed with every write.
    for (path, word, before) in [
        ("deploy/compose.yaml", "stop_grace_period: ", 0),
        ("deploy/compose.replicas.yaml", "stop_grace_period: ", 0),
        ("deploy/facematch.service", "TimeoutStopSec=", 0),
        ("deploy/kubernetes/base/statefulset.yaml", "terminationGracePeriodSeconds: ", pause),
    ] {
        let allowed = number_after(&read(path), word);
        assert!(allowed >= before + drain_seconds + 10, "{path}: {allowed} s, for {before} + {drain_seconds}");
    }
}

#[test]
fn user_and_compiler_are_the_same_everywhere() {
    let image = read("deploy/Dockerfile");
    let user = number_after(&image, "\nUSER ");
    assert_ne!(user, 0);
    assert_eq!(number_after(&image, "--chown="), user);
    for path in ["deploy/compose.yaml", "deploy/compose.replicas.yaml"] {
        assert_eq!(number_after(&read(path), "user: \""), user, "{path}");
    }
    for word in ["runAsUser: ", "runAsGroup: ", "fsGroup: "] {
        assert_eq!(number_after(&read("deploy/kubernetes/base/statefulset.yaml"), word), user, "{word}");
    }
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("rust-version = \"").expect("a version of Rust");
    let (version, _) = rest.split_once('"').expect("its end");
    assert!(image.contains(&format!("BUILD_IMAGE=rust:{version}.")), "not Rust {version}");
}
