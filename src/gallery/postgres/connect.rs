//! Connections to the database: where it is, how it is spoken to, and what its errors are to the engine. The adapter of
//! tokio-postgres, deadpool and rustls: no file outside this folder names them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, TimeoutType, Timeouts};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

use crate::error::Error;

/// How long a new connection may take, and how long a call waits for one that is free.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What a caller who finds every connection taken is told.
const RETRY_AFTER: Duration = Duration::from_millis(250);
const RETRY_LASTING_AFTER: Duration = Duration::from_secs(2);

/// How soon a peer that is gone without a word is noticed.
const PEER_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a transaction may wait for its next statement: ours come at once.
const IDLE_MS: u32 = 5_000;

/// Prepared statements that a connection keeps: each gallery has some of its own.
const STATEMENTS_MAX: usize = 2_000;

const UNREACHABLE: Error = Error::Unavailable("the database cannot be reached");

/// A database, and how it is spoken to.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://USER@HOST[:PORT][,HOST…]/DATABASE[?sslmode=…]`.
    url: Zeroizing<String>,
    /// Said to the database; in the place of one in the URL.
    pub password: Option<Zeroizing<String>>,
    /// The authorities whose certificates the database may show, in PEM; without, those that the system knows.
    pub authority: Option<PathBuf>,
    /// Connections of this server.
    pub connections_max: usize,
    /// Longest time of a statement.
    pub statement_time_max: Duration,
}

// A URL may hold a password.
impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresOptions({})", self.shown())
    }
}

/// Why a database cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It is no address of a database.
    #[error("the store's address is not postgres://USER@HOST/DATABASE: {0}")]
    Address(String),
    /// The file of authorities cannot be used.
    #[error("cannot read certificates from {}", .0.display())]
    Authority(PathBuf),
    /// It cannot be reached, or does not let us in.
    #[error("cannot connect to the database {shown}")]
    Connect {
        /// Where it is, without a password.
        shown: String,
        /// What it says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What it lacks, or holds, that stands in the way.
    #[error("the database {shown} cannot keep galleries: {what}")]
    Unfit {
        /// Where it is, without a password.
        shown: String,
        /// What is wrong, and what to do about it.
        what: String,
    },
}

impl PostgresOptions {
    /// Tells whether a text is the address of a database.
    pub fn is_address(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Takes an address.
    pub fn new(url: &str) -> Self {
        Self {
            url: Zeroizing::new(url.to_owned()),
            password: None,
            authority: None,
            connections_max: 16,
            statement_time_max: Duration::from_secs(10),
        }
    }

    /// Returns where the database is, without what is secret.
    pub fn shown(&self) -> String {
        let Ok((config, _)) = self.config() else { return "postgres://…".to_owned() };
        let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
        let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
            let name = match host {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            };
            match config.get_ports() {
                [] => name,
                [port] => format!("{name}:{port}"),
                ports => format!("{name}:{}", ports.get(at).copied().unwrap_or_default()),
            }
        });
        let hosts: Vec<String> = hosts.collect();
        format!("postgres://{user}{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
    }

    /// Checks the address.
    ///
    /// *Errors*: [`PostgresError::Address`].
    pub fn check(&self) -> Result<(), PostgresError> {
        self.config().map(drop)
    }

