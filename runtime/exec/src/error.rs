//! Everything that can keep a command from running.

use std::io;
use std::path::PathBuf;

use rb_diag::ErrorKind;

use crate::host::{Cause, Host, Refused};

/// The step that makes a sandbox's own `/proc`.
const MOUNT_PROC: &str = "mount /proc";

/// A command could not be run. That it ran and failed is an [`ExitStatus`](crate::ExitStatus), not an error.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Threads already exist, so the process cannot change its identity.
    #[error("the runtime was entered with {count} threads running; it must be entered before any starts")]
    Threads {
        /// How many threads there are.
        count: usize,
    },
    /// This machine refuses user namespaces.
    #[error("this system does not let user {uid} use user namespaces: {reason}")]
    UserNamespace {
        /// The user, as seen outside.
        uid: u32,
        /// What forbids them.
        reason: String,
        /// What an administrator can do.
        remedy: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// This machine does not let root mount, not even where nobody else sees it.
    #[error("this system does not let root mount: {reason}")]
    Mounts {
        /// What forbids it.
        reason: String,
        /// What an administrator can do.
        remedy: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A preparation outside the sandbox failed.
    #[error("cannot {action}")]
    Setup {
        /// What was tried, such as `mount the root file system`.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A step inside the sandbox, before the command, failed.
    #[error("cannot start the sandbox: {step} failed")]
    Step {
        /// The step, such as `mount /proc`.
        step: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A layer, bind source or upper directory is missing or cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The path outside.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel stacks at most 500 layers.
    #[error("{count} layers are more than the {limit} that overlayfs can stack")]
    TooManyLayers {
        /// How many there are.
        count: usize,
        /// How many can be.
        limit: usize,
    },
    /// A root without layers and without a writable directory.
    #[error("the root file system has neither layers nor a writable directory")]
    NoRoot,
    /// A place to mount on cannot be made.
    #[error("cannot make the mount point `{target}`")]
    MountPoint {
        /// Path inside, as asked for.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What a mount is to show is not in the tree that it is taken from, or cannot be opened there.
    #[error("the source `{selector}` of the mount at `{target}` cannot be opened")]
    MountSource {
        /// Path inside, as asked for.
        target: String,
        /// Path in that tree, as asked for.
        selector: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A mount target or selector is not usable.
    #[error("mount target `{target}` {problem}")]
    Target {
        /// Path inside, as asked for.
        target: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A user name is not in the image's passwd file.
    #[error("user `{user}` is not in /etc/passwd of the image")]
    UnknownUser {
        /// As asked for.
        user: String,
    },
    /// A group name is not in the image's group file.
    #[error("group `{group}` is not in /etc/group of the image")]
    UnknownGroup {
        /// As asked for.
        group: String,
    },
    /// An id exists in the image but not in this user namespace.
    #[error("{what} {id} cannot be used here: {remedy}")]
    UnmappedId {
        /// `user` or `group`.
        what: &'static str,
        /// The id inside.
        id: u32,
        /// What an administrator can do.
        remedy: &'static str,
    },
    /// No program was given.
    #[error("there is no command to run")]
    NoCommand,
    /// Text for the kernel holds a zero byte.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// What holds it.
        what: &'static str,
    },
    /// A limit has an unknown name.
    #[error("unknown resource limit `{name}`")]
    UnknownRlimit {
        /// As asked for.
        name: String,
    },
    /// The program does not exist inside.
    #[error("`{program}` was not found in the root file system")]
    NotFound {
        /// As asked for.
        program: String,
    },
    /// The program exists, what is to interpret it does not.
    #[error("`{program}` exists, but its interpreter or dynamic loader does not")]
    InterpreterNotFound {
        /// As asked for.
        program: String,
    },
    /// The program exists and cannot be executed: no permission, a directory, another machine's format.
    #[error("`{program}` cannot be executed")]
    NotExecutable {
        /// As asked for.
        program: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The working directory does not exist inside.
    #[error("the working directory `{cwd}` cannot be entered")]
    Cwd {
        /// As asked for.
        cwd: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A limit on the processes of a sandbox cannot be set.
    #[error("cannot {action} in the control group {} ({remedy})", group.display())]
    Cgroup {
        /// What was tried.
        action: String,
        /// The group's directory.
        group: PathBuf,
        /// What can be done.
        remedy: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// No network that leads outside alone can be had.
    #[error("cannot make a network for the command")]
    Network(#[from] crate::net::NetworkError),
    /// A port that is to lead to the command cannot be had.
    #[error("cannot listen on {address}")]
    Port {
        /// Where.
        address: std::net::SocketAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The program of a command outside does not exist on this machine.
    #[error("`{program}` was not found on this machine")]
    NotFoundOutside {
        /// As asked for.
        program: String,
    },
    /// The process that runs commands outside of every sandbox cannot be reached, or ended before its command.
    #[error("the process that runs commands outside of sandboxes does not answer")]
    Outside {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The runtime that is to run commands is not there, or cannot be executed.
    #[error("the runtime `{}` cannot be executed: install it, or name another by --runtime", runtime.display())]
    NoRuntime {
        /// Its name, or the path of its program.
        runtime: PathBuf,
        /// The kernel's answer, if it was asked.
        #[source]
        source: Option<io::Error>,
    },
    /// A program that is to run commands is none of the runtimes that are known.
    #[error("`{}` is not crun, runc or runsc: these are the runtimes that can run steps", runtime.display())]
    UnknownRuntime {
        /// The program.
        runtime: PathBuf,
    },
    /// A runtime cannot do what is asked.
    #[error("{runtime} cannot {what}; rb itself can, with --runtime=rb")]
    RuntimeUnable {
        /// Its name.
        runtime: String,
        /// What it cannot do.
        what: String,
    },
    /// A runtime did not start the command.
    #[error("the runtime {runtime} failed: {message}")]
    Runtime {
        /// Its name and version.
        runtime: String,
        /// What it says.
        message: String,
    },
    /// A chroot cannot do what is asked.
    #[error(
        "a chroot (`--isolation=chroot`) cannot {what}; a sandbox can, where the machine lets rb make one (`rb doctor`)"
    )]
    ChrootUnable {
        /// What it cannot do.
        what: String,
    },
    /// Commands cannot run in a chroot here.
    #[error("steps cannot run in a chroot: {reason}")]
    NoChroot {
        /// What is missing.
        reason: String,
        /// What to ask for.
        remedy: String,
    },
    /// A command did what a sandbox does not let it do, and a chroot only notices.
    #[error("the command {what} `{target}`, which no step may do")]
    Forbidden {
        /// The path inside.
        target: String,
        /// What it did.
        what: &'static str,
    },
    /// Who is to end what a command leaves behind was ended itself.
    #[error("the process that watches over the command was killed, by the command or for want of memory")]
    KeeperKilled,
    /// The kill switch was thrown before the command started.
    #[error("cancelled")]
    Cancelled,
}

impl ExecError {
    /// Returns what can be done about it on this machine, if its files tell.
    pub fn help(&self) -> Option<String> {
        if let Self::UserNamespace { remedy, .. } | Self::Mounts { remedy, .. } = self {
            let or = if crate::chroot::is_possible() {
                "; or build with --isolation=chroot, which isolates less"
            } else {
                ""
            };
            return Some(format!("{remedy}{or}"));
        }
        if let Self::NoChroot { remedy, .. } = self {
            return Some(remedy.clone());
        }
        if let Self::Forbidden { .. } = self {
            let why = "in a sandbox it is mounted, read-only or not to be moved; with --isolation=chroot that shows only when the step has ended";
            return Some(why.to_owned());
        }
        let Self::Step { step, source } = self else { return None };
        if source.kind() != io::ErrorKind::PermissionDenied || !step.starts_with("mount ") {
            return None;
        }
        let what = if step == MOUNT_PROC { Refused::Proc } else { Refused::Mounts };
        let Cause { reason, remedy } = Host::here().cause(what);
        Some(format!("{reason}; {remedy}"))
    }

    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownUser { .. }
            | Self::UnknownGroup { .. }
            | Self::UnknownRlimit { .. }
            | Self::UnknownRuntime { .. }
            | Self::RuntimeUnable { .. }
            | Self::ChrootUnable { .. }
            | Self::Target { .. }
            | Self::MountSource { .. }
            | Self::Nul { .. }
            | Self::NoCommand => ErrorKind::Input,
            Self::NotFound { .. }
            | Self::NotFoundOutside { .. }
            | Self::InterpreterNotFound { .. }
            | Self::NotExecutable { .. }
            | Self::Cwd { .. }
            | Self::Forbidden { .. }
            | Self::KeeperKilled
            | Self::Cancelled => ErrorKind::Build,
            Self::UserNamespace { .. }
            | Self::Mounts { .. }
            | Self::Setup { .. }
            | Self::Step { .. }
            | Self::Open { .. }
            | Self::Port { .. }
            | Self::Network(_)
            | Self::Cgroup { .. }
            | Self::Outside { .. }
            | Self::NoRuntime { .. }
            | Self::NoChroot { .. }
            | Self::Runtime { .. }
            | Self::MountPoint { .. }
            | Self::UnmappedId { .. } => ErrorKind::Environment,
            Self::Threads { .. } | Self::TooManyLayers { .. } | Self::NoRoot => ErrorKind::Internal,
        }
    }
}
