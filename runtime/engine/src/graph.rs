//! Definitions become graphs of the solver: each LLB op is bound to the parts of the runtime.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_llb::{Definition, Graph, Op, Vertex};
use rb_oci::Digest;
use rb_solver::VertexSpec;

use crate::error::EngineError;
use crate::job::JobContext;
use crate::ops::LlbOp;

/// Several definitions as one graph: vertices that are equal by digest are there once.
pub(crate) struct Bound {
    /// Vertices, inputs first.
    pub(crate) specs: Vec<VertexSpec<LlbOp>>,
    /// Per definition its root; none for `scratch`.
    pub(crate) roots: Vec<Option<(Digest, u32)>>,
    /// Per vertex: what to call it, and whether it is a step that people count.
    pub(crate) names: BTreeMap<Digest, (String, bool)>,
}

/// Verifies definitions and binds their ops for one job.
pub(crate) fn bind<'a>(
    definitions: impl IntoIterator<Item = &'a Definition>,
    job: &Arc<JobContext>,
) -> Result<Bound, EngineError> {
    let mut bound = Bound { specs: Vec::new(), roots: Vec::new(), names: BTreeMap::new() };
    for definition in definitions {
        let graph: Graph = definition.graph()?;
        for vertex in graph.vertices() {
            if bound.names.contains_key(&vertex.digest) {
                continue;
            }
            let meta = graph.meta(&vertex.digest);
            let name = meta.name().map_or_else(|| vertex.display(), ToOwned::to_owned);
            bound.names.insert(vertex.digest, (name.clone(), is_step(vertex)));
            let inputs = vertex.inputs.iter().map(|edge| (edge.vertex, edge.index)).collect();
            let op = Arc::new(LlbOp::new(vertex.clone(), meta.ignore_cache, Arc::clone(job)));
            let mut spec = VertexSpec::new(vertex.digest, name.clone(), op, inputs);
            spec.lineage = Some(Digest::of(name));
            bound.specs.push(spec);
        }
        bound.roots.push(graph.root().map(|edge| (edge.vertex, edge.index)));
    }
    Ok(bound)
}

fn is_step(vertex: &Vertex) -> bool {
    match vertex.op {
        Op::Exec(_) | Op::File(_) | Op::Merge(_) | Op::Diff(_) | Op::Build(_) => true,
        Op::Source(_) => false,
    }
}
