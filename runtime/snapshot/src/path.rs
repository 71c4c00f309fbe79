//! Paths inside a tree, taken lexically: nothing touches the disk.
//!
//! Inside this crate a path is relative to the root of its tree, without a leading slash; the root is empty.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// Returns `path` relative to the root: `.` and doubled slashes dropped, `..` taken lexically, never above the root.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// Tells whether `path` names what is inside a directory: it ends in `/` or `/.`, or is the root.
pub(crate) fn names_a_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.is_empty() || bytes == b"." || bytes.ends_with(b"/") || bytes.ends_with(b"/.")
}

/// Splits a cleaned path into its parent and its last name; `None` for the root.
pub(crate) fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_never_leaves_the_root() {
        for (path, expected) in [
            ("", ""),
            ("/", ""),
            (".", ""),
            ("a//b/./c/", "a/b/c"),
            ("../../etc", "etc"),
            ("/a/../../b", "b"),
            ("a/..", ""),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
