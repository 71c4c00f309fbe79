//! Folders for as long as a command runs: what came by stdin, texts of Dockerfiles that stand in other files.
//!
//! In: nothing. Out: an empty folder, gone with its [`Scratch`]. A process that is killed cannot remove its own, so each has a
//! locked file beside it, and whoever makes the next one removes those that nobody holds.
//! **Invariant:** a folder is removed only by who holds its lock, and only if it is the same user's.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rb_store::{Clock as _, SystemClock};
use tempfile::TempDir;

use crate::environment::Environment;
use crate::report::Failure;

/// How their names begin.
const PREFIX: &str = "rb-scratch-";

/// The file that is locked.
const LOCK: &str = "lock";

/// What it is called until it is.
const UNLOCKED: &str = "lock.new";

/// The folder that is used.
const FILES: &str = "files";

/// One without its lock that is younger may be about to get it.
const YOUNG: Duration = Duration::from_secs(3600);

/// An empty folder of this process.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one, and removes those of processes that are gone.
    pub(super) fn new() -> Result<Self, Failure> {
        Self::below(&Environment::temporary())
            .map_err(|error| Failure::environment("no temporary folder can be made", &error))
    }

    /// The folder, by its real path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn below(place: &Path) -> std::io::Result<Self> {
        sweep(place);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
        // Whoever finds a lock that nobody holds takes the folder for one that is left.
        let unlocked = folder.path().join(UNLOCKED);
        let lock = File::create_new(&unlocked)?;
        lock.lock()?;
        std::fs::rename(unlocked, folder.path().join(LOCK))?;
        std::fs::create_dir(folder.path().join(FILES))?;
        Ok(Self { path: std::fs::canonicalize(folder.path().join(FILES))?, _folder: folder, _lock: lock })
    }

    #[cfg(test)]
    fn whole(&self) -> &Path {
        self._folder.path()
    }
}

/// Removes what processes that are gone have left; best effort.
fn sweep(place: &Path) {
    // What cannot be listed is swept by somebody else.
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let is_ours = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.starts_with(PREFIX));
    for entry in entries.filter(|entry| is_ours(&entry.file_name())) {
        if is_left(&entry.path()) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Tells whether nobody holds a folder any more.
fn is_left(folder: &Path) -> bool {
    let Ok(found) = folder.symlink_metadata() else { return false };
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return false;
    }
    match File::open(folder.join(LOCK)) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
        },
        Err(_) => {
            let made = Duration::from_secs(u64::try_from(found.mtime()).unwrap_or(0));
            SystemClock.now().saturating_sub(made) > YOUNG
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_removes_what_another_is_about_to_hold() {
        let place = tempfile::tempdir().expect("a temporary folder");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        Scratch::below(place.path()).expect("is made");
                    }
                });
            }
        });
    }

    #[test]
    fn who_is_gone_leaves_nothing() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let names = || {
            let entries = std::fs::read_dir(place.path()).expect("lists");
            entries.map(|entry| entry.expect("an entry").file_name()).collect::<Vec<_>>()
        };
        let held = Scratch::below(place.path()).expect("is made");
        std::fs::write(held.path().join("a"), "a").expect("writes");
        let killed = Scratch::below(place.path()).expect("is made");
        assert_eq!(names().len(), 2);
        // As the kernel does for a process that is killed.
        let Scratch { _folder: folder, _lock, .. } = killed;
        drop((_lock, folder.keep()));
        assert_eq!(names().len(), 2);
        let next = Scratch::below(place.path()).expect("is made");
        assert_eq!(names().len(), 2);
        assert!(held.path().join("a").exists() && next.path() != held.path());
        // One that is just being made has no lock yet.
        let young = place.path().join(format!("{PREFIX}young"));
        std::fs::create_dir(&young).expect("is made");
        std::fs::create_dir(place.path().join("other")).expect("is made");
        drop(Scratch::below(place.path()).expect("is made"));
        assert!(young.exists() && place.path().join("other").exists());
        let whole = next.whole().to_owned();
        drop((held, next));
        assert!(!whole.exists());
        assert_eq!(names().len(), 2);
    }
}
