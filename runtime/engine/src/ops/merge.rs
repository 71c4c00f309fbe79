//! Merge operations: the layers of trees, laid over one another.

use rb_llb::MergeOp;

use super::mounts;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::{Tree, Value};

/// Merges inputs, lowest first.
pub(super) fn run(parts: &Parts, op: &MergeOp, inputs: &[Value]) -> Result<Value, EngineError> {
    let mut trees = Vec::with_capacity(op.inputs.len());
    for index in op.inputs.iter().flatten() {
        let value = inputs.get(*index).ok_or_else(|| super::no_input("a merge", *index))?;
        trees.push(mounts::tree(parts, value, "/")?);
    }
    // What is empty is as if it were not named, so that the tree of the host may stand behind it.
    trees.retain(|tree| tree.snapshot.is_some() || tree.host.is_some());
    let host = trees.first().and_then(|tree| tree.host.clone());
    if trees.iter().skip(1).any(|tree| tree.host.is_some()) {
        let help = "merge its difference from `FROM @host`, or name it first";
        return Err(super::unsupported(
            "a merge with a tree that lies on `FROM @host` over others",
            Some(help),
        ));
    }
    let snapshots: Vec<_> = trees.iter().map(|tree| tree.snapshot).collect();
    let (snapshot, content) = parts.snapshots.merge(&snapshots)?;
    Ok(Value::Tree(Tree { snapshot, content, host }))
}
