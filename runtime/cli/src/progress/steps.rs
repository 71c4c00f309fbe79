//! What is known of each vertex while a build runs.
//!
//! In: events. Out: one [`Step`] per vertex, in the order they were added.

use std::collections::BTreeMap;
use std::time::Instant;

use rb_api::{Event, EventKind};
use rb_oci::Digest;

use super::text::{Lines, clean};

/// Where a vertex stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Part of the job, not begun.
    Waiting,
    /// At work since.
    Running(Instant),
    /// The result was there.
    Cached,
    /// Done.
    Done,
    /// It failed.
    Failed,
    /// Nobody wants it any more.
    Cancelled,
}

/// One vertex.
#[derive(Debug)]
pub(super) struct Step {
    /// Target: the part of the name before ` | `; "" where it has none.
    pub(super) target: String,
    /// What it does: the rest of the name.
    pub(super) what: String,
    /// People count it.
    pub(super) counted: bool,
    /// Where it stands.
    pub(super) status: Status,
    /// Its latest line of output that is not blank, without escapes.
    pub(super) last_line: String,
    /// Bytes so far, and in all where known.
    pub(super) bytes: Option<(u64, Option<u64>)>,
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
}

/// All vertices of a job.
#[derive(Debug, Default)]
pub(super) struct Steps {
    by_vertex: BTreeMap<Digest, usize>,
    all: Vec<Step>,
}

impl Steps {
    /// Takes an event and returns the step it is about.
    pub(super) fn take(&mut self, event: &Event, now: Instant) -> &mut Step {
        let at = *self.by_vertex.entry(event.vertex).or_insert_with(|| {
            self.all.push(Step::new(&event.vertex));
            self.all.len() - 1
        });
        let step = self.all.get_mut(at).expect("indices come from pushes");
        step.take(&event.kind, now);
        step
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
                Status::Waiting => counts.waiting += 1,
                Status::Running(_) => counts.running += 1,
                Status::Cached => counts.cached += 1,
                Status::Done => counts.done += 1,
                Status::Failed | Status::Cancelled => {}
            }
        }
        counts
    }
}

impl Step {
    fn new(vertex: &Digest) -> Self {
        Self {
            target: String::new(),
            what: vertex.short(),
            counted: false,
            status: Status::Waiting,
            last_line: String::new(),
            bytes: None,
            lines: Lines::default(),
        }
    }

    fn take(&mut self, kind: &EventKind, now: Instant) {
        match kind {
            EventKind::Added { name, step } => {
                let name = clean(name, false);
                let (target, what) = name.split_once(" | ").unwrap_or(("", &name));
                (self.target, self.what, self.counted) = (target.to_owned(), what.to_owned(), *step);
            }
            EventKind::Cached { .. } => self.status = Status::Cached,
            EventKind::Missed { .. } | EventKind::Shared { .. } => {}
            EventKind::Started => self.status = Status::Running(now),
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
            EventKind::Progress { current, total } => self.bytes = Some((*current, *total)),
            EventKind::Done { .. } => self.status = Status::Done,
            EventKind::Failed { .. } => self.status = Status::Failed,
            EventKind::Cancelled => self.status = Status::Cancelled,
        }
    }

    /// Returns what stands before each of its lines.
    pub(super) fn prefix(&self) -> &str {
        if self.target.is_empty() { &self.what } else { &self.target }
    }

    /// Returns the splitter of its output into lines.
    pub(super) fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }
}
