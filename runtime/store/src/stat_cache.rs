//! The stat cache: digests of local files that did not change since they were hashed.
//!
//! One map per directory, loaded whole before a walk; what changed is written in one transaction after it. A file that
//! changed within the last two seconds is not remembered: it may change again without a new time
//! stamp, as git's "racy" entries do. Nor is what was remembered later than now believed: the clock was set back since,
//! and a file written meanwhile may have got the very stamp of the one that was hashed. Nor, after another boot, what was
//! remembered soon after the file changed: the machine may have gone down with the new stamp on the disk and not the bytes.

use std::collections::HashMap;

use rusqlite::OptionalExtension as _;

use crate::{Result, Store};

/// Coarsest time stamps of file systems in use.
const RACY_NS: i64 = 2_000_000_000;

/// What a kernel may take to write a changed file to the disk, with time to spare; Linux begins after 30 seconds.
const UNWRITTEN_NS: i64 = 120_000_000_000;

/// Bytes of a row: five numbers, when it was made, and a digest.
const ENTRY_BYTES: usize = 6 * 8 + 32;

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStamp {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size.
    pub size_bytes: u64,
    /// Time of the last change of the content, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Time of the last change of content or metadata; no program can set it.
    pub changed_ns: i64,
}

/// What is known of the files below one directory.
#[derive(Debug, Default)]
pub struct StatCache {
    entries: HashMap<Box<[u8]>, (FileStamp, [u8; 32])>,
}

/// A file that was hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatChange {
    /// Its path below the directory, as bytes.
    pub path: Vec<u8>,
    /// Taken before it was read.
    pub stamp: FileStamp,
    /// What the caller's hash says.
    pub digest: [u8; 32],
}

impl StatCache {
    /// Returns the digest of the file at `path` if its stamp is still that of the hashed one.
    pub fn get(&self, path: &[u8], stamp: &FileStamp) -> Option<[u8; 32]> {
        self.entries.get(path).filter(|(known, _)| known == stamp).map(|(_, digest)| *digest)
    }

    /// Says whether anything is known of `path`, be it outdated.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.entries.contains_key(path)
    }

    /// Returns the known paths that `keep` refuses, sorted: those to remove after a walk that did not meet them.
    pub fn paths_without(&self, keep: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut gone: Vec<_> =
            self.entries.keys().filter(|path| !keep(path)).map(|path| path.to_vec()).collect();
        gone.sort_unstable();
        gone
    }

    /// Returns the number of files known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether no file is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Store {
    /// Loads what is known of a directory; `directory_key` names it in the caller's way.
    pub fn stat_cache(&self, directory_key: &str) -> Result<StatCache> {
        let now_ns = self.now_ns();
        self.inner.database.read(|connection| {
            let mut entries = HashMap::new();
            let booted_ns = crate::cleaning::booted_ns(connection)?;
            let mut query = connection.prepare_cached(
                "SELECT path, entry FROM stat_entries
                 WHERE directory = (SELECT id FROM stat_directories WHERE key = ?)",
            )?;
            let mut rows = query.query([directory_key])?;
            while let Some(row) = rows.next()? {
                let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
                if let (Some((stamp, made_ns, digest)), Ok(path)) = (decode(bytes), row.get_ref(0)?.as_blob())
                    && made_ns <= now_ns
                    && (made_ns >= booted_ns || is_written(&stamp, made_ns))
                {
                    entries.insert(path.into(), (stamp, digest));
                }
            }
            Ok(StatCache { entries })
        })
    }

    /// Remembers changed files and forgets removed ones, in one transaction. Files too young to be trusted are
    /// forgotten.
    pub fn update_stat_cache(
        &self,
        directory_key: &str,
        changed: &[StatChange],
        removed: &[Vec<u8>],
    ) -> Result<()> {
        if changed.is_empty() && removed.is_empty() {
            return Ok(());
        }
        let now_ns = self.now_ns();
        self.inner.database.write(|transaction| {
            transaction
                .prepare_cached("INSERT INTO stat_directories (key) VALUES (?) ON CONFLICT (key) DO NOTHING")?
                .execute([directory_key])?;
            let directory: Option<i64> = transaction
                .prepare_cached("SELECT id FROM stat_directories WHERE key = ?")?
                .query_row([directory_key], |row| row.get(0))
                .optional()?;
            let mut put = transaction.prepare_cached(
                "INSERT OR REPLACE INTO stat_entries (directory, path, entry) VALUES (?, ?, ?)",
            )?;
            let mut remove =
                transaction.prepare_cached("DELETE FROM stat_entries WHERE directory = ? AND path = ?")?;
            for change in changed {
                if is_racy(&change.stamp, now_ns) {
                    remove.execute((directory, &change.path))?;
                } else {
                    put.execute((directory, &change.path, encode(&change.stamp, now_ns, &change.digest)))?;
                }
            }
            for path in removed {
                remove.execute((directory, path))?;
            }
            Ok(())
        })
    }

    pub(crate) fn now_ns(&self) -> i64 {
        i64::try_from(self.clock().now().as_nanos()).unwrap_or(i64::MAX)
    }
}

/// Says whether the file may have changed after it was hashed without a new stamp. Times in the future are no sign of
/// age either.
fn is_racy(stamp: &FileStamp, now_ns: i64) -> bool {
    stamp.changed_ns.max(stamp.modified_ns).saturating_add(RACY_NS) > now_ns
}

/// Says whether what was hashed was on the disk for certain by then.
fn is_written(stamp: &FileStamp, made_ns: i64) -> bool {
    stamp.changed_ns.saturating_add(UNWRITTEN_NS) <= made_ns
}

fn encode(stamp: &FileStamp, made_ns: i64, digest: &[u8; 32]) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    let FileStamp { device, inode, size_bytes, modified_ns, changed_ns } = *stamp;
    let times = [modified_ns, changed_ns, made_ns].map(i64::cast_unsigned);
    let numbers = [device, inode, size_bytes].into_iter().chain(times);
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes[48..].copy_from_slice(digest);
    bytes
}

/// `None` for a row of another shape, which then counts as unknown.
fn decode(bytes: &[u8]) -> Option<(FileStamp, i64, [u8; 32])> {
    let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().ok()?;
    let (numbers, digest) = bytes.split_at(48);
    let mut numbers = numbers.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk));
    let mut next = || numbers.next();
    let stamp = FileStamp {
        device: next()?,
        inode: next()?,
        size_bytes: next()?,
        modified_ns: next()?.cast_signed(),
        changed_ns: next()?.cast_signed(),
    };
    Some((stamp, next()?.cast_signed(), digest.try_into().ok()?))
}

#[cfg(test)]
mod tests;
