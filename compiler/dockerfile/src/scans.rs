//! What a scanner looks at beside the result: stages and the context, where the file's arguments say so.
//!
//! `BUILDKIT_SBOM_SCAN_STAGE` and `BUILDKIT_SBOM_SCAN_CONTEXT` are a truth, or a list of stages; before FROM they hold for all stages,
//! in a stage for it and those that start from it. Source: BuildKit's Dockerfile frontend.

use std::collections::BTreeMap;

use rb_llb::State;

use crate::convert::StageState;
use crate::environment::Environment;
use crate::go;
use crate::stages::{Graph, NodeId};

const STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";
const CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";

/// What of a build a scanner may look at.
pub(crate) struct Scanned<'a> {
    pub(crate) graph: &'a Graph,
    /// Stages that the target needs, without it.
    pub(crate) stages: &'a BTreeMap<NodeId, StageState>,
    /// The target.
    pub(crate) target: (NodeId, &'a StageState),
    pub(crate) context: &'a State,
    /// Values of the global arguments.
    pub(crate) arguments: &'a Environment,
}

impl Scanned<'_> {
    /// Returns trees by their names.
    pub(crate) fn trees(&self) -> BTreeMap<String, State> {
        let mut trees = BTreeMap::new();
        let (target, state) = self.target;
        if self.wants(CONTEXT, target, state) && !self.context.is_scratch() {
            trees.insert("context".to_owned(), self.context.clone());
        }
        for (id, stage) in self.stages.iter().filter(|(id, _)| **id != target) {
            if self.graph.nodes[*id].number.is_some() && self.wants(STAGE, *id, stage) {
                trees.insert(self.called(*id), stage.files.tree.clone());
            }
        }
        trees
    }

    fn wants(&self, argument: &str, id: NodeId, stage: &StageState) -> bool {
        let name = self.called(id);
        let says = |value: &str| {
            go::parse_bool(value).unwrap_or_else(|| value.split(',').any(|listed| listed == name))
        };
        let of_all = self.arguments.value(argument).is_some_and(says);
        stage.argument(argument).map_or(of_all, says)
    }

    fn called(&self, id: NodeId) -> String {
        let node = &self.graph.nodes[id];
        let stages = self.graph.nodes.iter().filter(|node| node.number.is_some()).count();
        match node.number {
            Some(number) if node.name.is_empty() && stages > 1 => format!("stage-{number}"),
            _ => node.name.clone(),
        }
    }
}
