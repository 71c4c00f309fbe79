//! Snapshots reach the disk after they are served; what has not reached it is distrusted after another boot.
//!
//! Files of a snapshot are many and are not synced one by one: the whole file system is, once for all of them, and then their
//! rows say so. While a process works for long, that is done by a thread every now and then, so that neither a
//! crash nor the end of the build meets much that is not written.
//! **Invariant:** a row says `synced` only after its files are; the order is kept by SQLite's log and the two calls here.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Context as _;
use crate::open::Inner;
use crate::{Result, Store};

/// What is lost at most when the machine goes down in a long build, besides what takes longer to write.
const SYNC_EVERY: Duration = Duration::from_secs(30);

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
    /// the file system has unwritten; meant for the end of a build, off the user's way.
    pub fn sync_snapshots(&self) -> Result<()> {
        let unsynced = self.inner.unsynced()?;
        if unsynced.is_empty() {
            return Ok(());
        }
        self.inner.last_sync.begin_now();
        rustix::fs::syncfs(&self.inner.directory).context("sync the file system of", self.root())?;
        self.inner.mark_synced(&unsynced)
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
        let unsynced = self.inner.unsynced()?;
        let root = self.root();
        let directory: File = self.inner.directory.try_clone().context("open", root)?;
        // The handle may go meanwhile, and gives its lock back then; what is not marked is synced again.
        let inner = Arc::downgrade(&self.inner);
        let body = move || {
            let synced = rustix::fs::syncfs(&directory);
            let Some(inner) = inner.upgrade() else { return };
            let marked = match synced {
                Ok(()) => inner.mark_synced(&unsynced).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = marked {
                tracing::warn!(error, "snapshots are not synced yet");
            }
            inner.last_sync.running.store(false, Ordering::Release);
        };
        let thread = std::thread::Builder::new().name("rb-store-sync".to_owned()).spawn(body);
        thread.map(drop).context("start a thread to sync", root)
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

impl Inner {
    fn unsynced(&self) -> Result<Vec<i64>> {
        self.database.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT id FROM snapshots WHERE state = 1 AND synced = 0")?;
            Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn mark_synced(&self, ids: &[i64]) -> Result<()> {
        self.database.write(|transaction| {
            let mut update = transaction.prepare_cached("UPDATE snapshots SET synced = 1 WHERE id = ?")?;
            ids.iter().try_for_each(|id| update.execute([id]).map(drop))?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(store: &Store) {
        let id = store.new_snapshot(None).expect("starts");
        store.commit_snapshot(id, 0, None).expect("commits");
    }

    fn unsynced(store: &Store) -> usize {
        store.inner.unsynced().expect("reads").len()
    }

    #[test]
    fn syncing_is_remembered() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        commit(&store);
        assert_eq!(unsynced(&store), 1);
        store.sync_snapshots().expect("syncs");
        assert_eq!(unsynced(&store), 0);
        store.sync_snapshots().expect("has nothing to do");
    }

    #[test]
    fn a_commit_after_a_while_syncs_in_the_background_what_was_committed_by_then() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = Store::open(root.path()).expect("opens");
        commit(&store);
        assert_eq!(unsynced(&store), 1);
        let long_ago = Instant::now().checked_sub(SYNC_EVERY).expect("the machine runs longer");
        *store.inner.last_sync.begun.lock().expect("is whole") = long_ago;
        commit(&store);
        // The next one is not due, and nobody waits for the thread but this test.
        while store.inner.last_sync.running.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(unsynced(&store), 0);
        commit(&store);
        assert!(!store.inner.last_sync.running.load(Ordering::Acquire));
        assert_eq!(unsynced(&store), 1);
    }
}
