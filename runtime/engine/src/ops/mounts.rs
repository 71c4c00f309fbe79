//! Inputs of an op as directories: trees of the store, and looks at the user's folder that are copied first.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;

use rb_snapshot::{
    Active, ContentDigest, ContentKey, CopyOptions, Diff, Editor, Manifest, SnapshotError, SnapshotId, View,
};
use rb_sources::local::{LocalEntry, LocalTree};

use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::{Tree, Value};

/// Returns what can be read of a value, without copying.
pub(super) fn view(parts: &Parts, value: &Value) -> Result<View, EngineError> {
    Ok(match value {
        Value::Tree(tree) => parts.snapshots.view(tree.snapshot)?,
        Value::Local(local) => local_view(local),
    })
}

/// The user's folder, restricted to what the source keeps.
fn local_view(local: &LocalTree) -> View {
    View::of_listing(&local.folder, local.listing.clone())
}

/// Copies `src` out of a value. A user's file is compared with the digest it was looked at with, gets owner 0:0 and,
/// where the source says so, a normalised mode; what changed in between is an error, so key and tree agree.
pub(super) fn copy_from(
    editor: &Editor<'_>,
    parts: &Parts,
    source: &Value,
    src: &str,
    dst: &str,
    mut options: CopyOptions<'_>,
) -> Result<(), EngineError> {
    match source {
        Value::Tree(tree) => {
            editor.copy(&parts.snapshots.view(tree.snapshot)?, src, dst, &options)?;
        }
        Value::Local(local) => {
            // Comparing paths name by name costs more than hashing their bytes once.
            let digests: HashMap<&OsStr, ContentDigest> = local
                .entries
                .iter()
                .filter_map(|(path, entry)| match entry {
                    LocalEntry::File { digest, .. } => {
                        Some((path.as_os_str(), ContentDigest::from_bytes(*digest)))
                    }
                    LocalEntry::Symlink { target } => {
                        Some((path.as_os_str(), ContentDigest::of(target.as_os_str().as_encoded_bytes())))
                    }
                    LocalEntry::Directory { .. } => None,
                })
                .collect();
            let verify = |path: &Path| digests.get(path.as_os_str()).copied();
            options.owner = options.owner.or(Some((0, 0)));
            options.normalise_modes = local.normalise_modes;
            let options = CopyOptions { verify: Some(&verify), ..options };
            let copied = editor.copy(&local_view(local), src, dst, &options);
            if let Err(SnapshotError::ChangedDuringBuild { path }) = &copied {
                // It may be what is remembered of it that is wrong: the next build reads it.
                local.forget(&parts.store, path)?;
            }
            copied?;
        }
    }
    Ok(())
}

/// Returns a value as a tree of the store whose root is `selector`; copies where it is not one already.
pub(super) fn tree(parts: &Parts, value: &Value, selector: &str) -> Result<Tree, EngineError> {
    let whole = matches!(selector, "" | "/" | ".");
    if let (Value::Tree(tree), true) = (value, whole) {
        return Ok(tree.clone());
    }
    let active = parts.snapshots.prepare(None)?;
    let editor = Editor::new(&active)?;
    let options = CopyOptions { dir_copy_contents: true, create_dest_path: true, ..CopyOptions::default() };
    copy_from(&editor, parts, value, if whole { "/" } else { selector }, "/", options)?;
    let diff = rb_snapshot::diff(&active)?;
    let (snapshot, content) = commit_with_manifest(parts, active, &diff, ContentKey::empty(), true)?;
    Ok(Tree { snapshot: Some(snapshot), content, host: None })
}

/// Commits a layer that copies or a step wrote, with its manifest. `keeps_times` says that files have their own times
/// and not one that a copy gives them.
pub(super) fn commit_with_manifest(
    parts: &Parts,
    active: Active,
    diff: &Diff,
    base: ContentKey,
    keeps_times: bool,
) -> Result<(SnapshotId, ContentKey), EngineError> {
    if diff.changes.is_empty() {
        return Ok(parts.snapshots.commit(active, diff, base)?);
    }
    active.keep_manifest(&Manifest::of(diff, keeps_times))?;
    let own = active.id;
    let (snapshot, content) = parts.snapshots.commit(active, diff, base)?;
    if keeps_times && snapshot != own {
        // It may have been made by a copy that gave its files a time, and now stands for what was made without.
        parts.snapshots.keep_times(snapshot)?;
    }
    Ok((snapshot, content))
}
