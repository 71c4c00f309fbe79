//! What is heard of the vertices of a build, on its way into a [`Document`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rb_api::{CacheKey, CacheVerdict, Event, EventKind, EventSink, FileList, KeyPart, KeyParts};
use rb_oci::Digest;

use super::document::{Document, FORMAT, RecordStep, Verdict};

/// So many steps are kept, the first ones; of a name or message so many characters.
pub(super) const MOST_STEPS: usize = 5_000;
const LONGEST_TEXT: usize = 300;

/// What was heard so far.
#[derive(Default)]
pub(super) struct Heard {
    /// There is a job, so there is something to tell.
    pub(super) has_job: bool,
    by_vertex: BTreeMap<Digest, usize>,
    steps: Vec<Step>,
    left_out: usize,
}

/// Lists of files by their digests.
pub(in crate::commands) type Lists = BTreeMap<Digest, FileList>;

struct Step {
    vertex: Digest,
    name: String,
    counted: bool,
    parts: Option<Arc<KeyParts>>,
    ended: Option<Ended>,
    reason: Option<CacheVerdict>,
    shared_with: Option<Digest>,
    started: Option<Instant>,
    duration: Option<Duration>,
    bytes: BTreeMap<String, u64>,
}

enum Ended {
    Cached(CacheKey, Option<String>),
    Ran,
    Failed(String),
    Cancelled,
}

/// Hears of a job of which no record is written.
#[derive(Clone, Default)]
pub(in crate::commands) struct Listener(Arc<Mutex<Heard>>);

impl Listener {
    /// Returns where the events of a job go: here, and on to `next`.
    pub(in crate::commands) fn sink(&self, next: EventSink) -> EventSink {
        let heard = Arc::clone(&self.0);
        Arc::new(move |event| {
            if !matches!(event.kind, EventKind::Log { .. }) {
                lock(&heard).take(&event, Instant::now());
            }
            next(event);
        })
    }

    /// Returns what was heard so far, as a record would have it.
    pub(in crate::commands) fn document(&self) -> (Document, Lists) {
        lock(&self.0).document(Instant::now())
    }
}

pub(super) fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().expect("no holder of this lock panics")
}

impl Heard {
    /// Returns what a vertex is called.
    pub(super) fn name(&self, vertex: &Digest) -> String {
        let step = self.by_vertex.get(vertex).and_then(|at| self.steps.get(*at));
        step.map_or_else(|| vertex.short(), |step| step.name.clone())
    }

    pub(super) fn take(&mut self, event: &Event, now: Instant) {
        if let EventKind::Added { name, step, inputs: _ } = &event.kind {
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

    /// Returns what is known of the steps of a build that `began` then, and the lists that go with them.
    pub(super) fn document(&self, began: Instant) -> (Document, Lists) {
        let mut lists = Lists::new();
        let mut known: BTreeMap<KeyPart, usize> = BTreeMap::new();
        let mut parts: Vec<KeyPart> = Vec::new();
        let mut places = |of: &[KeyPart]| -> Vec<usize> {
            let place = |part: &KeyPart| {
                *known.entry(part.clone()).or_insert_with(|| {
                    parts.push(part.clone());
                    parts.len() - 1
                })
            };
            of.iter().map(place).collect()
        };
        let steps = self.steps.iter().map(|step| {
            let mut document = step.document(began);
            if let Some(KeyParts { inputs, own, about, files, place }) = step.parts.as_deref() {
                let input = |(vertex, index): &(Digest, u32)| (self.by_vertex.get(vertex).copied(), *index);
                document.inputs = inputs.iter().map(input).collect();
                (document.own, document.about) = (places(own), places(about));
                document.place.clone_from(place);
                document.files = files.as_ref().map(|files| files.digest);
                lists.extend(files.iter().map(|files| (files.digest, files.clone())));
            }
            document
        });
        let steps = steps.collect();
        (Document { format: FORMAT, left_out: self.left_out, parts, steps, ..Document::default() }, lists)
    }
}

impl Step {
    fn new(vertex: Digest, name: &str, counted: bool) -> Self {
        Self {
            vertex,
            name: cut(name),
            counted,
            parts: None,
            ended: None,
            reason: None,
            shared_with: None,
            started: None,
            duration: None,
            bytes: BTreeMap::new(),
        }
    }

    fn take(&mut self, kind: &EventKind, now: Instant) {
        match kind {
            EventKind::Keyed { parts } => self.parts = Some(Arc::clone(parts)),
            EventKind::Missed { reason } => self.reason = Some(reason.clone()),
            EventKind::Shared { with } => self.shared_with = Some(*with),
            EventKind::Cached { key, from } => {
                self.ended = Some(Ended::Cached(*key, from.as_deref().map(cut)));
            }
            EventKind::Started => self.started = Some(now),
            EventKind::Progress(progress) => {
                let doing = progress.doing.split(' ').next().unwrap_or_default();
                if let Some(known) = self.bytes.get_mut(doing) {
                    *known = progress.current.max(*known);
                } else if progress.current > 0 {
                    self.bytes.insert(cut(doing), progress.current);
                }
            }
            EventKind::Done { duration } => {
                self.ended = Some(Ended::Ran);
                self.duration = Some(*duration);
            }
            EventKind::Failed { message } => {
                self.ended = Some(Ended::Failed(cut(message)));
                self.duration = self.started.map(|started| now.saturating_duration_since(started));
            }
            EventKind::Cancelled => {
                self.ended = Some(Ended::Cancelled);
                self.duration = self.started.map(|started| now.saturating_duration_since(started));
            }
            EventKind::Added { .. } | EventKind::Log { .. } => {}
        }
    }

    fn document(&self, began: Instant) -> RecordStep {
        let has_begun = self.started.is_some() || self.reason.is_some() || self.shared_with.is_some();
        let from = match &self.ended {
            Some(Ended::Cached(_, from)) => from.clone(),
            _ => None,
        };
        let (verdict, key, message) = match &self.ended {
            Some(Ended::Cached(key, _)) => (Verdict::Cached, Some(*key), None),
            Some(Ended::Ran) => (Verdict::Ran, None, None),
            Some(Ended::Failed(message)) => (Verdict::Failed, None, Some(message.clone())),
            Some(Ended::Cancelled) => (Verdict::Cancelled, None, None),
            // What has begun and not ended was on its way when `rb` ended.
            None if has_begun => (Verdict::Cancelled, None, None),
            None => (Verdict::NotNeeded, None, None),
        };
        RecordStep {
            step: self.counted,
            key,
            from,
            reason: self.reason.as_ref().map(|reason| reason.text.clone()),
            miss: self.reason.as_ref().map(|reason| reason.miss.clone()),
            shared_with: self.shared_with.filter(|with| *with != self.vertex),
            began_ms: self.started.map(|started| milliseconds(started.saturating_duration_since(began))),
            duration_ms: self.duration.map(milliseconds),
            message,
            bytes: self.bytes.clone(),
            ..RecordStep::of(&self.name, self.vertex, verdict)
        }
    }
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
