//! What is kept of each build: what was asked for, and of each step whether it ran, and why.
//!
//! In: the events of a build's jobs, on their way to the progress. Out: one JSON document in the store
//! ([`rb_store::Store::put_build`]), written once, when the build has ended, however it did; and what its steps wrote, as
//! they do ([`logs`]).
//!
//! ```text
//! {"format": 1, "command": "build", "target": "+app", "args": ["TAG"], "started_unix_ms": …, "duration_ms": …,
//!  "outcome": "done" | "failed" | "interrupted", "exit_code": 0, "left_out": 0, "steps": [
//!    {"name": "+app | RUN make", "vertex": "sha256:…", "step": true,
//!     "verdict": "cached" | "ran" | "failed" | "cancelled" | "not_needed",
//!     "key": "fast",                             of what was cached
//!     "reason": "…", "miss": {"why": …},         of what missed: for people, and as `rb_api::Miss`
//!     "shared_with": "sha256:…",                 of what waited for an equal one
//!     "duration_ms": 12, "message": "…"}]}       of what ran; of what failed
//! ```
//!
//! **Invariant:** no value of an argument, a secret or a variable is in the record, and no output of a command; names of
//! steps are as the Buildfile has them. A record that cannot be written ends no build.

mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rb_api::{CacheKey, CacheVerdict, Event, EventKind, EventSink};
use rb_oci::Digest;
use rb_store::Store;
use serde_json::{Value, json};

use crate::args::TargetCall;
use crate::report::Failure;
use logs::{Ended, StepLogs};

/// Number of the document's format.
const FORMAT: u32 = 1;

/// So many steps are kept, the first ones; of a name or message so many characters.
const MOST_STEPS: usize = 5_000;
const LONGEST_TEXT: usize = 300;

/// What `rb` was asked for, as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    command: &'static str,
    target: String,
    /// Names of the target's arguments.
    args: Vec<String>,
}

impl Asked {
    /// A command on a target.
    pub(super) fn of_target(command: &'static str, call: &TargetCall) -> Self {
        let args = call.args.keys().cloned().collect();
        Self { command, target: call.word.clone(), args }
    }

    /// A command on targets.
    pub(super) fn of_targets(command: &'static str, calls: &[TargetCall]) -> Self {
        let words: Vec<&str> = calls.iter().map(|call| call.word.as_str()).collect();
        let names: BTreeSet<&String> = calls.iter().flat_map(|call| call.args.keys()).collect();
        Self { command, target: cut(&words.join(" ")), args: names.into_iter().cloned().collect() }
    }

    /// A command on something else.
    pub(super) fn of(command: &'static str, what: impl Into<String>) -> Self {
        Self { command, target: what.into(), args: Vec::new() }
    }

    /// Returns it as one line: `rb +app`, `rb run +app`.
    pub(super) fn title(&self) -> String {
        match self.command {
            "build" => format!("rb {}", self.target),
            command => format!("rb {command} {}", self.target),
        }
    }
}

/// Hears of one build and writes its record.
pub(super) struct Recorder {
    asked: Asked,
    began: Instant,
    /// The same since 1970.
    started: Duration,
    heard: Arc<Mutex<Heard>>,
    logs: Arc<StepLogs>,
}

/// What was heard so far.
#[derive(Default)]
struct Heard {
    /// There is a job, so there is something to tell.
    has_job: bool,
    by_vertex: BTreeMap<Digest, usize>,
    steps: Vec<Step>,
    left_out: usize,
}

struct Step {
    vertex: Digest,
    name: String,
    counted: bool,
    verdict: Option<Verdict>,
    reason: Option<CacheVerdict>,
    shared_with: Option<Digest>,
    started: Option<Instant>,
    duration: Option<Duration>,
}

enum Verdict {
    Cached(CacheKey),
    Ran,
    Failed(String),
    Cancelled,
}

impl Recorder {
    /// Begins to listen; what is kept lies in `store`.
    pub(super) fn new(asked: Asked, store: &Store) -> Self {
        let started = store.clock().now();
        let head = json!({
            "format": FORMAT, "command": asked.command, "target": asked.target, "args": asked.args,
            "started_unix_ms": milliseconds(started),
        });
        let logs = Arc::new(StepLogs::new(store.clone(), started, head));
        Self { asked, began: Instant::now(), started, heard: Arc::default(), logs }
    }

    /// Returns where the events of a job go: here, and on to `next`.
    pub(super) fn sink(&self, next: EventSink) -> EventSink {
        lock(&self.heard).has_job = true;
        let (heard, logs) = (Arc::clone(&self.heard), Arc::clone(&self.logs));
        Arc::new(move |event| {
            let vertex = event.vertex;
            match &event.kind {
                EventKind::Log { bytes, .. } => logs.write(vertex, bytes, || lock(&heard).name(&vertex)),
                EventKind::Done { .. } => logs.end(&vertex, &Ended::Done),
                EventKind::Failed { message } => logs.end(&vertex, &Ended::Failed(message)),
                EventKind::Cancelled => logs.end(&vertex, &Ended::Cancelled),
                EventKind::Added { .. }
                | EventKind::Cached { .. }
                | EventKind::Missed { .. }
                | EventKind::Shared { .. }
                | EventKind::Started
                | EventKind::Progress(_) => {}
            }
            if !matches!(event.kind, EventKind::Log { .. } | EventKind::Progress(_)) {
                lock(&heard).take(&event, Instant::now());
            }
            next(event);
        })
    }

