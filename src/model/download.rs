//! Fetches a published file over HTTP. A download that was cut goes on where it ended. The adapter of ureq: nothing
//! outside it names ureq.

mod part;
mod reply;

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};

use self::part::Part;
use self::reply::{is_all, length, range, validator};
use crate::runtime::disk;

/// What may be fetched beyond the size that the catalogue states.
pub const SLACK_BYTES: u64 = 1 << 20;

/// What a download leaves free on the disk.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// How often an address is tried that brings nothing new, and how long it is waited before: twice as long each time. What
/// counts as new is a step: a line that is cut every few minutes still brings a large file.
const ATTEMPTS: u32 = 4;
const STEP_BYTES: u64 = 1 << 20;
const WAIT: Duration = Duration::from_millis(200);

const REDIRECTS_MAX: u32 = 10;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// The longest wait for a reply, and for its next bytes. The whole has no limit: a slow line is no fault.
const SILENCE_MAX: Duration = Duration::from_secs(60);

const BUFFER_BYTES: usize = 1 << 16;

/// The proxy that is gone through.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Its address, where there is one. It may hold a password.
    pub address: Option<String>,
    /// Hosts that are reached without it: a host is meant with all below it, `*` all.
    pub except: Vec<String>,
}

// The address may hold a password.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.address.is_some() { "Proxy(..)" } else { "Proxy(none)" })
    }
}

