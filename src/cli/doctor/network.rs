//! Whether the addresses to listen on are free and this machine's.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::{Finding, State};
use crate::config::Config;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![free("address", "--listen", config.listen)];
    findings.extend(config.metrics_listen.map(metrics));
    findings
}

/// Whoever reaches the page reads it: it has neither TLS nor keys.
fn metrics(address: SocketAddr) -> Finding {
    const NAME: &str = "metrics address";
    match free(NAME, "--metrics-listen", address) {
        Finding { state: State::Ok, found, .. } if !address.ip().is_loopback() => {
            let found = format!("{found}, and is beyond this machine: ids of galleries are told to whoever asks");
            Finding::warn(NAME, found, "keep it to a network of your own, or to 127.0.0.1 with --metrics-listen")
        }
        found => found,
    }
}

fn free(name: &'static str, flag: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(name, format!("{address} is free")),
        Err(error) => {
            let mend = match error.kind() {
                ErrorKind::AddrInUse => format!("stop who has it (`ss -ltnp` tells), or name another with {flag}"),
                ErrorKind::AddrNotAvailable => format!("name an address of this machine with {flag}"),
                ErrorKind::PermissionDenied => format!("name a port from 1024 on with {flag}"),
                _ => format!("name another with {flag}"),
            };
            Finding::fail(name, format!("cannot listen on {address}: {error}"), mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_that_is_taken_or_not_ours_fails() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let found = free("address", "--listen", taken.local_addr().expect("an address"));
        assert_eq!(found.state, State::Fail);
        assert!(found.mend.contains("ss -ltnp"), "{found:?}");
        // Of the block for documentation (RFC 5737): nobody's.
        let foreign = free("address", "--listen", SocketAddr::from(([192, 0, 2, 1], 0)));
        assert_eq!(foreign.state, State::Fail);
        assert!(foreign.mend.contains("of this machine"), "{foreign:?}");
        assert_eq!(free("address", "--listen", SocketAddr::from(([127, 0, 0, 1], 0))).state, State::Ok);
    }

    #[test]
    fn metrics_for_everybody_are_warned_of() {
        for (address, state) in [("0.0.0.0:0", State::Warn), ("127.0.0.1:0", State::Ok), ("192.0.2.1:0", State::Fail)] {
            assert_eq!(metrics(address.parse().expect("an address")).state, state, "{address}");
        }
    }
}
