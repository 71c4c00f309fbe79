//! Rows about snapshots, and the directories they stand for.
//!
//! **active** (one process writes it) → **committed** (nobody ever writes it again) → **removing** → gone. The row
//! is there before the directory and goes after it, so each directory has a row; what is not committed carries
//! the lock name of the process at work, and whoever opens the store after that process died removes it.
//! A parent is committed and stays while it has children. With the commit goes a seal: what the files look like now, so that
//! a change behind our back is noticed before they are served (`lost`).

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use crate::database::{from_sql, to_sql};
use crate::error::Context as _;
use crate::leases::Place;
use crate::lost::Seal;
use crate::space::items::Item;
use crate::space::uses;
use crate::tombstones::{self, Going, GoneReason};
use crate::{Result, Store, StoreError, cleaning};

/// Names a snapshot in one store; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

impl fmt::Display for SnapshotId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl SnapshotId {
    pub(crate) fn to_sql(self) -> i64 {
        to_sql(self.0)
    }

    pub(crate) fn from_sql(number: i64) -> Self {
        Self(from_sql(number))
    }
}

/// How far a snapshot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotState {
    /// A process writes it.
    Active,
    /// Complete and never written again.
    Committed,
    /// A process removes it.
    Removing,
}

/// What the store knows of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its name.
    pub id: SnapshotId,
    /// The snapshot under it.
    pub parent: Option<SnapshotId>,
    /// How far it is.
    pub state: SnapshotState,
    /// Size of its own files, without its parents'.
    pub size_bytes: u64,
    /// Digest of the whole tree, as the snapshot crate defines it.
    pub content_key: Option<[u8; 32]>,
    /// Digest of its own files, where the content key is not made from them.
    pub own_key: Option<[u8; 32]>,
    /// Whether it is known what its files looked like when it was committed.
    pub is_sealed: bool,
    /// It and its parent are one layer together: what it changes was never in an image of its own.
    pub continues: bool,
}

/// What is known of a snapshot when its writing ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Size of its own files, without its parents'.
    pub size_bytes: u64,
    /// Digest of the whole tree, as the snapshot crate defines it; or what else stands for it, such as an image's chain id.
    pub content_key: Option<[u8; 32]>,
    /// Digest of its own files, where the content key is not made from them.
    pub own_key: Option<[u8; 32]>,
    /// What its files look like; without it they are taken as they are.
    pub seal: Option<Seal>,
}

/// What the folders around a snapshot's files take.
const FOLDERS_BYTES: u64 = 3 * 4096;

const COLUMNS: &str =
    "SELECT id, parent, state, size_bytes, content_key, own_key, seal IS NOT NULL, continues FROM snapshots";

impl Store {
    /// Starts a snapshot on top of a committed one and makes its empty directories `fs` (0755) and `work`. Refused where
    /// the disk is almost full ([`Store::check_space`]).
    pub fn new_snapshot(&self, parent: Option<SnapshotId>) -> Result<SnapshotId> {
        self.admit(0);
        self.check_space()?;
        let id = self.inner.database.write(|transaction| {
            if let Some(parent) = parent {
                require_committed(transaction, parent)?;
            }
            let mut insert = transaction.prepare_cached(
                "INSERT INTO snapshots (parent, state, owner, created_unix) VALUES (?, 0, ?, ?)",
            )?;
            insert.execute((parent.map(SnapshotId::to_sql), self.inner.lock.name(), self.now_unix()))?;
            Ok(SnapshotId::from_sql(transaction.last_insert_rowid()))
        })?;
        // From before it is committed, when others find it.
        self.inner.leases.take(Place::Snapshot(id))?;
        self.inner.touched.begin(id);
        self.begin_writing();
        if let Some(parent) = parent {
            self.touch(Item::Layer(parent));
        }
        let directory = self.snapshot_dir(id);
        if let Err(error) = self.make_directories(id, &directory) {
            // The first error tells; a row that stays is cleaned after this process.
            drop(self.delete_snapshot(id));
            return Err(error);
        }
        Ok(id)
    }