    /// *Errors*: [`PostgresError::Address`].
    fn config(&self) -> Result<(tokio_postgres::Config, bool), PostgresError> {
        let (url, mode) = take_ssl_mode(&self.url)?;
        // A slash or a question mark in a password would make a host or a database of it.
        let authority_end = url.find("://").map_or(0, |at| at + 3);
        let rest = url.get(authority_end..).unwrap_or_default();
        if rest.find(['/', '?']).is_some_and(|end| rest.get(end..).is_some_and(|rest| rest.contains('@'))) {
            return Err(PostgresError::Address("the password belongs into a file of its own".to_owned()));
        }
        let address = |error: tokio_postgres::Error| {
            // What it quotes of the address may be secret: its kind is not.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            PostgresError::Address(cause.unwrap_or_else(|| "it cannot be read".to_owned()))
        };
        let mut config: tokio_postgres::Config = url.parse().map_err(address)?;
        if let Some(password) = &self.password {
            config.password(password.as_bytes());
        }
        let is_near = !config.get_hosts().is_empty()
            && config.get_hosts().iter().all(|host| match host {
                #[cfg(unix)]
                Host::Unix(_) => true,
                Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
            })
            && config.get_hostaddrs().iter().all(|address| address.is_loopback());
        let is_encrypted = mode.unwrap_or(!is_near);
        config.ssl_mode(if is_encrypted { SslMode::Require } else { SslMode::Disable });
        if config.get_application_name().is_none() {
            config.application_name("facematch");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIME_MAX);
        }
        if config.get_target_session_attrs() == TargetSessionAttrs::Any {
            // Of several hosts the one that takes writes: after a failover another.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        config.tcp_user_timeout(PEER_TIME_MAX).keepalives_idle(PEER_TIME_MAX).keepalives_interval(PEER_TIME_MAX);
        let limit_ms = self.statement_time_max.as_millis();
        let own = config.get_options().unwrap_or_default().to_owned();
        // What the transactions here rest on, whatever the database's own default; and the locks of a server that is gone or
        // hangs are let go of soon.
        config.options(format!(
            "{own} -c statement_timeout={limit_ms} -c idle_in_transaction_session_timeout={IDLE_MS} -c jit=off \
             -c default_transaction_isolation=read\\ committed -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 \
             -c tcp_keepalives_count=3 -c tcp_user_timeout=15000"
        ));
        Ok((config, is_encrypted))
    }
}

/// Takes `sslmode` out of an address: true is TLS with the certificate and the host's name checked, false is none. libpq's modes
/// in between, which encrypt for whoever answers, are not had.
fn take_ssl_mode(url: &str) -> Result<(Zeroizing<String>, Option<bool>), PostgresError> {
    let Some((base, query)) = url.split_once('?') else { return Ok((Zeroizing::new(url.to_owned()), None)) };
    let mut mode = None;
    let mut rest = Vec::new();
    for part in query.split('&') {
        match part.strip_prefix("sslmode=") {
            Some("disable") => mode = Some(false),
            Some("require" | "verify-full") => mode = Some(true),
            Some(_) => return Err(PostgresError::Address("sslmode is verify-full, require or disable".to_owned())),
            None if part.starts_with("password=") => {
                return Err(PostgresError::Address("the password belongs into a file of its own".to_owned()));
            }
            None => rest.push(part),
        }
    }
    let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    Ok((Zeroizing::new(format!("{base}{rest}")), mode))
}

/// The connections of this server.
pub(super) struct Connections {
    pool: Pool,
    /// Half of them, for what lasts: calls find the others.
    lasting: Arc<Semaphore>,
    is_reachable: AtomicBool,
    tls: MakeRustlsConnect,
    shown: String,
}

