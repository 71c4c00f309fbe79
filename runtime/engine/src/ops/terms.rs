//! On which terms a step runs: for how long and how often, with how much of the machine, and by whom its programs are
//! run.
//!
//! In: what goes with its vertex ([`VertexMeta`]), and what the user says for all steps ([`StepTerms`]). Out: what the
//! sandbox is told, and how to say that a term was not met.
//! **Invariant:** terms enter no key: they change whether there is a result, and not which.

use std::path::PathBuf;
use std::time::Duration;

use rb_exec::{
    CpuQuota, Emulator, Emulators, ExecOutcome, ExitStatus, Isolation, Limits, Rlimit, Running, Runtime, Spec,
};
use rb_llb::{ExecOp, LinuxResources, Vertex, VertexMeta, extension};
use rb_oci::Platform;
use rb_store::Amount;

use super::unsupported;
use crate::error::EngineError;

/// The scheduler's period where a definition names none, as everywhere.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// How long to wait before the second attempt; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the user says for all steps; a step that says something itself wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepTerms {
    /// Limits on the processes of a step together.
    pub limits: Limits,
    /// What steps that run at once may take of memory together, as far as that is known beforehand; no limit.
    pub memory_budget: Option<Amount>,
    /// Limits on each process.
    pub rlimits: Vec<Rlimit>,
    /// The control group that those of steps are made in.
    pub cgroup_parent: Option<String>,
    /// Size of `/dev/shm`.
    pub shm_bytes: Option<u64>,
    /// Who runs programs of other machines.
    pub emulators: Emulators,
    /// Another runtime that runs commands; our own sandbox if there is none. As other terms it is in no key: each is given the same
    /// root, mounts, rights, limits and network, and what it cannot do is refused, so a result is the same whoever made it.
    pub runtime: Option<Runtime>,
    /// What commands run in. Alone of all terms it is in keys: in a chroot a command sees the machine's name, and no `/proc`.
    pub isolation: Isolation,
    /// Where devices of this machine are described; those of the later folder win.
    pub device_folders: Vec<PathBuf>,
}

impl StepTerms {
    /// Tells the sandbox.
    pub(crate) fn lay_down(&self, spec: &mut Spec) {
        spec.limits = self.limits.clone();
        spec.rlimits = self.rlimits.clone();
        spec.cgroup_parent = self.cgroup_parent.clone();
        spec.shm_bytes = self.shm_bytes;
        spec.runtime = self.runtime.clone();
        spec.isolation = self.isolation;
    }
}

/// The terms of one step.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    timeout: Option<Duration>,
    retries: u32,
    resources: Option<LinuxResources>,
}

impl Terms {
    /// Reads those of a vertex.
    pub(super) fn of(meta: &VertexMeta) -> Result<Self, EngineError> {
        let extension::Terms { timeout, retries } = extension::Terms::of(meta)?;
        Ok(Self { timeout, retries, resources: meta.linux_resources.clone() })
    }

    /// Tells the sandbox.
    pub(super) fn lay_down(&self, op: &ExecOp, all: &StepTerms, spec: &mut Spec) {
        all.lay_down(spec);
        spec.timeout = self.timeout;
        spec.limits = limits(self.resources.as_ref(), &all.limits);
        if !op.meta.cgroup_parent.is_empty() {
            spec.cgroup_parent = Some(op.meta.cgroup_parent.clone());
        }
        // The last of a name counts.
        spec.rlimits.extend(op.meta.ulimits.iter().map(rlimit));
    }

    /// Returns the limit on the step's memory.
    pub(super) fn memory_limit(&self, all: &StepTerms) -> Option<u64> {
        limits(self.resources.as_ref(), &all.limits).memory_bytes
    }

    /// Returns how long to wait before a step that failed is run again; nothing if it is not.
    pub(super) fn pause_after(&self, attempt: u32) -> Option<Duration> {
        let pause = FIRST_PAUSE.saturating_mul(1 << (attempt - 1).min(16));
        (attempt <= self.retries).then_some(pause.min(LONGEST_PAUSE))
    }

    /// Says which attempt of how many it was.
    pub(super) fn which(&self, attempt: u32) -> String {
        format!("attempt {attempt} of {}", self.retries.saturating_add(1))
    }

    /// Returns how the command ended, in words; what may be behind it stands in `hint`.
    pub(super) fn outcome(&self, outcome: &ExecOutcome, spec: &Spec) -> (String, Option<String>) {
        if outcome.timed_out {
            let timeout = humantime::format_duration(self.timeout.unwrap_or_default());
            let help = "give it longer, `RUN --timeout=…`, or another attempt, `RUN --retry=1`";
            return (
                format!("the command was stopped: it took longer than {timeout}"),
                Some(help.to_owned()),
            );
        }
        let ended = format!("the command {}", in_words(outcome.status));
        match spec.limits.memory_bytes {
            Some(limit) if outcome.out_of_memory => {
                let limit = bytes_in_words(limit);
                let what = match outcome.status {
                    ExitStatus::Signaled(9) => {
                        format!("the command was killed: memory limit of {limit} reached")
                    }
                    ExitStatus::Exited(_) | ExitStatus::Signaled(_) => {
                        format!("{ended}: a process of it was killed, memory limit of {limit} reached")
                    }
                };
                (what, Some("give steps more: `--memory`".to_owned()))
            }
            _ => (ended, None),
        }
    }
}

