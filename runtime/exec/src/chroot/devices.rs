//! The devices of a `/dev` that is no mount: nodes of its own.
//!
//! Of what leads to `/proc` in a sandbox, which is not there, `stderr` is a named pipe: what is written to it is the step's output,
//! wherever a command has led its own. The others are links that lead nowhere: `stdout` may be led to where a result comes from, so
//! to open it fails and tells, where a pipe would give another result in silence.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::files::{DEVICES, LINKS};

/// The named pipe.
const STDERR: &str = "stderr";

/// Makes the devices, with links and folders beside them as in a sandbox.
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
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    Ok(())
}

/// Makes `stderr` a named pipe. Returns the end to read from, which never sees the end of it, and the end to write to.
///
/// Ours is open both ways: one who opens it by its name finds a reader, also when nobody else has it open any more.
pub(crate) fn named_stderr(dev: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    rustix::fs::unlinkat(dev, STDERR, AtFlags::empty())?;
    rustix::fs::mknodat(dev, STDERR, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    let open =
        |flags| rustix::fs::openat(dev, STDERR, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    Ok((open(OFlags::RDWR | OFlags::NONBLOCK)?, open(OFlags::WRONLY)?))
}
