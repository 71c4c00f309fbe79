//! Build operations: a definition that is a file of an input is solved in the same job.
//!
//! In: the file, as an earlier step may have written it. Out: what its root stands for. The file is read in every job,
//! and what it names is looked up by its own keys: a source of it may have changed though the file has not.
//! **Invariants:** a definition is verified as one of the client's is, and bounded in size; one that leads to its own
//! vertex is refused before anything waits for itself; they do not nest deeper than [`DEPTH`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use rb_llb::{BuildOp, Definition, Op, attr};
use rb_oci::Digest;
use rb_snapshot::Follow;
use rb_solver::{Context, Failure, JobHandle, OpError};

use super::{LlbOp, mounts, unsupported};
use crate::error::EngineError;
use crate::graph::{Graphs, Output};
use crate::job::JobContext;
use crate::value::{Product, Tree, Value};
use crate::watch::Watch;

/// The input that holds the definition.
const INPUT: &str = "buildkit.llb.definition";
/// The file of it, unless another one is named.
const FILE: &str = "buildkit.llb.definition";
/// Largest definition that is read, as with BuildKit.
const LIMIT_BYTES: u64 = 16 << 20;
/// How deep definitions may lie in what others make.
const DEPTH: usize = 32;

/// Where the ops of a job solve more of it.
pub(crate) struct Nesting {
    handle: JobHandle<LlbOp>,
    watch: Arc<Watch>,
    /// Held while vertices are bound and added: they reach the job inputs first.
    binding: Mutex<()>,
    waiting: Mutex<Waiting>,
}

/// Which build operation waits for which.
#[derive(Default)]
struct Waiting {
    on: BTreeMap<Digest, BTreeSet<Digest>>,
    depth: BTreeMap<Digest, usize>,
}

impl Nesting {
    pub(crate) fn new(handle: JobHandle<LlbOp>, watch: Arc<Watch>) -> Self {
        Self { handle, watch, binding: Mutex::default(), waiting: Mutex::default() }
    }

    /// The job's end at the solver.
    pub(crate) fn handle(&self) -> &JobHandle<LlbOp> {
        &self.handle
    }

    /// Adds what the job does not know yet.
    pub(crate) fn add(&self, graphs: &Graphs, job: &Arc<JobContext>) {
        let _one_at_a_time = self.binding.lock().unwrap_or_else(PoisonError::into_inner);
        self.handle.extend(graphs.bind(job, &self.watch));
    }
}

impl Waiting {
    /// Notes that `vertex` is about to wait for all of `inner`.
    fn begin(&mut self, vertex: Digest, inner: BTreeSet<Digest>) -> Result<(), EngineError> {
        let depth = self.depth.get(&vertex).copied().unwrap_or_default() + 1;
        if depth > DEPTH && !inner.is_empty() {
            let reason = format!("definitions lie more than {DEPTH} deep in what others make");
            return Err(EngineError::Definition { reason });
        }
        for inner in &inner {
            let known = self.depth.entry(*inner).or_default();
            *known = depth.max(*known);
        }
        self.on.insert(vertex, inner);
        let mut open = vec![vertex];
        let mut seen = BTreeSet::new();
        while let Some(next) = open.pop() {
            for waited in self.on.get(&next).into_iter().flatten() {
                if *waited == vertex {
                    self.on.remove(&vertex);
                    let reason = "a definition leads to the very operation that reads it".to_owned();
                    return Err(EngineError::Definition { reason });
                }
                if seen.insert(*waited) {
                    open.push(*waited);
                }
            }
        }
        Ok(())
    }
}

