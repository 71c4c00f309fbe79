//! Whether commands can run in a chroot here, and what has to be asked for where they cannot.

use std::io;
use std::path::Path;

use rb_sys::caps::{self, number};
use rb_sys::landlock;
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::devices;
use crate::error::ExecError;
use crate::host::{Container, Host};
use crate::probe::{Check, Verdict};
use crate::runtime::{self, Privileges, Rootless};

/// What this process needs: to lay out roots, to change into them and to end what runs in them. Docker and containerd give all
/// of it to a container whose user is root.
const NEEDED: [(u32, &str); 9] = [
    (number::SYS_CHROOT, "SYS_CHROOT"),
    (number::MKNOD, "MKNOD"),
    (number::CHOWN, "CHOWN"),
    (number::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (number::FOWNER, "FOWNER"),
    (number::FSETID, "FSETID"),
    (number::SETUID, "SETUID"),
    (number::SETGID, "SETGID"),
    (number::KILL, "KILL"),
];

/// Prepares this process for running commands in a chroot, in place of [`enter_runtime`](crate::enter_runtime()).
///
/// # Errors
/// `NoChroot` if this process is not allowed to.
pub fn enter_chroot() -> Result<Privileges, ExecError> {
    let setup = |action: &str| {
        let action = action.to_owned();
        move |source: io::Error| ExecError::Setup { action, source }
    };
    lacking().map_err(setup("read our capabilities"))?.map_or(Ok(()), Err)?;
    // Commands of the same user are not to look into this process.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| setup("hide the memory of this process")(error.into()))?;
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    Ok(runtime::entered(Privileges { mode: Rootless::Root, reason: None, outer_uid: uid, outer_gid: gid }))
}

/// Whether this process has the rights for it.
pub(crate) fn is_possible() -> bool {
    matches!(lacking(), Ok(None))
}

/// Returns what this process lacks, if it lacks something.
fn lacking() -> io::Result<Option<ExecError>> {
    let lacks = |reason: String| Some(ExecError::NoChroot { reason, remedy: remedy() });
    let uid = rustix::process::geteuid().as_raw();
    if uid != 0 {
        return Ok(lacks(format!("user {uid} is not root, and only root may change its root")));
    }
    let own = caps::effective()?;
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(number, _)| !own.has(*number)).map(|(_, name)| *name).collect();
    Ok(match missing.as_slice() {
        [] => None,
        [one] => lacks(format!("this process lacks the capability {one}")),
        several => lacks(format!("this process lacks the capabilities {}", several.join(", "))),
    })
}

/// Says what to ask of who starts this process.
fn remedy() -> String {
    let names = NEEDED.map(|(_, name)| name);
    match Host::here().container() {
        Some(Container::Kubernetes) => format!(
            "ask for a container with securityContext: {{runAsUser: 0, capabilities: {{add: [{}]}}}}, which \
             needs no privileged pod; the policy `baseline` allows it",
            names.join(", ")
        ),
        Some(Container::Docker | Container::Podman) => {
            let options = names.map(|name| format!("--cap-add {name}")).join(" ");
            format!("start the container with: --user 0 {options}")
        }
        Some(Container::Other(_)) => {
            format!("start the container as user 0 with the capabilities {}", names.join(", "))
        }
        None => "run rb as root".to_owned(),
    }
}

/// Tells whether commands can run in a chroot, by making devices in the empty directory `place`, which is on the file system of
/// the state directory. Leaves what it made.
pub fn probe_chroot(place: &Path) -> Check {
    let name = "chroot";
    let not = |reason: String, remedy: String| {
        Check::not(name, Verdict::Missing, format!("not possible: {reason}"), remedy)
    };
    match lacking() {
        Ok(None) => {}
        Ok(Some(ExecError::NoChroot { reason, remedy })) => return not(reason, remedy),
        Ok(Some(error)) => return not(error.to_string(), remedy()),
        Err(error) => return not(error.to_string(), remedy()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tried = rustix::fs::open(place, flags, Mode::empty()).map_err(io::Error::from);
    if let Err(error) = tried.and_then(|place| devices::fill(&place)) {
        let remedy = "a state directory on a file system that is not mounted nodev, in a container that may make devices: RB_ROOT names \
                      another place";
        return not(error.to_string(), remedy.to_owned());
    }
    let weaker = "possible, by --isolation=chroot; weaker than a sandbox: steps have this machine's network and host name, and no /proc";
    match landlock::version() {
        Some(version) if version.shields_from_signals() => Check::works(name, weaker),
        Some(_) => Check::not(
            name,
            Verdict::Limited,
            format!("{weaker}; they can signal processes of the same user"),
            "Linux 6.12 or newer",
        ),
        None => Check::not(
            name,
            Verdict::Limited,
            format!("{weaker}; they can signal and trace processes of the same user"),
            "Linux 6.12 or newer with Landlock (the boot parameter lsm= names it), and a filter that lets it through",
        ),
    }
}
