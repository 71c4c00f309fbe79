//! The walk through a folder of the user's.
//!
//! In: a request and its filter. Out: all that the filter keeps or leads through, sorted as paths are, with its metadata; no file is
//! read. What always holds: no link is followed, and folders are listed at once, each by a task, so that depth costs no stack.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rb_snapshot::{Metadata, compare_paths};
use rb_store::FileStamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::{Listed, ListedKind, LocalRequest};
use crate::SourceError;
use crate::filter::{Above, Filter};

/// What the kernel takes of a path, without its NUL.
const PATH_BYTES: usize = 4095;

/// Something that the walk found.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
    pub(super) look: Look,
}

pub(super) enum Look {
    /// A folder; whether the patterns name it, or only led through it.
    Directory { mode: u32, kept: bool },
    /// A file whose digest is not known yet.
    File { mode: u32, stamp: FileStamp },
    /// A symbolic link.
    Symlink { target: PathBuf },
}

pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, SourceError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| SourceError::Read { path: path.to_owned(), source: error.into() })
}

/// A walk through all folders, each a task of its own, so that depth costs no stack.
pub(super) struct Walk<'a> {
    request: &'a LocalRequest,
    filter: &'a Filter,
    found: Mutex<Vec<Found>>,
    failed: Mutex<Option<SourceError>>,
}

/// A folder to be listed.
struct Task {
    within: Arc<OwnedFd>,
    name: CString,
    path: PathBuf,
    above: Above,
}

impl<'a> Walk<'a> {
    pub(super) fn new(request: &'a LocalRequest, filter: &'a Filter) -> Self {
        Self { request, filter, found: Mutex::default(), failed: Mutex::default() }
    }

    /// Returns what there is, sorted as paths are.
    pub(super) fn run(self, folder: &OwnedFd) -> Result<Vec<Found>, SourceError> {
        let read = |source| SourceError::Read { path: self.request.folder.clone(), source };
        let top = Task {
            within: Arc::new(folder.try_clone().map_err(read)?),
            name: c".".to_owned(),
            path: PathBuf::new(),
            above: Above::default(),
        };
        rayon::in_place_scope(|scope| self.spawn(scope, top));
        if let Some(error) = self.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let mut found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.par_sort_unstable_by(|left, right| compare_paths(&left.path, &right.path));
        Ok(found)
    }

    fn spawn<'s>(&'s self, scope: &rayon::Scope<'s>, task: Task) {
        scope.spawn(move |scope| {
            let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed().is_some() {
                return;
            }
            match self.list(task) {
                Ok(inside) => inside.into_iter().for_each(|task| self.spawn(scope, task)),
                Err(error) => {
                    failed().get_or_insert(error);
                }
            }
        });
    }

    /// Lists one folder; returns those in it.
    fn list(&self, task: Task) -> Result<Vec<Task>, SourceError> {
        if task.path.as_os_str().len() > PATH_BYTES {
            return Err(self.failure(&task.path, Errno::NAMETOOLONG));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&task.within, &task.name, flags, Mode::empty());
        let folder = Arc::new(opened.map_err(|error| self.failure(&task.path, error))?);
        drop(task.within);
        let (mut found, mut inside) = (Vec::new(), Vec::new());
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut listing = RawDir::new(&folder, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(|error| self.failure(&task.path, error))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = task.path.join(OsStr::from_bytes(name.to_bytes()));
            let verdict = self.filter.ask(&path, &task.above);
            let may_be_folder = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if !(verdict.kept || may_be_folder && verdict.look_inside) {
                continue;
            }
            let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // As if it had been removed before the listing.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(self.failure(&path, error)),
            };
            let metadata = Metadata::of(&stat);
            let look = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    if verdict.look_inside {
                        let (within, path) = (Arc::clone(&folder), path.clone());
                        inside.push(Task { within, name: name.to_owned(), path, above: verdict.above });
                    }
                    let mode = normalise(self.request, stat.st_mode, true);
                    Look::Directory { mode, kept: verdict.kept }
                }
                _ if !verdict.kept => continue,
                FileType::RegularFile => {
                    let mode = normalise(self.request, stat.st_mode, false);
                    Look::File { mode, stamp: stamp(&metadata) }
                }
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&folder, name, Vec::new());
                    let target = target.map_err(|error| self.failure(&path, error))?;
                    Look::Symlink { target: PathBuf::from(OsStr::from_bytes(target.to_bytes())) }
                }
                FileType::Socket => continue,
                _ => return Err(SourceError::SpecialFile { path }),
            };
            found.push(Found { path, metadata, look });
        }
        self.found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found);
        Ok(inside)
    }

    fn failure(&self, path: &Path, error: Errno) -> SourceError {
        failure(self.request, path, error.into())
    }
}

impl Found {
    pub(super) fn listed(&self) -> Listed {
        let (mode, kind) = match &self.look {
            Look::Directory { mode, .. } => (*mode, ListedKind::Directory),
            Look::File { mode, stamp } => (*mode, ListedKind::File(stamp.size_bytes)),
            Look::Symlink { target } => (0o777, ListedKind::Symlink(target.clone())),
        };
        Listed { path: self.path.clone(), mode, modified_ns: self.metadata.modified_ns, kind }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        if let Look::File { stamp, .. } = &self.look { stamp.size_bytes } else { 0 }
    }
}

/// What was listed and is gone, or something else, changed meanwhile; else it cannot be read.
pub(super) fn failure(request: &LocalRequest, path: &Path, source: io::Error) -> SourceError {
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::INVAL | Errno::STALE) => {
            SourceError::Changed { path: path.to_owned() }
        }
        _ => SourceError::Read { path: request.folder.join(path), source },
    }
}

/// Permission bits as they enter the key and the tree.
pub(super) fn normalise(request: &LocalRequest, mode: u32, folder: bool) -> u32 {
    match (request.normalise_modes, folder || mode & 0o100 != 0) {
        (false, _) => mode & 0o7777,
        (true, true) => 0o755,
        (true, false) => 0o644,
    }
}

pub(super) fn stamp(metadata: &Metadata) -> FileStamp {
    let Metadata { device, inode, size_bytes, modified_ns, changed_ns, .. } = *metadata;
    FileStamp { device, inode, size_bytes, modified_ns, changed_ns }
}
