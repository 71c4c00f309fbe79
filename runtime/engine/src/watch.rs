//! What a job tells and counts: the solver's events in the words of the API, and what became of the steps.
//!
//! **Invariant:** a vertex is added once, before anything else is told of it, however many calls name it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use rb_api::{CacheKey, CacheVerdict, Event, EventKind, EventSink, GoneBecause, LogStream, Miss, Summary};
use rb_diag::chain;
use rb_oci::Digest;
use rb_solver::{GoneReason, KeyKind, MissReason, Observer, Stream};

use crate::parts::Parts;

/// Hears of one job.
pub(crate) struct Watch {
    vertices: Mutex<BTreeMap<Digest, Known>>,
    /// How many vertices have each name.
    names: Mutex<BTreeMap<String, usize>>,
    events: EventSink,
    /// Who knows where results came from.
    parts: Option<Arc<Parts>>,
}

/// One vertex of the job.
struct Known {
    /// How many were known before it.
    place: usize,
    name: String,
    /// The vertices of its inputs, in order.
    inputs: Vec<Digest>,
    /// It is a step that people count.
    step: bool,
    /// Why it has to be made, if it has to.
    missed: Option<CacheVerdict>,
    ended: Option<Ended>,
}

/// Where a vertex stands.
pub(crate) struct Standing {
    pub(crate) vertex: Digest,
    pub(crate) name: String,
    pub(crate) inputs: Vec<Digest>,
    pub(crate) step: bool,
    /// Why it has to be made, if it has to.
    pub(crate) missed: Option<CacheVerdict>,
    /// How it ended, if it was wanted.
    pub(crate) ended: Option<Ended>,
}

/// How a vertex ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was made.
    Executed,
    /// It was found.
    Cached(CacheKey),
    /// It would have to run.
    Withheld,
    /// Nobody wanted it any more, or something below it did not come to be.
    Cancelled,
    /// It failed.
    Failed,
}

impl Watch {
    pub(crate) fn new(events: EventSink) -> Self {
        Self { vertices: Mutex::default(), names: Mutex::default(), events, parts: None }
    }

    /// Tells of what caches elsewhere had.
    pub(crate) fn asking(mut self, parts: &Arc<Parts>) -> Self {
        self.parts = Some(Arc::clone(parts));
        self
    }

    /// Adds a vertex, tells of it, and returns how many were added before under its name; nothing of one that is known,
    /// which keeps its name.
    pub(crate) fn add(&self, vertex: Digest, name: &str, step: bool, inputs: Vec<Digest>) -> Option<usize> {
        let mut vertices = self.vertices();
        let (known, told) = (vertices.len(), inputs.clone());
        match vertices.entry(vertex) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(entry) => {
                let name = name.to_owned();
                entry.insert(Known { place: known, name, inputs, step, missed: None, ended: None })
            }
        };
        drop(vertices);
        (self.events)(Event { vertex, kind: EventKind::Added { name: name.to_owned(), step, inputs: told } });
        let mut names = self.names.lock().expect("no holder panics");
        let count = names.entry(name.to_owned()).or_default();
        *count += 1;
        Some(*count - 1)
    }

    /// Returns who is told of the job.
    pub(crate) fn events(&self) -> &EventSink {
        &self.events
    }

    /// Returns where every vertex stands, inputs first.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let vertices = self.vertices();
        let mut known: Vec<_> = vertices.iter().collect();
        known.sort_by_key(|(_, known)| known.place);
        let standing = |(vertex, known): (&Digest, &Known)| Standing {
            vertex: *vertex,
            name: known.name.clone(),
            inputs: known.inputs.clone(),
            step: known.step,
            missed: known.missed.clone(),
            ended: known.ended,
        };
        known.into_iter().map(standing).collect()
    }

    /// Returns why a vertex has to be made.
    pub(crate) fn reason(&self, vertex: &Digest) -> Option<CacheVerdict> {
        self.vertices().get(vertex)?.missed.clone()
    }

    /// Counts what became of the steps.
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for known in self.vertices().values().filter(|known| known.step) {
            match known.ended {
                Some(Ended::Executed) => summary.executed += 1,
                Some(Ended::Cached(_)) => summary.cached += 1,
                None => summary.skipped += 1,
                Some(Ended::Withheld | Ended::Cancelled | Ended::Failed) => {}
            }
        }
        summary
    }

    fn end(&self, vertex: &Digest, how: Ended) {
        if let Some(known) = self.vertices().get_mut(vertex) {
            known.ended = Some(how);
        }
    }

    /// Returns what an input of a vertex is called.
    fn name_of_input(&self, vertex: &Digest, input: usize) -> Option<String> {
        let vertices = self.vertices();
        let below = vertices.get(vertex)?.inputs.get(input)?;
        vertices.get(below).map(|known| known.name.clone())
    }

    fn vertices(&self) -> MutexGuard<'_, BTreeMap<Digest, Known>> {
        self.vertices.lock().expect("no holder panics")
    }
}

