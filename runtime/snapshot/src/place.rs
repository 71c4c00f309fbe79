//! Carries out the plan of a copy in the upper directory.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType as Type, Mode, Timestamps};

use crate::beneath;
use crate::content::ContentDigest;
use crate::copy::{Copied, Verify};
use crate::editor::Editor;
use crate::error::{Context as _, Result, SnapshotError};
use crate::known::KnownFile;
use crate::linking::Reused;
use crate::metadata::{DEFAULT_RIGHTS, ExtendedAttributes, FileType, Metadata};
use crate::mode::ModeChange;
use crate::path::split;
use crate::plan::{Item, Plan, Role};
use crate::reuse::Reuse;
use crate::tally::Tally;
use crate::transfer::Transfer;
use crate::upper::UpperDirectory;
use crate::view::{Entry, View};

/// How many files one task takes, so that opening their directory costs little.
const FILES_PER_TASK: usize = 64;
/// How many directories on the way down stay open.
const OPEN_LEVELS: usize = 64;

/// What is done to everything that is copied.
#[derive(Default)]
pub(crate) struct Placing<'a> {
    pub(crate) mode: Option<ModeChange>,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) replace: bool,
    pub(crate) normalise: bool,
    pub(crate) verify: Option<Verify<'a>>,
    pub(crate) reuse: Option<&'a Reuse>,
    pub(crate) tally: Option<&'a Tally>,
    /// Everything as it is, sockets too.
    pub(crate) exact: bool,
}

/// A directory of the plan in the upper layer.
struct Placed {
    path: PathBuf,
    /// Nothing was there before: what is put into it meets nothing.
    fresh: bool,
    times: Option<Timestamps>,
    /// The access rights that what is created in it gets: set last, so that what is copied into it keeps its own.
    rights: Option<Vec<u8>>,
}

/// Where a file goes.
pub(crate) struct Into<'a> {
    pub(crate) directory: &'a UpperDirectory,
    /// The same directory of the layer whose unchanged files are taken over.
    pub(crate) reused: Option<Reused<'a>>,
}

/// The parts of a copy that all tasks share.
pub(crate) struct Shared<'a> {
    pub(crate) editor: &'a Editor<'a>,
    pub(crate) source: &'a View,
    pub(crate) placing: &'a Placing<'a>,
    transfer: Transfer<'a>,
}

/// Copies what `plan` says to `target`, a canonical path whose parent exists.
pub(crate) fn execute(
    editor: &Editor<'_>,
    source: &View,
    plan: Plan,
    target: &Path,
    placing: &Placing<'_>,
) -> Result<Copied> {
    if placing.verify.is_none() {
        editor.known().forget();
    }
    if let Some(tally) = placing.tally {
        let (files, bytes) = plan.extent();
        tally.expect(files, bytes);
    }
    let shared = Shared::new(editor, source, placing);
    if let Some(entry) = plan.single {
        let Some((parent, name)) = split(target) else {
            return Err(SnapshotError::IsADirectory { path: target.to_owned() });
        };
        let directory = editor.upper_directory(parent)?;
        let size_bytes =
            shared.place(&Into { directory: &directory, reused: None }, name, &entry, target, false)?;
        shared.transfer.count(1, 0);
        return Ok(Copied { files: 1, size_bytes });
    }

    let placed = shared.create_directories(&plan, target)?;
    let mut tasks: Vec<(&Placed, &[Item])> = Vec::new();
    for (placed, directory) in placed.iter().zip(&plan.directories) {
        if let Some(placed) = placed {
            tasks.extend(directory.items.chunks(FILES_PER_TASK).map(|items| (placed, items)));
        }
    }
    let copied = tasks.into_par_iter().map(|(placed, items)| shared.place_all(placed, items)).try_reduce(
        Copied::default,
        |left, right| {
            Ok(Copied { files: left.files + right.files, size_bytes: left.size_bytes + right.size_bytes })
        },
    )?;
    shared.link_all(&plan, &placed)?;
    placed.par_iter().flatten().try_for_each(|placed| {
        if let Some(rights) = &placed.rights {
            shared.give_rights(&placed.path, rights)?;
        }
        match &placed.times {
            Some(times) => editor.set_times(&placed.path, times),
            None => Ok(()),
        }
    })?;
    Ok(copied)
}

impl<'a> Shared<'a> {
    /// Copies things one by one, without a plan.
    pub(crate) fn new(editor: &'a Editor<'a>, source: &'a View, placing: &'a Placing<'a>) -> Self {
        Self { editor, source, placing, transfer: Transfer::new(placing.tally) }
    }
}

