//! Paths inside a tree: lexical cleaning as Go's `filepath.Clean` does it, and nothing that touches the disk.
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

/// Cleans `text` as Go's `filepath.Clean` does: lexically, keeping a leading slash; the empty path is `.`.
pub(crate) fn go_clean(text: &str) -> String {
    let rooted = text.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => match names.last() {
                Some(&last) if last != ".." => {
                    names.pop();
                }
                _ if rooted => {}
                _ => names.push(".."),
            },
            name => names.push(name),
        }
    }
    let joined = names.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
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

    #[test]
    fn go_clean_answers_as_go() {
        // Known answers of Go's path/filepath documentation and tests.
        for (path, expected) in [
            ("", "."),
            ("abc/", "abc"),
            ("abc//def//ghi", "abc/def/ghi"),
            ("abc/./../def", "def"),
            ("abc/def/../../..", ".."),
            ("/abc/def/../../..", "/"),
            ("../../abc", "../../abc"),
            ("/../a", "/a"),
            ("**/", "**"),
        ] {
            assert_eq!(go_clean(path), expected, "{path}");
        }
    }
}
