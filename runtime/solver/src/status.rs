//! Who waits for what, at one moment; `rb status` prints it.

use rb_oci::Digest;
use serde::{Deserialize, Serialize};

/// All that a solver is busy with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Places that runs may take.
    pub jobs: usize,
    /// Places taken.
    pub busy: usize,
    /// Solves not answered yet.
    pub solves: usize,
    /// Every vertex that is not at rest, by job and then in the order of the graph.
    pub vertices: Vec<VertexStatus>,
}

/// One vertex that is not at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VertexStatus {
    /// Number of the job within this solver.
    pub job: u64,
    /// Its digest.
    pub vertex: Digest,
    /// What to call it.
    pub name: String,
    /// What it is at.
    pub phase: Phase,
    /// How long the work in flight for it has taken so far, in milliseconds; absent where it waits for others.
    pub since_ms: Option<u64>,
    /// The causes of its wait; never empty.
    pub waits_for: Vec<WaitsFor>,
}

/// What a vertex is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Finding out its fast key.
    Keying,
    /// Looking up its fast key.
    Looking,
    /// Waiting for its inputs.
    Gathering,
    /// Looking up its content key.
    Comparing,
    /// Digesting what it reads of its inputs.
    Digesting,
    /// Looking up its slow key.
    Matching,
    /// All is there; waiting for a place to run.
    Queued,
    /// Asking whether another process runs it, or waiting for that one.
    Claiming,
    /// Being run.
    Running,
    /// Being stored.
    Storing,
    /// Being stopped.
    Stopping,
}

/// One cause of a wait.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Its own cache map.
    CacheMap,
    /// An answer of the cache.
    Cache,
    /// The digest of the part it reads of this input.
    Content {
        /// Index of the input.
        input: usize,
    },
    /// The fast key of another vertex.
    KeyOf {
        /// Which.
        vertex: Digest,
    },
    /// The value of another vertex.
    ValueOf {
        /// Which.
        vertex: Digest,
    },
    /// One of the places, all of which are taken.
    Place,
    /// Another process, which runs the same.
    Process {
        /// Which, for people.
        name: String,
    },
    /// A run: its own, or that of an equal vertex.
    Run {
        /// The vertex whose op runs.
        of: Digest,
    },
    /// The end of work that was told to stop.
    Stop,
}
