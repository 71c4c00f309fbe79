//! What is known of each vertex while a build runs.
//!
//! In: events. Out: one [`Step`] per vertex, in the order they were added.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rb_api::{CacheKey, Event, EventKind, Miss, Progress};
use rb_oci::Digest;

use super::amount::is_complete;
use super::text::{Lines, bare_target, clean, fit};

/// A target with its arguments is cut to so many cells.
const TARGET_CELLS: usize = 40;

/// Where a vertex stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Part of the job, not begun.
    Waiting,
    /// What it needs is looked at or fetched since.
    Preparing(Instant),
    /// At work since.
    Running(Instant),
    /// The result was there.
    Cached,
    /// Done, and how long it took.
    Done(Duration),
    /// It failed.
    Failed,
    /// Nobody wants it any more.
    Cancelled,
}

/// One vertex.
#[derive(Debug)]
pub(super) struct Step {
    /// Which.
    pub(super) vertex: Digest,
    /// Target with its arguments: the part of the name before ` | `; of a Dockerfile's step `[stage 2/5]`; "" where it has none.
    pub(super) target: String,
    /// What it does: the rest of the name.
    pub(super) what: String,
    /// People count it.
    pub(super) counted: bool,
    /// Where it stands.
    pub(super) status: Status,
    /// Its latest line of output that is not blank, without escapes.
    pub(super) last_line: String,
    /// Why it runs, or how its result was found.
    pub(super) why: String,
    /// How far it is with what it is at, until that is done.
    pub(super) progress: Option<Progress>,
    /// When it last began, ended or wrote something.
    pub(super) heard: Instant,
    /// How often it was told to be still there since.
    pub(super) beats: u32,
    lines: Lines,
}

/// Steps by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// At work.
    pub(super) running: usize,
    /// Done.
    pub(super) done: usize,
    /// The result was there.
    pub(super) cached: usize,
    /// Begun by nobody yet.
    pub(super) waiting: usize,
    /// It failed.
    pub(super) failed: usize,
}

/// All vertices of a job.
#[derive(Debug, Default)]
pub(super) struct Steps {
    by_vertex: BTreeMap<Digest, usize>,
    all: Vec<Step>,
    /// Targets, each with the ways it is called.
    calls: BTreeMap<String, BTreeSet<String>>,
}

impl Steps {
    /// Takes an event and returns the step it is about.
    pub(super) fn take(&mut self, event: &Event, now: Instant) -> &mut Step {
        let at = *self.by_vertex.entry(event.vertex).or_insert_with(|| {
            self.all.push(Step::new(event.vertex, now));
            self.all.len() - 1
        });
        let step = self.all.get_mut(at).expect("indices come from pushes");
        step.take(&event.kind, now);
        if matches!(event.kind, EventKind::Added { .. }) && !step.target.is_empty() {
            let calls = self.calls.entry(bare_target(&step.target).to_owned()).or_default();
            calls.insert(step.target.clone());
        }
        step
    }

    /// Returns a step that was heard of.
    pub(super) fn get(&mut self, vertex: &Digest) -> Option<&mut Step> {
        self.all.get_mut(*self.by_vertex.get(vertex)?)
    }

    /// Returns what stands before each line of a step: its target, with arguments where it is called in several ways.
    pub(super) fn prefix(&self, vertex: &Digest) -> Cow<'_, str> {
        match self.by_vertex.get(vertex).and_then(|at| self.all.get(*at)) {
            Some(step) if step.target.is_empty() => Cow::Borrowed(&step.what),
            Some(step) => self.called(step),
            None => Cow::Owned(vertex.short()),
        }
    }

    /// Returns a step's target, with arguments where it is called in several ways.
    pub(super) fn called<'a>(&self, step: &'a Step) -> Cow<'a, str> {
        if step.target.starts_with('[') {
            return Cow::Borrowed(&step.target);
        }
        let bare = bare_target(&step.target);
        let is_one = self.calls.get(bare).is_none_or(|calls| calls.len() < 2);
        if is_one { Cow::Borrowed(bare) } else { fit(&step.target, TARGET_CELLS) }
    }

    /// Returns all steps in the order they were added.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Step> {
        self.all.iter()
    }

    /// Returns all steps, to take what they hold back.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        self.all.iter_mut()
    }

    /// Counts the steps that people count.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for step in self.all.iter().filter(|step| step.counted) {
            match step.status {
                Status::Waiting | Status::Preparing(_) => counts.waiting += 1,
                Status::Running(_) => counts.running += 1,
                Status::Cached => counts.cached += 1,
                Status::Done(_) => counts.done += 1,
                Status::Failed => counts.failed += 1,
                Status::Cancelled => {}
            }
        }
        counts
    }
}