impl Connections {
    /// Opens none yet.
    ///
    /// *Errors*: [`PostgresError`] where they cannot be.
    pub(super) fn new(options: &PostgresOptions) -> Result<Self, PostgresError> {
        let (config, is_encrypted) = options.config()?;
        let tls = MakeRustlsConnect::new(tls(options, is_encrypted)?);
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, tls.clone(), manager_config);
        let timeouts =
            Timeouts { wait: Some(WAIT_MAX), create: Some(CONNECT_TIME_MAX * 2), recycle: Some(CONNECT_TIME_MAX) };
        let pool = Pool::builder(manager).max_size(options.connections_max).timeouts(timeouts);
        let pool = pool.runtime(deadpool_postgres::Runtime::Tokio1).build();
        let pool = pool.map_err(|error| PostgresError::Address(error.to_string()))?;
        let lasting = Arc::new(Semaphore::new((options.connections_max / 2).max(1)));
        Ok(Self { pool, lasting, is_reachable: AtomicBool::new(true), tls, shown: options.shown() })
    }

    /// Returns where the database is, without what is secret.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Takes a connection.
    ///
    /// *Errors*: [`Error::Overloaded`] where all are taken for a second; [`Error::Unavailable`].
    pub(super) async fn take(&self) -> Result<Session, Fault> {
        if !self.is_reachable.load(Ordering::Acquire) {
            return Err(Fault::Error(UNREACHABLE));
        }
        match self.pool.get().await {
            Ok(object) => {
                if object.statement_cache.size() > STATEMENTS_MAX {
                    object.statement_cache.clear();
                }
                Ok(Session { object: Some(object), tls: self.tls.clone(), place: None })
            }
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                Err(Fault::Error(Error::Overloaded { retry_after: RETRY_AFTER }))
            }
            Err(PoolError::Backend(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "no connection to the database");
                Err(match Fault::from(error) {
                    // A role that is not let in is an operator's matter: callers come again.
                    Fault::Error(Error::Internal(_)) => Fault::Error(UNREACHABLE),
                    fault => fault,
                })
            }
            Err(_) => Err(Fault::Error(UNREACHABLE)),
        }
    }

    /// Says whether the database answers.
    pub(super) fn set_reachable(&self, is_reachable: bool) {
        self.is_reachable.store(is_reachable, Ordering::Release);
    }

    /// Takes a connection for what lasts: an import, an export, a migration, a compaction, the building of an index.
    ///
    /// *Errors*: [`Error::Overloaded`] where half of all connections are taken for such; those of [`Connections::take`].
    pub(super) async fn take_for_long(&self) -> Result<Session, Fault> {
        let place = Arc::clone(&self.lasting).try_acquire_owned();
        let place = place.map_err(|_| Error::Overloaded { retry_after: RETRY_LASTING_AFTER })?;
        let mut session = self.take().await?;
        session.place = Some(place);
        Ok(session)
    }

    /// Takes a connection and says in full why there is none: for the start.
    pub(super) async fn first(&self) -> Result<Session, PostgresError> {
        let connect = |source: Box<dyn std::error::Error + Send + Sync>| PostgresError::Connect {
            shown: self.shown.clone(),
            source,
        };
        match self.pool.get().await {
            Ok(object) => Ok(Session { object: Some(object), tls: self.tls.clone(), place: None }),
            Err(error) => Err(connect(Box::new(error))),
        }
    }

    /// Closes the connections; those in use when they are done.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

fn tls(options: &PostgresOptions, is_encrypted: bool) -> Result<rustls::ClientConfig, PostgresError> {
    let mut roots = rustls::RootCertStore::empty();
    match &options.authority {
        Some(path) => {
            let unusable = || PostgresError::Authority(path.clone());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unusable())? {
                roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
            }
            if roots.is_empty() {
                return Err(unusable());
            }
        }
        None if is_encrypted => {
            let known = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(known.certs);
        }
        None => {}
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| PostgresError::Address(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A connection in use. One that is not [`Session::done`] when it is dropped, by an error or because nobody waits any more, is not
/// used again: its statement is cancelled and it is closed.
pub(super) struct Session {
    /// There until it is dropped.
    object: Option<Object>,
    tls: MakeRustlsConnect,
    /// Of what lasts.
    place: Option<OwnedSemaphorePermit>,
}

impl Session {
    /// Gives the connection back.
    pub(super) fn done(mut self) {
        drop(self.object.take());
    }

    /// Gives the connection back after what came of work on it, but where nobody knows how it stands.
    pub(super) fn end<T>(self, result: Result<T, Fault>) -> Result<T, Fault> {
        if !matches!(&result, Err(Fault::Error(Error::Unavailable(_) | Error::Internal(_) | Error::DeadlineExceeded))) {
            self.done();
        }
        result
    }
}

impl Deref for Session {
    type Target = Object;

    #[expect(clippy::expect_used, reason = "only `done` and `drop` take it, and nothing comes after them")]
    fn deref(&self) -> &Object {
        self.object.as_ref().expect("a connection until the end")
    }
}

impl DerefMut for Session {
    #[expect(clippy::expect_used, reason = "only `done` and `drop` take it, and nothing comes after them")]
    fn deref_mut(&mut self) -> &mut Object {
        self.object.as_mut().expect("a connection until the end")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let (token, tls) = (object.cancel_token(), self.tls.clone());
        drop(Object::take(object));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let cancel = token.cancel_query(tls);
                // Where it does not arrive, the database's own limit ends the statement.
                let _ = tokio::time::timeout(CONNECT_TIME_MAX, cancel).await;
            });
        }
    }
}

