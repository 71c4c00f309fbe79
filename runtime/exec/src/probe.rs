//! What this host allows, by trying it.
//!
//! Nothing is changed: every attempt ends in a detached mount that is dropped, in a child that exits at once, or in a control
//! group that is removed. The
//! answers are those for this process, so call it after [`enter_runtime`](crate::enter_runtime()) to learn what
//! sandboxes can do.

use std::io;
use std::path::Path;

use rb_sys::child::{Ended, Failure, Namespaces, Program, Slot, Step};
use rb_sys::mount::Attributes;
use rb_sys::userns::IdMapPlan;

use crate::emulation::{EmulationError, Emulators, Machine, Running};
use crate::error::ExecError;
use crate::host::{Cause, Host, Refused};
use crate::net::Router;
use crate::roots;
use crate::runtime::{Rootless, privileges};
use crate::seccomp;
use crate::stacking::Stacking;

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
    pub(crate) fn works(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Works, reason: reason.into(), remedy: None }
    }

    pub(crate) fn not(
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
    /// How overlayfs is told of its layers.
    pub stacking: Check,
    /// Whether the system call filter is accepted.
    pub seccomp: Check,
    /// Whether the kernel is new enough for sandboxes.
    pub kernel: Check,
    /// Which cgroup hierarchy there is.
    pub cgroup: Check,
    /// Whether a new `/proc` can be mounted.
    pub proc_mountable: Check,
    /// Whether a network of its own can be had.
    pub network_none: Check,
    /// Whether one can be had that leads outside and not to this machine.
    pub network_outside: Check,
    /// What AppArmor and SELinux say.
    pub security: Check,
    /// What container this is in, and how it has to be started.
    pub container: Check,
}

impl HostReport {
    /// Returns all findings, in the order to show them.
    pub fn checks(&self) -> [&Check; 12] {
        [
            &self.kernel,
            &self.user_namespaces,
            &self.sub_ids,
            &self.overlay,
            &self.stacking,
            &self.proc_mountable,
            &self.network_none,
            &self.network_outside,
            &self.seccomp,
            &self.cgroup,
            &self.security,
            &self.container,
        ]
    }

    /// Returns the findings that hold, too, where this process got no identity to build with: all others are what comes of that.
    pub fn checks_without_identity(&self) -> [&Check; 4] {
        [&self.kernel, &self.seccomp, &self.security, &self.container]
    }

    /// Whether sandboxes can run at all. Without overlayfs they can, on the copy driver.
    pub fn is_usable(&self) -> bool {
        [&self.kernel, &self.user_namespaces, &self.proc_mountable, &self.network_none, &self.seccomp]
            .iter()
            .all(|check| check.verdict != Verdict::Missing)
    }
}

/// Tries everything. Takes some milliseconds.
pub fn probe_host() -> HostReport {
    let host = Host::here();
    let stacking = Stacking::probe();
    let (user_namespaces, overlay) = (user_namespaces(&host), overlay(&stacking));
    let (proc_mountable, network_none) = (proc_mountable(&host), network_none());
    let works = [&user_namespaces, &overlay, &proc_mountable, &network_none]
        .iter()
        .all(|check| check.verdict == Verdict::Works);
    HostReport {
        kernel: kernel(rb_sys::mount::has_attributes()),
        user_namespaces,
        sub_ids: sub_ids(&host),
        overlay,
        stacking: told_of_layers(&stacking),
        seccomp: seccomp_filter(),
        cgroup: cgroup(&host),
        proc_mountable,
        network_none,
        network_outside: network_outside(),
        // Without an identity to build with, something is refused, whatever the attempts above say.
        security: host.security(is_root(), works && privileges().is_some()),
        container: host.surroundings(works),
    }
}

