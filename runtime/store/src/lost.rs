//! Snapshots that cannot be served although their row is there: removed or changed by hand, or by a disk and its repair.
//!
//! Who asks for a snapshot by a record or its content is told of none that is not as it was committed: itself and all
//! under it have their `fs`, and what the files look like is what their seal says. What a seal is made of is the snapshot
//! crate's knowledge ([`Store::seal_with`]). One that is lost or damaged is forgotten with its records and all that builds
//! on it, and so made again. What a process writes on top of it right now is left to that process, and so are the
//! snapshots between: they only cannot be found any more.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::error::Context as _;
use crate::leases::Place;
use crate::snapshots::{self, SnapshotId};
use crate::space::items::Item;
use crate::tombstones::GoneReason;
use crate::{Result, Store, StoreError, cleaning};

/// Digest of what the files of a snapshot look like from outside.
pub type Seal = [u8; 16];

/// Returns the seal of the snapshot that lies in a directory: of its `fs`, and of the files beside it.
pub type Sealer = fn(&Path) -> io::Result<Seal>;

/// Says whether an error of reading what was once written whole means that it is not whole any more.
pub fn shows_damage(error: &io::Error) -> bool {
    const TOLD: [Errno; 7] = [
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::LOOP,
        // What file systems answer when checksums fail, or the disk does.
        Errno::IO,
        Errno::UCLEAN,
        Errno::BADMSG,
        Errno::STALE,
    ];
    let kind = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput
    );
    kind || Errno::from_io_error(error).is_some_and(|error| TOLD.contains(&error))
}

impl Store {
    /// From now on snapshots are sealed when they are committed, and compared with their seal before they are served, each
    /// once in the life of this handle. The first call counts.
    pub fn seal_with(&self, sealer: Sealer) {
        // A second one would be the same.
        let _first = self.inner.sealer.set(sealer);
    }

    /// Returns the seal that `id` has now; none where nobody said what that is.
    pub(crate) fn seal_of(&self, id: SnapshotId) -> Result<Option<Seal>> {
        let directory = self.snapshot_dir(id);
        let seal = self.inner.sealer.get().map(|sealer| sealer(&directory));
        seal.transpose().context("look through", &directory)
    }

    /// Says whether `id` and all snapshots under it are as they were committed, each looked at once in the life of this
    /// handle. Where one is not, it is forgotten with all that builds on it.
    ///
    /// It is held from then on: as long as this handle lives it is not removed to make room.
    pub fn is_whole(&self, id: SnapshotId) -> Result<bool> {
        self.hold(id)?;
        Ok(match self.look_at(id)? {
            Looked::Whole => true,
            Looked::Unknown => false,
            Looked::Bad(bad, reason) => {
                self.forget_bad(bad, reason)?;
                false
            }
        })
    }

    /// Looks at `id` and all snapshots under it, the lowest first.
    pub(crate) fn look_at(&self, id: SnapshotId) -> Result<Looked> {
        if self.known().contains(&id) {
            return Ok(Looked::Whole);
        }
        // One at a time: what somebody else looks through just now is known then. A thread that looks lends its work to
        // others and waits for them, so nobody may come here in the midst of such work.
        let _turn = self.inner.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = self.chain(id)?;
        if chain.is_empty() {
            return Ok(Looked::Unknown); // another process removed it just now
        }
        let known = chain.iter().position(|(id, _)| self.known().contains(id)).unwrap_or(chain.len());
        for (id, seal) in chain[..known].iter().rev() {
            if let Some(reason) = self.fault_of(*id, seal.as_deref())? {
                return Ok(Looked::Bad(*id, reason));
            }
            self.known().insert(*id);
        }
        Ok(Looked::Whole)
    }

    /// Holds a snapshot, which need not be there; what was known of it while it was not held is forgotten.
    pub(crate) fn hold(&self, id: SnapshotId) -> Result<()> {
        if self.inner.leases.take(Place::Snapshot(id))? {
            self.known().remove(&id);
        }
        self.touch(Item::Layer(id));
        Ok(())
    }

