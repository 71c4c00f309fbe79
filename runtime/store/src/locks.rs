//! Who lives? Each open store holds an `flock` on a file of its own under `locks/`; the kernel drops it when the
//! process ends, however it ends.
//!
//! Everything that is half made carries its owner's lock name. An owner is dead when its file is missing or its lock can be
//! taken. A cleaner holds a dead owner's lock while it cleans, and unlinks the file last; a process that finds its
//! own new file taken or unlinked tries again under another name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::Context as _;
use crate::{Result, StoreError};

/// The lock of this handle on the store, held until it is dropped.
pub(crate) struct ProcessLock {
    name: String,
    path: PathBuf,
    _file: File,
}

impl ProcessLock {
    /// Makes and takes a lock that nobody had before.
    pub(crate) fn create(directory: &Path) -> Result<Self> {
        loop {
            let name = fresh_name(directory)?;
            let path = directory.join(&name);
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let file = match made {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(StoreError::io("create", &path, source)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue, // a cleaner came between
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::io("lock", &path, source));
                }
            }
            if file.metadata().context("stat", &path)?.nlink() > 0 {
                return Ok(Self { name, path, _file: file });
            }
        }
    }

    /// Returns the name that marks what this process owns.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        // Where this fails, the next cleaner does it.
        drop(fs::remove_file(&self.path));
    }
}

/// The lock of a dead process, held while its things are removed.
pub(crate) struct Estate {
    path: PathBuf,
    file: Option<File>,
}

impl Estate {
    /// Takes the lock of `owner` if that process is dead; `None` while it lives or another cleaner is at it.
    pub(crate) fn claim(directory: &Path, owner: &str) -> Result<Option<Self>> {
        let path = directory.join(owner);
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Self { path, file: None }));
            }
            Err(source) => return Err(StoreError::io("open", &path, source)),
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { path, file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::io("lock", &path, source)),
        }
    }

    /// Says whether the process left its lock behind, as one does that is killed.
    pub(crate) fn was_killed(&self) -> bool {
        self.file.is_some()
    }

    /// Forgets the dead process: all its things are gone.
    pub(crate) fn close(self) -> Result<()> {
        match self.file.as_ref().map(|_held| fs::remove_file(&self.path)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Some(Err(source)) => Err(StoreError::io("remove", &self.path, source)),
        }
    }
}

/// Returns a name that is unique across time, processes and process namespaces; the process id is there for people.
fn fresh_name(directory: &Path) -> Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .context("name a lock in", directory)?;
    Ok(format!("{}-{:016x}", std::process::id(), u64::from_ne_bytes(random)))
}

/// Says whether a file is named as [`fresh_name`] names them.
pub(crate) fn is_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(process, random)| {
        process.bytes().all(|byte| byte.is_ascii_digit())
            && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_cannot_be_claimed_and_a_dropped_one_leaves_no_file() {
        let directory = tempfile::tempdir().expect("temp dir");
        let lock = ProcessLock::create(directory.path()).expect("locks");
        let name = lock.name().to_owned();
        assert!(Estate::claim(directory.path(), &name).expect("claims").is_none());
        drop(lock);
        assert!(!directory.path().join(&name).exists());
        assert!(Estate::claim(directory.path(), &name).expect("claims").is_some());
    }

    #[test]
    fn an_abandoned_file_is_claimed_by_one_and_goes_with_it() {
        let directory = tempfile::tempdir().expect("temp dir");
        fs::write(directory.path().join("1-dead"), "").expect("writes");
        let estate = Estate::claim(directory.path(), "1-dead").expect("claims").expect("is dead");
        assert!(Estate::claim(directory.path(), "1-dead").expect("claims").is_none());
        estate.close().expect("closes");
        assert!(!directory.path().join("1-dead").exists());
    }
}
