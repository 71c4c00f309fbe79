//! Where control groups are here, and beneath which a new one may be.
//!
//! Version 1: beneath the group that this process is in, in each hierarchy whose controllers are needed. Version 2: its
//! groups have either processes or groups with limits, so beneath ours only after ours was emptied: this process and those
//! that it started move into one of their own. Where others are in it, too (a login, a service): in `rb` at the top, as root.
//! Source: cgroups(7), proc_pid_mountinfo(5).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Limits;
use super::settings::{self, Setting};
use crate::error::ExecError;
use crate::runtime;

/// Which kind of hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A hierarchy that takes part in a sandbox's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Controllers, those of version 2 only as far as they are needed.
    pub(super) controllers: Vec<&'static str>,
    /// Where its groups are seen.
    mount: PathBuf,
    /// The group that this process is in, as a path from the mount.
    own: PathBuf,
    /// The group that the user named, likewise.
    parent: Option<PathBuf>,
}

/// Name of our groups' parent at the top.
const TOP: &str = "rb";

/// Where this process goes when it makes room.
const ASIDE: &str = "rb.main";

/// The error of an attempt on a group.
pub(super) fn failed(action: &str, group: &Path, source: io::Error) -> ExecError {
    // Each group of version 2 has this file; systemd delegates no controller of version 1.
    let is_two = group.ancestors().any(|group| group.join("cgroup.controllers").exists());
    let remedy = match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if !is_two => {
            "run it as root, since groups of version 1 are lent to nobody else; in a container, as a privileged one"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "run it as root, or in a scope of your own: `systemd-run --user --scope -p Delegate=yes rb …`; in a container, as \
             a privileged one"
        }
        io::ErrorKind::ResourceBusy => {
            "other processes are in the group: run it in one of its own, `systemd-run --scope -p Delegate=yes rb …`"
        }
        io::ErrorKind::InvalidInput => {
            "this machine does not take the value: leave the limit out, or give another"
        }
        _ => "leave the limits of steps out",
    };
    ExecError::Cgroup {
        action: action.to_owned(),
        group: group.to_owned(),
        remedy: remedy.to_owned(),
        source,
    }
}

fn missing(what: String) -> ExecError {
    ExecError::Cgroup {
        action: format!("limit {what}"),
        group: PathBuf::from("/sys/fs/cgroup"),
        remedy: "mount control groups (/sys/fs/cgroup) with this controller, or leave the limit out"
            .to_owned(),
        source: io::Error::new(io::ErrorKind::Unsupported, "the controller is not there"),
    }
}

