//! One job: definitions come in, are bound and solved; trees are exported, or read for an answer.
//!
//! All calls of a job share one job of the solver, so what one has solved the others have.
//! **Invariant:** vertices reach the solver's job inputs first, whatever calls run at once: binding and adding happen
//! under one lock.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rb_api::{Engine, EventSink, Job, JobOptions, SolveError, SolveRequest, SolveResult, Summary};
use rb_diag::chain;
use rb_exporters::Epoch;
use rb_frontend::{Answer, ImageRequest, Query, ResolvedImage, WorldError};
use rb_llb::Definition;
use rb_solver::JobHandle;

use crate::error::EngineError;
use crate::graph::{Graphs, Output};
use crate::job::JobContext;
use crate::ops::LlbOp;
use crate::value::{Tree, Value};
use crate::watch::Watch;
use crate::{LocalEngine, exports, gateway};

/// Work that took this long is made durable at its end, with all before it; shorter work is quicker to do again after
/// a crash of the machine than to wait for the disk each time. What is not durable is distrusted after a reboot.
const WORTH_KEEPING: Duration = Duration::from_secs(2);

#[async_trait]
impl Engine for LocalEngine {
    fn job(&self, options: JobOptions, events: EventSink) -> Arc<dyn Job> {
        let JobOptions { session, no_cache, allow_insecure, epoch_seconds } = options;
        let context = JobContext::new(self.parts.clone(), session, no_cache, self.allowed_binds.clone());
        let watch = Arc::new(Watch::new(events));
        Arc::new(LocalJob {
            handle: self.solver().job(Vec::new(), watch.clone()),
            context: Arc::new(context.with_insecure(allow_insecure)),
            watch,
            epoch: Epoch(epoch_seconds),
            binding: Mutex::default(),
            kept: Mutex::new(Kept { until: Instant::now(), executed: 0 }),
        })
    }

    async fn idle(&self) {
        if let Some(solver) = self.solver.get() {
            solver.idle().await;
        }
    }
}

/// A job of this process.
struct LocalJob {
    handle: JobHandle<LlbOp>,
    context: Arc<JobContext>,
    watch: Arc<Watch>,
    epoch: Epoch,
    /// Held while vertices are bound and added.
    binding: Mutex<()>,
    kept: Mutex<Kept>,
}

/// What of a job is durable.
struct Kept {
    until: Instant,
    /// Steps executed until then.
    executed: usize,
}

#[async_trait]
impl Job for LocalJob {
    async fn solve(&self, request: SolveRequest) -> Result<SolveResult, SolveError> {
        let trees = self.trees(request.roots.iter().map(|root| &root.definition)).await?;
        let roots = trees.iter().map(Tree::key).collect();
        let (parts, epoch) = (Arc::clone(&self.context.parts), self.epoch);
        let written = crate::blocking(move || exports::write(&parts, &request.exports, &trees, epoch)).await;
        let exports = written.map_err(|error| job_error(&error))?;
        self.keep().await?;
        Ok(SolveResult { roots, exports, summary: self.summary() })
    }

    async fn query(&self, definition: Definition, query: Query) -> Result<Answer, SolveError> {
        let trees = self.trees([&definition]).await?;
        let tree = trees.into_iter().next().unwrap_or_else(Tree::scratch);
        gateway::answer(&self.context.parts, &tree, query).await
    }

    async fn resolve_image(&self, request: &ImageRequest) -> Result<ResolvedImage, WorldError> {
        gateway::resolve_image(self.context.session.as_ref(), request).await
    }

    fn summary(&self) -> Summary {
        self.watch.summary()
    }
}

impl LocalJob {
    /// Solves the roots of definitions to trees, in order.
    async fn trees<'a>(
        &self,
        definitions: impl IntoIterator<Item = &'a Definition> + Send,
    ) -> Result<Vec<Tree>, SolveError> {
        let graphs = Graphs::of(definitions).map_err(|error| engine_error(&error))?;
        self.add(&graphs);
        let roots = graphs.roots();
        drop(graphs);
        let edges: Vec<Output> = roots.iter().flatten().copied().collect();
        let solved = self.handle.solve(&edges).await;
        let mut values = solved.map_err(|error| solve_error(error, &self.context))?.into_iter();
        let mut trees = Vec::with_capacity(roots.len());
        for root in &roots {
            trees.push(match root {
                None => Tree::scratch(),
                Some(_) => self.tree(values.next().expect("one value per edge")).await?,
            });
        }
        Ok(trees)
    }

    /// Adds what the job does not know yet.
    fn add(&self, graphs: &Graphs) {
        let _one_at_a_time = self.binding.lock().expect("no holder panics");
        self.handle.extend(graphs.bind(&self.context, &self.watch));
    }

    async fn tree(&self, value: Value) -> Result<Tree, SolveError> {
        match value {
            Value::Tree(tree) => Ok(tree),
            Value::Local(_) => {
                let parts = Arc::clone(&self.context.parts);
                let copied = crate::blocking(move || crate::ops::as_tree(&parts, &value)).await;
                copied.map_err(|error| job_error(&error))
            }
        }
    }

    /// Makes durable what was made since this was done last, if there was much to it.
    async fn keep(&self) -> Result<(), SolveError> {
        let executed = self.summary().executed;
        {
            let mut kept = self.kept.lock().expect("no holder panics");
            if executed == kept.executed || kept.until.elapsed() < WORTH_KEEPING {
                return Ok(());
            }
            *kept = Kept { until: Instant::now(), executed };
        }
        let store = self.context.parts.store.clone();
        let synced = crate::blocking(move || Ok(store.sync_snapshots()?)).await;
        synced.map_err(|error| job_error(&error))
    }
}

fn solve_error(error: rb_solver::SolveError, job: &JobContext) -> SolveError {
    match error {
        rb_solver::SolveError::Failed { vertex, name, source, also: _ } => {
            if source.is_cancelled() {
                return SolveError::Cancelled;
            }
            let engine = source.get_ref().downcast_ref::<EngineError>();
            let log_tail = match engine {
                Some(EngineError::Exit { log_tail, .. }) => log_tail.clone(),
                _ => job.take_tail(&vertex),
            };
            SolveError::Vertex {
                vertex,
                name: name.to_string(),
                kind: source.kind(),
                message: chain(source.as_ref()),
                help: engine.and_then(EngineError::help),
                log_tail,
            }
        }
        rb_solver::SolveError::Cancelled => SolveError::Cancelled,
        other => SolveError::Job { kind: other.kind(), message: chain(&other), help: None },
    }
}

/// The error of work that belongs to no vertex.
pub(crate) fn job_error(error: &rb_solver::OpError) -> SolveError {
    if error.is_cancelled() {
        return SolveError::Cancelled;
    }
    let help = error.get_ref().downcast_ref::<EngineError>().and_then(EngineError::help);
    SolveError::Job { kind: error.kind(), message: chain(error), help }
}

/// The same, before it became work.
pub(crate) fn engine_error(error: &EngineError) -> SolveError {
    SolveError::Job { kind: error.kind(), message: chain(error), help: error.help() }
}
