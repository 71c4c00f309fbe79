//! The write side: file operations on a snapshot that is being made, written straight into its upper directory.
//!
//! In: the operations of BuildKit's FileOp. Out: an upper directory as overlayfs would have left it, without mounting.
//! Paths are cleaned lexically, then resolved inside the merged tree, symlinks and all; none leads out of it.
//! Under the copy driver there is nothing below, and the same code writes the whole tree.
//! Source: the behaviour of BuildKit's file backend and of tonistiigi/fsutil/copy.
//!
//! Names that begin with `.wh.` are ordinary here, as they are to overlayfs: a step may well make some (a container engine
//! inside it does) and carry them along. Only a layer as a tar file cannot hold them: see [`crate::Change::fits_a_layer`].

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Timestamps;

use crate::beneath;
use crate::error::{Context as _, Result, SnapshotError};
use crate::known::Known;
use crate::metadata::FileType;
use crate::overlay::Xattrs;
use crate::path::{clean, split};
use crate::snapshots::Active;
use crate::upper::{UpperDirectory, copy_metadata, copy_up, detach};
use crate::view::{Follow, View};

/// Changes one active snapshot. Nothing else may write to it meanwhile.
pub struct Editor<'a> {
    pub(crate) active: &'a Active,
    lowers: View,
    merged: View,
    pub(crate) upper: OwnedFd,
    /// What the entries of a layer made: see [`Self::apply`].
    applied: Mutex<BTreeSet<PathBuf>>,
}

impl<'a> Editor<'a> {
    /// Opens the upper directory of `active`. What a copy left out of it is linked: see [`CopyOptions::reuse`].
    ///
    /// [`CopyOptions::reuse`]: crate::CopyOptions::reuse
    pub fn new(active: &'a Active) -> Result<Self> {
        let mut layers = active.lowers().to_vec();
        let lowers = View::new(layers.clone());
        layers.push(active.upper().to_owned());
        let upper = beneath::open_host_directory(active.upper()).on_host("open", active.upper())?;
        let editor = Self { active, lowers, merged: View::new(layers), upper, applied: Mutex::default() };
        editor.settle()?;
        Ok(editor)
    }

    /// Returns the merged tree, what was written so far included.
    pub fn view(&self) -> View {
        self.merged.clone()
    }

    /// Creates a directory with `mode` (9 bits); one that exists already is left alone.
    ///
    /// `make_parents` creates those above it as well, alike in mode, owner and time; without it they must exist.
    /// `owner` is root unless given; `timestamp` (nanoseconds since 1970) is now unless given.
    pub fn mkdir(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
        make_parents: bool,
        owner: Option<(u32, u32)>,
        timestamp: Option<i64>,
    ) -> Result<()> {
        let resolved = self.merged.resolve(&clean(path.as_ref()), Follow::Yes)?;
        match resolved.entry {
            Some(entry) if entry.metadata.is_directory() => return Ok(()),
            Some(entry) => return Err(SnapshotError::NotADirectory { path: entry.path }),
            None => {}
        }
        if !make_parents {
            let parent = resolved.path.parent().unwrap_or(Path::new(""));
            self.merged.existing(parent, Follow::No)?;
        }
        let created = self.create_directories(&resolved.path, mode & 0o777, owner)?;
        self.stamp(&created, timestamp)
    }

    /// Writes a regular file. One that exists is emptied first and keeps its mode, owner and other names; `mode`
    /// (9 bits) is for a new one. The parent must exist; a symlink at `path` is followed.
    pub fn mkfile(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
        data: &[u8],
        owner: Option<(u32, u32)>,
        timestamp: Option<i64>,
    ) -> Result<()> {
        let resolved = self.merged.resolve(&clean(path.as_ref()), Follow::Yes)?;
        let path = resolved.path;
        let (parent, name) =
            split(&path).ok_or_else(|| SnapshotError::IsADirectory { path: PathBuf::new() })?;
        let directory = self.upper_directory(parent)?;
        self.about_to_write(&directory, name, &path)?;
        let mut file = match resolved.entry.map(|entry| entry.metadata.file_type) {
            None => {
                directory.make_room(name, &path, false)?;
                let file = directory.create_file(name).within("create", &path)?;
                beneath::set_mode(file.as_fd(), mode & 0o777).within("chmod", &path)?;
                file
            }
            Some(FileType::File) if directory.own(name, &path)?.is_some() => {
                directory.truncate_file(name).within("open", &path)?
            }
            Some(FileType::File) => {
                let file = copy_up(&directory, name, &path, false)?;
                if data.is_empty() {
                    // Emptying a file is a change, even if nothing is written after it.
                    file.set_len(0).within("empty", &path)?;
                }
                file
            }
            Some(FileType::Directory) => return Err(SnapshotError::IsADirectory { path }),
            // Writing to a device or a pipe would reach this machine.
            Some(_) => return Err(SnapshotError::NotAFile { path }),
        };
        file.write_all(data).within("write", &path)?;
        if let Some(owner) = owner {
            beneath::set_owner(file.as_fd(), owner).within("chown", &path)?;
        }
        drop(file);
        self.stamp(&[path], timestamp)
    }

