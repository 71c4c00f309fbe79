//! Opening a state directory: made when it is not there, refused when it is not ours, cheap when it is.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::database::Database;
use crate::error::Context as _;
use crate::locks::ProcessLock;
use crate::{Clock, Result, SnapshotId, StoreError, SystemClock, cleaning, remove};

/// The number of the format that this program writes, and the newest that it reads.
pub const FORMAT: u64 = 1;

/// Directories below the root.
const DIRECTORIES: [&str; 6] = ["blobs", "blobs/sha256", "snapshots", "tmp", "locks", "logs"];

/// Files below the root, those of SQLite and half-written ones included.
const FILES: [&str; 11] = [
    "format",
    "format.new",
    "oci-layout",
    "index.json",
    "rb.db",
    "rb.db-wal",
    "rb.db-shm",
    "rb.db-journal",
    "rb.db.new",
    "rb.db.new-wal",
    "rb.db.new-shm",
];

/// Ids left out when a database is made anew beside existing snapshots.
const SPARE_IDS: u64 = 1 << 20;

/// A handle on a state directory; clones share it. Blocking: call it off the async threads.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    root: PathBuf,
    pub(crate) database: Database,
    pub(crate) lock: ProcessLock,
    clock: Arc<dyn Clock>,
    next_temp: AtomicU64,
    cleaners: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) whole: Mutex<HashSet<SnapshotId>>,
}

impl Store {
    /// Opens the state directory at the absolute path `root`, with the machine's clock. Makes it when it is missing;
    /// removes what dead processes left behind (large trees in a background thread).
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Arc::new(SystemClock))
    }

    /// Opens the state directory with another clock.
    pub fn open_with(root: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        if !root.is_absolute() {
            return Err(StoreError::RelativeRoot(root.to_owned()));
        }
        if !has_known_format(root)? {
            create(root)?;
        }
        make_directories(root)?;
        if !has_database(root)? {
            replace_database(root)?;
        }
        // The first thing written: what forbids writing shows here, and not as a riddle of the database's.
        let lock = ProcessLock::create(&root.join("locks"))?;
        let store = Self {
            inner: Arc::new(Inner {
                database: Database::open(&root.join("rb.db"))?,
                lock,
                root: root.to_owned(),
                clock,
                next_temp: AtomicU64::new(0),
                cleaners: Mutex::new(Vec::new()),
                whole: Mutex::new(HashSet::new()),
            }),
        };
        let trash = cleaning::clean(&store)?;
        store.discard(trash);
        Ok(store)
    }

    /// Removes trees under our `tmp/` in the background.
    pub(crate) fn discard(&self, trash: Vec<PathBuf>) {
        if !trash.is_empty() {
            let handle = cleaning::remove_in_background(trash);
            self.inner.cleaners.lock().unwrap_or_else(PoisonError::into_inner).extend(handle);
        }
    }

    /// Waits until what dead processes left behind is gone from the disk. Nobody needs to, except to measure it.
    pub fn wait_for_cleaning(&self) {
        let handles =
            std::mem::take(&mut *self.inner.cleaners.lock().unwrap_or_else(PoisonError::into_inner));
        // A panic of the cleaner leaves garbage for the next open, no more.
        handles.into_iter().for_each(|handle| drop(handle.join()));
    }

    /// Returns the state directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Returns the clock that stamps rows.
    pub fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    /// Returns the directory of build logs.
    pub fn logs_dir(&self) -> PathBuf {
        self.inner.root.join("logs")
    }

    /// Returns a path under `tmp/` that nobody else gets and where nothing is. What is made there is removed
    /// by some later open once this process is dead; a rename out of it is atomic, since it is the same file system.
    pub fn temp_path(&self) -> PathBuf {
        let number = self.inner.next_temp.fetch_add(1, Ordering::Relaxed);
        self.inner.root.join("tmp").join(format!("{}.{number}", self.inner.lock.name()))
    }

    /// Removes a file or tree, however deep and whatever its modes; nothing there is no error.
    pub fn remove_tree(&self, path: &Path) -> Result<()> {
        remove::remove_through(path, &mut || self.temp_path()).context("remove", path)
    }

    pub(crate) fn now_unix(&self) -> i64 {
        i64::try_from(self.inner.clock.now().as_secs()).unwrap_or(i64::MAX)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Store").field(&self.inner.root).finish()
    }
}

