//! What a device adds to a sandbox: variables, nodes, files, groups.
//!
//! In: the edits of a file and of a device. Out: a changed [`Spec`]. Nodes are this machine's own, bound: they keep their owner and
//! mode. What cannot be given as it is asked for is refused by its name.
//!
//! Hooks are programs that a runtime starts outside of the sandbox. They are written for what an OCI runtime tells them: a bundle on
//! the disk, its `config.json`, the id of a process that waits between two of its states. Our own sandbox has none of these: its child
//! makes only raw system calls on what was prepared before, and is never outside of what it was given. So hooks are for another runtime
//! (`steps.runtime`), which starts them itself; without one they are refused.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::CdiError;
use super::file::{self, Edits, Node, Shown};
use crate::spec::{Bind, ExtraMount, Hook, Moment, Spec};

/// Whose edits they are, for errors.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) device: &'a str,
    pub(super) file: &'a Path,
}

impl Of<'_> {
    fn refuse(self, what: String) -> CdiError {
        CdiError::Unsupported { device: self.device.to_owned(), file: self.file.to_owned(), what }
    }
}

/// Adds what `edits` say.
pub(super) fn apply(of: Of<'_>, edits: &Edits, spec: &mut Spec) -> Result<(), CdiError> {
    for hook in &edits.hooks {
        spec.hooks.push(hooked(of, hook, spec.runtime.is_some())?);
    }
    if let Some(interface) = edits.net_devices.first() {
        return Err(of.refuse(format!("the network interface `{}`", interface.host_interface_name)));
    }
    if edits.intel_rdt.is_some() {
        return Err(of.refuse("a share of the processor's caches (intelRdt)".to_owned()));
    }
    for line in &edits.env {
        let name = line.split('=').next().unwrap_or_default();
        spec.env.retain(|have| have.split('=').next() != Some(name));
        spec.env.push(line.clone());
    }
    for node in &edits.device_nodes {
        spec.mounts.push(bound(of, node)?);
    }
    for shown in &edits.mounts {
        spec.mounts.push(mount(of, shown)?);
    }
    // As everywhere: group 0 is no one's to give.
    spec.groups.extend(edits.additional_gids.iter().filter(|gid| **gid != 0));
    Ok(())
}

/// Returns a program to be started, if there is who starts it.
fn hooked(of: Of<'_>, hook: &file::Hook, has_runtime: bool) -> Result<Hook, CdiError> {
    let moment = Moment::named(&hook.hook_name).filter(|_| has_runtime);
    let moment = moment.ok_or_else(|| CdiError::Hook {
        device: of.device.to_owned(),
        file: of.file.to_owned(),
        hook: hook.hook_name.clone(),
        program: hook.path.clone().into(),
    })?;
    let file::Hook { hook_name: _, path, args, env, timeout } = hook;
    let (args, env) = (args.clone(), env.clone());
    Ok(Hook { moment, path: path.into(), args, env, timeout_seconds: *timeout })
}

/// Returns a node of this machine as a mount, if it is the one that is described.
fn bound(of: Of<'_>, node: &Node) -> Result<ExtraMount, CdiError> {
    let source = PathBuf::from(node.host_path.as_ref().unwrap_or(&node.path));
    let failed = |reason: String| CdiError::Node {
        device: of.device.to_owned(),
        file: of.file.to_owned(),
        node: source.clone(),
        reason,
    };
    let there = std::fs::symlink_metadata(&source).map_err(|error| failed(error.to_string()))?;
    let kind = match there.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        kind if kind.is_fifo() => "p",
        _ => return Err(failed("it is not a device".to_owned())),
    };
    // `u` is an old word for `c`.
    let wanted = if node.kind == "u" { "c" } else { node.kind.as_str() };
    let (major, minor) = (rustix::fs::major(there.rdev()), rustix::fs::minor(there.rdev()));
    let numbers =
        (node.major, node.minor) == (0, 0) || (node.major, node.minor) == (major, minor) || kind == "p";
    if !(wanted.is_empty() || wanted == kind) || !numbers {
        let described =
            format!("{} {}:{}", if wanted.is_empty() { kind } else { wanted }, node.major, node.minor);
        return Err(failed(format!("it is {kind} {major}:{minor} and described as {described}")));
    }
    // No permissions are all. A device cannot be kept from being written here.
    let both = ['r', 'w'].iter().all(|letter| node.permissions.contains(*letter));
    if !node.permissions.is_empty() && !both {
        return Err(of.refuse(format!("the permissions `{}` for {}", node.permissions, node.path)));
    }
    let mode = there.mode() & 0o7777;
    if let Some(wanted) = node.file_mode.filter(|wanted| wanted & 0o7777 != mode) {
        return Err(of.refuse(format!(
            "the mode {:o} for {}, which has {mode:o} on this machine",
            wanted & 0o7777,
            node.path
        )));
    }
    let another = |wanted: Option<u32>, has: u32| wanted.is_some_and(|wanted| wanted != has);
    if another(node.uid, there.uid()) || another(node.gid, there.gid()) {
        return Err(of.refuse(format!("another owner for {} than it has on this machine", node.path)));
    }
    let target = node.path.clone();
    Ok(ExtraMount::Bind(Bind { source, target, nosuid: true, noexec: true, ..Bind::default() }))
}

fn mount(of: Of<'_>, shown: &Shown) -> Result<ExtraMount, CdiError> {
    if !matches!(shown.kind.as_str(), "" | "none" | "bind") {
        return Err(of.refuse(format!("a mount of type `{}` at {}", shown.kind, shown.container_path)));
    }
    let mut bind = Bind {
        source: PathBuf::from(&shown.host_path),
        target: shown.container_path.clone(),
        ..Bind::default()
    };
    for option in &shown.options {
        match option.as_str() {
            "ro" => bind.readonly = true,
            "rw" => bind.readonly = false,
            "rbind" => bind.recursive = true,
            "nosuid" => bind.nosuid = true,
            "noexec" => bind.noexec = true,
            // What holds for every bind of a sandbox: no devices in it, and nothing that is mounted later comes or goes.
            "bind" | "nodev" | "private" | "rprivate" | "suid" | "exec" => {}
            other => {
                return Err(
                    of.refuse(format!("the option `{other}` of the mount at {}", shown.container_path))
                );
            }
        }
    }
    Ok(ExtraMount::Bind(bind))
}
