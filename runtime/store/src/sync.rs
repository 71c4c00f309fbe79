//! Snapshots reach the disk after they are served; what has not reached it is distrusted after another boot.
//!
//! Files of a snapshot are many and are not synced one by one: the whole file system is, once for all of them, and then their
//! rows say so. That takes as long as the disk needs, so nobody waits for it. While a process works for long, a thread
//! does it every now and then; what is left at its end is for a process apart ([`Store::begin_sync`],
//! [`sync_apart`]), one at a time for a state directory.
//! **Invariants:** a row says `synced` only after its files are; the order is kept by SQLite's log and the calls here. What was
//! committed before a process found another at it is seen by that one: it looks again once it has let go of the lock.
//! Where the disk failed, what was not synced by then is never said to be: a later sync would not tell of it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;

use crate::database::Database;
use crate::error::Context as _;
use crate::{Result, Store, StoreError};

/// What is lost at most when the machine goes down in a long build, besides what takes longer to write.
const SYNC_EVERY: Duration = Duration::from_secs(30);

/// How long a process apart rests before it syncs what others committed meanwhile; twice that the next time.
const REST: Duration = Duration::from_millis(500);

/// When the handle synced last, and whether it is at it.
pub(crate) struct LastSync {
    begun: Mutex<Instant>,
    running: AtomicBool,
}

impl Default for LastSync {
    fn default() -> Self {
        Self { begun: Mutex::new(Instant::now()), running: AtomicBool::new(false) }
    }
}

impl Store {
    /// Writes all committed snapshots through to the disk. Until then another boot distrusts them. Costs as much as
    /// the file system has unwritten.
    pub fn sync_snapshots(&self) -> Result<()> {
        self.inner.last_sync.begin_now();
        sync_once(&self.inner.database, &self.inner.directory, self.root()).map(drop)
    }

    /// Says whether a process apart should be started to sync what this one leaves behind: one that gets the returned
    /// file, which is the root, and hands it to [`sync_apart`]. `None` where nothing is to be done, or somebody is at it.
    ///
    /// To be called when this handle has committed its last snapshot; the database's log is left to that process too. `also`
    /// says that there is more to be synced than snapshots.
    pub fn begin_sync(&self, also: bool) -> Result<Option<File>> {
        self.note_uses()?;
        let also = also || self.is_tidying_due()?;
        let unsynced = self.inner.database.read(|connection| {
            let query = "SELECT EXISTS (SELECT 1 FROM snapshots WHERE state = 1 AND synced = 0)";
            Ok(connection.query_row(query, [], |row| row.get::<_, bool>(0))?)
        })?;
        if !(unsynced || also) || lock(self.root())?.is_none() {
            return Ok(None);
        }
        self.inner.database.read(|connection| {
            Ok(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)?)
        })?;
        // The very description: what fails to reach the disk since it was opened is reported through it.
        self.inner.directory.try_clone().map(Some).context("open", self.root())
    }

    /// Starts the same in a thread, if that was not done for a while. Called whenever a snapshot is committed.
    pub(crate) fn sync_when_due(&self) {
        let last = &self.inner.last_sync;
        if last.is_due(SYNC_EVERY) && !last.running.swap(true, Ordering::AcqRel) {
            last.begin_now();
            if let Err(error) = self.sync_in_background() {
                last.running.store(false, Ordering::Release);
                tracing::warn!(%error, "snapshots are not synced yet");
            }
        }
    }

    fn sync_in_background(&self) -> Result<()> {
        let unsynced = unsynced(&self.inner.database)?;
        let root = self.root();
        let directory: File = self.inner.directory.try_clone().context("open", root)?;
        // The handle may go meanwhile, and gives its lock back then; what is not marked is synced again.
        let inner = Arc::downgrade(&self.inner);
        let body = move || {
            let synced = rustix::fs::syncfs(&directory);
            let Some(inner) = inner.upgrade() else { return };
            let marked =
                mark(&inner.database, &unsynced, synced.is_ok()).and_then(|()| sync_log(&inner.root));
            if let Err(error) = synced.map_err(|error| error.to_string()) {
                tracing::warn!(error, "snapshots cannot be synced");
            } else if let Err(error) = marked {
                tracing::warn!(%error, "snapshots are not synced yet");
            }
            inner.last_sync.running.store(false, Ordering::Release);
        };
        let thread = std::thread::Builder::new().name("rb-store-sync".to_owned()).spawn(body);
        thread.map(drop).context("start a thread to sync", root)
    }
}

