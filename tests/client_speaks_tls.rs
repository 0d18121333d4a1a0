//! A client and a server by TLS: who is trusted, and who is not.

#[path = "common/stub.rs"]
mod stub;

use std::net::SocketAddr;
use std::process::Command;
use std::task::{Context, Poll};

use facematch::client::{Client, ClientCertificate, ConnectError, Key, Options};
use facematch::contract as proto;
use facematch::contract::face_service_server::FaceService;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use stub::Faces;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Answers with the caller's key as the pack's id.
#[derive(Clone)]
struct Echo;

#[tonic::async_trait]
impl FaceService for Echo {
    async fn detect(&self, request: Request<proto::DetectRequest>) -> Result<Response<proto::DetectResponse>, Status> {
        let key = request.metadata().get("authorization").and_then(|key| key.to_str().ok());
        let pack_id = key.unwrap_or_default().to_owned();
        Ok(Response::new(proto::DetectResponse { pack_id, ..Default::default() }))
    }

    async fn embed(&self, _: Request<proto::EmbedRequest>) -> Result<Response<proto::EmbedResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn verify(&self, _: Request<proto::VerifyRequest>) -> Result<Response<proto::VerifyResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// Knows no gallery, and tells so to whom it knows.
#[derive(Clone)]
struct Galleries;

impl tonic::server::NamedService for Galleries {
    const NAME: &'static str = "facematch.v1.GalleryService";
}

impl tonic::codegen::Service<http::Request<Body>> for Galleries {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_known = request.headers().get("authorization").is_some_and(|key| key == "Bearer s3cret");
        let status = if is_known { Status::not_found("no galleries") } else { Status::unauthenticated("who are you?") };
        Box::pin(std::future::ready(Ok(status.into_http())))
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// Issues a certificate; returns it and its key, PEM.
fn issue(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("parameters");
    (params.signed_by(&key, authority).expect("a certificate").pem(), key.serialize_pem())
}

async fn serve(authority: &Authority, name: &str, asks_for_certificates: bool) -> SocketAddr {
    let (certificate, key) = issue(authority, name);
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    if asks_for_certificates {
        tls = tls.client_ca_root(Certificate::from_pem(authority.pem()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = Server::builder().tls_config(tls).expect("TLS").add_service(Faces(Echo));
    let server = server.add_service(Galleries);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn options(address: SocketAddr, authority: &Authority) -> Options {
    let mut options = Options::new(format!("https://localhost:{}", address.port()));
    options.ca = Some(authority.pem().into_bytes());
    options
}

/// Connects and asks; returns the key that the server was shown.
async fn ask(options: Options) -> Result<String, Box<dyn std::error::Error>> {
    let client = Client::connect(options).await?;
    Ok(client.detect(proto::DetectRequest::default()).await?.pack_id)
}

#[tokio::test]
async fn server_of_another_authority_is_not_trusted() {
    let (authority, other) = (authority(), authority());
    let address = serve(&authority, "localhost", false).await;
    let error = Client::connect(options(address, &other)).await.map(|_| ()).expect_err("no trust");
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    // Nor by the system's authorities.
    let unstated = Options { ca: None, ..options(address, &other) };
    assert!(ask(unstated).await.is_err());
}

#[tokio::test]
async fn server_of_another_name_is_trusted_only_where_the_name_is_stated() {
    let authority = authority();
    let address = serve(&authority, "facematch.example", false).await;
    assert!(ask(options(address, &authority)).await.is_err());
    let stated = Options { server_name: Some("facematch.example".into()), ..options(address, &authority) };
    assert_eq!(ask(stated).await.expect("an answer"), "");
}

#[tokio::test]
async fn key_is_shown_by_tls() {
    let authority = authority();
    let address = serve(&authority, "localhost", false).await;
    let key = Some(Key::new("s3cret").expect("a key"));
    assert_eq!(ask(Options { key, ..options(address, &authority) }).await.expect("an answer"), "Bearer s3cret");
}

#[tokio::test]
async fn certificate_is_shown_to_a_server_that_asks() {
    let authority = authority();
    let address = serve(&authority, "localhost", true).await;
    assert!(ask(options(address, &authority)).await.is_err());
    let (certificate, private_key) = issue(&authority, "ann.example");
    let certificate = ClientCertificate { certificate: certificate.into(), private_key: private_key.into() };
    let shown = Options { certificate: Some(certificate), ..options(address, &authority) };
    assert_eq!(ask(shown).await.expect("an answer"), "");
}

#[tokio::test]
async fn pem_that_is_none_is_told() {
    let authority = authority();
    let address = serve(&authority, "localhost", false).await;
    let broken = ClientCertificate { certificate: b"none".to_vec(), private_key: b"none".to_vec() };
    let options = Options { certificate: Some(broken), ..options(address, &authority) };
    let error = Client::connect(options).await.map(|_| ()).expect_err("no certificate");
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
}

/// Runs `facematch gallery get` with TLS and these settings; returns what it says on stderr.
async fn command(address: SocketAddr, folder: &std::path::Path, settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facematch"));
    command.args(["gallery", "get", "staff", "--endpoint"]).arg(format!("https://localhost:{}", address.port()));
    command.arg("--tls-ca").arg(folder.join("ca.pem")).current_dir(folder).env_remove("FACEMATCH_KEY");
    command.envs(settings.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("a program");
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn command_shows_its_certificate_and_its_key() {
    let authority = authority();
    let address = serve(&authority, "localhost", true).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, private_key) = issue(&authority, "ann.example");
    let files =
        [("ca.pem", authority.pem()), ("me.pem", certificate), ("me.key", private_key), ("key", "s3cret\n".into())];
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("a file");
    }
    let certified = [("FACEMATCH_CLIENT_CERTIFICATE", "me.pem"), ("FACEMATCH_CLIENT_KEY", "me.key")];
    let with = |more: &[(&'static str, &'static str)]| [&certified[..], more].concat();
    // By TLS 1.3 it is the first call that is told, in the transport's words.
    let told = command(address, folder.path(), &[("FACEMATCH_KEY", "s3cret")]).await;
    assert!(!told.contains("who are you?") && !told.contains("no galleries"), "{told}");
    for (settings, said) in [
        (with(&[]), "who are you?"),
        (with(&[("FACEMATCH_KEY", "wrong")]), "who are you?"),
        (with(&[("FACEMATCH_KEY", "s3cret")]), "no galleries"),
        (with(&[("FACEMATCH_KEY", "wrong"), ("FACEMATCH_KEY_FILE", "key")]), "no galleries"),
        (with(&[("FACEMATCH_KEY_FILE", "absent")]), "cannot read absent"),
    ] {
        let told = command(address, folder.path(), &settings).await;
        assert!(told.contains(said) && !told.contains("s3cret"), "{settings:?}: {told}");
    }
}
