//! What the files of this machine say of what it allows: why it refuses something, and the command that mends it.
//!
//! In: `/proc`, `/sys`, `/etc` and `/run`, below a root that is given. Out: [`Cause`]s and [`Check`]s in users' words. Nothing
//! is tried here: whether something works is for [`crate::probe`], or for the run itself, to find out, and both
//! tell it in the words of this.
//! Source: user_namespaces(7), subuid(5), proc(5), cgroups(7), selinux(8); Ubuntu's "Restricted unprivileged user namespaces";
//! the security options of Docker, Podman and Kubernetes.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rb_sys::userns::{IdMapPlan, IdRange};

use crate::identity;
use crate::probe::{Check, Verdict};

mod container;

pub(crate) use container::Container;

/// Why something is not allowed here, and what to type about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) reason: String,
    pub(crate) remedy: String,
}

impl Cause {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// Something that this machine refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// To make a user namespace.
    Namespaces,
    /// To mount in one that was made, or to map ids into it.
    Mounts,
    /// A new `/proc`.
    Proc,
}

/// The files of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    root: PathBuf,
}

const MAX_NAMESPACES: &str = "proc/sys/user/max_user_namespaces";
const CLONE_ALLOWED: &str = "proc/sys/kernel/unprivileged_userns_clone";
const APPARMOR_RESTRICTS: &str = "proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// What Ubuntu's AppArmor puts a process into that makes a user namespace without leave.
const RESTRICTED_PROFILE: &str = "unprivileged_userns";

/// Domains of SELinux that may all that a sandbox needs.
const FREE_DOMAINS: [&str; 8] = [
    "unconfined_t",
    "unconfined_service_t",
    "spc_t",
    "kernel_t",
    "init_t",
    "initrc_t",
    "sysadm_t",
    "container_engine_t",
];

/// The first id that distributions hand out as a subordinate one, and how many each user gets.
const FIRST_SUB_ID: u32 = 100_000;
const SUB_IDS: u32 = 65_536;

impl Host {
    /// Returns this machine.
    pub(crate) fn here() -> Self {
        Self::below("/")
    }

