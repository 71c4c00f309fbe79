//! What there is of this machine and of a state directory, as numbers: compared before and after very many builds. Also a part of
//! rb's own tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::counts::Counts;

/// Says for how many minutes builds are made in a loop; otherwise it is [`SHORT`].
const MINUTES: &str = "RB_STEADY_MINUTES";
const SHORT: Duration = Duration::from_secs(4);

/// Folders of the state directory in which nothing stays.
const PASSING: [&str; 5] = ["tmp", "locks", "claims", "partial", "status"];

/// What was ended is gone a little later; on a busy machine not so little.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long is waited before there is another process.
const NEXT: Duration = Duration::from_secs(10);

/// What does not change for so long is at rest.
const AT_REST: Duration = Duration::from_secs(2);

/// For how long builds are made in a loop.
pub(crate) fn span() -> Duration {
    let said = std::env::vars_os().find(|(name, _)| name == MINUTES);
    let minutes = said.map(|(_, value)| value.to_str().and_then(|text| text.parse::<f64>().ok()));
    minutes.map_or(SHORT, |minutes| {
        Duration::from_secs_f64(60.0 * minutes.expect("RB_STEADY_MINUTES is a number"))
    })
}

/// The numbers, by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<String, usize>);

impl Tally {
    /// Counts now. `groups` is in the name of all control groups that are looked for.
    pub(crate) fn now(state: &Path, groups: &str) -> Self {
        let counts = Counts::now(groups);
        let mut numbers: BTreeMap<String, usize> = [
            ("descriptors", counts.descriptors),
            ("mounts", counts.mounts.len()),
            ("processes and threads", counts.tasks),
            ("control groups", counts.groups.len()),
        ]
        .map(|(name, number)| (name.to_owned(), number))
        .into();
        for kind in ["net", "mnt", "pid", "user"] {
            numbers.insert(format!("{kind} namespaces"), counts.of_kind(kind));
        }
        for folder in PASSING {
            let entries = std::fs::read_dir(state.join(folder)).into_iter().flatten();
            numbers.insert(format!("files in {folder}"), entries.count());
        }
        Self(numbers)
    }

    /// Counts once nothing changes any more.
    pub(crate) fn at_rest(state: &Path, groups: &str) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let (mut tally, mut since) = (Self::now(state, groups), Instant::now());
        while since.elapsed() < AT_REST && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            let now = Self::now(state, groups);
            if now != tally {
                (tally, since) = (now, Instant::now());
            }
        }
        tally
    }

    /// Waits until there is no more of anything than there was `before`, and returns what there is then. What a process that was
    /// killed has left goes with the next one, once its last child is gone: `next` is made every [`NEXT`].
    pub(crate) fn back_to(before: &Self, state: &Path, groups: &str, mut next: impl FnMut()) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let mut made = Instant::now();
        loop {
            let now = Self::now(state, groups);
            let more: Vec<String> = now.more_than(before).collect();
            if more.is_empty() {
                return now;
            }
            assert!(Instant::now() < deadline, "there is more than there was: {}", more.join(", "));
            if made.elapsed() > NEXT {
                next();
                made = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn more_than<'t>(&'t self, before: &'t Self) -> impl Iterator<Item = String> + 't {
        let was = |name: &String| before.0.get(name).copied().unwrap_or_default();
        let more = self.0.iter().filter(move |(name, number)| **number > was(name));
        more.map(move |(name, number)| format!("{number} {name} and not {}", was(name)))
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(|(name, number)| format!("{number} {name}")).collect();
        out.write_str(&numbers.join(", "))
    }
}

/// Reads a line of a process's status that is in kilobytes, in bytes; nothing of a process that is gone.
pub(crate) fn memory(process: &str, line: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
