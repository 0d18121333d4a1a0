//! What the operating system is asked about memory: to hold what is scanned in large pages, and to take back what is free.

/// Below this large pages gain nothing. Above, a scan of gigabytes otherwise waits for the addresses of its pages; Linux's
/// default is to give large ones to those who ask.
const BYTES_MIN: usize = 4 << 20;

/// Lets a vector grow, and asks for large pages where it moved to another place or became larger.
pub(super) fn grow<T>(values: &mut Vec<T>, grow: impl FnOnce(&mut Vec<T>)) {
    let before = (values.as_ptr(), values.capacity());
    grow(values);
    if before != (values.as_ptr(), values.capacity()) {
        advise(values);
    }
}

#[cfg(target_os = "linux")]
fn advise<T>(values: &Vec<T>) {
    let (start, bytes) = (values.as_ptr().cast::<u8>(), values.capacity() * size_of::<T>());
    let skipped = start.align_offset(PAGE_BYTES);
    if bytes < BYTES_MIN || skipped >= bytes {
        return;
    }
    #[expect(unsafe_code, reason = "the advice has no safe form")]
    // SAFETY: the range lies within the vector's own allocation; the advice changes nothing that a program can see. Where
    // it is refused, pages stay small.
    unsafe {
        libc::madvise(start.add(skipped).cast_mut().cast(), bytes - skipped, libc::MADV_HUGEPAGE);
    }
}

#[cfg(target_os = "linux")]
const PAGE_BYTES: usize = 4_096;

#[cfg(not(target_os = "linux"))]
fn advise<T>(_values: &Vec<T>) {
    let _ = BYTES_MIN;
}

/// Gives the operating system back what was allocated and is free again: glibc keeps it by default.
pub(super) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a call of the C library")]
    // SAFETY: it takes no pointers, and changes nothing that a program can see.
    unsafe {
        libc::malloc_trim(0);
    }
}
