//! Layers that continue the one below: of a copy that changes little of what an earlier one left, only that is written.
//!
//! Below lies the layer of the earlier copy, whole; this one holds what differs, and whiteouts for what is gone. Together
//! they are one layer, and whoever thinks in layers takes them as one ([`Snapshots::layer_tops`]); their changes are those
//! against what lies below both ([`Snapshots::diff_of`]). Only a whole layer is continued, so there are two at most.
//!
//! How: the copy is made on what lies below both, as ever, only that files which would be linked are left out and noted.
//! At the end, when the changes are asked for, the snapshot is put on the earlier layer; or, where that would not
//! give the same tree or not be worth it, what was left out is linked.
//! **Invariants:** the tree, its key and its changes are what they would be had everything been copied. Who opens an editor
//! on a snapshot sees all that was copied: what was left out is linked first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use rb_store::SnapshotId;

use crate::beneath;
use crate::diff::{self, Change, ChangeKind, ChangeMetadata, Diff};
use crate::editor::Editor;
use crate::error::{Context as _, Result, SnapshotError};
use crate::linking::Linked;
use crate::listing::compare_paths;
use crate::manifest::ManifestFile;
use crate::overlay;
use crate::path::split;
use crate::reuse::Reuse;
use crate::snapshots::{Active, DriverKind, Snapshots};
use crate::upper::UpperDirectory;
use crate::view::{Follow, View};

/// A layer is continued by one of at most a so-many-th of its entries, and one more.
const SMALL: usize = 8;

/// Beside a snapshot that continues a layer, where many are stacked: see [`Snapshots::layers`].
const JOINED: &str = "joined";

/// What a copy left out of the snapshot that is being written.
#[derive(Default)]
pub(crate) struct LeftOut(Mutex<Option<Left>>);

struct Left {
    /// Where it is.
    reuse: Reuse,
    /// Of each file there, whether it was left out.
    taken: Vec<bool>,
    /// What was deleted, once the snapshot continues that layer.
    gone: Option<Vec<PathBuf>>,
}

impl LeftOut {
    fn lock(&self) -> MutexGuard<'_, Option<Left>> {
        // Every change is a single step, so a panicked holder leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Editor<'_> {
    /// Notes that the file of the earlier layer with this number belongs to the tree; `false` if it is to be linked.
    pub(crate) fn leave_out(&self, reuse: &Reuse, index: usize) -> bool {
        let active = self.active;
        if active.driver() != DriverKind::Overlay || !reuse.may_be_continued_on(active.parent()) {
            return false;
        }
        let mut left = active.left_out.lock();
        let left = left.get_or_insert_with(|| Left {
            reuse: reuse.clone(),
            taken: vec![false; reuse.whole().manifest.files.len()],
            gone: None,
        });
        let is_same = left.reuse.layer() == reuse.layer();
        if is_same {
            left.taken[index] = true;
        }
        is_same
    }

    /// Links what was left out. `EarlierChanged` where that is not there any more: all has to be copied then.
    pub(crate) fn settle(&self) -> Result<()> {
        let Some(left) = self.active.left_out.lock().take() else { return Ok(()) };
        left.take_back(self.active)?;
        let mut directories: BTreeMap<&Path, Vec<(&OsStr, &Path, &ManifestFile)>> = BTreeMap::new();
        for (path, file) in left.files() {
            if let Some((parent, name)) = split(path) {
                directories.entry(parent).or_default().push((name, path, file));
            }
        }
        let linked = directories.into_par_iter().try_for_each(|(parent, files)| {
            let changed = || SnapshotError::EarlierChanged { path: parent.to_owned() };
            let earlier = beneath::open_directory_beneath(left.reuse.whole().directory(), parent);
            let earlier = earlier.map_err(|_| changed())?;
            let upper = beneath::open_directory_beneath(self.upper.as_fd(), parent).within("open", parent)?;
            let upper = UpperDirectory::new(upper, None, self.xattrs());
            let times = upper.times().within("read the times of", parent)?;
            for (name, path, file) in files {
                if self.link(&upper, &earlier, name, path, &file.known)? != Linked::Done {
                    return Err(SnapshotError::EarlierChanged { path: path.to_owned() });
                }
            }
            upper.keep(&times).within("keep the times of", parent)
        });
        if let Err(SnapshotError::EarlierChanged { .. }) = &linked {
            // Where it is not as it was committed, it is forgotten.
            self.active.store.is_whole(left.reuse.layer())?;
        }
        linked
    }
}