    /// Creates the symlink `path` that says `target`, as it is. Nothing may stand at `path`; its parent must exist.
    pub fn symlink(
        &self,
        target: impl AsRef<Path>,
        path: impl AsRef<Path>,
        owner: Option<(u32, u32)>,
        timestamp: Option<i64>,
    ) -> Result<()> {
        let resolved = self.merged.resolve(&clean(path.as_ref()), Follow::Yes)?;
        let path = resolved.path;
        if resolved.entry.is_some() {
            return Err(SnapshotError::Exists { path });
        }
        let (parent, name) = split(&path).ok_or_else(|| SnapshotError::Exists { path: PathBuf::new() })?;
        let directory = self.upper_directory(parent)?;
        directory.make_room(name, &path, false)?;
        rustix::fs::symlinkat(target.as_ref(), &directory, name).within("create the link", &path)?;
        if let Some(owner) = owner {
            beneath::set_owner_at(directory.as_fd(), name, owner).within("chown", &path)?;
        }
        self.stamp(&[path], timestamp)
    }

    /// Removes `path` with everything inside; a symlink there is removed, not followed.
    ///
    /// Nothing there is an error unless `allow_not_found`. With `wildcard` the path is a pattern of Go's
    /// `filepath.Match`, and one that matches nothing is fine.
    pub fn remove(&self, path: impl AsRef<Path>, allow_not_found: bool, wildcard: bool) -> Result<()> {
        let path = path.as_ref();
        match path.to_str() {
            Some(pattern) if wildcard => {
                self.merged.glob(pattern)?.iter().try_for_each(|path| self.remove_one(path, allow_not_found))
            }
            _ => self.remove_one(&clean(path), allow_not_found),
        }
    }

    fn remove_one(&self, path: &Path, allow_not_found: bool) -> Result<()> {
        if split(path).is_none() {
            return Err(SnapshotError::BadPath { path: "/".into(), reason: "the root cannot be removed" });
        }
        let resolved = self.merged.resolve(path, Follow::No)?;
        if resolved.entry.is_none() {
            let missing = SnapshotError::NotFound { path: path.to_owned() };
            return if allow_not_found { Ok(()) } else { Err(missing) };
        }
        self.remove_canonical(&resolved.path)
    }

    /// Removes what is at a canonical path and exists.
    pub(crate) fn remove_canonical(&self, path: &Path) -> Result<()> {
        if let Some((parent, name)) = split(path) {
            self.upper_directory(parent)?.remove(name, path)?;
        }
        Ok(())
    }

