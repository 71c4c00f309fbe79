//! The vertices of a job as a daemon tells of them, in the words of the API.
//!
//! In: what was asked for ([`Vertices::expect`]) and the status stream of each build of the job. Out: events, each step's last
//! lines, counts. A job has several builds at the daemon; a vertex that ended in one is not told of again, and what it wrote, which the
//! daemon says once more in each build that has it, is heard from the first alone. Values of secrets that steps of the job are lent are struck
//! out of what any of them writes.
//! **Invariant:** a vertex is added before anything else is told of it, and ends once.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost_types::Timestamp;
use rb_api::{
    CacheKey, CacheVerdict, Event, EventKind, EventSink, KeyParts, LogStream, Miss, Progress, Summary,
};
use rb_llb::{Edge, Graph, MountKind, Op};
use rb_oci::Digest;
use rb_session::{Redactor, Secret, Session};
use rb_wire::control::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};
use rb_wire::diffcopy::Entry;

use crate::parts::{self, Asked, Folders};

/// Last lines of a step that are kept.
const TAIL_LINES: usize = 40;
/// Bytes of one of them.
const LINE_BYTES: usize = 4096;
/// A daemon may tell of so many vertices beside those that were asked for.
const STRANGERS: usize = 100_000;

/// All that is known of a job's vertices.
pub(crate) struct Vertices {
    known: Mutex<BTreeMap<Digest, Known>>,
    events: EventSink,
    session: Arc<dyn Session>,
    /// Nothing is looked up.
    no_cache: bool,
    /// Folders that no daemon has asked for yet.
    folders: Mutex<Folders>,
    /// What steps are lent, by id.
    secrets: Mutex<BTreeMap<String, Secret>>,
}

#[derive(Default)]
struct Known {
    /// What the frontend calls it; nothing of one that only the daemon knows.
    own: Option<Digest>,
    name: String,
    op: Option<Op>,
    /// What its key is made of, as far as its graph tells.
    parts: Option<Arc<KeyParts>>,
    /// What the daemon calls its inputs.
    below: Vec<Digest>,
    /// It was told not to look.
    looks_not: bool,
    is_told: bool,
    is_started: bool,
    ended: Option<Ended>,
    /// The build that first told what it wrote.
    heard_in: Option<String>,
    tail: VecDeque<String>,
    /// The last line has no end yet.
    is_open: bool,
    /// Of its stdout and stderr, while it runs.
    redactors: [Option<Redactor>; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Executed,
    Cached,
    Failed,
}

/// A vertex that failed.
pub(crate) struct Failed {
    /// What the frontend calls it.
    pub(crate) vertex: Digest,
    pub(crate) name: String,
    pub(crate) op: Option<Op>,
    pub(crate) tail: Vec<String>,
}

impl Known {
    fn is_step(&self) -> bool {
        matches!(self.op, Some(Op::Exec(_) | Op::File(_)))
    }
}

impl Vertices {
    pub(crate) fn new(events: EventSink, session: Arc<dyn Session>, no_cache: bool) -> Self {
        Self {
            known: Mutex::default(),
            events,
            session,
            no_cache,
            folders: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// Takes the names and ops of a graph that is about to be solved, and what its vertices are called at the daemon.
    pub(crate) fn expect(&self, graph: &Graph, sent: &BTreeMap<Digest, Digest>) {
        let mut known = self.lock();
        for vertex in graph.vertices() {
            self.note_secrets(&vertex.op);
            let there = sent.get(&vertex.digest).copied().unwrap_or(vertex.digest);
            let entry = known.entry(there).or_default();
            if entry.op.is_none() {
                entry.own = Some(vertex.digest);
                entry.name = graph.name(vertex);
                entry.op = Some(vertex.op.clone());
                entry.parts = Some(Arc::new(parts::of(graph, vertex)));
                let named = |edge: &Edge| sent.get(&edge.vertex).copied().unwrap_or(edge.vertex);
                entry.below = vertex.inputs.iter().map(named).collect();
                entry.looks_not = self.no_cache || graph.meta(&vertex.digest).ignore_cache;
                if let Op::Source(source) = &vertex.op
                    && let Some(asked) = Asked::of_source(source)
                {
                    let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
                    folders.entry(asked).or_default().push(there);
                }
            }
        }
    }

    /// Hears what of a folder a daemon is told. In one job that is the same, however often it asks.
    pub(crate) fn lent(&self, asked: &Asked, entries: &Arc<[Entry]>) {
        let vertices = self.folders.lock().unwrap_or_else(PoisonError::into_inner).remove(asked);
        let mut events = Vec::new();
        {
            let mut known = self.lock();
            for there in vertices.unwrap_or_default() {
                let Some(entry) = known.get_mut(&there) else { continue };
                let Some(parts) = &entry.parts else { continue };
                let parts = Arc::new(parts::with_files(parts, entries));
                entry.parts = Some(Arc::clone(&parts));
                // Of one that is yet to be told of, it is told then.
                if entry.is_told {
                    let vertex = entry.own.unwrap_or(there);
                    events.push(Event { vertex, kind: EventKind::Keyed { parts } });
                }
            }
        }
        events.into_iter().for_each(|event| (self.events)(event));
    }

    /// Notes which secrets a step will see.
    fn note_secrets(&self, op: &Op) {
        let Op::Exec(exec) = op else { return };
        let files = exec.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Secret(secret) => Some(&secret.id),
            _ => None,
        });
        let ids = files.chain(exec.secret_env.iter().map(|wanted| &wanted.id));
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            if let Some(secret) = self.session.secret(id) {
                secrets.insert(id.clone(), secret);
            }
        }
    }

