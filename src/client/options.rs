//! How a server is reached.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::Retry;

/// Time to reach the server.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How often a quiet server is asked whether it is there, and how long it may take to answer: a stream to a machine that is
/// gone would wait for ever.
const ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Time of a call, over all its tries.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);

/// How to reach a server, and what to do where it does not answer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its address: `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
    pub endpoint: String,
    /// The caller's key. It is sent by TLS or within this machine, and otherwise refused here.
    pub key: Option<Key>,
    /// PEM of the authorities that the server's certificate must come from. `None`: those that the system trusts.
    pub ca: Option<Vec<u8>>,
    /// What the caller shows a server that asks for a certificate.
    pub certificate: Option<ClientCertificate>,
    /// The name in the server's certificate, where it is reached by another.
    pub server_name: Option<String>,
    /// Time of a call, over all its tries.
    pub call_time_max: Duration,
    /// When calls are sent again.
    pub retry: Retry,
}

/// A certificate of the caller's.
#[derive(Clone)]
pub struct ClientCertificate {
    /// PEM of the certificate, with those up to its authority.
    pub certificate: Vec<u8>,
    /// PEM of its private key.
    pub private_key: Vec<u8>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

/// What a caller is known by. It is not told by `Debug`, nor in logs of HTTP/2's headers.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(AsciiMetadataValue);

impl Key {
    /// Reads a key.
    ///
    /// *Errors*: [`ConnectError::BadKey`] where it is empty or has other characters than visible ASCII.
    pub fn new(key: &str) -> Result<Self, ConnectError> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConnectError::BadKey);
        }
        let bearer = format!("Bearer {key}").try_into();
        let mut bearer: AsciiMetadataValue = bearer.map_err(|_| ConnectError::BadKey)?;
        bearer.set_sensitive(true);
        Ok(Self(bearer))
    }

    pub(super) fn bearer(&self) -> AsciiMetadataValue {
        self.0.clone()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error("the server's address must be one such as http://127.0.0.1:50051 or https://facematch.corp:50051")]
    BadAddress,
    /// The key is none.
    #[error("a key must be one or more visible ASCII characters")]
    BadKey,
    /// The key would cross the network in plain sight.
    #[error("a key is sent by TLS or within this machine: write https:// for http://")]
    PlaintextKey,
    /// Certificates were stated for an address without TLS.
    #[error("certificates are for TLS: write https:// for http://")]
    PlaintextCertificates,
    /// TLS cannot be set up: a PEM file that is none, most likely.
    #[error("TLS cannot be set up")]
    Tls(#[source] tonic::transport::Error),
    /// Nobody answers, or nobody whose certificate holds.
    #[error("cannot reach a server at {address}")]
    Unreachable {
        /// The server's address.
        address: String,
        /// What the transport says.
        source: tonic::transport::Error,
    },
}

impl Options {
    /// Options with the defaults: no key, the system's authorities, 30 s a call.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            key: None,
            ca: None,
            certificate: None,
            server_name: None,
            call_time_max: CALL_TIME_MAX,
            retry: Retry::default(),
        }
    }

    /// Checks them, without connecting.
    pub(super) fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone()).map_err(|_| ConnectError::BadAddress)?;
        let has_tls = match endpoint.uri().scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(ConnectError::BadAddress),
        };
        let host = endpoint.uri().host().ok_or(ConnectError::BadAddress)?;
        if !has_tls && (self.ca.is_some() || self.certificate.is_some()) {
            return Err(ConnectError::PlaintextCertificates);
        }
        if !has_tls && self.key.is_some() && !is_this_machine(host) {
            return Err(ConnectError::PlaintextKey);
        }
        let endpoint = endpoint.connect_timeout(CONNECT_TIME_MAX).tcp_nodelay(true);
        let endpoint = endpoint.http2_keep_alive_interval(ALIVE_INTERVAL).keep_alive_timeout(ALIVE_INTERVAL);
        if has_tls { endpoint.tls_config(self.tls()).map_err(ConnectError::Tls) } else { Ok(endpoint) }
    }

    fn tls(&self) -> ClientTlsConfig {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        if let Some(ClientCertificate { certificate, private_key }) = &self.certificate {
            tls = tls.identity(Identity::from_pem(certificate, private_key));
        }
        match &self.server_name {
            Some(name) => tls.domain_name(name.clone()),
            None => tls,
        }
    }
}

/// Tells whether what is sent to a host stays on this machine.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(endpoint: &str) -> Options {
        Options { key: Some(Key::new("s3cret").expect("a key")), ..Options::new(endpoint) }
    }

    #[test]
    fn key_in_plain_sight_is_refused_but_on_this_machine() {
        for address in ["http://10.0.0.7:50051", "http://facematch.corp:50051", "http://localhost.corp:1"] {
            assert!(matches!(with_key(address).endpoint(), Err(ConnectError::PlaintextKey)), "{address}");
        }
        for address in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://facematch.corp:1"] {
            assert!(with_key(address).endpoint().is_ok(), "{address}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for address in ["", "facematch.corp:50051", "ftp://h:1", "http://"] {
            assert!(matches!(Options::new(address).endpoint(), Err(ConnectError::BadAddress)), "{address}");
        }
        for key in ["", "two words", "line\n", "clé"] {
            assert!(matches!(Key::new(key), Err(ConnectError::BadKey)), "{key:?}");
        }
        let ca = Some(b"pem".to_vec());
        let plain = Options { ca: ca.clone(), ..Options::new("http://localhost:1") };
        assert!(matches!(plain.endpoint(), Err(ConnectError::PlaintextCertificates)));
    }

    #[test]
    fn secrets_are_not_told() {
        let certificate = ClientCertificate { certificate: b"pem".to_vec(), private_key: b"hidden".to_vec() };
        let options = Options { certificate: Some(certificate), ..with_key("http://localhost:1") };
        let told = format!("{options:?} {:?}", options.key.as_ref().map(Key::bearer));
        assert!(!told.contains("s3cret") && !told.contains("hidden") && !told.contains("104, 105"), "{told}");
    }
}