    /// Changes mode, owner or time of what is at `path`, following symlinks. A file that exists only below is brought
    /// up with its content.
    pub fn set_metadata(
        &self,
        path: impl AsRef<Path>,
        mode: Option<u32>,
        owner: Option<(u32, u32)>,
        timestamp: Option<i64>,
    ) -> Result<()> {
        let entry = self.merged.existing(&clean(path.as_ref()), Follow::Yes)?;
        let path = entry.path;
        let apply = |file: std::os::fd::BorrowedFd<'_>| {
            if let Some(owner) = owner {
                beneath::set_owner(file, owner)?;
            }
            // A change of owner takes set-id bits away.
            beneath::set_mode(file, mode.unwrap_or(entry.metadata.mode) & 0o7777)
        };
        match entry.metadata.file_type {
            FileType::Directory => apply(self.upper_directory(&path)?.as_fd()).within("change", &path)?,
            FileType::File => {
                let (parent, name) =
                    split(&path).ok_or_else(|| SnapshotError::NotFound { path: path.clone() })?;
                let directory = self.upper_directory(parent)?;
                self.about_to_write(&directory, name, &path)?;
                if directory.own(name, &path)?.is_none() {
                    copy_up(&directory, name, &path, true)?;
                }
                let file =
                    beneath::open_file_beneath(directory.as_fd(), Path::new(name)).within("open", &path)?;
                apply(file.as_fd()).within("change", &path)?;
            }
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharDevice
            | FileType::BlockDevice => return Err(SnapshotError::NotAFile { path }),
        }
        self.stamp(&[path], timestamp)
    }

    /// Must be called before a file that exists already is written to or given other metadata: none of another layer
    /// may be, and what is known of contents may be over.
    pub(crate) fn about_to_write(&self, directory: &UpperDirectory, name: &OsStr, path: &Path) -> Result<()> {
        self.known().forget();
        if self.known().is_shared(path) {
            if directory.own(name, path)?.is_some_and(|own| own.file_type == FileType::File) {
                detach(directory, name, path)?;
            }
            self.known().remove(path);
        }
        Ok(())
    }

    /// What the editors of this snapshot know of its files.
    pub(crate) fn known(&self) -> &Known {
        &self.active.known
    }

    /// Opens the directory at the canonical `path` in the upper layer, bringing it and those above it up.
    pub(crate) fn upper_directory(&self, path: &Path) -> Result<UpperDirectory> {
        let mut directory = self.upper_root()?;
        let mut at = PathBuf::new();
        for name in path.iter() {
            at.push(name);
            directory = directory.enter(name, &at)?;
        }
        Ok(directory)
    }

    /// Remembers that the layer being applied made `path`.
    pub(crate) fn note_applied(&self, path: &Path) {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    /// Tells whether the layer being applied made `path` or something inside it.
    pub(crate) fn was_applied(&self, path: &Path) -> bool {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        // Paths compare name by name: what is inside follows at once.
        applied.range(path.to_owned()..).next().is_some_and(|next| next.starts_with(path))
    }

    /// The prefix of opaque marks.
    pub(crate) fn xattrs(&self) -> Xattrs {
        self.active.xattrs()
    }

    /// Opens the root of the upper layer.
    pub(crate) fn upper_root(&self) -> Result<UpperDirectory> {
        let file = self.upper.try_clone().within("open", Path::new(""))?;
        let lower = if self.active.lowers().is_empty() { None } else { Some(self.lowers.root()?) };
        Ok(UpperDirectory::new(file, lower, self.active.xattrs()))
    }

    /// Creates the directories that are missing on the canonical `path`; returns which, outermost first.
    pub(crate) fn create_directories(
        &self,
        path: &Path,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        let mut existing = path;
        loop {
            match self.merged.lookup(existing, Follow::No)? {
                Some(entry) if entry.metadata.is_directory() => break,
                Some(_) => return Err(SnapshotError::NotADirectory { path: existing.to_owned() }),
                None => missing.push(existing),
            }
            match existing.parent() {
                Some(parent) => existing = parent,
                None => break,
            }
        }
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let mut directory = self.upper_directory(existing)?;
        let mut created = Vec::new();
        for path in missing.into_iter().rev() {
            let Some((_, name)) = split(path) else { continue };
            directory = directory.create_directory(name, path)?;
            if let Some(owner) = owner {
                beneath::set_owner(directory.as_fd(), owner).within("chown", path)?;
            }
            beneath::set_mode(directory.as_fd(), mode).within("chmod", path)?;
            created.push(path.to_owned());
        }
        Ok(created)
    }

    /// Gives what stands at the canonical `paths` of the upper layer one time, the innermost first.
    pub(crate) fn stamp(&self, paths: &[PathBuf], timestamp: Option<i64>) -> Result<()> {
        let Some(timestamp) = timestamp else { return Ok(()) };
        let times = beneath::timestamps(timestamp, timestamp);
        paths.iter().rev().try_for_each(|path| self.set_times(path, &times))
    }

    /// Sets the times of what stands at a canonical path of the upper layer.
    pub(crate) fn set_times(&self, path: &Path, times: &Timestamps) -> Result<()> {
        if split(path).is_none() {
            return rustix::fs::futimens(&self.upper, times).within("set the times of", path);
        }
        let (parent, name) = beneath::open_parent_beneath(self.upper.as_fd(), path).within("open", path)?;
        beneath::set_times_at(parent.as_fd(), name, times).within("set the times of", path)
    }

    /// Gives the root the metadata of `view`'s.
    pub(crate) fn take_root_from(&self, view: &View) -> Result<()> {
        let root = view.root()?;
        if let Some((source, _)) = root.top() {
            let path = Path::new("");
            let metadata = beneath::metadata_of(source).within("read", path)?;
            copy_metadata(source, self.upper.as_fd(), &metadata).within("copy the metadata of", path)?;
        }
        Ok(())
    }
}
