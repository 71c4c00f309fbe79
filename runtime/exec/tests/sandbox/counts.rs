//! A world in which a test is alone, and all that is counted in it before and after. Also a part of rb's own tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Set for a test that is alone.
const ALONE: &str = "RB_TEST_ALONE";

/// Says how many sandboxes a test has at once: `RB_CROWD`, or 60.
const COUNT: &str = "RB_CROWD";

fn variable(name: &str) -> Option<String> {
    std::env::vars_os()
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.to_string_lossy().into_owned())
}

pub(crate) fn crowd() -> usize {
    variable(COUNT).map_or(60, |count| count.parse().expect("RB_CROWD is a number"))
}

/// Does `work`, the body of the test of this name, where nobody else is seen: in a process with namespaces of its own for
/// processes, mounts and networks. Needs root.
pub(crate) fn alone(name: &str, work: impl FnOnce()) {
    if variable(ALONE).is_some() {
        return work();
    }
    let own = ["--mount", "--pid", "--net", "--fork", "--mount-proc", "--kill-child"];
    let tried = Command::new("unshare").args(own).arg("true").output().expect("the package util-linux");
    if !tried.status.success() {
        eprintln!("stepping aside: this needs namespaces: {}", String::from_utf8_lossy(&tried.stderr));
        return;
    }
    let tests = std::fs::read_link("/proc/self/exe").expect("a link");
    let output = Command::new("unshare")
        .args(own)
        // A first process that waits for all whom their parents left behind.
        .args(["sh", "-c", "\"$@\"; exit $?", "sh"])
        .arg(tests)
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("the package util-linux");
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}{told}");
    eprint!("{told}");
}

/// What there is, as far as this process sees it.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) descriptors: usize,
    pub(crate) mounts: BTreeSet<String>,
    /// Threads of all processes.
    pub(crate) tasks: usize,
    /// Namespaces in which there is anybody, as `net:[4026531840]`.
    pub(crate) namespaces: BTreeSet<String>,
    /// Rules of nft in all networks that anybody is in or holds, as nft writes them; nothing where there is no nft.
    pub(crate) rules: usize,
    /// Directories of control groups that belong to `groups`.
    pub(crate) groups: BTreeSet<PathBuf>,
}

impl Counts {
    /// Counts now. `groups` is in the name of all control groups that are looked for, or above them.
    pub(crate) fn now(groups: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("reads");
        let mut counts = Self {
            descriptors: descriptors("self"),
            mounts: mounts.lines().map(ToOwned::to_owned).collect(),
            tasks: 0,
            namespaces: BTreeSet::new(),
            rules: rules(),
            groups: BTreeSet::new(),
        };
        for process in entries(Path::new("/proc")) {
            // Others end while they are looked at.
            for task in entries(&process.join("task")) {
                counts.tasks += 1;
                let namespaces = entries(&task.join("ns"));
                let links = namespaces.iter().filter_map(|namespace| std::fs::read_link(namespace).ok());
                counts.namespaces.extend(links.map(|link| link.display().to_string()));
            }
        }
        find(Path::new("/sys/fs/cgroup"), groups, &mut counts.groups);
        counts
    }

    /// How many namespaces of this kind there are.
    pub(crate) fn of_kind(&self, kind: &str) -> usize {
        self.namespaces.iter().filter(|name| name.split_once(':').is_some_and(|(own, _)| own == kind)).count()
    }

    fn has_all_of(&self, other: &Self) -> bool {
        let counted =
            other.descriptors <= self.descriptors && other.tasks <= self.tasks && other.rules <= self.rules;
        counted && other.namespaces.is_subset(&self.namespaces) && other.mounts.is_subset(&self.mounts)
    }

    /// Waits until there is nothing more than this: what was ended is gone a little later. A control group that the kernel
    /// held on to goes with the next that is made, which `again` does.
    pub(crate) fn wait_for(&self, groups: &str, again: impl Fn()) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let now = Self::now(groups);
            let has_groups = !now.groups.is_subset(&self.groups);
            if self.has_all_of(&now) && !has_groups {
                return;
            }
            assert!(Instant::now() < deadline, "something stayed:\n{now:#?}\nbefore:\n{self:#?}");
            if has_groups {
                again();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Descriptors of a process.
pub(crate) fn descriptors(process: &str) -> usize {
    // One is that of the listing, where it is our own.
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("lists").count()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Counts the lines of nft's rules in each network once, whether a process is in it or has it open.
fn rules() -> usize {
    let mut networks = BTreeMap::new();
    for process in entries(Path::new("/proc")) {
        let own = process.join("ns/net");
        for path in entries(&process.join("fd")).into_iter().chain([own]) {
            let link = std::fs::read_link(&path).map(|link| link.display().to_string()).unwrap_or_default();
            if link.starts_with("net:[") {
                networks.entry(link).or_insert(path);
            }
        }
    }
    let of = |path: PathBuf| {
        let listed = Command::new("nsenter")
            .arg(format!("--net={}", path.display()))
            .args(["nft", "list", "ruleset"])
            .output();
        // Who was in it may have ended.
        listed.map_or(0, |listed| String::from_utf8_lossy(&listed.stdout).lines().count())
    };
    networks.into_values().map(of).sum()
}

fn find(at: &Path, part: &str, found: &mut BTreeSet<PathBuf>) {
    for path in entries(at) {
        if path.is_dir() && !path.is_symlink() {
            find(&path, part, found);
            if path.to_string_lossy().contains(part) {
                found.insert(path);
            }
        }
    }
}

/// Removes the control groups found for `groups`.
pub(crate) fn remove_groups(groups: &str) {
    let mut found = BTreeSet::new();
    find(Path::new("/sys/fs/cgroup"), groups, &mut found);
    for path in found.iter().rev() {
        match std::fs::remove_dir(path) {
            // Its sandbox has just removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.expect("nobody is in it"),
        }
    }
}
