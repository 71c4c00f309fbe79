//! How much memory this machine has, and how much the processes of a sandbox take, looked at while they run.
//!
//! In: the first process of a sandbox. Out: the most that all its processes had together so far, told to a [`MemoryMeter`]
//! as it grows. What counts is what cannot be dropped: anonymous and shared memory that is mapped, and what of it is
//! swapped out; memory of several processes counts once. Pages of files are the kernel's to drop. No control group is
//! needed, which not everybody can make, and whose peak has the pages of files in it.
//! It is looked at [`FIRST`] after the start, then at twice the distance each time, up to [`LONGEST`]; more seldom where a look
//! takes long. So what was taken for less than that may not have been seen.
//! **Invariant:** nothing is looked at before the command is executed: until then its process is a copy of this one.
//! Source: proc_pid_status(5), proc_pid_smaps(5), proc_tid_children(5).

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_sys::child::Child;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cgroup;
use crate::error::ExecError;

/// When it is looked for the first time, and the longest distance between two looks.
const FIRST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(100);

/// So many times as long as a look took nobody looks again, but no longer than this: on a busy machine a look takes long, too.
const REST: u32 = 50;
const LONGEST_REST: Duration = Duration::from_secs(1);

/// So many processes are looked at.
const MOST_PROCESSES: usize = 10_000;

/// Of a process that has less, it is not asked what of it others have too: to answer takes the kernel long.
const LITTLE_BYTES: u64 = 4 << 20;

/// Hears of the most memory that a command took so far, each time that is more. Called by the thread that runs it.
#[derive(Clone)]
pub struct MemoryMeter(Arc<dyn Fn(u64) + Send + Sync>);

impl MemoryMeter {
    /// Makes a meter of who hears of it, in bytes.
    pub fn new(hear: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }
}

impl fmt::Debug for MemoryMeter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MemoryMeter")
    }
}

/// Returns how much memory this process and what it starts may have: all of the machine, or what control groups leave it.
pub fn machine_memory() -> Result<u64, ExecError> {
    let failed =
        |source| ExecError::Setup { action: "find out how much memory this machine has".to_owned(), source };
    let text = fs::read_to_string("/proc/meminfo").map_err(failed)?;
    match bytes_of(&text, &["MemTotal:"]) {
        0 => Err(failed(io::ErrorKind::InvalidData.into())),
        all => Ok(cgroup::memory_limit().map_or(all, |limit| limit.min(all))),
    }
}

/// Looks at one command from time to time.
pub(crate) struct Watch {
    meter: MemoryMeter,
    /// The most so far.
    peak: u64,
    next: Instant,
    pause: Duration,
}

impl Watch {
    /// Begins; nothing where `/proc` speaks of others than this process's own.
    pub(crate) fn new(meter: &MemoryMeter) -> Option<Self> {
        let own = fs::read_link("/proc/self").ok()?;
        (own == Path::new(&std::process::id().to_string())).then(|| Self {
            meter: meter.clone(),
            peak: 0,
            next: Instant::now() + FIRST,
            pause: FIRST,
        })
    }

    /// Looks, if it is time to. Returns how long until it is again.
    pub(crate) fn look(&mut self, child: &Child) -> Duration {
        let now = Instant::now();
        if now < self.next {
            return self.next.saturating_duration_since(now);
        }
        if has_begun(child) {
            let found = taken_by(child.pid(), self.peak);
            if found > self.peak {
                self.peak = found;
                (self.meter.0)(found);
            }
        }
        self.pause = self.pause.saturating_mul(2).min(LONGEST);
        let rest = now.elapsed().saturating_mul(REST).min(LONGEST_REST);
        let pause = self.pause.max(rest);
        self.next = Instant::now() + pause;
        pause
    }
}

/// Tells whether the command was executed, which closes the pipe that its errors come through.
fn has_begun(child: &Child) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut pipe = [PollFd::from_borrowed_fd(child.errors(), PollFlags::empty())];
    let polled = poll(&mut pipe, Some(&at_once)).is_ok();
    let [pipe] = pipe;
    polled && pipe.revents().contains(PollFlags::HUP)
}

/// Returns what a process and all that descend from it take together. What several of them have is told apart only where that
/// decides whether it is more than `known`.
fn taken_by(first: u32, known: u64) -> u64 {
    let look = |process: u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        Some((process, bytes_of(&status, &["RssAnon:", "RssShmem:", "VmSwap:"])))
    };
    let taken: Vec<(u32, u64)> = family(first).into_iter().filter_map(look).collect();
    let sum = |taken: &mut dyn Iterator<Item = u64>| taken.fold(0, u64::saturating_add);
    let at_most = sum(&mut taken.iter().map(|(_, bytes)| *bytes));
    let several = taken.iter().filter(|(_, bytes)| *bytes >= LITTLE_BYTES).count() > 1;
    if !several || at_most <= known {
        return at_most;
    }
    let is_little = |bytes: u64| bytes < LITTLE_BYTES;
    sum(&mut taken.iter().map(|(process, bytes)| match is_little(*bytes) {
        true => *bytes,
        false => share_of(*process).unwrap_or(*bytes),
    }))
}

/// Returns what a process takes where memory of several counts in parts; nothing where the kernel does not say.
fn share_of(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    text.contains("Pss_Anon:").then(|| bytes_of(&text, &["Pss_Anon:", "Pss_Shmem:", "SwapPss:"]))
}

/// Returns a process with all that descend from it. Who is left behind by its parent is the first one's child.
fn family(first: u32) -> Vec<u32> {
    let mut found = vec![first];
    let mut at = 0;
    while let Some(process) = found.get(at).copied().filter(|_| found.len() < MOST_PROCESSES) {
        at += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for thread in threads.flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    found
}

/// Adds up lines such as `RssAnon:  1004 kB`.
fn bytes_of(text: &str, names: &[&str]) -> u64 {
    let kilobytes = |line: &str| -> Option<u64> {
        let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    };
    text.lines().filter_map(kilobytes).fold(0, u64::saturating_add).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_up() {
        let text =
            "VmRSS:\t 9 kB\nRssAnon:\t    3 kB\nRssShmem:\t 4 kB\nVmSwap:\t x kB\nRssAnonymous: 7 kB\n";
        assert_eq!(bytes_of(text, &["RssAnon:", "RssShmem:", "VmSwap:"]), 7 * 1024);
        assert_eq!(bytes_of("", &["RssAnon:"]), 0);
    }

    #[test]
    fn the_machine_has_some() {
        let all = machine_memory().expect("is told");
        assert!(all > 1 << 20, "{all}");
    }

    #[test]
    fn what_is_filled_is_taken() {
        let before = taken_by(std::process::id(), 0);
        let filled = std::hint::black_box(vec![1_u8; 64 << 20]);
        let with_it = taken_by(std::process::id(), 0);
        assert!(filled.iter().step_by(4096).all(|byte| *byte == 1));
        // Other tests of this process take and give back, too.
        assert!(with_it >= 64 << 20, "{before} {with_it}");
    }
}
