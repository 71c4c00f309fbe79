//! The bytes of a file from here to there: shared blocks where the filesystem can, else in the kernel, else by hand.
//!
//! Holes stay holes. Nothing is ever hard-linked: the copy may be written to.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, ioctl_ficlone};
use rustix::io::Errno;

use crate::content::{ContentDigest, ContentHasher};
use crate::metadata::Metadata;
use crate::tally::Tally;

const BUFFER_BYTES: usize = 128 * 1024;
/// Under this size asking for shared blocks costs more than copying.
const SHARE_FROM_BYTES: u64 = 4096;
/// What a hole consists of.
pub(crate) const HOLE_BYTES: usize = 4096;

/// The kernel is asked for so much at once, so that a long copy is seen to go on.
const KERNEL_COPY_BYTES: usize = 16 << 20;

/// Remembers, over many files, what the filesystems refused, and counts.
#[derive(Debug, Default)]
pub(crate) struct Transfer<'a> {
    sharing_refused: AtomicBool,
    kernel_copy_refused: AtomicBool,
    tally: Option<&'a Tally>,
}

impl<'a> Transfer<'a> {
    /// Has what is copied counted by `tally`.
    pub(crate) fn new(tally: Option<&'a Tally>) -> Self {
        Self { tally, ..Self::default() }
    }

    /// Counts what is done.
    pub(crate) fn count(&self, files: u64, bytes: u64) {
        if let Some(tally) = self.tally {
            tally.add(files, bytes);
        }
    }