    fn redactor(&self) -> Redactor {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        Redactor::new(&secrets.values().cloned().collect::<Vec<_>>())
    }

    /// Hears a piece of the status stream of `build`.
    pub(crate) fn hear(&self, build: &str, status: StatusResponse) {
        let StatusResponse { vertexes, statuses, logs, warnings } = status;
        let mut events = Vec::new();
        {
            let mut known = self.lock();
            vertexes.into_iter().for_each(|vertex| hear_vertex(&mut known, vertex, &mut events));
            statuses.into_iter().for_each(|status| hear_progress(&mut known, status, &mut events));
            warnings.into_iter().for_each(|warning| hear_warning(&mut known, &warning, &mut events));
            let redactor = || self.redactor();
            logs.into_iter().for_each(|log| hear_log(&mut known, build, log, &redactor, &mut events));
        }
        events.into_iter().for_each(|event| (self.events)(event));
    }

    /// Forgets what a daemon that went away said of what it had not ended: another one begins with that anew.
    pub(crate) fn begin_anew(&self) {
        let mut events = Vec::new();
        for known in self.lock().values_mut().filter(|known| known.ended.is_none()) {
            known.heard_in = None;
            known.redactors = [None, None];
            known.tail.clear();
            known.is_open = false;
            if std::mem::replace(&mut known.is_started, false)
                && let Some(vertex) = known.own
            {
                events.push(Event { vertex, kind: EventKind::Cancelled });
            }
        }
        events.into_iter().for_each(|event| (self.events)(event));
    }

    /// Whether a vertex is known to have failed.
    pub(crate) fn has_failed(&self, vertex: &Digest) -> bool {
        self.lock().get(vertex).is_some_and(|known| known.ended == Some(Ended::Failed))
    }

    /// Returns the names of what has begun and not ended; steps come first.
    pub(crate) fn running(&self) -> Vec<String> {
        let known = self.lock();
        let runs = known.values().filter(|known| known.is_started && known.ended.is_none());
        let (steps, others): (Vec<&Known>, Vec<&Known>) = runs.partition(|known| known.is_step());
        let which = if steps.is_empty() { others } else { steps };
        which.into_iter().map(|known| known.name.clone()).collect()
    }

    /// Returns what a vertex does, if the frontend knows it.
    pub(crate) fn op(&self, vertex: &Digest) -> Option<Op> {
        self.lock().get(vertex)?.op.clone()
    }

    /// Returns what is known of a vertex that failed. That it did is told now, if the daemon has not.
    pub(crate) fn failed(&self, vertex: &Digest, message: &str) -> Failed {
        let mut events = Vec::new();
        let failed = {
            let mut known = self.lock();
            let entry = known.entry(*vertex).or_default();
            let own = entry.own.unwrap_or(*vertex);
            tell(own, entry, Vec::new(), &mut events);
            flush(own, entry, &mut events);
            if entry.ended.is_none() {
                entry.ended = Some(Ended::Failed);
                events.push(Event { vertex: own, kind: EventKind::Failed { message: message.to_owned() } });
            }
            let tail = entry.tail.iter().cloned().collect();
            Failed { vertex: own, name: entry.name.clone(), op: entry.op.clone(), tail }
        };
        events.into_iter().for_each(|event| (self.events)(event));
        failed
    }

