//! What an engine tells while it works. One way; logs may be dropped under pressure, completions never.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rb_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::KeyParts;

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
        /// Vertices whose outputs it takes, in order.
        inputs: Vec<Digest>,
    },
    /// What its key is made of; told before anything is looked up.
    Keyed {
        /// That.
        parts: Arc<KeyParts>,
    },
    /// The result was there.
    Cached {
        /// Which key found it.
        key: CacheKey,
        /// The cache elsewhere that had it, for people; none for what was here.
        from: Option<Arc<str>>,
    },
    /// No lookup found it, so it has to be made; told at most once of a vertex that begins.
    Missed {
        /// Why.
        reason: CacheVerdict,
    },
    /// An equal one is being made already, by this process or another, and is waited for.
    Shared {
        /// Which vertex of this process that is, or would be.
        with: Digest,
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
    /// How far it is with what it is at; told at most some times a second. It may come before [`Self::Started`], of what is looked at or
    /// fetched before it can be told whether the result is there.
    Progress(Progress),
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

/// How far a vertex is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is at, in words of people, the first of which says what kind of work it is: `reading`, `copying`, `fetching`,
    /// `unpacking`, `packing layer 2 of 6`, `writing app.tar`, `pushing`.
    pub doing: Cow<'static, str>,
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
    /// Files so far and, where known, in all; none where it does not count files.
    pub files: Option<(u64, Option<u64>)>,
}

impl Progress {
    /// Of work in bytes.
    pub fn bytes(doing: &'static str, current: u64, total: Option<u64>) -> Self {
        Self { doing: Cow::Borrowed(doing), current, total, files: None }
    }
}

/// Which key of a vertex found its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKey {
    /// Definitions alone.
    Fast,
    /// The whole content of its inputs.
    Content,
    /// The content of the parts it reads.
    Slow,
}

/// Why a lookup missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheVerdict {
    /// For programs.
    #[serde(flatten)]
    pub miss: Miss,
    /// In one line for people.
    pub text: String,
}

/// Why a lookup missed, as data. Digests tell what was from what is, no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Miss {
    /// Nothing is known of an earlier one.
    NeverSeen,
    /// Who runs it does not tell: a daemon elsewhere.
    Untold,
    /// It does something else than it did.
    DefinitionChanged {
        /// Digest of what it did.
        was: Digest,
        /// Digest of what it does.
        now: Digest,
    },
    /// It does the same to something else.
    InputChanged {
        /// The first input that differs, counted from 0.
        input: usize,
        /// The vertex of that input, as it is called now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Digest of what was read of it; absent where only its definition was known.
        was: Option<Digest>,
        /// Digest of what would be read.
        now: Option<Digest>,
        /// Further inputs that differ.
        also: Vec<usize>,
    },
    /// Results are recognised in another way than they were.
    SchemaChanged {
        /// Number of the key schema then.
        was: u32,
        /// Number of the key schema now.
        now: u32,
    },
    /// It was made of the very same before, and is no longer stored.
    Gone {
        /// Why, where that is known.
        because: Option<GoneBecause>,
        /// When, in seconds since 1970.
        at_unix: Option<i64>,
    },
    /// It was told not to look.
    IgnoreCache {
        /// The vertex below that says so, if it is not this one.
        inherited_from: Option<Digest>,
    },
}

/// Why a result is no longer stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoneBecause {
    /// It was removed, nobody knows for what.
    Removed,
    /// To keep the cache within its bound.
    Cap,
    /// To keep results within theirs.
    Quota,
    /// Nobody had used it for long.
    Age,
    /// Somebody asked for it.
    Pruned,
    /// The machine went down before it was on the disk.
    Unsynced,
    /// A part of it was no longer there.
    Lost,
    /// It was found changed.
    Damaged,
}

impl GoneBecause {
    /// Says by which policy a result was removed, if it was.
    pub fn policy(self) -> Option<&'static str> {
        match self {
            Self::Removed => Some("to make room or on demand"),
            Self::Cap => Some("to keep the cache within its size (cache.max_size)"),
            Self::Quota => Some("to keep layers within their size (cache.layers.max_size)"),
            Self::Age => Some("as it was not used for longer than things are kept (cache.max_age)"),
            Self::Pruned => Some("by `rb cache prune`"),
            Self::Unsynced | Self::Lost | Self::Damaged => None,
        }
    }
}

/// Stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
