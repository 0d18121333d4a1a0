//! TLS and client certificates: who is not trusted gets no answer, a certificate may stand for a key, and a new one is taken
//! without a restart.

#[path = "common/callers.rs"]
mod callers;
mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use callers::{ADMIN_KEY, admin_key_file, caller, create_key, new_key};
use facematch::contract::gallery_service_client::GalleryServiceClient;
use facematch::contract::{self as proto};
use facematch::server::Server;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    fn issue(&self, names: &[&str], subject: &[(DnType, &str)]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        subject.iter().for_each(|(kind, text)| params.distinguished_name.push(kind.clone(), *text));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    // By rename: a reader sees one or the other.
    std::fs::write(folder.join("new"), text).expect("write");
    std::fs::rename(folder.join("new"), &path).expect("rename");
    path.to_str().expect("a UTF-8 path").to_owned()
}

fn server_certificate(authority: &Authority) -> Issued {
    authority.issue(&["localhost"], &[(DnType::CommonName, "server")])
}

async fn serve(folder: &Path, authority: &Authority, settings: &[(&str, &str)]) -> Server {
    let issued = server_certificate(authority);
    let (certificate, key) =
        (write(folder, "server.pem", &issued.certificate), write(folder, "server.key", &issued.key));
    let admin = admin_key_file(folder);
    let all = [
        ("tls_certificate", certificate.as_str()),
        ("tls_key", &key),
        ("keys", "required"),
        ("admin_key_file", &admin),
    ];
    common::start_server(&common::starter_pack(), &folder.join("store"), &[&all[..], settings].concat())
        .await
        .expect("a server")
}

async fn connect(
    server: &Server,
    trusted: &Authority,
    shown: Option<Issued>,
) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.pem())).domain_name("localhost");
    let tls = match shown {
        Some(issued) => tls.identity(Identity::from_pem(issued.certificate, issued.key)),
        None => tls,
    };
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", server.address().port())).expect("an address");
    endpoint.tls_config(tls).expect("TLS").connect().await
}

async fn list(channel: &Channel, key: &str) -> Result<(), Code> {
    let mut galleries = GalleryServiceClient::new(caller(channel, key));
    let listed = galleries.list_galleries(proto::ListGalleriesRequest::default()).await;
    listed.map(drop).map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_trusts_the_servers_authority_connects_and_plain_text_gets_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("corp");
    let server = serve(folder.path(), &authority, &[]).await;
    let channel = connect(&server, &authority, None).await.expect("trusted");
    list(&channel, ADMIN_KEY).await.expect("served");
    assert_eq!(list(&channel, "").await, Err(Code::Unauthenticated));
    connect(&server, &Authority::new("another"), None).await.expect_err("not trusted");
    let plain = Channel::from_shared(format!("http://{}", server.address())).expect("an address").connect().await;
    if let Ok(plain) = plain {
        list(&plain, ADMIN_KEY).await.expect_err("not served");
    }
    drop(channel);
    server.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_without_a_certificate_of_the_authority_is_not_served_where_one_is_required() {
    let folder = tempfile::tempdir().expect("a folder");
    let (authority, other) = (Authority::new("corp"), Authority::new("another"));
    let ca = write(folder.path(), "clients.pem", &authority.pem());
    let server = serve(folder.path(), &authority, &[("tls_client_ca", &ca)]).await;
    let good = authority.issue(&[], &[(DnType::CommonName, "door")]);
    let channel = connect(&server, &authority, Some(good)).await.expect("trusted");
    list(&channel, ADMIN_KEY).await.expect("served");
    for shown in [None, Some(other.issue(&[], &[(DnType::CommonName, "door")]))] {
        // The server says so only after the client has begun.
        if let Ok(channel) = connect(&server, &authority, shown).await {
            list(&channel, ADMIN_KEY).await.expect_err("not served");
        }
    }
    drop(channel);
    server.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_stands_for_the_key_of_its_subject_and_for_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("corp");
    let ca = write(folder.path(), "clients.pem", &authority.pem());
    let server = serve(folder.path(), &authority, &[("tls_client_ca", &ca), ("tls_clients", "optional")]).await;
    let admin = connect(&server, &authority, None).await.expect("certificates are optional");
    let key = proto::Key { certificate_subject: "CN=door\\, front,O=Corp".into(), ..new_key(&["read:*"]) };
    let made = create_key(&admin, key.clone()).await.expect("a key");
    assert!(made.secret.is_empty());
    assert_eq!(create_key(&admin, key).await.expect_err("the subject has a key").code(), Code::AlreadyExists);
    let subject = [(DnType::OrganizationName, "Corp"), (DnType::CommonName, "door, front")];
    let door = connect(&server, &authority, Some(authority.issue(&[], &subject))).await.expect("trusted");
    list(&door, "").await.expect("the certificate is its key");
    // A wrong key is not made up for by a certificate.
    assert_eq!(list(&door, &"x".repeat(40)).await, Err(Code::Unauthenticated));
    let other = authority.issue(&[], &[(DnType::CommonName, "door, front")]);
    let other = connect(&server, &authority, Some(other)).await.expect("trusted");
    assert_eq!(list(&other, "").await, Err(Code::Unauthenticated));
    drop((admin, door, other));
    server.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_that_is_replaced_is_taken_and_one_of_no_use_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let server = serve(folder.path(), &before, &[]).await;
    let open = connect(&server, &before, None).await.expect("trusted");
    list(&open, ADMIN_KEY).await.expect("served");
    let issued = server_certificate(&after);
    write(folder.path(), "server.key", &issued.key);
    write(folder.path(), "server.pem", &issued.certificate);
    let started = Instant::now();
    while connect(&server, &after, None).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(30), "the new certificate is taken");
    }
    connect(&server, &before, None).await.expect_err("the old one is no longer shown");
    list(&open, ADMIN_KEY).await.expect("connections of before go on");
    write(folder.path(), "server.pem", "nonsense");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        let channel = connect(&server, &after, None).await.expect("the last good one stays");
        list(&channel, ADMIN_KEY).await.expect("served");
    }
    drop(open);
    server.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_shake_hands_make_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("corp");
    let server = serve(folder.path(), &authority, &[("connections_max", "8")]).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(tokio::net::TcpStream::connect(server.address()).await.expect("connect"));
    }
    let started = Instant::now();
    while connect(&server, &authority, None).await.is_err() {
        // Sooner than handshakes are given up: ten seconds for each eight of them.
        assert!(started.elapsed() < Duration::from_secs(30), "others are served");
    }
    drop(silent);
    server.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_does_not_start_with_certificates_of_no_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("corp");
    let (one, other) = (server_certificate(&authority), server_certificate(&authority));
    let certificate = write(folder.path(), "server.pem", &one.certificate);
    let start = |key: String| {
        let (certificate, store) = (certificate.clone(), folder.path().join("store"));
        async move {
            let settings = [("tls_certificate", certificate.as_str()), ("tls_key", key.as_str())];
            let started = common::start_server(&common::starter_pack(), &store, &settings).await;
            started.err().expect("refused").to_string()
        }
    };
    let key_of_another = write(folder.path(), "other.key", &other.key);
    assert!(start(key_of_another).await.contains("of no use"));
    assert!(start(folder.path().join("absent.key").to_str().expect("a path").to_owned()).await.contains("absent.key"));
}
