//! What builds: this process, or a BuildKit elsewhere.

use std::sync::Arc;

use async_trait::async_trait;
use rb_diag::ErrorKind;
use rb_frontend::{Answer, GitFacts, ImageRequest, Query, RepositoryRequest, ResolvedImage, WorldError};
use rb_llb::Definition;
use rb_oci::Digest;

use crate::{
    CacheVerdict, EventSink, JobOptions, Outlook, ProcessRequest, Root, SolveRequest, SolveResult, Summary,
};

/// An engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Opens a job; `events` hears of its work. To be called within the runtime that the work is to be done on.
    fn job(&self, options: JobOptions, events: EventSink) -> Arc<dyn Job>;
    /// Waits until the work of dropped calls and dropped jobs has ended too.
    async fn idle(&self);
}

/// One build: a graph that grows with each call, and what was made of it so far.
///
/// Calls may run at once. What one has made the others use, so a vertex is searched for once in a job, told of once,
/// and counted once. A vertex keeps the name and the options with which it came first. Dropping the future of a call
/// takes its interest back and leaves what others want; dropping the job takes all interest back.
#[async_trait]
pub trait Job: Send + Sync {
    /// Solves all roots of a request, then writes its exports. On an error, what only this call wanted has ended.
    async fn solve(&self, request: SolveRequest) -> Result<SolveResult, SolveError>;
    /// Solves a definition and reads one thing out of its tree.
    async fn query(&self, definition: Definition, query: Query) -> Result<Answer, SolveError>;
    /// Runs a command over trees of this job, and returns its exit code. Dropping the call kills it. Not every engine can; its error
    /// then says so.
    async fn process(&self, request: ProcessRequest) -> Result<i32, SolveError>;
    /// Pins an image and returns its config.
    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError>;
    /// Finds the commit that a repository elsewhere stands for, brings it here, and returns what git knows of it. In one job
    /// the answer is the same, however often it is asked.
    async fn resolve_repository(&self, request: &RepositoryRequest) -> Result<GitFacts, WorldError>;
    /// Asks the cache alone what solving these roots would do. Returns that of each vertex that the job has met so far,
    /// those of queries included, inputs first. Runs no step. Of a job that only looks
    /// ([`Course::Look`](crate::Course::Look)).
    async fn look(&self, roots: &[Root]) -> Result<Vec<Outlook>, SolveError>;
    /// Counts what became of the steps that are known by now.
    fn summary(&self) -> Summary;
}

/// Why a call of a job failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SolveError {
    /// A vertex failed.
    #[error("{message}")]
    Vertex {
        /// Which; its place in the user's text is in the definition's sources.
        vertex: Digest,
        /// What it is called.
        name: String,
        /// Who has to act.
        kind: ErrorKind,
        /// Message with its causes, such as `exit code 3`.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Last lines of its output, at most a few dozen.
        log_tail: Vec<String>,
    },
    /// What a query asks for is not in the tree.
    #[error("`{path}` does not exist")]
    NoSuchFile {
        /// As asked for.
        path: String,
    },
    /// The job failed outside any vertex.
    #[error("{message}")]
    Job {
        /// Who has to act.
        kind: ErrorKind,
        /// Message with its causes.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// It would have to run, and the job only looks ([`Course::Look`](crate::Course::Look)).
    #[error("`{name}` would have to run")]
    Withheld {
        /// Which.
        vertex: Digest,
        /// What it is called.
        name: String,
        /// Why it would; not known of what an image that is not here has to be read for.
        reason: Option<CacheVerdict>,
    },
    /// Several of these, of a job that keeps going. At least two, and none of them is of this kind.
    #[error("{} steps failed", .0.len())]
    Several(Vec<Self>),
    /// The job was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl SolveError {
    /// Returns who has to act; nobody, if the job was cancelled.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Vertex { kind, .. } | Self::Job { kind, .. } => Some(*kind),
            Self::NoSuchFile { .. } => Some(ErrorKind::Input),
            Self::Withheld { .. } => Some(ErrorKind::Build),
            Self::Several(errors) => errors.iter().filter_map(Self::kind).max(),
            Self::Cancelled => None,
        }
    }
}
