//! Files of secrets: whether others can read them. One judgement for all of them.

use std::fs::Metadata;

/// Returns a file's mode where others than its owner may read it.
///
/// The owner's alone is right; so is root's, readable by a group, where the process is not root: so systemd hands over
/// credentials, and Kubernetes the files of a secret, each with a group or an access list of this process's own.
#[cfg(unix)]
pub(crate) fn mode_for_others(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let mode = metadata.mode() & 0o777;
    let process = std::fs::metadata("/proc/self").map_or(metadata.uid(), |process| process.uid());
    (!is_for_process_alone(mode, metadata.uid(), process)).then_some(mode)
}

#[cfg(unix)]
fn is_for_process_alone(mode: u32, owner: u32, process: u32) -> bool {
    mode & 0o077 == 0 || (mode & 0o037 == 0 && owner == 0 && process != 0)
}

/// What a system without modes allows whom is not known here.
#[cfg(not(unix))]
pub(crate) fn mode_for_others(_metadata: &Metadata) -> Option<u32> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn file_that_the_system_hands_over_may_be_read_by_its_group() {
        assert!(is_for_process_alone(0o440, 0, 1_000) && is_for_process_alone(0o400, 1_000, 1_000));
        assert!(!is_for_process_alone(0o440, 1_000, 1_000) && !is_for_process_alone(0o440, 0, 0));
        assert!(!is_for_process_alone(0o444, 0, 1_000) && !is_for_process_alone(0o460, 0, 1_000));
    }
}
