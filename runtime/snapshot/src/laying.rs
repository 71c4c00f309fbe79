//! Lays changes over a snapshot that is being made: files as further names of those that are there, without copying.
//!
//! In: changes, and the tree that has what they name. Out: an upper directory as if the same had been done to a mount of
//! the tree below. A file replaces a directory and the other way round; two directories are merged, and the one that is
//! laid over decides mode, owner and attributes; a deletion of nothing does nothing.
//! **Invariants:** a file is linked at its own path, and only if it has no second name in its layer (see
//! [`crate::manifest`]); pipes and sockets are made anew, so that no two trees meet in one.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Timestamps};

use crate::beneath;
use crate::diff::{Change, ChangeKind};
use crate::editor::Editor;
use crate::effect::{Effect, link_target};
use crate::error::{Context as _, Result, SnapshotError};
use crate::known::KnownFile;
use crate::metadata::is_content_attribute;
use crate::path::split;
use crate::place::{Into, Placing, Shared};
use crate::upper::UpperDirectory;
use crate::view::{Entry, Follow};

/// How many files one task takes, so that opening their directory costs little.
const FILES_PER_TASK: usize = 64;

/// What a directory gets when all is in it.
struct Last {
    path: PathBuf,
    times: Timestamps,
    rights: Option<Vec<u8>>,
}

/// Lays `effect` over what is being made.
pub(crate) fn lay(editor: &Editor<'_>, effect: &Effect) -> Result<()> {
    let placing = Placing { exact: true, replace: true, ..Placing::default() };
    let layer = Layer { editor, effect, shared: Shared::new(editor, &effect.source, &placing) };
    let changes = &effect.diff.changes;
    let mut last = Vec::new();
    for change in changes {
        match change.kind {
            ChangeKind::Whiteout => layer.delete(&change.path)?,
            ChangeKind::Dir | ChangeKind::OpaqueDir => last.push(layer.directory(&change.path)?),
            _ => {}
        }
    }
    // Copies make what is known of contents forgotten, so they come first.
    let named_twice: HashSet<&Path> = changes.iter().filter_map(link_target).collect();
    let is_linked = |change: &Change| {
        matches!(change.kind, ChangeKind::File { .. }) && !named_twice.contains(&*change.path)
    };
    layer.all(changes.iter().filter(|change| is_body(change) && !is_linked(change)), false)?;
    layer.all(changes.iter().filter(|change| is_linked(change)), true)?;
    for change in changes {
        if let Some(to) = link_target(change) {
            layer.second_name(&change.path, to)?;
        }
    }
    last.par_iter().try_for_each(|Last { path, times, rights }| {
        if let Some(rights) = rights {
            layer.shared.give_rights(path, rights)?;
        }
        editor.set_times(path, times)
    })
}

/// Tells whether a change puts something there that is no directory, and no second name.
fn is_body(change: &Change) -> bool {
    match change.kind {
        ChangeKind::Whiteout | ChangeKind::Dir | ChangeKind::OpaqueDir | ChangeKind::HardLink { .. } => false,
        ChangeKind::File { .. }
        | ChangeKind::Symlink { .. }
        | ChangeKind::Fifo
        | ChangeKind::Socket
        | ChangeKind::CharDevice { .. }
        | ChangeKind::BlockDevice { .. } => true,
    }
}

struct Layer<'a> {
    editor: &'a Editor<'a>,
    effect: &'a Effect,
    shared: Shared<'a>,
}