impl Left {
    fn files(&self) -> impl Iterator<Item = (&Path, &ManifestFile)> {
        let files = self.reuse.whole().manifest.files.iter();
        files.zip(&self.taken).filter(|(_, taken)| **taken).map(|((path, file), _)| (path.as_path(), file))
    }

    /// Makes the snapshot a layer of its own again.
    fn take_back(&self, active: &Active) -> Result<()> {
        let Some(gone) = &self.gone else { return Ok(()) };
        in_upper(active, gone, UpperDirectory::unlink)?;
        if active.store.move_onto(active.id, active.parent(), false)? {
            return Ok(());
        }
        Err(SnapshotError::EarlierChanged { path: PathBuf::new() })
    }

    /// Puts the snapshot on the earlier layer; `None`, and nothing is done, where that is not worth it or not possible.
    /// Returns what it says itself.
    fn put_on_earlier(&mut self, active: &Active) -> Result<Option<Diff>> {
        let own = diff::of_layer(active.upper(), active.known.files())?;
        if self.gone.is_some() {
            return Ok(Some(own));
        }
        let hides = |change: &Change| matches!(change.kind, ChangeKind::Whiteout | ChangeKind::OpaqueDir);
        if own.changes.iter().any(hides) {
            return Ok(None);
        }
        let brought = own.changes.iter().filter(|change| change.kind != ChangeKind::Dir).count();
        let few = 1 + (own.changes.len() + self.files().count()) / SMALL;
        let Some(few_gone) = few.checked_sub(brought) else { return Ok(None) };
        let below = View::new(active.base().to_vec());
        let Some(gone) = self.gone(&own, &below, few_gone)? else { return Ok(None) };
        let layer = self.reuse.layer();
        if !active.store.is_whole(layer)? || !active.store.move_onto(active.id, Some(layer), true)? {
            return Ok(None);
        }
        let own = if gone.is_empty() {
            own
        } else {
            in_upper(active, &gone, |directory, name| overlay::make_whiteout(directory.as_fd(), name))?;
            diff::of_layer(active.upper(), active.known.files())?
        };
        self.gone = Some(gone);
        Ok(Some(own))
    }

    /// Returns the changes of both layers, of which the later one says `own`.
    fn changes(&self, own: Diff, active: &Active) -> Result<Diff> {
        let below = View::new(active.base().to_vec());
        let is_root_same = diff::is_root_same(active.upper(), &below)?;
        let mut changes = own.changes.clone();
        changes.retain(|Change { path, kind, .. }| {
            *kind != ChangeKind::Whiteout && !(is_root_same && path.as_os_str().is_empty())
        });
        changes.extend(self.files().map(|(path, file)| change(path, file)));
        changes.sort_by(|left, right| compare_paths(&left.path, &right.path));
        Ok(Diff { changes, size_bytes: own.size_bytes, looks: own.looks, continuing: Some(own.changes) })
    }

    /// Returns what of the earlier layer is not in the tree; `None` where that is more than a few, or something of what lies
    /// below both shows in place of it.
    fn gone(&self, own: &Diff, below: &View, few: usize) -> Result<Option<Vec<PathBuf>>> {
        let is_directory = |change: &Change| change.kind == ChangeKind::Dir;
        let now: HashMap<&OsStr, bool> =
            own.changes.iter().map(|change| (change.path.as_os_str(), is_directory(change))).collect();
        let manifest = &self.reuse.whole().manifest;
        let files = manifest.files.iter().zip(&self.taken).filter(|(_, taken)| !**taken);
        let files = files.map(|((path, _), _)| (path, false));
        let mut gone: HashSet<&OsStr> = HashSet::new();
        let mut paths = Vec::new();
        // Directories come first: what is in one that is gone goes with it.
        for (path, was_directory) in manifest.others.iter().map(|(path, is)| (path, *is)).chain(files) {
            let is_there = match now.get(path.as_os_str()) {
                Some(is_directory) if !is_directory || was_directory => continue,
                Some(_) => true,
                None => false,
            };
            let is_hidden =
                |above: &Path| gone.contains(above.as_os_str()) || now.get(above.as_os_str()) == Some(&false);
            if path.ancestors().skip(1).any(is_hidden) {
                continue;
            }
            if below.lookup(path, Follow::No)?.is_some() {
                return Ok(None);
            }
            if !is_there {
                if paths.len() == few {
                    return Ok(None);
                }
                gone.insert(path.as_os_str());
                paths.push(path.clone());
            }
        }
        Ok(Some(paths))
    }
}