    /// Returns the machine whose files lie below `root`.
    pub(crate) fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn text(&self, path: &str) -> Option<String> {
        // Attributes of security modules end with a NUL.
        let text = std::fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim_matches(|at: char| at == '\0' || at.is_whitespace()).to_owned())
    }

    fn is(&self, path: &str, value: &str) -> bool {
        self.text(path).as_deref() == Some(value)
    }

    /// Says why `what` is refused, as far as the files tell.
    pub(crate) fn cause(&self, what: Refused) -> Cause {
        if what == Refused::Namespaces {
            for (file, name, value) in [
                (MAX_NAMESPACES, "user.max_user_namespaces", "15000"),
                (CLONE_ALLOWED, "kernel.unprivileged_userns_clone", "1"),
            ] {
                if self.is(file, "0") {
                    return Cause::new(format!("{name} is 0"), self.sysctl(name, value));
                }
            }
            if !self.path("proc/self/ns/user").exists() {
                let remedy = "boot a kernel with CONFIG_USER_NS=y, or run rb as root";
                return Cause::new("this kernel has no user namespaces", remedy);
            }
        }
        let profile = self.apparmor_profile();
        let is_free = profile.as_ref().is_none_or(|(name, _)| is_nobodys(name));
        if what != Refused::Proc && self.is(APPARMOR_RESTRICTS, "1") && is_free {
            return self.apparmor_restricts();
        }
        if let Some(container) = self.container() {
            let filter = if self.is_filtered() { " and its system call filter" } else { "" };
            return Cause::new(format!("refused by {}{filter}", container.name()), container.remedy());
        }
        // One that does not enforce refuses nothing.
        if let Some((profile, true)) = profile.filter(|_| !is_free) {
            return self.apparmor_confines(&profile);
        }
        if let Some(domain) = self.selinux_confines() {
            return self.selinux_confined(&domain);
        }
        if self.is_filtered() {
            let remedy =
                "start rb outside of it, as in a service without SystemCallFilter= and RestrictNamespaces=";
            return Cause::new("a system call filter is around this process", remedy);
        }
        Cause::new("the kernel gives no reason", "run rb as root; in a container, one that is --privileged")
    }

    /// Returns the command that sets a setting of the kernel, and keeps it.
    fn sysctl(&self, name: &str, value: &str) -> String {
        let command =
            format!("echo {name}={value} | sudo tee -a /etc/sysctl.d/60-rb.conf && sudo sysctl --system");
        if self.container().is_some() {
            format!("on the machine around this container: {command}")
        } else {
            command
        }
    }

    fn apparmor_restricts(&self) -> Cause {
        let setting = "kernel.apparmor_restrict_unprivileged_userns";
        let reason =
            format!("AppArmor lets only programs with a profile use user namespaces ({setting} is 1)");
        let program = std::fs::read_link(self.path("proc/self/exe")).ok();
        let plain =
            |path: &&str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte));
        let program = program.as_deref().and_then(Path::to_str).filter(plain);
        let remedy = match program.filter(|_| self.container().is_none()) {
            Some(program) => format!(
                "printf 'abi <abi/4.0>,\\nprofile rb {program} flags=(unconfined) {{\\n  userns,\\n}}\\n' | sudo tee \
                 /etc/apparmor.d/rb && sudo apparmor_parser -r /etc/apparmor.d/rb"
            ),
            None => self.sysctl(setting, "0"),
        };
        Cause::new(reason, remedy)
    }

    fn apparmor_confines(&self, profile: &str) -> Cause {
        let remedy = match self.container() {
            Some(_) => "in a container: --security-opt apparmor=unconfined; in a pod: \
                 securityContext.appArmorProfile.type: Unconfined"
                .to_owned(),
            None => format!(
                "let the profile allow `mount,`, `umount,`, `pivot_root,` and `userns,`; or sudo aa-complain {profile}"
            ),
        };
        Cause::new(
            format!("AppArmor confines this process (profile {profile}), which keeps it from mounting"),
            remedy,
        )
    }

    fn selinux_confined(&self, domain: &str) -> Cause {
        let remedy = match self.container() {
            Some(_) => {
                "in a container: --security-opt label=disable; in a pod: securityContext.seLinuxOptions.type: spc_t"
            }
            None => {
                "sudo semanage login --add --seuser unconfined_u USER, and log in again; for a service, \
                 SELinuxContext=system_u:system_r:unconfined_service_t:s0"
            }
        };
        Cause::new(format!("SELinux confines this process ({domain}), which keeps it from mounting"), remedy)
    }

    /// Returns the name of the AppArmor profile of this process, and whether it is enforced; nothing without AppArmor.
    fn apparmor_profile(&self) -> Option<(String, bool)> {
        if !self.is("sys/module/apparmor/parameters/enabled", "Y") {
            return None;
        }
        let label =
            self.text("proc/self/attr/apparmor/current").or_else(|| self.text("proc/self/attr/current"))?;
        // `name (mode)`, of which (complain) and (unconfined) refuse nothing.
        let (name, mode) = label.rsplit_once(" (").unwrap_or((&label, ""));
        Some((name.to_owned(), ["enforce)", "kill)"].contains(&mode)))
    }

    /// Returns the domain of this process where SELinux enforces and the domain is a confined one.
    fn selinux_confines(&self) -> Option<String> {
        self.selinux_domain().filter(|domain| !FREE_DOMAINS.contains(&domain.as_str()))
    }

    fn selinux_domain(&self) -> Option<String> {
        if !self.is("sys/fs/selinux/enforce", "1") {
            return None;
        }
        // `user:role:type:level`
        let context = self.text("proc/self/attr/current").unwrap_or_default();
        Some(context.split(':').nth(2).unwrap_or("of unknown type").to_owned())
    }

    /// Whether a system call filter was around this process before it made any.
    pub(crate) fn is_filtered(&self) -> bool {
        let status = self.text("proc/self/status").unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
    }

    /// Tells what security modules say about this process, which has all of root's power or not; `works` says that nothing is refused.
    pub(crate) fn security(&self, is_root: bool, works: bool) -> Check {
        let name = "security modules";
        let limited = |Cause { reason, remedy }: Cause| Check::not(name, Verdict::Limited, reason, remedy);
        if let Some(domain) = self.selinux_domain() {
            return match self.selinux_confines() {
                Some(domain) => limited(self.selinux_confined(&domain)),
                None => Check::works(name, format!("SELinux enforces, and lets {domain} do what steps need")),
            };
        }
        match self.apparmor_profile() {
            None => Check::works(name, "none that bears on steps"),
            Some((profile, _)) if is_nobodys(&profile) => match (self.is(APPARMOR_RESTRICTS, "1"), is_root) {
                (false, _) => Check::works(name, "AppArmor, which does not confine this process"),
                (true, true) => {
                    Check::works(name, "AppArmor, which restricts user namespaces of others than root")
                }
                (true, false) => limited(self.apparmor_restricts()),
            },
            // One that an administrator wrote for rb allows what it needs.
            Some((profile, enforces)) if !enforces || (works && self.container().is_none()) => {
                Check::works(name, format!("AppArmor, with the profile {profile}"))
            }
            Some((profile, _)) => limited(self.apparmor_confines(&profile)),
        }
    }

    /// Tells about the container that this process is in; `works` says that nothing is refused.
    pub(crate) fn surroundings(&self, works: bool) -> Check {
        let name = "container";
        let Some(container) = self.container() else { return Check::works(name, "none") };
        let filter = if self.is_filtered() { ", with a system call filter" } else { "" };
        let reason = format!("{}{filter}", container.name());
        if works {
            Check::works(name, format!("{reason}, which allows what steps need"))
        } else {
            let reason = format!("{reason}: what is missing above is refused by it");
            Check::not(name, Verdict::Limited, reason, container.remedy())
        }
    }

    /// Returns what is known of the container that this process is in.
    pub(crate) fn container(&self) -> Option<Container> {
        Container::of(self)
    }

    /// Returns the ids that a user may have, or why there is but one.
    pub(crate) fn sub_ids(&self, uid: u32, gid: u32) -> Result<IdMapPlan, Cause> {
        let passwd = self.text("etc/passwd").unwrap_or_default();
        let name = identity::user_name(&passwd, uid);
        let ranges = |path: &str, own: u32| {
            let mut inside = 1;
            let mut ranges = vec![IdRange { inside: 0, outside: own, count: 1 }];
            for (outside, count) in identity::subordinate(&self.text(path).unwrap_or_default(), uid, name) {
                ranges.push(IdRange { inside, outside, count });
                inside = inside.saturating_add(count);
            }
            let none = || {
                let reason = format!("/{path} gives no ids to user {}", name.unwrap_or(&uid.to_string()));
                Cause::new(reason, self.give_sub_ids(uid, name))
            };
            if ranges.len() > 1 { Ok(ranges) } else { Err(none()) }
        };
        Ok(IdMapPlan::Programs {
            uids: ranges("etc/subuid", uid)?,
            gids: ranges("etc/subgid", gid)?,
            newuidmap: self.mapper("newuidmap")?,
            newgidmap: self.mapper("newgidmap")?,
        })
    }

    /// Returns the command that gives ids to a user: the first that nobody has.
    fn give_sub_ids(&self, uid: u32, name: Option<&str>) -> String {
        let end = |line: &str| -> Option<u32> {
            let mut fields = line.trim().split(':').skip(1);
            let first: u32 = fields.next()?.parse().ok()?;
            first.checked_add(fields.next()?.parse().ok()?)
        };
        let files = ["etc/subuid", "etc/subgid"].map(|path| self.text(path).unwrap_or_default());
        let taken = files.iter().flat_map(|text| text.lines()).filter_map(end).max().unwrap_or(0);
        let first = taken.max(FIRST_SUB_ID);
        match name {
            Some(name) => {
                let range = format!("{first}-{}", first.saturating_add(SUB_IDS - 1));
                format!("sudo usermod --add-subuids {range} --add-subgids {range} {name}")
            }
            // usermod(8) knows names only.
            None => format!("echo {uid}:{first}:{SUB_IDS} | sudo tee -a /etc/subuid /etc/subgid"),
        }
    }

    /// Finds a program of shadow that may map ids.
    fn mapper(&self, program: &str) -> Result<PathBuf, Cause> {
        let Some(path) = identity::find_mapper(&self.root, program) else {
            let reason = format!("the program {program} is not installed");
            return Err(Cause::new(reason, self.install_mapper()));
        };
        match may_map(&path) {
            Ok(true) | Err(_) => Ok(path),
            Ok(false) => {
                let reason = format!("the program {program} has no right to map ids");
                Err(Cause::new(reason, format!("sudo chmod u+s {}", path.display())))
            }
        }
    }

    fn install_mapper(&self) -> String {
        let release = self.text("etc/os-release").unwrap_or_default();
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let kinds = format!("{} {}", value("ID"), value("ID_LIKE"));
        let known = [
            ("debian", "sudo apt-get install uidmap"),
            ("ubuntu", "sudo apt-get install uidmap"),
            ("fedora", "sudo dnf install shadow-utils"),
            ("rhel", "sudo dnf install shadow-utils"),
            ("suse", "sudo zypper install shadow"),
            ("arch", "sudo pacman -S shadow"),
            ("alpine", "sudo apk add shadow-uidmap"),
        ];
        let is = |kind: &str| kinds.split_ascii_whitespace().any(|word| word == kind);
        let command = known.iter().find(|(kind, _)| is(kind)).map(|(_, command)| *command);
        command.unwrap_or("install the package with newuidmap and newgidmap (uidmap, or shadow)").to_owned()
    }

    /// Tells which control groups are mounted.
    pub(crate) fn cgroups(&self) -> Cgroups {
        let mounts = self.text("proc/self/mountinfo").unwrap_or_default();
        let has = |kind: &str| {
            mounts.lines().filter_map(|line| line.split_once(" - ")).any(|(_, right)| {
                right.split(' ').next() == Some(kind)
                    && !right.split(',').any(|word| word.starts_with("name="))
            })
        };
        match (has("cgroup"), has("cgroup2")) {
            (true, true) => Cgroups::Hybrid,
            (true, false) => Cgroups::One,
            (false, true) => Cgroups::Two,
            (false, false) => Cgroups::None,
        }
    }
}

