//! What a snapshot changed, read from its upper directory.
//!
//! In: the directory and what lies below. Out: changes sorted by path, files hashed on all cores. A deletion is named
//! once, at its top. An opaque directory is spelled out as the deletions it stands for, so that equal changes read equal
//! whoever made them. Directories above a change are part of it, as overlayfs brings them up. A file that was touched is
//! a change, though its time is in no key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::beneath;
use crate::content::{self, Body, Content, ContentDigest, ContentKey, Encoder, Owned};
use crate::continuing;
use crate::error::{Context as _, Result, SnapshotError};
use crate::known::Files;
use crate::metadata::{ExtendedAttributes, FileType, Metadata};
use crate::overlay;
use crate::seal::{Looks, Telling};
use crate::snapshots::{Active, DriverKind};
use crate::tally::Tally;
use crate::view::{Entry, Follow, View};
use crate::whole;

/// The changes of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// Sorted by path, name by name.
    pub changes: Vec<Change>,
    /// What the snapshot's own files occupy on the disk.
    pub size_bytes: u64,
    /// What all of its own files look like, where they were gone through.
    pub(crate) looks: Option<Looks>,
    /// If the snapshot continues the layer below: what it changed there. The changes are those of both then.
    pub(crate) continuing: Option<Vec<Change>>,
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
    /// Returns what the directory of the snapshot itself says.
    pub(crate) fn own(&self) -> &[Change] {
        self.continuing.as_deref().unwrap_or(&self.changes)
    }

    /// Returns the key of the tree that these changes make of one with the key `parent`; of no changes, `parent` itself.
    pub fn content_key(&self, parent: ContentKey) -> ContentKey {
        key_of(&self.changes, parent)
    }

    /// Returns the key of the directory's own files, if the snapshot continues the layer below.
    pub(crate) fn own_key(&self) -> Option<ContentKey> {
        self.continuing.as_ref().map(|own| key_of(own, ContentKey::empty()))
    }
}

/// Returns the key of the tree that changes make of one with the key `parent`.
fn key_of(changes: &[Change], parent: ContentKey) -> ContentKey {
    if changes.is_empty() {
        return parent;
    }
    let mut encoder = Encoder::new(b"diff");
    encoder.parent(parent);
    for Change { path, kind, metadata } in changes {
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
            ChangeKind::BlockDevice { major, minor } => Body::BlockDevice { major: *major, minor: *minor },
        };
        if let Some(metadata) = metadata {
            let owned = Owned { mode: metadata.mode, uid: metadata.uid, gid: metadata.gid };
            encoder.entry(path, owned, &body, &metadata.xattrs);
        }
    }
    encoder.finish()
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
/// `Redirected` if the upper directory was mounted with overlay options under which it does not hold whole files. Where a
/// copy took nearly all over from an earlier layer, the snapshot continues that layer from now on (`continuing`), and the
/// changes are those of both; `EarlierChanged` if that layer is not there any more.
pub fn diff(active: &Active) -> Result<Diff> {
    if let Some(diff) = continuing::diff(active)? {
        return Ok(diff);
    }
    let below = View::new(active.base().to_vec());
    match active.driver() {
        DriverKind::Overlay => of_upper(active.upper(), &below, active.known.files()),
        DriverKind::Copy => whole::of_whole(active.upper(), &below),
    }
}

/// Returns the changes that a layer directory names, without looking at what lies below it: opaque directories stay
/// [`ChangeKind::OpaqueDir`].
pub fn layer_diff(directory: &Path) -> Result<Diff> {
    of_layer(directory, Arc::default())
}

/// As [`layer_diff`]; what `known` knows of files is not asked for again.
pub(crate) fn of_layer(directory: &Path, known: Arc<Files>) -> Result<Diff> {
    Reader::new(directory, None, known)?.read()
}

/// Returns what a layer and one that continues it, the later one, changed together of what lies below both. Nothing below is
/// deleted by either.
pub(crate) fn of_continued(directories: [PathBuf; 2], below: &View) -> Result<Diff> {
    let [_, own] = &directories;
    let own_size_bytes = layer_diff(own)?.size_bytes;
    let both = View::new(directories.to_vec());
    let root = both.existing(Path::new(""), Follow::No)?;
    let is_root_same = same_root(&both, &root, below)?;
    let mut entries = crate::walk::all(&both, root)?;
    entries.retain(|entry| !(is_root_same && entry.path.as_os_str().is_empty()));
    let changes = read_changes(&both, &entries, None)?;
    Ok(Diff { changes, size_bytes: own_size_bytes, looks: None, continuing: None })
}

