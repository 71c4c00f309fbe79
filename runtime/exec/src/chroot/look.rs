//! How files look that nobody is to change, to be compared afterwards.
//!
//! In: a file or directory. Out: for each file its inode and the time of its last change, which nobody can set back.
//! **Invariant:** whatever is written, added, removed, renamed or given other metadata after a look makes the next one differ.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

/// How coarse the clock may be by which the kernel stamps files: a hundredth of a second, where it is slowest.
const TICK: Duration = Duration::from_millis(10);

/// Inode and time of the last change, by path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look(BTreeSet<(Vec<OsString>, u64, i64, i64)>);

/// Waits until a change would show: what happens within one tick of the kernel's clock bears one time. To be called after all looks.
pub(super) fn let_settle() {
    std::thread::sleep(TICK);
}

impl Look {
    /// Looks at what stands in `directory` by this name, but not at what stands at or below `excluded`, paths from it on.
    pub(super) fn at(directory: impl AsFd, name: &OsStr, excluded: &[Vec<OsString>]) -> io::Result<Self> {
        let mut look = Self(BTreeSet::new());
        look.add(directory.as_fd(), name, &mut Vec::new(), excluded)?;
        Ok(look)
    }

    fn add(
        &mut self,
        directory: std::os::fd::BorrowedFd<'_>,
        name: &OsStr,
        at: &mut Vec<OsString>,
        excluded: &[Vec<OsString>],
    ) -> io::Result<()> {
        if excluded.contains(at) {
            return Ok(());
        }
        let stat: Stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.0.insert((at.clone(), stat.st_ino, stat.st_ctime as i64, stat.st_ctime_nsec as i64));
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(directory, name, flags, Mode::empty())?;
        for entry in Dir::read_from(&inner)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            at.push(name.to_owned());
            self.add(inner.as_fd(), name, at, excluded)?;
            at.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_change_shows_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "x").unwrap();
        let above = fs::File::open(scratch.path()).unwrap();
        let look = |excluded: &[&str]| {
            let split = |path: &&str| path.split('/').map(OsString::from).collect::<Vec<_>>();
            let excluded: Vec<Vec<OsString>> = excluded.iter().map(split).collect();
            let look = Look::at(&above, OsStr::new("root"), &excluded).unwrap();
            let_settle();
            look
        };
        let before = look(&[]);
        fs::read(root.join("a/file")).unwrap();
        assert_eq!(look(&[]), before);
        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(root.join("a/file"), "x").unwrap(),
            &|| fs::write(root.join("a/b/new"), "").unwrap(),
            &|| fs::remove_file(root.join("a/b/new")).unwrap(),
            &|| fs::hard_link(root.join("a/file"), scratch.path().join("other")).unwrap(),
            &|| fs::rename(root.join("a/b"), root.join("a/c")).unwrap(),
        ];
        for change in changes {
            let before = look(&[]);
            change();
            assert_ne!(look(&[]), before);
        }
        let before = look(&["a/c"]);
        fs::write(root.join("a/c/new"), "").unwrap();
        assert_eq!(look(&["a/c"]), before);
    }
}