    /// Forgets a snapshot that is gone.
    pub(crate) fn let_go(&self, id: SnapshotId) {
        self.known().remove(&id);
        self.inner.leases.give_up(Place::Snapshot(id));
    }

    fn known(&self) -> MutexGuard<'_, std::collections::HashSet<SnapshotId>> {
        self.inner.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a snapshot and those under it, the lowest last, with their seals; nothing where there is none.
    fn chain(&self, id: SnapshotId) -> Result<Vec<(SnapshotId, Option<Vec<u8>>)>> {
        self.inner.database.read(|connection| {
            let mut query = connection.prepare_cached(
                "WITH RECURSIVE chain (id, parent, seal) AS (
                    SELECT id, parent, seal FROM snapshots WHERE id = ?
                    UNION SELECT below.id, below.parent, below.seal
                    FROM snapshots AS below JOIN chain ON below.id = chain.parent
                ) SELECT id, seal FROM chain ORDER BY id DESC",
            )?;
            let read = |row: &rusqlite::Row<'_>| Ok((SnapshotId::from_sql(row.get(0)?), row.get(1)?));
            let rows = query.query_map([id.to_sql()], read)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Returns what is wrong with the files of a snapshot.
    fn fault_of(&self, id: SnapshotId, seal: Option<&[u8]>) -> Result<Option<GoneReason>> {
        if !self.has_directory(id)? {
            return Ok(Some(GoneReason::Lost));
        }
        let Some((sealer, seal)) = self.inner.sealer.get().zip(seal) else { return Ok(None) };
        let directory = self.snapshot_dir(id);
        match sealer(&directory) {
            Ok(now) => Ok((now != seal).then_some(GoneReason::Corrupt)),
            Err(error) if shows_damage(&error) => Ok(Some(GoneReason::Corrupt)),
            Err(error) => Err(error).context("look through", &directory),
        }
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

    /// Forgets a snapshot that cannot be served, and all that builds on it. Returns which of them were committed.
    pub(crate) fn forget_bad(&self, bad: SnapshotId, reason: GoneReason) -> Result<Vec<SnapshotId>> {
        let going = self.going(reason);
        let mut family = Vec::new();
        let (dropped, hidden) = self.inner.database.write(|transaction| {
            let (mut dropped, mut hidden) = (Vec::new(), Vec::new());
            family = snapshots::family(transaction, bad)?;
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
                    hidden.push(*id);
                }
            }
            Ok((dropped, hidden))
        })?;
        let what = match reason {
            GoneReason::Lost => "a layer is gone from the disk",
            GoneReason::Corrupt => "a layer on the disk is not what was built",
            GoneReason::Removed
            | GoneReason::Cap
            | GoneReason::Quota
            | GoneReason::Age
            | GoneReason::Pruned
            | GoneReason::Unsynced => "a layer cannot be served",
        };
        let with_it = (dropped.len() + hidden.len()).saturating_sub(1);
        tracing::warn!(
            snapshot = %bad,
            "{what}: it is dropped, with {with_it} that build on it, and made again when it is wanted"
        );
        self.known().retain(|known| !family.contains(known));
        let mut trash = Vec::new();
        for id in &dropped {
            trash.extend(cleaning::take_directory(self, *id)?);
        }
        self.inner.database.write(|transaction| {
            dropped.iter().try_for_each(|id| snapshots::forget(transaction, *id, going))
        })?;
        self.discard(trash);
        Ok([dropped, hidden].concat())
    }
}

/// What a look at a snapshot and those under it showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// All are as they were committed.
    Whole,
    /// There is no such snapshot.
    Unknown,
    /// The lowest that is not, and why.
    Bad(SnapshotId, GoneReason),
}

#[cfg(test)]
mod tests;
