//! What this process may use of the machine: what limits follow where nothing is stated.

use std::path::{Path, PathBuf};

/// Returns how many cores the process may use: of its control group and its affinity, at least one.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns how many bytes of memory the process may use: the machine's, or less where a control group allows less. `None`
/// where nothing tells.
///
/// *Source*: Linux, `Documentation/admin-guide/cgroup-v2.rst` (`memory.max`, of each group up to the root) and
/// `cgroup-v1/memory.rst` (`memory.limit_in_bytes`).
pub fn memory_bytes() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| read_limit(&path));
    let installed = installed_bytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default());
    limits.chain(installed).min()
}

/// Returns how many files, connections among them, the process may have open. `None` where nothing tells.
pub fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// The files that may state a limit for the groups of a `/proc/self/cgroup`, those of parents too.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // Inside a container the path may be the host's, which is not there; the root then is the container's own group.
        for parent in Path::new(group.trim_start_matches('/')).ancestors() {
            files.push(Path::new(root).join(parent).join(file));
        }
    }
    files
}

/// `max`, and version 1's number without a meaning, are no limit: the machine's memory is smaller.
fn read_limit(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn installed_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kilobytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_looked_for_in_every_parent_of_both_versions() {
        let files = limit_files("12:memory,x:/a\n1:cpu:/b\n0::/c/d\nnonsense\n");
        let files: Vec<&str> = files.iter().filter_map(|path| path.to_str()).collect();
        let expected = [
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/c/d/memory.max",
            "/sys/fs/cgroup/c/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn limit_is_a_number_and_max_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memory.max");
        for (text, limit) in [("max\n", None), ("536870912\n", Some(536_870_912)), ("", None)] {
            std::fs::write(&path, text).expect("a file");
            assert_eq!(read_limit(&path), limit);
        }
        assert_eq!(installed_bytes("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2_097_152));
        assert_eq!(installed_bytes("MemTotal:"), None);
    }
}
