//! Steps that failed, kept for a while so that somebody can look at what they left.
//!
//! A row says what the step was, in the engine's words, and names snapshots: those that the step left, which are the
//! row's own, and those that it read. The newest [`MOST_FAILURES`] are kept, each for [`FAILURE_KEPT`]; who opens the store
//! after that removes them ([`Store::drop_lapsed_failures`]), with the row's own snapshots.
//! **Invariants:** a row and what it names come and go in one transaction; a row of which a snapshot is gone, lost or damaged is
//! told of nobody. What somebody builds on just now (a child of an own snapshot) is not removed.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, Row};

use crate::database::{from_sql, to_sql};
use crate::snapshots::{self, SnapshotId, count_children, require_committed};
use crate::tombstones::GoneReason;
use crate::{Result, Store, cleaning};

/// How long a step that failed is kept.
pub const FAILURE_KEPT: Duration = Duration::from_secs(60 * 60);

/// How many are kept at most.
pub const MOST_FAILURES: u64 = 5;

/// What is kept of a step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRow {
    /// Names it; never given twice in one database.
    pub id: u64,
    /// The step, as the engine wrote it.
    pub step: Vec<u8>,
    /// What else the engine wrote of it.
    pub about: String,
    /// When it failed, in seconds since 1970.
    pub failed_unix: i64,
    /// It failed in this process.
    pub is_ours: bool,
}

const COLUMNS: &str = "SELECT id, step, about, failed_unix, owner FROM failures";

impl Store {
    /// Keeps a step that failed. `own` are the snapshots it left, which go with it; `read` are those that it needs and
    /// others keep. All are committed. Of more than [`MOST_FAILURES`] the oldest go.
    pub fn keep_failure(
        &self,
        step: &[u8],
        about: &str,
        own: &[SnapshotId],
        read: &[SnapshotId],
    ) -> Result<u64> {
        let id = self.inner.database.write(|transaction| {
            transaction
                .prepare_cached("INSERT INTO failures (owner, step, about, failed_unix) VALUES (?, ?, ?, ?)")?
                .execute((self.inner.lock.name(), step, about, self.now_unix()))?;
            let id = transaction.last_insert_rowid();
            let mut insert = transaction.prepare_cached(
                "INSERT INTO failure_snapshots (failure, place, snapshot, own) VALUES (?, ?, ?, ?)",
            )?;
            let own = own.iter().map(|snapshot| (snapshot, true));
            let all = own.chain(read.iter().map(|snapshot| (snapshot, false)));
            for (place, (snapshot, is_own)) in (0_u64..).zip(all) {
                require_committed(transaction, *snapshot)?;
                insert.execute((id, to_sql(place), snapshot.to_sql(), is_own))?;
            }
            Ok(from_sql(id))
        })?;
        self.drop_lapsed_failures()?;
        Ok(id)
    }

