//! Options that limit what steps may use of this machine, and the programs of `rb run` with them.
//!
//! Their names are docker's. Nothing of them is part of a cache key.

use std::str::FromStr;

use clap::Args as ClapArgs;

use crate::settings::MemoryBudget;
use crate::sizes::{self, SizeError};

/// Limits on steps.
#[derive(Debug, Default, Clone, PartialEq, Eq, ClapArgs)]
pub(crate) struct LimitOptions {
    /// Memory of each step, such as 512m or 2g
    ///
    /// A step that reaches it is killed, and the error says so. Limits are control groups (cgroups), which root can make, and
    /// others in a scope of their own: `systemd-run --user --scope -p Delegate=yes rb …`; `rb doctor` tells.
    #[arg(long, short, value_name = "SIZE", value_parser = sizes::memory, help_heading = "Limits")]
    pub(crate) memory: Option<u64>,
    /// Memory and swap of each step, together
    ///
    /// Unless given twice the memory; -1 is no limit on swap.
    #[arg(long, value_name = "SIZE", value_parser = swap_of, allow_hyphen_values = true, help_heading = "Limits")]
    pub(crate) memory_swap: Option<u64>,
    /// Memory of steps at once: 4g, 80% [default: none]
    ///
    /// What a step took is known from its last runs, and it begins when that is left beside what others take that run. One that never
    /// ran counts as its share, the budget by the number of --jobs; one that is larger than the budget runs alone. Nothing is killed: a
    /// step that takes more than was known keeps others from beginning. A part is one of this machine's memory, or of what
    /// control groups leave of it. What steps wrote to files in memory does not count. `none` takes
    /// back what a file or a variable says.
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) memory_budget: Option<MemoryBudget>,
    /// Processors' time of each step, such as 1.5
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) cpus: Option<Cpus>,
    /// Processors that steps run on, such as 0-3,5
    #[arg(long, value_name = "LIST", value_parser = cpu_list, help_heading = "Limits")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Processes and threads of each step
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) pids_limit: Option<u64>,
    /// Size of /dev/shm in steps [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = sizes::memory, help_heading = "Limits")]
    pub(crate) shm_size: Option<u64>,
    /// Limit of each process, such as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    pub(crate) ulimit: Vec<Ulimit>,
    /// Control group that those of steps are made in
    ///
    /// As a path from the root of the hierarchy, such as /builds.
    #[arg(long, value_name = "PATH", help_heading = "Limits")]
    pub(crate) cgroup_parent: Option<String>,
}

impl LimitOptions {
    /// Joins options typed before and behind the name of a command; those behind win.
    pub(crate) fn over(self, outer: Self) -> Self {
        Self {
            memory: self.memory.or(outer.memory),
            memory_swap: self.memory_swap.or(outer.memory_swap),
            memory_budget: self.memory_budget.or(outer.memory_budget),
            cpus: self.cpus.or(outer.cpus),
            cpuset_cpus: self.cpuset_cpus.or(outer.cpuset_cpus),
            pids_limit: self.pids_limit.or(outer.pids_limit),
            shm_size: self.shm_size.or(outer.shm_size),
            ulimit: [outer.ulimit, self.ulimit].concat(),
            cgroup_parent: self.cgroup_parent.or(outer.cgroup_parent),
        }
    }
}

/// Processors' time, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) u64);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let thousandths = || -> Option<u64> {
            let part = format!("{part:0<3}");
            let part: u64 = part.get(..3)?.parse().ok()?;
            whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
        };
        // The kernel takes no less than a hundredth.
        let read = if digits(whole) && digits(part) { thousandths() } else { None };
        let read = read.filter(|cpus| (10..=1_000_000).contains(cpus));
        read.map(Self).ok_or_else(|| format!("`{text}` is no number of processors, such as `2` or `0.5`"))
    }
}

/// A limit of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text {
            "-1" | "unlimited" => Some(u64::MAX),
            digits => digits.parse().ok(),
        };
        let read = || {
            let (name, values) = text.split_once('=')?;
            let (soft, hard) = values.split_once(':').unwrap_or((values, values));
            let (soft, hard) = (number(soft)?, number(hard)?);
            Some(Self { name: name.to_owned(), soft, hard })
        };
        let limit = read().ok_or_else(|| format!("`{text}` is no limit, such as `nofile=1024:4096`"))?;
        if !rb_exec::is_rlimit(&limit.name) {
            return Err(format!(
                "there is no limit `{}`; nofile, nproc, core and memlock are some",
                limit.name
            ));
        }
        if limit.soft > limit.hard {
            return Err(format!("of `{text}` the first number is to be at most the second"));
        }
        Ok(limit)
    }
}

fn swap_of(text: &str) -> Result<u64, SizeError> {
    if text == "-1" { Ok(u64::MAX) } else { sizes::memory(text) }
}

fn cpu_list(text: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u16>().ok();
    let fits = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    if text.split(',').all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no list of processors, such as `0-3,5`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        let cpus = |text: &str| text.parse::<Cpus>().ok().map(|cpus| cpus.0);
        assert_eq!(
            (cpus("2"), cpus("0.5"), cpus("1.25"), cpus("1.23456")),
            (Some(2000), Some(500), Some(1250), Some(1234))
        );
        for text in ["", ".", "x", "-1", "0", "0.001", "1e3", "1.é", "99999999999999999999"] {
            assert_eq!(cpus(text), None, "{text}");
        }
        let limit =
            |text: &str| text.parse::<Ulimit>().ok().map(|limit| (limit.name, limit.soft, limit.hard));
        assert_eq!(limit("nofile=1024"), Some(("nofile".to_owned(), 1024, 1024)));
        assert_eq!(limit("core=0:-1"), Some(("core".to_owned(), 0, u64::MAX)));
        for text in ["", "nofile", "nofile=x", "nofile=2:1", "speed=1"] {
            assert_eq!(limit(text), None, "{text}");
        }
        assert_eq!((swap_of("-1"), swap_of("1g")), (Ok(u64::MAX), Ok(1 << 30)));
        assert!(cpu_list("0-3,5").is_ok());
        for text in ["", "a", "3-1", "0,,1", "-1"] {
            assert!(cpu_list(text).is_err(), "{text}");
        }
    }
}
