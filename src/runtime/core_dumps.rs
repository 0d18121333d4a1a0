//! No copy of the process's memory, which holds keys and templates, is left on a disk where it crashes.

/// Forbids core dumps of this process. On Linux nobody of the same user can read its memory any more either, nor attach a
/// debugger. Where it is refused, that is logged.
pub(crate) fn forbid() {
    if let Err(error) = try_forbid() {
        tracing::warn!(%error, "core dumps cannot be forbidden: one would hold keys and templates");
    }
}

#[cfg(unix)]
fn try_forbid() -> std::io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "a call of the C library")]
    // SAFETY: the structure is one of this function's own, and is only read.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    if limited != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // The limit says nothing to a program that dumps are piped to.
    #[cfg(target_os = "linux")]
    {
        #[expect(unsafe_code, reason = "a call of the C library")]
        // SAFETY: it takes numbers only, and changes nothing that this process can see of itself.
        let hidden = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        if hidden != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn try_forbid() -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    /// The child, for the limit is for good. Does nothing unless a parent started it.
    #[test]
    fn process_that_forbids() {
        if std::env::var_os("FACEMATCH_CORE_DUMPS").is_none() {
            return;
        }
        super::forbid();
        let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
        let limit = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        #[expect(unsafe_code, reason = "a call of the C library")]
        // SAFETY: it takes numbers only.
        let is_dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        println!("limit {:?} dumpable {is_dumpable}", limit.split_whitespace().skip(4).take(2).collect::<Vec<_>>());
    }

    #[test]
    fn process_has_no_core_dumps_once_they_are_forbidden() {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "runtime::core_dumps::tests::process_that_forbids", "--nocapture"]);
        let output = command.env("FACEMATCH_CORE_DUMPS", "forbid").output().expect("run the child");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(out.contains(r#"limit ["0", "0"] dumpable 0"#), "{out}");
    }
}
