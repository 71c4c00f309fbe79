//! Room on the disk, asked for before it runs out.
//!
//! A disk that fills up while something is written leaves it half written: that is cleaned, but the work is lost, and so
//! is what other programs would write. So a snapshot is not begun, and a long blob not continued, when little is left.
//! Small writes (rows, short blobs) go on: they end what was begun, and removing things needs them.
//!
//! How much of the disk is taken at all is [`policy`]'s: [`measure`] looks at the whole, [`inventory`] says who needs what of it ([`holders`]),
//! [`worth`] what goes first, [`collect`] removes it, and [`admit`] sees to it in time.

use std::io;

use crate::open::Inner;
use crate::{Result, Store, StoreError};

pub(crate) mod admit;
pub(crate) mod collect;
pub(crate) mod holders;
pub(crate) mod inventory;
pub(crate) mod items;
pub(crate) mod measure;
pub(crate) mod policy;
pub(crate) mod uses;
pub(crate) mod worth;

/// Less than this is little on any disk.
const FLOOR_BYTES: u64 = 64 << 20;

/// On large disks a two hundredth of them is little, up to this.
const CEILING_BYTES: u64 = 4 << 30;

/// A blob asks again after so many bytes.
const ASK_EVERY_BYTES: u64 = 4 << 20;

impl Store {
    /// Refuses (`DiskFull`) when little is left on the disk of the state directory: less than 64 MiB or 0.5 %, of very
    /// large disks less than 4 GiB, and nothing can go. One system call where there is room.
    pub fn check_space(&self) -> Result<()> {
        if self.is_too_full()?.is_some() {
            // What nobody needs goes first.
            self.admit(0);
        }
        match self.is_too_full()? {
            None => Ok(()),
            left_bytes => Err(StoreError::DiskFull { path: self.root().to_owned(), left_bytes }),
        }
    }

    /// Tells whether more than a little is left on the disk, without making room.
    pub(crate) fn has_room(&self) -> bool {
        matches!(self.is_too_full(), Ok(None))
    }

    /// Returns what is left on the disk, if that is little.
    fn is_too_full(&self) -> Result<Option<u64>> {
        let disk = self.disk()?;
        // Some file systems do not count.
        let is_little = disk.size_bytes > 0 && disk.free_bytes < little(disk.size_bytes);
        Ok(is_little.then_some(disk.free_bytes))
    }

    /// Refuses as [`Store::check_space`] does, now and then while a blob grows: it has `size_bytes`, of which the last
    /// `written` ones are new.
    pub(crate) fn check_space_after(&self, size_bytes: u64, written: usize) -> io::Result<()> {
        let before = size_bytes.saturating_sub(written as u64);
        if before / ASK_EVERY_BYTES == size_bytes / ASK_EVERY_BYTES {
            return Ok(());
        }
        self.admit(size_bytes);
        self.check_space().map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // It decides only what goes first.
        if let Err(error) = self.note_uses() {
            tracing::debug!(%error, "what was used is not noted");
        }
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
