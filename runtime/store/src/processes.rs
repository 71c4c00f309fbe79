//! Who else is at work over a state directory?
//!
//! In: the directory, which need not be there. Out: the processes that have it open, by their locks (see
//! [`crate::locks`]). Nothing is changed, and the database is not opened.

use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::folder::named_entries;
use crate::{Result, Store, StoreError, locks};

/// A process that has a state directory open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id, in its own process namespace.
    pub id: u32,
    /// What its things are named after: unique across time and processes.
    pub name: String,
}

impl Store {
    /// Returns what the things of this handle are named after.
    pub fn process_name(&self) -> &str {
        self.inner.lock.name()
    }
}

/// Returns the living processes over the state directory at `root`, by id.
pub fn living(root: &Path) -> Result<Vec<Process>> {
    let directory = root.join("locks");
    let mut found = Vec::new();
    for (name, _) in named_entries(&directory)? {
        let id = name.split_once('-').and_then(|(id, _)| id.parse().ok());
        let Some(id) = id.filter(|_| locks::is_name(&name)) else { continue };
        if is_held(&directory.join(&name))? {
            found.push(Process { id, name });
        }
    }
    found.sort();
    Ok(found)
}

/// Tells whether somebody holds the lock on a file. Shared, and for a moment only, so that several may ask at once.
fn is_held(path: &Path) -> Result<bool> {
    match OpenOptions::new().read(true).open(path) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(StoreError::io("lock", path, source)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::io("open", path, source)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn those_who_have_it_open_are_found_and_the_dead_are_not() {
        let root = tempfile::tempdir().expect("temp dir");
        assert_eq!(living(&root.path().join("none")).expect("lists"), []);
        let store = Store::open(root.path()).expect("opens");
        fs::write(root.path().join("locks/1-dead"), "").expect("writes");
        fs::write(root.path().join("locks/notes"), "").expect("writes");
        let found = living(root.path()).expect("lists");
        let own = Process { id: std::process::id(), name: store.process_name().to_owned() };
        assert_eq!(found, [own]);
        drop(store);
        assert_eq!(living(root.path()).expect("lists"), []);
    }
}