/// What went wrong with a statement.
#[derive(Debug)]
pub(super) enum Fault {
    /// What it was about changed meanwhile: the same again, from the start, will do.
    Again,
    /// A row of this kind is there already.
    Taken,
    /// Something else.
    Error(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Error(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(code) = error.code() else {
            // The connection broke, or could not be made. What was under way may have taken effect.
            let is_ours = error.to_string().contains("serializing") || error.to_string().contains("deserializing");
            return Fault::Error(if is_ours { Error::internal(error) } else { UNREACHABLE });
        };
        let unavailable = |what| Fault::Error(Error::Unavailable(what));
        match *code {
            SqlState::UNIQUE_VIOLATION => Fault::Taken,
            // Of a gallery that went, or moved to other tables.
            SqlState::UNDEFINED_TABLE
            | SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            // A plan of before an index was made or dropped.
            | SqlState::FEATURE_NOT_SUPPORTED => Fault::Again,
            SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => Fault::Error(Error::DeadlineExceeded),
            SqlState::READ_ONLY_SQL_TRANSACTION => unavailable("the database takes no writes: it is a standby now"),
            SqlState::DISK_FULL => unavailable("the database takes no writes: its disk is full"),
            SqlState::OUT_OF_MEMORY | SqlState::INSUFFICIENT_RESOURCES | SqlState::TOO_MANY_CONNECTIONS => {
                unavailable("the database is overloaded")
            }
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => unavailable("the database is restarting"),
            SqlState::INSUFFICIENT_PRIVILEGE
            | SqlState::INVALID_PASSWORD
            | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                tracing::error!(%error, "the database refuses the server's role");
                unavailable("the database refuses the server's role")
            }
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => {
                tracing::error!(%error, "the database says that its files are damaged");
                Fault::Error(Error::DataLoss("the database says that its files are damaged"))
            }
            _ if code.code().starts_with("08") => Fault::Error(UNREACHABLE),
            // Files of the database that cannot be written or read.
            _ if code.code().starts_with("58") => unavailable("the database cannot use its files"),
            _ => Fault::Error(Error::internal(error)),
        }
    }
}

impl Fault {
    /// What it is where nothing more is done about it.
    pub(super) fn into_error(self) -> Error {
        match self {
            Fault::Error(error) => error,
            Fault::Again => Error::Unavailable("the gallery changed meanwhile; send it again"),
            Fault::Taken => Error::internal("a row that is there already"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_shown_without_its_secrets() {
        let cases = [
            ("postgres://ann:secret@db:5433/faces", "postgres://ann@db:5433/faces"),
            ("postgres://ann:secret@db:5433/faces?password=secret", "postgres://…"),
            ("postgres://db/faces", "postgres://db:5432/faces"),
            ("postgresql://ann@a:4,b:5/faces", "postgres://ann@a:4,b:5/faces"),
            ("postgres://ann:secret/12@db/faces", "postgres://…"),
            ("postgres://ann:12/secret@db/faces", "postgres://…"),
            ("postgres://ann:12?secret@db/faces", "postgres://…"),
        ];
        for (url, shown) in cases {
            let options = PostgresOptions::new(url);
            assert_eq!(options.shown(), shown);
            assert!(!format!("{options:?}").contains("secret"));
        }
    }

    #[test]
    fn other_machines_are_spoken_to_encrypted_unless_it_is_said() {
        let is_encrypted = |url: &str| PostgresOptions::new(url).config().expect(url).1;
        assert!(is_encrypted("postgres://ann@db.example/faces"));
        assert!(is_encrypted("postgres://ann@localhost,db.example/faces"));
        assert!(!is_encrypted("postgres://ann@localhost/faces"));
        assert!(is_encrypted("postgres:///faces?hostaddr=192.0.2.2"));
        assert!(is_encrypted("postgres://ann@localhost/faces?hostaddr=192.0.2.2"));
        assert!(!is_encrypted("postgres://ann@db.example/faces?sslmode=disable"));
        assert!(is_encrypted("postgres://ann@localhost/faces?connect_timeout=3&sslmode=verify-full"));
        for bad in
            ["sslmode=prefer", "nonsense=1", "password=x"].map(|query| format!("postgres://ann@db/faces?{query}"))
        {
            assert!(matches!(PostgresOptions::new(&bad).config(), Err(PostgresError::Address(_))), "{bad}");
        }
    }
}