impl Shared<'_> {
    /// Creates the directories of the plan, in order; `None` for those it does not need.
    fn create_directories(&self, plan: &Plan, target: &Path) -> Result<Vec<Option<Placed>>> {
        // The directories on the way to the one at hand, open.
        let mut open: Vec<(PathBuf, UpperDirectory, bool)> = Vec::new();
        let mut placed = Vec::with_capacity(plan.directories.len());
        for directory in &plan.directories {
            if directory.role == Role::Unneeded {
                placed.push(None);
                continue;
            }
            let relative = &directory.relative;
            let path =
                if relative.as_os_str().is_empty() { target.to_owned() } else { target.join(relative) };
            let source = &directory.source;
            let Some((parent, name)) = split(&path) else {
                let root = self.editor.upper_root()?;
                let times = Some(self.times(&source.metadata));
                open.push((path.clone(), root, false));
                placed.push(Some(Placed { path, fresh: false, times, rights: None }));
                continue;
            };
            while open.last().is_some_and(|(above, _, _)| above != parent) {
                open.pop();
            }
            if open.is_empty() {
                open.push((parent.to_owned(), self.editor.upper_directory(parent)?, false));
            }
            let Some((_, above, above_fresh)) = open.last() else { continue };
            let (made, fresh) = self.enter_or_create(above, *above_fresh, name, &path)?;
            let rights = match directory.role {
                _ if fresh => self.dress(made.as_fd(), source, &path, true)?,
                Role::Copied => self.dress(made.as_fd(), source, &path, true)?,
                Role::Passage => self.dress(made.as_fd(), source, &path, false)?,
                Role::Start | Role::Unneeded => None,
            };
            let times = Some(self.times(&source.metadata));
            placed.push(Some(Placed { path: path.clone(), fresh, times, rights }));
            if open.len() >= OPEN_LEVELS {
                open.remove(0);
            }
            open.push((path, made, fresh));
        }
        Ok(placed)
    }

    /// Opens the directory `name`, creating it if there is none; tells whether it did.
    pub(crate) fn enter_or_create(
        &self,
        above: &UpperDirectory,
        above_fresh: bool,
        name: &OsStr,
        path: &Path,
    ) -> Result<(UpperDirectory, bool)> {
        if above_fresh {
            return Ok((above.create_directory(name, path)?, true));
        }
        match above.enter(name, path) {
            Ok(directory) => Ok((directory, false)),
            Err(SnapshotError::NotFound { .. }) => Ok((above.create_directory(name, path)?, true)),
            Err(SnapshotError::NotADirectory { .. }) if self.placing.replace => {
                above.make_room(name, path, false)?;
                Ok((above.create_directory(name, path)?, true))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives an open directory the metadata of its source: all of it, or the mode alone. Returns the rights that are to
    /// be given when all is in it.
    pub(crate) fn dress(
        &self,
        file: std::os::fd::BorrowedFd<'_>,
        source: &Entry,
        path: &Path,
        all: bool,
    ) -> Result<Option<Vec<u8>>> {
        if !all {
            beneath::set_mode(file, self.mode_as_is(&source.metadata)).within("chmod", path)?;
            return Ok(None);
        }
        let owner = self.owner(&source.metadata);
        beneath::set_owner(file, owner).within("chown", path)?;
        beneath::set_mode(file, self.placing.mode_of(&source.metadata)).within("chmod", path)?;
        if self.placing.normalise {
            return Ok(None);
        }
        let mut attributes = self.source.xattrs(source)?;
        let rights = attributes.remove(OsStr::new(DEFAULT_RIGHTS));
        beneath::set_attributes(file, &attributes).within("write the attributes of", path)?;
        Ok(rights)
    }

    pub(crate) fn give_rights(&self, path: &Path, rights: &[u8]) -> Result<()> {
        let write = || {
            let file = beneath::open_directory_beneath(self.editor.upper.as_fd(), path)?;
            let attributes = [(DEFAULT_RIGHTS.into(), rights.to_vec())];
            beneath::set_attributes(file.as_fd(), &attributes.into())
        };
        write().within("write the attributes of", path)
    }

    /// A directory that is only passed through takes the source's mode, without the change asked for.
    fn mode_as_is(&self, metadata: &Metadata) -> u32 {
        if self.placing.normalise { 0o755 } else { metadata.mode }
    }

    fn times(&self, metadata: &Metadata) -> Timestamps {
        match self.placing.timestamp {
            Some(timestamp) => beneath::timestamps(timestamp, timestamp),
            None => beneath::timestamps(metadata.accessed_ns, metadata.modified_ns),
        }
    }

    pub(crate) fn modified_ns(&self, metadata: &Metadata) -> i64 {
        self.placing.timestamp.unwrap_or(metadata.modified_ns)
    }

    pub(crate) fn owner(&self, metadata: &Metadata) -> (u32, u32) {
        self.placing.owner.unwrap_or((metadata.uid, metadata.gid))
    }

    fn place_all(&self, placed: &Placed, items: &[Item]) -> Result<Copied> {
        let directory = if placed.fresh {
            let file = beneath::open_directory_beneath(self.editor.upper.as_fd(), &placed.path)
                .within("open", &placed.path)?;
            UpperDirectory::new(file, None, self.editor.xattrs())
        } else {
            self.editor.upper_directory(&placed.path)?
        };
        let reused = self.placing.reuse.map(|reuse| Reused::new(reuse, &placed.path));
        let into = Into { directory: &directory, reused };
        let mut copied = Copied::default();
        for item in items {
            copied.files += 1;
            if item.same_as.is_none() {
                let path = placed.path.join(&item.name);
                copied.size_bytes += self.place(&into, &item.name, &item.entry, &path, placed.fresh)?;
            }
            self.transfer.count(1, 0);
        }
        Ok(copied)
    }

    /// Copies one thing that is no directory to `name`; returns the length of its content.
    pub(crate) fn place(
        &self,
        into: &Into<'_>,
        name: &OsStr,
        entry: &Entry,
        path: &Path,
        fresh: bool,
    ) -> Result<u64> {
        let directory = into.directory;
        if !fresh {
            let own = directory.own(name, path)?;
            let same = |own: Metadata| {
                (own.device, own.inode) == (entry.metadata.device, entry.metadata.inode)
                    && !self.editor.known().is_shared(path)
            };
            if own.is_some_and(same) {
                // Onto itself.
                return Ok(0);
            }
            directory.make_room(name, path, self.placing.replace)?;
            self.editor.known().remove(path);
        }
        let has_digest = matches!(entry.metadata.file_type, FileType::File | FileType::Symlink);
        if !has_digest && self.placing.verify.is_some_and(|verify| verify(&entry.path).is_some()) {
            // It was a file or a link when it was digested.
            return Err(SnapshotError::ChangedDuringBuild { path: entry.path.clone() });
        }
        match entry.metadata.file_type {
            FileType::File => self.place_file(into, name, entry, path),
            FileType::Symlink => {
                let target = self.unchanged(entry, self.source.read_link(entry))?;
                self.check(entry, || ContentDigest::of(target.as_os_str().as_encoded_bytes()))?;
                rustix::fs::symlinkat(&target, directory, name).within("create the link", path)?;
                self.dress_name(directory, name, entry, path, false)?;
                Ok(0)
            }
            FileType::Socket if !self.placing.exact => {
                // A socket without its listener is of no use; an empty file keeps its name, as in BuildKit.
                directory.create_file(name).within("create", path)?;
                self.editor.known().remove(path);
                self.dress_name(directory, name, entry, path, true)?;
                Ok(0)
            }
            FileType::Fifo => self.place_node(directory, name, entry, path, Type::Fifo),
            FileType::Socket => self.place_node(directory, name, entry, path, Type::Socket),
            FileType::CharDevice => self.place_node(directory, name, entry, path, Type::CharacterDevice),
            FileType::BlockDevice => self.place_node(directory, name, entry, path, Type::BlockDevice),
            FileType::Directory => Err(SnapshotError::ChangedDuringBuild { path: entry.path.clone() }),
        }
    }

    fn place_file(&self, into: &Into<'_>, name: &OsStr, entry: &Entry, path: &Path) -> Result<u64> {
        let expected = self.placing.verify.and_then(|verify| verify(&entry.path));
        if let Some(expected) = expected
            && let Some(size_bytes) = self.take_over(into, name, entry, path, expected)?
        {
            self.transfer.count(0, size_bytes);
            return Ok(size_bytes);
        }
        let from = self.unchanged(entry, self.source.open(entry))?;
        let to = into.directory.create_file(name).within("create", path)?;
        let size_bytes = match expected {
            Some(expected) => {
                let (size_bytes, actual) =
                    self.transfer.copy_hashed(&from, &to, &entry.metadata).within("copy", path)?;
                if actual != expected {
                    return Err(SnapshotError::ChangedDuringBuild { path: entry.path.clone() });
                }
                size_bytes
            }
            None => {
                // What was known of a file that this one replaces is over.
                self.editor.known().forget();
                self.transfer.copy(&from, &to, &entry.metadata).within("copy", path)?
            }
        };
        let owner = self.owner(&entry.metadata);
        let mode = self.placing.mode_of(&entry.metadata);
        let dress = || -> io::Result<()> {
            // The owner first: changing it takes set-id bits and capabilities away.
            beneath::set_owner(to.as_fd(), owner)?;
            beneath::set_mode(to.as_fd(), mode)?;
            if !self.placing.normalise {
                beneath::set_attributes(to.as_fd(), &beneath::attributes(from.as_fd())?)?;
            }
            Ok(rustix::fs::futimens(&to, &self.times(&entry.metadata))?)
        };
        dress().within("copy the metadata of", path)?;
        if let Some(digest) = expected {
            let xattrs = beneath::attributes(to.as_fd()).within("read the attributes of", path)?;
            let modified_ns = self.modified_ns(&entry.metadata);
            let look = beneath::metadata_of(&to).within("read", path)?;
            let known = KnownFile { size_bytes, digest, mode, owner, modified_ns, xattrs };
            self.editor.known().add(path, known, look);
        }
        Ok(size_bytes)
    }

    fn place_node(
        &self,
        directory: &UpperDirectory,
        name: &OsStr,
        entry: &Entry,
        path: &Path,
        kind: Type,
    ) -> Result<u64> {
        let (major, minor) = entry.metadata.device_number;
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(directory, name, kind, Mode::RUSR | Mode::WUSR, device).within("create", path)?;
        self.dress_name(directory, name, entry, path, true)?;
        Ok(0)
    }

    /// Gives what was just created as `name`, and cannot be opened, its metadata.
    fn dress_name(
        &self,
        directory: &UpperDirectory,
        name: &OsStr,
        entry: &Entry,
        path: &Path,
        has_mode: bool,
    ) -> Result<()> {
        let attributes =
            if self.placing.normalise { ExtendedAttributes::new() } else { self.source.xattrs(entry)? };
        let dress = || -> io::Result<()> {
            let owner = self.owner(&entry.metadata);
            beneath::set_owner_at(directory.as_fd(), name, owner)?;
            if has_mode {
                let mode = Mode::from_raw_mode(self.placing.mode_of(&entry.metadata));
                rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?;
            }
            if !attributes.is_empty() {
                let handle = beneath::open_handle_beneath(directory.as_fd(), Path::new(name))?;
                beneath::set_attributes_of_handle(handle.as_fd(), &attributes)?;
            }
            beneath::set_times_at(directory.as_fd(), name, &self.times(&entry.metadata))
        };
        dress().within("copy the metadata of", path)
    }

    /// Makes the further names of files that are copied already.
    fn link_all(&self, plan: &Plan, placed: &[Option<Placed>]) -> Result<()> {
        for (placed_here, directory) in placed.iter().zip(&plan.directories) {
            let Some(placed_here) = placed_here else { continue };
            for item in &directory.items {
                let Some((first_directory, first)) = item.same_as else { continue };
                let Some(placed_first) = &placed[first_directory] else { continue };
                let first_name = &plan.directories[first_directory].items[first].name;
                let path = placed_here.path.join(&item.name);
                let here = self.editor.upper_directory(&placed_here.path)?;
                let there = self.editor.upper_directory(&placed_first.path)?;
                if !placed_here.fresh {
                    let own = here.own(&item.name, &path)?;
                    let first = there.own(first_name, &path)?;
                    if own.is_some() && own.map(|own| own.inode) == first.map(|first| first.inode) {
                        continue;
                    }
                    here.make_room(&item.name, &path, self.placing.replace)?;
                }
                let known = self.editor.known();
                known.remove(&path);
                // It is told by its look how many names a file has.
                known.set_look(&placed_first.path.join(first_name), None);
                rustix::fs::linkat(&there, first_name, &here, &item.name, AtFlags::empty())
                    .within("link", &path)?;
            }
        }
        Ok(())
    }

    /// Checks the content of a link against what the caller knows.
    fn check(&self, entry: &Entry, actual: impl FnOnce() -> ContentDigest) -> Result<()> {
        match self.placing.verify.and_then(|verify| verify(&entry.path)) {
            Some(expected) if expected != actual() => {
                Err(SnapshotError::ChangedDuringBuild { path: entry.path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Says of a source that is gone, or something else, since the plan was made that it changed.
    pub(crate) fn unchanged<T>(&self, entry: &Entry, result: Result<T>) -> Result<T> {
        result.map_err(|error| match error {
            SnapshotError::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
                    || source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) =>
            {
                SnapshotError::ChangedDuringBuild { path: entry.path.clone() }
            }
            error => error,
        })
    }
}
