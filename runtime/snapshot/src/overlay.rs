//! How overlayfs marks what is gone: whiteouts and opaque directories.
//!
//! Written: the character device 0/0 for a deleted name, the attribute `overlay.opaque=y` for a directory that hides
//! what lies below it. Read in addition: the newer form of a whiteout, an empty file with the attribute
//! `overlay.whiteout`.
//! Source: the kernel's Documentation/filesystems/overlayfs.rst.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, XattrFlags};

use crate::beneath;

/// Under which prefix overlayfs looks for its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xattrs {
    /// `trusted.overlay.`: the real root.
    Trusted,
    /// `user.overlay.`: in a user namespace, with the mount option `userxattr`.
    User,
}

impl Xattrs {
    fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// Returns what follows overlay's prefix in the name of an extended attribute; `None` if it is not overlay's.
pub(crate) fn own_attribute(name: &str) -> Option<&str> {
    name.strip_prefix("trusted.overlay.").or_else(|| name.strip_prefix("user.overlay."))
}

/// Tells whether an open directory of a layer hides what lies below it, whichever prefix says so.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> io::Result<bool> {
    for xattrs in [Xattrs::Trusted, Xattrs::User] {
        if beneath::attribute(directory, OsStr::new(xattrs.opaque()))?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells whether an empty file is a whiteout of the newer form.
pub(crate) fn is_attribute_whiteout(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let file = beneath::open_file_beneath(directory, Path::new(name))?;
    let (_, marks) = beneath::attributes_and_marks(file.as_fd())?;
    Ok(marks.iter().any(|mark| mark == "whiteout"))
}

/// Makes `directory` hide what lies below it.
pub fn mark_opaque(directory: BorrowedFd<'_>, xattrs: Xattrs) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, xattrs.opaque(), b"y", XattrFlags::empty())?)
}

/// Marks `name` in `directory` as deleted; nothing may stand there.
pub fn make_whiteout(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let device = rustix::fs::makedev(0, 0);
    Ok(rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), device)?)
}