/// Says whether `root` is a state directory of a format that we read.
fn has_known_format(root: &Path) -> Result<bool> {
    let path = root.join("format");
    let text = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(StoreError::io("read", &path, source)),
    };
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match number {
        Some(found) if found > FORMAT => {
            Err(StoreError::NewerFormat { root: root.to_owned(), found, known: FORMAT })
        }
        Some(found) if found > 0 => Ok(true),
        Some(_) | None => Err(StoreError::BadFormat { path }),
    }
}

/// Makes all that a state directory has, `format` last: whoever sees that file sees the rest. One process at a time.
fn create(root: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(root).context("create", root)?;
    let directory = File::open(root).context("open", root)?;
    directory.lock().context("lock", root)?;
    if has_known_format(root)? {
        return Ok(()); // another process was faster
    }
    for entry in fs::read_dir(root).context("list", root)? {
        let name = entry.context("list", root)?.file_name();
        if !FILES.iter().chain(&DIRECTORIES).any(|known| name.as_encoded_bytes() == known.as_bytes()) {
            return Err(StoreError::ForeignDirectory(root.to_owned()));
        }
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o700)).context("chmod", root)?;
    make_directories(root)?;
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        fs::write(&path, text).context("write", &path)?;
        File::open(&path).and_then(|file| file.sync_all()).context("sync", &path)
    };
    write("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    write("index.json", "{\"schemaVersion\":2,\"manifests\":[]}")?;
    Database::create(&root.join("rb.db"), last_snapshot(root)?)?;
    write("format.new", &format!("{FORMAT}\n"))?;
    let path = root.join("format");
    fs::rename(root.join("format.new"), &path).context("create", &path)?;
    directory.sync_all().context("sync", root)
}

/// Makes the directories that are missing.
fn make_directories(root: &Path) -> Result<()> {
    for path in DIRECTORIES.map(|name| root.join(name)) {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o755).create(&path).context("create", &path)?;
        }
    }
    Ok(())
}

/// Says whether there is a database; an empty file is none.
fn has_database(root: &Path) -> Result<bool> {
    let path = root.join("rb.db");
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len() > 0),
        Ok(_) => Err(StoreError::Damaged { path, reason: "it is not a file".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::io("stat", &path, source)),
    }
}

/// Makes an empty database in place of one that somebody removed or emptied: all is forgotten, nothing is broken.
fn replace_database(root: &Path) -> Result<()> {
    let directory = File::open(root).context("open", root)?;
    directory.lock().context("lock", root)?;
    if has_database(root)? {
        return Ok(()); // another process was faster
    }
    tracing::warn!(root = %root.display(), "the cache database is gone: starts with an empty one");
    // A process that still has the old files open keeps them to itself.
    for path in ["rb.db", "rb.db-wal", "rb.db-shm", "rb.db-journal"].map(|name| root.join(name)) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &path, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    // Made aside, so that nobody opens half a database.
    let made = root.join("rb.db.new");
    drop(fs::remove_file(&made)); // where it stays, making it says so
    Database::create(&made, last_snapshot(root)?)?;
    let path = root.join("rb.db");
    fs::rename(&made, &path).context("create", &path)?;
    directory.sync_all().context("sync", root)
}

/// Returns an id below which directories may lie, or be made by a process that does not know this database; 0 where
/// there are none.
fn last_snapshot(root: &Path) -> Result<u64> {
    let directory = root.join("snapshots");
    let mut last = 0;
    for entry in fs::read_dir(&directory).context("list", &directory)? {
        let name = entry.context("list", &directory)?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        last = last.max(number.filter(|number| *number < SPARE_IDS << 20).unwrap_or(0));
    }
    Ok(if last == 0 { 0 } else { last + SPARE_IDS })
}

#[cfg(test)]
mod tests;
