//! Hierarchies made of plain files: what is written where, in version 1, in version 2 and with both mounted.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::{CpuQuota, settings};
use super::*;

/// A folder that stands for `/sys/fs/cgroup`.
struct Fake(TempDir);

impl Fake {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Makes a group with these files.
    fn group(&self, path: &str, files: &[(&str, &str)]) -> PathBuf {
        let group = self.path(path);
        fs::create_dir_all(&group).expect("makes a group");
        for (name, content) in files {
            fs::write(group.join(name), content).expect("writes");
        }
        group
    }

    /// Makes a group of version 2 with these processes in it.
    fn unified(&self, path: &str, enabled: &str, processes: &str) -> PathBuf {
        self.group(path, &[("cgroup.subtree_control", enabled), ("cgroup.procs", processes)])
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("reads")
    }

    fn two(&self, own: &str) -> Hierarchy {
        Hierarchy {
            version: Version::Two,
            controllers: vec!["pids"],
            mount: self.0.path().to_owned(),
            own: PathBuf::from(own),
            parent: None,
        }
    }
}

fn pids() -> Limits {
    Limits { pids: Some(7), ..Limits::default() }
}

fn prepared(hierarchy: &Hierarchy) -> PathBuf {
    hierarchy.prepare(&settings::of(&pids(), hierarchy)).expect("is made ready")
}

#[test]
fn an_empty_group_of_version_2_is_divided_from_the_top_down() {
    let fake = Fake::new();
    // What is passed on already is left alone.
    fake.unified("", "cpu pids", "1\n");
    fake.unified("a", "memory", "");
    fake.unified("a/b", "", "");
    assert_eq!(prepared(&fake.two("a/b")), fake.path("a/b"));
    let files = [".", "a", "a/b"].map(|group| fake.read(&format!("{group}/cgroup.subtree_control")));
    assert_eq!(files, ["cpu pids", "+pids", "+pids"]);
}

#[test]
fn who_is_in_a_group_alone_makes_room_and_knows_it_later() {
    let fake = Fake::new();
    let own = format!("{}\n", std::process::id());
    fake.unified("", "pids", "");
    fake.unified("job", "", &own);
    assert_eq!(prepared(&fake.two("job")), fake.path("job"));
    assert_eq!(fake.read("job/rb.main/cgroup.procs"), own.trim());
    assert_eq!(fake.read("job/cgroup.subtree_control"), "+pids");
    // From where it went.
    fake.unified("job", "pids", "");
    assert_eq!(prepared(&fake.two("job/rb.main")), fake.path("job"));
    assert!(!fake.path("job/rb.main/rb.main").exists());
}

#[test]
fn a_group_with_others_in_it_is_left_alone() {
    let fake = Fake::new();
    fake.unified("", "", "1\n");
    // The first process is nobody's child of ours.
    fake.unified("login", "", &format!("1\n{}\n", std::process::id()));
    fake.unified("rb", "", "");
    assert_eq!(prepared(&fake.two("login")), fake.path("rb"));
    assert_eq!(fake.read("login/cgroup.subtree_control"), "");
    assert!(!fake.path("login/rb.main").exists());
}

#[test]
fn the_first_group_of_a_machine_holds_processes_and_that_of_a_container_is_emptied() {
    let machine = Fake::new();
    machine.unified("", "", "1\n2\n");
    assert_eq!(prepared(&machine.two("")), machine.path(""));
    assert!(!machine.path("rb.main").exists());
    let container = Fake::new();
    container.group("", &[("cgroup.type", "domain\n")]);
    container.unified("", "", "1\n2\n");
    assert_eq!(prepared(&container.two("")), container.path(""));
    assert_eq!(container.read("rb.main/cgroup.procs"), "2");
}

#[test]
fn a_group_that_is_named_is_made_and_given_the_controllers() {
    let fake = Fake::new();
    fake.unified("", "", "1\n");
    fake.unified("builds", "", "");
    fake.unified("builds/x", "", "");
    let named = Hierarchy { parent: Some("builds/x".into()), ..fake.two("login") };
    assert_eq!(prepared(&named), fake.path("builds/x"));
    assert_eq!(fake.read("builds/x/cgroup.subtree_control"), "+pids");
    // Version 1 has nothing to pass on.
    let old = Fake::new();
    let named = Hierarchy { version: Version::One, parent: Some("builds/y".into()), ..old.two("") };
    assert_eq!(prepared(&named), old.path("builds/y"));
    assert_eq!(fs::read_dir(old.path("builds/y")).expect("lists").count(), 0);
}

#[test]
fn a_controller_that_is_not_passed_on_is_told_with_its_group() {
    let fake = Fake::new();
    fake.unified("", "pids", "");
    fake.group("job", &[("cgroup.procs", "")]);
    let hierarchy = fake.two("job");
    let error = hierarchy.prepare(&settings::of(&pids(), &hierarchy)).expect_err("has no such file");
    assert!(matches!(&error, ExecError::Cgroup { group, .. } if *group == fake.path("job")), "{error}");
}

