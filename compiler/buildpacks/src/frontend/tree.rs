//! The image as a tree: what a build goes on from.
//!
//! In: an [`AppImage`]. Out: its filesystem, as a merge of its base and one tree for each layer, and its config. What is in it is
//! what is in the packed image. Its layers are made by other rules (a file's time may differ, slices are one), so the label that
//! names each layer by its diff id (`io.buildpacks.lifecycle.metadata`) is left out: it would be wrong.
//! **Invariant:** a layer's tree depends on what buildpacks left alone, so another base changes none.

use rb_diag::Span;
use rb_llb::{
    CopyAction, CopyMode, FileBuilder, MkdirAction, MkfileAction, NodeMeta, Owner, State, SymlinkAction,
    UserSpec,
};
use rb_oci::{Choice, ImageConfig, LayerPart, Platform};

use super::image::{AppImage, PlannedLayer};
use crate::export::{AppLayer, EPOCH_SECONDS, ExportError};

/// When all that is laid down was changed last, in nanoseconds.
const TIME: Option<i64> = Some(EPOCH_SECONDS * 1_000_000_000);

impl AppImage {
    /// Returns the tree and the config; `place` is where it is asked for.
    pub fn tree(self, platform: &Platform, place: Option<Span>) -> Result<(State, ImageConfig), ExportError> {
        let mut lines = Vec::with_capacity(self.layers.len());
        let mut trees = vec![self.base];
        let mut has_app = false;
        for PlannedLayer { layer, parts } in self.layers {
            if parts.iter().any(|part| matches!(part, LayerPart::Stored { .. })) {
                return Err(ExportError::NoLayer(layer.created_by()));
            }
            let line = match layer {
                // Slices are parts of one folder, which is laid down whole with the first that has any.
                AppLayer::Slice { .. } if has_app || parts.is_empty() => continue,
                AppLayer::Slice { .. } => {
                    has_app = true;
                    AppLayer::Slice { number: 1, only: true }.created_by()
                }
                layer => layer.created_by(),
            };
            let meta = NodeMeta { span: place, ..NodeMeta::named(format!("lay down: {line}")) };
            let files = parts.into_iter().fold(State::scratch().files(), laid);
            trees.push(files.finish(meta));
            lines.push(line);
        }
        let meta = NodeMeta { span: place, ..NodeMeta::named("put the app's image together") };
        let config = self.unfinished.above_base(lines.iter().map(String::as_str))?;
        Ok((State::merge(trees, Some(platform), meta), config))
    }
}

/// Lays down a part of a layer.
fn laid(files: FileBuilder, part: LayerPart<State>) -> FileBuilder {
    match part {
        LayerPart::Folder { path, mode, owner } => files.mkdir(MkdirAction {
            path,
            mode,
            make_parents: true,
            owner: Some(owned_by(owner)),
            timestamp: TIME,
        }),
        // The folder of all layers: what lies in it makes it.
        LayerPart::Tree { choice: Choice::Alone, .. } => files,
        LayerPart::Tree {
            tree,
            from,
            to,
            owner,
            choice: Choice::All | Choice::ByPath | Choice::These(_),
        } => {
            let copy = CopyAction {
                src: from,
                dest: to,
                owner: owner.map(owned_by),
                create_dest_path: true,
                timestamp: TIME,
                ..CopyAction::default()
            };
            files.copy(&tree, copy)
        }
        LayerPart::File { tree, from, to, mode } => {
            let copy = CopyAction {
                src: from,
                dest: to,
                owner: Some(owned_by((0, 0))),
                mode: CopyMode::Bits(mode),
                follow_symlink: true,
                create_dest_path: true,
                timestamp: TIME,
                ..CopyAction::default()
            };
            files.copy(&tree, copy)
        }
        LayerPart::Text { path, owner, text } => files.mkfile(MkfileAction {
            path,
            mode: 0o644,
            data: text.into_bytes().into(),
            owner: Some(owned_by(owner)),
            timestamp: TIME,
        }),
        LayerPart::Packed { tree, from } => {
            let copy =
                CopyAction { src: from, dest: "/".to_owned(), attempt_unpack: true, ..CopyAction::default() };
            files.copy(&tree, copy)
        }
        // Refused before.
        LayerPart::Stored { .. } => files,
        LayerPart::Link { path, target } => {
            files.symlink(SymlinkAction { target, path, owner: None, timestamp: TIME })
        }
    }
}

fn owned_by((user, group): (u32, u32)) -> Owner {
    Owner { user: Some(UserSpec::Id(user)), group: Some(UserSpec::Id(group)) }
}
