//! What dead processes left behind, and what a lost power supply took away.
//!
//! At each open: some directory listings and one indexed query; where they show owners that are dead, those owners'
//! active snapshots and temporary files are renamed into our own `tmp/` and removed in the background. Once per
//! boot: snapshots that were not synced before it are dropped, and rows and directories are compared. Before that the
//! database is checked; after a process that was killed, which should do it no harm, that is done in the background.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rusqlite::{OptionalExtension as _, Transaction};

use crate::error::Context as _;
use crate::locks::{self, Estate};
use crate::snapshots::{self, SnapshotId};
use crate::tombstones::GoneReason;
use crate::{Result, Store, StoreError, remove};

/// Takes what is dead out of sight, in this process's name. Returns the trees to remove.
pub(crate) fn clean(store: &Store) -> Result<Vec<PathBuf>> {
    let mut trash = Vec::new();
    distrust_after_boot(store, &mut trash)?;
    let mut leftovers = BTreeMap::<String, Vec<PathBuf>>::new();
    for owner in owners_of_unfinished(store)? {
        leftovers.entry(owner).or_default();
    }
    let temporary = store.root().join("tmp");
    for name in list(&temporary)? {
        // Names of another shape are not ours: an owner that never was is dead.
        let owner = name.to_str().and_then(|name| name.split_once('.')).map(|(owner, _)| owner);
        let owner = owner.filter(|owner| locks::is_name(owner)).unwrap_or("nobody");
        leftovers.entry(owner.to_owned()).or_default().push(temporary.join(&name));
    }
    let lock_directory = store.root().join("locks");
    for name in
        list(&lock_directory)?.iter().filter_map(|name| name.to_str()).filter(|name| locks::is_name(name))
    {
        leftovers.entry(name.to_owned()).or_default();
    }
    leftovers.remove(store.inner.lock.name());
    let going = store.going(GoneReason::Lost);
    let mut somebody_was_killed = false;
    for (owner, files) in leftovers {
        let Some(estate) = Estate::claim(&lock_directory, &owner)? else { continue };
        somebody_was_killed |= estate.was_killed();
        tracing::debug!(owner, files = files.len(), "cleans after a dead process");
        // Read only now: what it committed before it died is not unfinished.
        for id in unfinished_snapshots(store, &owner)? {
            trash.extend(take_directory(store, id)?);
            store.inner.database.write(|transaction| snapshots::forget(transaction, id, going))?;
        }
        for file in files {
            trash.extend(take(store, &file)?);
        }
        estate.close()?;
    }
    crate::partial::clean(store);
    if somebody_was_killed {
        store.check_in_background();
    }
    Ok(trash)
}

