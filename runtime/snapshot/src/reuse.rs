//! A finished layer of which a copy takes over what is unchanged: by linking it, or by continuing the layer.
//!
//! In: a snapshot with a manifest; if it continues a layer, that layer too. Out: what it has at a path.
//!
//! A layer that takes files over links them: another name for the same inode, at the same path. Where it would link nearly
//! all of a layer that lies on what it lies on itself, it leaves that to the end, and continues that layer (`continuing`).
//! **Invariants:** a file is taken over only where a copy would have given the same bytes, mode, owner, time and
//! attributes; files with several names in their layer are not, so that names are links of one another only within a
//! layer; and since every name of an inode stands at the same path, no stack of layers shows two of them.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rb_store::SnapshotId;

use crate::beneath;
use crate::error::{Context as _, Result};
use crate::known::KnownFile;
use crate::manifest::Manifest;

/// A finished layer whose unchanged files a copy takes over. Cheap to clone.
#[derive(Clone)]
pub struct Reuse(Arc<Inner>);

struct Inner {
    /// The snapshot that is a layer of its own.
    layer: SnapshotId,
    whole: Part,
    /// What continues it.
    edited: Option<Part>,
    /// What lies below both, if the layer that is being written may continue this one.
    continued_on: Option<Option<SnapshotId>>,
    changed: AtomicBool,
}

/// One snapshot.
pub(crate) struct Part {
    directory: OwnedFd,
    pub(crate) manifest: Manifest,
}

impl Part {
    /// Opens the snapshot at `directory`, whose files are those of `manifest`; `None` if it is gone.
    pub(crate) fn new(directory: &Path, manifest: Manifest) -> Result<Option<Self>> {
        let directory = match beneath::open_host_directory(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.on_host("open the layer", directory)?,
        };
        Ok(Some(Self { directory, manifest }))
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Returns index and file at `path`, if another layer may have it too.
    pub(crate) fn get(&self, path: &Path) -> Option<(usize, &KnownFile)> {
        let index = self.manifest.find(path)?;
        let file = &self.manifest.files[index].1;
        (!file.linked).then_some((index, &file.known))
    }
}

impl Reuse {
    /// `continued_on`: what lies below, if a layer on the same may continue this one.
    pub(crate) fn new(
        layer: SnapshotId,
        whole: Part,
        edited: Option<Part>,
        continued_on: Option<Option<SnapshotId>>,
    ) -> Self {
        Self(Arc::new(Inner { layer, whole, edited, continued_on, changed: AtomicBool::new(false) }))
    }

    /// Says whether a file that was to be taken over was not what the layer is said to have.
    pub fn is_changed(&self) -> bool {
        self.0.changed.load(Ordering::Relaxed)
    }

    pub(crate) fn note_changed(&self) {
        self.0.changed.store(true, Ordering::Relaxed);
    }

    /// The snapshot that is a layer of its own.
    pub(crate) fn layer(&self) -> SnapshotId {
        self.0.layer
    }

    /// That snapshot's files.
    pub(crate) fn whole(&self) -> &Part {
        &self.0.whole
    }

    /// What continues it.
    pub(crate) fn edited(&self) -> Option<&Part> {
        self.0.edited.as_ref()
    }

    /// Says whether a layer on `parent` may continue this one.
    pub(crate) fn may_be_continued_on(&self, parent: Option<SnapshotId>) -> bool {
        self.0.continued_on == Some(parent)
    }
}
