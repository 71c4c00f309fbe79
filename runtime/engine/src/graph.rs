//! Definitions become graphs of the solver: each LLB op is bound to the parts of the runtime.

use std::sync::Arc;

use rb_llb::{Definition, Graph, Op, Vertex};
use rb_oci::Digest;
use rb_solver::VertexSpec;

use crate::error::EngineError;
use crate::job::JobContext;
use crate::ops::{LlbOp, Told};
use crate::watch::Watch;

/// One output of one vertex.
pub(crate) type Output = (Digest, u32);

/// Several definitions, verified.
pub(crate) struct Graphs(Vec<Graph>);

impl Graphs {
    /// Verifies definitions.
    pub(crate) fn of<'a>(definitions: impl IntoIterator<Item = &'a Definition>) -> Result<Self, EngineError> {
        let graphs = definitions.into_iter().map(Definition::graph).collect::<Result<_, _>>()?;
        Ok(Self(graphs))
    }

    /// Returns them, in the order of the definitions.
    pub(crate) fn all(&self) -> &[Graph] {
        &self.0
    }

    /// Returns the root of each definition; none for `scratch`.
    pub(crate) fn roots(&self) -> Vec<Option<Output>> {
        self.0.iter().map(|graph| graph.root().map(|edge| (edge.vertex, edge.index))).collect()
    }

    /// Binds the ops that the job does not know yet, inputs first, and has `watch` know them.
    pub(crate) fn bind(&self, job: &Arc<JobContext>, watch: &Watch) -> Vec<VertexSpec<LlbOp>> {
        let mut specs = Vec::new();
        for graph in &self.0 {
            if let Some(resumption) = job.parts.resumption.get() {
                resumption.choose(graph);
            }
            for vertex in graph.vertices() {
                let meta = graph.meta(&vertex.digest);
                let name = meta.name().map_or_else(|| vertex.display(), ToOwned::to_owned);
                let below = vertex.inputs.iter().map(|edge| edge.vertex).collect();
                let is_step = is_step(vertex, &name);
                let Some(place) = watch.add(vertex.digest, &name, is_step, below) else {
                    continue;
                };
                let inputs = vertex.inputs.iter().map(|edge| (edge.vertex, edge.index)).collect();
                let written = graph.location(&vertex.digest);
                let written = written.map(|(file, range)| (file.name.clone(), range.start.line));
                let told = Told { events: Arc::clone(watch.events()), place: written };
                let op = Arc::new(LlbOp::new(vertex.clone(), meta, is_step, Arc::clone(job), told));
                // Several of one name are told apart by their order, or the last build's first would explain the second.
                let lineage = Some(match place {
                    0 => Digest::of(&name),
                    place => Digest::of(format!("{name}\n{place}")),
                });
                let mut spec = VertexSpec::new(vertex.digest, name, op, inputs);
                spec.lineage = lineage;
                specs.push(spec);
            }
        }
        specs
    }
}

/// Tells whether people count a vertex as a step. What a frontend adds by itself it names as BuildKit's frontends do.
fn is_step(vertex: &Vertex, name: &str) -> bool {
    if name.starts_with("[internal] ") {
        return false;
    }
    match vertex.op {
        Op::Exec(_) | Op::File(_) | Op::Merge(_) | Op::Diff(_) | Op::Build(_) => true,
        Op::Source(_) => false,
    }
}
