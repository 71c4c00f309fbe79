//! A process made of prepared steps.
//!
//! In: a [`Program`], made at leisure with allocations and errors. Then [`Program::spawn`] calls clone3(2), and the child
//! makes one or a few raw system calls per [`Step`] until it executes a command: no allocation, no lock, no code of std,
//! since other threads may have held any of these in the moment of the copy. Out: a [`Child`], and, if a step failed, a
//! [`Failure`] that names the step and the errno, sent through a pipe that execution closes.
//!
//! **Invariant:** what the child reads was complete before clone3 and is never written after.
//! Source: clone(2), execve(2), signal-safety(7).

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::io::retry_on_intr;

use crate::caps::Capabilities;
use crate::mount::Attributes;
use crate::seccomp::Filter;
use crate::trampoline;

mod call;
mod interpret;
mod keep;
mod mounts;

/// How many descriptors a child can keep in [`Slot`]s.
pub const SLOTS: usize = 16;

/// A file opened before the child exists and lent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(usize);

/// A place for a descriptor that the child opens itself; below [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u8);

/// A descriptor that a step uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRef {
    /// Opened before.
    File(FileId),
    /// Opened by an earlier step.
    Slot(Slot),
    /// The working directory.
    Here,
}

/// What the child does. Paths that start at a descriptor are resolved in it as if it were `/`, and neither symlinks nor
/// magic links are followed (openat2(2)).
#[derive(Debug)]
pub enum Step {
    /// Ends the child when the spawning thread ends (prctl(2), `PR_SET_PDEATHSIG`), also if it has ended already.
    DieWithParent,
    /// setsid(2).
    NewSession,
    /// An empty session keyring, so that the old one's keys are out of reach (keyctl(2)). Without keyrings, or with
    /// too many, nothing: a caller who cares also forbids the calls.
    NewKeyring,
    /// dup3(2) to a standard stream.
    Duplicate {
        /// The descriptor.
        file: FileRef,
        /// 0, 1 or 2.
        to: RawFd,
    },
    /// Makes standard input, a terminal that is nobody else's, the controlling terminal of the session (TIOCSCTTY,
    /// ioctl_tty(2)).
    ControllingTerminal,
    /// Makes all mounts of this mount namespace private to it.
    PrivateMounts,
    /// Mounts a detached mount over the old root's `/dev`, to bind from it, or to pivot to it, later.
    AttachAside {
        /// The detached mount.
        mount: FileRef,
    },
    /// Mounts a detached mount.
    Attach {
        /// The detached mount.
        mount: FileRef,
        /// Where `path` starts.
        root: FileRef,
        /// An existing file or directory.
        path: CString,
    },
    /// Makes a detached mount of `path` (open_tree(2)).
    Bind {
        /// An attached mount.
        from: FileRef,
        /// What of it; empty is `from` itself.
        path: CString,
        /// Attributes to add.
        attributes: Attributes,
        /// Where the new mount is kept.
        into: Slot,
    },
    /// Makes a detached mount of a new file system (fsopen(2)).
    FileSystem {
        /// Its type.
        kind: CString,
        /// Its options.
        options: Vec<(CString, CString)>,
        /// Attributes of the mount.
        attributes: Attributes,
        /// Where it is kept.
        into: Slot,
    },
    /// Hides a path, if it exists, by binding an empty file or an empty directory over it.
    Mask {
        /// Where `path` starts.
        root: FileRef,
        /// What to hide.
        path: CString,
        /// An attached mount with both.
        blanks: FileRef,
        /// The empty file there.
        file: CString,
        /// The empty directory there.
        directory: CString,
    },
    /// Makes a path, if it exists, read-only by binding it over itself.
    Protect {
        /// Where `path` starts.
        root: FileRef,
        /// What to protect.
        path: CString,
    },
    /// sethostname(2).
    HostName(CString),
    /// Enters a network that was made before (setns(2)).
    EnterNetwork(FileRef),
    /// Sets the loopback interface up (netdevice(7)).
    LoopbackUp,
    /// Makes an attached mount the root, detaches the old root with everything on it, and enters `/` (pivot_root(2)).
    PivotRoot {
        /// The mount.
        root: FileRef,
    },
    /// Stays behind as a keeper, and goes on in a child: what that leaves behind ends with it. How it ended is written on the line
    /// (see [`Ended::told`]), and when the line is hung up, all of it ends.
    Keep {
        /// The keeper's end of a pair of stream sockets.
        line: FileRef,
        /// `/proc`, opened for reading and for nobody else.
        processes: FileRef,
    },
    /// Makes a directory the root and enters it (chroot(2)).
    Chroot {
        /// The directory.
        root: FileRef,
    },
    /// Keeps to what a ruleset of [`landlock`](crate::landlock) allows; after [`Step::NoNewPrivileges`].
    Restrict {
        /// The ruleset.
        ruleset: FileRef,
    },
    /// prlimit(2).
    Limit {
        /// `RLIMIT_…`.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// umask(2).
    Umask(u32),
    /// Enters a directory, found within the root from `/` on and never through a magic link.
    ChangeDirectory(CString),
    /// Removes all other capabilities from the bounding set.
    Bound(Capabilities),
    /// No execution gives privileges any more (prctl(2), `PR_SET_NO_NEW_PRIVS`).
    NoNewPrivileges,
    /// Installs a filter (seccomp(2)).
    Seccomp(Filter),
    /// setgroups(2).
    Groups(Vec<u32>),
    /// setresgid(2), then setresuid(2).
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Effective and permitted capabilities, nothing inheritable or ambient (capset(2)).
    Capabilities(Capabilities),
    /// Enters a user namespace and a mount namespace of its own, says so by a byte, and waits for a byte: ids are to be mapped
    /// from outside meanwhile.
    OwnUserNamespace {
        /// Where the byte is written.
        entered: FileRef,
        /// Where the byte is read.
        mapped: FileRef,
    },
    /// Writes to a file that exists.
    Write {
        /// Where `path` starts; or the file itself, if that is empty.
        root: FileRef,
        /// The file.
        path: CString,
        /// What to write, by a single call.
        bytes: Vec<u8>,
    },
    /// Ends the child with this code. For probes.
    Exit(i32),
    /// Executes the first of `candidates` that exists, with the standard streams and no other descriptor; the last step.
    Execute {
        /// Paths of the program.
        candidates: Vec<CString>,
        /// Its arguments, its name first.
        arguments: Vec<CString>,
        /// Its environment.
        environment: Vec<CString>,
        /// It is a child of this process, which ends what it leaves behind, hands signals on to it and ends as it does.
        init: bool,
    },
}

/// Namespaces a child gets for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Namespaces(u64);

impl Namespaces {
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Processes.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// System V and POSIX message queues, shared memory.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// Network.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);
    /// Users.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);