impl Observer for Watch {
    fn event(&self, vertex: Digest, event: rb_solver::Event) {
        use rb_solver::Event as Seen;
        let kind = match event {
            Seen::Started => return,
            Seen::Shared { with } => EventKind::Shared { with },
            Seen::Cached { key: kind, id } => {
                self.end(&vertex, Ended::Cached(key(kind)));
                let from = self.parts.as_ref().and_then(|parts| parts.shared.place_of(&id));
                EventKind::Cached { key: key(kind), from }
            }
            Seen::Missed { reason } => {
                let reason = verdict(reason, |input| self.name_of_input(&vertex, input));
                if let Some(known) = self.vertices().get_mut(&vertex) {
                    known.missed = Some(reason.clone());
                }
                EventKind::Missed { reason }
            }
            Seen::Running => EventKind::Started,
            Seen::Log { stream, bytes } => {
                let stream = match stream {
                    Stream::Stdout => LogStream::Stdout,
                    Stream::Stderr => LogStream::Stderr,
                };
                EventKind::Log { stream, bytes }
            }
            Seen::Progress(progress) => crate::progress::event(progress),
            Seen::Done { duration } => {
                self.end(&vertex, Ended::Executed);
                EventKind::Done { duration }
            }
            Seen::Failed { error } => {
                self.end(&vertex, Ended::Failed);
                EventKind::Failed { message: chain(error.as_ref()) }
            }
            Seen::Withheld => {
                self.end(&vertex, Ended::Withheld);
                EventKind::Cancelled
            }
            Seen::Cancelled => {
                self.end(&vertex, Ended::Cancelled);
                EventKind::Cancelled
            }
        };
        (self.events)(Event { vertex, kind });
    }
}

fn key(kind: KeyKind) -> CacheKey {
    match kind {
        KeyKind::Fast => CacheKey::Fast,
        KeyKind::Content => CacheKey::Content,
        KeyKind::Slow => CacheKey::Slow,
    }
}

/// Says in the API's words why a vertex missed; `name` tells what its inputs are called.
pub(crate) fn verdict(reason: MissReason, name: impl Fn(usize) -> Option<String>) -> CacheVerdict {
    let miss = match reason {
        MissReason::NeverSeen => Miss::NeverSeen,
        MissReason::DefinitionChanged { was, now } => Miss::DefinitionChanged { was, now },
        MissReason::InputChanged { index, was, now, also } => {
            Miss::InputChanged { input: index, name: name(index), was: was.content, now: now.content, also }
        }
        MissReason::SchemaChanged { was, now } => Miss::SchemaChanged { was, now },
        MissReason::Evicted { gone } => Miss::Gone {
            because: gone.map(|gone| match gone.reason {
                GoneReason::Removed => GoneBecause::Removed,
                GoneReason::Cap => GoneBecause::Cap,
                GoneReason::Quota => GoneBecause::Quota,
                GoneReason::Age => GoneBecause::Age,
                GoneReason::Pruned => GoneBecause::Pruned,
                GoneReason::Unsynced => GoneBecause::Unsynced,
                GoneReason::Lost => GoneBecause::Lost,
                GoneReason::Corrupt => GoneBecause::Damaged,
            }),
            at_unix: gone.map(|gone| gone.at_unix),
        },
        MissReason::IgnoreCache { inherited_from } => Miss::IgnoreCache { inherited_from },
    };
    CacheVerdict { text: in_words(&miss), miss }
}

