//! Limits of steps, as docker's flags name them: those that rb sets around every step, and those that are part of a step.
//!
//! As in BuildKit `--shm-size`, `--ulimit` and `--cgroup-parent` belong to the operation; the others to how it is run.

use std::collections::BTreeMap;

use crate::args::{DockerfileArgs, LimitOptions, Pair, Ulimit};
use crate::report::Failure;
use crate::sizes;

/// Keys of `--resource`, and what the frontend calls them.
const RESOURCES: [(&str, &str); 7] = [
    ("memory", "memory"),
    ("memory-swap", "memswap"),
    ("cpu-shares", "cpushares"),
    ("cpu-period", "cpuperiod"),
    ("cpu-quota", "cpuquota"),
    ("cpuset-cpus", "cpusetcpus"),
    ("cpuset-mems", "cpusetmems"),
];

/// Returns what rb sets around every step.
pub(super) fn of_steps(args: &DockerfileArgs) -> LimitOptions {
    LimitOptions { shm_size: None, ulimit: Vec::new(), cgroup_parent: None, ..args.limits.clone() }
}

/// Returns the options of the frontend for the rest.
pub(super) fn frontend(args: &DockerfileArgs) -> Result<BTreeMap<String, String>, Failure> {
    let LimitOptions { shm_size, ulimit, cgroup_parent, .. } = &args.limits;
    let mut options = BTreeMap::new();
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            options.insert(name.to_owned(), value);
        }
    };
    set("shm-size", shm_size.map(|bytes| bytes.to_string()));
    let ulimits: Vec<String> = ulimit.iter().map(ulimit_text).collect();
    set("ulimit", (!ulimits.is_empty()).then(|| ulimits.join(",")));
    set("cgroup-parent", cgroup_parent.clone());
    set("cpushares", args.cpu_shares.map(|shares| shares.to_string()));
    set("cpuperiod", args.cpu_period.map(|period| period.to_string()));
    set("cpuquota", args.cpu_quota.map(|quota| quota.to_string()));
    set("cpusetmems", args.cpuset_mems.clone());
    for Pair { key, value } in &args.resource {
        let Some((_, name)) = RESOURCES.iter().find(|(known, _)| known == key) else {
            let known: Vec<&str> = RESOURCES.iter().map(|(known, _)| *known).collect();
            let help = format!("it takes {}", known.join(", "));
            return Err(Failure::input(format!("--resource has no `{key}`"), Some(help)));
        };
        let wrong = |message: String| Failure::input(format!("--resource {key}={value}: {message}"), None);
        let value = match *name {
            "memswap" if value == "-1" => value.clone(),
            "memory" | "memswap" => {
                sizes::memory(value).map_err(|error| wrong(error.to_string()))?.to_string()
            }
            _ => value.clone(),
        };
        set(name, Some(value));
    }
    Ok(options)
}

fn ulimit_text(limit: &Ulimit) -> String {
    let number = |value: u64| if value == u64::MAX { "-1".to_owned() } else { value.to_string() };
    format!("{}={}:{}", limit.name, number(limit.soft), number(limit.hard))
}