/// Says whether another process, or another handle of this one, has the store open.
fn others_live(store: &Store) -> Result<bool> {
    let directory = store.root().join("locks");
    for name in list(&directory)? {
        let Some(name) = name.to_str().filter(|name| locks::is_name(name)) else { continue };
        if name != store.inner.lock.name() && Estate::claim(&directory, name)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes trees in a thread that nobody waits for; what it does not reach is found by a later open.
pub(crate) fn remove_in_background(trash: Vec<PathBuf>) -> Option<JoinHandle<()>> {
    let body = move || {
        for tree in trash {
            if let Err(error) = remove::remove_tree(&tree) {
                tracing::warn!(path = %tree.display(), %error, "leftovers stay");
            }
        }
    };
    std::thread::Builder::new().name("rb-store-cleaner".to_owned()).spawn(body).ok()
}

fn owners_of_unfinished(store: &Store) -> Result<Vec<String>> {
    store.inner.database.read(|connection| {
        let mut query = connection
            .prepare_cached("SELECT DISTINCT owner FROM snapshots WHERE state <> 1 AND owner IS NOT NULL")?;
        let rows = query.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    })
}

fn unfinished_snapshots(store: &Store, owner: &str) -> Result<Vec<SnapshotId>> {
    store.inner.database.read(|connection| {
        let mut query =
            connection.prepare_cached("SELECT id FROM snapshots WHERE state <> 1 AND owner = ?")?;
        let rows = query.query_map([owner], |row| Ok(SnapshotId::from_sql(row.get(0)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    })
}

/// Renames a snapshot's directory into our `tmp/`; `None` when it is not there.
pub(crate) fn take_directory(store: &Store, id: SnapshotId) -> Result<Option<PathBuf>> {
    take(store, &store.snapshot_dir(id))
}

fn take(store: &Store, path: &Path) -> Result<Option<PathBuf>> {
    let mine = store.temp_path();
    match fs::rename(path, &mine) {
        Ok(()) => Ok(Some(mine)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("rename", path, source)),
    }
}

fn list(directory: &Path) -> Result<Vec<OsString>> {
    let entries = fs::read_dir(directory).context("list", directory)?;
    entries.map(|entry| Ok(entry.context("list", directory)?.file_name())).collect()
}

/// On the first open after a boot, drops each snapshot that was not synced before, and each row without a directory
/// or directory without a row. Every process does this before it writes, so what is unsynced then is of an older boot.
fn distrust_after_boot(store: &Store, trash: &mut Vec<PathBuf>) -> Result<()> {
    let boot = boot_id();
    let seen = |connection: &rusqlite::Connection| -> Result<Option<String>> {
        let mut query = connection.prepare_cached("SELECT value FROM meta WHERE name = 'boot'")?;
        Ok(query.query_row([], |row| row.get(0)).optional()?)
    };
    let known = store.inner.database.read(seen)?;
    if known.as_deref() == Some(&boot) {
        return Ok(());
    }
    if known.is_some() {
        store.inner.database.check()?;
    }
    // The write lock is held throughout: no other process makes snapshots meanwhile.
    let taken = store.inner.database.write(|transaction| {
        let before = seen(transaction)?;
        if before.as_deref() == Some(&boot) {
            return Ok(Vec::new());
        }
        // Under a new database, a directory without a row may be that of a process which still has the lost one open.
        let taken =
            if before.is_none() && others_live(store)? { Vec::new() } else { reconcile(store, transaction)? };
        let mut put = transaction.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)")?;
        put.execute(("boot", &boot))?;
        put.execute(("booted_ns", store.now_ns().to_string()))?;
        Ok(taken)
    })?;
    trash.extend(taken);
    Ok(())
}

/// Returns when this boot was first seen, in nanoseconds since 1970.
pub(crate) fn booted_ns(connection: &rusqlite::Connection) -> Result<i64> {
    let mut query = connection.prepare_cached("SELECT value FROM meta WHERE name = 'booted_ns'")?;
    let seen: Option<String> = query.query_row([], |row| row.get(0)).optional()?;
    Ok(seen.and_then(|seen| seen.parse().ok()).unwrap_or(0))
}

fn reconcile(store: &Store, transaction: &Transaction<'_>) -> Result<Vec<PathBuf>> {
    let directory = store.root().join("snapshots");
    let names = list(&directory)?;
    let on_disk: BTreeSet<&OsStr> = names.iter().map(OsString::as_os_str).collect();
    let committed: Vec<(SnapshotId, bool)> = transaction
        .prepare("SELECT id, synced = 1 FROM snapshots WHERE state = 1")?
        .query_map([], |row| Ok((SnapshotId::from_sql(row.get(0)?), row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, synced) in committed {
        let there = on_disk.contains(OsStr::new(&id.to_string()));
        if !(there && synced) {
            tracing::debug!(%id, there, synced, "distrusts a snapshot of an earlier boot");
            let reason = if there { GoneReason::Unsynced } else { GoneReason::Lost };
            snapshots::forget_with_children(transaction, id, store.going(reason))?;
        }
    }
    let mut known = transaction.prepare("SELECT EXISTS (SELECT 1 FROM snapshots WHERE id = ?)")?;
    let mut taken = Vec::new();
    for name in &names {
        let kept = match name.to_str().and_then(|name| name.parse().ok()).map(SnapshotId) {
            Some(id) => known.query_row([id.to_sql()], |row| row.get(0))?,
            None => false,
        };
        if !kept {
            taken.extend(take(store, &directory.join(name))?);
        }
    }
    Ok(taken)
}

/// Returns the kernel's name for this boot; the same for all where it has none.
pub fn boot_id() -> String {
    match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => text.trim().to_owned(),
        Err(error) => {
            tracing::warn!(%error, "cannot tell one boot from another: snapshots are trusted after power loss");
            "unknown".to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
