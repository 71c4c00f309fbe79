//! Blobs that come in parts: what of one is there outlives the process that began it.
//!
//! ```text
//! partial/<hex>     the first bytes of the blob, locked by flock(2) while a process adds to them
//! ```
//!
//! A download that is cut short, by whatever, leaves its file here under the digest of the blob it is to become. Whoever
//! wants the blob next goes on behind what is there. Nothing is known of those bytes: no write is synced, so that after a
//! power failure there may be anything. They are proven with the rest: [`PartialBlob::commit`] is for who has the digest
//! of all of them.
//! **Invariants:** one process at a time has the file of a blob; what nobody comes back for goes when the store is
//! opened: by age, number and size, and all of it where the disk is almost full.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rb_oci::Digest;

use crate::error::Context as _;
use crate::folder::write_to;
use crate::{Result, Store, StoreError};

/// The folder, below the root; it comes with its first file.
pub(crate) const FOLDER: &str = "partial";
/// Not worth a request of its own.
const WORTH_BYTES: u64 = 64 << 10;
/// How long somebody is expected to come back.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many are kept, of the newest.
const KEPT_FILES: usize = 64;
/// How much is kept, of the newest.
const KEPT_BYTES: u64 = 8 << 30;
const BUFFER_BYTES: usize = 128 << 10;

/// The beginning of a blob, and who adds to it. Dropped, it stays for the next one, if it is worth that.
pub struct PartialBlob {
    store: Store,
    digest: Digest,
    path: PathBuf,
    file: File,
    written_bytes: u64,
    limit_bytes: u64,
    begun: Instant,
}

impl Store {
    /// Takes what is there of a blob of `limit_bytes`; mostly nothing. Waits for another who has it.
    pub fn partial_blob(&self, digest: &Digest, limit_bytes: u64) -> Result<PartialBlob> {
        self.admit(0);
        let folder = self.root().join(FOLDER);
        let path = folder.join(digest.hex());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        loop {
            let opened = options.open(&path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
                    options.open(&path)
                }
                _ => Err(error),
            });
            let mut file = opened.context("open", &path)?;
            file.lock().context("lock", &path)?;
            // Whoever had it has ended it, or it was cleaned away.
            if !is_named(&file, &path) {
                continue;
            }
            let written_bytes = file.seek(SeekFrom::End(0)).context("read", &path)?;
            let (store, digest) = (self.clone(), *digest);
            let begun = Instant::now();
            return Ok(PartialBlob { store, digest, path, file, written_bytes, limit_bytes, begun });
        }
    }
}

impl PartialBlob {
    /// Returns how many bytes are there.
    pub fn size_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Reads what is there, from the beginning; ends where `tell` fails.
    pub fn read(&self, tell: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut at = 0;
        while at < self.written_bytes {
            let count = self.file.read_at(&mut buffer, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            tell(&buffer[..count])?;
            at += count as u64;
        }
        Ok(())
    }

    /// Opens the file for one who reads what comes; it is the same when it has become the blob.
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).context("open", &self.path)
    }

    /// Forgets all that is there.
    pub fn restart(&mut self) -> io::Result<()> {
        self.written_bytes = 0;
        self.file.set_len(0)?;
        self.file.rewind()
    }

    /// Makes the bytes durable under the name of their digest. The caller has computed it: over what [`Self::read`] told
    /// and all that was written since.
    pub fn commit(self, actual: &Digest) -> Result<()> {
        let expected = self.digest;
        if *actual != expected {
            return Err(StoreError::DigestMismatch { expected, actual: *actual });
        }
        self.commit_as(actual)
    }

    /// As [`PartialBlob::commit`], of a blob whose digest nobody knew before: what it was begun under was only a name for
    /// it, such as that of a version of a file of the web.
    pub fn commit_as(self, actual: &Digest) -> Result<()> {
        self.store.keep_blob(actual, (&self.file, &self.path), (self.written_bytes, self.begun))
    }
}

impl Write for PartialBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
        if size_bytes > self.limit_bytes {
            let message = format!("the content is larger than the {} bytes allowed here", self.limit_bytes);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let count = write_to(&self.file, &self.path, bytes)?;
        self.written_bytes += count as u64;
        self.store.check_space_after(self.written_bytes, count)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for PartialBlob {
    fn drop(&mut self) {
        // After a commit the name is gone. What cannot be removed is cleaned one day.
        if self.written_bytes < WORTH_BYTES && is_named(&self.file, &self.path) {
            drop(fs::remove_file(&self.path));
        }
        // Closing would do too, but not at once if a child that is just being made holds a copy.
        drop(self.file.unlock());
    }
}

/// Removes what nobody came back for. What cannot be removed is in nobody's way.
pub(crate) fn clean(store: &Store) {
    let Ok(entries) = fs::read_dir(store.root().join(FOLDER)) else { return };
    let mut found: Vec<(Duration, u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            let modified = Duration::new(
                u64::try_from(metadata.mtime()).unwrap_or(0),
                u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            );
            Some((modified, metadata.len(), entry.path()))
        })
        .collect();
    found.sort_by(|left, right| right.cmp(left));
    let (now, is_full) = (store.clock().now(), store.check_space().is_err());
    let (mut files, mut bytes) = (0_usize, 0_u64);
    for (modified, size_bytes, path) in found {
        files += 1;
        bytes = bytes.saturating_add(size_bytes);
        let is_old = now.saturating_sub(modified) > KEPT_FOR;
        if (is_full || is_old || files > KEPT_FILES || bytes > KEPT_BYTES) && remove(&path) {
            tracing::debug!(path = %path.display(), "removes the beginning of a blob");
        }
    }
}

/// Removes a file that nobody adds to.
pub(crate) fn remove(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    loop {
        match file.try_lock() {
            Ok(()) => return is_named(&file, path) && fs::remove_file(path).is_ok(),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return false,
        }
    }
}

/// Tells whether `path` names this file.
fn is_named(file: &File, path: &Path) -> bool {
    let of = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let named = fs::symlink_metadata(path).ok().map(of);
    named.is_some() && named == file.metadata().ok().map(of)
}

#[cfg(test)]
mod tests;
