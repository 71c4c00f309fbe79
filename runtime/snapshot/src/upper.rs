//! One directory of the layer that is being written, and what shows through it from below.
//!
//! **Invariant:** whatever is done here leaves the upper directory as overlayfs itself would have left it: what is
//! created under a directory that exists only below brings that directory up first (its metadata, not its content); what
//! is removed and exists below leaves a whiteout; a directory created where one exists below is opaque. What is brought
//! up was there before: the directory around it keeps its times.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, Timestamps, openat};
use rustix::io::Errno;

use crate::beneath;
use crate::directory::Directory;
use crate::error::{Context as _, Result, SnapshotError};
use crate::metadata::{ACCESS_RIGHTS, DEFAULT_RIGHTS, FileType, Metadata};
use crate::overlay::{self, Xattrs};

/// A directory of the upper layer, open.
#[derive(Debug)]
pub(crate) struct UpperDirectory {
    file: OwnedFd,
    /// The merged directory below; `None` where nothing shows through.
    lower: Option<Directory>,
    xattrs: Xattrs,
}

impl UpperDirectory {
    pub(crate) fn new(file: OwnedFd, lower: Option<Directory>, xattrs: Xattrs) -> Self {
        Self { file, lower, xattrs }
    }

    /// What is in the upper layer under `name`, whiteouts left out.
    pub(crate) fn own(&self, name: &OsStr, path: &Path) -> Result<Option<Metadata>> {
        let found = beneath::metadata_at(self.as_fd(), name).within("look up", path)?;
        Ok(found.filter(|metadata| !metadata.is_whiteout()))
    }

    /// What lies below under `name`, whether or not the upper layer hides it.
    pub(crate) fn below(&self, name: &OsStr, path: &Path) -> Result<Option<Metadata>> {
        let Some(lower) = &self.lower else { return Ok(None) };
        Ok(lower.child(name).within("look up", path)?.map(|located| located.metadata))
    }

    /// Opens the merged directory `name`, bringing it up if it exists only below.
    pub(crate) fn enter(&self, name: &OsStr, path: &Path) -> Result<Self> {
        match beneath::metadata_at(self.as_fd(), name).within("look up", path)? {
            Some(metadata) if metadata.is_directory() => {
                let file = beneath::open_directory(self.as_fd(), name).within("open", path)?;
                let lower = match &self.lower {
                    Some(lower) if !overlay::is_opaque(file.as_fd()).within("read", path)? => {
                        lower.child_directory(name).within("open", path)?
                    }
                    _ => None,
                };
                Ok(Self::new(file, lower, self.xattrs))
            }
            Some(metadata) if metadata.is_whiteout() => {
                Err(SnapshotError::NotFound { path: path.to_owned() })
            }
            Some(_) => Err(SnapshotError::NotADirectory { path: path.to_owned() }),
            None => {
                let Some(below) = self.below(name, path)? else {
                    return Err(SnapshotError::NotFound { path: path.to_owned() });
                };
                if !below.is_directory() {
                    return Err(SnapshotError::NotADirectory { path: path.to_owned() });
                }
                let lower = match &self.lower {
                    Some(lower) => lower.child_directory(name).within("open", path)?,
                    None => None,
                };
                let times = self.times().within("read the times above", path)?;
                let file = self.make_directory(name).within("create", path)?;
                if let Some((source, _)) = lower.as_ref().and_then(Directory::top) {
                    copy_metadata(source, file.as_fd(), &below).within("copy the metadata of", path)?;
                }
                self.keep(&times).within("keep the times above", path)?;
                Ok(Self::new(file, lower, self.xattrs))
            }
        }
    }

    /// Creates the directory `name`, where nothing is to be seen, with mode 0700. Nothing shows through it.
    pub(crate) fn create_directory(&self, name: &OsStr, path: &Path) -> Result<Self> {
        self.clear_whiteout(name).within("remove the whiteout of", path)?;
        let file = self.make_directory(name).within("create", path)?;
        if self.below(name, path)?.is_some_and(|below| below.is_directory()) {
            overlay::mark_opaque(file.as_fd(), self.xattrs).within("make opaque", path)?;
        }
        Ok(Self::new(file, None, self.xattrs))
    }

