//! What the solver asks of an operation and of a cache; `rb-engine` answers for each LLB op.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rb_oci::Digest;

use crate::context::Context;
use crate::error::OpError;
use crate::events::{Gone, Trace};

/// What one vertex can do.
///
/// Every call gets a [`Context`]. When that says cancelled, the call ends what it began (processes, half-made
/// snapshots) and then returns, usually [`OpError::cancelled`]; it is awaited, never dropped. One that has a whole
/// result by then may return it.
#[async_trait]
pub trait Op: Send + Sync + 'static {
    /// A handle to one output, cheap to clone.
    type Value: Clone + Send + Sync + 'static;

    /// Says how to recognise the result. Deterministic and cheap; sources pin what they name here.
    async fn cache_map(&self, cx: &Context) -> Result<CacheMap, OpError>;

    /// Digests the selected part of input `index`. Asked only for inputs with [`CacheInput::content`], and only
    /// when every faster lookup missed.
    async fn content(&self, cx: &Context, index: usize, value: &Self::Value) -> Result<Digest, OpError>;

    /// Makes one value per output, in order. `inputs` are in the order of [`VertexSpec::inputs`].
    async fn run(&self, cx: &Context, inputs: Vec<Self::Value>) -> Result<Vec<Self::Value>, OpError>;

    /// Returns the content key of an output: equal keys mean equal trees. Cheap.
    fn content_key(value: &Self::Value) -> Digest;

    /// Tells whether a run counts against [`Options::jobs`](crate::Options::jobs).
    fn weight(&self) -> Weight;

    /// Tells whether the result is worth a wait for another process that is making it: it is stored, and a run is
    /// dearer than a look at who else does it.
    fn is_shared(&self) -> bool;
}

/// What a run costs the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Nothing worth counting: it starts at once.
    Free,
    /// One of the `jobs` places while it runs.
    Slot,
}

/// How to recognise the result of a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMap {
    /// What is done, and what a source is pinned to; nothing of the inputs.
    pub digest: Digest,
    /// One per input of the vertex, in order.
    pub inputs: Vec<CacheInput>,
    /// Look nothing up for this vertex: it is run once for each job, whatever equal ones gave. The result is stored.
    pub ignore_cache: bool,
    /// With `ignore_cache`: what depends on this vertex is run again too, even if the new result is equal.
    pub taint_dependents: bool,
}

impl CacheMap {
    /// A map without inputs that uses the cache.
    pub fn new(digest: Digest) -> Self {
        Self { digest, inputs: Vec::new(), ignore_cache: false, taint_dependents: false }
    }

    /// Adds what is used of the next input.
    pub fn with_input(mut self, input: CacheInput) -> Self {
        self.inputs.push(input);
        self
    }
}

/// What a vertex uses of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheInput {
    /// Names the part that is read, where the digest of the map leaves it out.
    pub selector: Option<Digest>,
    /// [`Op::content`] can tell the digest of the part that is read, which is less than the whole input.
    pub content: bool,
}

/// The answer to [`Cache::claim`].
#[derive(Debug)]
pub enum Claim {
    /// The key is the caller's until the guard is dropped.
    Acquired(Guard),
    /// Another process has it. Whoever still wants it asks again.
    Held {
        /// Which, for people: `process 4711`.
        by: String,
    },
}

/// Keeps other processes from running a key; dropping it lets them.
pub struct Guard(Option<Box<dyn Send + Sync>>);

impl Guard {
    /// A guard that lasts as long as `held`.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Some(Box::new(held)))
    }

    /// A guard where there is nobody to keep away.
    pub fn nothing() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Guard").field("holds", &self.0.is_some()).finish()
    }
}

/// Key → result; behind it stand the local database and shared caches alike.
///
/// An error of any of these calls fails the vertex: an implementation that can go on without some part of it
/// (a shared cache that is out of reach) answers `None` or `Ok` instead. A call is never cancelled.
#[async_trait]
pub trait Cache<V>: Send + Sync {
    /// Returns all outputs stored under `key`, in order.
    async fn lookup(&self, key: &Digest) -> Result<Option<Vec<V>>, OpError>;

    /// Stores `values` under each of `keys`, all or none, over what stood there. Also links: a result found under
    /// one key is stored under the others.
    async fn store(&self, keys: &[Digest], values: &[V]) -> Result<(), OpError>;

    /// Claims the run of `key` among all processes that share this cache; does not wait. The claim of a process
    /// ends with it, however it ends. The default is for a cache that one process has alone.
    async fn claim(&self, _key: &Digest) -> Result<Claim, OpError> {
        Ok(Claim::Acquired(Guard::nothing()))
    }

    /// Returns what was last known of the vertex of this lineage, to explain a miss. The default knows nothing.
    async fn trace(&self, _lineage: &Digest) -> Result<Option<Trace>, OpError> {
        Ok(None)
    }

    /// Returns when and why the result that stood under these keys went. Asked only where nothing is found and the trace
    /// says that something should be. The default knows nothing.
    async fn gone(&self, _keys: &[Digest]) -> Result<Option<Gone>, OpError> {
        Ok(None)
    }

    /// Keeps what is now known of the vertex of this lineage. The default keeps nothing.
    async fn keep_trace(&self, _lineage: &Digest, _trace: &Trace) -> Result<(), OpError> {
        Ok(())
    }
}

/// One vertex of a graph.
pub struct VertexSpec<O> {
    /// The vertex digest: its identity within a job.
    pub id: Digest,
    /// What it does.
    pub op: Arc<O>,
    /// Per input, the vertex and the index of its output. Vertices named here come earlier in the graph.
    pub inputs: Vec<(Digest, u32)>,
    /// For people: errors and status.
    pub name: String,
    /// Says which vertex of other builds this one is the successor of (a digest of the target's name and the
    /// place in it, say), so that a miss can be explained by what changed. Decides nothing.
    pub lineage: Option<Digest>,
}

impl<O> VertexSpec<O> {
    /// A vertex without lineage.
    pub fn new(id: Digest, name: impl Into<String>, op: Arc<O>, inputs: Vec<(Digest, u32)>) -> Self {
        Self { id, op, inputs, name: name.into(), lineage: None }
    }
}
