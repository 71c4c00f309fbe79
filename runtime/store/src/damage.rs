//! A database that is damaged, or gone: put aside, and an empty one begun.
//!
//! Damage shows when the database is opened, when it is checked after another boot or a killed process, or when a page is
//! read. What shows late is marked, and the next open acts on it. The damaged file is kept beside the new one
//! until the next such accident. Blobs stay, their names are their digests; snapshots have lost their rows and are removed
//! by the cleaning that follows. A file that never was a database is not ours to move: that is an error.
//! **Invariant:** a database is moved only while the root is locked and only if it is the very file (by inode) that
//! was found damaged, so that nobody moves the new one of somebody faster.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::database::Database;
use crate::error::Context as _;
use crate::{Result, StoreError};

/// The first bytes of each database of SQLite. Source: sqlite.org/fileformat2.html, "The Database Header".
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Ids left out when a database is made anew beside existing snapshots.
const SPARE_IDS: u64 = 1 << 20;

/// Says whether there is a database; an empty file is none.
pub(crate) fn has_database(root: &Path) -> Result<bool> {
    let path = root.join("rb.db");
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len() > 0),
        Ok(_) => Err(StoreError::Damaged { path, reason: "it is not a file".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::io("stat", &path, source)),
    }
}

/// Remembers that the database at `path`, which is the file `inode`, is damaged.
pub(crate) fn mark(path: &Path, inode: u64) {
    if inode_of(path) == Some(inode) {
        // Where this fails, whoever meets the damage next says so again.
        drop(fs::write(mark_path(path), inode.to_string()));
    }
}

/// Takes the mark away: the file is not one to put aside.
pub(crate) fn unmark(path: &Path) {
    drop(fs::remove_file(mark_path(path)));
}

/// Says whether the database at `path` is marked as damaged.
pub(crate) fn is_marked(path: &Path) -> bool {
    let marked = fs::read_to_string(mark_path(path)).ok().and_then(|text| text.parse().ok());
    marked.is_some() && marked == inode_of(path)
}

fn mark_path(path: &Path) -> PathBuf {
    path.with_extension("db.damaged")
}

/// Returns the number of the file at `path`.
pub(crate) fn inode_of(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Says whether the file began as a database of SQLite, however it ends now. Zeros are what power loss leaves.
/// To close the file takes SQLite's locks on it away from this process, so only what is damaged is looked at.
pub(crate) fn is_ours(path: &Path) -> bool {
    let mut first = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut first));
    read.is_ok() && (MAGIC.starts_with(&first) || first.iter().all(|byte| *byte == 0))
}

/// Puts the database aside, if it is still the file `inode`, and makes an empty one.
pub(crate) fn put_aside(root: &Path, inode: u64) -> Result<()> {
    let path = root.join("rb.db");
    let directory = File::open(root).context("open", root)?;
    directory.lock().context("lock", root)?;
    if inode_of(&path) == Some(inode) {
        let aside = root.join("rb.db.aside");
        remove_if_there(&root.join("rb.db.aside-wal"))?;
        fs::rename(&path, &aside).context("rename", &path)?;
        // Its log tells whoever looks into it more. Were it left behind, it would be removed below.
        match fs::rename(root.join("rb.db-wal"), root.join("rb.db.aside-wal")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("rename", &root.join("rb.db-wal"), error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    if !has_database(root)? {
        make_anew(root, &directory)?;
    }
    remove_if_there(&mark_path(&path))
}

/// Makes an empty database in place of one that somebody removed or emptied: all is forgotten, nothing is broken.
/// `false` where another process was faster.
pub(crate) fn replace(root: &Path) -> Result<bool> {
    let directory = File::open(root).context("open", root)?;
    directory.lock().context("lock", root)?;
    if has_database(root)? {
        return Ok(false);
    }
    make_anew(root, &directory).map(|()| true)
}

/// The caller holds the lock on `directory`, which is the root.
fn make_anew(root: &Path, directory: &File) -> Result<()> {
    // A process that still has the old files open keeps them to itself.
    for name in ["rb.db", "rb.db-wal", "rb.db-shm", "rb.db-journal"] {
        remove_if_there(&root.join(name))?;
    }
    // Made aside, so that nobody opens half a database.
    let made = root.join("rb.db.new");
    drop(fs::remove_file(&made)); // where it stays, making it says so
    Database::create(&made, last_snapshot(root)?)?;
    let path = root.join("rb.db");
    fs::rename(&made, &path).context("create", &path)?;
    directory.sync_all().context("sync", root)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns an id below which directories may lie, or be made by a process that does not know this database; 0 where
/// there are none.
pub(crate) fn last_snapshot(root: &Path) -> Result<u64> {
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
