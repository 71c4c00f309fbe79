//! What this host allows, by trying it.
//!
//! Nothing is changed: every attempt ends in a detached mount that is dropped, in a child that exits at once, or in a control
//! group that is removed. The
//! answers are those for this process, so call it after [`enter_runtime`](crate::enter_runtime()) to learn what
//! sandboxes can do.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rb_sys::child::{Ended, Failure, Namespaces, Program, Slot, Step};
use rb_sys::mount::Attributes;
use rb_sys::userns::IdMapPlan;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::emulation::{EmulationError, Emulators, Machine, Running};
use crate::error::ExecError;
use crate::identity;
use crate::net::Router;
use crate::roots::{self, tmpfs};
use crate::runtime::{self, Rootless, plan_for, privileges};
use crate::seccomp;

/// How far something works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should.
    Works,
    /// In part, or not needed.
    Limited,
    /// Not at all.
    Missing,
}

/// One finding about this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How far it works.
    pub verdict: Verdict,
    /// What was seen.
    pub reason: String,
    /// What can be done; absent if nothing needs to be.
    pub remedy: Option<String>,
}

impl Check {
    fn works(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Works, reason: reason.into(), remedy: None }
    }

    fn not(
        name: &'static str,
        verdict: Verdict,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { name, verdict, reason: reason.into(), remedy: Some(remedy.into()) }
    }
}

/// What this host allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// Whether a process may enter a user namespace.
    pub user_namespaces: Check,
    /// Whether more than one id can exist in it.
    pub sub_ids: Check,
    /// Whether overlayfs can be mounted here.
    pub overlay: Check,
    /// Whether layers can be given one by one.
    pub lowerdir_plus: Check,
    /// Whether the system call filter is accepted.
    pub seccomp: Check,
    /// Which cgroup hierarchy there is.
    pub cgroup: Check,
    /// Whether a new `/proc` can be mounted.
    pub proc_mountable: Check,
    /// Whether a network of its own can be had.
    pub network_none: Check,
    /// Whether one can be had that leads outside and not to this machine.
    pub network_outside: Check,
}

impl HostReport {
    /// Returns all findings, in the order to show them.
    pub fn checks(&self) -> [&Check; 9] {
        [
            &self.user_namespaces,
            &self.sub_ids,
            &self.overlay,
            &self.lowerdir_plus,
            &self.proc_mountable,
            &self.network_none,
            &self.network_outside,
            &self.seccomp,
            &self.cgroup,
        ]
    }

    /// Whether sandboxes can run at all. Without overlayfs they can, on the copy driver.
    pub fn is_usable(&self) -> bool {
        [&self.user_namespaces, &self.proc_mountable, &self.network_none, &self.seccomp]
            .iter()
            .all(|check| check.verdict != Verdict::Missing)
    }
}

/// Tries everything. Takes some milliseconds.
pub fn probe_host() -> HostReport {
    HostReport {
        user_namespaces: user_namespaces(),
        sub_ids: sub_ids(),
        overlay: overlay(),
        lowerdir_plus: lowerdir_plus(),
        seccomp: seccomp_filter(),
        cgroup: cgroup(),
        proc_mountable: proc_mountable(),
        network_none: network_none(),
        network_outside: network_outside(),
    }
}

/// Tries whether layers can be mounted on one another in the empty directory `place`, which is on the file system where they
/// will lie: some can hold no overlayfs, and then layers have to be copied. About a millisecond; leaves what it made.
///
/// # Errors
/// Why they cannot.
pub fn try_overlay_in(place: &Path) -> Result<(), ExecError> {
    roots::try_in(place)
}

fn user_namespaces() -> Check {
    let name = "user namespaces";
    if let Some(privileges) = privileges() {
        return Check::works(
            name,
            match privileges.mode {
                Rootless::Root => "not needed: running as root",
                Rootless::SubIds { .. } | Rootless::SingleId => "entered",
            },
        );
    }
    let mut program = Program::new();
    program.push(Step::Exit(0));
    match attempt(&program, Namespaces::USER) {
        Ok(()) => Check::works(name, "can be created"),
        Err(error) => Check::not(name, Verdict::Missing, format!("refused: {error}"), runtime::remedy()),
    }
}

