//! Calls relative to an open directory: nothing here follows a symlink or leaves the directory it was given.
//!
//! Paths handed to this module are canonical: relative, every component but the last a real directory. What is found
//! to be a symlink after all (someone changed the tree meanwhile) is an error, never a detour.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rb_sys::resolve::open_resolved;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    openat, statat,
};
use rustix::io::Errno;

use crate::metadata::{ExtendedAttributes, Metadata, is_content_attribute};
use crate::overlay;
use crate::path::split;

/// openat2 takes at most PATH_MAX (4096) bytes at a time.
const PIECE_BYTES: usize = 4000;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(SAFE);
const SAFE: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);

/// Opens a directory of this machine, following symlinks as usual.
pub(crate) fn open_host_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens the directory `name` of `directory` so that it can be listed and its attributes read.
pub(crate) fn open_directory(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, DIRECTORY, Mode::empty())?)
}

/// Opens the directory `name` of `directory` only to go through it, which needs no right to list it.
pub(crate) fn open_passage(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, OFlags::PATH | OFlags::DIRECTORY | SAFE, Mode::empty())?)
}

/// Opens the directory at `path` below `root`.
pub(crate) fn open_directory_beneath(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_beneath(root, path, DIRECTORY)
}

/// Opens the regular file at `path` below `root` for reading; anything else is `InvalidInput`, without waiting for
/// the other end of a pipe.
pub(crate) fn open_file_beneath(root: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let file = File::from(open_beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK | SAFE)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Opens `path` below `root` without any right to its content, whatever it is.
pub(crate) fn open_handle_beneath(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open_beneath(root, path, OFlags::PATH | SAFE)
}

/// Opens the parent directory of `path`, and returns its last name; the root has none.
pub(crate) fn open_parent_beneath<'a>(
    root: BorrowedFd<'_>,
    path: &'a Path,
) -> io::Result<(OwnedFd, &'a OsStr)> {
    let (parent, name) = split(path).ok_or(Errno::INVAL)?;
    Ok((open_beneath(root, parent, OFlags::PATH | OFlags::DIRECTORY | SAFE)?, name))
}

fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let passage = OFlags::PATH | OFlags::DIRECTORY | SAFE;
    let mut opened: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.as_os_str().len() > PIECE_BYTES {
        let mut piece = PathBuf::new();
        let mut components = rest.components();
        while let Some(component) = components.clone().next()
            && piece.as_os_str().len() + component.as_os_str().len() < PIECE_BYTES
        {
            piece.push(component);
            components.next();
        }
        let next = open_piece(opened.as_ref().map_or(root, AsFd::as_fd), &piece, passage)?;
        opened = Some(next);
        rest = components.as_path();
    }
    let last = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
    open_piece(opened.as_ref().map_or(root, AsFd::as_fd), last, flags)
}

/// One openat2, or, on kernels and sandboxes without it, one openat per component.
fn open_piece(directory: BorrowedFd<'_>, piece: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match open_resolved(directory, piece, flags, resolve) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        result => return Ok(result?),
    }
    let mut opened: Option<OwnedFd> = None;
    let mut components = piece.components().peekable();
    while let Some(component) = components.next() {
        let flags = if components.peek().is_some() { OFlags::PATH | OFlags::DIRECTORY | SAFE } else { flags };
        let from = opened.as_ref().map_or(directory, AsFd::as_fd);
        let next = openat(from, component.as_os_str(), flags, Mode::empty())?;
        opened = Some(next);
    }
    opened.ok_or_else(|| Errno::NOENT.into())
}

