//! What can go wrong in an op, and how a solve can end.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rb_diag::ErrorKind;
use rb_oci::Digest;

/// Why a call of an op or of the cache failed: any error, and who has to act.
///
/// Shows and chains as the error it holds.
#[derive(Debug)]
pub struct OpError {
    kind: ErrorKind,
    error: Box<dyn Error + Send + Sync>,
}

/// The work was told to stop because nobody wants it any more.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
struct Cancelled;

/// The job only looks, and this would have to be made.
#[derive(Debug, thiserror::Error)]
#[error("it would have to run")]
struct Withheld;

impl OpError {
    /// Wraps `error`.
    pub fn new(kind: ErrorKind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into() }
    }

    /// The answer of work that was told to stop.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Environment, Cancelled)
    }

    /// Tells whether this is the answer of work that was told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.error.is::<Cancelled>()
    }

    /// The answer of work that a job which only looks ([`Mode::Look`](crate::Mode::Look)) does not do.
    pub fn withheld() -> Self {
        Self::new(ErrorKind::Build, Withheld)
    }

    /// Tells whether this is the answer of work that was not done since its job only looks.
    pub fn is_withheld(&self) -> bool {
        self.error.is::<Withheld>()
    }

    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the error as it was wrapped, to be looked at by its type.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.error.as_ref()
    }

    /// Returns the error that was wrapped, to own it.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.error
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(out)
    }
}

impl Error for OpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// What the solver itself finds wrong with the answers of an op.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misuse {
    #[error("the cache map speaks of {actual} inputs, the vertex has {expected}")]
    Inputs { expected: usize, actual: usize },
    #[error("output {index} is asked for, there are {outputs}")]
    Output { index: u32, outputs: usize },
    #[error("the operation panicked")]
    Panicked,
}

impl From<Misuse> for OpError {
    fn from(misuse: Misuse) -> Self {
        let kind = match misuse {
            Misuse::Output { .. } => ErrorKind::Input,
            Misuse::Inputs { .. } | Misuse::Panicked => ErrorKind::Internal,
        };
        Self::new(kind, misuse)
    }
}

/// One vertex that failed. Cheap to clone; jobs that wanted it share the error.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub vertex: Digest,
    /// What to call it.
    pub name: Arc<str>,
    /// Why.
    pub source: Arc<OpError>,
}

/// How a solve ended without its values.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SolveError {
    /// A vertex failed.
    #[error("`{name}` failed")]
    Failed {
        /// The first that failed.
        vertex: Digest,
        /// What to call it.
        name: Arc<str>,
        /// Why.
        source: Arc<OpError>,
        /// What else failed before all had ended; with `keep_going`, whatever else can fail.
        also: Vec<Failure>,
    },
    /// The job was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A vertex uses one that does not stand before it in the graph.
    #[error("vertex {vertex} uses {input}, which does not come before it in the graph")]
    UnknownInput {
        /// Who uses it.
        vertex: Digest,
        /// What is missing.
        input: Digest,
    },
    /// An edge was asked for of a vertex that the graph does not have.
    #[error("vertex {vertex} is not in the graph")]
    UnknownVertex {
        /// What is missing.
        vertex: Digest,
    },
    /// The scheduler waits without a cause: our bug.
    #[error("the solver waits for `{name}` ({vertex}) without a cause: {detail}")]
    Stuck {
        /// Which vertex.
        vertex: Digest,
        /// What to call it.
        name: Arc<str>,
        /// Which rule is broken.
        detail: &'static str,
    },
    /// The task that owns the solver has ended, by a panic or with its runtime.
    #[error("the solver has stopped")]
    Stopped,
}

impl SolveError {
    /// Returns who has to act.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { source, .. } => source.kind(),
            Self::Cancelled => ErrorKind::Environment,
            Self::UnknownInput { .. } | Self::UnknownVertex { .. } | Self::Stuck { .. } | Self::Stopped => {
                ErrorKind::Internal
            }
        }
    }

    /// Returns all vertices that failed, the first one first.
    pub fn failures(&self) -> Vec<Failure> {
        match self {
            Self::Failed { vertex, name, source, also } => {
                let first = Failure { vertex: *vertex, name: name.clone(), source: source.clone() };
                std::iter::once(first).chain(also.iter().cloned()).collect()
            }
            Self::Cancelled
            | Self::UnknownInput { .. }
            | Self::UnknownVertex { .. }
            | Self::Stuck { .. }
            | Self::Stopped => Vec::new(),
        }
    }

    /// Tells whether the solve ended because its job was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

impl Failure {
    /// Makes the error of a solve of `failures`, of which there is at least one.
    pub(crate) fn into_error(failures: Vec<Self>) -> SolveError {
        let mut failures = failures.into_iter();
        match failures.next() {
            Some(Self { vertex, name, source }) => {
                SolveError::Failed { vertex, name, source, also: failures.collect() }
            }
            None => SolveError::Cancelled,
        }
    }
}
