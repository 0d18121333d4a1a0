//! Processes that decode photos, as the tests see them and do them harm.

use std::process::Command;
use std::time::{Duration, Instant};

use facematch::decode::{Isolation, PhotoLimits};

/// How photos are decoded apart by the program that is tested: this one is none.
pub fn isolation(limits: &PhotoLimits) -> Isolation {
    Isolation { program: env!("CARGO_BIN_EXE_facematch").into(), ..Isolation::of(limits) }
}

/// Sends a signal, such as KILL, to a process that the test started.
pub fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &process.to_string()]).status().expect("send a signal");
    assert!(sent.success(), "{signal} to {process}");
}

/// The state of a process or thread: S sleeps, R runs, T is stopped, Z is dead. `None`: there is none.
pub fn state(process: u32) -> Option<char> {
    field(process, 0)?.chars().next()
}

/// The processes that a process started and that are not gone.
pub fn children(process: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("processes");
    let all = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|other| field(*other, 1).is_some_and(|parent| parent == process.to_string())).collect()
}

/// A field of `/proc/PID/stat` after the name.
fn field(process: u32, number: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(number).map(str::to_owned)
}

/// The id of the thread that asks.
pub fn thread_id() -> u32 {
    let path = std::fs::read_link("/proc/thread-self").expect("a thread");
    path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("its id")
}

/// Waits until a thread of this process sends to a socket or receives from one, and waits for that.
pub fn wait_until_exchanging(thread: u32) {
    let calls = [libc::SYS_sendto, libc::SYS_recvfrom].map(|call| call.to_string());
    wait_until("a photo is under way", || {
        let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).expect("its system call");
        calls.iter().any(|expected| call.split(' ').next() == Some(expected))
    });
}

#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}
