//! What the allocator of this process keeps.

/// Gives whole pages that were freed back to the system. glibc keeps a heap for each of many threads, and hands none of it back by
/// itself; other allocators do, and there this does nothing. Takes some milliseconds.
/// Source: malloc_trim(3).
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes a number and touches nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has threads share heaps, of which there are then at most `count`. glibc makes eight for each processor, and what long builds
/// leave in each, a few live bytes on a page here and there, it cannot give back. Other allocators do otherwise, and there this does
/// nothing. Heaps that are there stay.
/// Source: mallopt(3), `M_ARENA_MAX`.
pub fn share_heaps(count: std::num::NonZero<usize>) {
    // SAFETY: mallopt(3) takes two numbers and touches nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, libc::c_int::try_from(count.get()).unwrap_or(libc::c_int::MAX));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = count;
}
