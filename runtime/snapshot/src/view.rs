//! The read side: the merged tree of a stack of layer directories, without mounting anything.
//!
//! In: layer directories, lowest first. Out: entries, listings, contents. Every path is resolved inside the tree: a
//! symlink starts again at the tree's root, never at the machine's, and `..` stops there; more than 40 links are an
//! error.
//! **Invariant:** the answer is that of an overlay mount of the same layers.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rb_path::{Dialect, Glob, has_wildcard};
use rustix::io::Errno;

use crate::beneath;
use crate::content::{self, ContentKey};
use crate::directory::{Directory, Located, Told};
use crate::error::{Context as _, Result, SnapshotError};
use crate::known::Files;
use crate::listing::Listing;
use crate::metadata::{ExtendedAttributes, FileType, Metadata};
use crate::patterns::PatternMatcher;
use crate::place::Placing;
use crate::plan::Plan;
use crate::tally::Tally;
use crate::walk::Walk;

/// How many symlinks one path may go through.
const MAXIMUM_LINKS: usize = 40;

/// Whether the last name of a path is followed if it is a symlink; those before it always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The link itself is meant.
    No,
    /// What it points to is meant.
    Yes,
}

/// A part of a tree: what one copy takes.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Where it starts.
    pub path: &'a Path,
    /// Whether a symlink there is followed.
    pub follow: Follow,
    /// Of a directory, only what matches, relative to it; everything if empty.
    pub include: &'a [String],
    /// Of a directory, nothing that matches, relative to it.
    pub exclude: &'a [String],
}

/// Something in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where: resolved, relative to the root, without a leading slash; empty for the root.
    pub path: PathBuf,
    /// What it is.
    pub metadata: Metadata,
    /// The layer that has it, counted from the lowest.
    pub(crate) layer: usize,
}

/// A merged tree. Cheap to clone; layers are opened at the first question.
#[derive(Clone)]
pub struct View(Arc<Stack>);

struct Stack {
    layers: Vec<PathBuf>,
    plain: bool,
    told: Option<Told>,
    roots: OnceLock<Result<Vec<Arc<OwnedFd>>, Unopened>>,
}

/// The layer that could not be opened, and the error's number.
type Unopened = (PathBuf, i32);

/// What became of a path: where it leads, whether or not anything is there.
pub(crate) struct Resolved {
    /// Without symlinks; names that do not exist are taken as they are.
    pub(crate) path: PathBuf,
    pub(crate) entry: Option<Entry>,
}

impl View {
    /// Shows `layers` (lowest first) merged as overlayfs would; none is an empty tree.
    pub fn new(layers: Vec<PathBuf>) -> Self {
        Self(Arc::new(Stack { layers, plain: false, told: None, roots: OnceLock::new() }))
    }

    /// Shows one ordinary directory as it is: nothing in it means a deletion.
    pub fn of_directory(directory: impl Into<PathBuf>) -> Self {
        Self::of_plain(directory.into(), None)
    }

    /// As [`Self::of_directory`], of one of which some files are known.
    pub(crate) fn of_known(directory: &Path, files: Arc<Files>) -> Self {
        Self::of_plain(directory.to_owned(), Some(Told::by_writers(files)))
    }

    /// Shows of an ordinary directory only what is listed, files and links as they are listed; a path needs those above
    /// it to be reached.
    pub fn of_listing(directory: impl Into<PathBuf>, listing: Listing) -> Self {
        Self::of_plain(directory.into(), Some(Told::by_listing(listing)))
    }

    fn of_plain(directory: PathBuf, told: Option<Told>) -> Self {
        Self(Arc::new(Stack { layers: vec![directory], plain: true, told, roots: OnceLock::new() }))
    }

    /// What is known of it beforehand.
    pub(crate) fn told(&self) -> Option<&Told> {
        self.0.told.as_ref()
    }

    /// Returns the layer directories, lowest first.
    pub fn layers(&self) -> &[PathBuf] {
        &self.0.layers
    }

    /// Finds what is at `path`; `None` if nothing is, or if it leads through something that is no directory.
    ///
    /// `TooManyLinks` after 40 symlinks.
    pub fn lookup(&self, path: impl AsRef<Path>, follow: Follow) -> Result<Option<Entry>> {
        Ok(self.resolve(path.as_ref(), follow)?.entry)
    }

