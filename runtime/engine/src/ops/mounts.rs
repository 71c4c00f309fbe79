//! Inputs of an op as directories: trees of the store, and looks at the user's folder that are copied first.

use std::path::Path;

use rb_snapshot::{ContentDigest, ContentKey, CopyOptions, Editor, View};
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
    View::of_paths(&local.folder, local.entries.keys().cloned().collect())
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
            let verify = |path: &Path| match local.entries.get(path) {
                Some(LocalEntry::File { digest, .. }) => Some(ContentDigest::from_bytes(*digest)),
                _ => None,
            };
            options.owner = options.owner.or(Some((0, 0)));
            options.normalise_modes = local.normalise_modes;
            let options = CopyOptions { verify: Some(&verify), ..options };
            editor.copy(&local_view(local), src, dst, &options)?;
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
    let (snapshot, content) = parts.snapshots.commit(active, &diff, ContentKey::empty())?;
    Ok(Tree { snapshot: Some(snapshot), content, host: None })
}
