//! Directories that an export must not replace.
//!
//! A directory that is written replaces the one at its destination, and what lay there is removed. A slip in a build file
//! must not remove a home that way. In: a destination, and the directories that its user named precious. Out:
//! [`ExportError::Precious`], or nothing.
//! **What is never replaced:** a precious directory and whatever holds one; the root of the disk; where something is
//! mounted and whatever holds that, since it would be emptied along. In the state directory nothing is written at all.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::error::Context as _;
use crate::{ExportError, Result};

/// Directories that are dear to the user of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precious {
    /// Each with what it is to people: "your home".
    pub directories: Vec<(PathBuf, &'static str)>,
    /// The state directory of `rb`, in which nobody else writes.
    pub state: Option<PathBuf>,
}

/// The mounts of this process. Source: proc_pid_mountinfo(5).
const MOUNTS: &str = "/proc/self/mountinfo";

impl Precious {
    /// Refuses a destination in the state directory. `dest` has a true parent.
    pub(crate) fn check_place(&self, dest: &Path) -> Result<()> {
        match self.state.as_deref().map(real) {
            Some(state) if dest.starts_with(&state) => {
                Err(refused(dest, &state, "the state directory of rb"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to replace the directory at `dest`, which has a true parent.
    pub(crate) fn check_replaced(&self, dest: &Path) -> Result<()> {
        if dest.parent().is_none() {
            return Err(refused(dest, dest, "the root of the disk"));
        }
        // A link at the destination is replaced itself, and what it leads to stays.
        if !fs::symlink_metadata(dest).is_ok_and(|there| there.is_dir()) {
            return Ok(());
        }
        let state = self.state.iter().map(|state| (state.clone(), "the state directory of rb"));
        for (directory, what) in self.directories.iter().cloned().chain(state) {
            let directory = real(&directory);
            if directory.starts_with(dest) {
                return Err(refused(dest, &directory, what));
            }
        }
        let mounts = fs::read(MOUNTS).context("read", Path::new(MOUNTS))?;
        match mount_points(&mounts).find(|mount| mount.starts_with(dest)) {
            Some(mount) => Err(refused(dest, &mount, "where something is mounted")),
            None => Ok(()),
        }
    }
}

fn refused(dest: &Path, precious: &Path, what: &'static str) -> ExportError {
    ExportError::Precious { path: dest.to_owned(), precious: precious.to_owned(), what }
}

/// Follows the links of a path; one that is not there is as it is written.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the fifth field of each line; octal escapes stand for what would end a field.
fn mount_points(text: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(|field| {
        let mut path = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((first, more)) = rest.split_first() {
            let octal = more.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
                let text = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(text, 8).ok()
            });
            match octal {
                Some(byte) => {
                    path.push(byte);
                    rest = more.get(3..).unwrap_or_default();
                }
                None => {
                    path.push(*first);
                    rest = more;
                }
            }
        }
        PathBuf::from(OsString::from_vec(path))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn told(result: Result<()>) -> Option<(PathBuf, &'static str)> {
        match result {
            Ok(()) => None,
            Err(ExportError::Precious { precious, what, .. }) => Some((precious, what)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_precious_and_what_holds_it_is_not_replaced() {
        let dir = tempfile::tempdir().expect("temp dir");
        let top = fs::canonicalize(dir.path()).expect("resolves");
        for name in ["users/me/code/out", "users/me/code-old", "state/snapshots"] {
            fs::create_dir_all(top.join(name)).expect("makes");
        }
        symlink("users/me", top.join("home")).expect("links");
        let precious = Precious {
            directories: vec![(top.join("home"), "your home"), (top.join("users/me/code"), "the workspace")],
            state: Some(top.join("state")),
        };
        let check = |path: &str| told(precious.check_replaced(&top.join(path)));
        assert_eq!(check("users"), Some((top.join("users/me"), "your home")));
        assert_eq!(check("users/me"), Some((top.join("users/me"), "your home")));
        assert_eq!(check("users/me/code"), Some((top.join("users/me/code"), "the workspace")));
        assert_eq!(check("state"), Some((top.join("state"), "the state directory of rb")));
        // What lies in them, what only begins like them, a link to them, and what is not there.
        for fine in ["users/me/code/out", "users/me/code-old", "home", "users/me/code/new"] {
            assert_eq!(check(fine), None, "{fine}");
        }
        let place = |path: &str| told(precious.check_place(&top.join(path)));
        assert_eq!(place("state/snapshots"), Some((top.join("state"), "the state directory of rb")));
        assert_eq!(place("users/me"), None);
    }

    #[test]
    fn the_root_and_what_is_mounted_are_not_replaced() {
        let none = Precious::default();
        assert_eq!(
            told(none.check_replaced(Path::new("/"))).map(|(_, what)| what),
            Some("the root of the disk")
        );
        assert_eq!(
            told(none.check_replaced(Path::new("/proc"))),
            Some(("/proc".into(), "where something is mounted"))
        );
    }

    #[test]
    fn mount_points_are_the_fifth_field() {
        let text = b"36 35 98:0 /mnt1 /mnt/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw\n\
                     37 36 0:1 / /proc rw - proc proc rw\n";
        let found: Vec<PathBuf> = mount_points(text).collect();
        assert_eq!(found, [PathBuf::from("/mnt/a b\\c"), PathBuf::from("/proc")]);
    }
}
