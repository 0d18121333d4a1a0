//! `key`: who may do what on a server.

use std::io::Write;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::output::Output;
use super::store::standard_output;
use super::{Answer, remote};
use crate::access::{Grant, KeyId, KeyText, Scope};
use crate::config::Config;
use crate::contract as proto;
use crate::contract::key_service_client::KeyServiceClient;
use crate::server;

/// Make, list and revoke the keys of a server's callers
///
/// On a server with `keys = "required"` every call shows one. Its first is in a file that the server is told of:
///   facematch key generate > admin.key
///   facematch serve --keys required --admin-key-file admin.key …
/// and with it the others are made: a key may read, enrol, delete or administer, each on some galleries.
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key and print its secret, which nobody can see again. With --json: CreateKeyResponse
    Create(Create),
    /// List the keys. With --json: ListKeysResponse
    List,
    /// Take a key out of force at once, for calls that are in too. With --json: RevokeKeyResponse
    Revoke {
        /// Its id
        #[arg(value_name = "KEY_ID")]
        key: String,
    },
    /// Print a new key for a server's admin_key_file; asks no server
    Generate,
}

#[derive(Args)]
struct Create {
    /// Whose it is, for people
    #[arg(value_name = "NAME")]
    name: String,
    /// SCOPE:GALLERIES, such as read:* enrol:door-* delete:staff; scopes are read, enrol, delete and admin, which includes the
    /// others; galleries are an id, the beginning of ids with * behind, or *
    #[arg(long = "allow", value_name = "GRANT", required = true, num_args = 1..)]
    grants: Vec<String>,
    /// From when on it is worth nothing, in days from now
    #[arg(long, value_name = "DAYS")]
    expires_days: Option<u64>,
    /// The subject of the client certificate that stands for it, such as CN=door,O=Corp: there is no secret then
    #[arg(long, value_name = "SUBJECT")]
    certificate_subject: Option<String>,
    /// Calls a second at most
    #[arg(long, value_name = "COUNT")]
    calls_per_second: Option<u64>,
    /// Calls in at a time at most
    #[arg(long, value_name = "COUNT")]
    concurrent_calls: Option<u64>,
    /// Bytes of messages a second at most
    #[arg(long, value_name = "BYTES")]
    bytes_per_second: Option<u64>,
    /// Identities of a gallery from which on the key enrols no new one
    #[arg(long, value_name = "COUNT")]
    identities: Option<u64>,
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    if matches!(arguments.action, Action::Generate) {
        let text = KeyText::generate(&KeyId::generate()?)?;
        // Where a shell has made a file for it: its owner's alone.
        let mut file = standard_output()?;
        writeln!(file, "{}", text.expose())?;
        return Ok(Answer::Yes);
    }
    // Read before anybody is asked.
    let stated = match &arguments.action {
        Action::Create(create) => Some(create.request()?),
        _ => None,
    };
    let mut client = KeyServiceClient::new(remote::connect(config).await?);
    match arguments.action {
        Action::Create(_) => {
            let reply = client.create_key(proto::CreateKeyRequest { key: stated }).await.map_err(remote::failed)?;
            output.reply(&reply.into_inner(), |reply| match (&reply.key, reply.secret.as_str()) {
                (Some(key), "") => format!("key {}: it is the certificate of {}", key.key_id, key.certificate_subject),
                (Some(key), secret) => {
                    format!("{secret}\nkey {}: this is all there will ever be seen of it", key.key_id)
                }
                (None, _) => String::new(),
            })?;
        }
        Action::List => {
            let reply = client.list_keys(proto::ListKeysRequest {}).await.map_err(remote::failed)?.into_inner();
            output.reply(&reply, |reply| reply.keys.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        }
        Action::Revoke { key } => {
            let request = proto::RevokeKeyRequest { key_id: key };
            let reply = client.revoke_key(request).await.map_err(remote::failed)?.into_inner();
            output.reply(&reply, |_| "revoked".to_owned())?;
        }
        Action::Generate => {}
    }
    Ok(Answer::Yes)
}

impl Create {
    fn request(&self) -> anyhow::Result<proto::Key> {
        let grant = |text: &String| -> anyhow::Result<proto::Grant> {
            let grant: Grant = text.parse().with_context(|| format!("--allow {text:?}"))?;
            Ok(server::grant_reply(&grant))
        };
        let days = self.expires_days.map(|days| DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX)));
        let expires = days.map(|days| SystemTime::now().checked_add(days).context("--expires-days is too far away"));
        Ok(proto::Key {
            display_name: self.name.clone(),
            grants: self.grants.iter().map(grant).collect::<anyhow::Result<_>>()?,
            limits: Some(proto::KeyLimits {
                calls_per_second: self.calls_per_second,
                concurrent_calls: self.concurrent_calls,
                bytes_per_second: self.bytes_per_second,
                identities: self.identities,
            }),
            expire_time: expires.transpose()?.map(prost_types::Timestamp::from),
            certificate_subject: self.certificate_subject.clone().unwrap_or_default(),
            ..Default::default()
        })
    }
}

fn line(key: &proto::Key) -> String {
    let grants: Vec<String> = key.grants.iter().map(grant_text).collect();
    let expires = key.expire_time.as_ref().map(|time| format!(", until {time}")).unwrap_or_default();
    let subject = match key.certificate_subject.as_str() {
        "" => String::new(),
        subject => format!(", by certificate {subject}"),
    };
    format!(
        "{}  {}  {}{expires}{subject}{}",
        key.key_id,
        key.display_name,
        grants.join(" "),
        limits_text(key.limits.as_ref())
    )
}

fn grant_text(grant: &proto::Grant) -> String {
    // A newer server may know others.
    let scope = server::scope(grant.scope()).map_or("?", Scope::as_str);
    format!("{scope}:{}", grant.galleries)
}

fn limits_text(limits: Option<&proto::KeyLimits>) -> String {
    let Some(limits) = limits else { return String::new() };
    let stated = [
        (limits.calls_per_second, "calls/s"),
        (limits.concurrent_calls, "calls at a time"),
        (limits.bytes_per_second, "bytes/s"),
        (limits.identities, "identities"),
    ];
    stated.iter().filter_map(|(limit, unit)| Some(format!(", {} {unit}", (*limit)?))).collect()
}