    /// Counts the steps that were asked for. What is not told of was not needed.
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for known in self.lock().values().filter(|known| known.is_step()) {
            match known.ended {
                Some(Ended::Executed) => summary.executed += 1,
                Some(Ended::Cached) => summary.cached += 1,
                Some(Ended::Failed) => {}
                None => summary.skipped += 1,
            }
        }
        summary
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Known>> {
        // Each entry is changed by single steps, so a panicked holder leaves it whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(vertex: Digest, known: &mut Known, inputs: Vec<Digest>, events: &mut Vec<Event>) {
    if !std::mem::replace(&mut known.is_told, true) {
        let kind = EventKind::Added { name: known.name.clone(), step: known.is_step(), inputs };
        events.push(Event { vertex, kind });
        if let Some(parts) = known.parts.clone() {
            events.push(Event { vertex, kind: EventKind::Keyed { parts } });
        }
    }
}

/// Tells of all that a vertex takes before it: a daemon tells of them in any order, and records are read inputs first.
fn tell_below(known: &mut BTreeMap<Digest, Known>, there: Digest, events: &mut Vec<Event>) {
    let mut open = vec![(there, false)];
    while let Some((at, is_seen)) = open.pop() {
        let Some(entry) = known.get(&at).filter(|entry| !entry.is_told) else { continue };
        if !is_seen {
            open.push((at, true));
            open.extend(entry.below.iter().map(|below| (*below, false)));
            continue;
        }
        if at == there {
            continue;
        }
        let own = |below: &Digest| known.get(below).and_then(|known| known.own).unwrap_or(*below);
        let inputs = entry.below.iter().map(own).collect();
        let Some(entry) = known.get_mut(&at) else { continue };
        tell(entry.own.unwrap_or(at), entry, inputs, events);
    }
}

/// Finds a vertex by what a daemon calls it, and what the frontend does; none where that is no digest, or of strangers too many.
fn entry<'k>(known: &'k mut BTreeMap<Digest, Known>, digest: &str) -> Option<(Digest, &'k mut Known)> {
    let digest: Digest = digest.parse().ok()?;
    if known.len() >= STRANGERS && !known.contains_key(&digest) {
        return None;
    }
    let entry = known.entry(digest).or_default();
    Some((entry.own.unwrap_or(digest), entry))
}

fn hear_vertex(known: &mut BTreeMap<Digest, Known>, vertex: Vertex, events: &mut Vec<Event>) {
    let Vertex { digest, inputs, name, cached, started, completed, error } = vertex;
    // As the frontend calls them, where it knows them.
    let own = |input: Digest| known.get(&input).and_then(|known| known.own).unwrap_or(input);
    let inputs = inputs.iter().filter_map(|input| input.parse().ok().map(own)).collect();
    if let Ok(there) = digest.parse() {
        tell_below(known, there, events);
    }
    let Some((digest, entry)) = entry(known, &digest) else { return };
    if entry.name.is_empty() {
        entry.name = name.chars().filter(|letter| !letter.is_control()).take(500).collect();
    }
    tell(digest, entry, inputs, events);
    if entry.ended.is_some() {
        return;
    }
    if completed.is_some() || !error.is_empty() {
        flush(digest, entry, events);
    }
    let step = entry.is_step().then_some(entry.looks_not);
    let mut push = |kind| events.push(Event { vertex: digest, kind });
    if !error.is_empty() {
        // Of what was stopped because of another failure nothing is wrong.
        if error.contains("context canceled") {
            push(EventKind::Cancelled);
            return;
        }
        entry.ended = Some(Ended::Failed);
        push(EventKind::Failed { message: super::error::classify(entry.op.as_ref(), &error).1 });
        return;
    }
    match (cached, &started, &completed) {
        (true, _, _) => {
            entry.ended = Some(Ended::Cached);
            push(EventKind::Cached { key: CacheKey::Fast, from: None });
        }
        (false, Some(_), None) if !entry.is_started => {
            entry.is_started = true;
            missed(step, &mut push);
            push(EventKind::Started);
        }
        (false, started, Some(completed)) => {
            if !std::mem::replace(&mut entry.is_started, true) {
                missed(step, &mut push);
                push(EventKind::Started);
            }
            entry.ended = Some(Ended::Executed);
            let duration = started.as_ref().map(|started| between(started, completed)).unwrap_or_default();
            push(EventKind::Done { duration });
        }
        (false, _, None) => {}
    }
}

