//! What steps were seen to take, from build to build.
//!
//! ```text
//! builds/memory     {"format": 1, "steps": {"<id>": {"peaks": [314572800, …], "at": <seconds since 1970>}}}
//! ```
//!
//! A step is known by its workspace, its target with its arguments, and the text of its command: so it is still the same when its
//! inputs or its key are others. What it takes is the most of its last [`LAST`] runs; of one with new arguments, the most of those
//! that differ in arguments only. The steps that ran last are kept, [`MOST_STEPS`] of
//! them. A file that cannot be read says nothing, and one that cannot be written is missed by nobody: all of it is learnt again.
//! Of what two processes write at once, that of the second stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rb_oci::Digest;
use rb_store::Store;
use serde::{Deserialize, Serialize};

/// So many runs of a step count.
const LAST: usize = 3;

/// So many steps are kept.
const MOST_STEPS: usize = 4_000;

/// Largest file that is read.
const LIMIT_BYTES: u64 = 2 << 20;

/// So many digits of a digest tell steps apart.
const DIGITS: usize = 20;

const FORMAT: u32 = 1;
const FILE: &str = "builds/memory";

/// Names a step, whatever its inputs are: first what it is without the arguments of its target, then with them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct StepId(String);

impl StepId {
    /// Makes that of a step of a workspace; `name` is what people call it, `+app --A=1 | RUN make`.
    pub(crate) fn of(workspace: &str, name: &str, command: &[String]) -> Self {
        let call = name.split_once(" | ").map_or("", |(call, _)| call);
        let target = call.split_once(" --").map_or(call, |(target, _)| target);
        let digits = |called: &str| -> String {
            let parts = [workspace, called].into_iter().chain(command.iter().map(String::as_str));
            let whole: String = parts.map(|part| Digest::of(part).hex()).collect();
            Digest::of(whole).hex().chars().take(DIGITS).collect()
        };
        Self(digits(target) + &digits(call))
    }

    /// Returns what it has in common with those that differ in arguments only.
    pub(super) fn alike(&self) -> &str {
        self.0.get(..DIGITS).unwrap_or(&self.0)
    }
}

/// What is known of steps.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    steps: BTreeMap<StepId, Seen>,
    /// Those of which this process has seen more than the file says.
    changed: BTreeSet<StepId>,
}

/// What was seen of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// The newest last.
    peaks: Vec<u64>,
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    steps: BTreeMap<StepId, Seen>,
}

impl Learnt {
    /// Reads what earlier builds saw.
    pub(super) fn read(root: &Path) -> Self {
        Self { steps: read(&root.join(FILE)).unwrap_or_default(), changed: BTreeSet::new() }
    }

    /// Says whether this very step was seen.
    pub(super) fn has(&self, id: &StepId) -> bool {
        self.steps.contains_key(id)
    }

    /// Returns what a step takes; nothing of one of which none alike was seen.
    pub(super) fn peak(&self, id: &StepId) -> Option<u64> {
        let most = |seen: &Seen| seen.peaks.iter().max().copied();
        if let Some(seen) = self.steps.get(id) {
            return most(seen);
        }
        let first = StepId(id.alike().to_owned());
        self.steps
            .range(first..)
            .take_while(|(like, _)| like.alike() == id.alike())
            .filter_map(|(_, seen)| most(seen))
            .max()
    }

    /// Notes what a step took at some time, in seconds since 1970.
    pub(super) fn note(&mut self, id: &StepId, peak: u64, at: u64) {
        let seen = self.steps.entry(id.clone()).or_default();
        seen.peaks.push(peak);
        let old = seen.peaks.len().saturating_sub(LAST);
        seen.peaks.drain(..old);
        seen.at = at;
        self.changed.insert(id.clone());
    }

    /// Writes what this process has seen beside what others have, if it has seen anything new.
    pub(super) fn save(&mut self, store: &Store) -> io::Result<()> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let path = store.root().join(FILE);
        let mut steps = read(&path).unwrap_or_default();
        let ours = self.changed.iter().filter_map(|id| Some((id.clone(), self.steps.get(id)?.clone())));
        steps.extend(ours);
        forget_oldest(&mut steps);
        let half = store.temp_path();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
        file.write_all(&serde_json::to_vec(&Written { format: FORMAT, steps })?)?;
        // The folder comes with the first record; where the state directory was removed meanwhile, nothing is to be made.
        match DirBuilder::new().mode(0o700).create(path.parent().unwrap_or(store.root())) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(&half, &path)?;
        self.changed.clear();
        Ok(())
    }
}

