//! Opening a state directory: made when it is not there, refused when it is not ours, cheap when it is.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crate::database::Database;
use crate::error::Context as _;
use crate::leases::Leases;
use crate::locks::ProcessLock;
use crate::lost::Sealer;
use crate::space::admit::Room;
use crate::space::uses::Touched;
use crate::sync::LastSync;
use crate::{
    Clock, Result, SnapshotId, StoreError, SystemClock, cleaning, damage, partial, place, remove, reserve,
};

/// The number of the format that this program writes, and the newest that it reads.
pub const FORMAT: u64 = 3;

/// Directories below the root.
const DIRECTORIES: [&str; 7] = ["blobs", "blobs/sha256", "snapshots", "caches", "tmp", "locks", "logs"];

/// Directories that come with their first use.
const MADE_LATER: [&str; 4] = ["builds", "claims", partial::FOLDER, "status"];

/// Files below the root, those of SQLite and half-written ones included.
const FILES: [&str; 16] = [
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
    "rb.db.damaged",
    "rb.db.aside",
    "rb.db.aside-wal",
    "leases",
    reserve::NAME,
];

/// A handle on a state directory; clones share it. Blocking: call it off the async threads.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    /// The root, open from the start: what fails to reach its disk from now on is reported when it is synced.
    pub(crate) directory: File,
    pub(crate) database: Database,
    pub(crate) lock: ProcessLock,
    clock: Arc<dyn Clock>,
    next_temp: AtomicU64,
    cleaners: Mutex<Vec<JoinHandle<()>>>,
    warnings: Vec<String>,
    pub(crate) last_sync: LastSync,
    pub(crate) sealer: OnceLock<Sealer>,
    pub(crate) whole: Mutex<HashSet<SnapshotId>>,
    /// Held while snapshots are looked through.
    pub(crate) looking: Mutex<()>,
    pub(crate) leases: Leases,
    pub(crate) touched: Touched,
    pub(crate) room: Room,
}

impl Store {
    /// Opens the state directory at the absolute path `root`, with the machine's clock. Makes it when it is missing;
    /// removes what dead processes left behind (large trees in a background thread).
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, Arc::new(SystemClock))
    }

    /// Opens the state directory with another clock.
    pub fn open_with(root: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let store = match Self::open_at(root, &clock) {
            // What removes something has to begin even where nothing is left.
            Err(StoreError::DiskFull { .. }) if reserve::give_up(root) => Self::open_at(root, &clock)?,
            opened => opened?,
        };
        reserve::keep(&store);
        Ok(store)
    }

    fn open_at(root: &Path, clock: &Arc<dyn Clock>) -> Result<Self> {
        if !root.is_absolute() {
            return Err(StoreError::RelativeRoot(root.to_owned()));
        }
        place::check_path(root)?;
        let known = known_format(root)?;
        match known {
            Some(found) => {
                place::check(root)?;
                if found < FORMAT {
                    raise_format(root)?;
                }
            }
            None => create(root)?,
        }
        make_directories(root)?;
        let path = root.join("rb.db");
        let inode = damage::inode_of(&path);
        let reason = if damage::is_marked(&path) {
            "it was found to be damaged".to_owned()
        } else {
            match Self::open_once(root, clock, Vec::new()) {
                Err(StoreError::Damaged { reason, .. }) => reason,
                Ok(store) => {
                    if known.is_none() {
                        // Of a new one it is known what it holds.
                        store.look_at_all()?;
                    }
                    return Ok(store);
                }
                Err(error) => return Err(error),
            }
        };
        let Some(inode) = inode.filter(|_| damage::is_ours(&path)) else {
            damage::unmark(&path);
            return Err(StoreError::Damaged { path, reason });
        };
        damage::put_aside(root, inode)?;
        let warning = format!(
            "the cache database was damaged ({reason}): begins with an empty one, so everything is built again; \
             the damaged one is kept as {}",
            root.join("rb.db.aside").display()
        );
        Self::open_once(root, clock, vec![warning])
    }

    fn open_once(root: &Path, clock: &Arc<dyn Clock>, mut warnings: Vec<String>) -> Result<Self> {
        if !damage::has_database(root)? && damage::replace(root)? {
            warnings.push(format!(
                "the cache database {} is gone: begins with an empty one, so everything is built again",
                root.join("rb.db").display()
            ));
        }
        // The first thing written: what forbids writing shows here, and not as a riddle of the database's.
        let lock = ProcessLock::create(&root.join("locks"))?;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let store = Self {
            inner: Arc::new(Inner {
                database: Database::open(&root.join("rb.db"))?,
                lock,
                root: root.to_owned(),
                directory: File::open(root).context("open", root)?,
                clock: Arc::clone(clock),
                next_temp: AtomicU64::new(0),
                cleaners: Mutex::new(Vec::new()),
                warnings,
                last_sync: LastSync::default(),
                sealer: OnceLock::new(),
                whole: Mutex::new(HashSet::new()),
                looking: Mutex::new(()),
                leases: Leases::open(root)?,
                touched: Touched::default(),
                room: Room::default(),
            }),
        };
        let trash = cleaning::clean(&store)?;
        store.discard(trash);
        Ok(store)
    }

    /// Returns what the user should know of how opening went; mostly nothing.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// Says whether the database was found to be damaged since it was opened, by whomever: the next open begins with an
    /// empty one.
    pub fn is_damaged(&self) -> bool {
        damage::is_marked(&self.root().join("rb.db"))
    }

    /// Removes trees under our `tmp/` in the background.
    pub(crate) fn discard(&self, trash: Vec<PathBuf>) {
        if !trash.is_empty() {
            self.keep_cleaner(cleaning::remove_in_background(trash));
        }
    }

    /// Keeps a cleaner for who waits for it. One that is done goes: until then its whole stack stays in memory.
    fn keep_cleaner(&self, cleaner: Option<JoinHandle<()>>) {
        let mut cleaners = self.inner.cleaners.lock().unwrap_or_else(PoisonError::into_inner);
        cleaners.retain(|cleaner| !cleaner.is_finished());
        cleaners.extend(cleaner);
    }

    /// Looks at every page of the database, by a connection of its own; damage is marked for the next open.
    pub(crate) fn check_in_background(&self) {
        let path = self.root().join("rb.db");
        let body = move || {
            if let Err(error) = Database::open(&path).and_then(|database| database.check()) {
                tracing::warn!(%error, "the database was looked at after a killed process");
            }
        };
        self.keep_cleaner(std::thread::Builder::new().name("rb-store-check".to_owned()).spawn(body).ok());
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

    /// Returns the directory of what steps keep from one build to the next. Its layout is the engine's; nothing in it is
    /// ever taken for half made, so it is filled by renames out of `tmp/`.
    pub fn caches_dir(&self) -> PathBuf {
        self.inner.root.join("caches")
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

    /// Returns the time of the store's clock, in seconds since 1970.
    pub fn now_unix(&self) -> i64 {
        i64::try_from(self.inner.clock.now().as_secs()).unwrap_or(i64::MAX)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Store").field(&self.inner.root).finish()
    }
}

/// Returns the format of a state directory, if `root` is one and we read it.
fn known_format(root: &Path) -> Result<Option<u64>> {
    let path = root.join("format");
    let text = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::io("read", &path, source)),
    };
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match number {
        Some(found) if found > FORMAT => {
            Err(StoreError::NewerFormat { root: root.to_owned(), found, known: FORMAT })
        }
        Some(found) if found > 0 => Ok(Some(found)),
        Some(_) | None => Err(StoreError::BadFormat { path }),
    }
}

