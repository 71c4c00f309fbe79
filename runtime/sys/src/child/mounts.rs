//! The child's mounts, and how it opens what they are attached to.
//!
//! In: descriptors and paths. Out: descriptors, or errno.
//! **Invariants:** those of [`super::interpret`]; a path never leads out of the root it is given with.
//! Source: openat2(2), open_tree(2), move_mount(2), fsopen(2), mount_setattr(2), pivot_root(2).

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::os::fd::RawFd;

use super::call::{Answer, call, close};
use crate::mount::{Attributes, MountAttr};
use crate::resolve::TRIES;

/// `struct open_how` of linux/openat2.h.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_IN_ROOT: u64 = 0x10;
const OPEN_TREE_CLONE: c_int = 1;
const OPEN_TREE_CLOEXEC: c_int = libc::O_CLOEXEC;
const MOVE_MOUNT_F_EMPTY_PATH: c_int = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: c_int = 0x40;
const FSOPEN_CLOEXEC: c_int = 1;
const FSMOUNT_CLOEXEC: c_int = 1;
const FSCONFIG_SET_STRING: c_int = 1;
const FSCONFIG_CMD_CREATE: c_int = 6;
/// Where mounts are attached aside: beneath the old root, so that they vanish with it, and present on every machine.
const ASIDE: &CStr = c"/dev";

/// Keeps mounts that are made from now on out of the namespace this one is a copy of, and the other way round.
pub(super) fn mount_private() -> Result<(), c_int> {
    let null = std::ptr::null::<c_char>();
    let flags = (libc::MS_REC | libc::MS_PRIVATE) as c_long;
    call!(libc::SYS_mount, null, c"/".as_ptr(), null, flags, null).map(drop)
}

/// After pivot_root(2) the old root lies over the new one, and perhaps something else over that; a path of `.` leads
/// umount2(2) to the topmost. To expire the root itself is invalid, so that tells when it has come to light.
pub(super) fn detach_old_root() -> Result<(), c_int> {
    loop {
        call!(libc::SYS_umount2, c".".as_ptr(), libc::MNT_DETACH as c_long)?;
        if call!(libc::SYS_umount2, c".".as_ptr(), libc::MNT_EXPIRE as c_long) == Err(libc::EINVAL) {
            return Ok(());
        }
    }
}

/// Opens `path` below `root`, which is its `/`; follows no link.
pub(super) fn open_in(root: RawFd, path: &CStr, flags: c_int) -> Result<RawFd, c_int> {
    let how = OpenHow {
        flags: (libc::O_PATH | libc::O_CLOEXEC | flags) as u64,
        mode: 0,
        resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    Ok(open_resolved(root.into(), path, &how)? as RawFd)
}

/// Opens a directory below the current one, which is its `/`; follows links within that.
pub(super) fn open_directory(path: &CStr) -> Result<RawFd, c_int> {
    let how = OpenHow {
        flags: (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    Ok(open_resolved(libc::AT_FDCWD.into(), path, &how)? as RawFd)
}

/// Opens a file below `root` for writing; follows no link.
pub(super) fn open_to_write(root: RawFd, path: &CStr) -> Result<RawFd, c_int> {
    let how = OpenHow {
        flags: (libc::O_WRONLY | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    Ok(open_resolved(root.into(), path, &how)? as RawFd)
}

/// openat2(2), asked again when the kernel could not tell: see [`crate::resolve`].
fn open_resolved(directory: c_long, path: &CStr, how: &OpenHow) -> Answer {
    let mut tries = 1;
    loop {
        match call!(
            libc::SYS_openat2,
            directory,
            path.as_ptr(),
            std::ptr::from_ref(how),
            size_of::<OpenHow>()
        ) {
            Err(libc::EAGAIN | libc::EINTR) if tries < TRIES => {
                // sched_yield(2) always succeeds.
                let _ = call!(libc::SYS_sched_yield);
            }
            answer => return answer,
        }
        tries += 1;
    }
}

/// Attaches a mount beneath the old root.
pub(super) fn attach_aside(mount: RawFd) -> Result<(), c_int> {
    let (mount, here) = (mount as c_long, libc::AT_FDCWD as c_long);
    let flags = MOVE_MOUNT_F_EMPTY_PATH as c_long;
    call!(libc::SYS_move_mount, mount, c"".as_ptr(), here, ASIDE.as_ptr(), flags).map(drop)
}

/// Attaches a mount over `target`.
pub(super) fn attach(mount: RawFd, target: RawFd) -> Result<(), c_int> {
    let flags = (MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) as c_long;
    call!(libc::SYS_move_mount, mount as c_long, c"".as_ptr(), target as c_long, c"".as_ptr(), flags)
        .map(drop)
}

/// Makes a mount, attached nowhere, of `path` below `from`; of `from` itself where that is empty.
pub(super) fn bind(from: RawFd, path: &CStr, attributes: Attributes) -> Result<RawFd, c_int> {
    let source = if path.is_empty() { from } else { open_in(from, path, 0)? };
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    let made = call!(libc::SYS_open_tree, source as c_long, c"".as_ptr(), flags as c_long);
    if !path.is_empty() {
        close(source);
    }
    let made = made?;
    if attributes != Attributes::default() {
        let wanted = MountAttr { set: attributes.0, clear: 0, propagation: 0, userns: 0 };
        let flags = (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as c_long;
        let size = size_of::<MountAttr>();
        call!(libc::SYS_mount_setattr, made, c"".as_ptr(), flags, &raw const wanted, size)?;
    }
    Ok(made as RawFd)
}

/// Makes a mount, attached nowhere, of a new file system.
pub(super) fn file_system(kind: &CStr, options: &[(CString, CString)], attributes: Attributes) -> Answer {
    let context = call!(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC as c_long)?;
    let no = 0 as c_long;
    for (key, value) in options {
        call!(libc::SYS_fsconfig, context, FSCONFIG_SET_STRING as c_long, key.as_ptr(), value.as_ptr(), no)?;
    }
    let null = std::ptr::null::<c_char>();
    call!(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE as c_long, null, null, no)?;
    let made = call!(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC as c_long, attributes.0 as c_long)?;
    close(context as RawFd);
    Ok(made)
}
