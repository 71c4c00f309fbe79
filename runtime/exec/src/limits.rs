//! Resource limits of a sandbox.
//!
//! Inherited, with two exceptions: no core files, which would end up in a build's result, and at most 2^20 descriptors,
//! since programs that close "all" of a billion take minutes.

use rb_sys::child::Step;
use rustix::process::{Resource, getrlimit};

use crate::error::ExecError;
use crate::spec::Rlimit;

const MAX_FILES: u64 = 1 << 20;

/// Names in the order of the kernel's numbers (asm-generic/resource.h).
const NAMES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];
const CORE: u32 = 4;
const FILES: u32 = 7;

/// Tells whether there is a limit of this name.
pub fn is_rlimit(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Returns number, soft and hard value of each limit; the last of a number counts.
pub(crate) fn values(wanted: &[Rlimit]) -> Result<Vec<(u32, u64, u64)>, ExecError> {
    let core = getrlimit(Resource::Core);
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(MAX_FILES);
    let mut limits = vec![(CORE, 0, core.maximum.unwrap_or(u64::MAX)), (FILES, files, files)];
    for limit in wanted {
        let number = NAMES.iter().position(|name| *name == limit.name);
        let number = number.ok_or_else(|| ExecError::UnknownRlimit { name: limit.name.clone() })?;
        limits.push((number as u32, limit.soft, limit.hard));
    }
    Ok(limits)
}

/// Returns the steps that set the limits, with their labels.
pub(crate) fn steps(wanted: &[Rlimit]) -> Result<Vec<(String, Step)>, ExecError> {
    let step = |(resource, soft, hard): (u32, u64, u64)| {
        let name = NAMES.get(resource as usize).unwrap_or(&"?");
        (format!("set the limit `{name}`"), Step::Limit { resource, soft, hard })
    };
    Ok(values(wanted)?.into_iter().map(step).collect())
}
