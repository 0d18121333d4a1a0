//! Who a command is to the server: its key, its certificate, and whom it trusts.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Values;

/// Environment variable with the caller's key. There is no flag: other users of a machine see those.
pub const KEY_ENV: &str = "FACEMATCH_KEY";

/// What the caller shows the server.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Caller {
    key: Option<String>,
    key_file: Option<PathBuf>,
    /// PEM file of the authorities that the server's certificate must come from; `None`: the system's.
    pub tls_ca: Option<PathBuf>,
    /// PEM files of the caller's certificate and its private key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("has_key", &self.key.is_some()).field("key_file", &self.key_file).finish()
    }
}

impl Caller {
    /// Returns the key: that of the file, else the environment's.
    ///
    /// *Errors*: a file that cannot be read.
    pub fn key(&self) -> std::io::Result<Option<String>> {
        match &self.key_file {
            Some(path) => Ok(Some(std::fs::read_to_string(path)?.trim().to_owned())),
            None => Ok(self.key.clone()),
        }
    }

    /// Names the file that the key is read from.
    pub fn key_file(&self) -> Option<&Path> {
        self.key_file.as_deref()
    }
}

impl Values {
    pub(super) fn caller(&mut self, key: Option<String>) -> Caller {
        let certificate = match (self.path("client_certificate"), self.path("client_key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                self.faults.push("client_certificate and client_key go together".into());
                None
            }
        };
        Caller { key, key_file: self.path("key_file"), tls_ca: self.path("tls_ca"), certificate }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn key_is_that_of_the_file_else_of_the_environment_and_never_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, "from-file\n").expect("a file");
        let path = path.to_str().expect("a path");
        let environment = [(KEY_ENV, "from-environment")];
        let caller = |flags: &[(&str, &str)]| load(flags, &environment, "").expect("a config").caller;
        assert_eq!(caller(&[]).key().expect("a key").as_deref(), Some("from-environment"));
        assert_eq!(caller(&[("key_file", path)]).key().expect("a key").as_deref(), Some("from-file"));
        assert!(caller(&[("key_file", "absent")]).key().is_err());
        assert!(!format!("{:?}", caller(&[])).contains("from-environment"));
    }

    #[test]
    fn certificate_without_its_key_is_a_fault() {
        let fault = load(&[("client_key", "me.key")], &[], "").expect_err("a fault").to_string();
        assert_eq!(fault, "client_certificate and client_key go together");
        let both = [("client_certificate", "me.pem"), ("client_key", "me.key"), ("endpoint", "https://h:1")];
        let config = load(&both, &[], "").expect("a config");
        assert_eq!(config.caller.certificate, Some(("me.pem".into(), "me.key".into())));
    }
}