/// Whether sandboxes are made with root's own power.
fn is_root() -> bool {
    match privileges() {
        Some(privileges) => privileges.mode == Rootless::Root,
        None => rustix::process::geteuid().is_root(),
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

/// Tells about the newest call that nothing stands in for; the others have a name of their own here.
fn kernel(attributes: io::Result<()>) -> Check {
    let name = "kernel";
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    match attributes {
        Ok(()) => Check::works(name, format!("Linux {release}")),
        Err(error) => Check::not(
            name,
            Verdict::Missing,
            format!("Linux {release}, in which no step can run: {error}"),
            "boot a newer kernel: on Debian 11, sudo apt-get install -t bullseye-backports linux-image-amd64",
        ),
    }
}

fn user_namespaces(host: &Host) -> Check {
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
        Err(error) => {
            let Cause { reason, remedy } = host.cause(Refused::Namespaces);
            Check::not(name, Verdict::Missing, format!("refused: {reason} ({error})"), remedy)
        }
    }
}

fn sub_ids(host: &Host) -> Check {
    let name = "subordinate ids";
    let known = privileges();
    let (uid, gid) = match &known {
        Some(privileges) => (privileges.outer_uid, privileges.outer_gid),
        None => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    let why = match known.map(|privileges| (privileges.mode, privileges.reason)) {
        Some((Rootless::Root, _)) => return Check::works(name, "not needed: running as root"),
        Some((Rootless::SubIds { count }, _)) => return Check::works(name, format!("{count} ids")),
        Some((Rootless::SingleId, why)) => why,
        None if uid == 0 => return Check::works(name, "not needed: running as root"),
        None => None,
    };
    let limited = |why: String, remedy| {
        let reason =
            format!("only one id exists: {why}; `chown` to others fails, and results are not shared");
        Check::not(name, Verdict::Limited, reason, remedy)
    };
    match host.sub_ids(uid, gid) {
        Ok(IdMapPlan::Programs { uids, .. }) if why.is_none() => {
            Check::works(name, format!("{} ranges in /etc/subuid", uids.len().saturating_sub(1)))
        }
        // All is there, and yet it did not work.
        Ok(_) => limited(why.unwrap_or_default(), host.cause(Refused::Mounts).remedy),
        Err(Cause { reason, remedy }) => limited(reason, remedy),
    }
}

fn overlay(stacking: &Result<Stacking, ExecError>) -> Check {
    let name = "overlayfs";
    match stacking {
        Ok(_) => Check::works(name, "mounts here"),
        Err(error) => {
            let reason = format!("each step copies its root, which is slower: {}", rb_diag::chain(error));
            Check::not(
                name,
                Verdict::Limited,
                reason,
                "sudo modprobe overlay; for others than root, Linux 5.11 or newer",
            )
        }
    }
}

fn told_of_layers(stacking: &Result<Stacking, ExecError>) -> Check {
    let name = "many layers";
    match stacking {
        Ok(Stacking::OneByOne) => Check::works(name, "named one by one (lowerdir+), up to 500"),
        Ok(Stacking::OneLine) => Check::works(
            name,
            "named in one line, as before Linux 6.8, up to 500; a step takes a moment longer",
        ),
        Err(_) => Check::works(name, "not needed: roots are copied"),
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

fn cgroup(host: &Host) -> Check {
    let name = "cgroups";
    let mounted = host.cgroups();
    match crate::cgroup::probe() {
        Ok(version) => {
            let reason =
                format!("limits on memory, processors and processes by {version}; {}", mounted.name());
            Check::works(name, reason)
        }
        Err(ExecError::Cgroup { action, group, remedy, source }) => {
            let reason = format!(
                "steps cannot be limited: cannot {action} in {}: {source}; {}",
                group.display(),
                mounted.name()
            );
            let of_users = mounted.remedy_for_users().filter(|_| !is_root());
            Check::not(name, Verdict::Limited, reason, of_users.map_or(remedy, ToOwned::to_owned))
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

fn proc_mountable(host: &Host) -> Check {
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
            let Cause { reason, remedy } = host.cause(Refused::Proc);
            let reason =
                format!("refused: {reason} ({error}); where parts of /proc are hidden, so is a new one");
            Check::not(name, Verdict::Missing, reason, remedy)
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
    fn a_kernel_that_is_too_old_is_told() {
        let check = kernel(Err(io::Error::new(io::ErrorKind::Unsupported, "that takes Linux 5.12")));
        assert_eq!(check.verdict, Verdict::Missing);
        assert!(
            check.reason.starts_with("Linux ") && check.reason.ends_with("takes Linux 5.12"),
            "{check:?}"
        );
        assert!(check.remedy.is_some_and(|remedy| remedy.contains("kernel")));
        assert_eq!(kernel(Ok(())).verdict, Verdict::Works);
    }

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
            // What is around this machine's processes is not for it to say.
            if !["cgroups", "security modules", "container"].contains(&check.name) {
                assert_eq!(check.verdict, Verdict::Works, "{check:?}");
            }
        }
        assert!(report.is_usable());
    }
}
