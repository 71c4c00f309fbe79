//! How the child calls the kernel.
//!
//! In: the number of a call and its arguments. Out: what the kernel answers, or errno, which is all that is touched.

use std::ffi::{c_int, c_long};
use std::os::fd::RawFd;

/// What the kernel answered, or errno.
pub(super) type Answer = Result<c_long, c_int>;

/// Calls the kernel. All arguments are given as the kernel's `long`.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        // SAFETY: each caller passes what the manual page of the call asks for; pointers are to values that outlive it.
        let answer = unsafe { libc::syscall($number $(, $argument)*) };
        if answer == -1 { Err($crate::child::call::errno()) } else { Ok(answer) }
    }};
}

pub(super) use call;

/// Why the last call failed.
pub(super) fn errno() -> c_int {
    // SAFETY: errno(3): the address is valid for the life of the thread.
    unsafe { *libc::__errno_location() }
}

/// Closes a descriptor.
pub(super) fn close(file: RawFd) {
    // close(2): the descriptor is gone whatever the answer.
    let _ = call!(libc::SYS_close, file as c_long);
}
