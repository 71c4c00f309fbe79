//! Diff operations: what one tree has over another.

use rb_llb::DiffOp;
use rb_oci::Digest;

use super::mounts;
use crate::error::EngineError;
use crate::parts::Parts;
use crate::value::{HostMounts, Tree, Value};

/// Takes what the upper input has over the lower one.
pub(super) fn run(parts: &Parts, op: &DiffOp, inputs: &[Value]) -> Result<Value, EngineError> {
    let tree = |input: Option<usize>| match input {
        None => Ok(Tree::scratch()),
        Some(index) => {
            let value = inputs.get(index).ok_or_else(|| super::no_input("a diff", index))?;
            mounts::tree(parts, value, "/")
        }
    };
    let (lower, upper) = (tree(op.lower)?, tree(op.upper)?);
    let key = |host: &Option<HostMounts>| host.as_ref().map(|host| -> Digest { host.key });
    let host = match (key(&lower.host), key(&upper.host)) {
        (lower, upper) if lower == upper => None,
        (_, None) => None,
        // All of what this machine shows would be new.
        (None, Some(_)) if op.lower.is_none() => upper.host,
        (_, Some(_)) => {
            let help = "take the difference from the tree of `FROM @host` that it was made of";
            let what = "the difference of a tree on `FROM @host` and one that is not";
            return Err(super::unsupported(what, Some(help)));
        }
    };
    let (snapshot, content) = parts.snapshots.difference(lower.snapshot, upper.snapshot)?;
    Ok(Value::Tree(Tree { snapshot, content, host }))
}
