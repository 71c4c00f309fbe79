//! A command in a chroot, where no sandbox can be made: in a container or a pod without privileges.
//!
//! Only for who asks for it ([`Isolation::Chroot`](crate::Isolation)). Nothing is mounted and no namespace made: what a sandbox would mount is put into
//! the root and taken out again ([`laid`]): directories by renaming, files, devices and empty directories by making them.
//! A keeper ends what the command leaves behind ([`rb_sys::child::Step::Keep`]). What needs mounts or namespaces is [refused](refuse)
//! by name before anything runs.
//!
//! **What always holds.** When a run has returned, no process of it is left, and the root holds what the command did to it
//! and nothing that was put there; of a secret not a byte is left, by whatever name. What a sandbox forbids by a read-only
//! mount or by a mount being busy is noticed, and an error. The command holds neither the right to
//! change its root nor to make devices, and gains none by executing.
//!
//! **What does not hold**, other than in a sandbox: the command has this machine's network and host name and sees its ids of
//! processes; it has no `/proc`, so of `/dev/stdin`, `stdout`, `stderr` and `fd` only `stderr` ([`devices`]); without Landlock it can signal, and trace, processes of the same user.
//! Source: chroot(2), capabilities(7); buildah's `--isolation=chroot` and kaniko (behaviour).

mod able;
pub(crate) mod devices;
mod laid;
mod look;
mod run;

use crate::cgroup::Limits;
use crate::error::ExecError;
use crate::spec::{ExtraMount, Network, OverlayMount, RootDriver, RootMount, Spec};

pub(crate) use able::is_possible;
pub use able::{enter_chroot, probe_chroot};
pub(crate) use laid::{Laid, Wanted};
pub(crate) use run::run;

/// Refuses what cannot be done in a chroot.
pub(crate) fn refuse(spec: &Spec) -> Result<(), ExecError> {
    let refused = |what: &str| Err(ExecError::ChrootUnable { what: what.to_owned() });
    match &spec.network {
        Network::Host => {}
        Network::None => return refused("keep a command from the network"),
        Network::Member(_) => return refused("give a command a network of its own"),
    }
    for (is_wanted, what) in [
        (spec.insecure, "run a command with all privileges"),
        (spec.runtime.is_some(), "hand a command to another runtime"),
        (spec.emulator.is_some(), "lend a command an emulator"),
        (spec.terminal.is_some(), "give a command a terminal of its own"),
        (spec.init, "give a command an init"),
        (!spec.forwards.is_empty(), "forward ports"),
        (
            spec.limits != Limits::default() || spec.cgroup_parent.is_some(),
            "limit the processes of a command",
        ),
        (spec.shm_bytes.is_some(), "bound the size of /dev/shm"),
        (!is_copied(&spec.root), "work on layers that are not copied"),
    ] {
        if is_wanted {
            return refused(what);
        }
    }
    for mount in &spec.mounts {
        let (what, target) = match mount {
            ExtraMount::Bind(bind) => ("show files or devices of this machine", &bind.target),
            ExtraMount::Tmpfs { size_bytes: Some(_), target, .. } => {
                ("bound the size of an empty file system", target)
            }
            ExtraMount::Overlay(OverlayMount { root, target, .. }) if !is_copied(root) => {
                ("show layers that are not copied", target)
            }
            _ => continue,
        };
        return refused(&format!("{what} at `{target}`"));
    }
    Ok(())
}

fn is_copied(root: &RootMount) -> bool {
    matches!(root.driver, RootDriver::Directory(_) | RootDriver::Shared(_))
}