/// What a download is doing.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// It begins at an address, or goes on, with so many bytes there.
    At(&'a str, u64),
    /// So many bytes have come since.
    Bytes(u64),
    /// It failed, and is tried again.
    Again(&'a DownloadError),
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// A proxy whose address cannot be used.
    #[error("the proxy's address cannot be used: expected such as http://HOST:PORT")]
    BadProxy,
    /// A server that cannot be reached, or breaks off before it replies.
    #[error("cannot fetch {address}")]
    Unreachable {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server that is not trusted, leads in circles or to where it must not, or does not speak HTTP.
    #[error("cannot fetch {address}")]
    BadReply {
        /// The address.
        address: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A server that does not have it.
    #[error("cannot fetch {address}: the server replied {status}")]
    Status {
        /// The address.
        address: String,
        /// The reply's status.
        status: u16,
    },
    /// A file larger than it may be.
    #[error("{address}: expected at most {bytes_max} bytes, found {}", found(*promised))]
    TooLarge {
        /// The address.
        address: String,
        /// The size that the catalogue states, and the slack.
        bytes_max: u64,
        /// The size that the server states, where it does.
        promised: Option<u64>,
    },
    /// A reply that ended before its time. What has come is kept.
    #[error("{address} was cut after {received} bytes of {}", found(*promised))]
    Cut {
        /// The address.
        address: String,
        /// What has come.
        received: u64,
        /// What was to come, where the server states it.
        promised: Option<u64>,
    },
    /// A disk without room.
    #[error("{} has {free} bytes free; {needed} are needed, some of which stay free", folder.display())]
    NoRoom {
        /// A folder on it.
        folder: PathBuf,
        /// What is needed.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// A file that cannot be written or read again.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Returns an address without the name and the password that it may hold: to be told and recorded.
pub fn shown_address(address: &str) -> String {
    let (scheme, rest) = address.split_at(address.find("://").map_or(0, |at| at + 3));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{host}{path}")
}

fn found(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "more than that".to_owned(), |bytes| bytes.to_string())
}

/// Fetches files.
pub struct Downloader {
    agent: ureq::Agent,
}

impl Downloader {
    /// Makes one. Certificates are checked against those that the system trusts.
    ///
    /// *Errors*: [`DownloadError::BadProxy`].
    pub fn new(proxy: &Proxy) -> Result<Self, DownloadError> {
        let config = ureq::Agent::config_builder()
            .proxy(proxy.open()?)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .http_status_as_error(false)
            .max_redirects(REDIRECTS_MAX)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_recv_response(Some(SILENCE_MAX))
            .timeout_per_read(Some(SILENCE_MAX))
            .user_agent(concat!("facematch/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.new_agent() })
    }

    /// Fetches a file of about `bytes` bytes from the first of the addresses that gives it whole, into `path`. What is there
    /// of it already, of an earlier download, is not fetched again where the server still has the same file.
    ///
    /// *Errors*: [`DownloadError`]: that of the last address.
    pub fn fetch(
        &self,
        addresses: &[String],
        bytes: u64,
        path: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), DownloadError> {
        let bytes_max = bytes.saturating_add(SLACK_BYTES);
        check_room(path, bytes_max)?;
        let mut last = None;
        for address in addresses {
            let shown = &shown_address(address);
            let mut one = One { agent: &self.agent, address, shown, bytes_max, path, progress: &mut *progress };
            match one.fetch() {
                Ok(()) => return Ok(()),
                // The next address would meet the same.
                Err(error @ (DownloadError::Io { .. } | DownloadError::NoRoom { .. })) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| DownloadError::Status { address: "no address".to_owned(), status: 404 }))
    }
}

impl Proxy {
    fn open(&self) -> Result<Option<ureq::Proxy>, DownloadError> {
        let Some(address) = &self.address else { return Ok(None) };
        let proxy = ureq::Proxy::new(address).map_err(|_| DownloadError::BadProxy)?;
        let mut builder = ureq::Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
        builder = proxy.username().map(str::to_owned).iter().fold(builder, |builder, name| builder.username(name));
        builder = proxy.password().map(str::to_owned).iter().fold(builder, |builder, word| builder.password(word));
        for host in self.except.iter().map(|host| host.trim_start_matches("*.").trim_start_matches('.')) {
            builder = builder.no_proxy(host).no_proxy(&format!(".{host}"));
        }
        builder.build().map(Some).map_err(|_| DownloadError::BadProxy)
    }
}

/// Checks that a file of some bytes, and the pack that is unpacked from it, leave room on the disk.
fn check_room(path: &Path, bytes_max: u64) -> Result<(), DownloadError> {
    let folder = path.parent().unwrap_or(path);
    let Some(free) = disk::free_bytes(folder) else { return Ok(()) };
    // Weights hardly compress; what is unpacked has its own limits.
    let needed = bytes_max.saturating_mul(2).saturating_add(FREE_BYTES_MIN);
    if free < needed { Err(DownloadError::NoRoom { folder: folder.to_path_buf(), needed, free }) } else { Ok(()) }
}

/// One file at one address.
struct One<'a> {
    agent: &'a ureq::Agent,
    address: &'a str,
    /// The same without a password: what is told and recorded.
    shown: &'a str,
    bytes_max: u64,
    path: &'a Path,
    progress: &'a mut dyn FnMut(Progress<'_>),
}

/// How an attempt ended that may be followed by another.
enum Attempt {
    Whole,
    Failed(DownloadError),
    /// What was there is of another file than the server has now.
    Stale,
}

impl One<'_> {
    fn fetch(&mut self) -> Result<(), DownloadError> {
        let (mut failures, mut bytes_before) = (0, 0);
        loop {
            let failure = match self.attempt()? {
                Attempt::Whole => return Ok(()),
                Attempt::Stale => DownloadError::Cut { address: self.shown.to_owned(), received: 0, promised: None },
                Attempt::Failed(error) => error,
            };
            let bytes = std::fs::metadata(self.path).map_or(0, |metadata| metadata.len());
            failures = if bytes >= bytes_before + STEP_BYTES { 1 } else { failures + 1 };
            bytes_before = bytes;
            if failures >= ATTEMPTS {
                return Err(failure);
            }
            (self.progress)(Progress::Again(&failure));
            std::thread::sleep(WAIT * (1 << failures));
        }
    }

    fn attempt(&mut self) -> Result<Attempt, DownloadError> {
        let mut part = Part::open(self.path, self.shown).map_err(self.io())?;
        let mut request = self.agent.get(self.address).header(ACCEPT_ENCODING, "identity");
        if let Some(validator) = &part.validator {
            request = request.header(RANGE, format!("bytes={}-", part.bytes)).header(IF_RANGE, validator);
        }
        // A redirect must not lead from an address that is proof against listeners to one that is not.
        let https_only = self.address.starts_with("https:");
        let reply = match request.config().https_only(https_only).build().call() {
            Ok(reply) => reply,
            Err(error) => return self.no_reply(error),
        };
        let promised = match reply.status() {
            StatusCode::OK => {
                part.restart(validator(reply.headers())).map_err(self.io())?;
                length(reply.headers())
            }
            StatusCode::PARTIAL_CONTENT => match range(reply.headers()) {
                Some((start, total)) if start == part.bytes && part.bytes > 0 => total,
                _ => return self.start_anew(part),
            },
            // It was whole already: the same file has no more bytes.
            StatusCode::RANGE_NOT_SATISFIABLE if is_all(reply.headers(), part.bytes) => return Ok(Attempt::Whole),
            StatusCode::RANGE_NOT_SATISFIABLE if part.bytes > 0 => return self.start_anew(part),
            status => return self.refusal(status),
        };
        if promised.is_some_and(|bytes| bytes > self.bytes_max) {
            return Err(DownloadError::TooLarge {
                address: self.shown.to_owned(),
                bytes_max: self.bytes_max,
                promised,
            });
        }
        (self.progress)(Progress::At(self.shown, part.bytes));
        self.receive(reply, part, promised)
    }

    fn receive(
        &mut self,
        reply: Response<ureq::Body>,
        mut part: Part,
        promised: Option<u64>,
    ) -> Result<Attempt, DownloadError> {
        let mut body = reply.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        let address = self.shown.to_owned();
        let cut = |received: u64| Ok(Attempt::Failed(DownloadError::Cut { address, received, promised }));
        loop {
            let read = match body.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return cut(part.bytes),
            };
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            if part.bytes.saturating_add(read as u64) > self.bytes_max {
                part.restart(None).map_err(self.io())?;
                let (address, bytes_max) = (self.shown.to_owned(), self.bytes_max);
                return Err(DownloadError::TooLarge { address, bytes_max, promised });
            }
            part.write(bytes).map_err(self.io())?;
            (self.progress)(Progress::Bytes(read as u64));
        }
        // A connection that was closed early may look like an end.
        if promised.is_some_and(|promised| part.bytes < promised) { cut(part.bytes) } else { Ok(Attempt::Whole) }
    }

    fn start_anew(&self, mut part: Part) -> Result<Attempt, DownloadError> {
        part.restart(None).map_err(self.io())?;
        Ok(Attempt::Stale)
    }

    /// A status that is no file: tried again where it may pass.
    fn refusal(&self, status: StatusCode) -> Result<Attempt, DownloadError> {
        let error = DownloadError::Status { address: self.shown.to_owned(), status: status.as_u16() };
        let may_pass = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
        if may_pass { Ok(Attempt::Failed(error)) } else { Err(error) }
    }

    /// A call that failed before a reply: tried again where the network may be at fault.
    fn no_reply(&self, error: ureq::Error) -> Result<Attempt, DownloadError> {
        let may_pass = match &error {
            // So is a certificate told that is not trusted.
            ureq::Error::Io(error) => error.kind() != ErrorKind::InvalidData,
            error => matches!(error, ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed),
        };
        let (address, source) = (self.shown.to_owned(), error.into());
        if may_pass {
            Ok(Attempt::Failed(DownloadError::Unreachable { address, source }))
        } else {
            Err(DownloadError::BadReply { address, source })
        }
    }

    fn io(&self) -> impl FnOnce(std::io::Error) -> DownloadError + use<> {
        let path = self.path.to_path_buf();
        move |source| DownloadError::Io { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_address_holds_no_password() {
        for (address, shown) in [
            ("http://bob:s3@cret@h:1/a@b?c@d", "http://h:1/a@b?c@d"),
            ("https://bob@h", "https://h"),
            ("bob:s3cret@h/a", "h/a"),
            ("https://h/a:b@c", "https://h/a:b@c"),
        ] {
            assert_eq!(shown_address(address), shown);
        }
    }

    #[test]
    fn proxy_with_a_password_is_used_and_not_told() {
        let address = Some("http://ann:pass@proxy:3128".to_owned());
        let proxy = Proxy { address: address.clone(), except: vec![".corp".to_owned()] };
        assert!(!format!("{proxy:?}").contains("pass"));
        let open = proxy.open().expect("a proxy").expect("one");
        assert_eq!((open.host(), open.port(), open.password()), ("proxy", 3128, Some("pass")));
        for (uri, is_except) in [("http://a.corp/", true), ("http://corp/", true), ("http://corporate/", false)] {
            assert_eq!(open.is_no_proxy(&uri.parse().expect("an address")), is_except, "{uri}");
        }
        let never = Proxy { address, except: vec!["*".to_owned()] }.open().expect("a proxy").expect("one");
        assert!(never.is_no_proxy(&"http://any/".parse().expect("an address")));
        assert!(Proxy { address: Some("::".to_owned()), except: vec![] }.open().is_err());
    }
}
