//! Landlock: a process gives up, for itself and all that it starts, what it needs not.
//!
//! In: a directory. Out: a ruleset for [`Step::Restrict`](crate::child::Step::Restrict). Under it nothing beyond the directory can be
//! opened or changed, other processes than those under the same ruleset cannot be traced, and, since Linux 6.12, neither
//! sent signals nor reached by abstract sockets. Where the kernel has none of this, there is no ruleset.
//! Source: landlock(7), linux/landlock.h; Documentation/userspace-api/landlock.rst.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const ASK_VERSION: u32 = 1;
/// `LANDLOCK_RULE_PATH_BENEATH`.
const PATH_BENEATH: libc::c_int = 1;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`.
const SCOPES: u64 = 0b11;
/// The first version with scopes.
const VERSION_OF_SCOPES: u32 = 6;

/// `struct landlock_ruleset_attr` as of version 6.
#[repr(C)]
struct Handled {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    directory: RawFd,
}

/// How far a kernel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u32);

impl Version {
    /// Whether other processes cannot be sent signals.
    pub fn shields_from_signals(self) -> bool {
        self.0 >= VERSION_OF_SCOPES
    }

    /// All that can be done with files, by bits of `LANDLOCK_ACCESS_FS_…`.
    fn files(self) -> u64 {
        let bits = match self.0 {
            0 => 0,
            1 => 13,
            2 => 14,
            3 | 4 => 15,
            _ => 16,
        };
        (1 << bits) - 1
    }
}

/// Returns how far this kernel goes; nothing where it has no Landlock, or a filter around this process hides it.
pub fn version() -> Option<Version> {
    let none = std::ptr::null::<Handled>();
    // SAFETY: landlock_create_ruleset(2) asked for its version takes no attributes.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, ASK_VERSION) };
    u32::try_from(answer).ok().filter(|version| *version > 0).map(Version)
}

/// Makes a ruleset by which a process keeps to what is below `directory`; nothing where the kernel has no Landlock.
pub fn keep_to(directory: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let Some(version) = version() else { return Ok(None) };
    let scoped = if version.shields_from_signals() { SCOPES } else { 0 };
    let handled = Handled { files: version.files(), network: 0, scoped };
    // Older kernels know less of the structure.
    let size = match version.0 {
        ..4 => size_of::<u64>(),
        4..VERSION_OF_SCOPES => 2 * size_of::<u64>(),
        _ => size_of::<Handled>(),
    };
    // SAFETY: landlock_create_ruleset(2) reads `size` bytes of the structure, which lives on this stack.
    let made = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size, 0u32) };
    let made = RawFd::try_from(made).ok().filter(|made| *made >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call just opened this descriptor for this process alone.
    let ruleset = unsafe { OwnedFd::from_raw_fd(made) };
    let rule = Beneath { allowed: handled.files, directory: directory.as_raw_fd() };
    let fd = ruleset.as_raw_fd();
    // SAFETY: landlock_add_rule(2) reads one structure, which lives on this stack.
    let added =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, fd, PATH_BENEATH, &raw const rule, 0u32) };
    if added == 0 { Ok(Some(ruleset)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_with_files_grows() {
        let bits = [0, 1, 2, 3, 4, 5, 6, 7].map(|version| Version(version).files().count_ones());
        assert_eq!(bits, [0, 13, 14, 15, 15, 16, 16, 16]);
        assert!(!Version(5).shields_from_signals() && Version(6).shields_from_signals());
    }

    #[test]
    fn a_ruleset_is_made_where_there_is_landlock() {
        use std::os::fd::AsFd as _;
        let root = std::fs::File::open("/").unwrap();
        assert_eq!(keep_to(root.as_fd()).unwrap().is_some(), version().is_some());
    }
}
