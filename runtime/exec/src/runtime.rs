//! Becoming able to run sandboxes.
//!
//! Root gets a private mount namespace. Anyone else gets a user namespace: with subordinate ids where `/etc/subuid` and
//! the programs of shadow give them, else with the one id of the user. So does root without `CAP_SYS_ADMIN`, as in an
//! unprivileged container, with the ids that the container has. Whatever comes out is told.
//! Source: user_namespaces(7), subuid(5), newuidmap(1).

use std::io;
use std::sync::OnceLock;

use rb_sys::userns::{self, IdMapPlan, IdRange, UsernsError};
use rb_sys::{caps, process};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::ExecError;
use crate::host::{Cause, Host, Refused};
use crate::identity::{self, Extent};

/// What identity this process runs sandboxes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rootless {
    /// Root itself: every id of this machine, or of the container this is, exists.
    Root,
    /// A user namespace with subordinate ids.
    SubIds {
        /// How many user ids exist, root included.
        count: u32,
    },
    /// A user namespace in which only root exists. Results may differ from those of the other modes and are not shared.
    SingleId,
}

/// What the process may do since it entered the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The identity.
    pub mode: Rootless,
    /// Why it is not a better one; `None` if it is the best.
    pub reason: Option<String>,
    /// The user id this process has outside.
    pub outer_uid: u32,
    /// The group id this process has outside.
    pub outer_gid: u32,
}

static ENTERED: OnceLock<Privileges> = OnceLock::new();

/// Prepares this process for running sandboxes. To be called before any thread exists; a second call returns the
/// first's answer.
///
/// # Errors
/// `Threads` if it is too late, `UserNamespace` or, for root, `Mounts` if this machine refuses them.
pub fn enter_runtime() -> Result<Privileges, ExecError> {
    if let Some(privileges) = ENTERED.get() {
        return Ok(privileges.clone());
    }
    let count = process::thread_count().map_err(setup("count the threads of this process"))?;
    if count != 1 {
        return Err(ExecError::Threads { count });
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let own = caps::effective().map_err(setup("read our capabilities"))?;
    let (mode, reason) = if uid == 0 && own.has(caps::number::SYS_ADMIN) {
        process::enter_mount_namespace().map_err(|source| no_mounts(&Host::here(), source))?;
        (Rootless::Root, None)
    } else if uid == 0 {
        enter(&whole_map(), uid, gid, None)?
    } else {
        let (plan, reason) = plan_for(uid, gid);
        enter(&plan, uid, gid, reason)?
    };
    Ok(entered(Privileges { mode, reason, outer_uid: uid, outer_gid: gid }))
}

/// Remembers what this process runs commands with; what was remembered first stays.
pub(crate) fn entered(privileges: Privileges) -> Privileges {
    raise_descriptor_limit();
    ENTERED.get_or_init(|| privileges).clone()
}

/// A sandbox in preparation holds some fifty descriptors, and many are prepared at once.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH_DESCRIPTORS, |hard| hard.min(ENOUGH_DESCRIPTORS));
    if limit.current.is_some_and(|soft| soft < wanted) {
        // Up to the hard limit it is always allowed; were it not, fewer sandboxes would fit at once.
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).ok();
    }
}

const ENOUGH_DESCRIPTORS: u64 = 1 << 16;

/// Returns what [`enter_runtime`] answered, if it was called.
pub fn privileges() -> Option<Privileges> {
    ENTERED.get().cloned()
}

/// Every id of the namespace we are in, as itself.
fn whole_map() -> IdMapPlan {
    let ranges = |file| {
        let same =
            |extent: Extent| IdRange { inside: extent.inside, outside: extent.inside, count: extent.count };
        identity::map(file).into_iter().map(same).collect()
    };
    IdMapPlan::Direct { uids: ranges("uid_map"), gids: ranges("gid_map") }
}

/// The best plan for a user, and why it is not a better one.
pub(crate) fn plan_for(uid: u32, gid: u32) -> (IdMapPlan, Option<String>) {
    match Host::here().sub_ids(uid, gid) {
        Ok(plan) => (plan, None),
        Err(cause) => (IdMapPlan::Single { uid, gid }, Some(cause.reason)),
    }
}

fn enter(
    plan: &IdMapPlan,
    uid: u32,
    gid: u32,
    reason: Option<String>,
) -> Result<(Rootless, Option<String>), ExecError> {
    let count = match plan {
        IdMapPlan::Single { .. } => None,
        IdMapPlan::Programs { uids, .. } | IdMapPlan::Direct { uids, .. } => {
            Some(uids.iter().fold(0u32, |sum, range| sum.saturating_add(range.count)))
        }
    };
    match userns::enter(plan) {
        Ok(()) => Ok((count.map_or(Rootless::SingleId, |count| Rootless::SubIds { count }), reason)),
        Err(UsernsError::Map { message }) if count.is_some() => {
            // The namespace exists, so one id is still possible, unless the map of users was already written.
            userns::map_single(uid, gid)
                .and_then(|()| userns::shield_mounts())
                .map_err(|error| failed(uid, error))?;
            Ok((Rootless::SingleId, Some(message)))
        }
        Err(error) => Err(failed(uid, error)),
    }
}

fn failed(uid: u32, error: UsernsError) -> ExecError {
    let (what, source) = match error {
        UsernsError::Threads { count } => return ExecError::Threads { count },
        UsernsError::Io(source) => {
            return ExecError::Setup { action: "prepare a user namespace".to_owned(), source };
        }
        UsernsError::Unshare(source) => (Refused::Namespaces, source),
        UsernsError::Powerless(source) => (Refused::Mounts, source),
        UsernsError::Map { message } => (Refused::Mounts, io::Error::other(message)),
    };
    let Cause { reason, remedy } = Host::here().cause(what);
    ExecError::UserNamespace { uid, reason, remedy, source }
}

/// Tells why root got no mounts of its own: it has the capability, so something around it refuses what that allows.
fn no_mounts(host: &Host, source: io::Error) -> ExecError {
    if source.kind() != io::ErrorKind::PermissionDenied {
        return setup("enter a mount namespace")(source);
    }
    let Cause { reason, remedy } = host.cause(Refused::Mounts);
    ExecError::Mounts { reason, remedy, source }
}

fn setup(action: &'static str) -> impl FnOnce(io::Error) -> ExecError {
    move |source| ExecError::Setup { action: action.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_that_a_profile_keeps_from_mounting_is_told_of_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let with = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("lies below")).expect("makes folders");
            std::fs::write(path, text).expect("writes");
        };
        with("sys/module/apparmor/parameters/enabled", "Y\n");
        with("proc/self/attr/current", "confined (enforce)\n");
        let refused = |errno: rustix::io::Errno| no_mounts(&Host::below(dir.path()), errno.into());
        let error = refused(rustix::io::Errno::ACCESS);
        assert!(
            matches!(&error, ExecError::Mounts { reason, .. } if reason.contains("profile confined")),
            "{error}"
        );
        assert_eq!(error.kind(), rb_diag::ErrorKind::Environment);
        assert!(error.help().is_some_and(|help| help.contains("sudo aa-complain confined")), "{error:?}");
        assert!(matches!(refused(rustix::io::Errno::NOMEM), ExecError::Setup { .. }));
    }
}
