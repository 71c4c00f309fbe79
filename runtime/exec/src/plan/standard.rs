//! What every sandbox has mounted: `/proc`, `/dev`, `/sys` and generated files of `/etc`.
//!
//! Mounts that do not depend on the child's namespaces are made here, outside; `/proc`, message queues and, for root,
//! `/sys` are made by the child. A command without isolation also gets this machine's control groups and devices, as far
//! as this process may give them. Without root a new `/sys` is refused, so this machine's is bound, read-only.
//! Source: Docker's masked and read-only paths (moby, oci/defaults.go; facts).

use std::os::fd::OwnedFd;
use std::path::Path;

use rb_sys::child::{FileRef, Program, Slot, Step};
use rb_sys::mount::Attributes;

use super::{SCRATCH, Steps, bind, clone, hostname, place, setup, text};
use crate::error::ExecError;
use crate::spec::Spec;
use crate::tree::{Kind, Place, Tree};
use crate::{files, identity, terminal};

pub(super) const PROC_MASKED: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
];
pub(super) const PROC_PROTECTED: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
pub(super) const SYS_MASKED: [&str; 2] = ["firmware", "devices/virtual/powercap"];

const DEVICES_TREE: Attributes = Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::NOEXEC);

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Slots of the child that stay in use while paths beneath are masked.
const PROC: Slot = Slot(0);
const SYS: Slot = Slot(2);

/// `/proc`, `/dev`, `/sys` and the generated files of `/etc`.
pub(super) struct Standard {
    pub(super) generated: FileRef,
    pub(super) proc: Place,
    dev: FileRef,
    pub(super) dev_place: Place,
    /// Mount and place of each device and each file system in `/dev`.
    in_dev: Vec<(String, FileRef, Place)>,
    pub(super) mqueue: Place,
    pub(super) sys: Place,
    /// This machine's `/sys`, where a new one is refused.
    pub(super) sys_bind: Option<FileRef>,
    /// This machine's control groups, for a command without isolation, where its `/sys` is a new one.
    pub(super) control_groups: Option<(FileRef, Place)>,
    /// Name of a generated file, and its place.
    etc: Vec<(&'static str, Place)>,
    /// The file system of `/dev/pts`.
    pub(super) terminals: OwnedFd,
    /// The same, lent, and where its first terminal is shown, for a command that has one.
    console: Option<(FileRef, Place)>,
}

impl Standard {
    pub(super) fn prepare(spec: &Spec, tree: &mut Tree, program: &mut Program) -> Result<Self, ExecError> {
        let generated = files::generate(spec, hostname(spec)).map_err(setup("generate /etc/hosts"))?;
        let proc = place(tree, "/proc", Kind::Directory)?;
        tree.mount(&proc, None, None);
        let dev = files::device_tree(spec.insecure).map_err(setup("make /dev"))?;
        if spec.insecure && !identity::in_user_namespace() {
            files::all_devices(&dev).map_err(setup("make the devices of /dev"))?;
        }
        let dev_place = place(tree, "/dev", Kind::Directory)?;
        tree.mount(&dev_place, Some(clone(&dev)?), None);
        let mut in_dev = Vec::new();
        for (name, major, minor) in files::DEVICES {
            let target = format!("/dev/{name}");
            let device = files::device(name, major, minor).map_err(setup(format!("bind {target}")))?;
            let place = place(tree, &target, Kind::File)?;
            tree.mount(&place, Some(clone(&device)?), None);
            in_dev.push((target, program.lend(device), place));
        }
        if spec.insecure && identity::in_user_namespace() {
            for name in files::WITHOUT_NODES {
                let target = format!("/dev/{name}");
                let Some(device) = files::any_device(name).map_err(setup(format!("bind {target}")))? else {
                    continue;
                };
                let place = place(tree, &target, Kind::File)?;
                tree.mount(&place, Some(clone(&device)?), None);
                in_dev.push((target, program.lend(device), place));
            }
        }
        let terminals = files::terminals(files::tty_group_exists()).map_err(setup("make /dev/pts"))?;
        let shm = files::shared_memory(spec.shm_bytes).map_err(setup("make /dev/shm"))?;
        let own_terminals = clone(&terminals)?;
        for (target, mount) in [("/dev/pts", terminals), ("/dev/shm", shm)] {
            let place = place(tree, target, Kind::Directory)?;
            tree.mount(&place, Some(clone(&mount)?), None);
            in_dev.push((target.to_owned(), program.lend(mount), place));
        }
        let console = match spec.terminal {
            Some(_) => {
                let pts = in_dev.iter().find(|(target, ..)| target == "/dev/pts");
                let pts = pts.expect("it is among those above").1;
                let place = place(tree, "/dev/console", Kind::File)?;
                tree.mount(&place, None, None);
                Some((pts, place))
            }
            None => None,
        };
        let mqueue = place(tree, "/dev/mqueue", Kind::Directory)?;
        tree.mount(&mqueue, None, None);
        let sys = place(tree, "/sys", Kind::Directory)?;
        tree.mount(&sys, None, None);
        let sys_bind = if identity::in_user_namespace() {
            let attributes = if spec.insecure { DEVICES_TREE } else { DEVICES_TREE.with(Attributes::RDONLY) };
            Some(program.lend(bind(Path::new("/sys"), true, attributes)?))
        } else {
            None
        };
        let control_groups = if spec.insecure && sys_bind.is_none() && Path::new(CONTROL_GROUPS).exists() {
            let attributes = DEVICES_TREE;
            let place = place(tree, CONTROL_GROUPS, Kind::Directory)?;
            Some((program.lend(bind(Path::new(CONTROL_GROUPS), true, attributes)?), place))
        } else {
            None
        };
        let mut etc = Vec::new();
        for name in generated.names {
            let place = place(tree, &format!("/etc/{name}"), Kind::File)?;
            tree.mount(&place, None, None);
            etc.push((name, place));
        }
        let (generated, dev) = (program.lend(generated.mount), program.lend(dev));
        Ok(Self {
            generated,
            proc,
            dev,
            dev_place,
            in_dev,
            mqueue,
            sys,
            sys_bind,
            control_groups,
            etc,
            terminals: own_terminals,
            console,
        })
    }