    fn make_directories(&self, id: SnapshotId, directory: &Path) -> Result<()> {
        match fs::create_dir(directory) {
            Ok(()) => {}
            // Power loss took back the row of an older snapshot, and not its directory.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(old) = cleaning::take_directory(self, id)? {
                    self.remove_tree(&old)?;
                }
                fs::create_dir(directory).context("create", directory)?;
            }
            Err(error) => return Err(error).context("create", directory),
        }
        for (name, mode) in [("fs", 0o755), ("work", 0o700)] {
            let path = directory.join(name);
            fs::create_dir(&path).context("create", &path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context("chmod", &path)?;
        }
        Ok(())
    }

    /// As [`Self::commit`], of a snapshot whose files are looked at here.
    pub fn commit_snapshot(
        &self,
        id: SnapshotId,
        size_bytes: u64,
        content_key: Option<[u8; 32]>,
    ) -> Result<SnapshotId> {
        let seal = self.seal_of(id)?;
        self.commit(id, &Ended { size_bytes, content_key, own_key: None, seal })
    }

    /// Ends the writing of `id`, and seals it. Returns the snapshot that stands for the content: `id`, or an older one with
    /// the same content key; then `id` stays active, for the caller to delete.
    pub fn commit(&self, id: SnapshotId, end: &Ended) -> Result<SnapshotId> {
        self.remove_tree(&self.snapshot_dir(id).join("work"))?;
        loop {
            let standing = self.commit_or_older(id, end)?;
            if standing == id {
                self.end_writing();
                self.touch_made(Item::Layer(id), self.inner.touched.end(id));
            }
            // An older one that is lost or damaged is forgotten, so the next round does not meet it.
            if standing == id || self.is_whole(standing)? {
                self.sync_when_due();
                return Ok(standing);
            }
        }
    }

    fn commit_or_older(&self, id: SnapshotId, end: &Ended) -> Result<SnapshotId> {
        let Ended { size_bytes, content_key, own_key, seal } = end;
        self.inner.database.write(|transaction| {
            self.require_mine(transaction, id)?;
            if let Some(older) =
                content_key.as_ref().map(|key| by_content(transaction, key)).transpose()?.flatten()
            {
                return Ok(older);
            }
            let mut update = transaction.prepare_cached(
                "UPDATE snapshots SET state = 1, owner = NULL, size_bytes = ?, content_key = ?, own_key = ?, seal = ?
                 WHERE id = ?",
            )?;
            update.execute((to_sql(*size_bytes), content_key, own_key, seal, id.to_sql()))?;
            uses::add_occupied(transaction, size_bytes.saturating_add(FOLDERS_BYTES))?;
            Ok(id)
        })
    }

    /// Puts a snapshot that this process writes on another parent, as one that is a layer of its own or one that
    /// continues its parent's. `false`, and nothing is done, where there is no such parent: what stands on a snapshot is
    /// younger than it.
    pub fn move_onto(&self, id: SnapshotId, parent: Option<SnapshotId>, continues: bool) -> Result<bool> {
        self.inner.database.write(|transaction| {
            self.require_mine(transaction, id)?;
            if let Some(parent) = parent
                && (parent >= id || !is_committed(transaction, parent)?)
            {
                return Ok(false);
            }
            let mut update = transaction.prepare_cached(
                "UPDATE snapshots SET parent = ?, continues = ? WHERE id = ? AND state = 0",
            )?;
            Ok(update.execute((parent.map(SnapshotId::to_sql), continues, id.to_sql()))? == 1)
        })
    }

    /// Returns the row of a snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Option<SnapshotRow>> {
        self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached(&format!("{COLUMNS} WHERE id = ?"))?;
            Ok(query.query_row([id.to_sql()], read_row).optional()?)
        })
    }

    /// Returns the rows of all snapshots, oldest first.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRow>> {
        self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached(&format!("{COLUMNS} ORDER BY id"))?;
            Ok(query.query_map([], read_row)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Returns the committed snapshot with this content key. One that is lost or damaged, or whose parents are, is
    /// forgotten.
    pub fn snapshot_by_content(&self, key: &[u8; 32]) -> Result<Option<SnapshotId>> {
        let Some(id) = self.inner.database.read(|connection| by_content(connection, key))? else {
            return Ok(None);
        };
        Ok(self.is_whole(id)?.then_some(id))
    }

    /// Removes a snapshot, the records that name it and its directory; `false` where there is none. One with children
    /// stays (`HasChildren`), as does one that another process writes (`NotActive`).
    pub fn delete_snapshot(&self, id: SnapshotId) -> Result<bool> {
        self.delete_snapshot_for(id, GoneReason::Removed)
    }

    /// The same, and says why.
    pub(crate) fn delete_snapshot_for(&self, id: SnapshotId, reason: GoneReason) -> Result<bool> {
        let found = self.inner.database.write(|transaction| {
            let Some(row) = transaction
                .prepare_cached(&format!("{COLUMNS} WHERE id = ?"))?
                .query_row([id.to_sql()], read_row)
                .optional()?
            else {
                return Ok(None);
            };
            if row.state != SnapshotState::Committed {
                self.require_mine(transaction, id)?;
            }
            let children = count_children(transaction, id)?;
            if children > 0 {
                return Err(StoreError::HasChildren { id, children });
            }
            self.begin_removal(transaction, id, self.going(reason))?;
            Ok(Some(row.state))
        })?;
        let Some(state) = found else { return Ok(false) };
        if state == SnapshotState::Active {
            self.end_writing();
            self.inner.touched.end(id);
        }
        let trash = cleaning::take_directory(self, id)?;
        self.inner.database.write(|transaction| forget(transaction, id, self.going(reason)))?;
        self.let_go(id);
        trash.iter().try_for_each(|directory| self.remove_tree(directory))?;
        Ok(true)
    }

    /// Returns the directory of a snapshot: `fs` in it, and `work` while it is active.
    pub fn snapshot_dir(&self, id: SnapshotId) -> PathBuf {
        self.root().join("snapshots").join(id.to_string())
    }

    /// Marks a snapshot without children as one that this process removes, and removes the records that name it.
    pub(crate) fn begin_removal(
        &self,
        transaction: &Transaction<'_>,
        id: SnapshotId,
        going: Going,
    ) -> Result<()> {
        forget_records(transaction, id, going)?;
        transaction
            .prepare_cached(
                "UPDATE snapshots SET state = 2, owner = ?, parent = NULL, content_key = NULL WHERE id = ?",
            )?
            .execute((self.inner.lock.name(), id.to_sql()))?;
        Ok(())
    }

    /// Refuses a snapshot that is not active or being removed in this process's name.
    fn require_mine(&self, transaction: &Transaction<'_>, id: SnapshotId) -> Result<()> {
        let owner: Option<Option<String>> = transaction
            .prepare_cached("SELECT owner FROM snapshots WHERE id = ? AND state <> 1")?
            .query_row([id.to_sql()], |row| row.get(0))
            .optional()?;
        let mine = owner.flatten().is_some_and(|owner| owner == self.inner.lock.name());
        if mine { Ok(()) } else { Err(StoreError::NotActive(id)) }
    }
}