    /// Returns what is kept, newest first.
    pub fn failures(&self) -> Result<Vec<FailureRow>> {
        let mut kept = self.inner.database.read(|connection| {
            let mut query = connection
                .prepare_cached(&format!("{COLUMNS} WHERE failed_unix > ? ORDER BY id DESC LIMIT ?"))?;
            let rows =
                query.query_map((self.lapsed_before(), to_sql(MOST_FAILURES)), |row| self.read(row))?;
            Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?)
        })?;
        let mut whole = Vec::with_capacity(kept.len());
        for row in kept.drain(..) {
            if self.has_all(row.id)? {
                whole.push(row);
            }
        }
        Ok(whole)
    }

    /// Returns what is kept under a name; nothing of what lapsed, or of which something is gone.
    pub fn failure(&self, id: u64) -> Result<Option<FailureRow>> {
        let found = self.inner.database.read(|connection| {
            let mut query =
                connection.prepare_cached(&format!("{COLUMNS} WHERE id = ? AND failed_unix > ?"))?;
            Ok(query.query_row((to_sql(id), self.lapsed_before()), |row| self.read(row)).optional()?)
        })?;
        match found {
            Some(row) if self.has_all(row.id)? => Ok(Some(row)),
            Some(_) | None => Ok(None),
        }
    }

    /// Removes what was kept long enough, and what is too much. What somebody looks at stays for the next call.
    pub fn drop_lapsed_failures(&self) -> Result<()> {
        let lapsed: Vec<u64> = self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id FROM failures WHERE failed_unix <= ?1
                 OR id NOT IN (SELECT id FROM failures ORDER BY id DESC LIMIT ?2)",
            )?;
            let rows = query.query_map((self.lapsed_before(), to_sql(MOST_FAILURES)), |row| row.get(0))?;
            Ok(rows.map(|id| id.map(from_sql)).collect::<rusqlite::Result<_>>()?)
        })?;
        lapsed.into_iter().try_for_each(|id| self.remove_failure(id).map(drop))
    }

    /// Removes what is kept under a name, and the snapshots that the step left; `false` where somebody builds on one of them
    /// just now.
    pub fn remove_failure(&self, id: u64) -> Result<bool> {
        let going = self.going(GoneReason::Removed);
        let own = self.inner.database.write(|transaction| {
            let own: Vec<SnapshotId> = transaction
                .prepare_cached(
                    "SELECT snapshot FROM failure_snapshots WHERE failure = ? AND own = 1 ORDER BY snapshot DESC",
                )?
                .query_map([to_sql(id)], |row| Ok(SnapshotId::from_sql(row.get(0)?)))?
                .collect::<rusqlite::Result<_>>()?;
            for snapshot in &own {
                if count_children(transaction, *snapshot)? > 0 {
                    return Ok(None);
                }
            }
            transaction.prepare_cached("DELETE FROM failures WHERE id = ?")?.execute([to_sql(id)])?;
            own.iter().try_for_each(|snapshot| self.begin_removal(transaction, *snapshot, going))?;
            Ok(Some(own))
        })?;
        let Some(own) = own else { return Ok(false) };
        for snapshot in own {
            let trash = cleaning::take_directory(self, snapshot)?;
            self.inner.database.write(|transaction| snapshots::forget(transaction, snapshot, going))?;
            self.discard(trash.into_iter().collect());
        }
        Ok(true)
    }

    /// Says whether all that a kept step left, and read, is there as it was.
    fn has_all(&self, id: u64) -> Result<bool> {
        let (named, there): (i64, Vec<SnapshotId>) = self.inner.database.read(|connection| {
            let named = connection
                .prepare_cached("SELECT count(*) FROM failure_snapshots WHERE failure = ?")?
                .query_row([to_sql(id)], |row| row.get(0))?;
            let mut query = connection.prepare_cached(
                "SELECT snapshot FROM failure_snapshots JOIN snapshots ON snapshots.id = snapshot
                 WHERE failure = ? AND state = 1",
            )?;
            let there = query.query_map([to_sql(id)], |row| Ok(SnapshotId::from_sql(row.get(0)?)))?;
            Ok((named, there.collect::<rusqlite::Result<_>>()?))
        })?;
        if from_sql(named) != there.len() as u64 {
            return Ok(false);
        }
        for snapshot in there {
            if !self.is_whole(snapshot)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What failed no later has been kept long enough.
    fn lapsed_before(&self) -> i64 {
        self.now_unix().saturating_sub(i64::try_from(FAILURE_KEPT.as_secs()).unwrap_or(i64::MAX))
    }

    fn read(&self, row: &Row<'_>) -> rusqlite::Result<FailureRow> {
        let owner: String = row.get(4)?;
        Ok(FailureRow {
            id: from_sql(row.get(0)?),
            step: row.get(1)?,
            about: row.get(2)?,
            failed_unix: row.get(3)?,
            is_ours: owner == self.inner.lock.name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::FixedClock;

    fn open_at(root: &std::path::Path, seconds: u64) -> Store {
        Store::open_with(root, Arc::new(FixedClock(Duration::from_secs(seconds)))).expect("opens")
    }

    fn commit(store: &Store, parent: Option<SnapshotId>) -> SnapshotId {
        let id = store.new_snapshot(parent).expect("starts");
        store.commit_snapshot(id, 0, None).expect("commits")
    }

    fn ids(store: &Store) -> Vec<u64> {
        store.failures().expect("reads").into_iter().map(|row| row.id).collect()
    }

    fn is_there(store: &Store, id: SnapshotId) -> bool {
        store.snapshot(id).expect("reads").is_some() && store.snapshot_dir(id).exists()
    }

    #[test]
    fn what_failed_is_kept_for_its_time_and_goes_with_what_it_left() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = open_at(root.path(), 10_000);
        let base = commit(&store, None);
        let left = commit(&store, Some(base));
        let id = store.keep_failure(b"step", "about", &[left], &[base]).expect("keeps");
        let row = store.failure(id).expect("reads").expect("is kept");
        assert_eq!(
            (row.step.as_slice(), row.about.as_str(), row.failed_unix),
            (&b"step"[..], "about", 10_000)
        );
        assert!(row.is_ours);
        drop(store);
        let later = 10_000 + FAILURE_KEPT.as_secs();
        let store = open_at(root.path(), later - 1);
        store.drop_lapsed_failures().expect("looks");
        assert!(store.failure(id).expect("reads").is_some_and(|row| !row.is_ours));
        drop(store);
        let store = open_at(root.path(), later);
        // Told of nobody from now on, removed by who looks.
        assert_eq!(store.failure(id).expect("reads"), None);
        assert!(ids(&store).is_empty() && is_there(&store, left));
        store.drop_lapsed_failures().expect("removes");
        assert!(!is_there(&store, left) && is_there(&store, base));
    }

    #[test]
    fn the_newest_are_kept() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = open_at(root.path(), 10_000);
        let left: Vec<SnapshotId> = (0..MOST_FAILURES + 2).map(|_| commit(&store, None)).collect();
        let keep = |left: &SnapshotId| store.keep_failure(b"", "", &[*left], &[]).expect("keeps");
        let all: Vec<u64> = left.iter().map(keep).collect();
        assert_eq!(ids(&store), all.iter().rev().copied().take(MOST_FAILURES as usize).collect::<Vec<_>>());
        assert!(left.iter().take(2).all(|left| !is_there(&store, *left)));
        assert!(left.iter().skip(2).all(|left| is_there(&store, *left)));
    }

    #[test]
    fn what_somebody_looks_at_stays() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = open_at(root.path(), 10_000);
        let left = commit(&store, None);
        let id = store.keep_failure(b"", "", &[left], &[]).expect("keeps");
        let child = store.new_snapshot(Some(left)).expect("starts");
        assert!(!store.remove_failure(id).expect("asks"));
        assert_eq!(ids(&store), [id]);
        store.delete_snapshot(child).expect("removes");
        assert!(store.remove_failure(id).expect("removes"));
        assert!(ids(&store).is_empty() && !is_there(&store, left));
    }

    #[test]
    fn what_lacks_something_is_told_of_nobody() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = open_at(root.path(), 10_000);
        let (read, left) = (commit(&store, None), commit(&store, None));
        let id = store.keep_failure(b"", "", &[left], &[read]).expect("keeps");
        std::fs::remove_dir_all(store.snapshot_dir(read)).expect("removes");
        assert_eq!(store.failure(id).expect("reads"), None);
        assert!(ids(&store).is_empty());
        // It goes all the same.
        assert!(store.remove_failure(id).expect("removes"));
        assert!(!is_there(&store, left));
    }
}