fn sub_ids() -> Check {
    let name = "subordinate ids";
    let limited = |reason: String| {
        let remedy = "install uidmap and, as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER";
        Check::not(name, Verdict::Limited, reason, remedy)
    };
    if let Some(privileges) = privileges() {
        return match privileges.mode {
            Rootless::Root => Check::works(name, "not needed: running as root"),
            Rootless::SubIds { count } => Check::works(name, format!("{count} ids")),
            Rootless::SingleId => {
                limited(format!("only one id exists: {}", privileges.reason.unwrap_or_default()))
            }
        };
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid == 0 {
        return Check::works(name, "not needed: running as root");
    }
    match plan_for(uid, gid) {
        (IdMapPlan::Programs { uids, .. }, _) => {
            Check::works(name, format!("{} ranges in /etc/subuid", uids.len().saturating_sub(1)))
        }
        (_, reason) => limited(reason.unwrap_or_default()),
    }
}

/// Mounts an overlay whose directories all lie in a detached file system in memory.
fn try_overlay() -> Result<(), (&'static str, io::Error)> {
    let memory = tmpfs(&[("mode", "755".to_owned())], Attributes::default())
        .map_err(|error| ("a file system in memory", error))?;
    let overlay = |error: Errno| ("overlayfs", io::Error::from(error));
    let directory = |name: &str| -> Result<OwnedFd, Errno> {
        rustix::fs::mkdirat(&memory, name, Mode::from_raw_mode(0o755))?;
        rustix::fs::openat(&memory, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(overlay)?;
    if identity::in_user_namespace() {
        fsconfig_set_flag(&context, "userxattr").map_err(overlay)?;
    }
    let lower = |name| -> Result<(), Errno> {
        let directory = directory(name)?;
        fsconfig_set_fd(&context, "lowerdir+", directory.as_fd()).or_else(|_| {
            use std::os::fd::AsRawFd as _;
            fsconfig_set_string(&context, "lowerdir+", format!("/proc/self/fd/{}", directory.as_raw_fd()))
        })
    };
    for name in ["a", "b"] {
        lower(name).map_err(|error| ("lowerdir+", error.into()))?;
    }
    fsconfig_create(&context).map_err(overlay)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(overlay)?;
    Ok(())
}

fn overlay() -> Check {
    let name = "overlayfs";
    match try_overlay() {
        Ok(()) => Check::works(name, "mounts here"),
        Err(("lowerdir+", _)) => Check::not(name, Verdict::Limited, "too old", "Linux 6.8 or newer"),
        Err((what, error)) => {
            let remedy =
                "load the overlay module (modprobe overlay); without it layers are copied, which is slower";
            Check::not(name, Verdict::Missing, format!("{what}: {error}"), remedy)
        }
    }
}

fn lowerdir_plus() -> Check {
    let name = "layers one by one";
    match try_overlay() {
        Ok(()) => Check::works(name, "lowerdir+ is known"),
        Err((what, error)) => Check::not(
            name,
            Verdict::Missing,
            format!("{what}: {error}"),
            "needs overlayfs of Linux 6.8 or newer",
        ),
    }
}

fn seccomp_filter() -> Check {
    let name = "system call filter";
    let mut program = Program::new();
    program.push(Step::NoNewPrivileges);
    program.push(Step::Seccomp(seccomp::filter()));
    program.push(Step::Exit(0));
    match attempt(&program, Namespaces::default()) {
        Ok(()) => Check::works(name, "accepted"),
        Err(error) => Check::not(
            name,
            Verdict::Missing,
            format!("refused: {error}"),
            "a kernel with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn cgroup() -> Check {
    let name = "cgroups";
    match crate::cgroup::probe() {
        Ok(version) => Check::works(name, format!("limits on memory, processors and processes ({version})")),
        Err(ExecError::Cgroup { action, group, remedy, source }) => {
            let reason = format!("steps cannot be limited: cannot {action} in {}: {source}", group.display());
            Check::not(name, Verdict::Limited, reason, remedy)
        }
        Err(error) => Check::not(name, Verdict::Limited, error.to_string(), "steps run without limits"),
    }
}

/// Finds out which other machines' steps can run here, and how.
pub fn probe_platforms(emulators: &Emulators) -> Check {
    let name = "other platforms";
    let (mut runs, mut refused) = (Vec::new(), None);
    for machine in Machine::all().filter(|machine| !machine.is_native()) {
        let architecture = machine.architecture();
        match emulators.running(architecture) {
            Ok(Running::Native) => {}
            Ok(Running::Registered { interpreter }) => {
                runs.push(format!("linux/{architecture} ({}, registered)", interpreter.display()));
            }
            Ok(Running::Emulated(emulator)) => {
                runs.push(format!("linux/{architecture} ({})", emulator.program.display()));
            }
            // One that was named and is not fit, or that is there and the kernel does not take, is told before one that is missing.
            Err(error) => {
                let missing = |error: &EmulationError| matches!(error, EmulationError::Missing { .. });
                if refused.as_ref().is_none_or(|known| missing(known) && !missing(&error)) {
                    refused = Some(error);
                }
            }
        }
    }
    match refused {
        Some(error) if runs.is_empty() || !matches!(error, EmulationError::Missing { .. }) => {
            let shown = runs.iter().map(|run| format!("{run}; ")).collect::<String>();
            Check::not(name, Verdict::Limited, format!("{shown}{error}"), error.help())
        }
        _ => Check::works(name, runs.join(", ")),
    }
}

fn proc_mountable() -> Check {
    let name = "private /proc";
    let mut program = Program::new();
    program.push(Step::FileSystem {
        kind: c"proc".to_owned(),
        options: Vec::new(),
        attributes: Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC),
        into: Slot(0),
    });
    program.push(Step::Exit(0));
    match attempt(&program, own_namespaces()) {
        Ok(()) => Check::works(name, "mounts in a process namespace"),
        Err(error) => {
            let remedy = "in a container, parts of /proc are hidden, so a new one is refused: run it with \
                --security-opt systempaths=unconfined (Docker), --security-opt unmask=ALL (Podman), or --privileged";
            Check::not(name, Verdict::Missing, format!("refused: {error}"), remedy)
        }
    }
}

fn network_none() -> Check {
    let name = "private network";
    let mut program = Program::new();
    program.push(Step::LoopbackUp);
    program.push(Step::Exit(0));
    match attempt(&program, own_namespaces().with(Namespaces::NET)) {
        Ok(()) => Check::works(name, "loopback comes up"),
        Err(error) => Check::not(
            name,
            Verdict::Missing,
            format!("refused: {error}"),
            "steps can run with the host's network",
        ),
    }
}

fn network_outside() -> Check {
    let name = "network of steps";
    match Router::start().and_then(|router| router.join().map(|_| router)) {
        Ok(router) => {
            let by =
                if router.has_v6() { "IPv4 and IPv6" } else { "IPv4; this machine has no way out by IPv6" };
            Check::works(name, format!("leads outside and not to this machine, by {by}"))
        }
        Err(error) => {
            let on_host = "let steps use this machine's: `--step-network=host`, or steps = \"host\" in [network] of \
                config.toml";
            let remedy = error.remedy.map_or(on_host.to_owned(), |remedy| format!("{remedy}; or {on_host}"));
            Check::not(name, Verdict::Limited, format!("cannot be made: {}", rb_diag::chain(&error)), remedy)
        }
    }
}

/// The namespaces of a sandbox; with one for users if this process could not make them otherwise.
fn own_namespaces() -> Namespaces {
    let namespaces = Namespaces::MOUNT.with(Namespaces::PID).with(Namespaces::IPC).with(Namespaces::UTS);
    let powerful =
        rb_sys::caps::effective().is_ok_and(|capabilities| capabilities.has(rb_sys::caps::number::SYS_ADMIN));
    if powerful { namespaces } else { namespaces.with(Namespaces::USER) }
}

fn attempt(program: &Program, namespaces: Namespaces) -> io::Result<()> {
    let mut child = program.spawn(namespaces)?;
    let ended = child.wait()?;
    match (ended, child.failure()?) {
        (_, Some(Failure::Step(_, errno) | Failure::Execute(errno))) => {
            Err(io::Error::from_raw_os_error(errno))
        }
        (Ended::Exited(0), None) => Ok(()),
        (ended, None) => Err(io::Error::other(format!("the attempt ended with {ended:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_tried_where_they_will_lie() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("stepping aside: this needs root");
            return;
        }
        let place = tempfile::tempdir().expect("a temporary folder");
        try_overlay_in(place.path()).expect("works on a disk");
        let second = try_overlay_in(place.path()).expect_err("the place is not empty");
        assert!(matches!(second, ExecError::Setup { .. }));
        // Nothing can be an upper layer in there.
        let error = try_overlay_in(Path::new("/proc/self")).expect_err("is no place");
        assert!(error.to_string().contains("layers"), "{error}");
    }

    #[test]
    fn everything_works_for_root_here() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("stepping aside: this needs root");
            return;
        }
        let report = probe_host();
        for check in report.checks() {
            if check.name != "cgroups" {
                assert_eq!(check.verdict, Verdict::Works, "{check:?}");
            }
        }
        assert!(report.is_usable());
    }
}
