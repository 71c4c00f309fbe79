//! Trees made of layers of others: merged, and the difference of two.
//!
//! In: committed snapshots. Out: committed snapshots, a layer for each that is laid over, so that an image made of a merged tree
//! has the layers of what was merged. Files are links to those that are there; nothing is copied.
//! A merge lays the layers of each tree over those before it, deletions included: as if they were the layers of one
//! image. A difference is a tree of the layers that the upper one has more than the lower; if it does not stand on that, it is
//! one layer, of what differs. Merged with the lower one it gives the upper.
//! **Invariant:** a key is that of the layers below and of what is laid over them, whatever snapshots have them: equal parts
//! give equal trees and equal layers, and what was laid over before is found.
//! Source: BuildKit's docs/dev/merge-diff.md.

use std::path::Path;

use rb_store::{LayerRow, SnapshotId, Store};

use crate::content::{ContentKey, Encoder};
use crate::diff::{self, ChangeKind};
use crate::editor::Editor;
use crate::effect::Effect;
use crate::error::{Result, SnapshotError};
use crate::laying::lay;
use crate::manifest::Manifest;
use crate::snapshots::Snapshots;

/// A tree: its uppermost snapshot, none of one that holds nothing, and the key of its content.
type Made = (Option<SnapshotId>, ContentKey);

impl Snapshots {
    /// Lays the layers of each of `trees` over those before it; `None` is a tree that holds nothing.
    ///
    /// `UnknownSnapshot` if one is not there, or is not fit to be served.
    pub fn merge(&self, trees: &[Option<SnapshotId>]) -> Result<Made> {
        let mut trees = trees.iter().flatten();
        let mut made = self.made(trees.next().copied())?;
        for tree in trees {
            for layer in self.layer_tops(Some(*tree))? {
                made = self.lay_layer(made, layer)?;
            }
        }
        Ok(made)
    }

    /// Returns what `upper` has over `lower`, and remembers what it lacks, for a merge.
    ///
    /// `UnknownSnapshot` if one is not there, or is not fit to be served.
    pub fn difference(&self, lower: Option<SnapshotId>, upper: Option<SnapshotId>) -> Result<Made> {
        if lower.is_none() {
            return self.made(upper);
        }
        let nothing = self.made(None)?;
        let (below, above) = (self.layer_tops(lower)?, self.layer_tops(upper)?);
        match above.strip_prefix(below.as_slice()) {
            Some(layers) => layers.iter().try_fold(nothing, |made, layer| self.lay_layer(made, *layer)),
            None => self.lay_effect(nothing, &self.effect_between(lower, upper)?, None),
        }
    }

    fn made(&self, id: Option<SnapshotId>) -> Result<Made> {
        let Some(id) = id else { return Ok((None, ContentKey::empty())) };
        let row = self.store().snapshot(id)?;
        let key = row.and_then(|row| row.content_key).ok_or(SnapshotError::UnknownSnapshot(id))?;
        Ok((Some(id), ContentKey::from_bytes(key)))
    }

    fn lay_layer(&self, below: Made, layer: SnapshotId) -> Result<Made> {
        let original = self.store().layer(&Store::original_layer_key(layer))?;
        self.lay_effect(below, &self.effect(layer)?, original)
    }

    /// Lays changes over a tree; `original` is the packed layer that they came from.
    fn lay_effect(&self, below: Made, effect: &Effect, original: Option<LayerRow>) -> Result<Made> {
        if effect.diff.changes.is_empty() && original.is_none() {
            return Ok(below);
        }
        let content = key(below.1, effect, original.as_ref());
        let id = match self.store().snapshot_by_content(content.as_bytes())? {
            Some(id) => id,
            None => self.laid(below.0, effect, content)?,
        };
        if let Some(original) = original {
            self.store().put_layer(&Store::original_layer_key(id), &original)?;
        }
        Ok((Some(id), content))
    }

    fn laid(&self, below: Option<SnapshotId>, effect: &Effect, content: ContentKey) -> Result<SnapshotId> {
        let active = self.prepare(below)?;
        let editor = Editor::new(&active)?;
        lay(&editor, effect)?;
        drop(editor);
        let is_deletion = |kind: &ChangeKind| *kind == ChangeKind::Whiteout;
        let changes = effect.diff.changes.iter();
        let deleted: Vec<&Path> =
            changes.filter(|change| is_deletion(&change.kind)).map(|change| &*change.path).collect();
        active.keep_deletions(&deleted)?;
        active.keep_manifest(&Manifest::of(&effect.diff, true))?;
        let own = diff::of_layer(active.upper(), active.known.files())?;
        self.commit_read(active, content, &own)
    }
}

fn key(below: ContentKey, effect: &Effect, original: Option<&LayerRow>) -> ContentKey {
    let mut encoder = Encoder::new(b"laid over");
    encoder.parent(below);
    encoder.parent(effect.diff.content_key(ContentKey::empty()));
    if let Some(original) = original {
        encoder.parent(ContentKey::from_bytes(*original.diff_id.as_bytes()));
    }
    encoder.finish()
}
