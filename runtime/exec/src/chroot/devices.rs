//! The devices of a `/dev` that is no mount: nodes of its own.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::files::DEVICES;

/// Makes the devices, with links and folders beside them as in a sandbox; those that lead to `/proc` are left out, as there is none.
///
/// Each device is opened once: in a container it may be allowed to make one, and not to use it; so it is on a file system mounted `nodev`.
pub(crate) fn fill(dev: &OwnedFd) -> io::Result<()> {
    for (name, major, minor) in DEVICES {
        let node = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o666);
        let told = |error: rustix::io::Errno| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("/dev/{name} cannot be had: {error}"))
        };
        rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, node).map_err(told)?;
        // Whatever the umask.
        rustix::fs::chmodat(dev, name, mode, AtFlags::empty()).map_err(told)?;
        // Of the terminal there may be none to open.
        if name != "tty" {
            rustix::fs::openat(dev, name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(told)?;
        }
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)] {
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mkdirat(dev, name, mode)?;
        rustix::fs::chmodat(dev, name, mode, AtFlags::empty())?;
    }
    Ok(())
}
