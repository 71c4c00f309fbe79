//! The life of a snapshot: prepared on its parent, written, committed under the key of its content.
//!
//! Two drivers. **Overlay**: a snapshot is the upper directory of an overlay mount, its parents' are the lower ones.
//! **Copy**, for machines that refuse overlayfs: a snapshot is a whole tree, a copy of its parent's with the changes in
//! it, marked by a file `whole` beside it. What stands below a whole tree no longer matters, so both kinds may follow one
//! another in one store.
//! **Invariant:** what is committed is never written again. Whoever writes to it all the same is noticed: by the seal that
//! the store compares before it serves a snapshot, or, where nothing shows from outside, by [`Snapshots::is_true`].

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_store::{Ended, SnapshotId, SnapshotRow, SnapshotState, Store, Truth, shows_damage};

use crate::content::ContentKey;
use crate::continuing::LeftOut;
use crate::deletions;
use crate::diff::{self, Diff};
use crate::editor::Editor;
use crate::error::{Context as _, Result, SnapshotError};
use crate::known::{Files, Known};
use crate::manifest::Manifest;
use crate::overlay::{self, Xattrs};
use crate::reuse::{Part, Reuse};
use crate::seal;
use crate::view::View;
use crate::whole;

/// Beside a layer: see [`Manifest`].
const MANIFEST: &str = "manifest";

/// Of more snapshots than this, layers of two parts are mounted as one directory: the kernel stacks no more than 500.
const CROWDED: usize = 400;

/// How a snapshot is laid over its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// By overlayfs: the snapshot holds only what changed.
    Overlay,
    /// Not at all: the snapshot is a copy of its parent, changed.
    Copy,
}

/// The snapshots of a store. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots {
    store: Store,
    driver: DriverKind,
    xattrs: Xattrs,
}

impl Snapshots {
    /// Uses `store` with `driver`, and finds out under which prefix this process may mark directories opaque (a mount
    /// must then be told the same, see [`Self::xattrs`]).
    pub fn new(store: Store, driver: DriverKind) -> Result<Self> {
        let probe = store.temp_path();
        std::fs::create_dir(&probe).on_host("create", &probe)?;
        let trusted = File::open(&probe)
            .on_host("open", &probe)
            .map(|directory| overlay::mark_opaque(directory.as_fd(), Xattrs::Trusted).is_ok());
        store.remove_tree(&probe)?;
        let xattrs = if trusted? { Xattrs::Trusted } else { Xattrs::User };
        Ok(Self::with_xattrs(store, driver, xattrs))
    }

