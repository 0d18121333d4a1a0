//! What a process that decodes photos gives up before it reads the first: files, processes, sockets, memory beyond a limit.
//! Each limit is the process's own and for good, so whoever takes it over has no more either.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use seccompiler::{
    BpfProgram, Error as FilterError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// System calls that a decoder makes: it reads, writes, takes and gives back memory, and ends. The rest are glibc's and
/// Rust's: locks, hash seeds, a signal's return, what `abort` calls.
const CALLS: [libc::c_long; 19] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Those that take a protection, and where it stands: memory that may be run is never asked for.
const CALLS_WITHOUT_EXEC: [(libc::c_long, u8); 2] = [(libc::SYS_mmap, 2), (libc::SYS_mprotect, 2)];

/// Gives up all that decoding does not take, but for a socket. The inner error says why there is no filter of system calls, without which the
/// limits still hold.
///
/// *Errors*: a limit cannot be set.
pub(super) fn confine(socket: BorrowedFd<'_>, memory_bytes_max: u64) -> io::Result<Result<(), String>> {
    // Where the machine runs out of memory, this process goes and not the server. Not everywhere is there such a file.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let own = own_bytes()?;
    close_all_but(socket)?;
    // It ends with the thread that started it, however that ends; a server that went before this line has closed the socket.
    control(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)?;
    control(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    // Nobody of the same user reads the photos in its memory, and none gets onto a disk.
    control(libc::PR_SET_DUMPABLE, 0)?;
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_AS, own.saturating_add(memory_bytes_max))?;
    limit(libc::RLIMIT_FSIZE, 0)?;
    limit(libc::RLIMIT_NPROC, 0)?;
    // Its socket it has; nothing is opened any more, not in the place of one that is closed either.
    limit(libc::RLIMIT_NOFILE, 0)?;
    Ok(filter().map_err(|error| error.to_string()))
}

/// Closes what whoever started the server left open, and so the server to this process: all but a socket and the standard files.
fn close_all_but(socket: BorrowedFd<'_>) -> io::Result<()> {
    // Numbers alone: what was read from the folder would keep it open, and is dropped here.
    let number = |file: io::Result<std::fs::DirEntry>| file.ok()?.file_name().to_str()?.parse::<libc::c_int>().ok();
    let open: Vec<_> = std::fs::read_dir("/proc/self/fd")?.filter_map(number).collect();
    for file in open.into_iter().filter(|file| *file > libc::STDERR_FILENO && *file != socket.as_raw_fd()) {
        #[expect(unsafe_code, reason = "a call of the C library")]
        // SAFETY: nothing in this process has opened it: it begins with this. The folder that was read is closed already, which
        // is an error that does no harm.
        let _ = unsafe { libc::close(file) };
    }
    Ok(())
}

/// The address space that the program takes by itself.
fn own_bytes() -> io::Result<u64> {
    let sizes = std::fs::read_to_string("/proc/self/statm")?;
    let pages = sizes.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    #[expect(unsafe_code, reason = "a call of the C library")]
    // SAFETY: it takes a number and gives one.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let bytes = pages.and_then(|pages| pages.checked_mul(u64::try_from(page_bytes).ok()?));
    bytes.ok_or_else(|| io::Error::other("/proc/self/statm has no size"))
}

fn control(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    #[expect(unsafe_code, reason = "a call of the C library")]
    // SAFETY: the options take numbers only, and change what the kernel lets this process do, not its memory.
    let set = unsafe { libc::prctl(option, value, 0, 0, 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn limit(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let both = libc::rlimit { rlim_cur: most, rlim_max: most };
    #[expect(unsafe_code, reason = "a call of the C library")]
    // SAFETY: the structure is one of this function's own, and is only read.
    let set = unsafe { libc::setrlimit(resource, &raw const both) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel end this process at any other system call.
fn filter() -> Result<(), FilterError> {
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    for (call, argument) in CALLS_WITHOUT_EXEC {
        let is_without = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is_without, 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    let machine = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, machine)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)
}
