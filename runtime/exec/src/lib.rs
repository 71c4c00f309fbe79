//! The sandbox: runs one command in a root made of layers, isolated, without a daemon and without an external runtime.
//!
//! For what: `RUN` of every frontend, `rb run`, and whatever else executes what is not ours. In: a [`Spec`]. Out: an
//! [`ExecOutcome`] and the command's output; or an [`ExecError`] that says why it did not start.
//!
//! In place of our own sandbox another runtime can run the command: `oci`; and where no sandbox can be made, who asks for it gets a
//! `chroot`.
//!
//! What must run on the user's own machine, outside of every sandbox, goes through [`Outside`].
//!
//! How, in order: [`enter_runtime()`] (once, before any thread) → `plan`: layers become detached mounts (`roots`), paths
//! inside are found and made in the `tree`, the `user` is looked up, `seccomp` and `limits` are laid down → a child by
//! clone3 that executes the prepared steps ([`rb_sys::child`]) → [`run()`]: output is carried (by way of a `terminal`, if
//! it has one), ports are `forward`ed, the end awaited, `stubs` are removed.
//!
//! **What always holds.** A symlink in an image leads nowhere outside. Nothing is mounted where other processes could
//! see it. No descriptor but the three streams reaches the command, and neither does our binary. When the first process
//! of a sandbox ends, all of them end. Less isolation than asked for is an error.

mod cdi;
mod cgroup;
mod chroot;
mod emulation;
mod error;
mod files;
mod forward;
mod host;
mod identity;
mod kill;
mod limits;
mod memory;
mod net;
mod oci;
mod output;
mod outside;
mod plan;
mod probe;
mod resolver;
mod room;
mod roots;
mod run;
mod runtime;
mod seccomp;
mod signals;
mod socket;
mod spec;
mod stacking;
mod stubs;
mod terminal;
mod tree;
mod user;

pub use cdi::{CdiError, DEVICE_FOLDERS, Devices};
pub use cgroup::{CpuQuota, Limits};
pub use chroot::{enter_chroot, probe_chroot};
pub use emulation::{EmulationError, Emulator, Emulators, Machine, Running};
pub use error::ExecError;
pub use kill::KillSwitch;
pub use limits::is_rlimit;
pub use memory::{MemoryMeter, machine_memory};
pub use net::{Member, NetworkError, Router, SharedNetwork};
pub use oci::{Runtime, probe_runtime};
pub use outside::{HostCommand, Outside};
pub use probe::{Check, HostReport, Verdict, probe_host, probe_platforms, try_overlay_in};
pub use run::{ExecOutcome, ExitStatus, Stream, run};
pub use runtime::{Privileges, Rootless, enter_runtime, privileges};
pub use socket::Socket;
pub use spec::{
    Bind, ExtraMount, FileMount, Forward, Hidden, Hook, Isolation, Moment, Network, OpenFile, Output,
    OverlayMount, Rlimit, RootDriver, RootMount, SocketMount, Spec, Stdin, Stdio, Upper, UserSpec,
};
pub use terminal::{RawMode, Size, Terminal};
