//! What is kept of each build: what was asked for, and of each step whether it ran, and why.
//!
//! In: the events of a build's jobs, on their way to the progress. Out: one JSON document in the store
//! ([`rb_store::Store::put_build`]), written once, when the build has ended, however it did.
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
//! **Invariant:** no value of an argument, a secret or a variable is in it, and no output of a command; names of steps are
//! as the Buildfile has them. A record that cannot be written ends no build.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rb_api::{CacheKey, CacheVerdict, Event, EventKind, EventSink};
use rb_oci::Digest;
use rb_store::Store;
use serde_json::{Value, json};

use crate::args::TargetCall;
use crate::report::Failure;

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
    /// Begins to listen at `started`, since 1970.
    pub(super) fn new(asked: Asked, started: Duration) -> Self {
        Self { asked, began: Instant::now(), started, heard: Arc::default() }
    }

    /// Returns where the events of a job go: here, and on to `next`.
    pub(super) fn sink(&self, next: EventSink) -> EventSink {
        self.heard.lock().expect("no holder of this lock panics").has_job = true;
        let heard = Arc::clone(&self.heard);
        Arc::new(move |event| {
            heard.lock().expect("no holder of this lock panics").take(&event, Instant::now());
            next(event);
        })
    }

    /// Writes the record of a build that has ended so; nothing, if there was no job since the last one.
    pub(super) fn write<T>(&self, store: &Store, ended: &Result<T, Failure>) {
        let heard = std::mem::take(&mut *self.heard.lock().expect("no holder of this lock panics"));
        if !heard.has_job {
            return;
        }
        let document = self.document(&heard, ended.as_ref().err());
        if let Err(error) = store.put_build(self.started, document.to_string().as_bytes()) {
            tracing::warn!(%error, "the record of this build is not kept");
        }
    }

    fn document(&self, heard: &Heard, failure: Option<&Failure>) -> Value {
        let outcome = match failure {
            None | Some(Failure::Unheard) => "done",
            Some(Failure::Interrupted(_)) => "interrupted",
            Some(Failure::Diagnostics { .. } | Failure::Solve { .. } | Failure::Said { .. }) => "failed",
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
    fn take(&mut self, event: &Event, now: Instant) {
        if let EventKind::Log { .. } | EventKind::Progress { .. } = event.kind {
            return;
        }
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
            EventKind::Added { .. } | EventKind::Log { .. } | EventKind::Progress { .. } => {}
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

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use rb_api::Miss;

    use super::*;

    #[test]
    fn each_step_has_its_verdict() {
        let asked = Asked { command: "build", target: "+app".to_owned(), args: vec!["TAG".to_owned()] };
        let recorder = Recorder::new(asked, Duration::from_millis(1_500));
        let passed = Arc::new(Mutex::new(0));
        let count = Arc::clone(&passed);
        let sink = recorder.sink(Arc::new(move |_| *count.lock().expect("counts") += 1));
        let reason = CacheVerdict { miss: Miss::NeverSeen, text: "never built before".to_owned() };
        let missed = || EventKind::Missed { reason: reason.clone() };
        let done = || EventKind::Done { duration: Duration::from_millis(12) };
        let story = [
            ("a", vec![EventKind::Cached { key: CacheKey::Content }]),
            ("b", vec![missed(), EventKind::Started, done()]),
            (
                "c",
                vec![missed(), EventKind::Started, EventKind::Failed { message: "exit code 3".to_owned() }],
            ),
            ("d", vec![missed(), EventKind::Cancelled]),
            ("e", vec![]),
            ("f", vec![EventKind::Shared { with: Digest::of("b") }, done()]),
            ("g", vec![missed()]),
        ];
        for (name, kinds) in story {
            let added = EventKind::Added { name: name.to_owned(), step: true };
            for kind in [added].into_iter().chain(kinds) {
                sink(Event { vertex: Digest::of(name), kind });
            }
        }
        assert_eq!(*passed.lock().expect("counts"), 19);
        let heard = recorder.heard.lock().expect("no holder of this lock panics");
        let document = recorder.document(&heard, Some(&Failure::input("x", None)));
        let told: Vec<(String, bool)> = document["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .map(|step| {
                (format!("{} {}", step["name"], step["verdict"]).replace('"', ""), step["miss"].is_object())
            })
            .collect();
        let expected = [
            ("a cached", false),
            ("b ran", true),
            ("c failed", true),
            ("d cancelled", true),
            ("e not_needed", false),
            ("f ran", false),
            ("g cancelled", true),
        ];
        assert_eq!(told, expected.map(|(words, missed)| (words.to_owned(), missed)));
        let step = |at: usize| &document["steps"][at];
        assert_eq!(step(1)["miss"], json!({ "why": "never_seen" }));
        assert_eq!(step(5)["shared_with"], json!(Digest::of("b").to_string()));
        assert_eq!((&step(0)["key"], &step(1)["duration_ms"]), (&json!("content"), &json!(12)));
        assert_eq!((&document["outcome"], &document["exit_code"]), (&json!("failed"), &json!(2)));
        assert_eq!(document["started_unix_ms"], json!(1_500));
    }

    #[test]
    fn a_record_is_bounded() {
        let recorder = Recorder::new(Asked::of("build", "+app"), Duration::ZERO);
        let sink = recorder.sink(Arc::new(|_| {}));
        for number in 0..=MOST_STEPS {
            let kind = EventKind::Added { name: "n".repeat(10_000), step: true };
            sink(Event { vertex: Digest::of(number.to_string()), kind });
        }
        let heard = recorder.heard.lock().expect("no holder of this lock panics");
        let document = recorder.document(&heard, None);
        assert_eq!(document["left_out"], json!(1));
        assert!(document.to_string().len() < 4 << 20);
    }
}