    /// Writes the record of a build that has ended so, and adds to a failure where its log is; does nothing, if there was
    /// no job since the last one.
    pub(super) fn write<T>(&self, store: &Store, ended: Result<T, Failure>) -> Result<T, Failure> {
        let heard = std::mem::take(&mut *lock(&self.heard));
        if !heard.has_job {
            return ended;
        }
        let document = self.document(&heard, ended.as_ref().err());
        let exit_code = document["exit_code"].as_u64().and_then(|code| u8::try_from(code).ok());
        self.logs.close(document["outcome"].as_str().unwrap_or_default(), exit_code.unwrap_or_default());
        if let Err(error) = store.put_build(self.started, document.to_string().as_bytes()) {
            tracing::warn!(%error, "the record of this build is not kept");
        }
        ended.map_err(|failure| match failure.is_of_a_command() {
            true => {
                let log = self.logs.failed(&failure.message());
                failure.logged(log)
            }
            false => failure,
        })
    }

    fn document(&self, heard: &Heard, failure: Option<&Failure>) -> Value {
        let outcome = match failure {
            None | Some(Failure::Unheard) => "done",
            Some(Failure::Interrupted(_)) => "interrupted",
            Some(
                Failure::Diagnostics { .. }
                | Failure::Solve { .. }
                | Failure::Said { .. }
                | Failure::With { .. }
                | Failure::Several(_),
            ) => "failed",
        };
        json!({
            "format": FORMAT,
            "command": self.asked.command,
            "target": self.asked.target,
            "args": self.asked.args,
            "started_unix_ms": milliseconds(self.started),
            "duration_ms": milliseconds(self.began.elapsed()),
            "outcome": outcome,
            "exit_code": failure.map_or(0, Failure::exit_code),
            "left_out": heard.left_out,
            "steps": heard.steps.iter().map(Step::document).collect::<Vec<_>>(),
        })
    }
}

impl Heard {
    /// Returns what a vertex is called.
    fn name(&self, vertex: &Digest) -> String {
        let step = self.by_vertex.get(vertex).and_then(|at| self.steps.get(*at));
        step.map_or_else(|| vertex.short(), |step| step.name.clone())
    }

    fn take(&mut self, event: &Event, now: Instant) {
        if let EventKind::Added { name, step } = &event.kind {
            if self.by_vertex.contains_key(&event.vertex) {
                return;
            }
            if self.steps.len() == MOST_STEPS {
                self.left_out += 1;
                return;
            }
            self.by_vertex.insert(event.vertex, self.steps.len());
            self.steps.push(Step::new(event.vertex, name, *step));
            return;
        }
        if let Some(step) = self.by_vertex.get(&event.vertex).and_then(|at| self.steps.get_mut(*at)) {
            step.take(&event.kind, now);
        }
    }
}

impl Step {
    fn new(vertex: Digest, name: &str, counted: bool) -> Self {
        Self {
            vertex,
            name: cut(name),
            counted,
            verdict: None,
            reason: None,
            shared_with: None,
            started: None,
            duration: None,
        }
    }

    fn take(&mut self, kind: &EventKind, now: Instant) {
        match kind {
            EventKind::Missed { reason } => self.reason = Some(reason.clone()),
            EventKind::Shared { with } => self.shared_with = Some(*with),
            EventKind::Cached { key } => self.verdict = Some(Verdict::Cached(*key)),
            EventKind::Started => self.started = Some(now),
            EventKind::Done { duration } => {
                self.verdict = Some(Verdict::Ran);
                self.duration = Some(*duration);
            }
            EventKind::Failed { message } => {
                self.verdict = Some(Verdict::Failed(cut(message)));
                self.duration = self.started.map(|started| now.saturating_duration_since(started));
            }
            EventKind::Cancelled => {
                self.verdict = Some(Verdict::Cancelled);
                self.duration = self.started.map(|started| now.saturating_duration_since(started));
            }
            EventKind::Added { .. } | EventKind::Log { .. } | EventKind::Progress(_) => {}
        }
    }

    fn document(&self) -> Value {
        let mut value = json!({
            "name": self.name, "vertex": self.vertex.to_string(), "step": self.counted,
        });
        let mut add = |name: &str, field: Value| value[name] = field;
        match &self.verdict {
            Some(Verdict::Cached(key)) => {
                add("verdict", json!("cached"));
                add("key", json!(key));
            }
            Some(Verdict::Ran) => add("verdict", json!("ran")),
            Some(Verdict::Failed(message)) => {
                add("verdict", json!("failed"));
                add("message", json!(message));
            }
            Some(Verdict::Cancelled) => add("verdict", json!("cancelled")),
            // What has begun and not ended was on its way when `rb` ended.
            None if self.started.is_some() || self.reason.is_some() || self.shared_with.is_some() => {
                add("verdict", json!("cancelled"));
            }
            None => add("verdict", json!("not_needed")),
        }
        if let Some(CacheVerdict { miss, text }) = &self.reason {
            add("reason", json!(text));
            add("miss", json!(miss));
        }
        if let Some(with) = self.shared_with.filter(|with| *with != self.vertex) {
            add("shared_with", json!(with.to_string()));
        }
        if let Some(duration) = self.duration {
            add("duration_ms", json!(milliseconds(duration)));
        }
        value
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().expect("no holder of this lock panics")
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
