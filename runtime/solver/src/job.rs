//! What callers hold: a [`Solver`] for the process, a [`JobHandle`] per request.
//!
//! Both are cheap to clone and send messages to the one task that owns the scheduler.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rb_oci::Digest;
use tokio::sync::{mpsc, oneshot};

use crate::driver::{self, Command};
use crate::error::{OpError, SolveError};
use crate::events::Observer;
use crate::machine::{JobId, RequestId};
use crate::op::{Cache, CacheInput, Op, VertexSpec};
use crate::status::Status;

/// How a solver works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many runs of [`Weight::Slot`](crate::Weight::Slot) there may be at once.
    pub jobs: NonZeroUsize,
    /// After a failure, go on with all that does not need what failed. Otherwise the first failure ends a solve.
    pub keep_going: bool,
}

impl Options {
    /// Stops at the first failure.
    pub fn new(jobs: NonZeroUsize) -> Self {
        Self { jobs, keep_going: false }
    }
}

/// How far the solves of a job go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The first failure ends a solve, and a later solve tries again what failed.
    #[default]
    Stop,
    /// After a failure, go on with all that does not need what failed. In this job it is not tried again: who wants it
    /// later hears of the same failure.
    KeepGoing,
    /// As `KeepGoing`; and nothing of [`Weight::Slot`](crate::Weight::Slot) is run: what no key finds is withheld, and
    /// what was found is not linked to further keys.
    Look,
}

/// Solves the graphs of any number of jobs at once and shares work between them.
///
/// Its task ends by itself when solver and jobs are dropped and all work has ended.
pub struct Solver<O: Op> {
    options: Options,
    commands: mpsc::UnboundedSender<Command<O>>,
    /// Numbers jobs and solves.
    numbers: Arc<AtomicU64>,
}

impl<O: Op> Clone for Solver<O> {
    fn clone(&self) -> Self {
        Self { options: self.options, commands: self.commands.clone(), numbers: self.numbers.clone() }
    }
}

impl<O: Op> Solver<O> {
    /// Starts a solver over `cache`. To be called within a tokio runtime, on which all its work is spawned.
    pub fn new(cache: Arc<dyn Cache<O::Value>>, options: Options) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        drop(tokio::spawn(driver::drive(cache, options.jobs, inbox)));
        Self { options, commands, numbers: Arc::default() }
    }

    /// Opens a job on `graph`, inputs first. A fault in the graph is told by the first solve.
    pub fn job(&self, graph: Vec<VertexSpec<O>>, observer: Arc<dyn Observer>) -> JobHandle<O> {
        self.job_in(Mode::Stop, graph, observer)
    }

    /// Opens a job that goes as far as `mode` says.
    pub fn job_in(&self, mode: Mode, graph: Vec<VertexSpec<O>>, observer: Arc<dyn Observer>) -> JobHandle<O> {
        let id = JobId(self.numbers.fetch_add(1, Ordering::Relaxed));
        let handle = JobHandle {
            keep_going: self.options.keep_going || mode != Mode::Stop,
            open: Arc::new(OpenJob { id, commands: self.commands.clone() }),
            numbers: self.numbers.clone(),
        };
        handle.send(Command::Open { job: id, mode, observer });
        handle.extend(graph);
        handle
    }

    /// Returns who waits for what.
    pub async fn snapshot(&self) -> Result<Status, SolveError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Status { reply }).map_err(|_| SolveError::Stopped)?;
        answer.await.map_err(|_| SolveError::Stopped)
    }

    /// Waits until no work is in flight: after dropping jobs and solves, all they began has ended.
    pub async fn idle(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Idle { reply }).is_ok() {
            // An error means that the task is gone, and all work with it.
            answer.await.ok();
        }
    }
}

/// One job: a graph that may grow, and the solves on it. When the last clone is dropped, its interest goes.
///
/// What was solved for a job stays known to it, and is used by its later solves, until it is dropped.
pub struct JobHandle<O: Op> {
    keep_going: bool,
    open: Arc<OpenJob<O>>,
    numbers: Arc<AtomicU64>,
}