/// Returns the metadata of `name` in `directory`, or `None` where there is nothing.
pub(crate) fn metadata_at(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Metadata>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Metadata::of(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the metadata of what is open.
pub(crate) fn metadata_of(file: impl AsFd) -> io::Result<Metadata> {
    Ok(Metadata::of(&rustix::fs::fstat(file)?))
}

/// Lists the names in `directory`, in the order of the disk.
pub(crate) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    Ok(names_and_kinds(directory)?.into_iter().map(|(name, _)| name).collect())
}

/// As [`names`], with whether the listing says that it is a regular file: not every file system's says what anything is.
pub(crate) fn names_and_kinds(directory: BorrowedFd<'_>) -> io::Result<Vec<(OsString, bool)>> {
    // A description of its own, so that listings of one directory do not disturb each other.
    let listing = openat(directory, ".", DIRECTORY, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(listing, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let is_file = entry.file_type() == FileType::RegularFile;
            names.push((OsString::from_vec(name.to_vec()), is_file));
        }
    }
    Ok(names)
}

/// Returns the target of the symlink `name` in `directory`.
pub(crate) fn link_target(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Reads the value of one extended attribute of an open file or directory.
pub(crate) fn attribute(file: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = Vec::with_capacity(256);
    loop {
        match rustix::fs::fgetxattr(file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::RANGE) => value = Vec::with_capacity(value.capacity() * 4),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lists the names of all extended attributes of an open file or directory.
fn attribute_names(file: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut list = Vec::with_capacity(512);
    loop {
        match rustix::fs::flistxattr(file, rustix::buffer::spare_capacity(&mut list)) {
            Ok(_) => return Ok(split_names(&list)),
            Err(Errno::RANGE) => list = Vec::with_capacity(list.capacity() * 4),
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn split_names(list: &[u8]) -> Vec<OsString> {
    list.split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect()
}

/// Reads the extended attributes of an open file or directory that belong to it.
pub(crate) fn attributes(file: BorrowedFd<'_>) -> io::Result<ExtendedAttributes> {
    Ok(attributes_and_marks(file)?.0)
}

/// As [`attributes`], and lists the names of overlay's own, without the prefix.
pub(crate) fn attributes_and_marks(file: BorrowedFd<'_>) -> io::Result<(ExtendedAttributes, Vec<String>)> {
    let mut found = ExtendedAttributes::new();
    let mut marks = Vec::new();
    for name in attribute_names(file)? {
        if let Some(mark) = name.to_str().and_then(overlay::own_attribute) {
            marks.push(mark.to_owned());
        } else if is_content_attribute(&name)
            && let Some(value) = attribute(file, &name)?
        {
            found.insert(name, value);
        }
    }
    Ok((found, marks))
}

/// The path under which the kernel shows what `handle` is, for calls that take no descriptor without read rights.
/// Going through it does not follow `handle` itself, even if it is a symlink.
fn proc_path(handle: BorrowedFd<'_>) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Reads the extended attributes of something that cannot be opened for reading: a symlink, device, pipe or socket.
pub(crate) fn attributes_of_handle(handle: BorrowedFd<'_>) -> io::Result<ExtendedAttributes> {
    let path = proc_path(handle);
    let mut list = Vec::with_capacity(512);
    loop {
        match rustix::fs::listxattr(&path, rustix::buffer::spare_capacity(&mut list)) {
            Ok(_) => break,
            Err(Errno::RANGE) => list = Vec::with_capacity(list.capacity() * 4),
            // Without /proc there is no way to ask; such files have none in practice.
            Err(Errno::OPNOTSUPP | Errno::NOENT) => return Ok(ExtendedAttributes::new()),
            Err(error) => return Err(error.into()),
        }
    }
    let mut found = ExtendedAttributes::new();
    for name in split_names(&list).into_iter().filter(|name| is_content_attribute(name)) {
        let mut value = Vec::with_capacity(1024);
        loop {
            match rustix::fs::getxattr(&path, &name, rustix::buffer::spare_capacity(&mut value)) {
                Ok(_) => {
                    found.insert(name, value);
                    break;
                }
                Err(Errno::RANGE) => value = Vec::with_capacity(value.capacity() * 4),
                Err(Errno::NODATA) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(found)
}

/// Writes extended attributes to an open file or directory.
///
/// Those that do not belong to a file are left out: an image that brings overlay marks must not steer our mounts. What the filesystem cannot keep or this process may not set (in a user namespace) is left out, as BuildKit does.
pub(crate) fn set_attributes(file: BorrowedFd<'_>, attributes: &ExtendedAttributes) -> io::Result<()> {
    for (name, value) in attributes.iter().filter(|(name, _)| is_content_attribute(name)) {
        tolerate(name, rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// As [`set_attributes`], of something that cannot be opened for reading.
pub(crate) fn set_attributes_of_handle(
    handle: BorrowedFd<'_>,
    attributes: &ExtendedAttributes,
) -> io::Result<()> {
    let path = proc_path(handle);
    for (name, value) in attributes.iter().filter(|(name, _)| is_content_attribute(name)) {
        tolerate(name, rustix::fs::setxattr(&path, name, value, XattrFlags::empty()))?;
    }
    Ok(())
}

fn tolerate(name: &OsStr, result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(error @ (Errno::OPNOTSUPP | Errno::PERM)) => {
            tracing::debug!(attribute = %name.display(), %error, "extended attribute left out");
            Ok(())
        }
        result => Ok(result?),
    }
}

/// Both times of a file, from nanoseconds since 1970.
pub(crate) fn timestamps(accessed_ns: i64, modified_ns: i64) -> Timestamps {
    let time = |nanoseconds: i64| Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    Timestamps { last_access: time(accessed_ns), last_modification: time(modified_ns) }
}

/// Sets the times of `name` in `directory`, of the link itself if it is one.
pub(crate) fn set_times_at(directory: BorrowedFd<'_>, name: &OsStr, times: &Timestamps) -> io::Result<()> {
    Ok(rustix::fs::utimensat(directory, name, times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the owner of `name` in `directory`, of the link itself if it is one.
pub(crate) fn set_owner_at(directory: BorrowedFd<'_>, name: &OsStr, owner: (u32, u32)) -> io::Result<()> {
    let (uid, gid) = ids(owner);
    Ok(rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets the owner of what is open.
pub(crate) fn set_owner(file: BorrowedFd<'_>, owner: (u32, u32)) -> io::Result<()> {
    let (uid, gid) = ids(owner);
    Ok(rustix::fs::fchown(file, uid, gid)?)
}

/// The highest number is no id: to chown(2) it says that the owner stays, which a stranger's archive may have it say.
fn ids((uid, gid): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    let is_id = |id: &u32| *id != u32::MAX;
    (Some(uid).filter(is_id).map(Uid::from_raw), Some(gid).filter(is_id).map(Gid::from_raw))
}

/// Sets the 12 mode bits of what is open.
pub(crate) fn set_mode(file: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Removes `name` from `directory` with everything inside; nothing there is fine.
///
/// Goes down and up again without recursion and with one directory open at a time, so that depth costs neither stack
/// nor descriptors.
pub(crate) fn remove_tree_at(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let mut current = open_directory(directory, name)?;
    // Per level: the name of the directory, and those of its subdirectories that are still there.
    let mut levels = vec![(name.to_owned(), remove_files(current.as_fd())?)];
    while let Some((_, subdirectories)) = levels.last_mut() {
        if let Some(next) = subdirectories.pop() {
            current = open_directory(current.as_fd(), &next)?;
            let inside = remove_files(current.as_fd())?;
            levels.push((next, inside));
            continue;
        }
        if let Some((done, _)) = levels.pop() {
            if levels.is_empty() {
                rustix::fs::unlinkat(directory, &done, AtFlags::REMOVEDIR)?;
            } else {
                current = openat(&current, "..", DIRECTORY, Mode::empty())?;
                rustix::fs::unlinkat(&current, &done, AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(())
}

/// Removes what is not a directory and returns the names of what is.
fn remove_files(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut subdirectories = Vec::new();
    for name in names(directory)? {
        match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) => subdirectories.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(subdirectories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_through_a_symlink() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("real")).unwrap();
        std::fs::write(directory.path().join("real/file"), "x").unwrap();
        std::os::unix::fs::symlink("real", directory.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("real/out")).unwrap();
        let root = open_host_directory(directory.path()).unwrap();
        assert!(open_file_beneath(root.as_fd(), Path::new("real/file")).is_ok());
        for path in ["link/file", "real/out", "real/../real/../../etc/passwd"] {
            assert!(open_file_beneath(root.as_fd(), Path::new(path)).is_err(), "{path}");
        }
        assert_eq!(
            open_file_beneath(root.as_fd(), Path::new("real")).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn depth_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let root = open_host_directory(directory.path()).unwrap();
        let mut path = PathBuf::new();
        let mut current = root.try_clone().unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&current, "deep", Mode::from_raw_mode(0o700)).unwrap();
            current = open_directory(current.as_fd(), OsStr::new("deep")).unwrap();
            path.push("deep");
        }
        rustix::fs::symlinkat("/", &current, "out").unwrap();
        drop(current);
        assert!(open_directory_beneath(root.as_fd(), &path).is_ok());
        assert!(open_directory_beneath(root.as_fd(), &path.join("out")).is_err());
        remove_tree_at(root.as_fd(), OsStr::new("deep")).unwrap();
        assert!(names(root.as_fd()).unwrap().is_empty());
    }
}
