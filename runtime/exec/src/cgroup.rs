//! Limits on all processes of a sandbox together: memory, processors, number of processes.
//!
//! In: [`Limits`], and perhaps the group to be a part of. Out: a [`Group`] that the child begins in and that is removed after
//! its end. Made only if something asks for it: to enter one of version 1 costs milliseconds.
//! Version 2 is used where it has the controllers, else version 1, also where both are mounted (`hierarchies`). The groups of
//! a process that was killed are removed by the next one: a group belongs to whoever has a lock on its directory.
//! **Invariant:** a limit that cannot be set is an error.
//! Source: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/; how Docker's numbers become those of the files: runc,
//! libcontainer/cgroups (facts).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::ExecError;
use crate::spec::Spec;

mod hierarchies;
mod settings;

use hierarchies::{Hierarchy, Version};

/// Limits on a sandbox; absent ones are those of what it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together; `u64::MAX` is no limit. Twice the memory if absent, as in Docker.
    pub memory_swap_bytes: Option<u64>,
    /// Time on processors.
    pub cpu_quota: Option<CpuQuota>,
    /// Weight beside other groups; 1024 is that of one without.
    pub cpu_shares: Option<u64>,
    /// Processors, as `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, likewise.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// How long all processes may run in each period, over all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// The time, in microseconds.
    pub quota_us: u64,
    /// The period, in microseconds.
    pub period_us: u64,
}

impl Limits {
    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Beginning of the names of our groups.
const PREFIX: &str = "rb-";

/// How often a name that is taken, or a group that another process removed as it was made, is made anew.
const TRIES: usize = 100;

/// The group of one sandbox. Dropping it removes it, once its processes have ended.
#[derive(Debug)]
pub(crate) struct Group {
    parts: Vec<Part>,
    memory: Option<PathBuf>,
}

/// Its directory in one hierarchy.
#[derive(Debug)]
struct Part {
    directory: PathBuf,
    /// Open and locked.
    handle: File,
    version: Version,
}

impl Group {
    /// Makes the group for `limits`, beneath `parent` if that is given.
    ///
    /// `Cgroup` if a limit cannot be set here.
    pub(crate) fn make(limits: &Limits, parent: Option<&str>) -> Result<Self, ExecError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let hierarchies = Hierarchy::for_limits(limits, parent)?;
        let mut group = Self { parts: Vec::new(), memory: None };
        for hierarchy in &hierarchies {
            let wanted = settings::of(limits, hierarchy);
            let above = hierarchy.prepare(&wanted)?;
            sweep(&above);
            let mut made = None;
            for _ in 0..TRIES {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let directory = above.join(format!("{PREFIX}{}-{number}", std::process::id()));
                match make_locked(&directory) {
                    Ok(Some(handle)) => {
                        made = Some(Part { directory, handle, version: hierarchy.version });
                        break;
                    }
                    Ok(None) => {}
                    Err(source) => return Err(hierarchies::failed("make a group", &above, source)),
                }
            }
            let part = made.ok_or_else(|| {
                hierarchies::failed("make a group", &above, io::ErrorKind::AlreadyExists.into())
            })?;
            // Kept first, so that it is removed if a setting fails.
            let directory = part.directory.clone();
            group.parts.push(part);
            hierarchy.settle(&directory)?;
            for setting in &wanted {
                setting.apply(&directory)?;
            }
            if wanted.iter().any(|setting| setting.controller == "memory") {
                group.memory = Some(directory);
            }
        }
        Ok(group)
    }