    /// Returns both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Steps and the files they use.
#[derive(Debug, Default)]
pub struct Program {
    files: Vec<OwnedFd>,
    steps: Vec<Step>,
}

/// Where a child failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// In this step, by number.
    Step(usize, i32),
    /// In the execution of the command.
    Execute(i32),
}

impl Program {
    /// Returns a program without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps `file` open for the child.
    pub fn lend(&mut self, file: OwnedFd) -> FileRef {
        self.files.push(file);
        FileRef::File(FileId(self.files.len() - 1))
    }

    /// Adds a step and returns its number.
    pub fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// Starts the child.
    ///
    /// It has no signal handlers, an empty signal mask and the umask, limits and streams of this process until a step
    /// says otherwise. A child that reaches the end of its steps exits with 0.
    pub fn spawn(&self, namespaces: Namespaces) -> io::Result<Child> {
        self.spawn_in(namespaces, None)
    }

    /// Starts the child in a control group of version 2, given by its directory.
    pub fn spawn_in(&self, namespaces: Namespaces, group: Option<BorrowedFd<'_>>) -> io::Result<Child> {
        let start = match self.steps.last() {
            Some(Step::Execute { init: true, .. }) => trampoline::Start::Init,
            _ => trampoline::Start::Command,
        };
        let trampoline = trampoline::file(start)?;
        let (errors_in, errors_out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let files: Vec<RawFd> = self.files.iter().map(|file| file.as_raw_fd()).collect();
        let mut keep = files.clone();
        keep.extend([errors_out.as_raw_fd(), trampoline.as_raw_fd()]);
        keep.sort_unstable();
        let (arguments, environment) = match self.steps.last() {
            Some(Step::Execute { candidates, arguments, environment, init: _ }) => {
                let separator = std::iter::once(c"".as_ptr());
                let end = || std::iter::once(std::ptr::null());
                let candidates = candidates.iter().map(|text| text.as_ptr());
                let arguments = arguments.iter().map(|text| text.as_ptr());
                (
                    candidates.chain(separator).chain(arguments).chain(end()).collect::<Vec<*const c_char>>(),
                    environment.iter().map(|text| text.as_ptr()).chain(end()).collect::<Vec<*const c_char>>(),
                )
            }
            _ => (vec![std::ptr::null()], vec![std::ptr::null()]),
        };
        let prepared = interpret::Prepared {
            steps: &self.steps,
            files: &files,
            keep: &keep,
            errors: errors_out.as_raw_fd(),
            trampoline: trampoline.as_raw_fd(),
            arguments: &arguments,
            environment: &environment,
        };
        let group = group.map(|group| group.as_raw_fd());
        let (pidfd, pid) = interpret::clone_and_run(&prepared, namespaces.0, group)?;
        // SAFETY: clone3(2) with CLONE_PIDFD just opened this descriptor for this process alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Child { pidfd: Arc::new(pidfd), pid, errors: errors_in, ended: false })
    }
}

/// A started child. Dropping it kills it and waits for it.
#[derive(Debug)]
pub struct Child {
    pidfd: Arc<OwnedFd>,
    pid: u32,
    errors: OwnedFd,
    ended: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Ended {
    /// Reads what a keeper writes on its line ([`Step::Keep`]).
    pub fn told(status: [u8; 4]) -> Self {
        let status = i32::from_ne_bytes(status);
        if libc::WIFEXITED(status) {
            Self::Exited(libc::WEXITSTATUS(status))
        } else {
            Self::Signaled(libc::WTERMSIG(status))
        }
    }
}

impl Child {
    /// Returns the descriptor of the process; readable once it ended.
    pub fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.pidfd
    }

