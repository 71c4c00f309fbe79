//! One job from request to result: bind, solve, export.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rb_api::{
    Engine, Event, EventKind, EventSink, LogStream, SolveError, SolveRequest, SolveResult, Summary,
};
use rb_diag::{ErrorKind, chain};
use rb_frontend::Gateway;
use rb_llb::Definition;
use rb_oci::Digest;
use rb_session::Session;
use rb_solver::{MissReason, Stream};

use crate::error::EngineError;
use crate::gateway::LocalGateway;
use crate::job::JobContext;
use crate::value::{Tree, Value};
use crate::{LocalEngine, exports, graph};

/// A job that took this long is made durable at its end, with all before it; a shorter one is quicker to do again after
/// a crash of the machine than to wait for the disk each time. What is not durable is distrusted after a reboot.
const WORTH_KEEPING: Duration = Duration::from_secs(2);

#[async_trait]
impl Engine for LocalEngine {
    async fn solve(&self, request: SolveRequest, events: EventSink) -> Result<SolveResult, SolveError> {
        let started = Instant::now();
        let definitions: Vec<Definition> = request.roots.iter().map(|root| root.definition.clone()).collect();
        let (trees, summary) =
            self.solve_trees(definitions, &request.session, request.no_cache, events).await?;
        let roots = trees.iter().map(Tree::key).collect();
        let parts = Arc::clone(&self.parts);
        let exports = crate::blocking(move || exports::write(&parts, &request, &trees)).await;
        let exports = exports.map_err(|error| job_error(&error))?;
        if summary.executed > 0 && started.elapsed() >= WORTH_KEEPING {
            let store = self.parts.store.clone();
            let synced = crate::blocking(move || Ok(store.sync_snapshots()?)).await;
            synced.map_err(|error| job_error(&error))?;
        }
        Ok(SolveResult { roots, exports, summary })
    }

    fn gateway(&self, session: Arc<dyn Session>, events: EventSink) -> Arc<dyn Gateway> {
        Arc::new(LocalGateway::new(self.clone(), session, events))
    }

    async fn idle(&self) {
        if let Some(solver) = self.solver.get() {
            solver.idle().await;
        }
    }
}

impl LocalEngine {
    /// Solves the roots of definitions to trees.
    pub(crate) async fn solve_trees(
        &self,
        definitions: Vec<Definition>,
        session: &Arc<dyn Session>,
        no_cache: bool,
        events: EventSink,
    ) -> Result<(Vec<Tree>, Summary), SolveError> {
        let parts = Arc::clone(&self.parts);
        let job = JobContext::new(parts, Arc::clone(session), no_cache, self.allowed_binds.clone());
        let job = Arc::new(job);
        let bound = graph::bind(&definitions, &job).map_err(|error| engine_error(&error))?;
        let watch = Arc::new(Watch::new(bound.names, Arc::clone(&events)));
        let observer = {
            let watch = Arc::clone(&watch);
            Arc::new(move |vertex, event| watch.see(vertex, event))
        };
        let handle = self.solver().job(bound.specs, observer);
        let edges: Vec<(Digest, u32)> = bound.roots.iter().flatten().copied().collect();
        let solved = handle.solve(&edges).await;
        let mut values = solved.map_err(|error| solve_error(error, &job))?.into_iter();
        let mut trees = Vec::new();
        for root in &bound.roots {
            let value = match root {
                None => Value::Tree(Tree::scratch()),
                Some(_) => values.next().expect("one value per edge"),
            };
            trees.push(match value {
                Value::Tree(tree) => tree,
                Value::Local(_) => {
                    let parts = Arc::clone(&self.parts);
                    let copied = crate::blocking(move || crate::ops::as_tree(&parts, &value)).await;
                    copied.map_err(|error| job_error(&error))?
                }
            });
        }
        Ok((trees, watch.summary()))
    }
}

/// Translates the solver's events and counts what became of the steps.
struct Watch {
    steps: BTreeMap<Digest, (String, bool)>,
    ended: Mutex<BTreeMap<Digest, Ended>>,
    events: EventSink,
}

/// How a vertex ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Executed,
    Cached,
}

impl Watch {
    fn new(steps: BTreeMap<Digest, (String, bool)>, events: EventSink) -> Self {
        for (vertex, (name, step)) in &steps {
            events(Event { vertex: *vertex, kind: EventKind::Added { name: name.clone(), step: *step } });
        }
        Self { steps, ended: Mutex::default(), events }
    }

    fn see(&self, vertex: Digest, event: rb_solver::Event) {
        use rb_solver::Event as Seen;
        let end = |how| {
            self.ended.lock().expect("no holder panics").insert(vertex, how);
        };
        let kind = match event {
            Seen::Started => return,
            Seen::Cached { .. } => {
                end(Ended::Cached);
                EventKind::Cached
            }
            Seen::Missed { reason } => EventKind::Missed { reason: in_words(&reason) },
            Seen::Shared { .. } => return,
            Seen::Running => EventKind::Started,
            Seen::Log { stream, bytes } => {
                let stream = match stream {
                    Stream::Stdout => LogStream::Stdout,
                    Stream::Stderr => LogStream::Stderr,
                };
                EventKind::Log { stream, bytes }
            }
            Seen::Progress { current, total } => EventKind::Progress { current, total },
            Seen::Done { duration } => {
                end(Ended::Executed);
                EventKind::Done { duration }
            }
            Seen::Failed { error } => EventKind::Failed { message: chain(error.as_ref()) },
            Seen::Cancelled => EventKind::Cancelled,
        };
        (self.events)(Event { vertex, kind });
    }

    fn summary(&self) -> Summary {
        let ended = self.ended.lock().expect("no holder panics");
        let mut summary = Summary::default();
        for vertex in self.steps.iter().filter(|(_, (_, step))| *step).map(|(vertex, _)| vertex) {
            match ended.get(vertex) {
                Some(Ended::Executed) => summary.executed += 1,
                Some(Ended::Cached) => summary.cached += 1,
                None => summary.skipped += 1,
            }
        }
        summary
    }
}

fn in_words(reason: &MissReason) -> String {
    match reason {
        MissReason::NeverSeen => "never built before".to_owned(),
        MissReason::DefinitionChanged { .. } => "what it does has changed".to_owned(),
        MissReason::InputChanged { index, .. } => format!("its input {} has changed", index + 1),
        MissReason::Evicted => "its result is no longer stored".to_owned(),
        MissReason::IgnoreCache { inherited_from: None } => "it was told not to use the cache".to_owned(),
        MissReason::IgnoreCache { inherited_from: Some(_) } => {
            "what it depends on was told not to use the cache".to_owned()
        }
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

fn engine_error(error: &EngineError) -> SolveError {
    let kind: ErrorKind = error.kind();
    SolveError::Job { kind, message: chain(error), help: error.help() }
}
