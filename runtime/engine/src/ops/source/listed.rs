//! A folder of the user's of which names, sizes and times are wanted, and only of some files the content.
//!
//! In: a look at the folder. Out: a tree of the files whose content is wanted, and beside them [`LIST`], in which all entries stand. Who
//! has read that asks for what else it needs by another source. **Invariant:** the key is of all that is in the list: times, too,
//! since whoever reads it sees them. So another copy of the folder is another list, as it is in BuildKit.
//! Source: BuildKit's `local.metadatatransfer`, fsutil's `receive.go`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rb_api::{KeyPart, PartKind};
use rb_llb::attr;
use rb_oci::{Digest, Hasher};
use rb_snapshot::{ContentKey, CopyOptions, Editor};
use rb_sources::SourceError;
use rb_sources::local::{Listed, ListedKind, LocalTree, Named};
use rb_wire::diffcopy::{Entry, Kind, to_list};

use super::super::mounts;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::{Tree, Value};

/// The file with the list. One that is in the folder is left out.
const LIST: &str = ".fsutil-metadata";

/// Such a folder, as it was looked at.
#[derive(Clone)]
pub(super) struct ListedFolder {
    tree: Arc<LocalTree>,
    list: Arc<[u8]>,
}

/// Tells whether a source wants it so.
pub(super) fn is_wanted(attrs: &BTreeMap<String, String>) -> Result<bool, SourceError> {
    let name = attr::LOCAL_METADATA_TRANSFER;
    match attrs.get(name).map(String::as_str) {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(other) => {
            let reason = format!("`{}` is neither true nor false", other.escape_debug());
            Err(SourceError::Attribute { name: name.to_owned(), reason })
        }
    }
}

impl ListedFolder {
    pub(super) fn new(tree: LocalTree, named: Vec<Named>) -> Result<Self, SourceError> {
        let others = named.into_iter().filter(|named| named.listed.path != Path::new(LIST));
        let list = to_list(others.map(entry).collect::<Result<Vec<_>, _>>()?);
        Ok(Self { tree: Arc::new(tree), list: list.into() })
    }

    /// Returns what the tree is recognised by.
    pub(super) fn key(&self) -> Digest {
        let mut hasher = Hasher::default();
        hasher.update(self.tree.content.as_bytes());
        hasher.update(&self.list);
        hasher.finish().0
    }

    /// Returns what that is made of.
    pub(super) fn parts(&self) -> Vec<KeyPart> {
        vec![
            KeyPart::new(PartKind::Files, "", self.tree.content.to_digest().to_string()),
            KeyPart::new(PartKind::Setting, "names, sizes and times", Digest::of(&self.list).to_string()),
        ]
    }

    /// Makes the tree.
    pub(super) fn write(&self, parts: &Parts) -> Result<Tree, EngineError> {
        let active = parts.snapshots.prepare(None)?;
        let editor = Editor::new(&active)?;
        if !self.tree.entries.is_empty() {
            let options =
                CopyOptions { dir_copy_contents: true, create_dest_path: true, ..CopyOptions::default() };
            mounts::copy_from(&editor, parts, &Value::Local(Arc::clone(&self.tree)), "/", "/", options)?;
        }
        editor.remove(LIST, true, false)?;
        editor.mkfile(LIST, 0o644, &self.list, None, Some(0))?;
        let diff = rb_snapshot::diff(&active)?;
        let (snapshot, content) =
            mounts::commit_with_manifest(parts, active, &diff, ContentKey::empty(), true)?;
        Ok(Tree { snapshot: Some(snapshot), content, host: None })
    }
}

/// Writes an entry as BuildKit's client tells it: all is root's.
fn entry(named: Named) -> Result<Entry, SourceError> {
    let text = |path: &Path| {
        let reason = || format!("`{}` is no UTF-8, and cannot stand in a list", path.display());
        let wrong =
            || SourceError::Attribute { name: attr::LOCAL_METADATA_TRANSFER.to_owned(), reason: reason() };
        path.to_str().map(ToOwned::to_owned).ok_or_else(wrong)
    };
    let Named { listed: Listed { path, mode, modified_ns, kind }, same } = named;
    let kind = match (same, kind) {
        (Some(first), ListedKind::File(_)) => Kind::HardLink { to: text(&first)? },
        (_, ListedKind::Directory) => Kind::Directory,
        (_, ListedKind::File(size_bytes)) => Kind::File { size_bytes },
        (_, ListedKind::Symlink(target)) => Kind::Symlink { target: text(&target)? },
    };
    Ok(Entry { path: text(&path)?, kind, mode, uid: 0, gid: 0, modified_ns })
}