/// Reads the definition and solves it.
pub(super) async fn run(
    cx: &Context,
    op: &BuildOp,
    vertex: Digest,
    inputs: Vec<Value>,
    job: &Arc<JobContext>,
) -> Result<Product, OpError> {
    if op.builder.is_some() {
        return Err(crate::op_error(unsupported("a build by a frontend that is an input", None)));
    }
    let file = op.attrs.get(attr::LLB_DEFINITION_FILENAME).map_or(FILE, String::as_str).to_owned();
    let index = op.inputs.get(INPUT).copied().ok_or_else(|| {
        let reason = format!("a build has no input `{INPUT}`");
        crate::op_error(EngineError::Definition { reason })
    })?;
    let (parts, name) = (Arc::clone(&job.parts), file.clone());
    let graphs = crate::blocking(move || {
        let value = inputs.get(index).ok_or_else(|| super::no_input("a build", index))?;
        let definition = read(&mounts::view(&parts, value)?, &name)?;
        Graphs::of([&definition])
    });
    let graphs = graphs.await?;
    let root: Option<Output> = graphs.roots().into_iter().flatten().next();
    let Some(root) = root else { return Ok(Product::Here(Value::Tree(Tree::scratch()))) };
    // Whoever wanted the job may be gone.
    let nesting = job.nesting().ok_or_else(OpError::cancelled)?;
    let vertices = graphs.all().iter().flat_map(rb_llb::Graph::vertices);
    let inner =
        vertices.filter(|vertex| matches!(vertex.op, Op::Build(_))).map(|vertex| vertex.digest).collect();
    let begun = nesting.waiting.lock().unwrap_or_else(PoisonError::into_inner).begin(vertex, inner);
    begun.map_err(crate::op_error)?;
    nesting.add(&graphs, job);
    drop(graphs);
    let edges = [root];
    let solved = tokio::select! {
        solved = nesting.handle.solve(&edges) => solved,
        () = cx.cancelled() => return Err(OpError::cancelled()),
    };
    match solved {
        Ok(values) => Ok(values.into_iter().next().expect("one value per edge")),
        Err(rb_solver::SolveError::Cancelled) => Err(OpError::cancelled()),
        Err(error) => match first(error.failures()) {
            None => {
                let reason = rb_diag::chain(&error);
                Err(crate::op_error(EngineError::Worker { reason }))
            }
            Some(failure) if failure.source.is_withheld() => Err(OpError::withheld()),
            Some(failure) if failure.source.is_cancelled() => Err(OpError::cancelled()),
            Some(failure) => Err(crate::op_error(nested(file, failure))),
        },
    }
}

/// Returns the failure that tells most: what is withheld only followed from something else, if there is something else.
fn first(failures: Vec<Failure>) -> Option<Failure> {
    let telling = failures.iter().position(|failure| !failure.source.is_withheld()).unwrap_or_default();
    failures.into_iter().nth(telling)
}

fn nested(file: String, failure: Failure) -> EngineError {
    let own = failure.source.get_ref().downcast_ref::<EngineError>();
    let log_tail = match own {
        Some(
            EngineError::Exit { log_tail, .. }
            | EngineError::NoRoom { log_tail, .. }
            | EngineError::Nested { log_tail, .. },
        ) => log_tail.clone(),
        Some(_) | None => Vec::new(),
    };
    let help = own.and_then(EngineError::help);
    EngineError::Nested { file, step: failure.name.to_string(), log_tail, help, source: failure.source }
}

fn read(view: &rb_snapshot::View, name: &str) -> Result<Definition, EngineError> {
    let missing = || rb_snapshot::SnapshotError::NotFound { path: name.into() };
    let entry = view.lookup(name, Follow::Yes)?.ok_or_else(missing)?;
    let file = view.open(&entry)?;
    let mut bytes = Vec::new();
    let unread = |source| rb_snapshot::SnapshotError::Io { action: "read", path: entry.path.clone(), source };
    file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(EngineError::TooLarge { path: entry.path, limit_bytes: LIMIT_BYTES });
    }
    Ok(Definition::from_bytes(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name)
    }

    #[test]
    fn nothing_waits_for_itself() {
        let mut waiting = Waiting::default();
        let set = |names: &[&str]| names.iter().map(|name| digest(name)).collect::<BTreeSet<_>>();
        waiting.begin(digest("a"), set(&["b", "c"])).expect("leads on");
        waiting.begin(digest("b"), set(&["c"])).expect("leads on");
        assert!(waiting.begin(digest("c"), set(&["a"])).is_err());
        assert!(waiting.begin(digest("d"), set(&["d"])).is_err());
        // What was refused waits for nothing.
        waiting.begin(digest("c"), set(&[])).expect("ends");
    }

    #[test]
    fn depth_is_bounded() {
        let mut waiting = Waiting::default();
        let step = |number: usize| digest(&number.to_string());
        for number in 0..DEPTH {
            waiting.begin(step(number), [step(number + 1)].into()).expect("not too deep");
        }
        assert!(waiting.begin(step(DEPTH), [step(DEPTH + 1)].into()).is_err());
        waiting.begin(step(DEPTH), BTreeSet::new()).expect("nothing lies deeper");
    }
}