/// Syncs what was committed in the state directory at `root` until nothing is left, unless somebody is at it. `directory`
/// is what [`Store::begin_sync`] returned. Makes nothing: where the state directory has gone, there is nothing to do.
pub fn sync_apart(root: &Path, directory: &File) -> Result<()> {
    let is_there = || is_there(root, directory);
    let open = || if is_there() { Database::open(&root.join("rb.db")).map(Some) } else { Ok(None) };
    let mut rest = REST;
    loop {
        let Some(lock) = lock(root)? else { return Ok(()) };
        while let Some(database) = open()? {
            if sync_once(&database, directory, root)? == 0 {
                break;
            }
            // Others may be building: they would wait for a disk that is synced all the time.
            drop(database);
            if is_there() {
                std::thread::sleep(rest);
                rest = (rest * 2).min(SYNC_EVERY);
            }
        }
        drop(lock);
        // Who came between has found the lock taken, and went.
        match open()? {
            Some(database) if !unsynced(&database)?.is_empty() => {}
            Some(_) | None => return Ok(()),
        }
    }
}

/// Says whether `directory` is the state directory at `root`.
pub(crate) fn is_there(root: &Path, directory: &File) -> bool {
    let file = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let here = fs::metadata(root).ok().map(file);
    here.is_some() && here == directory.metadata().ok().map(file) && root.join("rb.db").exists()
}

/// Takes the lock of the one who syncs; `None` while another has it. It is that of the directory `locks`, so that
/// no file is needed for it.
fn lock(root: &Path) -> Result<Option<File>> {
    let path = root.join("locks");
    let directory = match File::open(&path) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::io("open", &path, source)),
    };
    match directory.try_lock() {
        Ok(()) => Ok(Some(directory)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(StoreError::io("lock", &path, source)),
    }
}

/// Syncs what is committed now. Returns how many snapshots that were.
fn sync_once(database: &Database, directory: &File, root: &Path) -> Result<usize> {
    let unsynced = unsynced(database)?;
    if unsynced.is_empty() {
        // Another process may have marked them a moment ago.
        return sync_log(root).map(|()| 0);
    }
    let synced = rustix::fs::syncfs(directory);
    mark(database, &unsynced, synced.is_ok())?;
    synced.context("sync the file system of", root)?;
    sync_log(root)?;
    Ok(unsynced.len())
}

/// Writes the database's log through, with the marks in it: what nobody knows to be on the disk might as well not be. Not
/// by a checkpoint: others could not use the connection meanwhile.
fn sync_log(root: &Path) -> Result<()> {
    let path = root.join("rb.db-wal");
    match File::open(&path) {
        // To close it takes no locks away from this process: those of SQLite are on other files.
        Ok(log) => log.sync_data().context("sync", &path),
        // Whoever took it away has brought all of it into the database before.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StoreError::io("open", &path, source)),
    }
}

impl LastSync {
    fn is_due(&self, every: Duration) -> bool {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= every
    }

