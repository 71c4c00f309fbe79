//! Programs of another machine: the sandbox registers an emulator for itself.
//!
//! When all is mounted and before rights are dropped, the child enters a user namespace with the same ids, whose own
//! binfmt_misc holds the emulator, opened outside. What it executes finds that before the machine's. Of its other namespaces it
//! is not the owner any more, so it cannot bind ports below 1024 or send raw packets, whatever capabilities it has.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};

use rb_sys::child::{Child, FileRef, Program, Slot, Step};
use rb_sys::mount::Attributes;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{SCRATCH, Steps, open_error, setup, text};
use crate::emulation::Emulator;
use crate::error::ExecError;
use crate::identity;
use crate::tree::Place;

/// Where the child keeps its binfmt_misc.
const FORMATS: Slot = Slot(3);

/// Where in `/proc` it is mounted, as on every machine: it lasts as long as that.
const PLACE: &[u8] = b"/sys/fs/binfmt_misc";

/// Our part of entering a user namespace.
#[derive(Debug)]
pub(crate) struct Ids {
    entered: File,
    mapped: File,
}

/// Adds the steps, which are done in `/` of the new root, whose `/proc` stands at `proc`.
pub(super) fn lay_out(
    emulator: &Emulator,
    proc: &Place,
    program: &mut Program,
    steps: &mut Steps,
) -> Result<Ids, ExecError> {
    let opened = rustix::fs::open(&emulator.program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let opened = opened.map_err(|error| open_error(&emulator.program)(error.into()))?;
    // The child has it under the same number, and no path leads there after the root has changed.
    let line = emulator.registration(&format!("/proc/self/fd/{}", opened.as_raw_fd()));
    // Kept open until then.
    program.lend(opened);
    let pipe = || -> Result<(OwnedFd, OwnedFd), ExecError> {
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| setup("make pipes")(error.into()))
    };
    let ((entered, tell), (hear, mapped)) = (pipe()?, pipe()?);
    let step = Step::OwnUserNamespace { entered: program.lend(tell), mapped: program.lend(hear) };
    steps.push("enter a user namespace for the emulator", step);
    let step = Step::FileSystem {
        kind: c"binfmt_misc".to_owned(),
        options: Vec::new(),
        attributes: Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC),
        into: FORMATS,
    };
    steps.push("mount a binfmt_misc of its own", step);
    let step = Step::Write { root: FileRef::Slot(FORMATS), path: c"register".to_owned(), bytes: line };
    steps.push(format!("register {}", emulator.program.display()), step);
    // Nobody inside is to add to it.
    let (from, path, attributes) = (FileRef::Slot(FORMATS), c"".to_owned(), Attributes::RDONLY);
    let label = "mount /proc/sys/fs/binfmt_misc";
    steps.push(label, Step::Bind { from, path, attributes, into: SCRATCH });
    // An image's own may be a link.
    let path = text([proc.path().as_slice(), PLACE].concat(), "a mount target")?;
    let (mount, root) = (FileRef::Slot(SCRATCH), FileRef::Here);
    steps.push(label, Step::Attach { mount, root, path });
    Ok(Ids { entered: entered.into(), mapped: mapped.into() })
}

impl Ids {
    /// Maps every id that there is here to itself, once the child has entered its namespace. A child that ends before is none of
    /// our business.
    pub(crate) fn map(mut self, child: &Child) -> Result<(), ExecError> {
        let mut map = || -> io::Result<()> {
            if self.entered.read(&mut [0])? == 0 {
                return Ok(());
            }
            for file in ["uid_map", "gid_map"] {
                let same = |extent: &identity::Extent| format!("{0} {0} {1}\n", extent.inside, extent.count);
                let lines: String = identity::map(file).iter().map(same).collect();
                std::fs::write(format!("/proc/{}/{file}", child.pid()), lines)?;
            }
            self.mapped.write_all(&[0])
        };
        match map() {
            // It was killed meanwhile, which is told by its end.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::NotFound) => {
                Ok(())
            }
            mapped => mapped.map_err(setup("map the ids of a sandbox")),
        }
    }
}
