//! Blobs: bytes under the name of their digest.
//!
//! A blob is written to `tmp/`, hashed on the way, synced, and renamed to its name; then its directory is synced. So a
//! name stands for complete, durable bytes. Reading verifies again: a blob that rotted is taken away and
//! reported, and the next one who needs it fetches or makes it anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rb_oci::{Digest, Hasher};

use crate::error::Context as _;
use crate::folder::{rename_durably, write_to};
use crate::leases::Place;
use crate::space::items::Item;
use crate::{Result, Store, StoreError};

impl Store {
    /// Starts a blob. Dropped without [`BlobWriter::commit`], it leaves nothing. A long one ends with an error when the
    /// disk is almost full ([`Store::check_space`]).
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        self.admit(0);
        let path = self.temp_path();
        let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
        let file = made.context("create", &path)?;
        Ok(BlobWriter {
            store: self.clone(),
            temporary: Temporary(path),
            file,
            hasher: Hasher::default(),
            written_bytes: 0,
            begun: Instant::now(),
        })
    }

    /// Stores `bytes`; costs nothing where the blob is there.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).context("write", &writer.temporary.0)?;
        Ok(writer.commit(Some(digest))?.0)
    }

    /// Opens a blob, unverified; `None` where there is none.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<File>> {
        let path = self.blob_path(digest);
        self.inner.leases.take(Place::Blob(*digest))?;
        match File::open(&path) {
            Ok(file) => {
                self.touch(Item::Blob(*digest));
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("open", &path, source)),
        }
    }

    /// Opens a blob as a stream that verifies itself.
    pub fn blob_reader(&self, digest: &Digest) -> Result<BlobReader> {
        let file = self.open_blob(digest)?.ok_or(StoreError::UnknownBlob(*digest))?;
        let left_bytes = file.metadata().context("stat", &self.blob_path(digest))?.len();
        let hasher = Some(Hasher::default());
        Ok(BlobReader { store: self.clone(), expected: *digest, file, hasher, left_bytes })
    }

    /// Reads a blob of at most `limit_bytes` into memory and verifies it.
    pub fn read_blob(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let file = self.open_blob(digest)?.ok_or(StoreError::UnknownBlob(*digest))?;
        let size_bytes = file.metadata().context("stat", &path)?.len();
        if size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { digest: *digest, size_bytes, limit_bytes });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0));
        (&file).take(size_bytes).read_to_end(&mut bytes).context("read", &path)?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            self.discard_corrupt(digest, &file);
            return Err(StoreError::CorruptBlob { expected: *digest, actual });
        }
        Ok(bytes)
    }

    /// Returns where the blob lies or would lie.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs/sha256").join(digest.hex())
    }

    /// Returns the size of a blob; `None` where there is none. One that is there is not removed as long as this handle lives.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        self.inner.leases.take(Place::Blob(*digest))?;
        let size_bytes = self.stored_size(digest)?;
        if size_bytes.is_some() {
            self.touch(Item::Blob(*digest));
        }
        Ok(size_bytes)
    }

    /// As [`Self::blob_size`], for who needs it no longer than that.
    pub(crate) fn stored_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("stat", &path, source)),
        }
    }

    /// Says whether the blob is there.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// Removes a blob and the layer rows that name it; `false` where there is none. The manifest of a named image
    /// stays (`BlobInUse`).
    pub fn remove_blob(&self, digest: &Digest) -> Result<bool> {
        self.inner.database.write(|transaction| {
            crate::images::refuse_if_named(transaction, digest)?;
            crate::layers::forget_blob(transaction, digest)
        })?;
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::io("remove", &path, source)),
        }
    }

    /// Gives a file that is a blob, of which all is written, its name. It was begun at that time.
    pub(crate) fn keep_blob(
        &self,
        digest: &Digest,
        (file, from): (&File, &Path),
        (size_bytes, begun): (u64, Instant),
    ) -> Result<()> {
        // Before others see it.
        self.inner.leases.take(Place::Blob(*digest))?;
        let was_there = self.stored_size(digest)?.is_some();
        rename_durably(file, from, &self.blob_path(digest))?;
        let cost_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.touch_made(Item::Blob(*digest), cost_ms);
        if was_there { Ok(()) } else { self.add_occupied(size_bytes.next_multiple_of(4096)) }
    }

    /// Takes a damaged blob away, so that it is missing rather than wrong; unless somebody put a whole one in the place of
    /// the `read` one meanwhile.
    fn discard_corrupt(&self, digest: &Digest, read: &File) {
        let path = self.blob_path(digest);
        let file = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        if fs::metadata(&path).ok().map(file) == read.metadata().ok().map(file) {
            tracing::warn!(%digest, "removes a damaged blob");
            // The reader gets its own, more telling error.
            drop(fs::remove_file(path));
        }
    }
}

/// A blob being written.
pub struct BlobWriter {
    store: Store,
    temporary: Temporary,
    file: File,
    hasher: Hasher,
    written_bytes: u64,
    begun: Instant,
}

/// A path that is unlinked when dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a commit nothing is there; else a later open removes it.
        drop(fs::remove_file(&self.0));
    }
}

impl BlobWriter {
    /// Returns the number of bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Makes the bytes durable under the name of their digest, which must be the `expected` one where that is given.
    /// Returns digest and size.
    pub fn commit(self, expected: Option<Digest>) -> Result<(Digest, u64)> {
        let (digest, size_bytes) = self.hasher.finish();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(StoreError::DigestMismatch { expected, actual: digest });
        }
        self.store.keep_blob(&digest, (&self.file, &self.temporary.0), (size_bytes, self.begun))?;
        Ok((digest, size_bytes))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = write_to(&self.file, &self.temporary.0, bytes)?;
        self.hasher.update(&bytes[..count]);
        self.written_bytes += count as u64;
        self.store.check_space_after(self.written_bytes, count)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A blob being read. With its last bytes it fails with `InvalidData` where they are not those of its name, so a caller
/// must read all of it, though not beyond, before it believes what it read.
pub struct BlobReader {
    store: Store,
    expected: Digest,
    file: File,
    hasher: Option<Hasher>,
    /// What is left of the size that the file had when it was opened.
    left_bytes: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(hasher) = self.hasher.as_mut() {
            hasher.update(&buffer[..count]);
        }
        self.left_bytes = self.left_bytes.saturating_sub(count as u64);
        if buffer.is_empty() || (count > 0 && self.left_bytes > 0) {
            return Ok(count);
        }
        let Some((actual, _)) = self.hasher.take().map(Hasher::finish) else { return Ok(0) };
        if actual != self.expected {
            self.store.discard_corrupt(&self.expected, &self.file);
            let error = StoreError::CorruptBlob { expected: self.expected, actual };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