/// Makes all that a state directory has, `format` last: whoever sees that file sees the rest. One process at a time.
fn create(root: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(root).context("create", root)?;
    place::check_owner(root)?;
    let directory = File::open(root).context("open", root)?;
    directory.lock().context("lock", root)?;
    if known_format(root)?.is_some() {
        return place::check(root); // another process was faster
    }
    for entry in fs::read_dir(root).context("list", root)? {
        let name = entry.context("list", root)?.file_name();
        if !FILES
            .iter()
            .chain(&DIRECTORIES)
            .chain(&MADE_LATER)
            .any(|known| name.as_encoded_bytes() == known.as_bytes())
        {
            return Err(StoreError::ForeignDirectory(root.to_owned()));
        }
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o700)).context("chmod", root)?;
    place::check(root)?;
    make_directories(root)?;
    place::probe(root, &root.join("tmp").join(format!("probe.{}", std::process::id())))?;
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        fs::write(&path, text).context("write", &path)?;
        File::open(&path).and_then(|file| file.sync_all()).context("sync", &path)
    };
    write("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    write("index.json", "{\"schemaVersion\":2,\"manifests\":[]}")?;
    Database::create(&root.join("rb.db"), damage::last_snapshot(root)?)?;
    // What is promised to be durable is reached through these.
    let parent = root.parent().unwrap_or(root);
    for path in [parent, &root.join("blobs"), &root.join("blobs/sha256"), root] {
        match File::open(path) {
            // Somebody else's folder may be one that we cannot list.
            Err(_) if path == parent => {}
            opened => opened.and_then(|directory| directory.sync_all()).context("sync", path)?,
        }
    }
    write_format(root, &directory)
}

/// Says of an older state directory that it is one of ours from now on: what is new in it, an older program would read
/// wrongly. All that it holds is read as it is.
fn raise_format(root: &Path) -> Result<()> {
    let directory = File::open(root).context("open", root)?;
    directory.lock().context("lock", root)?;
    match known_format(root)? {
        Some(found) if found < FORMAT => write_format(root, &directory),
        Some(_) | None => Ok(()), // another process was faster
    }
}

/// Writes the number of our format; `directory` is the root, locked.
fn write_format(root: &Path, directory: &File) -> Result<()> {
    let (made, path) = (root.join("format.new"), root.join("format"));
    fs::write(&made, format!("{FORMAT}\n")).context("write", &made)?;
    File::open(&made).and_then(|file| file.sync_all()).context("sync", &made)?;
    fs::rename(&made, &path).context("create", &path)?;
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

#[cfg(test)]
mod tests;