#[test]
fn processors_of_version_1_come_from_above() {
    let fake = Fake::new();
    fake.group("", &[("cpuset.cpus", "0-3\n"), ("cpuset.mems", "0\n")]);
    fake.group("a", &[("cpuset.cpus", "1-2\n"), ("cpuset.mems", "\n")]);
    let group = fake.group("a/rb-1-0", &[("cpuset.cpus", "\n"), ("cpuset.mems", "\n")]);
    let hierarchy = Hierarchy { version: Version::One, controllers: vec!["cpuset"], ..fake.two("a") };
    hierarchy.settle(&group).expect("settles");
    let files = ["a/cpuset.cpus", "a/cpuset.mems", "a/rb-1-0/cpuset.cpus", "a/rb-1-0/cpuset.mems"];
    assert_eq!(files.map(|file| fake.read(file).trim().to_owned()), ["1-2", "0", "1-2", "0"]);
    // Those of version 2, and of other controllers, know by themselves.
    for hierarchy in [fake.two("a"), Hierarchy { controllers: vec!["cpu"], ..hierarchy }] {
        let other = fake.group("a/rb-1-1", &[]);
        hierarchy.settle(&other).expect("has nothing to do");
    }
}

/// Goes the whole way of one sandbox; returns what is written where, but for the files that were there.
fn whole_way(fake: &Fake, mounts: &[(&str, &str)], own: &str, limits: &Limits) -> Vec<String> {
    let mountinfo: String = mounts
        .iter()
        .enumerate()
        .map(|(at, (path, kind))| {
            let (kind, options) = kind.split_once(' ').unwrap_or((kind, ""));
            format!("{at} 1 0:{at} / {} rw - {kind} none rw,{options}\n", fake.path(path).display())
        })
        .collect();
    let controllers = |mount: &Path| fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let chosen = Hierarchy::choose(limits, None, &mountinfo, own, &controllers).expect("all are there");
    let mut written = Vec::new();
    for hierarchy in chosen {
        let wanted = settings::of(limits, &hierarchy);
        let group = hierarchy.prepare(&wanted).expect("is made ready").join("rb-1-0");
        fs::create_dir(&group).expect("makes the group");
        // As the kernel does.
        let files = ["memory.max", "memory.swap.max", "cpu.max", "pids.max", "memory.limit_in_bytes"];
        for file in
            files.into_iter().chain(["memory.memsw.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us"])
        {
            fs::write(group.join(file), "").expect("writes");
        }
        hierarchy.settle(&group).expect("settles");
        for setting in wanted {
            setting.apply(&group).expect("applies");
        }
        let place = group.strip_prefix(fake.0.path()).expect("lies in it").display().to_string();
        let mut said: Vec<String> = fs::read_dir(&group)
            .expect("lists")
            .map(|entry| entry.expect("lists").path())
            .filter_map(|path| {
                let value = fs::read_to_string(&path).expect("reads");
                let name = path.file_name()?.to_string_lossy().into_owned();
                (!value.is_empty()).then(|| format!("{place}/{name}={value}"))
            })
            .collect();
        said.sort();
        written.extend(said);
    }
    written
}

#[test]
fn limits_are_written_wherever_the_controllers_are() {
    let quota = CpuQuota { quota_us: 50_000, period_us: 100_000 };
    let limits =
        Limits { memory_bytes: Some(1000), cpu_quota: Some(quota), pids: Some(7), ..Limits::default() };

    let fake = Fake::new();
    fake.group("", &[("cgroup.controllers", "cpu memory pids")]);
    fake.unified("", "cpu memory pids", "");
    assert_eq!(
        whole_way(&fake, &[("", "cgroup2")], "0::/\n", &limits),
        [
            "rb-1-0/cpu.max=50000 100000",
            "rb-1-0/memory.max=1000",
            "rb-1-0/memory.swap.max=1000",
            "rb-1-0/pids.max=7"
        ]
    );

    let fake = Fake::new();
    for group in ["memory/job", "cpu/job", "pids"] {
        fake.group(group, &[]);
    }
    let mounts = [("memory", "cgroup memory"), ("cpu", "cgroup cpu,cpuacct"), ("pids", "cgroup pids")];
    let own = "3:memory:/job\n2:cpu,cpuacct:/job\n1:pids:/\n";
    assert_eq!(
        whole_way(&fake, &mounts, own, &limits),
        [
            "memory/job/rb-1-0/memory.limit_in_bytes=1000",
            "memory/job/rb-1-0/memory.memsw.limit_in_bytes=2000",
            "cpu/job/rb-1-0/cpu.cfs_period_us=100000",
            "cpu/job/rb-1-0/cpu.cfs_quota_us=50000",
            "pids/rb-1-0/pids.max=7"
        ]
    );

    // Both: what version 2 has is limited there.
    let fake = Fake::new();
    fake.group("memory/job", &[]);
    fake.group("cpu", &[]);
    fake.group("unified", &[("cgroup.controllers", "hugetlb pids")]);
    fake.unified("unified", "pids", "");
    let mounts = [("memory", "cgroup memory"), ("cpu", "cgroup cpu"), ("unified", "cgroup2")];
    let own = "3:memory:/job\n2:cpu:/\n0::/\n";
    assert_eq!(
        whole_way(&fake, &mounts, own, &limits),
        [
            "memory/job/rb-1-0/memory.limit_in_bytes=1000",
            "memory/job/rb-1-0/memory.memsw.limit_in_bytes=2000",
            "cpu/rb-1-0/cpu.cfs_period_us=100000",
            "cpu/rb-1-0/cpu.cfs_quota_us=50000",
            "unified/rb-1-0/pids.max=7"
        ]
    );
}
