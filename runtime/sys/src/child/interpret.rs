//! The child's side: prepared steps become raw system calls.
//!
//! **Invariant:** nothing here allocates, locks, panics or unwinds. Every call is `libc::syscall`, which touches nothing
//! but errno of this thread; indexing goes through `get`.

use std::ffi::{c_char, c_int, c_long};
use std::io;
use std::os::fd::RawFd;

use super::call::{call, close};
use super::keep::{Fork, keep};
use super::mounts::{
    attach, attach_aside, bind, detach_old_root, file_system, mount_private, open_directory, open_in,
    open_to_write,
};
use super::{FileId, FileRef, SLOTS, Slot, Step};
use crate::caps::{self, Half};
use crate::mount::Attributes;

/// Everything the child reads.
pub(super) struct Prepared<'a> {
    pub(super) steps: &'a [Step],
    pub(super) files: &'a [RawFd],
    /// All descriptors the child needs, ascending.
    pub(super) keep: &'a [RawFd],
    pub(super) errors: RawFd,
    pub(super) trampoline: RawFd,
    pub(super) arguments: &'a [*const c_char],
    pub(super) environment: &'a [*const c_char],
}

/// `struct clone_args` of linux/sched.h, third version (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
const SECCOMP_SET_MODE_FILTER: c_int = 1;
/// The highest signal number of Linux.
const SIGNALS: c_int = 64;
/// Size of the kernel's signal set in bytes.
const SIGNAL_SET: usize = 8;
/// The descriptor on which the trampoline reports.
const REPORT: RawFd = 3;

/// Makes the child, in the control group whose directory is `group`, which runs `prepared` and never returns. Returns its
/// pidfd and its number.
pub(super) fn clone_and_run(
    prepared: &Prepared<'_>,
    namespaces: u64,
    group: Option<RawFd>,
) -> io::Result<(RawFd, u32)> {
    let mut pidfd: RawFd = -1;
    let into = if group.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let arguments = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND | into,
        cgroup: group.unwrap_or_default() as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // No signal may reach the child while it still has our session and, in ignored signals, our state.
    let every: u64 = !0;
    let mut before: u64 = 0;
    let masked = call!(
        libc::SYS_rt_sigprocmask,
        libc::SIG_SETMASK as c_long,
        &raw const every,
        &raw mut before,
        SIGNAL_SET
    );
    masked.map_err(io::Error::from_raw_os_error)?;
    // clone3(2) without CLONE_VM, so the child has a copy of all memory, and without a stack of its own, so it goes on
    // from here; it only reads what was prepared and ends in `run`.
    let mut made = call!(libc::SYS_clone3, &raw const arguments, size_of::<CloneArgs>());
    if made == Err(libc::ENOSYS) && group.is_none() {
        // A filter around us that cannot see into the structure: containers have one. Handlers stay then, but no signal comes
        // before they are reset.
        let flags = (namespaces | libc::CLONE_PIDFD as u64 | libc::SIGCHLD as u64) as c_long;
        let none = 0 as c_long;
        made = call!(libc::SYS_clone, flags, none, &raw mut pidfd, none, none);
    }
    if made == Ok(0) {
        run(prepared);
    }
    let unmasked = call!(
        libc::SYS_rt_sigprocmask,
        libc::SIG_SETMASK as c_long,
        &raw const before,
        std::ptr::null_mut::<u64>(),
        SIGNAL_SET
    );
    // Setting back a mask that the kernel gave cannot fail.
    debug_assert!(unmasked.is_ok());
    let pid = made.map_err(io::Error::from_raw_os_error)?;
    Ok((pidfd, pid as u32))
}

fn run(prepared: &Prepared<'_>) -> ! {
    let mut child =
        Run { prepared, slots: [-1; SLOTS], errors: prepared.errors, trampoline: prepared.trampoline };
    child.close_others();
    child.reset_signals();
    for (number, step) in prepared.steps.iter().enumerate() {
        if let Err(errno) = child.step(step) {
            child.report(number as u32, errno);
            exit(127);
        }
    }
    exit(0)
}

fn exit(code: c_int) -> ! {
    loop {
        let _ = call!(libc::SYS_exit_group, code as c_long);
    }
}

struct Run<'a> {
    prepared: &'a Prepared<'a>,
    slots: [RawFd; SLOTS],
    errors: RawFd,
    trampoline: RawFd,
}