impl Hierarchy {
    /// Returns the hierarchies that limits, and a group that the user names, need.
    pub(super) fn for_limits(limits: &Limits, parent: Option<&str>) -> Result<Vec<Self>, ExecError> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|source| failed("read", Path::new(path), source));
        let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let controllers =
            |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        Self::choose(limits, parent, &mounts, &own, &controllers)
    }

    fn choose(
        limits: &Limits,
        parent: Option<&str>,
        mounts: &str,
        own: &str,
        controllers: &dyn Fn(&Path) -> String,
    ) -> Result<Vec<Self>, ExecError> {
        let parent = parent.map(relative).transpose()?;
        let needed = settings::controllers(limits);
        let mut chosen: Vec<Self> = Vec::new();
        let all = parse(mounts, own);
        let unified = all.iter().find(|(version, ..)| *version == Version::Two);
        let there = unified.map(|(.., mount, _)| controllers(mount)).unwrap_or_default();
        let mut of_unified = Vec::new();
        for controller in needed {
            if there.split_ascii_whitespace().any(|name| name == controller) {
                of_unified.push(controller);
                continue;
            }
            let has = |(version, names, ..): &&Found| {
                *version == Version::One && names.split(',').any(|name| name == controller)
            };
            let (version, _, mount, own) =
                all.iter().find(has).ok_or_else(|| missing(what(controller)))?.clone();
            match chosen.iter_mut().find(|hierarchy| hierarchy.mount == mount) {
                Some(hierarchy) => hierarchy.controllers.push(controller),
                None => {
                    let parent = parent.clone();
                    chosen.push(Self { version, controllers: vec![controller], mount, own, parent });
                }
            }
        }
        // A group that is named without limits is of version 2, if there is any.
        if !of_unified.is_empty() || (chosen.is_empty() && parent.is_some()) {
            let (version, _, mount, own) = unified.ok_or_else(|| missing("by version 2".to_owned()))?.clone();
            chosen.push(Self { version, controllers: of_unified, mount, own, parent });
        }
        Ok(chosen)
    }

    /// Makes the group ready beneath which that of a sandbox is made, and returns it.
    pub(super) fn prepare(&self, settings: &[Setting]) -> Result<PathBuf, ExecError> {
        if let Some(parent) = &self.parent {
            let path = self.mount.join(parent);
            fs::create_dir_all(&path).map_err(|source| failed("make a group", &path, source))?;
            self.enable(parent, settings)?;
            return Ok(path);
        }
        if self.version == Version::One {
            return Ok(self.mount.join(&self.own));
        }
        let mut own = self.own.clone();
        // Where we made room before, we are in the group beside.
        if own.file_name().is_some_and(|name| name == ASIDE) {
            own.pop();
        }
        let group = self.mount.join(&own);
        match room(&group, own == Path::new("")) {
            Room::Free => {}
            Room::Ours(pids) => move_aside(&group, &pids)?,
            Room::Taken => {
                let is_root = runtime::privileges().is_none_or(|privileges| privileges.outer_uid == 0);
                if !is_root {
                    return Err(failed("make groups", &group, io::ErrorKind::ResourceBusy.into()));
                }
                own = PathBuf::from(TOP);
            }
        }
        let group = self.mount.join(&own);
        fs::create_dir_all(&group).map_err(|source| failed("make a group", &group, source))?;
        self.enable(&own, settings)?;
        Ok(group)
    }

    /// Returns the limits on memory of the group that this process is in, and of those above it.
    pub(super) fn memory_limits(&self) -> Vec<u64> {
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        let own = self.mount.join(&self.own);
        let groups = own.ancestors().take_while(|group| group.starts_with(&self.mount));
        // Version 2 says `max` where there is none.
        groups.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).collect()
    }

    /// Has a new group of version 1 run where the one above it runs, which is nowhere until it is told.
    pub(super) fn settle(&self, group: &Path) -> Result<(), ExecError> {
        if self.version == Version::Two || !self.controllers.contains(&"cpuset") {
            return Ok(());
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let below = group.strip_prefix(&self.mount).unwrap_or(Path::new(""));
            let (mut at, mut value) = (self.mount.clone(), String::new());
            for name in std::iter::once(None).chain(below.iter().map(Some)) {
                at.extend(name);
                let own =
                    fs::read_to_string(at.join(file)).map_err(|source| failed("look at", &at, source))?;
                if own.trim().is_empty() {
                    fs::write(at.join(file), value.trim()).map_err(|source| {
                        failed(&format!("set {file} to `{}`", value.trim()), &at, source)
                    })?;
                } else {
                    value = own;
                }
            }
        }
        Ok(())
    }

    /// Has the groups beneath `group`, and it beneath those above, have the controllers of `settings`; version 1 knows no such
    /// thing.
    fn enable(&self, group: &Path, settings: &[Setting]) -> Result<(), ExecError> {
        if self.version == Version::One {
            return Ok(());
        }
        let mut path = self.mount.clone();
        for name in std::iter::once(None).chain(group.iter().map(Some)) {
            path.extend(name);
            let file = path.join("cgroup.subtree_control");
            let enabled = fs::read_to_string(&file).map_err(|source| failed("look at", &path, source))?;
            for setting in settings {
                if enabled.split_ascii_whitespace().any(|name| name == setting.controller) {
                    continue;
                }
                let wanted = format!("+{}", setting.controller);
                fs::write(&file, &wanted).map_err(|source| {
                    let action = format!("pass the controller {} on", setting.controller);
                    failed(&action, &path, source)
                })?;
            }
        }
        Ok(())
    }
}

