//! What a layer changes in effect: without what it brings up and leaves as it was.
//!
//! In: the changes of a layer, the tree that has them, the tree below. Out: those changes that make a difference, so that laid
//! over another tree the layer alters there only what it altered where it was made. A directory that only leads to a
//! change stays, since that is how a packed layer says where it is. A file that was only touched stays too. Of
//! the names of one file all stay: told apart they would be files of their own.
//! Source: the behaviour of BuildKit's differ, which leaves out what looks as it did.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_store::SnapshotId;

use crate::deletions;
use crate::diff::{Change, ChangeKind, Diff};
use crate::error::{Context as _, Result, SnapshotError};
use crate::known::Files;
use crate::path::split;
use crate::snapshots::Snapshots;
use crate::view::{Entry, View};
use crate::whole::same_content;

/// Changes, and where the files lie that they name.
pub(crate) struct Effect {
    pub(crate) diff: Diff,
    pub(crate) source: View,
}

impl Snapshots {
    /// Returns what the layer that ends with this snapshot changed against the tree that it lies on.
    pub(crate) fn effect(&self, id: SnapshotId) -> Result<Effect> {
        // It is one of ours, and its files are looked at as they are compared with what it says of them.
        let manifest = self.manifest(id)?.unwrap_or_default();
        let known = Arc::new(Files::of_contents(manifest.into_known()));
        let below = self.below_layer(id)?;
        let diff = self.diff_over(id, &below, known)?;
        let source = self.layer_view(id)?;
        // What was laid over something is all that was to be changed, wherever it lies now.
        let was_laid = deletions::read(&self.store().snapshot_dir(id))?.is_some();
        let diff = if was_laid { without_root(diff) } else { effective(diff, &source, &below)? };
        Ok(Effect { diff, source })
    }

    /// Returns what makes one tree of another that it does not stand on.
    pub(crate) fn effect_between(
        &self,
        lower: Option<SnapshotId>,
        upper: Option<SnapshotId>,
    ) -> Result<Effect> {
        let (below, source) = (self.view(lower)?, self.view(upper)?);
        let diff = crate::whole::compare(&source, &below)?;
        Ok(Effect { diff: effective(diff, &source, &below)?, source })
    }
}

fn without_root(mut diff: Diff) -> Diff {
    diff.changes.retain(|change| !change.path.as_os_str().is_empty());
    diff
}

/// Leaves out what makes no difference. The root is left out too: a merged tree has that of its first input.
fn effective(mut diff: Diff, source: &View, below: &View) -> Result<Diff> {
    let grouped: HashSet<PathBuf> = diff.changes.iter().filter_map(link_target).map(Path::to_owned).collect();
    let mut needed: HashSet<PathBuf> = HashSet::new();
    let mut kept = Vec::with_capacity(diff.changes.len());
    // What is in a directory comes behind it.
    for change in diff.changes.into_iter().rev() {
        if change.path.as_os_str().is_empty() {
            continue;
        }
        let stays = needed.contains(&change.path)
            || grouped.contains(&change.path)
            || differs(&change, source, below)?;
        if stays {
            needed.extend(change.path.parent().map(Path::to_owned));
            kept.push(change);
        }
    }
    kept.reverse();
    diff.changes = kept;
    Ok(diff)
}

/// Tells whether a change is one, compared with what is below.
fn differs(change: &Change, source: &View, below: &View) -> Result<bool> {
    if let ChangeKind::Whiteout | ChangeKind::HardLink { .. } = change.kind {
        return Ok(true);
    }
    let Some(old) = standing(below, &change.path)? else { return Ok(true) };
    let Some(new) = standing(source, &change.path)? else {
        return Err(SnapshotError::ChangedDuringBuild { path: change.path.clone() });
    };
    let (new_is, old_is) = (&new.metadata, &old.metadata);
    let looks_alike = new_is.same_attributes(old_is)
        && new_is.device_number == old_is.device_number
        && (new_is.is_directory()
            || (new_is.modified_ns == old_is.modified_ns && new_is.size_bytes == old_is.size_bytes));
    Ok(!looks_alike || !same_content(source, &new, below, &old)?)
}

/// Finds what stands at just this path: no link on the way is followed.
fn standing(view: &View, path: &Path) -> Result<Option<Entry>> {
    let Some((parent, name)) = split(path) else { return Ok(None) };
    let Some(directory) = view.directory(parent)? else { return Ok(None) };
    let found = directory.child(name).within("look up", path)?;
    Ok(found.map(|found| Entry::new(path.to_owned(), found)))
}

/// Returns the first name of the file that a change gives another name.
pub(crate) fn link_target(change: &Change) -> Option<&Path> {
    if let ChangeKind::HardLink { to } = &change.kind { Some(to) } else { None }
}