    /// Lists the directory at `path`, following symlinks to it.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<BTreeMap<OsString, Entry>> {
        let path = self.existing(path.as_ref(), Follow::Yes)?.path;
        let directory = self.directory(&path)?.ok_or_else(|| not_a_directory(&path))?;
        let list = directory.list().within("list", &path)?;
        Ok(list
            .into_iter()
            .map(|(name, located)| {
                let entry = Entry::new(path.join(&name), located);
                (name, entry)
            })
            .collect())
    }

    /// Returns the paths that `pattern` matches, sorted, as Go's `filepath.Match` applied to every path would, name by
    /// name: a wildcard never matches a `/`. Symlinks before the first wildcard are followed, none after it.
    ///
    /// Without a wildcard the cleaned path is returned, whether or not it exists.
    pub fn glob(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        let cleaned = crate::path::clean(Path::new(pattern));
        let names: Vec<&str> = cleaned.iter().filter_map(|name| name.to_str()).collect();
        let Some(first) = names.iter().position(|name| has_wildcard(name)) else {
            return Ok(vec![cleaned]);
        };
        let mut globs = Vec::new();
        for name in &names[first..] {
            globs.push(Glob::new(name, Dialect::Go)?);
        }
        let base: PathBuf = names[..first].iter().collect();
        let base = self.resolve(&base, Follow::Yes)?;
        let mut found = Vec::new();
        if base.entry.is_some_and(|entry| entry.metadata.is_directory()) {
            self.glob_in(base.path, &globs, &mut found)?;
        }
        Ok(found)
    }

    fn glob_in(&self, base: PathBuf, globs: &[Glob], found: &mut Vec<PathBuf>) -> Result<()> {
        // Depth first, so that the answer is sorted; the pattern's length bounds the depth.
        let mut open = vec![(base, 0)];
        while let Some((path, depth)) = open.pop() {
            if depth == globs.len() {
                found.push(path);
                continue;
            }
            let Some(directory) = self.directory(&path)? else {
                if self.told().is_some_and(|told| told.lists_directory(&path)) {
                    return Err(SnapshotError::ChangedDuringBuild { path });
                }
                continue;
            };
            let mut next = Vec::new();
            match globs[depth].literal() {
                Some(name) => {
                    let name = OsString::from(name);
                    if directory.child(&name).within("look up", &path.join(&name))?.is_some() {
                        next.push((path.join(name), depth + 1));
                    }
                }
                None => {
                    for name in directory.list().within("list", &path)?.into_keys() {
                        if globs[depth].matches(name.as_encoded_bytes()) {
                            next.push((path.join(name), depth + 1));
                        }
                    }
                }
            }
            open.extend(next.into_iter().rev());
        }
        Ok(())
    }

    /// Opens the regular file `entry` for reading.
    pub fn open(&self, entry: &Entry) -> Result<File> {
        if entry.metadata.file_type != FileType::File {
            return Err(SnapshotError::NotAFile { path: entry.path.clone() });
        }
        beneath::open_file_beneath(self.root_of(entry)?, &entry.path).within("open", &entry.path)
    }

    /// Returns the target of the symlink `entry`.
    pub fn read_link(&self, entry: &Entry) -> Result<PathBuf> {
        let (parent, name) =
            beneath::open_parent_beneath(self.root_of(entry)?, &entry.path).within("open", &entry.path)?;
        beneath::link_target(parent.as_fd(), name).within("read the link", &entry.path)
    }

    /// Returns the extended attributes of `entry` that belong to it: overlay's own and this machine's security labels
    /// are left out, file capabilities are not.
    pub fn xattrs(&self, entry: &Entry) -> Result<ExtendedAttributes> {
        if entry.layer == usize::MAX {
            return Ok(ExtendedAttributes::new());
        }
        let root = self.root_of(entry)?;
        let read = || match entry.metadata.file_type {
            FileType::Directory => {
                beneath::attributes(beneath::open_directory_beneath(root, &entry.path)?.as_fd())
            }
            FileType::File => beneath::attributes(beneath::open_file_beneath(root, &entry.path)?.as_fd()),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharDevice
            | FileType::BlockDevice => {
                beneath::attributes_of_handle(beneath::open_handle_beneath(root, &entry.path)?.as_fd())
            }
        };
        read().within("read the attributes of", &entry.path)
    }

    /// Goes through everything at and under `path`, each directory before what is inside, names sorted.
    ///
    /// Symlinks to `path` itself are followed, those inside are not.
    pub fn walk(&self, path: impl AsRef<Path>) -> Result<Walk> {
        Ok(Walk::new(self.clone(), self.existing(path.as_ref(), Follow::Yes)?))
    }

    /// Hashes the subtree at `path`: names relative to it, types, modes, owners, extended attributes, contents, link
    /// targets, device numbers and which names are hard links of one file; no times, and not the name of `path`.
    ///
    /// Reads every file, on all cores. `NotFound` if nothing is there.
    pub fn content_digest(&self, path: impl AsRef<Path>, follow: Follow) -> Result<ContentKey> {
        self.content_digest_counted(path, follow, &Tally::default())
    }

    /// As [`Self::content_digest`]; `tally` hears how many bytes there are to read, and how far it is.
    pub fn content_digest_counted(
        &self,
        path: impl AsRef<Path>,
        follow: Follow,
        tally: &Tally,
    ) -> Result<ContentKey> {
        let part = Part { path: path.as_ref(), follow, include: &[], exclude: &[] };
        self.content_digest_of(&self.taken(&part)?, tally)
    }

    /// Returns what a copy takes of a part of the tree: first where it starts, each directory before what is inside.
    ///
    /// `NotFound` if nothing is there.
    pub fn taken(&self, part: &Part<'_>) -> Result<Vec<Entry>> {
        let start = self.existing(part.path, part.follow)?;
        if part.include.is_empty() && part.exclude.is_empty() {
            return crate::walk::all(self, start);
        }
        let (include, exclude) = (PatternMatcher::of(part.include)?, PatternMatcher::of(part.exclude)?);
        let plan = Plan::new(self, start, include.as_ref(), exclude.as_ref(), &Placing::default())?;
        Ok(plan.entries().cloned().collect())
    }

    /// Hashes what [`Self::taken`] returned, as [`Self::content_digest`] does.
    pub fn content_digest_of(&self, taken: &[Entry], tally: &Tally) -> Result<ContentKey> {
        content::of_entries(self, taken, tally)
    }

    /// As [`Self::lookup`], `NotFound` if nothing is there.
    pub(crate) fn existing(&self, path: &Path, follow: Follow) -> Result<Entry> {
        let entry = self.resolve(path, follow)?.entry;
        entry.ok_or_else(|| SnapshotError::NotFound { path: crate::path::clean(path) })
    }

    /// Follows `path` as far as it exists.
    pub(crate) fn resolve(&self, path: &Path, follow: Follow) -> Result<Resolved> {
        let mut todo: VecDeque<OsString> = steps(path).collect();
        let mut at = PathBuf::new();
        let mut directory = self.root()?;
        // What `at` is, as long as it exists; past a missing name or a file, names are only counted.
        let mut found = Some(directory.located().within("read", &at)?);
        let mut below_existing = 0_usize;
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                at.pop();
                below_existing = below_existing.saturating_sub(1);
                if below_existing == 0 {
                    directory = self.directory(&at)?.ok_or_else(|| not_a_directory(&at))?;
                    found = Some(directory.located().within("read", &at)?);
                }
                continue;
            }
            let next = at.join(&name);
            let child =
                if below_existing == 0 { directory.child(&name).within("look up", &next)? } else { None };
            match child {
                Some(child)
                    if child.metadata.file_type == FileType::Symlink
                        && (!todo.is_empty() || follow == Follow::Yes) =>
                {
                    links += 1;
                    if links > MAXIMUM_LINKS {
                        return Err(SnapshotError::TooManyLinks { path: crate::path::clean(path) });
                    }
                    let target = directory.link_target(child.layer, &name).within("read the link", &next)?;
                    if target.is_absolute() {
                        at = PathBuf::new();
                        directory = self.root()?;
                        found = Some(directory.located().within("read", &at)?);
                    }
                    for step in steps(&target).collect::<Vec<_>>().into_iter().rev() {
                        todo.push_front(step);
                    }
                    continue;
                }
                Some(child) if child.metadata.is_directory() => {
                    directory = directory
                        .child_directory(&name)
                        .within("open", &next)?
                        .ok_or_else(|| not_a_directory(&next))?;
                    found = Some(child);
                }
                Some(child) => {
                    below_existing = 1;
                    found = Some(child);
                }
                None => {
                    below_existing += 1;
                    found = None;
                }
            }
            at = next;
        }
        let entry = found.map(|located| Entry::new(at.clone(), located));
        Ok(Resolved { path: at, entry })
    }

    /// Opens the merged directory at the canonical `path`; `None` if there is none.
    pub(crate) fn directory(&self, path: &Path) -> Result<Option<Directory>> {
        let mut directory = self.root()?;
        for name in path.iter() {
            match directory.child_directory(name).within("open", path)? {
                Some(next) => directory = next,
                None => return Ok(None),
            }
        }
        Ok(Some(directory))
    }

    /// Opens the merged root.
    pub(crate) fn root(&self) -> Result<Directory> {
        Ok(Directory::root(self.roots()?, self.0.plain, self.0.told.clone()))
    }

    /// Returns the open layer that has `entry`.
    pub(crate) fn root_of(&self, entry: &Entry) -> Result<BorrowedFd<'_>> {
        self.layer_root(entry.layer, &entry.path)
    }

    /// Returns the open root of `layer`.
    pub(crate) fn layer_root(&self, layer: usize, path: &Path) -> Result<BorrowedFd<'_>> {
        let missing = || io::Error::from(Errno::NOENT);
        Ok(self.roots()?.get(layer).ok_or_else(missing).within("open", path)?.as_fd())
    }

    fn roots(&self) -> Result<&[Arc<OwnedFd>]> {
        let opened = self.0.roots.get_or_init(|| {
            let open = |layer: &PathBuf| {
                beneath::open_host_directory(layer)
                    .map(Arc::new)
                    .map_err(|error| (layer.clone(), error.raw_os_error().unwrap_or(0)))
            };
            self.0.layers.iter().map(open).collect()
        });
        match opened {
            Ok(roots) => Ok(roots),
            Err((layer, code)) => Err(io::Error::from_raw_os_error(*code)).on_host("open the layer", layer),
        }
    }
}

impl Entry {
    pub(crate) fn new(path: PathBuf, located: Located) -> Self {
        Self { path, metadata: located.metadata, layer: located.layer }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("View").field("layers", &self.0.layers).field("plain", &self.0.plain).finish()
    }
}

fn not_a_directory(path: &Path) -> SnapshotError {
    SnapshotError::NotADirectory { path: path.to_owned() }
}

/// The names of `path` in order, `..` among them.
fn steps(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