/// Returns a group that the user named as a path from the mount.
fn relative(parent: &str) -> Result<PathBuf, ExecError> {
    let names = parent.split('/').filter(|name| !name.is_empty() && *name != ".");
    let path: PathBuf = names.clone().collect();
    if names.clone().any(|name| name == "..") || names.count() == 0 {
        return Err(ExecError::Cgroup {
            action: format!("use `{parent}` as a control group"),
            group: PathBuf::from(parent),
            remedy: "name a group from the root of the hierarchy on: `/builds`".to_owned(),
            source: io::ErrorKind::InvalidInput.into(),
        });
    }
    Ok(path)
}

fn what(controller: &str) -> String {
    match controller {
        "cpu" => "time on processors (the controller cpu)".to_owned(),
        "cpuset" => "which processors are used (the controller cpuset)".to_owned(),
        "pids" => "the number of processes (the controller pids)".to_owned(),
        other => other.to_owned(),
    }
}

/// Version, controllers, mount and own group.
type Found = (Version, String, PathBuf, PathBuf);

/// Reads which hierarchies are mounted, and where this process is in each.
fn parse(mounts: &str, own: &str) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(&root), Some(&at), Some(&kind)) = (left.get(3), left.get(4), right.first()) else {
            continue;
        };
        let options = right.get(2).copied().unwrap_or_default();
        // Lines are `number:controllers:path`.
        let group_of = |wanted: &dyn Fn(&str) -> bool| {
            own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (names, path) = (fields.next()?, fields.next()?);
                wanted(names).then(|| (names.to_owned(), path))
            })
        };
        let (version, group) = match kind {
            "cgroup2" => (Version::Two, group_of(&str::is_empty)),
            "cgroup" => {
                let has = |names: &str| {
                    !names.is_empty()
                        && names.split(',').all(|name| options.split(',').any(|option| option == name))
                };
                (Version::One, group_of(&has))
            }
            _ => continue,
        };
        let Some((names, path)) = group else { continue };
        // In a container a part of the hierarchy is mounted.
        let own = Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/"));
        let own = own.unwrap_or(Path::new("")).to_owned();
        if found.iter().all(|(_, known, ..)| *known != names) {
            found.push((version, names, PathBuf::from(at), own));
        }
    }
    found
}

/// Whether groups with limits can be made in one of version 2.
enum Room {
    /// There are no processes in it, or it is the first of all.
    Free,
    /// These are in it, which may be moved.
    Ours(Vec<u32>),
    /// Others are in it.
    Taken,
}

/// Looks who is in a group. `is_top`: we see none above it; then it is the machine's first, or a container's, which is ours to
/// divide.
fn room(group: &Path, is_top: bool) -> Room {
    let is_first = is_top && !group.join("cgroup.type").exists();
    let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<u32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
    match pids {
        pids if is_first || pids.is_empty() => Room::Free,
        pids if is_top || pids.iter().all(|pid| is_ours(*pid)) => Room::Ours(pids),
        _ => Room::Taken,
    }
}

fn move_aside(group: &Path, pids: &[u32]) -> Result<(), ExecError> {
    let aside = group.join(ASIDE);
    fs::create_dir_all(&aside).map_err(|source| failed("make a group", &aside, source))?;
    for pid in pids {
        match fs::write(aside.join("cgroup.procs"), pid.to_string()) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
            moved => moved.map_err(|source| failed("make room", group, source))?,
        }
    }
    Ok(())
}

/// Tells whether a process is this one, or was started by it.
fn is_ours(pid: u32) -> bool {
    const DEEPEST: usize = 64;
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let line = std::iter::successors(Some(pid), |pid| parent(*pid)).take(DEEPEST);
    line.into_iter().any(|pid| pid == std::process::id())
}

