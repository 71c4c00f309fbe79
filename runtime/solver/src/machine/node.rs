//! One vertex of one job, and the states of its search.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rb_oci::Digest;

use super::flight::FlightId;
use super::{JobId, NodeId, Past, RequestId, Ticket, Values};
use crate::error::Failure;
use crate::events::KeyKind;
use crate::op::{CacheInput, CacheMap, Op};

/// Who wants a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanter {
    Request(RequestId),
    Node(NodeId),
}

/// One vertex of one job.
pub(super) struct Node<O: Op> {
    pub(super) job: JobId,
    pub(super) vertex: Digest,
    pub(super) name: Arc<str>,
    pub(super) lineage: Option<Digest>,
    pub(super) op: Arc<O>,
    pub(super) inputs: Vec<(NodeId, u32)>,
    /// Nodes that want the fast key and do not have it.
    pub(super) key_wanted_by: BTreeSet<NodeId>,
    /// Who wants the value and does not have it. A node that failed keeps its wanters until they leave.
    pub(super) value_wanted_by: BTreeSet<Wanter>,
    pub(super) state: State<O>,
    /// What was made for this vertex in this job, once it was: all that `ignore_cache` accepts.
    pub(super) made: Option<Values<O>>,
    /// The observer knows that the search began, and not how it ended.
    pub(super) started: bool,
    /// It knows why nothing that is stored could stand in.
    pub(super) explained: bool,
    /// Solves that wait for the end of what is being stopped here.
    pub(super) awaited_by: BTreeSet<RequestId>,
}

/// Where the search for one vertex stands. `Keying` lasts only while somebody wants the
/// fast key or the value, what comes after `Keyed` only while somebody wants the value; `Done` stays.
///
/// ```text
/// New → Keying → Keyed → Looking → Gathering → Comparing → Digesting → Matching → Ready → Flying → Done
///                           └──────────────────────┴─────────────────────┴──→ (Linking) ───────────┘
/// ```
/// From anywhere: to `Failed`, or, when nobody wants it any more, through `Stopping` back to `New` or `Keyed`.
pub(super) enum State<O: Op> {
    /// Nothing is known.
    New,
    /// The cache map and the fast keys of the inputs are asked for.
    Keying {
        map: Mapping,
        /// Inputs without a fast key.
        waiting: BTreeSet<NodeId>,
        /// What went wrong here or below.
        failure: Option<Failure>,
    },
    /// The fast key is known. At rest.
    Keyed(Arc<Keyed>),
    /// The fast key is looked up.
    Looking { keyed: Arc<Keyed>, ticket: Ticket },
    /// The values of the inputs are wanted.
    Gathering {
        keyed: Arc<Keyed>,
        past: Past,
        /// Inputs without a value.
        waiting: BTreeSet<NodeId>,
        /// What went wrong below.
        failure: Option<Failure>,
    },
    /// The content key is looked up.
    Comparing { gathered: Box<Gathered<O>>, ticket: Ticket },
    /// Parts of inputs are digested.
    Digesting {
        gathered: Box<Gathered<O>>,
        /// Effects in flight, with the index of the input.
        asked: BTreeMap<Ticket, usize>,
        /// The first that failed; the others are told to stop and awaited.
        failure: Option<Arc<crate::OpError>>,
    },
    /// The slow key is looked up.
    Matching { gathered: Box<Gathered<O>>, ticket: Ticket },
    /// No key found it. Lasts no longer than a step.
    Ready(Box<Gathered<O>>),
    /// It waits for a run, its own or an equal one's.
    Flying {
        keyed: Arc<Keyed>,
        flight: FlightId,
        /// What its own run needs; absent if an equal one was found running before the inputs were wanted.
        gathered: Option<Box<Gathered<O>>>,
    },
    /// The value is there; it is being stored under further keys.
    Linking { keyed: Arc<Keyed>, values: Values<O>, outcome: Outcome, ticket: Ticket },
    /// The value is there. At rest until the job is gone.
    Done { keyed: Arc<Keyed>, values: Values<O> },
    /// It, or something below it, failed; forgotten as soon as those who want it have left.
    Failed { keyed: Option<Arc<Keyed>>, failure: Failure },
    /// Nobody wanted it any more: what is in flight is awaited, and what it answers does not matter.
    Stopping { keyed: Option<Arc<Keyed>>, tickets: BTreeSet<Ticket> },
}

