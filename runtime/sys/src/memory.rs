//! Memory of this process that was freed and is still held.

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