/// Refuses a snapshot that is not committed.
pub(crate) fn require_committed(connection: &Connection, id: SnapshotId) -> Result<()> {
    if is_committed(connection, id)? { Ok(()) } else { Err(StoreError::UnknownSnapshot(id)) }
}

pub(crate) fn is_committed(connection: &Connection, id: SnapshotId) -> Result<bool> {
    let mut query =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM snapshots WHERE id = ? AND state = 1)")?;
    Ok(query.query_row([id.to_sql()], |row| row.get(0))?)
}

/// Leaves a snapshot where it is and lets nobody find it: neither by a record nor by its content. What is yet committed on
/// top of it is not served either: no snapshot has an empty seal.
pub(crate) fn hide(transaction: &Transaction<'_>, id: SnapshotId, going: Going) -> Result<()> {
    forget_records(transaction, id, going)?;
    transaction
        .prepare_cached("UPDATE snapshots SET content_key = NULL, seal = x'' WHERE id = ?")?
        .execute([id.to_sql()])?;
    Ok(())
}

/// Removes a row whose directory is gone or about to be taken, and the records that name it.
pub(crate) fn forget(transaction: &Transaction<'_>, id: SnapshotId, going: Going) -> Result<()> {
    forget_records(transaction, id, going)?;
    transaction.prepare_cached("DELETE FROM snapshots WHERE id = ?")?.execute([id.to_sql()])?;
    Ok(())
}

/// Removes a row and all that builds on it.
pub(crate) fn forget_with_children(
    transaction: &Transaction<'_>,
    id: SnapshotId,
    going: Going,
) -> Result<()> {
    family(transaction, id)?.into_iter().try_for_each(|id| forget(transaction, id, going))
}

/// Returns a snapshot and all that builds on it, children before their parents.
pub(crate) fn family(transaction: &Transaction<'_>, id: SnapshotId) -> Result<Vec<SnapshotId>> {
    // Children have larger ids than their parents: descending order meets the leaves first.
    let mut query = transaction.prepare_cached(
        "WITH RECURSIVE family (id) AS (
            VALUES (?) UNION SELECT snapshots.id FROM snapshots JOIN family ON snapshots.parent = family.id
        ) SELECT id FROM family ORDER BY id DESC",
    )?;
    let rows = query.query_map([id.to_sql()], |row| Ok(SnapshotId::from_sql(row.get(0)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(crate) fn count_children(transaction: &Transaction<'_>, id: SnapshotId) -> Result<u64> {
    let mut query = transaction.prepare_cached("SELECT count(*) FROM snapshots WHERE parent = ?")?;
    Ok(from_sql(query.query_row([id.to_sql()], |row| row.get(0))?))
}

fn forget_records(transaction: &Transaction<'_>, id: SnapshotId, going: Going) -> Result<()> {
    tombstones::bury_records_of(transaction, id, going)?;
    transaction
        .prepare_cached(
            "DELETE FROM results WHERE id IN (SELECT result FROM result_snapshots WHERE snapshot = ?)",
        )?
        .execute([id.to_sql()])?;
    Ok(())
}

fn by_content(connection: &Connection, key: &[u8; 32]) -> Result<Option<SnapshotId>> {
    let id: Option<i64> = connection
        .prepare_cached("SELECT id FROM snapshots WHERE content_key = ? AND state = 1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(id.map(SnapshotId::from_sql))
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<SnapshotRow> {
    Ok(SnapshotRow {
        id: SnapshotId::from_sql(row.get(0)?),
        parent: row.get::<_, Option<i64>>(1)?.map(SnapshotId::from_sql),
        state: match row.get(2)? {
            0 => SnapshotState::Active,
            1 => SnapshotState::Committed,
            _ => SnapshotState::Removing,
        },
        size_bytes: from_sql(row.get(3)?),
        content_key: row.get(4)?,
        own_key: row.get(5)?,
        is_sealed: row.get(6)?,
        continues: row.get(7)?,
    })
}

#[cfg(test)]
mod tests;