/// How far the cache map is.
pub(super) enum Mapping {
    Asked(Ticket),
    Known(CacheMap),
    /// It failed, and that was told; what else fails below is still to be heard.
    Failed,
}

/// How the value was come by.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    /// By which key.
    Found(KeyKind, Digest),
    Made(Duration),
}

/// What is known of a vertex once its cache map and the fast keys below are.
pub(super) struct Keyed {
    pub(super) definition: Digest,
    pub(super) inputs: Vec<CacheInput>,
    pub(super) fast: Digest,
    pub(super) search: Search,
    /// Nothing below ignores the cache: the fast key says what the result is.
    pub(super) trusts_fast: bool,
    /// What it means for those who use it.
    pub(super) taint: Taint,
}

/// Which results may stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search {
    /// Any that a key finds.
    Anything,
    /// Only what was made for this very vertex in this job; who below says so, if it is not the vertex itself.
    Made { inherited_from: Option<Digest> },
}

/// What an ignored cache below means for a vertex, from nothing to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Taint {
    None,
    /// Do not trust fast keys.
    Content,
    /// Run again, because this vertex says so.
    Rerun(Digest),
}

/// A vertex with the values of its inputs.
pub(super) struct Gathered<O: Op> {
    pub(super) keyed: Arc<Keyed>,
    pub(super) inputs: Values<O>,
    /// The content key; absent without inputs.
    pub(super) whole: Option<Digest>,
    /// The slow key, once known, if parts of inputs are read.
    pub(super) slow: Option<Digest>,
    /// Digests of the parts that are read, by input.
    pub(super) parts: BTreeMap<usize, Digest>,
    /// What is remembered of the vertex.
    pub(super) past: Past,
}

impl<O: Op> Node<O> {
    pub(super) fn new(
        job: JobId,
        vertex: Digest,
        name: Arc<str>,
        lineage: Option<Digest>,
        op: Arc<O>,
        inputs: Vec<(NodeId, u32)>,
    ) -> Self {
        Self {
            job,
            vertex,
            name,
            lineage,
            op,
            inputs,
            key_wanted_by: BTreeSet::new(),
            value_wanted_by: BTreeSet::new(),
            state: State::New,
            made: None,
            started: false,
            explained: false,
            awaited_by: BTreeSet::new(),
        }
    }

    /// The nodes of its inputs, each once.
    pub(super) fn sources(&self) -> BTreeSet<NodeId> {
        self.inputs.iter().map(|(id, _)| *id).collect()
    }

    /// Its fast key and what belongs to it, if known.
    pub(super) fn keyed(&self) -> Option<&Arc<Keyed>> {
        match &self.state {
            State::New | State::Keying { .. } => None,
            State::Keyed(keyed)
            | State::Looking { keyed, .. }
            | State::Gathering { keyed, .. }
            | State::Flying { keyed, .. }
            | State::Linking { keyed, .. }
            | State::Done { keyed, .. } => Some(keyed),
            State::Comparing { gathered, .. }
            | State::Digesting { gathered, .. }
            | State::Matching { gathered, .. }
            | State::Ready(gathered) => Some(&gathered.keyed),
            State::Failed { keyed, .. } | State::Stopping { keyed, .. } => keyed.as_ref(),
        }
    }

    /// Its value, if there.
    pub(super) fn values(&self) -> Option<&Values<O>> {
        match &self.state {
            State::Done { values, .. } => Some(values),
            State::New
            | State::Keying { .. }
            | State::Keyed(_)
            | State::Looking { .. }
            | State::Gathering { .. }
            | State::Comparing { .. }
            | State::Digesting { .. }
            | State::Matching { .. }
            | State::Ready(_)
            | State::Flying { .. }
            | State::Linking { .. }
            | State::Failed { .. }
            | State::Stopping { .. } => None,
        }
    }

    /// Tells whether anybody wants its key or its value.
    pub(super) fn is_wanted(&self) -> bool {
        !self.key_wanted_by.is_empty() || !self.value_wanted_by.is_empty()
    }
}

impl<O: Op> Gathered<O> {
    /// All keys the result is to be stored under.
    pub(super) fn keys(&self) -> impl Iterator<Item = Digest> + use<O> {
        [Some(self.keyed.fast), self.whole, self.slow].into_iter().flatten()
    }
}
