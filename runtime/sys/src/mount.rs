//! Attributes of mounts. Making and moving mounts is in rustix.
//!
//! Source: mount_setattr(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

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

/// Sets attributes of `mount` (and of all mounts beneath it, if `recursive`) and makes it private: no mount made
/// elsewhere appears in it. Fails as a whole or not at all.
pub fn set_attributes(mount: BorrowedFd<'_>, set: Attributes, recursive: bool) -> io::Result<()> {
    let wanted = MountAttr { set: set.0, clear: 0, propagation: libc::MS_PRIVATE, userns: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: mount_setattr(2) reads an empty path and a `mount_attr` of the size given; both outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const wanted,
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
