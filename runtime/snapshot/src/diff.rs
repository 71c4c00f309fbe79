//! What a snapshot changed: read from its upper directory, or, for a whole tree, by comparing it with its parent.
//!
//! In: the directory and what lies below. Out: changes sorted by path, files hashed on all cores. A deletion is named
//! once, at its top. An opaque directory is spelled out as the deletions it stands for, so that equal changes read equal
//! whoever made them. Directories above a change are part of it, as overlayfs brings them up. A file that was touched is
//! a change, though its time is in no key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::beneath;
use crate::content::{self, Body, Content, ContentDigest, ContentKey, Encoder, Owned};
use crate::error::{Context as _, Result, SnapshotError};
use crate::known::Known;
use crate::metadata::{ExtendedAttributes, FileType, Metadata};
use crate::overlay;
use crate::snapshots::{Active, DriverKind};
use crate::view::{Entry, Follow, View};

/// The changes of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// Sorted by path, name by name.
    pub changes: Vec<Change>,
    /// What the snapshot's own files occupy on the disk.
    pub size_bytes: u64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where: relative to the root, without a leading slash; empty for the root itself.
    pub path: PathBuf,
    /// What stands there now.
    pub kind: ChangeKind,
    /// Mode, owner and the like; none for a deletion.
    pub metadata: Option<ChangeMetadata>,
}

/// What stands at a path after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A directory; what lay in one of that name stays unless it is named.
    Dir,
    /// A directory that hides what lay in one of that name. Only [`layer_diff`] answers this.
    OpaqueDir,
    /// A regular file.
    File {
        /// Length of its content.
        size_bytes: u64,
        /// Hash of its content.
        digest: ContentDigest,
    },
    /// A symbolic link.
    Symlink {
        /// What it says.
        target: PathBuf,
    },
    /// Another name of the file at `to`, which comes earlier in the same diff.
    HardLink {
        /// The first name.
        to: PathBuf,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// Nothing: what was there is gone, with everything inside.
    Whiteout,
}

/// What belongs to a file besides its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeMetadata {
    /// The 12 mode bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Time of last modification, nanoseconds since 1970. In no key.
    pub modified_ns: i64,
    /// Extended attributes, without overlay's own.
    pub xattrs: ExtendedAttributes,
}

impl Diff {
    /// Returns the key of the tree that these changes make of one with the key `parent`; of no changes, `parent` itself.
    pub fn content_key(&self, parent: ContentKey) -> ContentKey {
        if self.changes.is_empty() {
            return parent;
        }
        let mut encoder = Encoder::new(b"diff");
        encoder.parent(parent);
        for Change { path, kind, metadata } in &self.changes {
            let body = match kind {
                ChangeKind::Whiteout => {
                    encoder.mark(b"w", path);
                    continue;
                }
                ChangeKind::HardLink { to } => {
                    encoder.hard_link(path, to);
                    continue;
                }
                ChangeKind::OpaqueDir => {
                    encoder.mark(b"o", path);
                    Body::Directory
                }
                ChangeKind::Dir => Body::Directory,
                ChangeKind::File { size_bytes, digest } => {
                    Body::File { size_bytes: *size_bytes, digest: *digest }
                }
                ChangeKind::Symlink { target } => Body::Symlink { target: target.clone() },
                ChangeKind::Fifo => Body::Fifo,
                ChangeKind::Socket => Body::Socket,
                ChangeKind::CharDevice { major, minor } => Body::CharDevice { major: *major, minor: *minor },
                ChangeKind::BlockDevice { major, minor } => {
                    Body::BlockDevice { major: *major, minor: *minor }
                }
            };
            if let Some(metadata) = metadata {
                let owned = Owned { mode: metadata.mode, uid: metadata.uid, gid: metadata.gid };
                encoder.entry(path, owned, &body, &metadata.xattrs);
            }
        }
        encoder.finish()
    }
}

impl Change {
    /// Tells whether a layer as a tar file can say this: there, a name that begins with `.wh.` means a deletion, so a file
    /// really called so cannot be packed.
    pub fn fits_a_layer(&self) -> bool {
        !self.path.iter().any(|name| name.as_encoded_bytes().starts_with(b".wh."))
    }
}

/// Returns what was changed in `active` so far.
///
/// `Redirected` if the upper directory was mounted with overlay options under which it does not hold whole files.
pub fn diff(active: &Active) -> Result<Diff> {
    let below = View::new(active.base().to_vec());
    match active.driver() {
        DriverKind::Overlay => of_upper(active.upper(), &below, Some(&active.known)),
        DriverKind::Copy => of_whole(active.upper(), &below),
    }
}