/// Says how a command ended.
pub(super) fn in_words(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited(code) => format!("ended with exit code {code}"),
        ExitStatus::Signaled(signal) => format!("was killed by signal {signal}"),
    }
}

fn bytes_in_words(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes} bytes"), |(size, name)| format!("{} {name}", bytes / size))
}

/// A limit of the process; -1 is none.
fn rlimit(limit: &rb_llb::Ulimit) -> Rlimit {
    let number = |value| u64::try_from(value).unwrap_or(u64::MAX);
    Rlimit { name: limit.name.clone(), soft: number(limit.soft), hard: number(limit.hard) }
}

/// Joins a step's own limits with those of all.
fn limits(own: Option<&LinuxResources>, all: &Limits) -> Limits {
    let Some(own) = own else { return all.clone() };
    let LinuxResources {
        memory_bytes,
        memory_swap_bytes,
        cpu_shares,
        cpu_period_us,
        cpu_quota_us,
        cpuset_cpus,
        cpuset_mems,
    } = own;
    let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    // Swap without end is -1.
    let swap = if *memory_swap_bytes < 0 { Some(u64::MAX) } else { positive(*memory_swap_bytes) };
    let period_us = if *cpu_period_us == 0 { DEFAULT_PERIOD_US } else { *cpu_period_us };
    let quota = positive(*cpu_quota_us).map(|quota_us| CpuQuota { quota_us, period_us });
    Limits {
        memory_bytes: positive(*memory_bytes).or(all.memory_bytes),
        memory_swap_bytes: swap.or(all.memory_swap_bytes),
        cpu_quota: quota.or(all.cpu_quota),
        cpu_shares: Some(*cpu_shares).filter(|shares| *shares > 0).or(all.cpu_shares),
        cpuset_cpus: text(cpuset_cpus).or_else(|| all.cpuset_cpus.clone()),
        cpuset_mems: text(cpuset_mems).or_else(|| all.cpuset_mems.clone()),
        pids: all.pids,
    }
}

/// Finds out who runs the programs of a step; nothing if the processor does, or the machine knows who.
pub(super) fn emulator(vertex: &Vertex, emulators: &Emulators) -> Result<Option<Emulator>, EngineError> {
    let native = Platform::host();
    let Some(platform) =
        vertex.platform.as_ref().filter(|platform| platform.architecture != native.architecture)
    else {
        return Ok(None);
    };
    match emulators.running(&platform.architecture)? {
        Running::Native | Running::Registered { .. } => Ok(None),
        Running::Emulated(emulator) => Ok(Some(emulator)),
    }
}

/// Refuses a step for another kind of system: no program of it runs here.
pub(super) fn refuse_foreign(vertex: &Vertex) -> Result<(), EngineError> {
    let Some(platform) = &vertex.platform else { return Ok(()) };
    let native = Platform::host();
    if platform.os.as_str() == native.os {
        return Ok(());
    }
    let help =
        format!("this machine runs steps for {}; what only copies files builds for any platform", native.os);
    Err(unsupported(format!("a step for {}/{}", platform.os, platform.architecture), Some(&help)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_says_wins() {
        let all =
            Limits { memory_bytes: Some(100), pids: Some(5), cpu_shares: Some(10), ..Limits::default() };
        assert_eq!(limits(None, &all), all);
        let own = LinuxResources {
            memory_bytes: 50,
            memory_swap_bytes: -1,
            cpu_quota_us: 5000,
            cpuset_cpus: "0".to_owned(),
            ..LinuxResources::default()
        };
        let expected = Limits {
            memory_bytes: Some(50),
            memory_swap_bytes: Some(u64::MAX),
            cpu_quota: Some(CpuQuota { quota_us: 5000, period_us: 100_000 }),
            cpu_shares: Some(10),
            cpuset_cpus: Some("0".to_owned()),
            cpuset_mems: None,
            pids: Some(5),
        };
        assert_eq!(limits(Some(&own), &all), expected);
        assert_eq!(limits(Some(&LinuxResources::default()), &all), all);
    }

    #[test]
    fn pauses_grow_and_end() {
        let terms = Terms { retries: 20, ..Terms::default() };
        let pause = |attempt| terms.pause_after(attempt).map(|pause| pause.as_millis());
        assert_eq!((pause(1), pause(2), pause(3)), (Some(500), Some(1000), Some(2000)));
        assert_eq!((pause(20), pause(21)), (Some(30_000), None));
        assert_eq!(Terms::default().pause_after(1), None);
    }

    #[test]
    fn sizes_are_said_as_they_were_typed() {
        assert_eq!(bytes_in_words(50 << 20), "50 MiB");
        assert_eq!(bytes_in_words(3 << 30), "3 GiB");
        assert_eq!(bytes_in_words(1_000_001), "1000001 bytes");
    }
}
