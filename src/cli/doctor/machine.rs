//! What the machine and the control group allow, the clock, and where a crash would leave the memory.

use std::time::{Duration, SystemTime};

use indicatif::BinaryBytes;

use super::Finding;
use crate::config::Config;
use crate::decode::Decoders;
use crate::runtime::machine;

/// Files besides one a call's connection: the store's, the networks', the log's.
const FILES_OF_ITS_OWN: u64 = 256;

/// The store's cache, the networks of a small pack in two workers, and a gallery of a few thousand.
const MEMORY_LOW_BYTES: u64 = 1 << 30;

/// The year in which this check was written: no clock is right that says less. A release knows better (`SOURCE_DATE_EPOCH`).
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);

/// How far the two clocks may part within a run.
const JUMP_MAX: Duration = Duration::from_secs(1);

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let mut findings = Vec::new();
    findings.extend(
        limit(&limits, "Max open files")
            .map(|files| open_files(files, config.calls_max.max(config.security.connections_max) as u64)),
    );
    findings.push(memory(machine::memory_bytes(), config.in_flight_bytes_max as u64));
    findings.push(cores(machine::cores(), config.workers));
    if config.isolation.is_some() {
        findings.push(decoders(&Decoders::new(config.photo, config.isolation.clone())));
    }
    findings
}

/// Starts a process as photos would be decoded in.
fn decoders(decoders: &Decoders) -> Finding {
    const NAME: &str = "decoders";
    match decoders.try_one() {
        Ok(None) => Finding::ok(NAME, "photos are decoded in processes that may do nothing else"),
        Ok(Some(lacking)) => Finding::warn(
            NAME,
            format!("processes that decode photos have limits, but no filter of system calls: {lacking}"),
            "let the service call seccomp and prctl: SystemCallFilter=seccomp of the unit, the container's own profile",
        ),
        Err(error) => Finding::fail(
            NAME,
            format!("{:#}", anyhow::Error::new(error)),
            "allow one process more a worker (TasksMax= of the unit, pids_limit of the container), or leave isolate_decoding off",
        ),
    }
}

/// Reads the limit in force from `/proc/self/limits`; one that is none is the largest number.
fn limit(limits: &str, name: &str) -> Option<u64> {
    let soft = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

fn open_files(files: u64, calls_max: u64) -> Finding {
    const NAME: &str = "open files";
    let wanted = calls_max.saturating_add(FILES_OF_ITS_OWN);
    let found = format!("{files} at a time");
    let mend = format!("raise it to {wanted} or more: `ulimit -n`, LimitNOFILE= of the unit, ulimits of the container");
    if files < FILES_OF_ITS_OWN {
        return Finding::fail(NAME, found, mend);
    }
    if files < wanted {
        let found = format!("{found}, for {calls_max} calls with a connection each and {FILES_OF_ITS_OWN} of its own");
        return Finding::warn(NAME, found, mend);
    }
    Finding::ok(NAME, found)
}

fn memory(bytes: Option<u64>, in_flight_bytes_max: u64) -> Finding {
    const NAME: &str = "memory";
    let Some(bytes) = bytes else {
        let mend = "state in_flight_bytes_max and in_flight_pixels_max";
        return Finding::warn(NAME, "nothing tells how much there is", mend);
    };
    let found = format!("{} for this process", BinaryBytes(bytes));
    if in_flight_bytes_max >= bytes {
        let found = format!("{found}, and messages may take {}", BinaryBytes(in_flight_bytes_max));
        return Finding::fail(NAME, found, "lower in_flight_bytes_max, or raise the limit of the control group");
    }
    if bytes < MEMORY_LOW_BYTES {
        return Finding::warn(NAME, found, "give it 1 GiB or more: 3 KB a template, and each worker has its networks");
    }
    Finding::ok(NAME, found)
}

fn cores(cores: usize, workers: usize) -> Finding {
    let found = format!("{cores} for {workers} workers");
    if workers > cores {
        return Finding::warn("cores", found, "workers = 0 is one a core; more only wait for each other");
    }
    Finding::ok("cores", found)
}

/// Judges the clock: metadata, certificates and deadlines go by it. `wall` and `steady` are how far both clocks went while
/// this command ran; `None` is backwards.
pub(super) fn clock(now: SystemTime, wall: Option<Duration>, steady: Duration) -> Finding {
    const NAME: &str = "clock";
    let built =
        option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()).map_or(WRITTEN, Duration::from_secs);
    let mend = "let chrony or systemd-timesyncd set it";
    if now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since < built) || now < SystemTime::UNIX_EPOCH {
        return Finding::fail(NAME, "it is before the day on which this program was made", mend);
    }
    if wall.is_none_or(|wall| wall.abs_diff(steady) > JUMP_MAX) {
        return Finding::warn(NAME, "it was set while this ran", mend);
    }
    Finding::ok(NAME, "after this program was made, and steady")
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn too_few_open_files_fail_and_fewer_than_calls_are_warned_of() {
        let states = [64, 1_024, 4_096, u64::MAX].map(|files| open_files(files, 2_048).state);
        assert_eq!(states, [State::Fail, State::Warn, State::Ok, State::Ok]);
        let limits = "Limit           Soft Limit   Hard Limit   Units\n\
                      Max core file size        0            unlimited    bytes\n\
                      Max open files            1024         524288       files\n";
        assert_eq!(limit(limits, "Max open files"), Some(1_024));
        assert_eq!(limit(limits, "Max core file size"), Some(0));
        assert_eq!(limit("Max open files  unlimited unlimited files", "Max open files"), Some(u64::MAX));
        assert_eq!(limit("", "Max open files"), None);
    }

    #[test]
    fn little_memory_is_warned_of_and_less_than_messages_may_take_fails() {
        let states = [None, Some(1 << 20), Some(512 << 20), Some(8 << 30)].map(|bytes| memory(bytes, 64 << 20).state);
        assert_eq!(states, [State::Warn, State::Fail, State::Warn, State::Ok]);
    }

    #[test]
    fn more_workers_than_cores_are_warned_of() {
        assert_eq!((cores(2, 3).state, cores(2, 2).state), (State::Warn, State::Ok));
    }

    #[test]
    fn clock_before_the_build_fails_and_one_that_jumps_is_warned_of() {
        let (second, now) = (Duration::from_secs(1), SystemTime::now());
        assert_eq!(clock(now, Some(second), second).state, State::Ok);
        assert_eq!(clock(SystemTime::UNIX_EPOCH + second, Some(second), second).state, State::Fail);
        assert_eq!(clock(SystemTime::UNIX_EPOCH - second, Some(second), second).state, State::Fail);
        assert_eq!(clock(now, Some(second * 60), second).state, State::Warn);
        assert_eq!(clock(now, None, second).state, State::Warn);
    }
}
