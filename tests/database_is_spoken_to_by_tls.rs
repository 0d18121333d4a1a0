//! What is between a server and its database: TLS with the host's name checked, and a password that nobody is told.

#[path = "common/postgres.rs"]
mod postgres;
#[path = "common/postgres_tls.rs"]
mod postgres_tls;

use facematch::gallery::{Galleries, PostgresError, PostgresGalleries, PostgresOptions};
use postgres::{Options, PostgresServer};
use postgres_tls::TlsFront;

const PASSWORD: &str = "a password & of some 'length'";

/// What opening says, with all its causes.
async fn refused(options: &PostgresOptions) -> String {
    let error: PostgresError = PostgresGalleries::open(options).await.err().expect("it is refused");
    let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
    let said = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let said = format!("{error}: {said} {error:?} {options:?}");
    assert!(!said.contains("of some"), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn names_authorities_and_passwords_are_checked() {
    let secret = Options { password: Some(PASSWORD.to_owned()), ..Options::default() };
    let server = tokio::task::spawn_blocking(|| PostgresServer::start_with(secret)).await.expect("a server");
    let front = TlsFront::start(server.address(), &["localhost"]).await;
    let other = TlsFront::start(server.address(), &["localhost"]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("write");
        path
    };
    let (authority, stranger) = (file("ca.pem", &front.authority_pem), file("other.pem", &other.authority_pem));
    let at = |host: &str, query: &str| {
        let mut options = PostgresOptions::new(&format!("postgres://postgres@{host}:{}/postgres?{query}", front.port));
        options.authority = Some(authority.clone());
        options.password = Some(PASSWORD.to_owned().into());
        options
    };
    let opened = PostgresGalleries::open(&at("localhost", "sslmode=verify-full")).await;
    let galleries = std::sync::Arc::new(opened.unwrap_or_else(|error| panic!("{error:?}")));
    assert!(galleries.list_galleries(None, 1, &|_| true).await.expect("list").items.is_empty());
    let examined = at("localhost", "sslmode=require").examine().await.expect("examined");
    assert!(examined.contains("PostgreSQL 16") && examined.contains("tables of version 1"), "{examined}");
    let wrong_name = refused(&at("127.0.0.1", "sslmode=verify-full")).await;
    assert!(wrong_name.contains("not valid for name") || wrong_name.contains("NotValidForName"), "{wrong_name}");
    let mut unknown = at("localhost", "sslmode=require");
    unknown.authority = Some(stranger);
    let untrusted = refused(&unknown).await;
    assert!(untrusted.contains("invalid peer certificate"), "{untrusted}");
    refused(&at("localhost", "sslmode=disable")).await;
    let mut wrong = at("localhost", "sslmode=verify-full");
    wrong.password = Some("another, of some length".to_owned().into());
    assert!(refused(&wrong).await.contains("password authentication failed"));
    wrong.password = None;
    refused(&wrong).await;
    let mut unreadable = at("localhost", "sslmode=verify-full");
    unreadable.authority = Some(folder.path().join("none.pem"));
    assert!(matches!(unreadable.examine().await, Err(PostgresError::Authority(_))));
}
