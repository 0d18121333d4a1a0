//! Settings of who may connect and call: TLS, keys, the audit log, and where it is safe to listen.

use std::path::PathBuf;
use std::time::Duration;

use super::{Config, QUEUE_LIMIT, TIME_LIMIT_MS, Values, or_else_of_zero};
use crate::decode::{Isolation, PhotoLimits};
use crate::runtime::machine;

/// Connections where nothing is stated, and the share of the files that the process may have open that they may take.
const CONNECTIONS: usize = 1_024;
const FILES_SHARE: usize = 2;

/// Files of TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and a known authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose client certificates are taken; without, none is asked for.
    pub client_authority: Option<PathBuf>,
    /// Whether each client must show one.
    pub client_certificates: ClientCertificates,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// It must.
    Required,
    /// It may show a key instead.
    Optional,
}

/// Who may connect and call.
#[derive(Clone, Debug)]
pub struct Security {
    /// Without it connections are not encrypted.
    pub tls: Option<TlsFiles>,
    /// Whether each call needs a key, or a certificate that stands for one.
    pub keys_required: bool,
    /// A file with a key that may do everything.
    pub admin_key_file: Option<PathBuf>,
    /// Connections at a time.
    pub connections_max: usize,
    /// A connection without a call for as long is closed.
    pub connection_idle_max: Duration,
    /// Longest time for the message of a call that is no stream to arrive, where a call may take that long.
    pub message_time_max: Duration,
    /// The audit log's file.
    pub audit_log: Option<PathBuf>,
    /// Whether it is told of calls that only ask, too.
    pub audit_all_calls: bool,
    /// Pages of these origins may call from browsers, by gRPC-Web; `*` is any. Empty: none.
    pub grpc_web_origins: Vec<String>,
    /// Whether listening beyond this machine without TLS or keys is meant.
    pub insecure_listen: bool,
}

