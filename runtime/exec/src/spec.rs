//! What is to be run: a value that says everything, made by the engine and read by [`run`](crate::run()).
//!
//! Paths are of two kinds and the types keep them apart: `PathBuf` is outside (this process's view), `String` is
//! inside the sandbox and always starts at its root.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cgroup::Limits;
use crate::emulation::Emulator;
use crate::memory::MemoryMeter;
use crate::net::Member;
use crate::oci::Runtime;
use crate::socket::Socket;
use crate::terminal::Terminal;

/// One command and the world it sees.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The root file system.
    pub root: RootMount,
    /// Whether the command may not write to the root file system.
    pub readonly_root: bool,
    /// More mounts. Parents are mounted before what lies beneath them, whatever the order here.
    pub mounts: Vec<ExtraMount>,
    /// Program and arguments. A program without a slash is looked up in the `PATH` of `env`, inside the root.
    pub args: Vec<String>,
    /// `NAME=value`, exactly; only `PATH` and `HOME` are added where missing.
    pub env: Vec<String>,
    /// More variables, name and value, which are never shown; they win over `env`.
    pub secret_env: Vec<(String, Hidden)>,
    /// Working directory inside; empty means `/`. It must exist.
    pub cwd: String,
    /// Who runs it.
    pub user: UserSpec,
    /// Further groups of whoever runs it, by number.
    pub groups: Vec<u32>,
    /// Host name inside; empty means `localhost`.
    pub hostname: String,
    /// `/etc/hostname` says it, too, as in containers. Otherwise that file is the root's own, as in steps of BuildKit: what is
    /// written to it stays.
    pub hostname_file: bool,
    /// What network the command sees.
    pub network: Network,
    /// All capabilities, no seccomp filter, nothing of `/proc` masked, `/sys` and its control groups to be written, and
    /// this machine's devices as far as this process may give them. As little isolation as `docker --privileged`.
    pub insecure: bool,
    /// More lines for `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Limits that replace the inherited ones.
    pub rlimits: Vec<Rlimit>,
    /// Limits on all its processes together. Without any, and without `cgroup_parent`, no control group is made.
    pub limits: Limits,
    /// Control group beneath which that of the command is made, as a path from the root of the hierarchy; our own is used, or
    /// one of ours at the top, where there is none here.
    pub cgroup_parent: Option<String>,
    /// Hears how much memory its processes take; nobody does where it has a terminal.
    pub memory: Option<MemoryMeter>,
    /// Size of `/dev/shm`; 64 MiB if absent.
    pub shm_bytes: Option<u64>,
    /// How long it may run before all its processes are killed. A command with a terminal may run for ever.
    pub timeout: Option<Duration>,
    /// What runs programs of another machine: every one that is executed inside, in a user namespace of its own.
    pub emulator: Option<Emulator>,
    /// Forbids to gain privileges by executing (`sudo`, setuid programs). Off as in Docker and BuildKit.
    pub no_new_privileges: bool,
    /// Where standard input comes from and where output goes.
    pub stdio: Stdio,
    /// A terminal of its own for the three streams. What is typed on this process's standard input is typed on it if
    /// `stdio` says so, and all that is written on it is output.
    pub terminal: Option<Terminal>,
    /// Ports of this machine that lead to ports of the command.
    pub forwards: Vec<Forward>,
    /// The first process of the sandbox is one of ours, and the command its child: it ends what others leave behind, hands
    /// signals on and ends as the command does, with 128 and the signal where that ended it.
    pub init: bool,
    /// Who runs it in place of our own sandbox.
    pub runtime: Option<Runtime>,
    /// Programs of this machine that the other runtime starts around the command, in this order. Our own sandbox starts none.
    pub hooks: Vec<Hook>,
    /// What it runs in.
    pub isolation: Isolation,
}

