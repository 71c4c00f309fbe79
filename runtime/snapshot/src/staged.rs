//! Snapshots that are written before what they stand on is there.
//!
//! The layers of an image are unpacked at once: each on nothing, and laid over those below it when these are written. Who
//! writes such a snapshot knows what of it depends on the tree below, and brings that into line with an [`Editor`] before
//! it is committed.
//!
//! [`Editor`]: crate::Editor

use std::path::{Path, PathBuf};

use rb_store::SnapshotId;

use crate::content::ContentKey;
use crate::diff::{self, Diff};
use crate::error::{Context as _, Result};
use crate::snapshots::{Active, Snapshots};

impl Active {
    /// Lays what was begun on nothing over `layers`, lowest first. Its root keeps its own metadata. Only under the overlay
    /// driver: a whole tree is a copy of what it stands on.
    pub fn lay_over(&mut self, layers: Vec<PathBuf>) {
        self.lowers.clone_from(&layers);
        self.base = layers;
    }

    /// Returns what was written, as [`crate::layer_diff`] reads it: for [`Snapshots::commit_over`].
    pub fn own(&self) -> Result<Diff> {
        diff::layer_diff(self.upper())
    }
}

impl Snapshots {
    /// As [`Self::commit_as`], of what was begun on nothing, on top of `parent`, whose layers it was laid over. `own` is what
    /// [`Active::own`] said. The directory moves, unless there is no parent.
    pub fn commit_over(
        &self,
        active: Active,
        parent: Option<SnapshotId>,
        content: ContentKey,
        own: &Diff,
    ) -> Result<SnapshotId> {
        if parent.is_none() {
            return self.commit_read(active, content, own);
        }
        // A row of its own, made now: what stands on a snapshot is always younger than it.
        let placed = self.prepare(parent)?;
        move_to(active.upper(), placed.upper())?;
        drop(active);
        self.commit_read(placed, content, own)
    }
}

/// Puts a directory in the place of an empty one.
fn move_to(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).on_host("move", to)
}
