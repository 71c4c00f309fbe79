//! Definitions become graphs of the solver: each LLB op is bound to the parts of the runtime.

use std::sync::Arc;

use rb_llb::{Definition, Graph, Op, Vertex};
use rb_oci::Digest;
use rb_solver::VertexSpec;

use crate::error::EngineError;
use crate::job::JobContext;
use crate::ops::LlbOp;
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

    /// Returns the root of each definition; none for `scratch`.
    pub(crate) fn roots(&self) -> Vec<Option<Output>> {
        self.0.iter().map(|graph| graph.root().map(|edge| (edge.vertex, edge.index))).collect()
    }

    /// Binds the ops that the job does not know yet, inputs first, and has `watch` know them.
    pub(crate) fn bind(&self, job: &Arc<JobContext>, watch: &Watch) -> Vec<VertexSpec<LlbOp>> {
        let mut specs = Vec::new();
        for graph in &self.0 {
            for vertex in graph.vertices() {
                let meta = graph.meta(&vertex.digest);
                let name = meta.name().map_or_else(|| vertex.display(), ToOwned::to_owned);
                if !watch.add(vertex.digest, &name, is_step(vertex, &name)) {
                    continue;
                }
                let inputs = vertex.inputs.iter().map(|edge| (edge.vertex, edge.index)).collect();
                let op = Arc::new(LlbOp::new(vertex.clone(), meta.ignore_cache, Arc::clone(job)));
                let lineage = Some(Digest::of(&name));
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
