//! What builds: this process, or a BuildKit elsewhere.

use std::sync::Arc;

use async_trait::async_trait;
use rb_diag::ErrorKind;
use rb_frontend::Gateway;
use rb_oci::Digest;
use rb_session::Session;

use crate::{EventSink, SolveRequest, SolveResult};

/// An engine. Dropping the future of a call cancels its work; it ends when every process of the job has ended.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Solves all roots of a request, then writes its exports.
    async fn solve(&self, request: SolveRequest, events: EventSink) -> Result<SolveResult, SolveError>;
    /// Waits until the work of dropped calls has ended too.
    async fn idle(&self);
    /// Returns the engine's door for frontends, for one job: `session` answers for files, `events` hears of the work.
    fn gateway(&self, session: Arc<dyn Session>, events: EventSink) -> Arc<dyn Gateway>;
}

/// Why a job failed.
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
    /// The job was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl SolveError {
    /// Returns who has to act; nobody, if the job was cancelled.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Vertex { kind, .. } | Self::Job { kind, .. } => Some(*kind),
            Self::Cancelled => None,
        }
    }
}
