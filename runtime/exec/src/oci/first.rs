//! The first process of a command that another runtime runs.
//!
//! Signals are for it, and not for the runtime: crun and runc hand on what they get, but the kernel keeps from it what it has
//! no handler for, which [`crate::signals`] knows about.
//! Source: proc_pid_status(5), pid_namespaces(7).

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::signals;

/// Returns the first process of the namespace of processes that `runtime` made; nothing before it has begun.
pub(crate) fn first_process(runtime: &OwnedFd) -> Option<OwnedFd> {
    let id = signals::id(runtime)?;
    let own = namespaces(&status(id)?)?.len();
    // Not every kernel lists children, and none does so reliably.
    let all = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find_map(|child: i32| {
        let is_meant = |text: &str| {
            parent(text) == Some(id) && namespaces(text).is_some_and(|numbers| is_first(&numbers, own))
        };
        status(child).filter(|text| is_meant(text))?;
        let process = pidfd_open(Pid::from_raw(child)?, PidfdFlags::empty()).ok()?;
        // Asked once more, now that its number cannot become another's unnoticed.
        let is_it = status(child).is_some_and(|text| is_meant(&text)) && signals::id(&process) == Some(child);
        is_it.then_some(process)
    })
}

fn status(id: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{id}/status")).ok()
}

fn parent(status: &str) -> Option<i32> {
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Returns the numbers of a process in each namespace, ours first.
fn namespaces(status: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

/// Whether a process is the first of a namespace within that of the runtime, which is in `own` of them.
fn is_first(numbers: &[u32], own: usize) -> bool {
    numbers.len() == own + 1 && numbers.last() == Some(&1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_is_one_level_below() {
        let runtime = namespaces("Name:\tcrun\nPPid:\t7\nNSpid:\t4711\t1\n").expect("is there").len();
        let of = |text: &str| is_first(&namespaces(text).expect("is there"), runtime);
        assert!(of("NSpid:\t4712\t2\t1\n"));
        for text in ["NSpid:\t4712\t2\n", "NSpid:\t4713\t3\t2\n", "NSpid:\t4713\t4\t2\t1\n"] {
            assert!(!of(text), "{text}");
        }
        assert_eq!(parent("PPid:\t7\n"), Some(7));
        assert_eq!(namespaces("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_without_such_a_child_has_none() {
        let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).expect("opens");
        assert!(first_process(&own).is_none());
    }
}
