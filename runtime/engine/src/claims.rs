//! Which keys are being run, among all processes over one state directory.
//!
//! ```text
//! claims/<key in hex>       held by flock(2) while a process runs the key; its pid is for people
//! ```
//!
//! The kernel gives a lock up with its process, however that ends. A file that nobody holds means nothing: it is left by a
//! process that was killed, goes with the next claim of its key, or when the state directory is opened again.
//! **Invariant:** who holds a claim holds the lock of the very file that its path names. A file is removed only by one who
//! holds it, and one who gets the lock of a file that was removed before tries again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rb_oci::Digest;

use crate::error::EngineError;

/// The folder of the claims.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    folder: PathBuf,
}

/// Who has a key.
#[derive(Debug)]
pub(crate) enum Taken {
    Ours(Claimed),
    /// Another process, by its id where that is known.
    Theirs {
        process: Option<u32>,
    },
}

/// A key that this process runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claimed {
    path: PathBuf,
    file: File,
}

/// Names who has a key, for people; one that is stopped with what lets it go on, as it would be waited for without end.
pub(crate) fn name_of(process: Option<u32>) -> String {
    match process {
        Some(id) if is_stopped(id) => format!("process {id} (stopped: `kill -CONT {id}` lets it go on)"),
        Some(id) => format!("process {id}"),
        None => "another process".to_owned(),
    }
}

/// Source: proc_pid_stat(5): the state stands behind the name, which may hold anything but ends with the last `)`.
fn is_stopped(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

impl Claims {
    /// The claims in the state directory `root`.
    pub(crate) fn below(root: &Path) -> Self {
        Self { folder: root.join("claims") }
    }

    /// Claims a key, unless another has it.
    pub(crate) fn take(&self, key: &Digest) -> Result<Taken, EngineError> {
        let path = self.folder.join(key.hex());
        let failed = |source| EngineError::Claim { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        loop {
            let opened = options.open(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    fs::create_dir_all(&self.folder).and_then(|()| options.open(&path))
                }
                _ => Err(error),
            });
            let mut file = opened.map_err(failed)?;
            if !lock(&file).map_err(failed)? {
                let mut text = String::new();
                // What cannot be read, or was not yet written, is for people only.
                let read = file.read_to_string(&mut text).ok();
                return Ok(Taken::Theirs { process: read.and_then(|_| text.trim().parse().ok()) });
            }
            if is_named(&file, &path).map_err(failed)? {
                let mut claimed = Claimed { path: path.clone(), file };
                // Only what another left: of a file that was emptied, ext4 writes the blocks as soon as it is closed.
                if claimed.file.metadata().map_err(failed)?.len() > 0 {
                    claimed.file.set_len(0).map_err(failed)?;
                }
                writeln!(claimed.file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Taken::Ours(claimed));
            }
        }
    }

    /// Removes what killed processes left. What cannot be removed is in nobody's way.
    pub(crate) fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
            if lock(&file).unwrap_or(false) && is_named(&file, &path).unwrap_or(false) {
                drop(Claimed { path, file });
            }
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // Removed while it is held, so that nobody removes the file of a successor. Where this fails, a file without a
        // holder is left.
        fs::remove_file(&self.path).ok();
        // Closing would do too, but not at once if a child that is just being made holds a copy.
        self.file.unlock().ok();
    }
}

/// Locks a file if nobody else has it locked.
fn lock(file: &File) -> io::Result<bool> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Tells whether `path` names this file.
fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let of_path = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let of_file = file.metadata()?;
    Ok((of_file.dev(), of_file.ino()) == (of_path.dev(), of_path.ino()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn claims() -> (tempfile::TempDir, Claims) {
        let root = tempfile::tempdir().expect("a temporary folder");
        let claims = Claims::below(root.path());
        (root, claims)
    }

    /// Claims a key, if it is free.
    fn take(claims: &Claims, key: &Digest) -> Option<Claimed> {
        match claims.take(key).expect("asks") {
            Taken::Ours(claimed) => Some(claimed),
            Taken::Theirs { .. } => None,
        }
    }

    fn left(claims: &Claims) -> usize {
        fs::read_dir(&claims.folder).map_or(0, Iterator::count)
    }

    #[test]
    fn one_has_a_key_until_it_gives_it_up() {
        let (_root, claims) = claims();
        let key = Digest::of("key");
        let held = take(&claims, &key).expect("is free");
        let own = std::process::id();
        let other = claims.take(&key).expect("asks");
        assert!(matches!(other, Taken::Theirs { process: Some(id) } if id == own), "{other:?}");
        assert!(take(&claims, &Digest::of("other")).is_some());
        claims.sweep();
        assert!(take(&claims, &key).is_none(), "what is held is not swept");
        drop(held);
        assert_eq!(left(&claims), 0);
        assert!(take(&claims, &key).is_some());
    }

    #[test]
    fn one_that_is_stopped_is_told_of() {
        use rustix::process::{Pid, Signal, kill_process};
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("starts");
        let (id, pid) = (child.id(), Pid::from_child(&child));
        assert_eq!(name_of(Some(id)), format!("process {id}"));
        kill_process(pid, Signal::STOP).expect("stops");
        while !is_stopped(id) {
            std::thread::yield_now();
        }
        assert_eq!(name_of(Some(id)), format!("process {id} (stopped: `kill -CONT {id}` lets it go on)"));
        child.kill().expect("ends");
        child.wait().expect("ends");
        assert_eq!(name_of(None), "another process");
    }

    #[test]
    fn what_nobody_holds_keeps_nobody_out_and_is_swept() {
        let (_root, claims) = claims();
        claims.sweep();
        let (one, two) = (Digest::of("one"), Digest::of("two"));
        fs::create_dir(&claims.folder).expect("makes");
        for key in [&one, &two] {
            fs::write(claims.folder.join(key.hex()), "4194304999\n").expect("writes");
        }
        drop(take(&claims, &one).expect("is free"));
        assert_eq!(left(&claims), 1);
        claims.sweep();
        assert_eq!(left(&claims), 0);
    }

    #[test]
    fn never_two_at_once_however_often_the_file_comes_and_goes() {
        let (_root, claims) = claims();
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let key = Digest::of("key");
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (claims, holders, taken, key) = (&claims, &holders, &taken, &key);
                scope.spawn(move || {
                    for _ in 0..500 {
                        if number == 0 {
                            claims.sweep();
                        }
                        let Some(held) = take(claims, key) else { continue };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(holders.fetch_sub(1, Ordering::SeqCst), 1);
                        drop(held);
                    }
                });
            }
        });
        assert!(taken.load(Ordering::SeqCst) > 0);
        assert_eq!(left(&claims), 0);
    }
}