    pub(super) fn lay_out(&self, spec: &Spec, root: FileRef, steps: &mut Steps) -> Result<(), ExecError> {
        let path = |place: &Place| text(place.path(), "a mount target");
        let blanks = (self.generated, files::BLANK_FILE.to_owned(), files::BLANK_DIRECTORY.to_owned());
        let mask = |root: FileRef, path: &str, steps: &mut Steps, tree: &str| -> Result<(), ExecError> {
            let (blanks, file, directory) = blanks.clone();
            let step = Step::Mask { root, path: text(path, "a path")?, blanks, file, directory };
            steps.push(format!("mask {tree}/{path}"), step);
            Ok(())
        };
        let new = |kind: &std::ffi::CStr, attributes: Attributes, into: Slot| Step::FileSystem {
            kind: kind.to_owned(),
            options: Vec::new(),
            attributes,
            into,
        };

        steps.push("mount /proc", new(c"proc", DEVICES_TREE, PROC));
        let proc = FileRef::Slot(PROC);
        steps.push("mount /proc", Step::Attach { mount: proc, root, path: path(&self.proc)? });
        if !spec.insecure {
            for name in PROC_MASKED {
                mask(proc, name, steps, "/proc")?;
            }
            for name in PROC_PROTECTED {
                let step = Step::Protect { root: proc, path: text(name, "a path")? };
                steps.push(format!("protect /proc/{name}"), step);
            }
        }

        self.lay_out_devices(root, steps)?;
        let scratch = FileRef::Slot(SCRATCH);
        if let Some((terminals, place)) = &self.console {
            let step = Step::Bind {
                from: *terminals,
                path: text(terminal::FIRST, "a path")?,
                attributes: Attributes::NOSUID.with(Attributes::NOEXEC),
                into: SCRATCH,
            };
            steps.push("mount /dev/console", step);
            let step = Step::Attach { mount: scratch, root, path: path(place)? };
            steps.push("mount /dev/console", step);
        }
        steps.push("mount /dev/mqueue", new(c"mqueue", DEVICES_TREE, SCRATCH));
        steps.push("mount /dev/mqueue", Step::Attach { mount: scratch, root, path: path(&self.mqueue)? });

        let sys = match self.sys_bind {
            Some(bound) => bound,
            None => {
                let attributes =
                    if spec.insecure { DEVICES_TREE } else { DEVICES_TREE.with(Attributes::RDONLY) };
                steps.push("mount /sys", new(c"sysfs", attributes, SYS));
                FileRef::Slot(SYS)
            }
        };
        steps.push("mount /sys", Step::Attach { mount: sys, root, path: path(&self.sys)? });
        if !spec.insecure {
            for name in SYS_MASKED {
                mask(sys, name, steps, "/sys")?;
            }
        }

        if let Some((mount, place)) = &self.control_groups {
            let label = format!("mount {CONTROL_GROUPS}");
            steps.push(label, Step::Attach { mount: *mount, root, path: path(place)? });
        }

        self.lay_out_names(root, steps)
    }

    /// Adds the steps for `/dev` and its devices and file systems.
    pub(super) fn lay_out_devices(&self, root: FileRef, steps: &mut Steps) -> Result<(), ExecError> {
        let places = self.in_dev.iter().map(|(target, mount, place)| (target.as_str(), *mount, place));
        for (target, mount, place) in [("/dev", self.dev, &self.dev_place)].into_iter().chain(places) {
            let path = text(place.path(), "a mount target")?;
            steps.push(format!("mount {target}"), Step::Attach { mount, root, path });
        }
        Ok(())
    }

    /// Adds the steps for the generated files of `/etc`.
    pub(super) fn lay_out_names(&self, root: FileRef, steps: &mut Steps) -> Result<(), ExecError> {
        for (name, place) in &self.etc {
            let label = format!("mount /etc/{name}");
            let step = Step::Bind {
                from: self.generated,
                path: text(*name, "a path")?,
                attributes: Attributes::RDONLY,
                into: SCRATCH,
            };
            steps.push(label.clone(), step);
            let path = text(place.path(), "a mount target")?;
            steps.push(label, Step::Attach { mount: FileRef::Slot(SCRATCH), root, path });
        }
        Ok(())
    }
}
