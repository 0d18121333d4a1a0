//! The files of TLS and of keys, where settings name any: there, read by nobody else, and certificates that hold for a while.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Finding;
use super::certificate::validity;
use crate::config::Reading;
use crate::runtime::private_file;

/// Settings that name files of certificates, in PEM.
const CERTIFICATES: [&str; 2] = ["tls_certificate", "tls_client_ca"];

/// Settings that name files of secrets.
const SECRETS: [&str; 3] = ["tls_key", "admin_key_file", "encryption_key_file"];

/// Time enough to get another.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY_SECONDS);
const DAY_SECONDS: u64 = 24 * 3_600;

/// Larger files are no keys: one that was named by mistake is not read to its end.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn examine(reading: &Reading, now: SystemTime) -> Vec<Finding> {
    let named = |keys: &'static [&'static str]| {
        keys.iter().filter_map(|key| Some((*key, Path::new(reading.value(key)?)))).collect::<Vec<_>>()
    };
    let certificates = named(&CERTIFICATES).into_iter().map(|(name, path)| certificate(name, path, now));
    let secrets = named(&SECRETS).into_iter().map(|(name, path)| secret(name, path));
    certificates.chain(secrets).collect()
}

fn certificate(name: &'static str, path: &Path, now: SystemTime) -> Finding {
    let shown = path.display();
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => return Finding::fail(name, format!("cannot read {shown}: {error}"), readable(name)),
    };
    let Some((from, to)) = validity(&text) else {
        let mend = "it must hold certificates in PEM: -----BEGIN CERTIFICATE-----";
        return Finding::fail(name, format!("{shown} is no certificate"), mend);
    };
    if now < from {
        return Finding::fail(name, format!("{shown} does not hold yet"), "set the clock, or get another");
    }
    let Ok(left) = to.duration_since(now) else {
        return Finding::fail(name, format!("{shown} has expired"), "renew it");
    };
    let found = format!("{shown} holds for {} more days", left.as_secs() / DAY_SECONDS);
    if left < RENEW_BEFORE { Finding::warn(name, found, "renew it") } else { Finding::ok(name, found) }
}

fn secret(name: &'static str, path: &Path) -> Finding {
    let shown = path.display();
    let mode = std::fs::metadata(path).ok().and_then(|metadata| private_file::mode_for_others(&metadata));
    match (read(path), mode) {
        (Err(error), _) => Finding::fail(name, format!("cannot read {shown}: {error}"), readable(name)),
        (Ok(text), _) if text.trim().is_empty() => Finding::fail(name, format!("{shown} is empty"), "make it anew"),
        (Ok(_), Some(mode)) => {
            let mend = format!("chmod 400 {shown}, and make it anew: it may be known");
            Finding::fail(name, format!("{shown} can be read by others than its owner (mode {mode:03o})"), mend)
        }
        (Ok(_), None) => Finding::ok(name, format!("{shown} can be read, and by nobody else")),
    }
}

fn readable(name: &str) -> String {
    format!("name a file with --{} that who runs the server can read", name.replace('_', "-"))
}

/// Reads a file as Latin-1 would have it: what looks for certificates and for emptiness needs no more.
fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path)?, FILE_BYTES_MAX), &mut bytes)?;
    Ok(bytes.into_iter().map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::certificate::tests::{PEM, seconds};
    use super::*;

    fn file(folder: &Path, text: &str, mode: u32) -> std::path::PathBuf {
        let path = folder.join("file");
        std::fs::write(&path, text).expect("a file");
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
        path
    }

    #[test]
    fn certificate_that_is_not_there_or_none_or_expired_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = |path: &Path, now: u64| certificate("tls_certificate", path, seconds(now)).state;
        let (from, to) = validity(PEM).expect("a certificate");
        let at = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
        assert_eq!(state(&folder.path().join("absent"), at(from)), State::Fail);
        assert_eq!(state(&file(folder.path(), "-----BEGIN CERTIFICATE-----\nAAAA", 0o600), at(from)), State::Fail);
        let path = file(folder.path(), PEM, 0o644);
        assert_eq!(state(&path, at(from) - 1), State::Fail);
        assert_eq!(state(&path, at(from)), State::Ok);
        assert_eq!(state(&path, at(to) - 29 * DAY_SECONDS), State::Warn);
        assert_eq!(state(&path, at(to) + 1), State::Fail);
    }

    #[cfg(unix)]
    #[test]
    fn secret_that_is_absent_empty_or_others_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = |path: &Path| secret("admin_key_file", path).state;
        assert_eq!(state(&folder.path().join("absent")), State::Fail);
        assert_eq!(state(&file(folder.path(), " \n", 0o600)), State::Fail);
        for mode in [0o644, 0o640, 0o440] {
            assert_eq!(state(&file(folder.path(), "key", mode)), State::Fail, "{mode:o}");
        }
        for mode in [0o400, 0o600] {
            assert_eq!(state(&file(folder.path(), "key", mode)), State::Ok, "{mode:o}");
        }
    }
}