/// Returns the changes that a layer directory names, without looking at what lies below it: opaque directories stay
/// [`ChangeKind::OpaqueDir`].
pub fn layer_diff(directory: &Path) -> Result<Diff> {
    Reader::new(directory, None, None).read()
}

/// Reads the upper directory of an overlay on `below`; files of which `known` knows the content are not read.
pub(crate) fn of_upper(directory: &Path, below: &View, known: Option<&Known>) -> Result<Diff> {
    Reader::new(directory, Some(below), known).read()
}

/// Reads upper directories.
struct Reader<'a> {
    /// The upper directory as it lies there.
    upper: View,
    below: Option<&'a View>,
    known: Option<&'a Known>,
    /// Entries of the upper directory, in order.
    entries: Vec<Entry>,
    /// Index in `entries` of the directories that hide what is below.
    opaque: HashSet<usize>,
    gone: Vec<PathBuf>,
}

/// What lies below a directory of the upper layer.
struct Level {
    depth: usize,
    path: PathBuf,
    /// There is a directory of that name below.
    merged: bool,
    /// What is in it does not show through.
    hidden: bool,
    /// Names of the upper layer, with whether it is there (or else deleted).
    names: BTreeMap<OsString, bool>,
}

impl<'a> Reader<'a> {
    fn new(directory: &Path, below: Option<&'a View>, known: Option<&'a Known>) -> Self {
        Self {
            upper: View::of_directory(directory),
            below,
            known,
            entries: Vec::new(),
            opaque: HashSet::new(),
            gone: Vec::new(),
        }
    }

    fn read(mut self) -> Result<Diff> {
        let mut levels: Vec<Level> = Vec::new();
        let root = self.upper.existing(Path::new(""), Follow::No)?;
        for entry in crate::walk::all(&self.upper, root)? {
            let depth = entry.path.iter().count();
            while levels.last().is_some_and(|level| level.depth >= depth)
                && let Some(level) = levels.pop()
            {
                self.leave(level)?;
            }
            let whiteout = entry.metadata.is_whiteout() || self.is_attribute_whiteout(&entry)?;
            if let (Some(level), Some(name)) = (levels.last_mut(), entry.path.file_name()) {
                level.names.insert(name.to_owned(), !whiteout);
            }
            if whiteout {
                continue;
            }
            if entry.metadata.is_directory() {
                let level = self.enter(&entry, depth, levels.last())?;
                levels.push(level);
            }
            self.entries.push(entry);
        }
        while let Some(level) = levels.pop() {
            self.leave(level)?;
        }
        self.finish()
    }

    fn enter(&mut self, entry: &Entry, depth: usize, above: Option<&Level>) -> Result<Level> {
        let file = beneath::open_directory_beneath(self.upper.root_of(entry)?, &entry.path)
            .within("open", &entry.path)?;
        let opaque = overlay::is_opaque(file.as_fd()).within("read the attributes of", &entry.path)?;
        let attributes =
            beneath::attributes_and_marks(file.as_fd()).within("read the attributes of", &entry.path)?;
        refuse_redirects(attributes.1, &entry.path)?;
        let is_root = above.is_none();
        if opaque && !is_root {
            self.opaque.insert(self.entries.len());
        }
        let merged = above.is_none_or(|above| above.merged) && self.is_directory_below(&entry.path)?;
        let hidden = (opaque && !is_root) || above.is_some_and(|above| above.hidden);
        Ok(Level { depth, path: entry.path.clone(), merged, hidden, names: BTreeMap::new() })
    }

    fn is_directory_below(&self, path: &Path) -> Result<bool> {
        let Some(below) = self.below else { return Ok(false) };
        let found = below.lookup(path, Follow::No)?;
        Ok(found.is_some_and(|entry| entry.metadata.is_directory()))
    }

    /// Notes which names of a finished directory are gone.
    fn leave(&mut self, level: Level) -> Result<()> {
        let Level { path, merged, hidden, names, .. } = level;
        let Some(below) = self.below else {
            self.gone.extend(names.iter().filter(|(_, there)| !**there).map(|(name, _)| path.join(name)));
            return Ok(());
        };
        if !merged {
            return Ok(());
        }
        let Some(lower) = below.directory(&path)? else { return Ok(()) };
        if hidden {
            for name in lower.list().within("list", &path)?.into_keys() {
                if names.get(&name) != Some(&true) {
                    self.gone.push(path.join(name));
                }
            }
            return Ok(());
        }
        for (name, there) in names {
            let path = path.join(&name);
            // A whiteout of nothing says nothing.
            if !there && lower.child(&name).within("look up", &path)?.is_some() {
                self.gone.push(path);
            }
        }
        Ok(())
    }