    /// Returns the number of the process, which stands for it until [`wait`](Self::wait) has returned.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL. That the process has ended already is no error.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }

    /// Waits until it ended.
    pub fn wait(&mut self) -> io::Result<Ended> {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    self.ended = true;
                    let signal = status.terminating_signal().unwrap_or_default();
                    return Ok(status.exit_status().map_or(Ended::Signaled(signal), Ended::Exited));
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    // There is no such child any more, so nothing is left to wait for.
                    self.ended = true;
                    return Err(error.into());
                }
            }
        }
    }

    /// Returns where it failed, if it did. To be called after it ended.
    pub fn failure(&self) -> io::Result<Option<Failure>> {
        // Copies of the pipe's other end may live for a moment in children of other threads, so the end of the pipe is
        // not waited for: a child writes all or nothing, and has ended.
        let mut ready = [PollFd::new(&self.errors, PollFlags::IN)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        retry_on_intr(|| rustix::event::poll(&mut ready, Some(&at_once)))?;
        let [ready] = ready;
        if !ready.revents().contains(PollFlags::IN) {
            return Ok(None);
        }
        let mut report = [0; 8];
        if retry_on_intr(|| rustix::io::read(&self.errors, &mut report))? != report.len() {
            return Ok(None);
        }
        let [a, b, c, d, rest @ ..] = report;
        let step = u32::from_ne_bytes([a, b, c, d]);
        let errno = i32::from_ne_bytes(rest);
        Ok(Some(if step == u32::MAX { Failure::Execute(errno) } else { Failure::Step(step as usize, errno) }))
    }

    /// Returns the reading end of the pipe of [`failure`](Self::failure).
    pub fn errors(&self) -> BorrowedFd<'_> {
        self.errors.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            // Nothing more can be done if the kernel does not let us wait.
            self.wait().ok();
        }
    }
}

#[cfg(test)]
mod tests;
