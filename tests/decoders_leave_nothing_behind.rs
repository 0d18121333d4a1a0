//! Processes that decode photos end with their server, however that ends.
#![cfg(target_os = "linux")]

mod common;

use common::decoders::{children, signal, state, wait_until};
use common::program::Served;

/// A server of one's own with the starter pack, and the processes that it decodes in.
fn served(data: &std::path::Path) -> (Served, Vec<u32>) {
    let pack = common::starter_pack();
    let pack = pack.to_str().expect("UTF-8");
    let flags = ["--workers", "2", "--isolate-decoding", "--pack", pack, "--pack-files", pack];
    let served = Served::start_with(data, data, &flags);
    wait_until("a process a worker", || children(served.process_id()).len() == 2);
    let decoders = children(served.process_id());
    for process in &decoders {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).expect("a command line");
        assert!(String::from_utf8_lossy(&line).contains("\0decode-worker\0"), "{line:?}");
        assert_has_nothing_of_its_server(*process);
    }
    (served, decoders)
}

/// No file but the three standard ones, of which one is its socket, and that once more; no variable. Who is not root cannot look.
fn assert_has_nothing_of_its_server(process: u32) {
    wait_until("it has given up the rest", || {
        std::fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|status| status.contains("Seccomp:\t2"))
    });
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return };
    let files = files.map(|file| std::fs::read_link(file.expect("a file").path()).expect("what it is"));
    let mut files: Vec<String> = files.map(|file| file.display().to_string()).collect();
    files.sort();
    let [null, also_null, socket, same_socket] = &files[..] else { panic!("{files:?}") };
    assert!(
        null == "/dev/null" && also_null == null && socket.starts_with("socket:") && same_socket == socket,
        "{files:?}"
    );
    assert_eq!(std::fs::read(format!("/proc/{process}/environ")).expect("variables"), b"");
}

#[test]
fn decoders_end_with_a_server_that_is_stopped() {
    let data = tempfile::tempdir().expect("a folder");
    let (served, decoders) = served(data.path());
    served.stop();
    assert!(decoders.iter().all(|process| state(*process).is_none()), "they were waited for");
}

#[test]
fn decoders_end_with_a_server_that_is_killed_even_if_they_are_stopped() {
    let data = tempfile::tempdir().expect("a folder");
    let (served, decoders) = served(data.path());
    // One that runs none of its code any more cannot see that its server has gone.
    signal(decoders[0], "STOP");
    served.kill();
    // Whoever adopts them may be slow to bury them.
    let is_gone = |process: &u32| matches!(state(*process), None | Some('Z' | 'X'));
    wait_until("they have ended", || decoders.iter().all(is_gone));
}
