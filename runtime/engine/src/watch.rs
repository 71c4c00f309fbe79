//! What a job tells and counts: the solver's events in the words of the API, and what became of the steps.
//!
//! **Invariant:** a vertex is added once, before anything else is told of it, however many calls name it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard};

use rb_api::{Event, EventKind, EventSink, LogStream, Summary};
use rb_diag::chain;
use rb_oci::Digest;
use rb_solver::{MissReason, Observer, Stream};

/// Hears of one job.
pub(crate) struct Watch {
    vertices: Mutex<BTreeMap<Digest, Known>>,
    events: EventSink,
}

/// One vertex of the job.
struct Known {
    /// It is a step that people count.
    step: bool,
    ended: Option<Ended>,
}

/// How a vertex ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Executed,
    Cached,
}

impl Watch {
    pub(crate) fn new(events: EventSink) -> Self {
        Self { vertices: Mutex::default(), events }
    }

    /// Adds a vertex and tells of it; one that is known keeps its name, and `false` is returned.
    pub(crate) fn add(&self, vertex: Digest, name: &str, step: bool) -> bool {
        match self.vertices().entry(vertex) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(place) => place.insert(Known { step, ended: None }),
        };
        (self.events)(Event { vertex, kind: EventKind::Added { name: name.to_owned(), step } });
        true
    }

    /// Counts what became of the steps.
    pub(crate) fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for known in self.vertices().values().filter(|known| known.step) {
            match known.ended {
                Some(Ended::Executed) => summary.executed += 1,
                Some(Ended::Cached) => summary.cached += 1,
                None => summary.skipped += 1,
            }
        }
        summary
    }

    fn end(&self, vertex: &Digest, how: Ended) {
        if let Some(known) = self.vertices().get_mut(vertex) {
            known.ended = Some(how);
        }
    }

    fn vertices(&self) -> MutexGuard<'_, BTreeMap<Digest, Known>> {
        self.vertices.lock().expect("no holder panics")
    }
}

impl Observer for Watch {
    fn event(&self, vertex: Digest, event: rb_solver::Event) {
        use rb_solver::Event as Seen;
        let kind = match event {
            Seen::Started | Seen::Shared { .. } => return,
            Seen::Cached { .. } => {
                self.end(&vertex, Ended::Cached);
                EventKind::Cached
            }
            Seen::Missed { reason } => EventKind::Missed { reason: in_words(&reason) },
            Seen::Running => EventKind::Started,
            Seen::Log { stream, bytes } => {
                let stream = match stream {
                    Stream::Stdout => LogStream::Stdout,
                    Stream::Stderr => LogStream::Stderr,
                };
                EventKind::Log { stream, bytes }
            }
            Seen::Progress { current, total } => EventKind::Progress { current, total },
            Seen::Done { duration } => {
                self.end(&vertex, Ended::Executed);
                EventKind::Done { duration }
            }
            Seen::Failed { error } => EventKind::Failed { message: chain(error.as_ref()) },
            Seen::Cancelled => EventKind::Cancelled,
        };
        (self.events)(Event { vertex, kind });
    }
}

fn in_words(reason: &MissReason) -> String {
    match reason {
        MissReason::NeverSeen => "never built before".to_owned(),
        MissReason::DefinitionChanged { .. } => "what it does has changed".to_owned(),
        MissReason::InputChanged { index, .. } => format!("its input {} has changed", index + 1),
        MissReason::Evicted => "its result is no longer stored".to_owned(),
        MissReason::IgnoreCache { inherited_from: None } => "it was told not to use the cache".to_owned(),
        MissReason::IgnoreCache { inherited_from: Some(_) } => {
            "what it depends on was told not to use the cache".to_owned()
        }
    }
}
