//! The bundle: what a runtime is handed, in a file system in memory.
//!
//! The runtime's own state lies there, too. It is mounted nowhere but in the mounts of the runtime, and is gone with them;
//! what holds secrets is on no disk.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rb_sys::mount::Attributes;
use rustix::fs::{Mode, OFlags};

use super::{Kind, Known, failure};
use crate::error::ExecError;
use crate::files;
use crate::kill::Reach;
use crate::roots::tmpfs;
use crate::run::Stream;

/// Where the root stands.
pub(crate) const ROOT: &str = "rootfs";
/// Where mounts stand from which others are bound.
pub(crate) const ASIDE: &str = "aside";
/// Where the runtime keeps its state.
pub(super) const STATE: &str = "state";
/// Where the runtime says what went wrong.
pub(super) const LOG: &str = "log";
/// What the runtime is to do.
const CONFIG: &str = "config.json";

/// More than the state of any runtime, and less than would matter.
const SIZE: &str = "64m";

/// What a runtime says of an execution is shorter.
const MAX_WORDS_BYTES: usize = 8 << 10;

/// A log that is longer says enough.
const MAX_LOG_BYTES: u64 = 1 << 20;

/// What was handed to a runtime.
#[derive(Debug)]
pub(crate) struct Bundle {
    files: OwnedFd,
    known: Known,
    program: PathBuf,
    /// The first that was written on standard error.
    words: Vec<u8>,
}

impl Bundle {
    /// Makes one; also returns its mount.
    pub(crate) fn make(known: Known, program: PathBuf, config: &[u8]) -> io::Result<(Self, OwnedFd)> {
        let options = [("mode", "700".to_owned()), ("size", SIZE.to_owned())];
        let mount = tmpfs(&options, Attributes::NOSUID.with(Attributes::NODEV))?;
        for name in [ROOT, ASIDE, STATE] {
            files::make_directory(&mount, name)?;
        }
        drop(files::create_file(&mount, CONFIG, Mode::from_raw_mode(0o600), config)?);
        let files = mount.try_clone()?;
        Ok((Self { files, known, program, words: Vec::new() }, mount))
    }

    /// Returns how the run of `process`, the runtime, is ended and sent signals.
    pub(crate) fn reach(&self, process: Arc<OwnedFd>) -> Reach {
        match self.known.kind {
            Kind::Crun | Kind::Runc => Reach::Runtime(process),
            // Its processes are not this kernel's, so it has to hand signals on.
            Kind::Runsc => Reach::Process(process),
        }
    }

    /// The error of a runtime that could not be executed.
    pub(crate) fn not_executed(&self, errno: i32) -> ExecError {
        ExecError::NoRuntime {
            runtime: self.program.clone(),
            source: Some(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Takes note of output: what goes wrong last of all, the execution itself, a runtime says there.
    pub(crate) fn hear(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stderr {
            let room = MAX_WORDS_BYTES.saturating_sub(self.words.len());
            self.words.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        }
    }

    /// Returns why the command did not run, if the runtime says so. To be called after it ended by itself, with another code
    /// than 0.
    pub(crate) fn failure(&self, name: &str) -> io::Result<Option<ExecError>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(&self.files, LOG, flags, Mode::empty()) {
            Ok(opened) => opened,
            // It makes the log first of all.
            Err(rustix::io::Errno::NOENT) => {
                let message = "it ended before it began".to_owned();
                return Ok(Some(ExecError::Runtime { runtime: self.known.name(), message }));
            }
            Err(error) => return Err(error.into()),
        };
        let mut log = Vec::new();
        File::from(opened).take(MAX_LOG_BYTES).read_to_end(&mut log)?;
        let said = failure::read(&log).or_else(|| failure::of_execution(&self.words));
        Ok(said.map(|message| failure::meaning(&self.known.name(), name, message)))
    }
}