impl<O: Op> Clone for JobHandle<O> {
    fn clone(&self) -> Self {
        Self { keep_going: self.keep_going, open: self.open.clone(), numbers: self.numbers.clone() }
    }
}

/// How a vertex of a job is recognised: what its keys are made of, for who looks them up elsewhere ([`keys`](crate::keys)).
pub struct Recognised<O: Op> {
    /// Its op.
    pub op: Arc<O>,
    /// Digest of its cache map.
    pub definition: Digest,
    /// Its fast key; none where something below ignored the cache, so that definitions do not say what the result is.
    pub fast: Option<Digest>,
    /// Its inputs, in order: the vertex, the index of its output, what is used of it.
    pub inputs: Vec<(Digest, u32, CacheInput)>,
    /// Its outputs, if they were needed.
    pub values: Option<Vec<O::Value>>,
}

/// Closes the job when dropped.
struct OpenJob<O: Op> {
    id: JobId,
    commands: mpsc::UnboundedSender<Command<O>>,
}

impl<O: Op> Drop for OpenJob<O> {
    fn drop(&mut self) {
        // An error means that the task is gone, and the job with it.
        self.commands.send(Command::Close { job: self.id }).ok();
    }
}

/// Takes back the interest of a solve whose future is dropped.
struct Asked<'a, O: Op> {
    job: &'a OpenJob<O>,
    request: RequestId,
    answered: bool,
}

impl<O: Op> Drop for Asked<'_, O> {
    fn drop(&mut self) {
        if !self.answered {
            self.job.commands.send(Command::Abandon { request: self.request }).ok();
        }
    }
}

impl<O: Op> JobHandle<O> {
    /// Chooses for the solves of this handle, whatever the solver's [`Options`] say.
    pub fn with_keep_going(mut self, keep_going: bool) -> Self {
        self.keep_going = keep_going;
        self
    }

    /// Adds vertices, inputs first. Those the job knows already (by digest) stay as they are.
    pub fn extend(&self, graph: Vec<VertexSpec<O>>) {
        self.send(Command::Extend { job: self.open.id, graph });
    }

    /// Returns one value per edge (vertex and index of its output), in order.
    ///
    /// On an error, and if the job is cancelled, returns when everything has ended that only this solve wanted.
    /// Dropping the future takes its interest back at once.
    pub async fn solve(&self, edges: &[(Digest, u32)]) -> Result<Vec<O::Value>, SolveError> {
        let request = RequestId(self.numbers.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        let (job, edges, keep_going) = (self.open.id, edges.to_vec(), self.keep_going);
        self.send(Command::Solve { request, job, edges, keep_going, reply });
        let mut asked = Asked { job: &self.open, request, answered: false };
        let answer = answer.await;
        asked.answered = true;
        answer.map_err(|_| SolveError::Stopped)?
    }

    /// Returns the outputs of a vertex of the job if they are known or stored: nothing is run, and no content is read, to
    /// find them. To be asked after a solve of what stands on it.
    pub async fn peek(&self, vertex: Digest) -> Result<Option<Vec<O::Value>>, OpError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Peek { job: self.open.id, vertex, reply });
        // An error means that the task is gone, and what it knew.
        answer.await.unwrap_or(Ok(None))
    }

    /// Returns how a vertex of the job is recognised; nothing of one whose key nobody needed. To be asked after a solve.
    pub async fn recognised(&self, vertex: Digest) -> Option<Recognised<O>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Recognise { job: self.open.id, vertex, reply });
        // An error means that the task is gone, and what it knew.
        answer.await.ok().flatten()
    }

    /// Cancels the job: its solves, and any later ones, end with [`SolveError::Cancelled`].
    pub fn cancel(&self) {
        self.send(Command::Cancel { job: self.open.id });
    }

    fn send(&self, command: Command<O>) {
        // An error means that the task is gone; a solve then finds its reply dropped.
        self.open.commands.send(command).ok();
    }
}
