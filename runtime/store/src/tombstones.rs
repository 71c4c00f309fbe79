//! Tombstones: when and why a record went, so that whoever misses it can be told.
//!
//! One per key, written in the transaction that removes the record, taken away by the next one that is put under the key,
//! forgotten after a while. They decide nothing.

use rb_oci::Digest;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::snapshots::SnapshotId;
use crate::{Result, Store};

/// After so long nobody asks any more: 90 days.
const KEPT_SECONDS: i64 = 90 * 24 * 60 * 60;

/// Why a record is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoneReason {
    /// It, or a tree that it named, was removed, nobody wrote down for what.
    Removed,
    /// That was to keep the whole within its bound.
    Cap,
    /// That was to keep pieces of one kind within theirs.
    Quota,
    /// Nobody had used it for so long.
    Age,
    /// Somebody asked for it.
    Pruned,
    /// The machine went down before a tree that it named had reached the disk.
    Unsynced,
    /// A directory that it needs is gone.
    Lost,
    /// A tree that it named was found changed.
    Corrupt,
}

impl GoneReason {
    fn to_sql(self) -> i64 {
        match self {
            Self::Removed => 0,
            Self::Unsynced => 1,
            Self::Lost => 2,
            Self::Corrupt => 3,
            Self::Cap => 4,
            Self::Quota => 5,
            Self::Age => 6,
            Self::Pruned => 7,
        }
    }

    fn from_sql(number: i64) -> Self {
        match number {
            1 => Self::Unsynced,
            2 => Self::Lost,
            3 => Self::Corrupt,
            4 => Self::Cap,
            5 => Self::Quota,
            6 => Self::Age,
            7 => Self::Pruned,
            _ => Self::Removed,
        }
    }
}

/// What is remembered of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Why it went.
    pub reason: GoneReason,
    /// When, in seconds since 1970.
    pub gone_unix: i64,
}

/// Why and when something is being removed.
pub(crate) type Going = Tombstone;

impl Store {
    /// Returns when and why the record of `key` went; `None` where there is one, or never was, or that was long ago.
    pub fn tombstone(&self, key: &Digest) -> Result<Option<Tombstone>> {
        self.inner.database.read(|connection| {
            let mut query =
                connection.prepare_cached("SELECT reason, gone_unix FROM tombstones WHERE key = ?")?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Tombstone { reason: GoneReason::from_sql(row.get(0)?), gone_unix: row.get(1)? })
            };
            Ok(query.query_row([key.as_bytes()], read).optional()?)
        })
    }

    pub(crate) fn going(&self, reason: GoneReason) -> Going {
        Tombstone { reason, gone_unix: self.now_unix() }
    }
}

/// Remembers the keys of all records that name a snapshot.
pub(crate) fn bury_records_of(transaction: &Transaction<'_>, id: SnapshotId, going: Going) -> Result<()> {
    let buried = transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO tombstones (key, reason, gone_unix)
             SELECT key, ?, ? FROM record_keys
             WHERE result IN (SELECT result FROM result_snapshots WHERE snapshot = ?)",
        )?
        .execute((going.reason.to_sql(), going.gone_unix, id.to_sql()))?;
    if buried > 0 { forget_old(transaction, going) } else { Ok(()) }
}

/// Remembers one key.
pub(crate) fn bury(transaction: &Transaction<'_>, key: &Digest, going: Going) -> Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO tombstones (key, reason, gone_unix) VALUES (?, ?, ?)")?
        .execute((key.as_bytes(), going.reason.to_sql(), going.gone_unix))?;
    forget_old(transaction, going)
}

/// Forgets that the record of a key went: there is a new one.
pub(crate) fn unbury(transaction: &Transaction<'_>, key: &Digest) -> Result<()> {
    transaction.prepare_cached("DELETE FROM tombstones WHERE key = ?")?.execute([key.as_bytes()])?;
    Ok(())
}

fn forget_old(transaction: &Transaction<'_>, now: Going) -> Result<()> {
    transaction
        .prepare_cached("DELETE FROM tombstones WHERE gone_unix < ?")?
        .execute([now.gone_unix.saturating_sub(KEPT_SECONDS)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::FixedClock;

    fn open_at(root: &std::path::Path, seconds: u64) -> Store {
        Store::open_with(root, Arc::new(FixedClock(Duration::from_secs(seconds)))).expect("opens")
    }

    fn commit(store: &Store) -> SnapshotId {
        let id = store.new_snapshot(None).expect("starts");
        store.commit_snapshot(id, 0, None).expect("commits")
    }

    #[test]
    fn what_went_is_remembered_until_it_is_back() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = open_at(root.path(), 1000);
        let (key, alias, free) = (Digest::of("key"), Digest::of("alias"), Digest::of("free"));
        let tree = commit(&store);
        store.put_record(&key, b"v", &[tree]).expect("puts");
        store.link_record(&alias, &key).expect("links");
        store.put_record(&free, b"v", &[]).expect("puts");
        assert_eq!(store.tombstone(&key).expect("reads"), None);
        store.delete_snapshot(tree).expect("removes");
        store.remove_record(&free).expect("removes");
        let gone = Some(Tombstone { reason: GoneReason::Removed, gone_unix: 1000 });
        for key in [&key, &alias, &free] {
            assert_eq!(store.tombstone(key).expect("reads"), gone);
        }
        store.put_record(&key, b"v", &[]).expect("puts");
        assert_eq!(store.tombstone(&key).expect("reads"), None);
        assert_eq!(store.tombstone(&Digest::of("never")).expect("reads"), None);
    }

    #[test]
    fn old_ones_are_forgotten() {
        let root = tempfile::tempdir().expect("temp dir");
        let (old, new) = (Digest::of("old"), Digest::of("new"));
        for (key, seconds) in [(&old, 0), (&new, KEPT_SECONDS.unsigned_abs() + 1)] {
            let store = open_at(root.path(), seconds);
            store.put_record(key, b"v", &[]).expect("puts");
            store.remove_record(key).expect("removes");
            assert!(store.tombstone(key).expect("reads").is_some());
        }
        let store = open_at(root.path(), 0);
        assert_eq!(store.tombstone(&old).expect("reads"), None);
        assert!(store.tombstone(&new).expect("reads").is_some());
    }

    #[test]
    fn a_lost_tree_is_told_from_a_removed_one() {
        let root = tempfile::tempdir().expect("temp dir");
        let store = open_at(root.path(), 5);
        let (key, tree) = (Digest::of("key"), commit(&store));
        store.put_record(&key, b"v", &[tree]).expect("puts");
        std::fs::remove_dir_all(store.snapshot_dir(tree)).expect("removes");
        assert_eq!(store.record(&key).expect("reads"), None);
        let gone = Some(Tombstone { reason: GoneReason::Lost, gone_unix: 5 });
        assert_eq!(store.tombstone(&key).expect("reads"), gone);
    }
}