impl Layer<'_> {
    fn source(&self, path: &Path) -> Result<Entry> {
        let found = self.effect.source.lookup(path, Follow::No)?;
        found.ok_or_else(|| SnapshotError::ChangedDuringBuild { path: path.to_owned() })
    }

    fn delete(&self, path: &Path) -> Result<()> {
        let Some((parent, name)) = split(path) else { return Ok(()) };
        match self.editor.upper_directory(parent) {
            Ok(directory) => directory.remove(name, path).map(drop),
            // There is nothing to delete.
            Err(SnapshotError::NotFound { .. } | SnapshotError::NotADirectory { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn directory(&self, path: &Path) -> Result<Last> {
        let source = self.source(path)?;
        let missing = || SnapshotError::ChangedDuringBuild { path: path.to_owned() };
        let (parent, name) = split(path).ok_or_else(missing)?;
        let above = self.editor.upper_directory(parent)?;
        let (made, is_new) = self.shared.enter_or_create(&above, false, name, path)?;
        if !is_new {
            let wanted = self.effect.source.xattrs(&source)?;
            let present = beneath::attributes(made.as_fd()).within("read the attributes of", path)?;
            for attribute in present.keys().filter(|name| !wanted.contains_key(*name)) {
                remove_attribute(made.as_fd(), attribute).within("write the attributes of", path)?;
            }
        }
        let rights = self.shared.dress(made.as_fd(), &source, path, true)?;
        let times = beneath::timestamps(source.metadata.accessed_ns, source.metadata.modified_ns);
        Ok(Last { path: path.to_owned(), times, rights })
    }

    /// Puts things that are no directories where they belong, on all cores.
    fn all<'a>(&self, changes: impl Iterator<Item = &'a Change>, link: bool) -> Result<()> {
        let mut by_parent: BTreeMap<&Path, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            by_parent.entry(change.path.parent().unwrap_or(Path::new(""))).or_default().push(change);
        }
        let tasks: Vec<(&Path, &[&Change])> = by_parent
            .iter()
            .flat_map(|(parent, changes)| changes.chunks(FILES_PER_TASK).map(|some| (*parent, some)))
            .collect();
        tasks.into_par_iter().try_for_each(|(parent, changes)| {
            let directory = self.editor.upper_directory(parent)?;
            changes.iter().try_for_each(|change| self.put(&directory, change, link))
        })
    }

    fn put(&self, directory: &UpperDirectory, change: &Change, link: bool) -> Result<()> {
        let Some((_, name)) = split(&change.path) else { return Ok(()) };
        let entry = self.source(&change.path)?;
        if link && self.link(directory, name, change, &entry)? {
            return Ok(());
        }
        let into = Into { directory, reused: None };
        self.shared.place(&into, name, &entry, &change.path, false).map(drop)
    }

    /// Gives a file of another layer a name in this one; `false` where that cannot be: there may be too many already, or
    /// it lies on another disk.
    fn link(&self, directory: &UpperDirectory, name: &OsStr, change: &Change, entry: &Entry) -> Result<bool> {
        let path = change.path.as_path();
        let (ChangeKind::File { size_bytes, digest }, Some(metadata)) = (&change.kind, &change.metadata)
        else {
            return Ok(false);
        };
        let file = KnownFile {
            size_bytes: *size_bytes,
            digest: *digest,
            mode: metadata.mode,
            owner: (metadata.uid, metadata.gid),
            modified_ns: metadata.modified_ns,
            xattrs: metadata.xattrs.clone(),
        };
        directory.make_room(name, path, true)?;
        let known = self.editor.known();
        // Noted before it is true: the other way round, somebody might write to it in between.
        known.share(path, file.clone());
        let linked = beneath::open_parent_beneath(self.effect.source.root_of(entry)?, path)
            .and_then(|(from, of)| Ok(rustix::fs::linkat(from, of, directory, name, AtFlags::empty())?));
        if let Err(error) = linked {
            tracing::debug!(path = %path.display(), %error, "copied, since it cannot be linked");
            known.remove(path);
            return Ok(false);
        }
        let there = beneath::metadata_at(directory.as_fd(), name).within("look up", path)?;
        if !there.is_some_and(|there| file.fits(&there)) {
            return Err(SnapshotError::ChangedDuringBuild { path: path.to_owned() });
        }
        known.set_look(path, there);
        Ok(true)
    }

    fn second_name(&self, path: &Path, to: &Path) -> Result<()> {
        let (Some((parent, name)), Some((first_parent, first))) = (split(path), split(to)) else {
            return Ok(());
        };
        let here = self.editor.upper_directory(parent)?;
        let there = self.editor.upper_directory(first_parent)?;
        here.make_room(name, path, true)?;
        rustix::fs::linkat(&there, first, &here, name, AtFlags::empty()).within("link", path)
    }
}

/// Takes away an attribute that belongs to a directory; overlay's own stay.
fn remove_attribute(directory: BorrowedFd<'_>, name: &OsStr) -> std::io::Result<()> {
    match is_content_attribute(name) {
        true => Ok(rustix::fs::fremovexattr(directory, name)?),
        false => Ok(()),
    }
}
