//! What the sources of a job stood for, as its ops tell when they make their keys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rb_api::{Event, EventKind, PartKind};
use rb_oci::Digest;

use super::predicate::Moment;

/// What was seen so far, and when the job began.
pub(crate) struct Seen {
    /// By vertex: the digest of a file of the web or the commit of a repository.
    pins: Mutex<BTreeMap<Digest, String>>,
    moment: Moment,
}

impl Seen {
    /// A job begins, in seconds since 1970.
    pub(crate) fn new(began_unix: i64) -> Self {
        static JOBS: AtomicU64 = AtomicU64::new(0);
        let number = JOBS.fetch_add(1, Ordering::Relaxed);
        let own = format!("{began_unix} {} {number} {:?}", std::process::id(), std::time::Instant::now());
        let invocation = Digest::of(own).hex().chars().take(25).collect();
        Self { pins: Mutex::default(), moment: Moment { invocation, began_unix, ended_unix: began_unix } }
    }

    /// Hears an event.
    pub(super) fn note(&self, event: &Event) {
        let EventKind::Keyed { parts } = &event.kind else { return };
        let is_pin = |kind: PartKind, name: &str| {
            kind == PartKind::Download || (kind == PartKind::Repository && name == "commit")
        };
        if let Some(part) = parts.own.iter().find(|part| is_pin(part.kind, &part.name)) {
            let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
            pins.insert(event.vertex, part.value.clone());
        }
    }

    /// Returns what a source stood for.
    pub(super) fn pin(&self, vertex: &Digest) -> Option<String> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).get(vertex).cloned()
    }

    /// Returns when the job began.
    pub(super) fn moment(&self) -> Moment {
        self.moment.clone()
    }
}
