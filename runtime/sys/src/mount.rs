//! Attributes of mounts. Making and moving mounts is in rustix.
//!
//! Source: mount_setattr(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Attributes of a mount, as in linux/mount.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes(pub u64);

impl Attributes {
    /// Nothing can be written through the mount.
    pub const RDONLY: Self = Self(0x1);
    /// Executing a set-user-ID program gives nothing.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(0x4);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(0x8);

    /// Returns both.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns: u64,
}

/// What is said where the call is not there.
const NO_CALL: &str = "this kernel cannot set what a mount allows (mount_setattr): that takes Linux 5.12";

/// Sets attributes of `mount` (and of all mounts beneath it, if `recursive`) and makes it private: no mount made
/// elsewhere appears in it. Fails as a whole or not at all; `Unsupported` before Linux 5.12.
pub fn set_attributes(mount: BorrowedFd<'_>, set: Attributes, recursive: bool) -> io::Result<()> {
    call(mount.as_raw_fd(), set, recursive)
}

/// Finds out whether [`set_attributes`] is there, by setting those of nothing.
///
/// # Errors
/// `Unsupported`, as of it.
pub fn has_attributes() -> io::Result<()> {
    match call(-1, Attributes::RDONLY, false) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Err(error),
        // That there is no such descriptor, or that this process may mount nothing.
        _ => Ok(()),
    }
}

fn call(mount: RawFd, set: Attributes, recursive: bool) -> io::Result<()> {
    let wanted = MountAttr { set: set.0, clear: 0, propagation: libc::MS_PRIVATE, userns: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: mount_setattr(2) reads an empty path and a `mount_attr` of the size given; both outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount,
            c"".as_ptr(),
            flags,
            &raw const wanted,
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(named(io::Error::last_os_error())) }
}

/// Says of a call that is not there what it takes.
fn named(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => io::Error::new(io::ErrorKind::Unsupported, NO_CALL),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_the_call_is_told_what_it_takes() {
        let told = named(io::Error::from_raw_os_error(libc::ENOSYS));
        assert_eq!((told.kind(), told.to_string().as_str()), (io::ErrorKind::Unsupported, NO_CALL));
        assert_eq!(named(io::Error::from_raw_os_error(libc::EPERM)).raw_os_error(), Some(libc::EPERM));
        // The tests need a newer one themselves.
        has_attributes().expect("is there");
        let refused = call(-1, Attributes::RDONLY, false).expect_err("there is no such mount");
        assert!(matches!(refused.raw_os_error(), Some(libc::EBADF | libc::EPERM)), "{refused}");
    }
}