/// Whether the root of an upper directory is as it was prepared on `below`.
pub(crate) fn is_root_same(directory: &Path, below: &View) -> Result<bool> {
    let upper = View::of_directory(directory);
    same_root(&upper, &upper.existing(Path::new(""), Follow::No)?, below)
}

/// Reads the upper directory of an overlay on `below`; what `known` knows of files is not asked for again.
pub(crate) fn of_upper(directory: &Path, below: &View, known: Arc<Files>) -> Result<Diff> {
    Reader::new(directory, Some(below), known)?.read()
}

/// Reads upper directories.
struct Reader<'a> {
    /// The upper directory as it lies there.
    upper: View,
    below: Option<&'a View>,
    known: Arc<Files>,
    /// The root of the upper directory.
    root: Entry,
    telling: Telling,
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
    /// Its number in the telling.
    told: usize,
    /// There is a directory of that name below.
    merged: bool,
    /// What is in it does not show through.
    hidden: bool,
    /// Names of the upper layer, with whether it is there (or else deleted); those that tell of what is below.
    names: BTreeMap<OsString, bool>,
}

impl<'a> Reader<'a> {
    fn new(directory: &Path, below: Option<&'a View>, known: Arc<Files>) -> Result<Self> {
        let upper = View::of_known(directory, Arc::clone(&known));
        let root = upper.existing(Path::new(""), Follow::No)?;
        Ok(Self {
            telling: Telling::new(&root.metadata),
            upper,
            root,
            below,
            known,
            entries: Vec::new(),
            opaque: HashSet::new(),
            gone: Vec::new(),
        })
    }

    fn read(mut self) -> Result<Diff> {
        let mut levels: Vec<Level> = Vec::new();
        for entry in crate::walk::all(&self.upper, self.root.clone())? {
            let depth = entry.path.iter().count();
            while levels.last().is_some_and(|level| level.depth >= depth)
                && let Some(level) = levels.pop()
            {
                self.leave(level)?;
            }
            let whiteout = entry.metadata.is_whiteout() || self.is_attribute_whiteout(&entry)?;
            if let (Some(level), Some(name)) = (levels.last_mut(), entry.path.file_name()) {
                let target = match entry.metadata.file_type {
                    FileType::Symlink => Some(self.upper.read_link(&entry)?),
                    _ => None,
                };
                self.telling.name(level.told, name, &entry.metadata, target.as_deref());
                if whiteout || level.merged {
                    level.names.insert(name.to_owned(), !whiteout);
                }
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
        let told = self.telling.directory(depth, &entry.path, opaque);
        Ok(Level { depth, path: entry.path.clone(), told, merged, hidden, names: BTreeMap::new() })
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
            && same_root(&self.upper, &self.root, below)?
        {
            entries.retain(|entry| !entry.path.as_os_str().is_empty());
        }
        let mut changes = read_changes(&self.upper, &entries, Some(&self.known))?;
        for change in &mut changes {
            if opaque.contains(&change.path) {
                change.kind = ChangeKind::OpaqueDir;
            }
        }
        let changes = with_deletions(changes, self.gone);
        Ok(Diff { changes, size_bytes, looks: Some(self.telling.finish()), continuing: None })
    }
}

/// Whether the root of an upper directory is as it was prepared.
fn same_root(upper: &View, new: &Entry, below: &View) -> Result<bool> {
    let old = below.existing(Path::new(""), Follow::No)?;
    Ok(new.metadata.same_attributes(&old.metadata) && upper.xattrs(new)? == below.xattrs(&old)?)
}

/// Reads what stands at each of `entries`, on all cores.
pub(crate) fn read_changes(view: &View, entries: &[Entry], known: Option<&Files>) -> Result<Vec<Change>> {
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
                        None => content::read(view, entry, &Tally::default())?,
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

pub(crate) fn with_deletions(mut changes: Vec<Change>, gone: Vec<PathBuf>) -> Vec<Change> {
    if gone.is_empty() {
        return changes;
    }
    changes.extend(gone.into_iter().map(|path| Change { path, kind: ChangeKind::Whiteout, metadata: None }));
    // Paths compare name by name, so a directory comes right before what is inside.
    changes.sort_by(|left, right| left.path.cmp(&right.path));
    changes
}

/// What the files occupy, each counted once.
pub(crate) fn occupied(entries: &[Entry]) -> u64 {
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