impl Spec {
    /// Returns a spec that runs `args` in `root` as root, with `/` as working directory and no network; all else empty.
    pub fn new(root: RootMount, args: Vec<String>) -> Self {
        Self {
            root,
            readonly_root: false,
            mounts: Vec::new(),
            args,
            env: Vec::new(),
            secret_env: Vec::new(),
            cwd: String::new(),
            user: UserSpec::default(),
            groups: Vec::new(),
            hostname: String::new(),
            hostname_file: false,
            network: Network::None,
            insecure: false,
            hosts: Vec::new(),
            rlimits: Vec::new(),
            limits: Limits::default(),
            cgroup_parent: None,
            memory: None,
            shm_bytes: None,
            timeout: None,
            emulator: None,
            no_new_privileges: false,
            stdio: Stdio::default(),
            terminal: None,
            forwards: Vec::new(),
            init: false,
            runtime: None,
            hooks: Vec::new(),
            isolation: Isolation::Sandbox,
        }
    }
}

/// A program that a runtime starts, outside of the sandbox but for [`Moment::StartContainer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When.
    pub moment: Moment,
    /// Its absolute path.
    pub path: PathBuf,
    /// Its arguments, its name before them.
    pub args: Vec<String>,
    /// `NAME=value`; all that it gets.
    pub env: Vec<String>,
    /// How long it may take, in seconds.
    pub timeout_seconds: Option<i64>,
}

/// When a hook is started. Source: OCI runtime-spec, config.md, "POSIX-platform Hooks".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// An old word for the next.
    Prestart,
    /// The namespaces are made, the root is not entered.
    CreateRuntime,
    /// In those namespaces, the root is not entered.
    CreateContainer,
    /// In the sandbox, before the command.
    StartContainer,
    /// After the command was started.
    Poststart,
    /// After its end.
    Poststop,
}

impl Moment {
    /// Returns the moment of a name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "prestart" => Self::Prestart,
            "createRuntime" => Self::CreateRuntime,
            "createContainer" => Self::CreateContainer,
            "startContainer" => Self::StartContainer,
            "poststart" => Self::Poststart,
            "poststop" => Self::Poststop,
            _ => return None,
        })
    }
}

/// What a command runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Namespaces of its own.
    #[default]
    Sandbox,
    /// A root of its own and nothing else, where there can be no namespaces: weaker, and only for who asks for it. What would be mounted
    /// is put into the root and taken out again, so roots and mounts are directories that are this run's own.
    Chroot,
}

/// A file system made of layers.
#[derive(Clone, Debug)]
pub struct RootMount {
    /// Layer directories, lowest first; may be empty. Only overlays have any.
    pub layers: Vec<PathBuf>,
    /// Where changes go. Without it nothing can be written.
    pub writable: Option<Upper>,
    /// How the layers become one tree.
    pub driver: RootDriver,
}

impl RootMount {
    /// Returns the root that is the writable `directory` itself.
    pub fn directory(directory: impl Into<PathBuf>) -> Self {
        Self { layers: Vec::new(), writable: None, driver: RootDriver::Directory(directory.into()) }
    }

    /// Returns the writable `directory`, which other sandboxes use at the same time.
    pub fn shared(directory: impl Into<PathBuf>) -> Self {
        Self { layers: Vec::new(), writable: None, driver: RootDriver::Shared(directory.into()) }
    }

    /// Returns a stack of `layers` (lowest first), written to `writable`.
    pub fn overlay(layers: Vec<PathBuf>, writable: Option<Upper>) -> Self {
        Self { layers, writable, driver: RootDriver::Overlay }
    }
}

/// The two directories an overlay writes to; both on one file system.
#[derive(Clone, Debug)]
pub struct Upper {
    /// Holds the changes.
    pub upper: PathBuf,
    /// Scratch space of the kernel.
    pub work: PathBuf,
}

/// How a [`RootMount`] is mounted.
#[derive(Clone, Debug)]
pub enum RootDriver {
    /// The kernel's overlayfs.
    Overlay,
    /// The same, told of its layers as before Linux 6.8, which is chosen where nothing else works: for tests.
    #[doc(hidden)]
    OverlayInOneLine,
    /// One plain, writable directory that holds everything (the copy driver).
    Directory(PathBuf),
    /// A plain, writable directory that other sandboxes may use at the same time. Mount points made in it stay: to
    /// remove one would unmount what another sandbox has there.
    Shared(PathBuf),
}

