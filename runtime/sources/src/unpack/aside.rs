//! Layers that are unpacked before those below them are there.
//!
//! In: a layer's blob, as it comes. Out: a snapshot that is [`Aside`]; then, once the layers below are written,
//! [`Settled`] over them; then [`Examined`], and committed. The long parts, unpacking and reading, need nothing of what is below,
//! so that the layers of an image go through them at once; what is left to do one after the other is short.
//!
//! What of a layer depends on those below is noted as it is unpacked: directories that it names on its way to something
//! else, whose metadata is that of the ones below, and deletions. Everything else that would, a link through which a path
//! leads above all, no tool writes that compares two trees. Such a layer is not settled: it is unpacked once more, by
//! [`super::layer`], when what it stands on is there.
//! **Invariant:** the tree is the one that [`super::layer`] makes of the same layers.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rb_diag::ErrorKind;
use rb_oci::{Descriptor, Digest};
use rb_snapshot::{
    Active, ContentKey, Diff, DriverKind, Editor, Follow, LayerEntry, LayerMetadata, Snapshots, View,
};
use rb_store::SnapshotId;

use super::{Ownership, PackedLayer, Said, inside, keep_row, write};
use crate::SourceError;
use crate::archive::MemberKind;

/// So many opaque directories a layer may have: each is compared with each deletion.
const FEW: usize = 100;

/// A layer that is unpacked on nothing. Dropped, it goes.
pub struct Aside {
    active: Active,
    layer: Whose,
    needs: Needs,
}

/// A layer that fits what is below.
pub struct Settled {
    active: Active,
    layer: Whose,
}

/// A layer that waits to be committed.
pub struct Examined {
    active: Active,
    layer: Whose,
    own: Diff,
}

/// Which layer it is.
struct Whose {
    descriptor: Descriptor,
    diff_id: Digest,
    content: ContentKey,
}

/// Unpacks a layer on nothing. `blob` is read to its end and proves itself by the diff id; whoever reads a blob that is not
/// proven settles the layer when it is. `None` where the layer cannot be unpacked without those below.
pub fn aside(
    snapshots: &Snapshots,
    packed: PackedLayer<'_>,
    blob: impl std::io::Read + Send + 'static,
    ownership: Ownership,
    stopped: &dyn Fn() -> bool,
) -> Result<Option<Aside>, SourceError> {
    // A whole tree is a copy of what it stands on.
    if snapshots.driver() == DriverKind::Copy {
        return Ok(None);
    }
    let active = snapshots.prepare(None)?;
    let mut needs = Needs::default();
    let editor = Editor::new(&active)?;
    if !write(snapshots.store(), packed, blob, &editor, ownership, stopped, Some(&mut needs))? {
        return Ok(None);
    }
    drop(editor);
    let PackedLayer { descriptor, diff_id, content } = packed;
    Ok(Some(Aside { active, layer: Whose { descriptor: descriptor.clone(), diff_id, content }, needs }))
}

impl Aside {
    /// Brings it into line with the layers `below`, lowest first. `None` where only unpacking it onto them can.
    pub fn settle(self, below: Vec<PathBuf>) -> Result<Option<Settled>, SourceError> {
        match self.try_settle(below) {
            // What does not fit is told by whoever unpacks it onto them.
            Err(error) if error.kind() == ErrorKind::Input => Ok(None),
            done => done,
        }
    }

    fn try_settle(self, below: Vec<PathBuf>) -> Result<Option<Settled>, SourceError> {
        let Self { mut active, layer, needs } = self;
        if !below.is_empty() {
            let own = View::new(vec![active.upper().to_owned()]);
            let Some(changes) = needs.against(&View::new(below.clone()), &own)? else { return Ok(None) };
            active.lay_over(below);
            let editor = Editor::new(&active)?;
            let mut writer = editor.layer_writer();
            for (path, change) in changes {
                match change {
                    Change::Gone => writer.apply(&path, LayerEntry::Whiteout, &LayerMetadata::default())?,
                    Change::Like(metadata) => writer.apply(&path, LayerEntry::Directory, &metadata)?,
                }
            }
            writer.finish()?;
        }
        Ok(Some(Settled { active, layer }))
    }
}

