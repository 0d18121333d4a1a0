//! TLS in front of a test's PostgreSQL, whose build has none: it answers the request for TLS as a server does, shakes hands,
//! and passes on what comes. Who asks for no TLS is refused, as `hostssl` alone refuses.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part")]

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What a client sends before anything else to ask for TLS (PostgreSQL's documentation, "SSLRequest").
const REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

pub struct TlsFront {
    pub port: u16,
    /// The certificate of the authority that signed the server's.
    pub authority_pem: String,
    accepting: tokio::task::JoinHandle<()>,
}

impl TlsFront {
    /// Starts one for a server, with a certificate for these names, such as `localhost` or `127.0.0.1`.
    pub async fn start(server: SocketAddr, names: &[&str]) -> Self {
        let (authority_pem, acceptor) = acceptor(names);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                // A client that hangs up, or trusts nobody, is no failure here.
                tokio::spawn(async move { pass_on(client, acceptor, server).await.unwrap_or(()) });
            }
        });
        Self { port, authority_pem, accepting }
    }

    /// A connection as a client makes one, which trusts the authority and expects this name.
    pub async fn connect(&self, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.authority_pem.as_bytes()).expect("a certificate");
        roots.add(authority).expect("an authority");
        let config = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(&REQUEST).await?;
        assert_eq!(stream.read_u8().await?, b'S');
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(mut client: TcpStream, acceptor: TlsAcceptor, server: SocketAddr) -> std::io::Result<()> {
    let mut first = [0; REQUEST.len()];
    client.read_exact(&mut first).await?;
    if first != REQUEST {
        // Read to its end: what is left unread would reset the connection, and the reply be lost.
        let rest = u32::from_be_bytes([first[0], first[1], first[2], first[3]]).saturating_sub(8);
        (&mut client).take(rest.into()).read_to_end(&mut Vec::new()).await?;
        return client.write_all(&refusal("no pg_hba.conf entry for host, no encryption")).await;
    }
    client.write_all(b"S").await?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(server).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// An `ErrorResponse` with severity, code (28000, invalid authorization) and text.
fn refusal(text: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C28000\0M{text}\0\0");
    let length = (fields.len() + 4) as u32;
    [b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn acceptor(names: &[&str]) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("a certificate");
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}
