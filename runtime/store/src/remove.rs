//! Removing a tree whatever is in it: directories without permissions, paths longer than the kernel takes, millions
//! of files.
//!
//! Entries are removed relative to their open directory and symlinks are never followed. Below a fixed depth a directory is
//! renamed to a fresh place near the root and removed from there, so descriptors and stack stay bounded.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::Result;
use crate::error::Context as _;

/// Open directories at once.
const MAX_DEPTH: usize = 64;

/// Removes a file or tree, however deep and whatever its modes; nothing there is no error. Very deep parts are moved beside it
/// meanwhile, as `<path>-<n>`.
pub fn remove_tree(path: &Path) -> Result<()> {
    let mut moved = 0_u64;
    let mut fresh = || {
        moved += 1;
        let mut name = path.as_os_str().to_owned();
        name.push(format!("-{moved}"));
        PathBuf::from(name)
    };
    remove_through(path, &mut fresh).context("remove", path)
}

/// Removes what is at `path`; nothing there is no error. `fresh` names unused places on the same file system.
pub(crate) fn remove_through(path: &Path, fresh: &mut dyn FnMut() -> PathBuf) -> io::Result<()> {
    let mut queue = vec![path.to_owned()];
    while let Some(next) = queue.pop() {
        let kind = match rustix::fs::statat(CWD, &next, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        if kind == FileType::Directory {
            if let Some(directory) = open_directory(CWD, &next)? {
                empty_directory(&directory, 1, &mut queue, fresh)?;
            }
            ignore_missing(rustix::fs::unlinkat(CWD, &next, AtFlags::REMOVEDIR))?;
        } else {
            ignore_missing(rustix::fs::unlinkat(CWD, &next, AtFlags::empty()))?;
        }
    }
    Ok(())
}

fn empty_directory(
    directory: &OwnedFd,
    depth: usize,
    queue: &mut Vec<PathBuf>,
    fresh: &mut dyn FnMut() -> PathBuf,
) -> io::Result<()> {
    let mut writable = false;
    // Entries removed while listing may hide others on some file systems: look again until there are none.
    loop {
        let mut found = false;
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            found = true;
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            let flags = if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            let mut removed = rustix::fs::unlinkat(directory, name, flags);
            if matches!(removed, Err(Errno::ACCESS | Errno::PERM)) && !writable {
                rustix::fs::fchmod(directory, Mode::RWXU)?;
                writable = true;
                removed = rustix::fs::unlinkat(directory, name, flags);
            }
            match removed {
                Err(Errno::NOTEMPTY | Errno::EXIST) if kind == FileType::Directory => {
                    remove_child(directory, name, depth, queue, fresh)?;
                }
                other => ignore_missing(other)?,
            }
        }
        if !found {
            return Ok(());
        }
    }
}

fn remove_child(
    parent: &OwnedFd,
    name: &CStr,
    depth: usize,
    queue: &mut Vec<PathBuf>,
    fresh: &mut dyn FnMut() -> PathBuf,
) -> io::Result<()> {
    if depth < MAX_DEPTH {
        if let Some(directory) = open_directory(parent, name)? {
            empty_directory(&directory, depth + 1, queue, fresh)?;
        }
        return ignore_missing(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR));
    }
    let place = fresh();
    // Moving a directory writes its `..`.
    rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
    rustix::fs::renameat(parent, name, CWD, &place)?;
    queue.push(place);
    Ok(())
}

/// Opens a directory, giving ourselves the permission where it is missing. `None`: somebody else removed it.
fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg + Copy) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut opened = rustix::fs::openat(&parent, name, flags, Mode::empty());
    if opened.as_ref().err() == Some(&Errno::ACCESS) {
        rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
        opened = rustix::fs::openat(&parent, name, flags, Mode::empty());
    }
    match opened {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn ignore_missing(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn remove(root: &Path, name: &str) {
        let mut number = 0;
        let mut fresh = || {
            number += 1;
            root.join(format!("spill.{number}"))
        };
        remove_through(&root.join(name), &mut fresh).expect("removes");
        assert_eq!(fs::read_dir(root).expect("lists").count(), 0, "something stayed");
    }

    #[test]
    fn removes_files_links_and_nothing() {
        let root = tempfile::tempdir().expect("temp dir");
        remove(root.path(), "missing");
        fs::write(root.path().join("file"), "x").expect("writes");
        remove(root.path(), "file");
        symlink("/", root.path().join("link")).expect("links");
        remove(root.path(), "link");
    }

    #[test]
    fn removes_directories_without_permissions_and_does_not_follow_links() {
        let outside = tempfile::tempdir().expect("temp dir");
        fs::write(outside.path().join("kept"), "x").expect("writes");
        let root = tempfile::tempdir().expect("temp dir");
        let deep = root.path().join("tree/closed/deeper");
        fs::create_dir_all(&deep).expect("makes");
        fs::write(deep.join("file"), "x").expect("writes");
        symlink(outside.path(), deep.join("link")).expect("links");
        for path in ["tree/closed/deeper", "tree/closed", "tree"] {
            fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(0o000)).expect("chmods");
        }
        remove(root.path(), "tree");
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn removes_a_tree_deeper_than_any_path() {
        let root = tempfile::tempdir().expect("temp dir");
        let mut directory = open_directory(CWD, root.path()).expect("opens").expect("is there");
        for level in 0..300 {
            let name = if level == 0 { "tree" } else { "a-directory-with-a-long-name" };
            rustix::fs::mkdirat(&directory, name, Mode::RWXU).expect("makes");
            directory = open_directory(&directory, name).expect("opens").expect("is there");
        }
        remove(root.path(), "tree");
    }

    #[test]
    fn removes_a_directory_with_many_files() {
        let root = tempfile::tempdir().expect("temp dir");
        fs::create_dir(root.path().join("tree")).expect("makes");
        for number in 0..1500 {
            fs::write(root.path().join(format!("tree/{number}")), "").expect("writes");
        }
        remove(root.path(), "tree");
    }
}