impl Settled {
    /// Returns the layer's directory, for what is settled over it.
    pub fn directory(&self) -> &Path {
        self.active.upper()
    }

    /// Reads what was written, to be compared one day.
    pub fn examine(self) -> Result<Examined, SourceError> {
        let Self { active, layer } = self;
        let own = active.own()?;
        Ok(Examined { active, layer, own })
    }
}

impl Examined {
    /// Ends it on top of the committed layers it was settled over. Its directory moves: nobody may be looking for it.
    pub fn commit(
        self,
        snapshots: &Snapshots,
        parent: Option<SnapshotId>,
    ) -> Result<SnapshotId, SourceError> {
        let Self { active, layer: Whose { descriptor, diff_id, content }, own } = self;
        let snapshot = snapshots.commit_over(active, parent, content, &own)?;
        keep_row(snapshots.store(), snapshot, diff_id, &descriptor)?;
        Ok(snapshot)
    }
}

/// What of a layer depends on those below.
#[derive(Default)]
pub(super) struct Needs {
    /// All directories on the way to something, with whether the layer says what they are.
    directories: BTreeMap<PathBuf, bool>,
    links: HashSet<PathBuf>,
    /// Digests of the paths of all that is no directory: there may be very many.
    others: HashSet<Digest>,
    gone: Vec<PathBuf>,
    opaque: Vec<PathBuf>,
}

/// What is done to a path.
#[derive(Debug)]
enum Change {
    /// It is deleted.
    Gone,
    /// It is a directory like the one below.
    Like(LayerMetadata),
}

impl Needs {
    /// Notes one entry; `false` where it cannot be written on nothing.
    pub(super) fn note(&mut self, path: &Path, said: &Said, kind: &MemberKind) -> bool {
        match said {
            Said::Nothing => true,
            // Through a link of its own it leads elsewhere, or nowhere.
            Said::Gone(path) => {
                self.gone.push(path.clone());
                !path.parent().is_some_and(|parent| self.leads_through_link(parent))
            }
            Said::Opaque(path) => {
                self.opaque.push(path.clone());
                !self.leads_through_link(path)
            }
            Said::There => self.note_there(path, kind),
        }
    }

    fn note_there(&mut self, path: &Path, kind: &MemberKind) -> bool {
        let is_directory = matches!(kind, MemberKind::Directory);
        let Some(parent) = path.parent() else {
            self.directories.insert(PathBuf::new(), true);
            return is_directory;
        };
        // Something of the layer's own that a directory takes the place of has hidden what is below, in which order only
        // unpacking onto that shows.
        if self.leads_through_link(parent) || !self.pass(parent) {
            return false;
        }
        if is_directory {
            self.directories.insert(path.to_owned(), true);
            return !self.others.contains(&digest(path));
        }
        // A directory of the layer's own, replaced.
        if self.directories.contains_key(path) {
            return false;
        }
        self.others.insert(digest(path));
        match kind {
            MemberKind::Symlink(_) => {
                self.links.insert(path.to_owned());
            }
            MemberKind::HardLink(target) => {
                let Ok(target) = inside(target) else { return true };
                if target.parent().is_some_and(|parent| self.leads_through_link(parent)) {
                    return false;
                }
                if self.links.contains(&target) {
                    self.links.insert(path.to_owned());
                }
            }
            _ => {}
        }
        true
    }

    /// Notes directories that something lies in; `false` where one of them was something else.
    fn pass(&mut self, path: &Path) -> bool {
        for path in path.ancestors() {
            if self.directories.contains_key(path) {
                break;
            }
            if self.others.contains(&digest(path)) {
                return false;
            }
            self.directories.insert(path.to_owned(), false);
        }
        true
    }