fn forget_oldest(steps: &mut BTreeMap<StepId, Seen>) {
    let too_many = steps.len().saturating_sub(MOST_STEPS);
    let mut by_age: Vec<(u64, StepId)> = steps.iter().map(|(id, seen)| (seen.at, id.clone())).collect();
    by_age.sort();
    for (_, id) in by_age.iter().take(too_many) {
        steps.remove(id);
    }
}

fn read(path: &Path) -> Option<BTreeMap<StepId, Seen>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
    let written: Written = serde_json::from_slice(&bytes).ok()?;
    (written.format == FORMAT).then_some(written.steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> StepId {
        StepId::of("ws", &format!("+{name} | RUN x"), &["x".to_owned()])
    }

    fn of(workspace: &str, name: &str, command: &str) -> StepId {
        StepId::of(workspace, name, &["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()])
    }

    #[test]
    fn a_step_is_the_same_whatever_its_inputs_are() {
        let step = of("w", "+app --A=1 | RUN make", "make");
        assert_eq!(of("w", "+app --A=1 | RUN --retry=1 make", "make"), step);
        for other in [
            of("v", "+app --A=1 | RUN make", "make"),
            of("w", "+lib --A=1 | RUN make", "make"),
            of("w", "+app --A=1 | RUN make", "make all"),
            of("w", "make", "make"),
        ] {
            assert!(other != step && other.alike() != step.alike());
        }
        assert_ne!(of("w", "./a b+app | RUN x", "x").alike(), of("w", "./a c+app | RUN x", "x").alike());
    }

    #[test]
    fn a_call_with_new_arguments_takes_the_most_of_those_alike() {
        let [large, small, new] = ["1", "2", "3"].map(|a| of("w", &format!("+app --A={a} | RUN x"), "x"));
        assert!(large != small && large.alike() == small.alike());
        let mut learnt = Learnt::default();
        learnt.note(&large, 100, 1);
        for _ in 0..2 * LAST {
            learnt.note(&small, 1, 1);
        }
        learnt.note(&of("w", "+lib | RUN x", "x"), 1000, 1);
        assert_eq!([&large, &small, &new].map(|id| learnt.peak(id)), [Some(100), Some(1), Some(100)]);
    }

    #[test]
    fn the_most_of_the_last_runs_counts() {
        let mut learnt = Learnt::default();
        assert_eq!(learnt.peak(&id("a")), None);
        for (peak, known) in [(500, 500), (100, 500), (200, 500), (300, 300), (10, 300), (20, 300), (30, 30)]
        {
            learnt.note(&id("a"), peak, 1);
            assert_eq!(learnt.peak(&id("a")), Some(known), "{peak}");
        }
    }

    #[test]
    fn what_is_learnt_is_found_again_beside_that_of_others() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(dir.path()).expect("opens");
        let (mut one, mut other) = (Learnt::read(dir.path()), Learnt::read(dir.path()));
        one.note(&id("a"), 1, 1);
        other.note(&id("b"), 2, 2);
        one.save(&store).expect("writes");
        other.save(&store).expect("writes");
        let found = Learnt::read(dir.path());
        assert_eq!((found.peak(&id("a")), found.peak(&id("b"))), (Some(1), Some(2)));
        assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("lists").count(), 0);
        // What is not ours is no reason to fail.
        for text in ["", "[]", "{\"format\":2,\"steps\":{}}", "{\"format\":1,\"steps\":{\"a\":7}}"] {
            fs::write(dir.path().join(FILE), text).expect("writes");
            assert_eq!(Learnt::read(dir.path()).peak(&id("a")), None, "{text}");
            one.note(&id("a"), 5, 1);
            one.save(&store).expect("writes");
            assert_eq!(Learnt::read(dir.path()).peak(&id("a")), Some(5), "{text}");
        }
    }

    #[test]
    fn the_steps_that_ran_last_are_kept() {
        let number = |number: u64| (StepId(format!("{number:040}")), Seen { peaks: vec![1], at: number });
        let mut steps: BTreeMap<StepId, Seen> = (0..MOST_STEPS as u64 + 7).rev().map(number).collect();
        forget_oldest(&mut steps);
        assert_eq!(steps.len(), MOST_STEPS);
        assert_eq!(steps.values().map(|seen| seen.at).min(), Some(7));
        // All of them can be read again.
        let written = serde_json::to_vec(&Written { format: FORMAT, steps }).expect("plain data");
        assert!((written.len() as u64) < LIMIT_BYTES);
    }
}
