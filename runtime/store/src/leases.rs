//! Leases: what a process of this state directory needs, and so nobody may remove.
//!
//! ```text
//! <root>/leases     a file without bytes: each thing that can be held is a place in it, locked by fcntl(2)
//! ```
//!
//! Whoever is told of a snapshot or blob shares the lock on its place, from before it is told until its handle on the store
//! goes; the kernel gives the locks up with the process. Whoever removes one has the place alone meanwhile, and asks for it
//! through a file that it opened itself, so that leases of its own process count too.
//! **Invariant:** a lease is taken first, and then it is looked whether the thing is still there; who removes has it alone until it
//! is gone for all. So one who holds a lease on what was there then has it until the lease ends. What a place stands for is
//! decided by one table, [`Place`]; two blobs of one place are only held together.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rb_oci::Digest;
use rb_sys::ranges::{self, Hold};

use crate::error::Context as _;
use crate::{Result, SnapshotId};

/// The file, below the root.
pub(crate) const FILE: &str = "leases";

/// What can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// By who removes things to make room: one at a time.
    Collecting,
    /// A snapshot, and so those under it.
    Snapshot(SnapshotId),
    /// A blob.
    Blob(Digest),
}

impl Place {
    pub(crate) fn number(self) -> u64 {
        const BLOBS: u64 = 1 << 62;
        match self {
            Self::Collecting => 0,
            // Ids begin with 1.
            Self::Snapshot(id) => id.0.min(BLOBS - 1),
            Self::Blob(digest) => {
                let first = digest.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
                (BLOBS | (u64::from_be_bytes(first) >> 2)).min(ranges::LAST)
            }
        }
    }
}

/// The leases of one handle.
pub(crate) struct Leases {
    file: File,
    path: PathBuf,
    held: Mutex<BTreeSet<u64>>,
}

impl Leases {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        let file = open(&path)?;
        Ok(Self { file, path, held: Mutex::default() })
    }

    /// Takes a lease; says whether it is a new one. Waits while somebody removes that very thing, so it is not to be called by
    /// one whom such a removal waits for: with the database in hand.
    pub(crate) fn take(&self, place: Place) -> Result<bool> {
        let number = place.number();
        if self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(&number) {
            return Ok(false);
        }
        ranges::lock(&self.file, number, Hold::Shared).context("lock", &self.path)?;
        Ok(self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(number))
    }

    /// Gives a lease up. What cannot be given up ends with the process.
    pub(crate) fn give_up(&self, place: Place) {
        let number = place.number();
        if self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
            && let Err(error) = ranges::unlock(&self.file, number)
        {
            tracing::warn!(%error, ?place, "a lease is kept");
        }
    }
}

/// One who removes things.
pub(crate) struct Remover {
    file: File,
    path: PathBuf,
}

/// A thing that its remover has alone, until this is dropped.
pub(crate) struct Alone<'a> {
    remover: &'a Remover,
    number: u64,
}

impl Remover {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        Ok(Self { file: open(&path)?, path })
    }

    /// Takes a thing that nobody holds.
    pub(crate) fn try_alone(&self, place: Place) -> Result<Option<Alone<'_>>> {
        let number = place.number();
        let taken = ranges::try_lock(&self.file, number, Hold::Alone).context("lock", &self.path)?;
        Ok(taken.then_some(Alone { remover: self, number }))
    }

    /// Takes a thing once nobody holds it.
    pub(crate) fn alone(&self, place: Place) -> Result<Alone<'_>> {
        let number = place.number();
        ranges::lock(&self.file, number, Hold::Alone).context("lock", &self.path)?;
        Ok(Alone { remover: self, number })
    }

    /// Says whether somebody holds a thing just now.
    pub(crate) fn is_held(&self, place: Place) -> Result<bool> {
        Ok(self.try_alone(place)?.is_none())
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if let Err(error) = ranges::unlock(&self.remover.file, self.number) {
            tracing::warn!(%error, "what was removed stays locked until this process ends");
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).context("open", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_cannot_be_had_alone_and_the_rest_can() {
        let root = tempfile::tempdir().expect("temp dir");
        let (one, two) =
            (Leases::open(root.path()).expect("opens"), Leases::open(root.path()).expect("opens"));
        let remover = Remover::open(root.path()).expect("opens");
        let (snapshot, blob) = (Place::Snapshot(SnapshotId(1)), Place::Blob(Digest::of("blob")));
        assert!(one.take(snapshot).expect("takes") && two.take(snapshot).expect("takes"));
        assert!(!one.take(snapshot).expect("has it"), "it is not new");
        assert!(one.take(blob).expect("takes"));
        for place in [snapshot, blob] {
            assert!(remover.try_alone(place).expect("asks").is_none(), "{place:?}");
            assert!(remover.is_held(place).expect("asks"));
        }
        one.give_up(snapshot);
        assert!(remover.is_held(snapshot).expect("asks"), "the other still has it");
        drop(two);
        let alone = remover.try_alone(snapshot).expect("asks").expect("is free");
        drop(alone);
        assert!(one.take(snapshot).expect("takes"));
        assert!(!remover.is_held(Place::Snapshot(SnapshotId(2))).expect("asks"));
        drop(one);
        drop(remover.alone(blob).expect("takes"));
    }

    #[test]
    fn one_collects_at_a_time() {
        let root = tempfile::tempdir().expect("temp dir");
        let (one, two) =
            (Remover::open(root.path()).expect("opens"), Remover::open(root.path()).expect("opens"));
        let alone = one.alone(Place::Collecting).expect("takes");
        assert!(two.try_alone(Place::Collecting).expect("asks").is_none());
        drop(alone);
        assert!(two.try_alone(Place::Collecting).expect("asks").is_some());
    }
}