/// A mount besides the root.
#[derive(Clone, Debug)]
pub enum ExtraMount {
    /// A file or directory of outside.
    Bind(Bind),
    /// An empty file system in memory.
    Tmpfs {
        /// Absolute path inside.
        target: String,
        /// Largest size; the kernel's default (half the memory) if absent.
        size_bytes: Option<u64>,
        /// Permissions of its root directory, such as `0o1777`.
        mode: u32,
    },
    /// A part of another stack of layers.
    Overlay(OverlayMount),
    /// A read-only file in memory.
    File(FileMount),
    /// A socket that listens outside.
    Socket(SocketMount),
}

/// A socket of outside, shown inside.
#[derive(Clone, Debug)]
pub struct SocketMount {
    /// The socket; it can be shown in one run only.
    pub socket: Socket,
    /// Absolute path inside.
    pub target: String,
}

/// A file in memory, shown inside.
#[derive(Clone, Debug)]
pub struct FileMount {
    /// Its content.
    pub content: Hidden,
    /// Absolute path inside.
    pub target: String,
    /// Owner inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
    /// Permissions, such as `0o400`.
    pub mode: u32,
}

/// Bytes that are never printed. Clones share them; how they are kept and wiped is their owner's business.
#[derive(Clone)]
pub struct Hidden(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Hidden {
    /// Hides `bytes`.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Hidden")
    }
}

/// A file or directory of outside, shown inside.
#[derive(Clone, Debug, Default)]
pub struct Bind {
    /// Path outside; symlinks are followed.
    pub source: PathBuf,
    /// Absolute path inside; symlinks are followed but never out of the root.
    pub target: String,
    /// Whether it is read-only inside.
    pub readonly: bool,
    /// Whether mounts beneath `source` are shown too.
    pub recursive: bool,
    /// Whether setuid programs in it lend no rights.
    pub nosuid: bool,
    /// Whether programs in it cannot be executed.
    pub noexec: bool,
}

/// A path of another stack of layers, shown inside.
#[derive(Clone, Debug)]
pub struct OverlayMount {
    /// The stack.
    pub root: RootMount,
    /// Path in the stack, resolved within it; empty or `/` is all of it.
    pub selector: String,
    /// Absolute path inside.
    pub target: String,
    /// Whether it is read-only inside. A stack without `writable` always is.
    pub readonly: bool,
}

/// A user as in `USER` of a Dockerfile: ``, `name`, `uid`, `name:group`, `uid:gid`, resolved by the passwd and
/// group files inside the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSpec(pub String);

/// What network the command sees.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// That of this machine.
    Host,
    /// One that leads outside and not to this machine.
    Member(Member),
    /// Only its own loopback interface.
    #[default]
    None,
}

impl Network {
    /// Whether it is that of this machine.
    pub fn is_host(&self) -> bool {
        matches!(self, Self::Host)
    }

    /// Whether nothing can be reached by it.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// A TCP port of this machine that leads to one of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where this machine listens.
    pub listen: SocketAddr,
    /// The port on the command's loopback.
    pub port: u16,
}

/// One resource limit, named as by `ulimit` flags of Docker (`nofile`, `nproc`, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The name without `RLIMIT_`, lower case.
    pub name: String,
    /// What the program starts with; `u64::MAX` is unlimited.
    pub soft: u64,
    /// What it may raise it to.
    pub hard: u64,
}

/// Standard streams.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Stdin,
    /// Standard output and error.
    pub output: Output,
}

/// Standard input of the command.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Stdin {
    /// Empty.
    #[default]
    Null,
    /// That of this process.
    Inherit,
    /// What comes from an open file.
    From(OpenFile),
}

/// An open file that a command is given.
#[derive(Clone, Debug)]
pub struct OpenFile(pub(crate) Arc<OwnedFd>);

impl OpenFile {
    /// Gives it away.
    pub fn new(file: OwnedFd) -> Self {
        Self(Arc::new(file))
    }
}

/// The same file is the same one.
impl PartialEq for OpenFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OpenFile {}

/// Standard output and error of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Output {
    /// Two pipes, handed to the `log` function of [`run`](crate::run()).
    #[default]
    Pipes,
    /// Those of this process.
    Inherit,
}
