//! What the allocator is told: a channel lives for months, and many share a machine.

#![allow(unsafe_code)] // Two calls into glibc that only concern its allocator.

/// One pool of memory for all threads: else every thread that reads a file keeps a pool of its own, as large as it ever
/// was. Call it before there is another thread.
pub fn share_one_pool() {
    // SAFETY: it sets numbers of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * 1024);
        libc::mallopt(libc::M_TOP_PAD, 64 * 1024);
    }
}

/// Gives whole pages that are free back to the kernel. At a boundary two items are in memory; the holes that the first
/// one leaves would stay for ever.
pub fn give_back() {
    // SAFETY: it may be called at any time and touches nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
