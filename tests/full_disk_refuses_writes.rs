//! A disk that is full for real: writes are refused, reads go on, and once there is room and the store is opened again,
//! everything that was acknowledged is there.
//!
//! A process of its own fills a small file system (or, where it may not mount one, runs into a limit on the size of files),
//! and another one opens what it left.
#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::Command;

use common::people::{all, assert_index_agrees, best, create, enrollment, gallery, identity, template};
use facematch::error::Error;
use facematch::gallery::EmbeddedGalleries;

const TEMPLATES_EACH: u64 = 8;

/// The process: what it does is told by the environment. Does nothing unless a test started it.
#[test]
fn process_on_a_small_disk() {
    let Ok(phase) = std::env::var("FACEMATCH_DISK_PHASE") else { return };
    let folder = std::env::var("FACEMATCH_DISK_FOLDER").expect("a folder");
    // Beside the small disk, not on it.
    let acknowledged = Path::new(&folder).join("../../acknowledged");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    match phase.as_str() {
        "fill" => {
            let count = runtime.block_on(fill(Path::new(&folder)));
            std::fs::write(acknowledged, count.to_string()).expect("write the count");
        }
        _ => {
            let count = std::fs::read_to_string(acknowledged).expect("the count").parse().expect("a number");
            runtime.block_on(look(Path::new(&folder), count));
            println!("\nall {count} are there");
        }
    }
}

/// Enrols until it is refused, and returns how many were acknowledged.
async fn fill(folder: &Path) -> u64 {
    let galleries = EmbeddedGalleries::open(folder).expect("open");
    create(&galleries, "a").await;
    let which: Vec<u64> = (0..TEMPLATES_EACH).collect();
    for number in 0.. {
        match galleries.enroll(gallery("a"), enrollment(number, &which)).await {
            Ok(_) => assert!(number < 100_000, "the disk is never full"),
            Err(error) => {
                assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
                assert!(number > 10, "nothing fits at all");
                refuses_writes_and_reads_on(&galleries, number).await;
                // As a server would that is killed: nothing more may be needed of the disk.
                return number;
            }
        }
    }
    unreachable!("it was refused")
}

async fn refuses_writes_and_reads_on(galleries: &EmbeddedGalleries, acknowledged: u64) {
    assert!(!galleries.is_writable(), "health says so");
    let again = galleries.enroll(gallery("a"), enrollment(999_999, &[0])).await.map(drop);
    assert!(matches!(again, Err(Error::Unavailable(_))), "{again:?}");
    let deletion = galleries.delete_identity(gallery("a"), identity(0)).await;
    assert!(matches!(deletion, Err(Error::Unavailable(_))), "{deletion:?}");
    for number in [0, acknowledged / 2, acknowledged - 1] {
        let (found, score) = best(galleries, "a", template(number, 3)).expect("somebody");
        assert!(found == identity(number) && score > 0.999);
        // On the way to a record sled may find a split of its own to finish, which needs the disk: then the read is an error,
        // and never another answer.
        match galleries.identity(&gallery("a"), &identity(number)) {
            Ok(found) => assert_eq!(found.id, identity(number)),
            Err(error) => assert!(matches!(error, Error::Internal(_)), "{error:?}"),
        }
    }
    // The one that was refused is not searched.
    assert!(best(galleries, "a", template(acknowledged, 3)).is_some_and(|(_, score)| score < 0.99));
}

async fn look(folder: &Path, acknowledged: u64) {
    let galleries = EmbeddedGalleries::open(folder).expect("open again");
    let kept = all(&galleries, "a");
    for number in 0..acknowledged {
        let found = kept.get(identity(number).as_str()).map(|identity| identity.templates.len() as u64);
        assert_eq!(found, Some(TEMPLATES_EACH), "identity {number} of {acknowledged}");
    }
    // At most the write that was refused may have come through, whole.
    assert!(kept.len() as u64 <= acknowledged + 1);
    assert_index_agrees(&galleries, "a", "after the disk was full");
    galleries.enroll(gallery("a"), enrollment(999_999, &[0])).await.expect("writes are taken again");
    galleries.close();
}

fn run(script: &str, folder: &Path) -> std::process::Output {
    let program = std::env::current_exe().expect("this program");
    let disk = folder.join("disk");
    std::fs::create_dir_all(&disk).expect("a folder");
    let mut command = Command::new("unshare");
    if script.contains("mount") {
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec"]);
    } else {
        command = Command::new("sh");
        command.arg("-ec");
    }
    command.arg(script).arg("sh").arg(program).env("FACEMATCH_DISK_FOLDER", disk.join("data"));
    command.env("MOUNT", disk).env_remove("FACEMATCH_DISK_PHASE").output().expect("a shell")
}

const RUN: &str = "\"$1\" --exact process_on_a_small_disk --nocapture";

#[track_caller]
fn assert_all_are_there(output: &std::process::Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let failed = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("are there"), "{failed}");
    println!("{}", text.lines().find(|line| line.contains("are there")).unwrap_or_default());
}

/// A file system of a few megabytes, which then grows.
#[test]
fn full_file_system_refuses_writes_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let may_mount = run("mount -t tmpfs -o size=1m none \"$MOUNT\"", folder.path());
    if !may_mount.status.success() {
        // The other test covers the same with a limit.
        eprintln!("a process may not mount a file system here: {}", String::from_utf8_lossy(&may_mount.stderr));
        return;
    }
    let script = format!(
        "mount -t tmpfs -o size=6m none \"$MOUNT\"; FACEMATCH_DISK_PHASE=fill {RUN}; \
         mount -o remount,size=64m \"$MOUNT\"; FACEMATCH_DISK_PHASE=look {RUN}"
    );
    assert_all_are_there(&run(&script, folder.path()));
}

/// Files that may not grow beyond some megabytes: a write beyond fails as one on a full disk does.
#[test]
fn file_size_limit_refuses_writes_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let script =
        format!("(trap '' XFSZ; ulimit -f 8192; FACEMATCH_DISK_PHASE=fill {RUN}); FACEMATCH_DISK_PHASE=look {RUN}");
    assert_all_are_there(&run(&script, folder.path()));
}