/// Tells of a step that runs what is known of why: the daemon tells nothing of that.
fn missed(step: Option<bool>, push: &mut dyn FnMut(EventKind)) {
    let Some(looks_not) = step else { return };
    let (miss, text) = match looks_not {
        true => (Miss::IgnoreCache { inherited_from: None }, "it was told not to use the cache"),
        false => (Miss::Untold, "the engine does not tell why"),
    };
    push(EventKind::Missed { reason: CacheVerdict { miss, text: text.to_owned() } });
}

fn between(from: &Timestamp, to: &Timestamp) -> Duration {
    let seconds = |time: &Timestamp| {
        Duration::new(time.seconds.max(0).unsigned_abs(), time.nanos.clamp(0, 999_999_999).unsigned_abs())
    };
    seconds(to).saturating_sub(seconds(from))
}

fn hear_progress(known: &mut BTreeMap<Digest, Known>, status: VertexStatus, events: &mut Vec<Event>) {
    let VertexStatus { id, vertex, name, current, total, completed, .. } = status;
    let Some((digest, entry)) = entry(known, &vertex) else { return };
    if completed.is_some() || entry.ended.is_some() {
        return;
    }
    tell(digest, entry, Vec::new(), events);
    let words = if name.is_empty() { id } else { name };
    let words: String =
        words.trim_end_matches(':').chars().filter(|letter| !letter.is_control()).take(100).collect();
    let progress = Progress {
        doing: Cow::Owned(words),
        current: u64::try_from(current).unwrap_or(0),
        total: u64::try_from(total).ok().filter(|total| *total > 0),
        files: None,
    };
    events.push(Event { vertex: digest, kind: EventKind::Progress(progress) });
}

fn hear_warning(known: &mut BTreeMap<Digest, Known>, warning: &VertexWarning, events: &mut Vec<Event>) {
    let Some((digest, entry)) = entry(known, &warning.vertex) else { return };
    tell(digest, entry, Vec::new(), events);
    let text = format!("warning: {}\n", String::from_utf8_lossy(&warning.short));
    events.push(Event {
        vertex: digest,
        kind: EventKind::Log { stream: LogStream::Stderr, bytes: Bytes::from(text) },
    });
}

fn hear_log(
    known: &mut BTreeMap<Digest, Known>,
    build: &str,
    log: VertexLog,
    redactor: &dyn Fn() -> Redactor,
    events: &mut Vec<Event>,
) {
    let Some((digest, entry)) = entry(known, &log.vertex) else { return };
    if entry.heard_in.get_or_insert_with(|| build.to_owned()) != build {
        return;
    }
    tell(digest, entry, Vec::new(), events);
    let stream = if log.stream == 2 { LogStream::Stderr } else { LogStream::Stdout };
    let mut certain = Vec::new();
    let [out, err] = &mut entry.redactors;
    let of_stream = if stream == LogStream::Stderr { err } else { out };
    of_stream.get_or_insert_with(redactor).push(&log.msg, &mut |bytes| certain.extend_from_slice(bytes));
    written(digest, entry, stream, certain.into(), events);
}

/// Hands on what was held back, since it might have become a secret's value.
fn flush(vertex: Digest, known: &mut Known, events: &mut Vec<Event>) {
    for (at, stream) in [LogStream::Stdout, LogStream::Stderr].into_iter().enumerate() {
        let Some(redactor) = known.redactors.get_mut(at).and_then(Option::take) else { continue };
        let mut rest = Vec::new();
        redactor.finish(&mut |bytes| rest.extend_from_slice(bytes));
        written(vertex, known, stream, rest.into(), events);
    }
}

/// Keeps the last lines of what a step wrote, and tells of it.
fn written(vertex: Digest, known: &mut Known, stream: LogStream, bytes: Bytes, events: &mut Vec<Event>) {
    if bytes.is_empty() {
        return;
    }
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(piece);
        let text = text.trim_end_matches(['\n', '\r']);
        if !known.is_open {
            if known.tail.len() == TAIL_LINES {
                known.tail.pop_front();
            }
            known.tail.push_back(String::new());
        }
        known.is_open = !piece.ends_with(b"\n");
        if let Some(line) = known.tail.back_mut() {
            line.extend(text.chars().take(LINE_BYTES.saturating_sub(line.len())));
        }
    }
    events.push(Event { vertex, kind: EventKind::Log { stream, bytes } });
}

#[cfg(test)]
mod tests;
