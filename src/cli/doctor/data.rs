//! The data folder: whether it can be written, how much room it has, on which file system.

use std::path::{Path, PathBuf};

use indicatif::BinaryBytes;

use super::Finding;
use crate::runtime::disk;

/// Below it nothing good happens: a compaction copies the store, and a store that cannot flush takes no more writes.
const FREE_BYTES_LOW: u64 = 1 << 30;
const FREE_BYTES_NONE: u64 = 64 << 20;

/// File systems over a network: locks and fsync are what the server at the other end makes of them.
const REMOTE: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "afs"];
/// File systems that are gone after a restart, or with the container.
const PASSING: [&str; 3] = ["tmpfs", "ramfs", "overlay"];

pub(super) fn examine(data: &Path) -> Vec<Finding> {
    let there = nearest(data);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut findings = vec![writable(data, &there)];
    findings.extend(disk::free_bytes(&there).map(room));
    findings.extend(there.canonicalize().ok().and_then(|path| Some(kind(&file_system(&mounts, &path)?))));
    findings
}

/// Returns the folder, or the closest above it that is there: the server would make the rest.
fn nearest(data: &Path) -> PathBuf {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_path_buf());
    absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

fn writable(data: &Path, there: &Path) -> Finding {
    const NAME: &str = "data folder";
    let shown = data.display();
    if let Err(error) = write_in(there) {
        let mend = "give it to who runs the server, or name another with --data";
        return Finding::fail(NAME, format!("{shown} cannot be written: {error}"), mend);
    }
    if there.file_name() != data.file_name() {
        return Finding::ok(NAME, format!("{shown} will be made"));
    }
    if others_may_look(there) {
        let mend = format!("chmod 700 {shown}");
        return Finding::warn(NAME, format!("{shown} can be read by others than its owner"), mend);
    }
    Finding::ok(NAME, format!("{shown} can be written"))
}

/// Writes a file as the store does, to the disk, and removes it.
fn write_in(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".facematch-doctor-{}", std::process::id()));
    let written = std::fs::File::create_new(&path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, b"doctor")?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

#[cfg(unix)]
fn others_may_look(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn others_may_look(_folder: &Path) -> bool {
    false
}

fn room(free: u64) -> Finding {
    const NAME: &str = "free disk";
    let found = BinaryBytes(free).to_string();
    let mend = "make room: galleries take 2.2 times their templates, a compaction as much again";
    if free < FREE_BYTES_NONE {
        return Finding::fail(NAME, found, mend);
    }
    if free < FREE_BYTES_LOW { Finding::warn(NAME, found, mend) } else { Finding::ok(NAME, found) }
}

fn kind(file_system: &str) -> Finding {
    const NAME: &str = "file system";
    if REMOTE.contains(&file_system) || file_system.starts_with("fuse") {
        let found = format!("{file_system}, whose fsync and locks are another machine's or program's word");
        return Finding::warn(NAME, found, "use a disk of this machine, or a block device over the network");
    }
    if PASSING.contains(&file_system) {
        let found = format!("{file_system}: what is enrolled is gone after a restart");
        return Finding::warn(NAME, found, "name a folder of a disk or a volume with --data");
    }
    Finding::ok(NAME, file_system)
}

/// Finds the type of the file system that a path lies on: the longest mount point above it, the last of equals.
///
/// *Source*: proc(5), `/proc/pid/mountinfo`.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let point = PathBuf::from(unescaped(mount.split(' ').nth(4)?));
        path.starts_with(&point).then_some((point.as_os_str().len(), rest.split(' ').next()?))
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, file_system)| file_system.to_owned())
}

/// Spaces, tabs, line ends and backslashes of mount points are written in octal.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn folder_that_cannot_be_written_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("a file");
        // A folder below a file cannot be made by anybody, root included.
        let data = file.join("data");
        let found = writable(&data, &nearest(&data));
        assert_eq!(found.state, State::Fail, "{found:?}");
        assert!(found.mend.contains("--data"));
    }

    #[test]
    fn folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("a/b");
        assert_eq!(writable(&data, &nearest(&data)).state, State::Ok);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a list").count(), 0, "nothing is made or left");
    }

    #[cfg(unix)]
    #[test]
    fn folder_that_others_can_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        for (mode, state) in [(0o755, State::Warn), (0o750, State::Warn), (0o700, State::Ok)] {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).expect("a mode");
            assert_eq!(writable(folder.path(), folder.path()).state, state, "{mode:o}");
        }
    }

    #[test]
    fn full_disk_fails_and_a_nearly_full_one_is_warned_of() {
        let states = [0, FREE_BYTES_NONE, FREE_BYTES_LOW].map(|free| room(free).state);
        assert_eq!(states, [State::Fail, State::Warn, State::Ok]);
    }

    #[test]
    fn file_system_is_that_of_the_longest_mount_and_passing_ones_are_warned_of() {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/root rw\n\
                      22 21 0:5 / /data rw,noatime shared:1 - nfs4 host:/x rw\n\
                      23 22 0:6 / /data/my\\040disk rw - xfs /dev/b rw\n\
                      24 21 0:7 / /run rw - tmpfs tmpfs rw\n";
        for (path, expected, state) in [
            ("/var/lib", "ext4", State::Ok),
            ("/data/store", "nfs4", State::Warn),
            ("/data/my disk/store", "xfs", State::Ok),
            ("/database", "ext4", State::Ok),
            ("/run/x", "tmpfs", State::Warn),
        ] {
            let found = file_system(mounts, Path::new(path)).expect("a file system");
            assert_eq!((found.as_str(), kind(&found).state), (expected, state), "{path}");
        }
    }
}