impl Values {
    pub(super) fn security(&mut self) -> Security {
        let files = machine::open_files_max().unwrap_or(CONNECTIONS * FILES_SHARE);
        Security {
            tls: self.tls(),
            keys_required: self.one_of("keys", &["off", "required"]) == "required",
            admin_key_file: self.path("admin_key_file"),
            connections_max: or_else_of_zero(
                self.number("connections_max", 0, QUEUE_LIMIT),
                CONNECTIONS.min(files / FILES_SHARE).max(1),
            ),
            connection_idle_max: Duration::from_millis(self.number("connection_idle_max_ms", 1_000, TIME_LIMIT_MS)),
            message_time_max: Duration::from_millis(self.number("message_time_max_ms", 1, TIME_LIMIT_MS)),
            audit_log: self.path("audit_log"),
            audit_all_calls: self.one_of("audit_calls", &["changes", "all"]) == "all",
            grpc_web_origins: self.origins(),
            insecure_listen: self.one_of("insecure_listen", &["no", "yes"]) == "yes",
        }
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        let (certificate, key) = (self.path("tls_certificate"), self.path("tls_key"));
        let client_authority = self.path("tls_client_ca");
        let client_certificates = match self.one_of("tls_clients", &["required", "optional"]) {
            "optional" => ClientCertificates::Optional,
            _ => ClientCertificates::Required,
        };
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some(TlsFiles { certificate, key, client_authority, client_certificates })
            }
            (None, None) => {
                if client_authority.is_some() {
                    self.faults.push("tls_client_ca needs tls_certificate and tls_key".into());
                }
                None
            }
            _ => {
                self.faults.push("tls_certificate and tls_key go together: state both or none".into());
                None
            }
        }
    }

    fn origins(&mut self) -> Vec<String> {
        let origins = self.list("grpc_web_origins");
        for origin in origins.iter().filter(|origin| *origin != "*") {
            match as_browsers_say(origin) {
                Some(said) if said == *origin => {}
                Some(said) => self.faults.push(format!(
                    "grpc_web_origins: no page is of {origin:?}, for browsers write that origin as {said:?}"
                )),
                None => self.faults.push(format!(
                    "grpc_web_origins must be origins such as https://app.corp, or *, found {origin:?}; patterns are not taken"
                )),
            }
        }
        origins
    }

    pub(super) fn isolation(&mut self, photo: &PhotoLimits) -> Option<Isolation> {
        let is_wanted = self.one_of("isolate_decoding", &["no", "yes"]) == "yes";
        if is_wanted && cfg!(not(target_os = "linux")) {
            self.faults.push("isolate_decoding needs what Linux alone has: a process that ends with its server".into());
        }
        is_wanted.then(|| Isolation::of(photo))
    }

    pub(super) fn one_of(&mut self, key: &str, words: &[&'static str]) -> &'static str {
        let stated = self.text(key);
        let first = words.first().copied().unwrap_or_default();
        words.iter().find(|word| **word == stated).copied().unwrap_or_else(|| {
            self.faults.push(format!("{key} must be {}, found {stated:?}", words.join(" or ")));
            first
        })
    }

    pub(super) fn check_security(&mut self, config: &Config) {
        let security = &config.security;
        let is_safe = security.tls.is_some() && security.keys_required;
        if !config.listen.ip().is_loopback() && !is_safe && !security.insecure_listen {
            self.faults.push(format!(
                "listen {} is beyond this machine: anybody who reaches it could read and delete faces. It takes tls_certificate, \
                 tls_key and keys = \"required\"; or, where something else keeps callers out, insecure_listen = \"yes\"",
                config.listen
            ));
        }
    }
}

/// Returns an origin as it stands in the header of that name, with which it is compared letter by letter: scheme and host in lower
/// case, no port that the scheme implies. `None`: it is none.
///
/// *Source*: RFC 6454, section 6.2; of hosts in other alphabets browsers write the ASCII form, which is taken alone.
fn as_browsers_say(origin: &str) -> Option<String> {
    let (scheme, authority) = origin.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = authority.parse::<http::uri::Authority>().ok()?;
    let host = authority.host().to_ascii_lowercase();
    // The port is a number, where there is one; what stands before a host is no part of an origin.
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => None,
        port => Some(port.strip_prefix(':')?.parse::<u16>().ok()?),
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let is_host = host.starts_with('[')
        || host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) && !host.is_empty();
    if !is_scheme || !is_host {
        return None;
    }
    let implied = match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    let port = port.filter(|port| Some(*port) != implied).map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    fn faults(flags: &[(&str, &str)]) -> String {
        load(flags, &[], "").expect_err("a fault").to_string()
    }

    #[test]
    fn listening_beyond_the_machine_needs_tls_and_keys_or_a_word() {
        let tls = [("tls_certificate", "c.pem"), ("tls_key", "k.pem")];
        let beyond = ("listen", "0.0.0.0:1");
        assert!(faults(&[beyond]).contains("insecure_listen"));
        assert!(faults(&[&tls[..], &[beyond]].concat()).contains("insecure_listen"));
        assert!(faults(&[beyond, ("keys", "required")]).contains("insecure_listen"));
        load(&[&tls[..], &[beyond, ("keys", "required")]].concat(), &[], "").expect("safe");
        load(&[beyond, ("insecure_listen", "yes")], &[], "").expect("meant");
        load(&[("listen", "[::1]:1")], &[], "").expect("this machine");
    }

    #[test]
    fn photos_are_decoded_apart_where_that_is_said() {
        assert!(load(&[], &[], "").expect("a config").isolation.is_none());
        assert!(faults(&[("isolate_decoding", "on")]).contains("isolate_decoding must be no or yes, found \"on\""));
        if cfg!(target_os = "linux") {
            let limits = [("isolate_decoding", "yes"), ("photo_pixels_max", "1000000")];
            let isolation = load(&limits, &[], "").expect("a config").isolation.expect("it is said");
            assert!((20_000_000..200_000_000).contains(&isolation.memory_bytes_max), "{isolation:?}");
        }
    }

    #[test]
    fn half_of_tls_and_wrong_words_are_faults() {
        assert!(faults(&[("tls_key", "k.pem")]).contains("go together"));
        assert!(faults(&[("tls_client_ca", "c.pem")]).contains("tls_client_ca needs"));
        assert!(faults(&[("keys", "on")]).contains("keys must be off or required, found \"on\""));
        for origin in [
            "app.corp",
            "https://app.corp/",
            "https://app.corp/x",
            "https://*.app.corp",
            "https://app.corp:*",
            "https://app.corp:",
            "https://ann@app.corp",
            "https://äpp.corp",
            "https://",
            "://app.corp",
            "null",
        ] {
            assert!(faults(&[("grpc_web_origins", origin)]).contains("grpc_web_origins must be"), "{origin}");
        }
        for (origin, said) in [
            ("HTTPS://App.Corp", "https://app.corp"),
            ("https://app.corp:443", "https://app.corp"),
            ("http://app.corp:80", "http://app.corp"),
            ("http://[::A]:080", "http://[::a]"),
        ] {
            assert!(faults(&[("grpc_web_origins", origin)]).contains(&format!("origin as {said:?}")), "{origin}");
        }
        let right = "https://a.corp:8443,http://[::1]:443,chrome-extension://abc,https://xn--pp-uia.corp,*";
        load(&[("grpc_web_origins", right)], &[], "").expect("a config");
        let config = load(&[("grpc_web_origins", "https://a.corp, http://localhost:8080")], &[], "").expect("a config");
        assert_eq!(config.security.grpc_web_origins, ["https://a.corp", "http://localhost:8080"]);
    }
}
