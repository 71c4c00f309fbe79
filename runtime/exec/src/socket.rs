//! Sockets that listen outside and are shown inside.
//!
//! A socket lies in a file system in memory of its own that is mounted nowhere but in the sandbox: no path of this machine
//! leads to it, and it is gone with the process, however that ends. For a command in a chroot, where nothing can be mounted, it lies in
//! a directory of its own, which is removed with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_sys::mount::Attributes;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use crate::error::ExecError;
use crate::{files, identity, roots};

/// A socket to be shown by an [`ExtraMount::Socket`](crate::ExtraMount::Socket).
#[derive(Clone, Debug)]
pub struct Socket(Arc<Place>);

#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    /// The directory's path, if it is no mount.
    path: Option<PathBuf>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_dir_all(path)
        {
            tracing::warn!(%error, path = %path.display(), "a socket stays");
        }
    }
}

impl Socket {
    /// Makes a socket with this owner and these permissions inside; who connects to it reaches the listener.
    pub fn listen(uid: u32, gid: u32, mode: u32) -> Result<(Self, UnixListener), ExecError> {
        let make = || {
            let attributes = Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC);
            Ok((roots::tmpfs(&[("mode", "700".to_owned())], attributes)?, None))
        };
        Self::bind(make, (uid, gid), mode)
    }

    /// As [`listen`](Self::listen), for a command in a chroot: the socket lies in the new directory `path`, which is on the file system
    /// of the root.
    pub fn listen_at(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<(Self, UnixListener), ExecError> {
        let make = || {
            std::fs::DirBuilder::new().mode(0o700).create(path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(path, flags, Mode::empty())?;
            Ok((directory, Some(path.to_owned())))
        };
        Self::bind(make, (uid, gid), mode)
    }

    fn bind(
        make: impl FnOnce() -> io::Result<(OwnedFd, Option<PathBuf>)>,
        (uid, gid): (u32, u32),
        mode: u32,
    ) -> Result<(Self, UnixListener), ExecError> {
        identity::owner_exists(uid, gid)?;
        let made = || -> io::Result<(Self, UnixListener)> {
            let (directory, path) = make()?;
            let place = Place { directory, path };
            // A path that leads to the descriptor: bind(2) takes nothing else.
            let path = format!("/proc/self/fd/{}/{}", place.directory.as_raw_fd(), files::SINGLE);
            let listener = UnixListener::bind(path)?;
            let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            let no_link = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&place.directory, files::SINGLE, owner.0, owner.1, no_link)?;
            let mode = Mode::from_raw_mode(mode & 0o777);
            rustix::fs::chmodat(&place.directory, files::SINGLE, mode, AtFlags::empty())?;
            Ok((Self(Arc::new(place)), listener))
        };
        made().map_err(|source| ExecError::Setup { action: "make a socket".to_owned(), source })
    }

    /// Returns the mount that holds it, as its file [`files::SINGLE`].
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        self.0.directory.try_clone()
    }

    /// Returns the directory it lies in, and its name there.
    pub(crate) fn place(&self) -> io::Result<(OwnedFd, OsString)> {
        Ok((self.mount()?, files::SINGLE.into()))
    }
}