    fn make_directory(&self, name: &OsStr) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(self, name, Mode::RWXU)?;
        beneath::open_directory(self.as_fd(), name)
    }

    /// The directory's own times, for [`Self::keep`].
    pub(crate) fn times(&self) -> io::Result<Timestamps> {
        let metadata = beneath::metadata_of(self)?;
        Ok(beneath::timestamps(metadata.accessed_ns, metadata.modified_ns))
    }

    /// Gives the directory back its times after something came into it that is no change of it.
    pub(crate) fn keep(&self, times: &Timestamps) -> io::Result<()> {
        Ok(rustix::fs::futimens(self, times)?)
    }

    /// Creates the regular file `name`, where nothing is in the upper layer, with mode 0600.
    pub(crate) fn create_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(self, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Opens the regular file `name` of the upper layer for writing, emptied.
    pub(crate) fn truncate_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(self, name, flags, Mode::empty())?))
    }

    /// Makes room in the upper layer for a file, link or device called `name`: what hides below it goes anyway.
    ///
    /// A directory is in the way (`IsADirectory`) unless `replace_directories`.
    pub(crate) fn make_room(&self, name: &OsStr, path: &Path, replace_directories: bool) -> Result<()> {
        let found = beneath::metadata_at(self.as_fd(), name).within("look up", path)?;
        let in_the_way = match &found {
            Some(own) => own.is_directory(),
            None => self.below(name, path)?.is_some_and(|below| below.is_directory()),
        };
        if in_the_way && !replace_directories {
            return Err(SnapshotError::IsADirectory { path: path.to_owned() });
        }
        match found {
            None => Ok(()),
            Some(own) if own.is_directory() => {
                beneath::remove_tree_at(self.as_fd(), name).within("remove", path)
            }
            Some(_) => self.unlink(name).within("remove", path),
        }
    }

    /// Removes `name` from the merged tree; tells whether there was anything.
    pub(crate) fn remove(&self, name: &OsStr, path: &Path) -> Result<bool> {
        let found = beneath::metadata_at(self.as_fd(), name).within("look up", path)?;
        if found.is_some_and(|own| own.is_whiteout()) {
            return Ok(false);
        }
        if found.is_some() {
            beneath::remove_tree_at(self.as_fd(), name).within("remove", path)?;
        }
        if self.below(name, path)?.is_some() {
            overlay::make_whiteout(self.as_fd(), name).within("mark as deleted", path)?;
            return Ok(true);
        }
        Ok(found.is_some())
    }

    fn clear_whiteout(&self, name: &OsStr) -> io::Result<()> {
        match beneath::metadata_at(self.as_fd(), name)? {
            Some(metadata) if metadata.is_whiteout() => self.unlink(name),
            _ => Ok(()),
        }
    }

    /// Removes what is no directory from the upper layer.
    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(self, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The merged directory below.
    pub(crate) fn lower(&self) -> Option<&Directory> {
        self.lower.as_ref()
    }
}

impl AsFd for UpperDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Gives the open `target` the owner, mode, extended attributes and times of the open `source`.
pub(crate) fn copy_metadata(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    metadata: &Metadata,
) -> io::Result<()> {
    beneath::set_owner(target, (metadata.uid, metadata.gid))?;
    beneath::set_mode(target, metadata.mode)?;
    // Only attributes that belong to the file: a copied opaque mark would hide what shows through.
    let attributes = beneath::attributes(source)?;
    beneath::set_attributes(target, &attributes)?;
    // The directory around it gives rights to what is created in it, but this was there before.
    for rights in [ACCESS_RIGHTS, DEFAULT_RIGHTS].map(OsStr::new) {
        if !attributes.contains_key(rights) && beneath::attribute(target, rights)?.is_some() {
            rustix::fs::fremovexattr(target, rights)?;
            beneath::set_mode(target, metadata.mode)?;
        }
    }
    Ok(rustix::fs::futimens(target, &beneath::timestamps(metadata.accessed_ns, metadata.modified_ns))?)
}

/// Makes the regular file `name` of the upper layer one of its own, if it was linked from another layer.
pub(crate) fn detach(directory: &UpperDirectory, name: &OsStr, path: &Path) -> Result<()> {
    let source = beneath::open_file_beneath(directory.as_fd(), Path::new(name)).within("open", path)?;
    let metadata = beneath::metadata_of(&source).within("read", path)?;
    let times = directory.times().within("read the times above", path)?;
    directory.unlink(name).within("remove", path)?;
    let target = directory.create_file(name).within("create", path)?;
    directory.keep(&times).within("keep the times above", path)?;
    crate::transfer::Transfer::default().copy(&source, &target, &metadata).within("copy", path)?;
    copy_metadata(source.as_fd(), target.as_fd(), &metadata).within("copy the metadata of", path)
}

/// Copies up the regular file `name` from below: content and metadata.
pub(crate) fn copy_up(
    directory: &UpperDirectory,
    name: &OsStr,
    path: &Path,
    with_content: bool,
) -> Result<File> {
    let missing = || SnapshotError::NotFound { path: path.to_owned() };
    let lower = directory.lower().ok_or_else(missing)?;
    let located = lower.child(name).within("look up", path)?.ok_or_else(missing)?;
    if located.metadata.file_type != FileType::File {
        return Err(SnapshotError::NotAFile { path: path.to_owned() });
    }
    let part = lower.part(located.layer).ok_or_else(missing)?;
    let source = beneath::open_file_beneath(part, Path::new(name)).within("open", path)?;
    let times = directory.times().within("read the times above", path)?;
    let target = directory.create_file(name).within("create", path)?;
    directory.keep(&times).within("keep the times above", path)?;
    if with_content {
        let transfer = crate::transfer::Transfer::default();
        transfer.copy(&source, &target, &located.metadata).within("copy", path)?;
    }
    copy_metadata(source.as_fd(), target.as_fd(), &located.metadata).within("copy the metadata of", path)?;
    Ok(target)
}