    /// Returns the group of version 2, in which the child can be made.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.parts.iter().find(|part| part.version == Version::Two).map(|part| part.handle.as_fd())
    }

    /// Returns the files by which the child joins the groups of version 1, open for writing.
    pub(crate) fn to_join(&self) -> Result<Vec<File>, ExecError> {
        let old = self.parts.iter().filter(|part| part.version == Version::One);
        let open = |part: &Part| {
            let opened = File::options().write(true).open(part.directory.join("cgroup.procs"));
            opened.map_err(|source| hierarchies::failed("enter", &part.directory, source))
        };
        old.map(open).collect()
    }

    /// Tells whether the kernel killed a process in it for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let Some(directory) = &self.memory else { return false };
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
        let count = |text: &str| {
            let number = |line: &str| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok();
            text.lines().find_map(number).unwrap_or(0)
        };
        count(&read("memory.events")) > 0 || count(&read("memory.oom_control")) > 0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for part in &self.parts {
            remove(&part.directory);
        }
    }
}

/// Makes the group that a spec asks for, if it does.
pub(crate) fn of(spec: &Spec) -> Result<Option<Group>, ExecError> {
    if spec.limits.is_empty() && spec.cgroup_parent.is_none() {
        return Ok(None);
    }
    Group::make(&spec.limits, spec.cgroup_parent.as_deref()).map(Some)
}

/// Makes a directory and locks it; nothing if another process was faster.
fn make_locked(directory: &Path) -> io::Result<Option<File>> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        made => made?,
    }
    let opened = File::open(directory);
    // One who sweeps may have removed it, or be about to.
    let locked = opened.ok().filter(|handle| handle.try_lock().is_ok() && directory.exists());
    Ok(locked)
}

/// Removes a group whose processes have ended; the kernel may notice that a little later.
fn remove(directory: &Path) {
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        match std::fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(2));
            }
            // What is left the next one removes.
            _ => return,
        }
    }
    tracing::debug!(directory = %directory.display(), "a control group is still in use");
}

/// Removes what processes left that are no more.
fn sweep(above: &Path) {
    let Ok(entries) = std::fs::read_dir(above) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(handle) = File::open(entry.path()) else { continue };
        // Locked until it is gone: one who is just making it must not get the lock in between.
        if handle.try_lock().is_ok() {
            // Its processes ended with the one that made it, or are about to.
            std::fs::remove_dir(entry.path()).ok();
        }
    }
}

/// Returns the least limit on memory of the groups that this process is in; nothing where there is none.
pub(crate) fn memory_limit() -> Option<u64> {
    let limits = Limits { memory_bytes: Some(1), ..Limits::default() };
    let hierarchies = Hierarchy::for_limits(&limits, None).ok()?;
    hierarchies.iter().flat_map(Hierarchy::memory_limits).min()
}

/// Tells which version limits are set by here, or why none can be.
pub(crate) fn probe() -> Result<&'static str, ExecError> {
    let limits = Limits { memory_bytes: Some(1 << 30), pids: Some(1 << 20), ..Limits::default() };
    let group = Group::make(&limits, None)?;
    Ok(if group.unified().is_some() { "version 2" } else { "version 1" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_who_is_no_more_are_removed_and_others_stay() {
        let above = tempfile::tempdir().expect("a temporary folder");
        let (dead, alive, other) =
            (above.path().join("rb-1-0"), above.path().join("rb-2-0"), above.path().join("docker"));
        drop(make_locked(&dead).expect("makes it").expect("is new"));
        let held = make_locked(&alive).expect("makes it").expect("is new");
        std::fs::create_dir(&other).expect("makes it");
        assert!(make_locked(&alive).expect("looks").is_none());
        sweep(above.path());
        assert_eq!((dead.exists(), alive.exists(), other.exists()), (false, true, true));
        drop(held);
        sweep(above.path());
        assert!(!alive.exists());
    }

    #[test]
    fn a_group_that_was_made_is_not_swept_away() {
        let above = tempfile::tempdir().expect("a temporary folder");
        let above = above.path();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for number in 0..500 {
                        let directory = above.join(format!("{PREFIX}{thread}-{number}"));
                        let Some(_held) = make_locked(&directory).expect("makes it") else { continue };
                        sweep(above);
                        std::fs::remove_dir(&directory).expect("it is still there");
                    }
                });
            }
        });
    }
}