impl Snapshots {
    /// Returns of a committed snapshot and those it stands on the ones that end a layer, lowest first: all but those that
    /// another one continues. What ends a layer has the changes of all of it ([`Self::diff_of`], [`Self::layer_view`]).
    pub fn layer_tops(&self, id: Option<SnapshotId>) -> Result<Vec<SnapshotId>> {
        let mut tops = Vec::new();
        let mut is_continued = false;
        for id in self.chain(id)?.into_iter().rev() {
            if !is_continued {
                tops.push(id);
            }
            is_continued = self.row(id)?.continues;
        }
        tops.reverse();
        Ok(tops)
    }

    /// Returns the files of one layer, without those it lies on: the contents that [`Self::diff_of`] names are found there.
    pub fn layer_view(&self, id: SnapshotId) -> Result<View> {
        Ok(match self.continued(id)? {
            Some(layer) => View::new(vec![self.directory(layer), self.directory(id)]),
            None => View::of_directory(self.directory(id)),
        })
    }

    /// Returns the tree that the layer which ends with this snapshot lies on.
    pub(crate) fn below_layer(&self, id: SnapshotId) -> Result<View> {
        let start = self.continued(id)?.unwrap_or(id);
        self.view(self.row(start)?.parent)
    }

    /// Returns the layer that a snapshot continues.
    pub(crate) fn continued(&self, id: SnapshotId) -> Result<Option<SnapshotId>> {
        let row = self.row(id)?;
        Ok(row.parent.filter(|_| row.continues))
    }

    /// Returns a directory with the files of a layer of two parts, of which this one is the later. It is made the first
    /// time; it goes with the snapshot.
    pub(crate) fn joined(&self, id: SnapshotId) -> Result<PathBuf> {
        let joined = self.store().snapshot_dir(id).join(JOINED);
        if joined.try_exists().on_host("look up", &joined)? {
            return Ok(joined);
        }
        let active = self.prepare(None)?;
        let editor = Editor::new(&active)?;
        let view = self.layer_view(id)?;
        editor.clone_tree(&view)?;
        editor.take_root_from(&view)?;
        // No row says whether it has reached the disk.
        rustix::fs::syncfs(&editor.upper).on_host("sync", active.upper())?;
        match std::fs::rename(active.upper(), &joined) {
            // Another process was faster. What file systems say of it differs: rename(2).
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                Ok(joined)
            }
            renamed => renamed.on_host("create", &joined).map(|()| joined),
        }
    }
}

/// Returns the changes of a snapshot of which something was left out; `None` if there is none, or no more.
pub(crate) fn diff(active: &Active) -> Result<Option<Diff>> {
    let Some(mut left) = active.left_out.lock().take() else { return Ok(None) };
    let own = left.put_on_earlier(active)?;
    let diff = own.map(|own| left.changes(own, active)).transpose()?;
    *active.left_out.lock() = Some(left);
    if diff.is_none() {
        Editor::new(active)?;
    }
    Ok(diff)
}

/// Does something about each path in the upper directory; the directories around keep their times.
fn in_upper(
    active: &Active,
    paths: &[PathBuf],
    change: impl Fn(&UpperDirectory, &OsStr) -> std::io::Result<()>,
) -> Result<()> {
    let upper = beneath::open_host_directory(active.upper()).on_host("open", active.upper())?;
    for path in paths {
        let Some((parent, name)) = split(path) else { continue };
        let directory = beneath::open_directory_beneath(upper.as_fd(), parent).within("open", parent)?;
        let directory = UpperDirectory::new(directory, None, active.xattrs());
        let times = directory.times().within("read the times above", path)?;
        change(&directory, name).within("mark as deleted", path)?;
        directory.keep(&times).within("keep the times above", path)?;
    }
    Ok(())
}

fn change(path: &Path, file: &ManifestFile) -> Change {
    let known = &file.known;
    let metadata = ChangeMetadata {
        mode: known.mode,
        uid: known.owner.0,
        gid: known.owner.1,
        modified_ns: known.modified_ns,
        xattrs: known.xattrs.clone(),
    };
    let kind = ChangeKind::File { size_bytes: known.size_bytes, digest: known.digest };
    Change { path: path.to_owned(), kind, metadata: Some(metadata) }
}
