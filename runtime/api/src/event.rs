//! What an engine tells while it works. One way; logs may be dropped under pressure, completions never.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rb_oci::Digest;

/// Takes events; called from any thread, must be quick.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// One thing that happened to one vertex.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which.
    pub vertex: Digest,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// The vertex is part of the job.
    Added {
        /// What to call it: `+app | RUN make`.
        name: String,
        /// It is a step that people count (exec, file), not a source or plumbing.
        step: bool,
    },
    /// The result was there.
    Cached,
    /// A lookup missed; why.
    Missed {
        /// In words.
        reason: CacheVerdict,
    },
    /// Work has begun.
    Started,
    /// Output of the command.
    Log {
        /// Which stream.
        stream: LogStream,
        /// Bytes as they came.
        bytes: Bytes,
    },
    /// Work in bytes.
    Progress {
        /// So far.
        current: u64,
        /// In all, where known.
        total: Option<u64>,
    },
    /// Work is done.
    Done {
        /// How long it took.
        duration: Duration,
    },
    /// It failed.
    Failed {
        /// Message with its causes.
        message: String,
    },
    /// Nobody wants it any more.
    Cancelled,
}

/// Why a lookup missed, in one line for people.
pub type CacheVerdict = String;

/// Stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