    /// Copies all of `source` into the empty `target` and returns how many bytes it has.
    pub(crate) fn copy(&self, source: &File, target: &File, metadata: &Metadata) -> io::Result<u64> {
        let size_bytes = metadata.size_bytes;
        if size_bytes == 0 {
            return Ok(0);
        }
        if size_bytes >= SHARE_FROM_BYTES && !self.sharing_refused.load(Ordering::Relaxed) {
            match ioctl_ficlone(target, source) {
                Ok(()) => {
                    self.count(0, size_bytes);
                    return Ok(size_bytes);
                }
                Err(_) => self.sharing_refused.store(true, Ordering::Relaxed),
            }
        }
        if metadata.allocated_bytes >= size_bytes {
            return self.copy_range(source, target, 0, size_bytes);
        }
        // Sparse: only what is there, then the length.
        let (mut at, mut written) = (0, 0);
        while at < size_bytes {
            let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                Err(error) => return Err(error.into()),
            };
            let end = match rustix::fs::seek(source, SeekFrom::Hole(start)) {
                Ok(end) => end,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => size_bytes,
                Err(error) => return Err(error.into()),
            };
            let copied = self.copy_range(source, target, start, end - start)?;
            written += copied;
            if copied < end - start {
                break;
            }
            at = end;
        }
        ftruncate(target, size_bytes)?;
        self.count(0, size_bytes.saturating_sub(written));
        Ok(size_bytes)
    }

    /// Copies `length` bytes from `start` on, in the kernel if it can; fewer if the file ends before.
    fn copy_range(&self, source: &File, target: &File, start: u64, length: u64) -> io::Result<u64> {
        let mut copied = 0;
        while copied < length && !self.kernel_copy_refused.load(Ordering::Relaxed) {
            let (mut from, mut to) = (start + copied, start + copied);
            let wanted = usize::try_from(length - copied).unwrap_or(usize::MAX).min(KERNEL_COPY_BYTES);
            match copy_file_range(source.as_fd(), Some(&mut from), target.as_fd(), Some(&mut to), wanted) {
                Ok(0) => return Ok(copied),
                Ok(count) => {
                    copied += count as u64;
                    self.count(0, count as u64);
                }
                Err(Errno::INTR) => {}
                Err(
                    Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM | Errno::IO,
                ) => self.kernel_copy_refused.store(true, Ordering::Relaxed),
                Err(error) => return Err(error.into()),
            }
        }
        let mut buffer = Vec::new();
        while copied < length {
            buffer.resize(BUFFER_BYTES, 0);
            let wanted = BUFFER_BYTES.min(usize::try_from(length - copied).unwrap_or(BUFFER_BYTES));
            match source.read_at(&mut buffer[..wanted], start + copied) {
                Ok(0) => break,
                Ok(count) => {
                    target.write_all_at(&buffer[..count], start + copied)?;
                    copied += count as u64;
                    self.count(0, count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(copied)
    }

    /// Copies all of `source` into the empty `target` by hand and hashes exactly what was written.
    pub(crate) fn copy_hashed(
        &self,
        source: &File,
        target: &File,
        metadata: &Metadata,
    ) -> io::Result<(u64, ContentDigest)> {
        let sparse = metadata.allocated_bytes < metadata.size_bytes;
        let mut hasher = ContentHasher::default();
        let mut buffer =
            vec![0; BUFFER_BYTES.min(usize::try_from(metadata.size_bytes + 1).unwrap_or(BUFFER_BYTES))];
        let mut copied = 0;
        loop {
            let count = match source.read_at(&mut buffer, copied) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..count]);
            if sparse {
                for (index, block) in buffer[..count].chunks(HOLE_BYTES).enumerate() {
                    if block.iter().any(|byte| *byte != 0) {
                        target.write_all_at(block, copied + (index * HOLE_BYTES) as u64)?;
                    }
                }
            } else {
                target.write_all_at(&buffer[..count], copied)?;
            }
            copied += count as u64;
            self.count(0, count as u64);
        }
        if sparse {
            ftruncate(target, copied)?;
        }
        Ok((copied, hasher.finish()))
    }
}

/// Writes what is read into an empty file. Pages of zeros are left out, so that a layer that says there are terabytes
/// of them does not fill the disk.
pub(crate) fn fill(file: &File, content: &mut dyn io::Read, buffer: &mut [u8]) -> io::Result<()> {
    let (mut offset, mut end) = (0_u64, 0_u64);
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match content.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let is_hole = |page: &[u8]| page.iter().all(|byte| *byte == 0);
        let pages: Vec<&[u8]> = buffer[..filled].chunks(HOLE_BYTES).collect();
        let mut at = offset;
        for run in pages.chunk_by(|left, right| is_hole(left) == is_hole(right)) {
            let length: usize = run.iter().map(|page| page.len()).sum();
            if !run.first().is_some_and(|page| is_hole(page)) {
                let start = usize::try_from(at - offset).unwrap_or(0);
                file.write_all_at(&buffer[start..start + length], at)?;
                end = at + length as u64;
            }
            at += length as u64;
        }
        offset += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    if end < offset { file.set_len(offset) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beneath::metadata_of;

    fn sparse_file(directory: &std::path::Path) -> File {
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(directory.join("s"))
            .unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 1 << 20).unwrap();
        file.set_len(4 << 20).unwrap();
        file
    }

    #[test]
    fn holes_stay_holes_and_bytes_are_equal() {
        let directory = tempfile::tempdir().unwrap();
        let source = sparse_file(directory.path());
        let metadata = metadata_of(&source).unwrap();
        let expected = std::fs::read(directory.path().join("s")).unwrap();
        let refusing = Transfer::default();
        refusing.sharing_refused.store(true, Ordering::Relaxed);
        refusing.kernel_copy_refused.store(true, Ordering::Relaxed);
        for (index, transfer) in [Transfer::default(), refusing].into_iter().enumerate() {
            for hashed in [false, true] {
                let path = directory.path().join(format!("t{index}{hashed}"));
                let target = File::create_new(&path).unwrap();
                if hashed {
                    let (size, digest) = transfer.copy_hashed(&source, &target, &metadata).unwrap();
                    assert_eq!((size, digest), (4 << 20, ContentDigest::of(&expected)));
                } else {
                    assert_eq!(transfer.copy(&source, &target, &metadata).unwrap(), 4 << 20);
                }
                assert!(std::fs::read(&path).unwrap() == expected);
                assert!(metadata_of(&target).unwrap().allocated_bytes < 1 << 20, "the holes were filled");
            }
        }
    }
}