    /// Tells whether a symlink of this layer is, or ever was, on the way.
    fn leads_through_link(&self, path: &Path) -> bool {
        !self.links.is_empty() && path.ancestors().any(|path| self.links.contains(path))
    }

    /// Returns what is to be done over `below` to what is written in `own`; `None` where that is not known.
    fn against(mut self, below: &View, own: &View) -> Result<Option<Vec<(PathBuf, Change)>>, SourceError> {
        if self.opaque.len() > FEW {
            return Ok(None);
        }
        // The root is on every way.
        if !self.pass(Path::new("")) {
            return Ok(None);
        }
        let mut changes = Vec::new();
        let mut absent: Option<&Path> = None;
        for (path, is_said) in &self.directories {
            if absent.is_some_and(|absent| path.starts_with(absent)) {
                continue;
            }
            let Some(found) = below.lookup(path, Follow::No)? else {
                absent = Some(path);
                continue;
            };
            if !found.metadata.is_directory() || found.path != *path {
                return Ok(None);
            }
            let xattrs = below.xattrs(&found)?;
            match (is_said, xattrs.is_empty()) {
                (true, true) => {}
                // Which of them the directory keeps depends on the order of the entries.
                (true, false) => return Ok(None),
                (false, _) => {
                    let metadata = LayerMetadata {
                        mode: found.metadata.mode,
                        owner: Some((found.metadata.uid, found.metadata.gid)),
                        modified_ns: found.metadata.modified_ns,
                        xattrs,
                    };
                    changes.push((path.clone(), Change::Like(metadata)));
                }
            }
        }
        for path in &self.opaque {
            // Of two that lie in one another, the order decides what the inner one leaves.
            let hides_another = self.opaque.iter().any(|inner| inner != path && inner.starts_with(path));
            if hides_another || self.leads_through_link(path) || self.passes_inside(path) {
                return Ok(None);
            }
            let Some(found) = below.lookup(path, Follow::Yes)? else { continue };
            if found.path != *path {
                return Ok(None);
            }
            if found.metadata.is_directory() {
                hide_inside(path, below, own, &mut changes)?;
            }
        }
        for path in self.gone.iter() {
            let through_link = path.parent().is_some_and(|parent| self.leads_through_link(parent));
            // Of something that the layer has, or hides as well, the order decides.
            let is_hidden = self.opaque.iter().any(|opaque| opaque.starts_with(path));
            if through_link || is_hidden || own.lookup(path, Follow::No)?.is_some() {
                return Ok(None);
            }
            if let Some(parent) = path.parent()
                && let Some(found) = below.lookup(parent, Follow::No)?
                && !(found.metadata.is_directory() && found.path == parent)
            {
                return Ok(None);
            }
            changes.push((path.clone(), Change::Gone));
        }
        Ok(Some(changes))
    }

    /// Tells whether there is a directory inside `path` of which the layer does not say what it is.
    fn passes_inside(&self, path: &Path) -> bool {
        let inside =
            self.directories.range(path.to_owned()..).take_while(|(inside, _)| inside.starts_with(path));
        inside.skip_while(|(inside, _)| *inside == path).any(|(_, is_said)| !is_said)
    }
}

fn digest(path: &Path) -> Digest {
    Digest::of(path.as_os_str().as_bytes())
}

/// Deletes what `below` has in a directory and `own` has not.
fn hide_inside(
    path: &Path,
    below: &View,
    own: &View,
    changes: &mut Vec<(PathBuf, Change)>,
) -> Result<(), SourceError> {
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        for child in below.read_dir(&path)?.into_values() {
            match own.lookup(&child.path, Follow::No)? {
                None => changes.push((child.path, Change::Gone)),
                Some(own) if own.metadata.is_directory() && child.metadata.is_directory() => {
                    open.push(child.path);
                }
                // It hides what is below anyway.
                Some(_) => {}
            }
        }
    }
    Ok(())
}
