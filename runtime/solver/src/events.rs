//! What the solver tells while it works, and why a lookup missed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rb_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::error::OpError;

/// Takes the events of one job. Called from the solver's task and from running ops; must be quick and not block.
pub trait Observer: Send + Sync {
    /// Something happened to `vertex`.
    fn event(&self, vertex: Digest, event: Event);
}

impl<F: Fn(Digest, Event) + Send + Sync> Observer for F {
    fn event(&self, vertex: Digest, event: Event) {
        self(vertex, event);
    }
}

/// One thing that happened to one vertex of one job.
///
/// Per vertex: `Started`, then either `Cached`; or `Missed` (at most once) or `Shared` or both, and `Running`, and
/// `Done`; or, at any point, `Failed`, `Withheld` or `Cancelled`. So nothing runs without a word on why it has to. `Cached` comes after `Missed` or `Shared` where another process made it in
/// the meantime. `Started` is followed by exactly one of `Cached`, `Done`, `Failed`, `Withheld`
/// and `Cancelled`. A vertex that nothing needed has no events, but for what its `cache_map` says (`Log`, `Progress`),
/// which may come before `Started`. Nothing comes after `Cancelled`, even if the work takes time to stop. What is
/// wanted again, by a later solve after a failure or an abandoned one, begins again with `Started`.
#[derive(Clone, Debug)]
pub enum Event {
    /// Its value is wanted; the search begins.
    Started,
    /// The result was there.
    Cached {
        /// Which kind of key found it.
        key: KeyKind,
        /// That key.
        id: Digest,
    },
    /// No key found it; it has to be made.
    Missed {
        /// Why.
        reason: MissReason,
    },
    /// An equal one is being made already, perhaps for another job or by another process; this one waits for it.
    Shared {
        /// Which vertex that is; by another process, the one whose run would have been.
        with: Digest,
    },
    /// Its op runs.
    Running,
    /// The op wrote something.
    Log {
        /// Where to.
        stream: Stream,
        /// What, as it came.
        bytes: Bytes,
    },
    /// The op says how far it is.
    Progress(Progress),
    /// It was made.
    Done {
        /// How long the run took.
        duration: Duration,
    },
    /// It failed.
    Failed {
        /// Why.
        error: Arc<OpError>,
    },
    /// It would have to be made, and its job only looks. What depends on it is `Cancelled`.
    Withheld,
    /// Nobody wants it any more, or something below it failed.
    Cancelled,
}

/// How far an op is with what it is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is at, in words: `copying`.
    pub doing: Cow<'static, str>,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
    /// Files so far and, where known, in all; none where it does not count files.
    pub files: Option<(u64, Option<u64>)>,
}

/// A stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which of the keys of a vertex found its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyKind {
    /// Definitions alone; its inputs were not needed.
    Fast,
    /// The whole content of its inputs.
    Content,
    /// The content of the parts it reads.
    Slow,
}

/// Why nothing that was stored could stand in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissReason {
    /// Nothing is stored under its keys, and nothing is known of an earlier one.
    NeverSeen,
    /// What it does is not what it did: another command, another pinned source.
    DefinitionChanged {
        /// Digest of the cache map then.
        was: Digest,
        /// Digest of the cache map now.
        now: Digest,
    },
    /// It does the same to something else.
    InputChanged {
        /// The first input that differs.
        index: usize,
        /// What was known of it then.
        was: InputTrace,
        /// What is known of it now.
        now: InputTrace,
        /// Further inputs that differ.
        also: Vec<usize>,
    },
    /// What is remembered was found by keys of another schema: another version of the program kept it.
    SchemaChanged {
        /// Number of the schema then.
        was: u32,
        /// Number of the schema now.
        now: u32,
    },
    /// It was made from the very same before, and the result is no longer stored.
    Evicted {
        /// When and why it went, where that is known.
        gone: Option<Gone>,
    },
    /// It was told not to look.
    IgnoreCache {
        /// The vertex below that says so, if it is not this one.
        inherited_from: Option<Digest>,
    },
}

/// When and why a result went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Why.
    pub reason: GoneReason,
    /// When, in seconds since 1970.
    pub at_unix: i64,
}

/// Why a result went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GoneReason {
    /// It was removed, nobody knows for what.
    Removed,
    /// To keep all that is stored within its bound.
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
    Corrupt,
}

/// What is remembered of a vertex from build to build, to explain misses. Decides nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Number of the key schema.
    #[serde(default = "first_schema")]
    pub schema: u32,
    /// Digest of its cache map.
    pub definition: Digest,
    /// Its inputs, in order.
    pub inputs: Vec<InputTrace>,
}

/// What is remembered of one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTrace {
    /// Its fast key with index and selector.
    pub fast: Digest,
    /// Digest of its content, or of the part that is read; unknown where the inputs were not needed.
    pub content: Option<Digest>,
}

/// The schema of traces that do not name theirs.
fn first_schema() -> u32 {
    1
}

impl InputTrace {
    /// Tells whether the two are the same input: by content where both know it, else by definition.
    fn is_same(&self, other: &Self) -> bool {
        match (self.content, other.content) {
            (Some(one), Some(two)) => one == two,
            (Some(_) | None, None) | (None, Some(_)) => self.fast == other.fast,
        }
    }
}

impl Trace {
    /// Adds what `was` knows of the content of inputs that are still the same and of which this does not.
    pub(crate) fn with_contents_of(mut self, was: Option<&Self>) -> Self {
        for (now, was) in self.inputs.iter_mut().zip(was.map_or(&[][..], |was| &was.inputs)) {
            if now.content.is_none() && now.fast == was.fast {
                now.content = was.content;
            }
        }
        self
    }

    /// Tells whether the content of every input is known.
    pub(crate) fn is_whole(&self) -> bool {
        self.inputs.iter().all(|input| input.content.is_some())
    }

    /// Explains by what was known then (`was`) why a search with what is known now missed. Of a result that should be
    /// stored it does not know when and why it went.
    pub fn explain(was: Option<&Self>, now: &Self) -> MissReason {
        let Some(was) = was else {
            return MissReason::NeverSeen;
        };
        if was.schema != now.schema {
            return MissReason::SchemaChanged { was: was.schema, now: now.schema };
        }
        if was.definition != now.definition || was.inputs.len() != now.inputs.len() {
            return MissReason::DefinitionChanged { was: was.definition, now: now.definition };
        }
        let pairs = was.inputs.iter().zip(&now.inputs).enumerate();
        let mut changed = pairs.filter(|(_, (was, now))| !was.is_same(now));
        match changed.next() {
            Some((index, (was, now))) => {
                let also = changed.map(|(index, _)| index).collect();
                MissReason::InputChanged { index, was: was.clone(), now: now.clone(), also }
            }
            None => MissReason::Evicted { gone: None },
        }
    }
}
