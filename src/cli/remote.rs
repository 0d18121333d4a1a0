//! The server of the settings, and what a failed call means to a person.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tonic::Status;

use crate::client::{Channel, Client, ClientCertificate, ConnectError, Key, Options};
pub(super) use crate::client::{REPLY_BYTES_MAX, reason, retry_delay};
use crate::config::{Config, KEY_ENV};

/// Time of a call. A person can end it, and the server has a limit of its own: 60 s, unless it is told otherwise.
const CALL_TIME_MAX: Duration = Duration::from_secs(600);

/// Connects to the server of the settings.
pub(super) async fn connect(config: &Config) -> anyhow::Result<Channel> {
    Ok(client(config).await?.channel())
}

/// Connects likewise; what this calls is sent again where that does no harm.
pub(super) async fn client(config: &Config) -> anyhow::Result<Client> {
    Client::connect(options(config)?).await.map_err(|error| match error {
        ConnectError::Unreachable { address, source } => anyhow::Error::new(source)
            .context(format!("cannot reach a server at {address}; start one with `facematch serve`")),
        error => error.into(),
    })
}

fn options(config: &Config) -> anyhow::Result<Options> {
    let caller = &config.caller;
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let origin = caller.key_file().map_or_else(|| KEY_ENV.to_owned(), |path| path.display().to_string());
    let key = caller.key().with_context(|| format!("cannot read {origin}"))?;
    let certificate = caller.certificate.as_ref().map(|(certificate, private_key)| {
        anyhow::Ok(ClientCertificate { certificate: read(certificate)?, private_key: read(private_key)? })
    });
    Ok(Options {
        key: key.map(|key| Key::new(&key)).transpose().context(origin)?,
        ca: caller.tls_ca.as_deref().map(read).transpose()?,
        certificate: certificate.transpose()?,
        call_time_max: CALL_TIME_MAX,
        ..Options::new(config.endpoint.clone())
    })
}

/// Turns a failed call into one line for a person: what the server says, and the reason that programs branch on.
pub(super) fn failed(status: Status) -> anyhow::Error {
    let message = if status.message().is_empty() { status.code().description() } else { status.message() };
    match reason(&status) {
        Some(reason) => anyhow::anyhow!("{message} ({reason})"),
        None => anyhow::anyhow!("{message}"),
    }
}
