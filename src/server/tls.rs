//! TLS: a certificate that is read again when its files change, and the subjects of client certificates. The adapter of rustls.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{ClientCertificates, TlsFiles};

/// How often the files are looked at.
pub(super) const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Time for a handshake: who takes longer is given up.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates or a key cannot be read.
    #[error("cannot read {} as PEM", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// Certificate and key do not go together, or one of them is of no use.
    #[error("the TLS certificate, key or client authority is of no use")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the certificates are now.
pub(super) struct Tls {
    files: TlsFiles,
    current: RwLock<Current>,
    offers_http1: bool,
}

struct Current {
    config: Arc<rustls::ServerConfig>,
    /// What was read, to see whether it has changed.
    contents: Vec<Vec<u8>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// *Errors*: [`TlsError`].
    pub(super) fn load(files: TlsFiles, offers_http1: bool) -> Result<Self, TlsError> {
        let contents = contents(&files);
        let config = server_config(&files, offers_http1)?;
        Ok(Self { files, current: RwLock::new(Current { config, contents }), offers_http1 })
    }

    /// Reads the files again where they have changed. What is of no use is not taken: the certificates of before stay.
    pub(super) fn reload(&self) {
        let contents = contents(&self.files);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).contents == contents {
            return;
        }
        let loaded = server_config(&self.files, self.offers_http1);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Noted either way: what is of no use is told of once.
        current.contents = contents;
        match loaded {
            Ok(config) => {
                current.config = config;
                tracing::info!("the TLS certificates were read again");
            }
            Err(error) => {
                tracing::error!(?error, "the TLS files have changed and are of no use; those of before are kept")
            }
        }
    }

    /// Shakes hands.
    ///
    /// *Errors*: what is wrong with the other end; that it takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config);
        tokio::time::timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(config).accept(stream)).await?
    }
}

/// The subject of the certificate that the other end has shown and that was checked, as RFC 4514 writes it.
pub(super) fn subject(stream: &TlsStream<TcpStream>) -> Option<String> {
    let shown = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(shown).ok()?;
    Some(rfc4514(&certificate))
}

/// The most specific part first, commas between, special characters after a backslash.
fn rfc4514(certificate: &x509_parser::certificate::X509Certificate<'_>) -> String {
    let registry = x509_parser::objects::oid_registry();
    let mut parts = Vec::new();
    for name in certificate.subject().iter_rdn() {
        let attributes = name.iter().map(|attribute| {
            let kind = x509_parser::objects::oid2abbrev(attribute.attr_type(), registry);
            let kind = kind.map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
            format!("{kind}={}", escaped(attribute.as_str().unwrap_or_default()))
        });
        parts.push(attributes.collect::<Vec<_>>().join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, letter) in value.char_indices() {
        let is_at_edge = at == 0 || at + letter.len_utf8() == value.len();
        if matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=')
            || (letter == ' ' && is_at_edge)
            || (letter == '#' && at == 0)
        {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

fn contents(files: &TlsFiles) -> Vec<Vec<u8>> {
    let paths = [Some(&files.certificate), Some(&files.key), files.client_authority.as_ref()];
    paths.into_iter().flatten().map(|path| std::fs::read(path).unwrap_or_default()).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_path_buf(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>();
    let found = found.map_err(unreadable)?;
    if found.is_empty() { Err(TlsError::NoCertificate(path.to_path_buf())) } else { Ok(found) }
}

fn server_config(files: &TlsFiles, offers_http1: bool) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let unusable = |error: rustls::Error| TlsError::Unusable(error.into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(unusable)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match files.client_certificates {
                ClientCertificates::Required => verifier,
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::Unusable(error.into()))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|source| TlsError::Unreadable { path: files.key.clone(), source })?;
    let mut config = builder.with_single_cert(certificates(&files.certificate)?, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    if offers_http1 {
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_of_a_subject_are_escaped() {
        assert_eq!(escaped("door 7"), "door 7");
        assert_eq!(escaped(" a,b=c\\ "), "\\ a\\,b\\=c\\\\\\ ");
        assert_eq!(escaped("#x#"), "\\#x#");
    }
}
