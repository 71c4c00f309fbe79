//! Snapshots whose directory is gone although their row is there: removed by hand, or by the repair of a disk.
//!
//! Who asks for a snapshot by a record or its content is told of none that cannot be mounted: itself and all under it
//! have their `fs`. One that lost it is forgotten with its records and all that builds on it, and so made again. What a
//! process writes on top of it right now is left to that process, and so are the snapshots between: they only
//! cannot be found any more.

use std::fs;
use std::io;
use std::sync::PoisonError;

use crate::snapshots::{self, SnapshotId};
use crate::tombstones::GoneReason;
use crate::{Result, Store, StoreError, cleaning};

impl Store {
    /// Says whether `id` and all snapshots under it have their directories, each looked at once in the life of this
    /// handle. Where one has not, it is forgotten with all that builds on it.
    pub(crate) fn is_whole(&self, id: SnapshotId) -> Result<bool> {
        let known = || self.inner.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&id) {
            return Ok(true);
        }
        let mut chain = self.chain(id)?;
        if chain.is_empty() {
            return Ok(false); // another process removed it just now
        }
        if let Some(end) = chain.iter().position(|id| known().contains(id)) {
            chain.truncate(end);
        }
        let mut lowest_lost = None;
        for id in &chain {
            if !self.has_directory(*id)? {
                lowest_lost = Some(*id);
            }
        }
        match lowest_lost {
            Some(lost) => self.forget_bad(lost, GoneReason::Lost).map(|()| false),
            None => {
                known().extend(chain);
                Ok(true)
            }
        }
    }

    /// Returns a snapshot and those under it, the lowest last; nothing where there is none.
    fn chain(&self, id: SnapshotId) -> Result<Vec<SnapshotId>> {
        self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached(
                "WITH RECURSIVE chain (id, parent) AS (
                    SELECT id, parent FROM snapshots WHERE id = ?
                    UNION SELECT below.id, below.parent FROM snapshots AS below JOIN chain ON below.id = chain.parent
                ) SELECT id FROM chain ORDER BY id DESC",
            )?;
            let rows = query.query_map([id.to_sql()], |row| Ok(SnapshotId::from_sql(row.get(0)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn has_directory(&self, id: SnapshotId) -> Result<bool> {
        let path = self.snapshot_dir(id).join("fs");
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(metadata.is_dir()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(source) => Err(StoreError::io("stat", &path, source)),
        }
    }

    /// Forgets a snapshot that cannot be served, and all that builds on it.
    pub(crate) fn forget_bad(&self, lost: SnapshotId, reason: GoneReason) -> Result<()> {
        let going = self.going(reason);
        let mut family = Vec::new();
        let dropped = self.inner.database.write(|transaction| {
            let mut dropped = Vec::new();
            family = snapshots::family(transaction, lost)?;
            for id in &family {
                // Active ones are their writer's; one that another process removes loses its directory first.
                if !snapshots::is_committed(transaction, *id)? {
                    continue;
                }
                if snapshots::count_children(transaction, *id)? == 0 {
                    self.begin_removal(transaction, *id, going)?;
                    dropped.push(*id);
                } else {
                    snapshots::hide(transaction, *id, going)?;
                }
            }
            Ok(dropped)
        })?;
        tracing::warn!(%lost, ?reason, dropped = dropped.len(), "a snapshot cannot be served and is forgotten");
        self.inner
            .whole
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known| !family.contains(known));
        let mut trash = Vec::new();
        for id in &dropped {
            trash.extend(cleaning::take_directory(self, *id)?);
        }
        self.inner.database.write(|transaction| {
            dropped.iter().try_for_each(|id| snapshots::forget(transaction, *id, going))
        })?;
        self.discard(trash);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
