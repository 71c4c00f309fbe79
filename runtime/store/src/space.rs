//! Room on the disk, asked for before it runs out.
//!
//! A disk that fills up while something is written leaves it half written: that is cleaned, but the work is lost, and so
//! is what other programs would write. So a snapshot is not begun, and a long blob not continued, when little is left.
//! Small writes (rows, short blobs) go on: they end what was begun, and removing things needs them.

use std::io;

use crate::error::Context as _;
use crate::{Result, Store, StoreError};

/// Less than this is little on any disk.
const FLOOR_BYTES: u64 = 64 << 20;

/// On large disks a two hundredth of them is little, up to this.
const CEILING_BYTES: u64 = 4 << 30;

/// A blob asks again after so many bytes.
const ASK_EVERY_BYTES: u64 = 16 << 20;

impl Store {
    /// Refuses (`DiskFull`) when little is left on the disk of the state directory: less than 64 MiB or 0.5 %, of very
    /// large disks less than 4 GiB. One system call.
    pub fn check_space(&self) -> Result<()> {
        let root = self.root();
        let statistics = rustix::fs::statvfs(root).context("look at the file system of", root)?;
        let left_bytes = statistics.f_bavail.saturating_mul(statistics.f_frsize);
        let size_bytes = statistics.f_blocks.saturating_mul(statistics.f_frsize);
        // Some file systems do not count.
        if size_bytes > 0 && left_bytes < little(size_bytes) {
            return Err(StoreError::DiskFull { path: root.to_owned(), left_bytes: Some(left_bytes) });
        }
        Ok(())
    }

    /// Refuses as [`Store::check_space`] does, now and then while a blob grows: it has `size_bytes`, of which the last
    /// `written` ones are new.
    pub(crate) fn check_space_after(&self, size_bytes: u64, written: usize) -> io::Result<()> {
        let before = size_bytes.saturating_sub(written as u64);
        if before / ASK_EVERY_BYTES == size_bytes / ASK_EVERY_BYTES {
            return Ok(());
        }
        self.check_space().map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))
    }
}

/// Says what is little on a disk of this size.
fn little(size_bytes: u64) -> u64 {
    (size_bytes / 200).clamp(FLOOR_BYTES, CEILING_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_a_matter_of_size_within_bounds() {
        assert_eq!(little(1 << 20), 64 << 20);
        assert_eq!(little(200 << 30), 1 << 30);
        assert_eq!(little(100 << 40), 4 << 30);
    }
}