fn in_words(miss: &Miss) -> String {
    match miss {
        Miss::NeverSeen => "never built before".to_owned(),
        Miss::Untold => "nobody tells why".to_owned(),
        Miss::DefinitionChanged { .. } => "what it does has changed".to_owned(),
        Miss::InputChanged { input, name, also, .. } => {
            let first = match name {
                Some(name) => format!("what it reads of `{name}` has changed"),
                None => format!("its input {} has changed", input + 1),
            };
            match also.len() {
                0 => first,
                1 => format!("{first}, and one input more"),
                more => format!("{first}, and {more} inputs more"),
            }
        }
        Miss::SchemaChanged { .. } => {
            "its result was made by another version of rb, which recognised results in another way".to_owned()
        }
        Miss::Gone { because: None, .. } => "its result is no longer stored".to_owned(),
        Miss::Gone { because: Some(because), at_unix } => {
            let when = at_unix.map_or_else(String::new, |at| format!(" at {}", utc(at)));
            match because {
                GoneBecause::Removed
                | GoneBecause::Cap
                | GoneBecause::Quota
                | GoneBecause::Age
                | GoneBecause::Pruned => {
                    let policy = because.policy().unwrap_or_default();
                    format!("its result was removed{when}, {policy}")
                }
                GoneBecause::Unsynced => {
                    format!("the machine went down before its result was on the disk (noticed{when})")
                }
                GoneBecause::Lost => format!("a part of its result was missing{when}"),
                GoneBecause::Damaged => format!("its result was found damaged{when}"),
            }
        }
        Miss::IgnoreCache { inherited_from: None } => "it was told not to use the cache".to_owned(),
        Miss::IgnoreCache { inherited_from: Some(_) } => {
            "what it depends on was told not to use the cache".to_owned()
        }
    }
}

/// Formats seconds since 1970 as `2020-04-16 12:00:00 UTC`.
fn utc(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use rb_solver::{Gone, InputTrace};

    use super::*;

    fn said(reason: MissReason) -> String {
        verdict(reason, |input| (input == 1).then(|| "+lib | COPY src .".to_owned())).text
    }

    #[test]
    fn every_reason_has_words() {
        let gone = |reason| MissReason::Evicted { gone: Some(Gone { reason, at_unix: 1_587_038_400 }) };
        let trace = || InputTrace { fast: Digest::of("f"), content: None };
        let changed = |index, also| MissReason::InputChanged { index, was: trace(), now: trace(), also };
        let digest = Digest::of("d");
        for (reason, words) in [
            (MissReason::NeverSeen, "never built before"),
            (MissReason::DefinitionChanged { was: digest, now: digest }, "what it does has changed"),
            (changed(1, vec![]), "what it reads of `+lib | COPY src .` has changed"),
            (changed(0, vec![1, 2]), "its input 1 has changed, and 2 inputs more"),
            (
                MissReason::SchemaChanged { was: 1, now: 2 },
                "its result was made by another version of rb, which recognised results in another way",
            ),
            (MissReason::Evicted { gone: None }, "its result is no longer stored"),
            (
                gone(GoneReason::Removed),
                "its result was removed at 2020-04-16 12:00:00 UTC, to make room or on demand",
            ),
            (
                gone(GoneReason::Cap),
                "its result was removed at 2020-04-16 12:00:00 UTC, to keep the cache within its size (cache.max_size)",
            ),
            (
                gone(GoneReason::Pruned),
                "its result was removed at 2020-04-16 12:00:00 UTC, by `rb cache prune`",
            ),
            (
                gone(GoneReason::Unsynced),
                "the machine went down before its result was on the disk (noticed at 2020-04-16 12:00:00 UTC)",
            ),
            (gone(GoneReason::Lost), "a part of its result was missing at 2020-04-16 12:00:00 UTC"),
            (gone(GoneReason::Corrupt), "its result was found damaged at 2020-04-16 12:00:00 UTC"),
            (MissReason::IgnoreCache { inherited_from: None }, "it was told not to use the cache"),
        ] {
            assert_eq!(said(reason), words);
        }
    }

    #[test]
    fn a_verdict_is_one_flat_object() {
        let reason = MissReason::Evicted { gone: Some(Gone { reason: GoneReason::Lost, at_unix: 0 }) };
        let verdict = verdict(reason, |_| None);
        let value = serde_json::to_value(&verdict).expect("plain data");
        assert_eq!(
            (&value["why"], &value["because"], &value["at_unix"]),
            (&serde_json::json!("gone"), &serde_json::json!("lost"), &serde_json::json!(0),)
        );
        assert_eq!(serde_json::from_value::<CacheVerdict>(value).expect("reads"), verdict);
    }
}
