//! Room that is given up when the disk has none left.
//!
//! Where not a byte is free, the database cannot be opened, and what would free room could not begin. So a small file is kept in
//! the state directory as long as there is room for it; who finds the disk full opens once more without it. It comes back
//! with the next store that is opened where there is room. **Invariant:** it holds nothing, so it may go at any time.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use rustix::fs::FallocateFlags;

use crate::Store;

/// Its name in the state directory.
pub(crate) const NAME: &str = "reserve";

/// Enough for the database's log of a few thousand rows that go.
const SIZE_BYTES: usize = 512 << 10;

/// Lays the file down, unless it is there or room is scarce. That it cannot be is no reason to fail: it only helps later.
pub(crate) fn keep(store: &Store) {
    let path = store.root().join(NAME);
    if fs::symlink_metadata(&path).is_ok() || !store.has_room() {
        return;
    }
    let made = File::create_new(&path).and_then(|file| lay_down(&file));
    if let Err(error) = made {
        tracing::debug!("cannot reserve room at {}: {error}", path.display());
        drop(fs::remove_file(&path));
    }
}

/// Gives the room up; tells whether there was any.
pub(crate) fn give_up(root: &Path) -> bool {
    fs::remove_file(root.join(NAME)).is_ok()
}

fn lay_down(mut file: &File) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, SIZE_BYTES as u64) {
        // Some file systems cannot: what is written lies there, too, unless they compress.
        Err(rustix::io::Errno::OPNOTSUPP) => file.write_all(&[0; SIZE_BYTES]),
        done => Ok(done?),
    }
}