    fn is_attribute_whiteout(&self, entry: &Entry) -> Result<bool> {
        if entry.metadata.file_type != FileType::File || entry.metadata.size_bytes != 0 {
            return Ok(false);
        }
        let (parent, name) = beneath::open_parent_beneath(self.upper.root_of(entry)?, &entry.path)
            .within("open", &entry.path)?;
        overlay::is_attribute_whiteout(parent.as_fd(), name).within("read the attributes of", &entry.path)
    }

    fn finish(self) -> Result<Diff> {
        let size_bytes = occupied(&self.entries);
        let opaque: HashSet<PathBuf> = match self.below {
            Some(_) => HashSet::new(),
            None => self.opaque.iter().map(|index| self.entries[*index].path.clone()).collect(),
        };
        let mut entries = self.entries;
        if let Some(below) = self.below
            && same_root(&self.upper, below)?
        {
            entries.retain(|entry| !entry.path.as_os_str().is_empty());
        }
        let mut changes = read_changes(&self.upper, &entries, self.known)?;
        for change in &mut changes {
            if opaque.contains(&change.path) {
                change.kind = ChangeKind::OpaqueDir;
            }
        }
        Ok(Diff { changes: with_deletions(changes, self.gone), size_bytes })
    }
}

/// Compares a whole tree with its parent's.
pub(crate) fn of_whole(directory: &Path, below: &View) -> Result<Diff> {
    let whole = View::new(vec![directory.to_owned()]);
    let mut gone = Vec::new();
    let mut entries = Vec::new();
    // Candidates: both there, alike as far as metadata tells.
    let mut alike: Vec<(usize, Entry)> = Vec::new();
    let mut changed: HashSet<usize> = HashSet::new();
    // Names below of the directories on the way down.
    let mut levels: Vec<(usize, BTreeMap<OsString, Entry>)> = Vec::new();
    for entry in whole.walk("")? {
        let entry = entry?;
        let depth = entry.path.iter().count();
        while levels.last().is_some_and(|(level, _)| *level >= depth)
            && let Some((_, left)) = levels.pop()
        {
            gone.extend(left.into_values().map(|entry| entry.path));
        }
        let index = entries.len();
        let old = match entry.path.file_name() {
            None => below.lookup("", Follow::No)?,
            Some(name) => levels.last_mut().and_then(|(_, names)| names.remove(name)),
        };
        let was_directory = old.as_ref().is_some_and(|old| old.metadata.is_directory());
        match old {
            Some(old) if same_metadata(&entry, &old) => alike.push((index, old)),
            _ => {
                changed.insert(index);
            }
        }
        if entry.metadata.is_directory() {
            let names = if was_directory { below.read_dir(&entry.path)? } else { BTreeMap::new() };
            levels.push((depth, names));
        }
        entries.push(entry);
    }
    gone.extend(levels.into_iter().flat_map(|(_, left)| left.into_values().map(|entry| entry.path)));
    let differing = alike
        .par_iter()
        .map(|(index, old)| Ok((*index, !same_content(&whole, &entries[*index], below, old)?)))
        .collect::<Result<Vec<_>>>()?;
    changed.extend(differing.into_iter().filter(|(_, differs)| *differs).map(|(index, _)| index));
    let changed = with_groups_and_parents(&entries, changed, &gone);
    let size_bytes = occupied(&entries);
    let entries: Vec<Entry> = entries
        .into_iter()
        .enumerate()
        .filter(|(index, _)| changed.contains(index))
        .map(|(_, entry)| entry)
        .collect();
    Ok(Diff { changes: with_deletions(read_changes(&whole, &entries, None)?, gone), size_bytes })
}

/// Adds all names of a changed file, and the directories above what changed.
fn with_groups_and_parents(entries: &[Entry], changed: HashSet<usize>, gone: &[PathBuf]) -> HashSet<usize> {
    let groups: HashSet<(u64, u64)> =
        changed.iter().filter_map(|index| entries[*index].metadata.hard_link_group()).collect();
    let mut all = changed;
    for (index, entry) in entries.iter().enumerate() {
        if entry.metadata.hard_link_group().is_some_and(|group| groups.contains(&group)) {
            all.insert(index);
        }
    }
    let mut above: HashSet<&Path> = HashSet::new();
    let parents =
        gone.iter().map(PathBuf::as_path).chain(all.iter().map(|index| entries[*index].path.as_path()));
    for path in parents {
        for parent in path.ancestors().skip(1) {
            if parent.as_os_str().is_empty() || !above.insert(parent) {
                break;
            }
        }
    }
    let parents: Vec<usize> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| above.contains(entry.path.as_path()))
        .map(|(index, _)| index)
        .collect();
    all.extend(parents);
    all
}