/// Which control groups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cgroups {
    None,
    One,
    Two,
    /// Both; controllers are in one of them.
    Hybrid,
}

impl Cgroups {
    /// Returns what they are called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none is mounted",
            Self::One => "version 1 is mounted",
            Self::Two => "version 2 is mounted",
            Self::Hybrid => "versions 1 and 2 are mounted",
        }
    }

    /// Returns what lets somebody other than root set limits, where that is not for their session to give.
    pub(crate) fn remedy_for_users(self) -> Option<&'static str> {
        match self {
            Self::Two => None,
            Self::One | Self::Hybrid => Some(
                "limits of steps need root with version 1; for others, boot with version 2: sudo grubby --update-kernel=ALL \
                 --args=systemd.unified_cgroup_hierarchy=1 && sudo reboot, or the same word in GRUB_CMDLINE_LINUX of \
                 /etc/default/grub and sudo update-grub",
            ),
            Self::None => Some("sudo mount -t cgroup2 none /sys/fs/cgroup"),
        }
    }
}

/// Tells a profile that nobody wrote for this program, which all have that have none.
fn is_nobodys(profile: &str) -> bool {
    profile == "unconfined" || profile == RESTRICTED_PROFILE
}

/// Whether a program of shadow is root's, or has what it needs, when somebody else runs it.
fn may_map(path: &Path) -> io::Result<bool> {
    const SET_USER_ID: u32 = 0o4000;
    let is_root_then = std::fs::metadata(path)?.permissions().mode() & SET_USER_ID != 0;
    let mut value = [0; 64];
    Ok(is_root_then || rustix::fs::getxattr(path, "security.capability", &mut value[..]).is_ok())
}

#[cfg(test)]
mod tests;
