//! How snapshots are layered here: by overlayfs, or by copies where it is refused or the user says so.
//!
//! In: the store, and what the user asks for. Out: a driver, and why it is that of copies if nobody asked for it.
//! **Invariant:** trees, their keys and their layers are the same by either, so it is in no key.

use std::io;

use rb_exec::ExecError;
use rb_snapshot::DriverKind;
use rb_store::Store;

use crate::error::EngineError;

/// How the roots of steps are made of layers. The names are those of containerd's snapshotters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshotter {
    /// By overlayfs where it works, else by copies.
    #[default]
    Auto,
    /// By overlayfs; where it does not work the engine is not opened.
    Overlayfs,
    /// Each step works in a copy of its root.
    Native,
}

/// Chooses. `Err` if nothing but overlayfs will do, and it does not work on this kernel or this file system.
pub(crate) fn choose(
    store: &Store,
    wanted: Snapshotter,
) -> Result<(DriverKind, Option<String>), EngineError> {
    if wanted == Snapshotter::Native {
        return Ok((DriverKind::Copy, None));
    }
    let place = store.temp_path();
    // Where not even that can be made, making a snapshot says so better.
    let tried = std::fs::create_dir(&place).map(|()| rb_exec::try_overlay_in(&place));
    store.remove_tree(&place)?;
    match tried {
        // A full disk says nothing of what it could hold.
        Ok(Err(ExecError::Setup { source, .. })) if is_full(&source) => Ok((DriverKind::Overlay, None)),
        Ok(Err(source)) if wanted == Snapshotter::Overlayfs => {
            Err(EngineError::NoOverlay { root: store.root().to_owned(), source })
        }
        Ok(Err(error)) => Ok((DriverKind::Copy, Some(rb_diag::chain(&error)))),
        Ok(Ok(())) | Err(_) => Ok((DriverKind::Overlay, None)),
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}