/// Whether the metadata says that nothing happened. The root's times say nothing: every change of a name moves them.
fn same_metadata(new: &Entry, old: &Entry) -> bool {
    let (new_is, old_is) = (&new.metadata, &old.metadata);
    let is_root = new.path.as_os_str().is_empty();
    new_is.same_attributes(old_is)
        && (is_root || new_is.modified_ns == old_is.modified_ns)
        && (new_is.is_directory() || new_is.size_bytes == old_is.size_bytes)
        && new_is.device_number == old_is.device_number
}

/// Whether two entries with equal metadata are equal in the rest: attributes, bytes, link target.
fn same_content(whole: &View, new: &Entry, below: &View, old: &Entry) -> Result<bool> {
    if whole.xattrs(new)? != below.xattrs(old)? {
        return Ok(false);
    }
    match new.metadata.file_type {
        FileType::File => {
            let (new_file, old_file) = (whole.open(new)?, below.open(old)?);
            let digest = |file| ContentDigest::of_file(file).within("read", &new.path);
            Ok(digest(&new_file)? == digest(&old_file)?)
        }
        FileType::Symlink => Ok(whole.read_link(new)? == below.read_link(old)?),
        FileType::Directory
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharDevice
        | FileType::BlockDevice => Ok(true),
    }
}

/// Whether the root of an upper directory is as it was prepared.
fn same_root(upper: &View, below: &View) -> Result<bool> {
    let (new, old) = (upper.existing(Path::new(""), Follow::No)?, below.existing(Path::new(""), Follow::No)?);
    Ok(new.metadata.same_attributes(&old.metadata) && upper.xattrs(&new)? == below.xattrs(&old)?)
}

/// Reads what stands at each of `entries`, on all cores.
fn read_changes(view: &View, entries: &[Entry], known: Option<&Known>) -> Result<Vec<Change>> {
    let links: HashMap<usize, usize> = content::hard_links(entries);
    entries
        .par_iter()
        .enumerate()
        .map(|(index, entry)| {
            let (kind, xattrs) = match links.get(&index) {
                Some(first) => {
                    let to = entries[*first].path.clone();
                    (ChangeKind::HardLink { to }, view.xattrs(entry)?)
                }
                None => {
                    let content = known.and_then(|known| known.content(entry));
                    let Content { body, xattrs, marks } = match content {
                        Some(content) => content,
                        None => content::read(view, entry)?,
                    };
                    refuse_redirects(marks, &entry.path)?;
                    (ChangeKind::from(body), xattrs)
                }
            };
            let Metadata { mode, uid, gid, modified_ns, .. } = entry.metadata;
            let metadata = Some(ChangeMetadata { mode, uid, gid, modified_ns, xattrs });
            Ok(Change { path: entry.path.clone(), kind, metadata })
        })
        .collect()
}

/// Refuses what an overlay with `redirect_dir` or `metacopy` left: the content lies elsewhere.
fn refuse_redirects(marks: Vec<String>, path: &Path) -> Result<()> {
    match marks.into_iter().find(|mark| mark == "redirect" || mark == "metacopy") {
        Some(attribute) => Err(SnapshotError::Redirected { path: path.to_owned(), attribute }),
        None => Ok(()),
    }
}

fn with_deletions(mut changes: Vec<Change>, gone: Vec<PathBuf>) -> Vec<Change> {
    changes.extend(gone.into_iter().map(|path| Change { path, kind: ChangeKind::Whiteout, metadata: None }));
    // Paths compare name by name, so a directory comes right before what is inside.
    changes.sort_by(|left, right| left.path.cmp(&right.path));
    changes
}

/// What the files occupy, each counted once.
fn occupied(entries: &[Entry]) -> u64 {
    let mut counted = HashSet::new();
    entries
        .iter()
        .filter(|entry| entry.metadata.hard_link_group().is_none_or(|group| counted.insert(group)))
        .map(|entry| entry.metadata.allocated_bytes)
        .sum()
}

impl From<Body> for ChangeKind {
    fn from(body: Body) -> Self {
        match body {
            Body::Directory => Self::Dir,
            Body::File { size_bytes, digest } => Self::File { size_bytes, digest },
            Body::Symlink { target } => Self::Symlink { target },
            Body::Fifo => Self::Fifo,
            Body::Socket => Self::Socket,
            Body::CharDevice { major, minor } => Self::CharDevice { major, minor },
            Body::BlockDevice { major, minor } => Self::BlockDevice { major, minor },
        }
    }
}