impl Step {
    fn new(vertex: Digest, now: Instant) -> Self {
        Self {
            vertex,
            target: String::new(),
            what: vertex.short(),
            counted: false,
            status: Status::Waiting,
            last_line: String::new(),
            why: String::new(),
            progress: None,
            heard: now,
            beats: 0,
            lines: Lines::default(),
        }
    }

    fn take(&mut self, kind: &EventKind, now: Instant) {
        if !matches!(kind, EventKind::Progress(_)) {
            self.heard = now;
        }
        match kind {
            EventKind::Added { name, step, inputs: _ } => {
                let name = clean(name, false);
                let (target, what) = parts(&name);
                (self.target, self.what, self.counted) = (target.to_owned(), what.to_owned(), *step);
            }
            EventKind::Cached { key, from } => {
                self.status = Status::Cached;
                let from = from
                    .as_ref()
                    .map_or_else(String::new, |from| format!(", in the cache {}", clean(from, false)));
                self.why = format!("{}{from}", found_by(*key));
            }
            // That an engine does not tell why needs not be said of each step.
            EventKind::Missed { reason } if reason.miss == Miss::Untold => {}
            EventKind::Missed { reason } => self.why = format!("runs: {}", clean(&reason.text, false)),
            EventKind::Keyed { .. } | EventKind::Shared { .. } => {}
            EventKind::Started => (self.status, self.progress) = (Status::Running(now), None),
            EventKind::Log { bytes, .. } => {
                // Only the end matters for the last line; a flood is not looked at in full.
                let tail = bytes.get(bytes.len().saturating_sub(2048)..).unwrap_or(bytes);
                let line = tail
                    .split(|byte| matches!(byte, b'\n' | b'\r'))
                    .rfind(|line| !line.trim_ascii().is_empty());
                if let Some(line) = line {
                    self.last_line = clean(&String::from_utf8_lossy(line), false).trim().to_owned();
                }
            }
            EventKind::Progress(progress) => {
                if self.status == Status::Waiting {
                    self.status = Status::Preparing(now);
                }
                let doing = clean(&progress.doing, false).into();
                let progress = Progress { doing, ..progress.clone() };
                self.progress = (!is_complete(&progress)).then_some(progress);
            }
            EventKind::Done { duration } => self.status = Status::Done(*duration),
            EventKind::Failed { .. } => self.status = Status::Failed,
            EventKind::Cancelled => self.status = Status::Cancelled,
        }
    }

    /// Returns since when something is done for it, while it is; or since when it has said what it waits for.
    pub(super) fn at_work(&self) -> Option<Instant> {
        match self.status {
            Status::Preparing(since) | Status::Running(since) => Some(since),
            Status::Waiting if !self.last_line.is_empty() => Some(self.heard),
            Status::Waiting | Status::Cached | Status::Done(_) | Status::Failed | Status::Cancelled => None,
        }
    }

    /// Returns the splitter of its output into lines.
    pub(super) fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }
}

/// Splits a name into the target and what is done: at the ` | ` of a Buildfile's, behind the `[stage 2/5]` of a Dockerfile's.
fn parts(name: &str) -> (&str, &str) {
    let bracketed = || {
        let end = name.strip_prefix('[')?.find("] ")? + 2;
        Some((name.get(..end)?, name.get(end + 1..)?))
    };
    // What runs in a Dockerfile may have a ` | `, too.
    bracketed().or_else(|| name.split_once(" | ")).unwrap_or(("", name))
}

/// Says by which key a result was found.
fn found_by(key: CacheKey) -> &'static str {
    match key {
        CacheKey::Fast => "found by its definition",
        CacheKey::Content => "found by the content of its inputs",
        CacheKey::Slow => "found by the content of what it reads",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_target_and_what_is_done() {
        for (name, expected) in [
            ("+app --A=1 | RUN make", ("+app --A=1", "RUN make")),
            ("[build 2/5] RUN [ -e x ]", ("[build 2/5]", "RUN [ -e x ]")),
            ("[linux/arm64 stage-1 1/1] COPY a /", ("[linux/arm64 stage-1 1/1]", "COPY a /")),
            ("[1/2] RUN a | b", ("[1/2]", "RUN a | b")),
            ("[half", ("", "[half")),
            ("look up alpine", ("", "look up alpine")),
        ] {
            assert_eq!(parts(name), expected);
        }
    }
}