    /// As [`Self::new`], with the prefix given.
    pub fn with_xattrs(store: Store, driver: DriverKind, xattrs: Xattrs) -> Self {
        store.seal_with(seal::of_snapshot);
        Self { store, driver, xattrs }
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the driver of new snapshots.
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Returns the prefix of opaque marks: an overlay of these snapshots is mounted with `userxattr` for
    /// [`Xattrs::User`], and without it for [`Xattrs::Trusted`].
    pub fn xattrs(&self) -> Xattrs {
        self.xattrs
    }

    /// Begins a snapshot on `parent`, or on nothing. Under the copy driver this copies the parent's tree.
    pub fn prepare(&self, parent: Option<SnapshotId>) -> Result<Active> {
        let base = self.layers(parent)?;
        let id = self.store.new_snapshot(parent)?;
        let directory = self.store.snapshot_dir(id);
        let active = Active {
            id,
            store: self.store.clone(),
            upper: directory.join("fs"),
            work: directory.join("work"),
            lowers: if self.driver == DriverKind::Overlay { base.clone() } else { Vec::new() },
            base,
            parent,
            driver: self.driver,
            xattrs: self.xattrs,
            known: Known::default(),
            left_out: LeftOut::default(),
            committed: false,
        };
        let below = View::new(active.base.clone());
        let editor = Editor::new(&active)?;
        if self.driver == DriverKind::Copy {
            let mark = directory.join("whole");
            File::create(&mark).on_host("create", &mark)?;
            editor.clone_tree(&below)?;
        }
        editor.take_root_from(&below)?;
        drop(editor);
        Ok(active)
    }

    /// Ends the writing of `active`, whose changes are `diff`, on a parent of content `parent_content`.
    ///
    /// Early cutoff: if a snapshot of the same content exists already, that one is returned and the new one dropped, so
    /// that what follows sees one tree, times included.
    pub fn commit(
        &self,
        active: Active,
        diff: &Diff,
        parent_content: ContentKey,
    ) -> Result<(SnapshotId, ContentKey)> {
        let content = diff.content_key(parent_content);
        let id = active.id;
        let stands = self.store.commit(id, &self.ended(id, diff, content, diff.own_key())?)?;
        Ok((active.end(stands), content))
    }

    /// As [`Self::commit`], under a content key that is known from elsewhere, such as an image's chain id. What was written
    /// is read once to be hashed, so that it can be compared one day.
    pub fn commit_as(&self, active: Active, content: ContentKey) -> Result<SnapshotId> {
        let own = active.own()?;
        self.commit_read(active, content, &own)
    }

    /// As [`Self::commit_as`], with what was read.
    pub(crate) fn commit_read(&self, active: Active, content: ContentKey, own: &Diff) -> Result<SnapshotId> {
        let own_key = own.content_key(ContentKey::empty());
        let id = active.id;
        let stands = self.store.commit(id, &self.ended(id, own, content, Some(own_key))?)?;
        Ok(active.end(stands))
    }

    /// Ends the writing of `active` as it is: it is not read, nobody finds it by its content, and it stands for no other.
    pub fn commit_unread(&self, active: Active) -> Result<SnapshotId> {
        let view = View::new(vec![active.upper.clone()]);
        let size_bytes = view
            .lookup("/", crate::Follow::No)?
            .map_or(Ok(0), |start| crate::walk::all(&view, start).map(|entries| diff::occupied(&entries)))?;
        let stands = self.store.commit_snapshot(active.id, size_bytes, None)?;
        Ok(active.end(stands))
    }

    /// Says of a snapshot all that its row keeps. What the diff saw of the files is what is sealed: who changes one of them
    /// after it is noticed.
    fn ended(
        &self,
        id: SnapshotId,
        diff: &Diff,
        content: ContentKey,
        own: Option<ContentKey>,
    ) -> Result<Ended> {
        let directory = self.store.snapshot_dir(id);
        let seal = match &diff.looks {
            Some(looks) => seal::of_looks(&directory, looks),
            None => seal::of_snapshot(&directory),
        };
        Ok(Ended {
            size_bytes: diff.size_bytes,
            content_key: Some(*content.as_bytes()),
            own_key: own.map(|own| *own.as_bytes()),
            seal: Some(seal.on_host("look through", &directory)?),
        })
    }

    /// Compares the files of a committed snapshot with its key. Reads all of them.
    ///
    /// It is not known what layers should be that another key stands for and that were committed by an older version.
    pub fn is_true(&self, row: &SnapshotRow) -> Result<Truth> {
        let compared = || -> Result<Truth> {
            let Some(content) = row.content_key else { return Ok(Truth::Unknown) };
            let is_same = match row.own_key {
                Some(own) => {
                    let now = diff::layer_diff(&self.directory(row.id))?;
                    now.content_key(ContentKey::empty()).as_bytes() == &own
                }
                None => {
                    let parent = match row.parent {
                        Some(parent) => self.store.snapshot(parent)?.and_then(|row| row.content_key),
                        None => Some(*ContentKey::empty().as_bytes()),
                    };
                    let Some(parent) = parent else { return Ok(Truth::Unknown) };
                    let parent = ContentKey::from_bytes(parent);
                    self.diff_of(row.id)?.content_key(parent).as_bytes() == &content
                }
            };
            Ok(match (is_same, row.is_sealed) {
                (true, _) => Truth::True,
                (false, true) => Truth::False,
                (false, false) => Truth::Unknown,
            })
        };
        match compared() {
            Err(SnapshotError::Io { source, .. } | SnapshotError::Directory { source, .. })
                if shows_damage(&source) =>
            {
                Ok(Truth::False)
            }
            Err(
                SnapshotError::NotFound { .. }
                | SnapshotError::NotADirectory { .. }
                | SnapshotError::NotAFile { .. }
                | SnapshotError::ChangedDuringBuild { .. }
                | SnapshotError::Redirected { .. },
            ) => Ok(Truth::False),
            told => told,
        }
    }

    /// Returns the layer directories of a committed snapshot, lowest first: the lower directories of an overlay. Under
    /// the copy driver it is one. `None` has none.
    pub fn layers(&self, id: Option<SnapshotId>) -> Result<Vec<PathBuf>> {
        let chain = self.chain(id)?;
        let is_crowded = chain.len() > CROWDED;
        let mut layers = Vec::new();
        let mut ids = chain.into_iter().rev();
        while let Some(id) = ids.next() {
            if is_crowded && self.continued(id)?.is_some() {
                layers.push(self.joined(id)?);
                // The other part.
                ids.next();
                continue;
            }
            layers.push(self.directory(id));
            if self.is_whole(id)? {
                break;
            }
        }
        layers.reverse();
        Ok(layers)
    }

    /// Returns the merged tree of a committed snapshot; of `None`, an empty one.
    pub fn view(&self, id: Option<SnapshotId>) -> Result<View> {
        Ok(View::new(self.layers(id)?))
    }

    /// Returns a committed snapshot and those it stands on, lowest first.
    pub fn chain(&self, id: Option<SnapshotId>) -> Result<Vec<SnapshotId>> {
        let mut chain = Vec::new();
        let mut next = id;
        while let Some(id) = next {
            let row = self.store.snapshot(id)?.filter(|row| row.state == SnapshotState::Committed);
            next = row.ok_or(SnapshotError::UnknownSnapshot(id))?.parent;
            chain.push(id);
        }
        chain.reverse();
        Ok(chain)
    }

    pub(crate) fn row(&self, id: SnapshotId) -> Result<SnapshotRow> {
        self.store.snapshot(id)?.ok_or(SnapshotError::UnknownSnapshot(id))
    }

    /// Returns the layer directory of one snapshot: its own changes, or its whole tree under the copy driver.
    pub fn directory(&self, id: SnapshotId) -> PathBuf {
        self.store.snapshot_dir(id).join("fs")
    }

    /// Returns the manifest of the layer that a committed snapshot ends, if it was committed with one. One that cannot be
    /// read any more is made anew from the files.
    pub fn manifest(&self, id: SnapshotId) -> Result<Option<Manifest>> {
        let Some(own) = self.own_manifest(id)? else { return Ok(None) };
        let Some(layer) = self.continued(id)? else { return Ok(Some(own)) };
        Ok(Some(match self.own_manifest(layer)? {
            Some(below) => own.over(below),
            None => Manifest::of(&self.diff_of(id)?, own.keeps_times),
        }))
    }

    /// Returns what a snapshot keeps beside it.
    fn own_manifest(&self, id: SnapshotId) -> Result<Option<Manifest>> {
        let path = self.manifest_path(id);
        if let Some(manifest) = Manifest::read(&path)? {
            return Ok(Some(manifest));
        }
        if !path.try_exists().on_host("look up", &path)? {
            return Ok(None);
        }
        tracing::warn!(snapshot = %id, "the list of a layer's files is damaged on the disk: it is made anew");
        // Whether they kept their times is lost with it: that they did is the answer that hides no change.
        let diff = match self.continued(id)? {
            Some(_) => diff::layer_diff(&self.directory(id))?,
            None => self.diff_of(id)?,
        };
        let manifest = Manifest::of(&diff, true);
        self.replace_manifest(id, &manifest)?;
        Ok(Some(manifest))
    }

    /// Notes in the manifest of a committed snapshot, if it has one, that its files keep the times of what they were copied
    /// from.
    pub fn keep_times(&self, id: SnapshotId) -> Result<()> {
        match self.own_manifest(id)? {
            Some(mut manifest) if !manifest.keeps_times => {
                manifest.keeps_times = true;
                self.replace_manifest(id, &manifest)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Puts `manifest` beside a committed snapshot, in place of the one that is there.
    fn replace_manifest(&self, id: SnapshotId, manifest: &Manifest) -> Result<()> {
        let (made, path) = (self.store.temp_path(), self.manifest_path(id));
        manifest.write(&made)?;
        std::fs::rename(&made, &path).on_host("create", &path)
    }

    /// Returns a committed snapshot as one whose unchanged files a copy may take over; `None` if it has no manifest that can
    /// be read, if it is gone, or if this driver keeps whole trees. Its files need not be as they were when it was
    /// committed: a copy looks at each that it takes over.
    pub fn reuse(&self, id: SnapshotId) -> Result<Option<Reuse>> {
        self.reuse_with(id, None)
    }

    /// As [`Self::reuse`], for a layer on `parent` that is to continue this one, if it lies on the same and differs little.
    pub fn reuse_on(&self, id: SnapshotId, parent: Option<SnapshotId>) -> Result<Option<Reuse>> {
        self.reuse_with(id, Some(parent))
    }

    fn reuse_with(&self, id: SnapshotId, on: Option<Option<SnapshotId>>) -> Result<Option<Reuse>> {
        let Some(row) = self.store.snapshot(id)? else { return Ok(None) };
        if self.driver == DriverKind::Copy || self.is_whole(id)? {
            return Ok(None);
        }
        let (layer, edited) = match row.parent.filter(|_| row.continues) {
            Some(layer) => (layer, self.part(id)?),
            None => (id, None),
        };
        let Some(whole) = self.part(layer)? else { return Ok(None) };
        let Some(row) = self.store.snapshot(layer)? else { return Ok(None) };
        let adds_only = whole.manifest.lists_all && whole.manifest.gone.is_empty();
        let continued_on = on.filter(|on| *on == row.parent && adds_only);
        Ok(Some(Reuse::new(layer, whole, edited, continued_on)))
    }

    fn part(&self, id: SnapshotId) -> Result<Option<Part>> {
        match Manifest::read(&self.manifest_path(id))? {
            Some(manifest) => Part::new(&self.directory(id), manifest),
            None => Ok(None),
        }
    }

    fn manifest_path(&self, id: SnapshotId) -> PathBuf {
        self.store.snapshot_dir(id).join(MANIFEST)
    }

    /// Returns what a committed snapshot changed against its parent, whichever driver made it; of one that continues a
    /// layer, what both changed. Deletions are named one by one; there are no opaque directories. Reads and hashes every
    /// changed file.
    ///
    /// What a layer of a merged tree deletes is named whether or not there was anything of it below.
    pub fn diff_of(&self, id: SnapshotId) -> Result<Diff> {
        self.diff_over(id, &self.below_layer(id)?, Arc::default())
    }

    /// As [`Self::diff_of`], against the tree `below` its layer; what is known of files is not read again.
    pub(crate) fn diff_over(&self, id: SnapshotId, below: &View, known: Arc<Files>) -> Result<Diff> {
        if let Some(layer) = self.continued(id)? {
            return diff::of_continued([self.directory(layer), self.directory(id)], below);
        }
        let mut diff = if self.is_whole(id)? {
            whole::of_whole(&self.directory(id), below)?
        } else {
            diff::of_upper(&self.directory(id), below, known)?
        };
        let mut said = deletions::read(&self.store.snapshot_dir(id))?.unwrap_or_default();
        said.retain(|path| diff.changes.binary_search_by(|change| change.path.cmp(path)).is_err());
        diff.changes = diff::with_deletions(diff.changes, said);
        Ok(diff)
    }

    /// Removes a snapshot nothing builds on; `UnknownSnapshot` if there is none.
    pub fn remove(&self, id: SnapshotId) -> Result<()> {
        if self.store.delete_snapshot(id)? { Ok(()) } else { Err(SnapshotError::UnknownSnapshot(id)) }
    }

    fn is_whole(&self, id: SnapshotId) -> Result<bool> {
        let mark = self.store.snapshot_dir(id).join("whole");
        mark.try_exists().on_host("look up", &mark)
    }
}

/// A snapshot that is being written. Dropping it removes it.
pub struct Active {
    /// Its name in the store.
    pub id: SnapshotId,
    pub(crate) store: Store,
    upper: PathBuf,
    work: PathBuf,
    pub(crate) lowers: Vec<PathBuf>,
    pub(crate) base: Vec<PathBuf>,
    parent: Option<SnapshotId>,
    driver: DriverKind,
    xattrs: Xattrs,
    /// What the editors of this snapshot know of its files.
    pub(crate) known: Known,
    /// What a copy did not write, since an earlier layer has it.
    pub(crate) left_out: LeftOut,
    committed: bool,
}

impl Active {
    /// Returns the directory that takes the changes; under the copy driver the whole tree. Once an editor has copied with
    /// [`CopyOptions::reuse`](crate::CopyOptions::reuse), nothing but editors may write to it: some of its files are those
    /// of another layer.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// Returns overlayfs's working directory.
    pub fn work(&self) -> &Path {
        // Whoever asks mounts it, and what is written then is not told to the editors.
        self.known.forget();
        &self.work
    }

    /// Returns the directories to mount below, lowest first; none under the copy driver.
    pub fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    /// Returns the driver that keeps it.
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Returns the prefix of opaque marks.
    pub fn xattrs(&self) -> Xattrs {
        self.xattrs
    }

    /// Returns the snapshot it was begun on.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.parent
    }

    /// Keeps what is known of the files beside the snapshot. To be called before it is committed.
    pub fn keep_manifest(&self, manifest: &Manifest) -> Result<()> {
        manifest.write(&self.upper.with_file_name(MANIFEST))
    }

    /// Keeps beside the snapshot what it is said to delete. To be called before it is committed.
    pub(crate) fn keep_deletions(&self, paths: &[&Path]) -> Result<()> {
        deletions::write(&self.store.snapshot_dir(self.id), paths)
    }

    /// Lets go: `stands` is the snapshot that stands for what was written.
    fn end(mut self, stands: SnapshotId) -> SnapshotId {
        self.committed = stands == self.id;
        stands
    }

    /// Returns the parent's layers, lowest first, under either driver.
    pub(crate) fn base(&self) -> &[PathBuf] {
        &self.base
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = self.store.delete_snapshot(self.id)
        {
            // The store removes it when it is opened after this process.
            tracing::warn!(snapshot = %self.id, %error, "an abandoned snapshot stays for now");
        }
    }
}
