//! Sockets that listen outside and are shown inside.
//!
//! A socket lies in a file system in memory of its own that is mounted nowhere but in the sandbox: no path of this machine
//! leads to it, and it is gone with the process, however that ends.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rb_sys::mount::Attributes;
use rustix::fs::{AtFlags, Gid, Mode, Uid};

use crate::error::ExecError;
use crate::{files, identity, roots};

/// A socket to be shown by an [`ExtraMount::Socket`](crate::ExtraMount::Socket).
#[derive(Clone, Debug)]
pub struct Socket(Arc<OwnedFd>);

impl Socket {
    /// Makes a socket with this owner and these permissions inside; who connects to it reaches the listener.
    pub fn listen(uid: u32, gid: u32, mode: u32) -> Result<(Self, UnixListener), ExecError> {
        identity::owner_exists(uid, gid)?;
        let made = || -> io::Result<(Self, UnixListener)> {
            let attributes = Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC);
            let mount = roots::tmpfs(&[("mode", "700".to_owned())], attributes)?;
            // A path that leads to the descriptor: bind(2) takes nothing else.
            let path = format!("/proc/self/fd/{}/{}", mount.as_raw_fd(), files::SINGLE);
            let listener = UnixListener::bind(path)?;
            let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            rustix::fs::chownat(&mount, files::SINGLE, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_raw_mode(mode & 0o777);
            rustix::fs::chmodat(&mount, files::SINGLE, mode, AtFlags::empty())?;
            Ok((Self(Arc::new(mount)), listener))
        };
        made().map_err(|source| ExecError::Setup { action: "make a socket".to_owned(), source })
    }

    /// Returns the mount that holds it, as its file [`files::SINGLE`].
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}
