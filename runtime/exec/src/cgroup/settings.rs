//! What is written into a group's files for which limit, in either version.

use std::fs;
use std::io;
use std::path::Path;

use super::Limits;
use super::hierarchies::{Hierarchy, Version, failed};
use crate::error::ExecError;

/// One file of a group and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Who has the file.
    pub(super) controller: &'static str,
    file: &'static str,
    value: String,
    /// Not asked for: where the kernel has no such file, there is nothing to say.
    is_default: bool,
}

impl Setting {
    /// Writes it.
    pub(super) fn apply(&self, group: &Path) -> Result<(), ExecError> {
        let path = group.join(self.file);
        match fs::OpenOptions::new().write(true).open(&path) {
            Err(error) if self.is_default && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map(drop),
        }
        .and_then(|()| fs::write(&path, &self.value))
        .map_err(|source| failed(&format!("set {} to `{}`", self.file, self.value), group, source))
    }
}

/// Returns what `limits` means in one hierarchy, in the order to write it.
pub(super) fn of(limits: &Limits, hierarchy: &Hierarchy) -> Vec<Setting> {
    let mut settings = match hierarchy.version {
        Version::Two => unified(limits),
        Version::One => old(limits),
    };
    // Where both versions are mounted, others may be in another.
    settings.retain(|setting| hierarchy.controllers.contains(&setting.controller));
    settings
}

/// Lists settings; absent ones are left out.
struct List(Vec<Setting>);

impl List {
    fn add(&mut self, file: &'static str, value: Option<String>) {
        let controller = file.split('.').next().unwrap_or_default();
        self.0.extend(value.map(|value| Setting { controller, file, value, is_default: false }));
    }
}

/// Version 2.
fn unified(limits: &Limits) -> Vec<Setting> {
    let Limits { memory_bytes, memory_swap_bytes, cpu_quota, cpu_shares, cpuset_cpus, cpuset_mems, pids } =
        limits;
    let mut list = List(Vec::new());
    list.add("memory.max", memory_bytes.map(|bytes| bytes.to_string()));
    // There swap is counted by itself.
    let swap = |all: u64| match (all, memory_bytes) {
        (u64::MAX, _) => "max".to_owned(),
        (all, memory) => all.saturating_sub(memory.unwrap_or(0)).to_string(),
    };
    list.add("memory.swap.max", memory_swap_bytes.map(swap));
    if let (None, Some(memory)) = (memory_swap_bytes, memory_bytes) {
        let value = memory.to_string();
        list.0.push(Setting { controller: "memory", file: "memory.swap.max", value, is_default: true });
    }
    list.add("cpu.max", cpu_quota.map(|quota| format!("{} {}", quota.quota_us, quota.period_us)));
    // From 2..262144 to 1..10000.
    let weight = |shares: u64| 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
    list.add("cpu.weight", cpu_shares.map(|shares| weight(shares).to_string()));
    list.add("cpuset.cpus", cpuset_cpus.clone());
    list.add("cpuset.mems", cpuset_mems.clone());
    list.add("pids.max", pids.map(|pids| pids.to_string()));
    list.0
}

/// Version 1.
fn old(limits: &Limits) -> Vec<Setting> {
    let Limits { memory_bytes, memory_swap_bytes, cpu_quota, cpu_shares, cpuset_cpus, cpuset_mems, pids } =
        limits;
    let number = |bytes: u64| if bytes == u64::MAX { "-1".to_owned() } else { bytes.to_string() };
    let mut list = List(Vec::new());
    list.add("memory.limit_in_bytes", memory_bytes.map(number));
    list.add("memory.memsw.limit_in_bytes", memory_swap_bytes.map(number));
    if let (None, Some(memory)) = (memory_swap_bytes, memory_bytes) {
        let (file, value) = ("memory.memsw.limit_in_bytes", memory.saturating_mul(2).to_string());
        list.0.push(Setting { controller: "memory", file, value, is_default: true });
    }
    list.add("cpu.cfs_period_us", cpu_quota.map(|quota| quota.period_us.to_string()));
    list.add("cpu.cfs_quota_us", cpu_quota.map(|quota| quota.quota_us.to_string()));
    list.add("cpu.shares", cpu_shares.map(|shares| shares.max(2).to_string()));
    list.add("cpuset.cpus", cpuset_cpus.clone());
    list.add("cpuset.mems", cpuset_mems.clone());
    list.add("pids.max", pids.map(|pids| pids.to_string()));
    list.0
}

/// Returns the controllers that limits need.
pub(super) fn controllers(limits: &Limits) -> Vec<&'static str> {
    let mut needed: Vec<&'static str> = unified(limits).iter().map(|setting| setting.controller).collect();
    needed.dedup();
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::CpuQuota;

    fn shown(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn limits_become_files_of_either_version() {
        let limits = Limits {
            memory_bytes: Some(1000),
            memory_swap_bytes: Some(1500),
            cpu_quota: Some(CpuQuota { quota_us: 150_000, period_us: 100_000 }),
            cpu_shares: Some(1024),
            cpuset_cpus: Some("0-1".to_owned()),
            cpuset_mems: None,
            pids: Some(7),
        };
        assert_eq!(
            shown(&unified(&limits)),
            [
                "memory.max=1000",
                "memory.swap.max=500",
                "cpu.max=150000 100000",
                "cpu.weight=39",
                "cpuset.cpus=0-1",
                "pids.max=7"
            ]
        );
        assert_eq!(
            shown(&old(&limits)),
            [
                "memory.limit_in_bytes=1000",
                "memory.memsw.limit_in_bytes=1500",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "cpu.shares=1024",
                "cpuset.cpus=0-1",
                "pids.max=7"
            ]
        );
        assert_eq!(controllers(&limits), ["memory", "cpu", "cpuset", "pids"]);
        assert!(unified(&Limits::default()).is_empty() && old(&Limits::default()).is_empty());
    }

    #[test]
    fn swap_follows_memory_unless_it_is_named() {
        let limits = Limits { memory_bytes: Some(1000), ..Limits::default() };
        assert_eq!(shown(&unified(&limits)), ["memory.max=1000", "memory.swap.max=1000"]);
        assert_eq!(shown(&old(&limits)), ["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=2000"]);
        let limits = Limits { memory_swap_bytes: Some(u64::MAX), ..limits };
        assert_eq!(shown(&unified(&limits)), ["memory.max=1000", "memory.swap.max=max"]);
        assert_eq!(shown(&old(&limits)), ["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=-1"]);
    }

    #[test]
    fn a_missing_file_is_an_error_where_the_limit_was_asked_for() {
        let group = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(group.path().join("memory.max"), "").expect("writes");
        let limits = Limits { memory_bytes: Some(1000), pids: Some(1), ..Limits::default() };
        let applied: Vec<bool> =
            unified(&limits).iter().map(|setting| setting.apply(group.path()).is_ok()).collect();
        assert_eq!(applied, [true, true, false]);
        assert_eq!(std::fs::read_to_string(group.path().join("memory.max")).expect("reads"), "1000");
        assert!(!group.path().join("memory.swap.max").exists());
    }
}