    fn begin_now(&self) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

fn unsynced(database: &Database) -> Result<Vec<i64>> {
    database.read(|connection| {
        let mut query =
            connection.prepare_cached("SELECT id FROM snapshots WHERE state = 1 AND synced = 0")?;
        Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    })
}

/// Notes that snapshots are on the disk (1), or that nobody can tell any more (2): the kernel reports what it
/// could not write once, and takes it for written then.
fn mark(database: &Database, ids: &[i64], is_synced: bool) -> Result<()> {
    database.write(|transaction| {
        let mut update =
            transaction.prepare_cached("UPDATE snapshots SET synced = ? WHERE id = ? AND synced = 0")?;
        let state = if is_synced { 1 } else { 2 };
        ids.iter().try_for_each(|id| update.execute((state, id)).map(drop))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(store: &Store) {
        let id = store.new_snapshot(None).expect("starts");
        store.commit_snapshot(id, 0, None).expect("commits");
    }

    fn count(store: &Store) -> usize {
        unsynced(&store.inner.database).expect("reads").len()
    }

    #[test]
    fn syncing_is_remembered() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        commit(&store);
        assert_eq!(count(&store), 1);
        store.sync_snapshots().expect("syncs");
        assert_eq!(count(&store), 0);
        store.sync_snapshots().expect("has nothing to do");
    }

    #[test]
    fn what_the_disk_failed_to_take_is_never_said_to_be_on_it() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        commit(&store);
        mark(&store.inner.database, &unsynced(&store.inner.database).expect("reads"), false).expect("marks");
        commit(&store);
        store.sync_snapshots().expect("syncs");
        let query = "SELECT group_concat(synced) FROM (SELECT synced FROM snapshots ORDER BY id)";
        let said: String = store
            .inner
            .database
            .read(|connection| Ok(connection.query_row(query, [], |row| row.get(0))?))
            .expect("reads");
        assert_eq!(said, "2,1");
    }

    #[test]
    fn a_commit_after_a_while_syncs_in_the_background_what_was_committed_by_then() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        commit(&store);
        assert_eq!(count(&store), 1);
        let long_ago = Instant::now().checked_sub(SYNC_EVERY).expect("the machine runs longer");
        *store.inner.last_sync.begun.lock().expect("is whole") = long_ago;
        commit(&store);
        // The next one is not due, and nobody waits for the thread but this test.
        while store.inner.last_sync.running.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(count(&store), 0);
        commit(&store);
        assert!(!store.inner.last_sync.running.load(Ordering::Acquire));
        assert_eq!(count(&store), 1);
    }

    #[test]
    fn what_is_left_is_synced_apart_by_one_and_the_log_goes_with_it() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        assert!(store.begin_sync(false).expect("looks").is_none(), "there is nothing to do");
        commit(&store);
        let directory = store.begin_sync(false).expect("looks").expect("there is");
        let held = lock(root.path()).expect("locks").expect("is free");
        assert!(store.begin_sync(false).expect("looks").is_none(), "another is at it");
        sync_apart(root.path(), &directory).expect("leaves it to the other");
        assert_eq!(count(&store), 1);
        drop((held, store));
        assert!(root.path().join("rb.db-wal").exists(), "who leaves does not wait for the disk");
        sync_apart(root.path(), &directory).expect("syncs");
        assert!(!root.path().join("rb.db-wal").exists());
        assert_eq!(count(&Store::open(root.path()).expect("opens")), 0);
    }

    #[test]
    fn what_is_committed_meanwhile_gets_its_turn() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        commit(&store);
        let directory = store.begin_sync(false).expect("looks").expect("there is");
        std::thread::scope(|threads| {
            let apart = threads.spawn(|| sync_apart(root.path(), &directory));
            for _ in 0..20 {
                commit(&store);
                std::thread::sleep(Duration::from_millis(5));
            }
            let found_another = store.begin_sync(false).expect("looks").is_none();
            apart.join().expect("ends").expect("syncs");
            assert!(!found_another || count(&store) == 0);
        });
    }

    #[test]
    fn a_state_directory_that_has_gone_is_not_made_again() {
        let root = tempfile::tempdir().expect("temp dir");
        let path = root.path().join("state");
        let store = Store::open(&path).expect("opens");
        commit(&store);
        let directory = store.begin_sync(false).expect("looks").expect("there is");
        drop(store);
        fs::remove_dir_all(&path).expect("removes");
        sync_apart(&path, &directory).expect("has nothing to do");
        assert!(!path.exists());
        // Another one in its place is not what was to be synced.
        fs::create_dir_all(path.join("locks")).expect("makes");
        sync_apart(&path, &directory).expect("has nothing to do");
        assert_eq!(fs::read_dir(&path).expect("lists").count(), 1);
    }
}