impl Run<'_> {
    fn report(&self, step: u32, errno: c_int) {
        let report = [step, errno as u32];
        // If nobody reads any more, the parent is gone and the child about to be.
        let _ = call!(libc::SYS_write, self.errors as c_long, report.as_ptr(), size_of_val(&report));
    }

    /// First of all, since a copy of a descriptor open for writing makes a program that another thread has just finished
    /// writing "busy", and a mount impossible to make read-only.
    fn close_others(&self) {
        let close = |first: RawFd, last: RawFd| {
            if first <= last {
                // close_range(2) fails for a wrong range only.
                let _ = call!(libc::SYS_close_range, first as c_long, last as c_long, 0 as c_long);
            }
        };
        let mut next = 3;
        for kept in self.prepared.keep {
            close(next, kept.saturating_sub(1));
            next = kept.saturating_add(1).max(next);
        }
        close(next, RawFd::MAX);
    }

    /// Handlers are gone since clone3; what was ignored would stay ignored across execution.
    fn reset_signals(&self) {
        // The kernel's struct sigaction: handler, flags, restorer, mask.
        let default = [0u64; 4];
        for signal in 1..=SIGNALS {
            // SIGKILL and SIGSTOP cannot be changed, and need not be.
            let _ = call!(
                libc::SYS_rt_sigaction,
                signal as c_long,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                SIGNAL_SET
            );
        }
    }

    fn file(&self, file: FileRef) -> Result<RawFd, c_int> {
        let found = match file {
            FileRef::File(FileId(at)) => self.prepared.files.get(at),
            FileRef::Slot(Slot(at)) => self.slots.get(usize::from(at)),
            FileRef::Here => Some(&libc::AT_FDCWD),
        };
        found.copied().ok_or(libc::EBADF)
    }

    fn keep(&mut self, Slot(at): Slot, file: c_long) -> Result<(), c_int> {
        let slot = self.slots.get_mut(usize::from(at)).ok_or(libc::EBADF)?;
        if *slot >= 0 {
            close(*slot);
        }
        *slot = file as RawFd;
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), c_int> {
        match step {
            Step::DieWithParent => self.die_with_parent(),
            Step::NewSession => call!(libc::SYS_setsid).map(drop),
            Step::NewKeyring => {
                let null = std::ptr::null::<c_char>();
                match call!(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING as c_long, null) {
                    // No keyrings in this kernel, or a filter around us that hides them; or the user has as many as
                    // allowed, since each sandbox has one and the kernel forgets them late.
                    Err(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EDQUOT) => Ok(()),
                    other => other.map(drop),
                }
            }
            Step::Duplicate { file, to } => {
                let file = self.file(*file)?;
                call!(libc::SYS_dup3, file as c_long, *to as c_long, 0 as c_long).map(drop)
            }
            Step::ControllingTerminal => {
                let (input, steal) = (libc::STDIN_FILENO as c_long, 0 as c_long);
                call!(libc::SYS_ioctl, input, libc::TIOCSCTTY as c_long, steal).map(drop)
            }
            Step::PrivateMounts => mount_private(),
            Step::AttachAside { mount } => attach_aside(self.file(*mount)?),
            Step::Attach { mount, root, path } => {
                let target = open_in(self.file(*root)?, path, 0)?;
                let moved = attach(self.file(*mount)?, target);
                close(target);
                moved
            }
            Step::Bind { from, path, attributes, into } => {
                let made = bind(self.file(*from)?, path, *attributes)?;
                self.keep(*into, made.into())
            }
            Step::FileSystem { kind, options, attributes, into } => {
                let made = file_system(kind, options, *attributes)?;
                self.keep(*into, made)
            }
            Step::Mask { root, path, blanks, file, directory } => {
                let target = match open_in(self.file(*root)?, path, 0) {
                    Err(libc::ENOENT) => return Ok(()),
                    other => other?,
                };
                // Opening the same path as a directory tells which of the two it is.
                let is_directory = open_in(target, c".", libc::O_DIRECTORY).map(close).is_ok();
                let blank = if is_directory { directory } else { file };
                let masked = bind(self.file(*blanks)?, blank, Attributes::RDONLY).and_then(|mount| {
                    let masked = attach(mount, target);
                    close(mount);
                    masked
                });
                close(target);
                masked
            }
            Step::Protect { root, path } => {
                let target = match open_in(self.file(*root)?, path, 0) {
                    Err(libc::ENOENT) => return Ok(()),
                    other => other?,
                };
                let protected = bind(target, c"", Attributes::RDONLY).and_then(|mount| {
                    let protected = attach(mount, target);
                    close(mount);
                    protected
                });
                close(target);
                protected
            }
            Step::HostName(name) => {
                call!(libc::SYS_sethostname, name.as_ptr(), name.as_bytes().len()).map(drop)
            }
            Step::EnterNetwork(network) => {
                call!(libc::SYS_setns, self.file(*network)? as c_long, libc::CLONE_NEWNET as c_long).map(drop)
            }
            Step::LoopbackUp => loopback_up(),
            Step::PivotRoot { root } => {
                call!(libc::SYS_fchdir, self.file(*root)? as c_long)?;
                call!(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr())?;
                detach_old_root()?;
                call!(libc::SYS_chdir, c"/".as_ptr()).map(drop)
            }
            Step::Keep { line, processes } => match keep(self.file(*line)?, self.file(*processes)?)? {
                Fork::Command => Ok(()),
                Fork::Keeper => exit(0),
            },
            Step::Chroot { root } => {
                call!(libc::SYS_fchdir, self.file(*root)? as c_long)?;
                call!(libc::SYS_chroot, c".".as_ptr())?;
                call!(libc::SYS_chdir, c"/".as_ptr()).map(drop)
            }
            Step::Restrict { ruleset } => {
                let ruleset = self.file(*ruleset)? as c_long;
                call!(libc::SYS_landlock_restrict_self, ruleset, 0 as c_long).map(drop)
            }
            Step::Limit { resource, soft, hard } => {
                let limit = [*soft, *hard];
                let old = std::ptr::null_mut::<u64>();
                call!(libc::SYS_prlimit64, 0 as c_long, *resource as c_long, limit.as_ptr(), old).map(drop)
            }
            Step::Umask(mask) => call!(libc::SYS_umask, *mask as c_long).map(drop),
            Step::ChangeDirectory(path) => {
                call!(libc::SYS_chdir, c"/".as_ptr())?;
                let opened = open_directory(path)?;
                let entered = call!(libc::SYS_fchdir, opened as c_long).map(drop);
                close(opened);
                entered
            }
            Step::Bound(set) => {
                for number in 0..=caps::LAST {
                    let drop_it = libc::PR_CAPBSET_DROP as c_long;
                    let no = 0 as c_long;
                    if !set.has(number) {
                        match call!(libc::SYS_prctl, drop_it, number as c_long, no, no, no) {
                            // This kernel does not have it.
                            Err(libc::EINVAL) => break,
                            other => other?,
                        };
                    }
                }
                Ok(())
            }
            Step::NoNewPrivileges => {
                let (set, yes, no) = (libc::PR_SET_NO_NEW_PRIVS as c_long, 1 as c_long, 0 as c_long);
                call!(libc::SYS_prctl, set, yes, no, no, no).map(drop)
            }
            Step::Seccomp(filter) => {
                /// `struct sock_fprog` of linux/filter.h.
                #[repr(C)]
                struct Program {
                    length: u16,
                    instructions: *const crate::seccomp::Instruction,
                }
                let instructions = filter.instructions();
                let program =
                    Program { length: instructions.len() as u16, instructions: instructions.as_ptr() };
                let operation = SECCOMP_SET_MODE_FILTER as c_long;
                call!(libc::SYS_seccomp, operation, 0 as c_long, &raw const program).map(drop)
            }
            Step::Groups(groups) => call!(libc::SYS_setgroups, groups.len(), groups.as_ptr()).map(drop),
            Step::Ids { uid, gid } => {
                let (uid, gid) = (*uid as c_long, *gid as c_long);
                call!(libc::SYS_setresgid, gid, gid, gid)?;
                call!(libc::SYS_setresuid, uid, uid, uid).map(drop)
            }
            Step::Capabilities(set) => {
                let half = |bits: u32| Half { effective: bits, permitted: bits, inheritable: 0 };
                let halves = [half(set.0 as u32), half((set.0 >> 32) as u32)];
                let header = caps::Header::own();
                call!(libc::SYS_capset, &raw const header, halves.as_ptr()).map(drop)
            }
            Step::OwnUserNamespace { entered, mapped } => {
                let (entered, mapped) = (self.file(*entered)?, self.file(*mapped)?);
                call!(libc::SYS_unshare, (libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as c_long)?;
                let mut byte = [0u8];
                call!(libc::SYS_write, entered as c_long, byte.as_ptr(), byte.len())?;
                match call!(libc::SYS_read, mapped as c_long, byte.as_mut_ptr(), byte.len())? {
                    1 => Ok(()),
                    // Who was to map them could not, and has ended or given up.
                    _ => Err(libc::EPERM),
                }
            }
            Step::Write { root, path, bytes } => {
                let root = self.file(*root)?;
                let file = if path.is_empty() { root } else { open_to_write(root, path)? };
                let written = call!(libc::SYS_write, file as c_long, bytes.as_ptr(), bytes.len());
                if !path.is_empty() {
                    close(file);
                }
                if written? == bytes.len() as c_long { Ok(()) } else { Err(libc::EIO) }
            }
            Step::Exit(code) => exit(*code),
            Step::Execute { init, .. } => self.execute(*init),
        }
    }

    fn die_with_parent(&self) -> Result<(), c_int> {
        let no = 0 as c_long;
        call!(libc::SYS_prctl, libc::PR_SET_PDEATHSIG as c_long, libc::SIGKILL as c_long, no, no, no)?;
        // If the parent died before, nobody has the pipe's other end.
        let mut poll = libc::pollfd { fd: self.errors, events: 0, revents: 0 };
        let timeout = [0u64; 2];
        let mask = std::ptr::null::<u64>();
        call!(libc::SYS_ppoll, &raw mut poll, 1 as c_long, timeout.as_ptr(), mask, SIGNAL_SET)?;
        if poll.revents & libc::POLLERR != 0 { Err(libc::ESRCH) } else { Ok(()) }
    }

    /// Leaves 0, 1, 2, the pipe as 3 and the trampoline as 4. All but the streams are closed by execution.
    fn close_all(&mut self) -> Result<(), c_int> {
        let duplicate = libc::F_DUPFD_CLOEXEC as c_long;
        // First above both targets, so that neither overwrites the other.
        let errors = call!(libc::SYS_fcntl, self.errors as c_long, duplicate, 10 as c_long)?;
        let trampoline = call!(libc::SYS_fcntl, self.trampoline as c_long, duplicate, 10 as c_long)?;
        let close_on_exec = libc::O_CLOEXEC as c_long;
        self.errors = call!(libc::SYS_dup3, errors, REPORT as c_long, close_on_exec)? as RawFd;
        self.trampoline = call!(libc::SYS_dup3, trampoline, (REPORT + 1) as c_long, close_on_exec)? as RawFd;
        self.slots = [-1; SLOTS];
        call!(libc::SYS_close_range, (REPORT + 2) as c_long, c_long::from(u32::MAX), 0 as c_long).map(drop)
    }

    fn execute(&mut self, init: bool) -> Result<(), c_int> {
        self.close_all()?;
        // An init takes signals one by one, and lets its child have them.
        if !init {
            let none: u64 = 0;
            let old = std::ptr::null_mut::<u64>();
            call!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK as c_long, &raw const none, old, SIGNAL_SET)?;
        }
        // The trampoline reports on the pipe and closes it when the command executes.
        call!(libc::SYS_fcntl, REPORT as c_long, libc::F_SETFD as c_long, 0 as c_long)?;
        call!(
            libc::SYS_execveat,
            self.trampoline as c_long,
            c"".as_ptr(),
            self.prepared.arguments.as_ptr(),
            self.prepared.environment.as_ptr(),
            libc::AT_EMPTY_PATH as c_long
        )
        .map(drop)
    }
}

fn loopback_up() -> Result<(), c_int> {
    /// The part of `struct ifreq` that SIOCSIFFLAGS reads, padded to its size.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut name = [0; 16];
    name[0] = b'l';
    name[1] = b'o';
    let request = Request { name, flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16, rest: [0; 22] };
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as c_long;
    let socket = call!(libc::SYS_socket, libc::AF_INET as c_long, kind, 0 as c_long)?;
    let up = call!(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS as c_long, &raw const request);
    close(socket as RawFd);
    up.map(drop)
}