#[cfg(test)]
mod fake;

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "\
        31 24 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 31 0:29 /docker/a /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        34 31 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
        35 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n\
        36 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
    const OWN: &str = "4:memory:/jobs/x\n3:cpu,cpuacct:/docker/a/b\n2:pids:/\n1:name=systemd:/s\n0::/u\n";

    fn limits() -> Limits {
        let quota_us = 1000;
        Limits {
            memory_bytes: Some(1),
            cpu_quota: Some(super::super::CpuQuota { quota_us, period_us: 1000 }),
            pids: Some(1),
            ..Limits::default()
        }
    }

    #[test]
    fn a_refusal_of_version_1_names_no_scope_of_a_users_own() {
        let mount = tempfile::tempdir().expect("temp dir");
        let remedy = || {
            let error =
                failed("make a group", &mount.path().join("of/mine"), io::ErrorKind::PermissionDenied.into());
            let ExecError::Cgroup { remedy, .. } = error else { panic!("{error}") };
            remedy
        };
        assert!(
            remedy().starts_with("run it as root, since") && !remedy().contains("systemd"),
            "{}",
            remedy()
        );
        fs::write(mount.path().join("cgroup.controllers"), "memory\n").expect("writes");
        assert!(remedy().contains("systemd-run --user"), "{}", remedy());
    }

    #[test]
    fn each_limit_finds_its_hierarchy() {
        let shown = |mounts: &str, own: &str, there: &'static str, parent: Option<&str>| {
            let chosen = Hierarchy::choose(&limits(), parent, mounts, own, &|_| there.to_owned());
            let shown = |it: &Hierarchy| {
                let group = it.parent.as_ref().unwrap_or(&it.own);
                format!("{:?} {} {}", it.version, it.mount.join(group).display(), it.controllers.join("+"))
            };
            chosen.expect("all are there").iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(UNIFIED, "0::/user.slice/x\n", "cpuset cpu io memory pids", None),
            ["Two /sys/fs/cgroup/user.slice/x memory+cpu+pids"]
        );
        assert_eq!(
            shown(HYBRID, OWN, "", None),
            [
                "One /sys/fs/cgroup/memory/jobs/x memory",
                "One /sys/fs/cgroup/cpu,cpuacct/b cpu",
                "One /sys/fs/cgroup/pids/ pids"
            ]
        );
        // A machine that is on its way from one to the other.
        assert_eq!(
            shown(HYBRID, OWN, "hugetlb pids", Some("/builds/a")),
            [
                "One /sys/fs/cgroup/memory/builds/a memory",
                "One /sys/fs/cgroup/cpu,cpuacct/builds/a cpu",
                "Two /sys/fs/cgroup/unified/builds/a pids"
            ]
        );
    }

    #[test]
    fn limits_on_memory_are_those_of_all_groups_above() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let hierarchy = |version| Hierarchy {
            version,
            controllers: vec!["memory"],
            mount: dir.path().to_owned(),
            own: PathBuf::from("jobs/x"),
            parent: None,
        };
        fs::create_dir_all(dir.path().join("jobs/x")).expect("makes");
        for (group, bytes) in [("", "max"), ("jobs", "700\n"), ("jobs/x", "900\n")] {
            fs::write(dir.path().join(group).join("memory.max"), bytes).expect("writes");
        }
        assert_eq!(hierarchy(Version::Two).memory_limits(), [900, 700]);
        assert_eq!(hierarchy(Version::One).memory_limits(), [0_u64; 0]);
    }

    #[test]
    fn what_cannot_be_limited_is_an_error() {
        let none = |_: &Path| String::new();
        let error =
            Hierarchy::choose(&limits(), None, UNIFIED, "0::/\n", &none).expect_err("nothing is there");
        assert!(matches!(&error, ExecError::Cgroup { action, .. } if action == "limit memory"), "{error}");
        for parent in ["", "/", "/../x", "a/../../b"] {
            let error = Hierarchy::choose(&limits(), Some(parent), UNIFIED, "0::/\n", &none);
            assert!(matches!(error, Err(ExecError::Cgroup { .. })), "{parent}");
        }
    }

    #[test]
    fn children_are_ours() {
        assert!(is_ours(std::process::id()) && !is_ours(1));
    }
}
