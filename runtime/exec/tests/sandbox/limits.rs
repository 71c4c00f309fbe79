//! Limits on time, memory and processes, and what they leave behind.

use std::path::Path;
use std::time::{Duration, Instant};

use rb_exec::{CpuQuota, ExecError, ExitStatus, KillSwitch, Limits, RootMount, Spec, run};

use crate::support::{Scratch, output, shell, stepping_aside, try_spec};

fn root(scratch: &Scratch) -> RootMount {
    let base = scratch.path().join("base");
    let base = if base.exists() { base } else { scratch.busybox("base") };
    RootMount::overlay(vec![base], Some(scratch.upper()))
}

/// Runs it; whether its time was up, whether memory was short, and its end.
fn outcome(spec: &Spec) -> (ExitStatus, bool, bool) {
    let outcome = run(spec, &KillSwitch::new(), &mut |_, _| {}).unwrap();
    (outcome.status, outcome.timed_out, outcome.out_of_memory)
}

/// The groups of this process that there are.
fn groups() -> Vec<String> {
    fn walk(at: &Path, name: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if entry.file_name().to_string_lossy().starts_with(name) {
                    found.push(path.display().to_string());
                }
                walk(&path, name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &format!("rb-{}-", std::process::id()), &mut found);
    found
}

/// Those of other tests come and go; one that is left stays.
fn check_none_stays() {
    let begun = Instant::now();
    let left = groups();
    while groups().iter().any(|group| left.contains(group)) {
        assert!(begun.elapsed() < Duration::from_secs(120), "{left:?} stay");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether this machine has no control groups for a limit; says so.
fn has_no_groups(spec: &Spec) -> bool {
    let tried = try_spec(spec);
    let lacks = matches!(tried, Err(ExecError::Cgroup { .. }));
    if lacks {
        eprintln!("stepping aside: this needs control groups that may be written: {tried:?}");
    }
    lacks
}

#[test]
fn a_command_whose_time_is_up_ends_with_all_its_processes() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = shell(root(&scratch), "trap '' TERM; (sleep 1000 & sleep 1000) & echo begun; sleep 1000");
    spec.timeout = Some(Duration::from_millis(500));
    let started = Instant::now();
    assert_eq!(outcome(&spec), (ExitStatus::Signaled(9), true, false));
    assert!(started.elapsed() < Duration::from_secs(300));
    // One that is done before is not touched, and one that ends by itself did not run out of time.
    let mut spec = shell(root(&scratch), "exit 3");
    spec.timeout = Some(Duration::from_secs(3600));
    assert_eq!(outcome(&spec), (ExitStatus::Exited(3), false, false));
    spec.timeout = Some(Duration::MAX);
    assert_eq!(outcome(&spec), (ExitStatus::Exited(3), false, false));
}

#[test]
fn memory_and_processes_are_limited() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = shell(root(&scratch), "true");
    spec.limits = Limits { memory_bytes: Some(64 << 20), pids: Some(8), ..Limits::default() };
    if has_no_groups(&spec) {
        return;
    }
    assert_eq!(outcome(&spec), (ExitStatus::Exited(0), false, false));
    // 256 MiB in a pipe's reader.
    let greedy = "dd if=/dev/zero bs=1M count=256 2>/dev/null | sort -z > /dev/null";
    let mut hungry = shell(root(&scratch), greedy);
    hungry.limits.memory_bytes = Some(32 << 20);
    let (status, timed_out, out_of_memory) = outcome(&hungry);
    assert!(status != ExitStatus::Exited(0) && !timed_out && out_of_memory, "{status:?}");
    spec.args = shell(root(&scratch), "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 100 & done; wait").args;
    let crowd = try_spec(&spec).unwrap();
    assert!(crowd.status != ExitStatus::Exited(0) && crowd.stderr.contains("fork"), "{crowd:?}");
    check_none_stays();
}

#[test]
fn processors_and_their_time_are_limited() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = shell(root(&scratch), "grep Cpus_allowed_list /proc/self/status");
    spec.limits = Limits { cpuset_cpus: Some("0".to_owned()), ..Limits::default() };
    if has_no_groups(&spec) {
        return;
    }
    assert_eq!(output(&spec).split_whitespace().last(), Some("0"));
    // A tenth of a processor: to compute for a fifth of a second takes two.
    let mut spec =
        shell(root(&scratch), "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; cat /proc/self/cgroup");
    let free = Instant::now();
    output(&spec);
    let free = free.elapsed();
    spec.limits =
        Limits { cpu_quota: Some(CpuQuota { quota_us: 10_000, period_us: 100_000 }), ..Limits::default() };
    spec.limits.cpu_shares = Some(512);
    let slow = Instant::now();
    assert!(output(&spec).contains("/rb-"));
    assert!(slow.elapsed() > free * 2, "{:?} after {free:?}", slow.elapsed());
    let mut spec = shell(root(&scratch), "true");
    spec.limits.cpuset_cpus = Some("4711".to_owned());
    assert!(matches!(try_spec(&spec), Err(ExecError::Cgroup { .. })));
    check_none_stays();
}

#[test]
fn a_group_that_is_named_holds_the_command() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let name = format!("rb-test-{}", std::process::id());
    let mut spec = shell(root(&scratch), "cat /proc/self/cgroup");
    spec.cgroup_parent = Some(format!("/{name}/inner"));
    if has_no_groups(&spec) {
        return;
    }
    assert!(output(&spec).contains(&format!("/{name}/inner/rb-")));
    spec.limits.pids = Some(100);
    assert!(output(&spec).contains(&format!(":/{name}/inner/rb-")));
    for mount in ["", "unified", "pids"] {
        let made = Path::new("/sys/fs/cgroup").join(mount).join(&name);
        if made.exists() {
            std::fs::remove_dir(made.join("inner")).unwrap();
            std::fs::remove_dir(made).unwrap();
        }
    }
    check_none_stays();
}

#[test]
fn without_limits_no_group_is_made_and_shared_memory_has_its_size() {
    if stepping_aside() {
        return;
    }
    let scratch = Scratch::new();
    let mut spec = shell(root(&scratch), "cat /proc/self/cgroup");
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(output(&spec), own);
    let full = "dd if=/dev/zero of=/dev/shm/x bs=64k 2>/dev/null; stat -c %s /dev/shm/x";
    spec.args = shell(root(&scratch), full).args;
    assert_eq!(output(&spec), format!("{}\n", 64 << 20));
    spec.shm_bytes = Some(1 << 20);
    assert_eq!(output(&spec), format!("{}\n", 1 << 20));
}
