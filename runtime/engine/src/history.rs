//! Which lines of an image's history have a layer.
//!
//! In: histories as frontends write them: what the base has, and then a line for each step that may leave a layer, in the
//! order of the steps. A step that changes nothing has the tree of the one below, so it has no layer; that frontends cannot
//! know. Out: the lines of those steps say so.
//!
//! How: from the root down, by the trees of the steps, as far as the job or the cache knows them. Nothing is run to know more.
//! Where it is not known which of several steps left the layers that there are, or lines and steps do not go together, the exporter
//! makes their numbers agree.

use std::sync::Arc;

use rb_api::Export;
use rb_llb::{Definition, Graph, Op};
use rb_oci::History;
use rb_solver::{JobHandle, OpError};
use rb_store::SnapshotId;

use crate::error::EngineError;
use crate::exports::attest::Depths;
use crate::graph::{Graphs, Output};
use crate::ops::LlbOp;
use crate::packing;
use crate::parts::Parts;
use crate::value::{Product, Root, Value};

/// What layers a tree has.
enum Layers {
    /// Those that a snapshot stands on, and its own.
    Of(Option<SnapshotId>),
    /// So many.
    Count(usize),
}

impl Layers {
    /// Those of a root; of a step that a cache gave they may not be here.
    fn of(root: &Root) -> Self {
        match root {
            Root::Tree(tree) => Self::Of(tree.snapshot),
            Root::Image(image, _) => Self::Count(image.layers.len()),
        }
    }
}

/// The same, if it is known.
type Known = Option<Layers>;

/// Settles the histories of all images among `exports`.
pub(crate) async fn settle<'a>(
    parts: &Arc<Parts>,
    handle: &JobHandle<LlbOp>,
    definitions: impl IntoIterator<Item = &'a Definition> + Send,
    roots: &[Root],
    exports: &mut [Export],
) -> Result<(), OpError> {
    let images = exports.iter_mut().flat_map(|export| match export {
        Export::Image { images, .. } | Export::OciLayout { images, .. } => images.as_mut_slice(),
        Export::Local { .. } | Export::Tar { .. } => &mut [],
    });
    let images: Vec<_> = images.collect();
    if images.is_empty() {
        return Ok(());
    }
    let graphs = Graphs::of(definitions).map_err(crate::op_error)?;
    for image in images {
        let (Some(root), Some(graph)) = (roots.get(image.root), graphs.all().get(image.root)) else {
            continue;
        };
        if image.config.history.iter().any(|line| !line.empty_layer) {
            let trees = trees(handle, graph, Layers::of(root)).await?;
            mark(&mut image.config.history, &depths(parts, trees).await?);
        }
    }
    Ok(())
}

/// Returns the trees of all steps of an image, from the last one down, and that of what the first one stands on.
async fn trees(handle: &JobHandle<LlbOp>, graph: &Graph, root: Layers) -> Result<Vec<Known>, OpError> {
    let mut trees = vec![Some(root)];
    let mut output = graph.root().map(|edge| (edge.vertex, edge.index));
    while let Some(vertex) = output.and_then(|output| graph.get(&output.0)) {
        output = match &vertex.op {
            Op::Source(_) => break,
            // What is merged into the first one.
            Op::Merge(_) => vertex.inputs.first().map(|edge| (edge.vertex, edge.index)),
            Op::Exec(_) | Op::File(_) | Op::Diff(_) | Op::Build(_) => {
                output.and_then(|(_, index)| packing::below(vertex, index))
            }
        };
        trees.push(match output {
            None => Some(Layers::Of(None)),
            Some(output) => known(handle, output).await?,
        });
    }
    Ok(trees)
}

async fn known(handle: &JobHandle<LlbOp>, (vertex, index): Output) -> Result<Known, OpError> {
    let products = handle.peek(vertex).await?.unwrap_or_default();
    Ok(match products.into_iter().nth(index as usize) {
        Some(Product::Here(Value::Tree(tree)) | Product::Resumed(Value::Tree(tree), _)) => {
            Some(Layers::Of(tree.snapshot))
        }
        Some(Product::Image(image, _)) => Some(Layers::Count(image.layers.len())),
        Some(Product::Here(Value::Local(_)) | Product::Resumed(Value::Local(_), _)) | None => None,
    })
}

/// Returns the outputs that a root is a chain of, from it down, each with how many layers it has, where that is known.
pub(crate) async fn chain(
    parts: &Arc<Parts>,
    handle: &JobHandle<LlbOp>,
    definition: &Definition,
    root: &Root,
) -> Result<Depths, OpError> {
    let graphs = Graphs::of([definition]).map_err(crate::op_error)?;
    let outputs: Vec<Output> = graphs.all().iter().flat_map(packing::chain).collect();
    let mut trees = Vec::with_capacity(outputs.len());
    for (place, output) in outputs.iter().enumerate() {
        trees.push(match (place, root) {
            (0, root) => Some(Layers::of(root)),
            _ => known(handle, *output).await?,
        });
    }
    Ok(outputs.into_iter().zip(depths(parts, trees).await?).collect())
}

/// Returns how many layers trees have.
async fn depths(parts: &Arc<Parts>, trees: Vec<Known>) -> Result<Vec<Option<usize>>, OpError> {
    let parts = Arc::clone(parts);
    crate::blocking(move || {
        let depth = |layers: Layers| match layers {
            Layers::Of(tree) => Ok(parts.snapshots.layer_tops(tree)?.len()),
            Layers::Count(count) => Ok(count),
        };
        trees.into_iter().map(|tree| tree.map(depth).transpose()).collect::<Result<_, EngineError>>()
    })
    .await
}

/// Marks the lines of steps that left no layer. `depths` says how many layers the tree of each step has, of the last one first,
/// and at the end that of what the first one stands on; that of the last step is known. The lines before those of the steps are
/// the base's: one for each layer, or none at all.
fn mark(history: &mut [History], depths: &[Option<usize>]) {
    let mut lines: Vec<_> = history.iter_mut().filter(|line| !line.empty_layer).rev().collect();
    let Some((base, steps)) = depths.split_last() else { return };
    let Some(below) = lines.len().checked_sub(steps.len()) else { return };
    if below != 0 && base.is_some_and(|depth| depth != below) {
        return;
    }
    let known = steps.iter().copied().chain([base.or(Some(below))]).enumerate();
    let known: Vec<_> = known.filter_map(|(place, depth)| Some((place, depth?))).collect();
    for pair in known.windows(2) {
        if let [(upper, depth), (lower, same)] = pair
            && depth == same
        {
            lines[*upper..*lower].iter_mut().for_each(|line| line.empty_layer = true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns which lines with a layer are left of `text`, in which a capital letter has none from the beginning.
    fn marked(text: &str, depths: &[Option<usize>]) -> String {
        let line = |letter: char| History {
            created_by: Some(letter.to_string()),
            empty_layer: letter.is_uppercase(),
            ..History::default()
        };
        let mut history: Vec<_> = text.chars().map(line).collect();
        mark(&mut history, depths);
        history
            .iter()
            .filter(|line| !line.empty_layer)
            .filter_map(|line| line.created_by.as_deref())
            .collect()
    }

    #[test]
    fn lines_of_steps_that_changed_nothing_are_marked() {
        // Two layers of the base; of the four steps, the first and the third left none.
        let depths = [4, 3, 3, 2, 2].map(Some);
        assert_eq!(marked("abEcdFgh", &depths), "abdh");
        // What the base has is reckoned where it is not known.
        assert_eq!(marked("abcdgh", &[Some(4), Some(3), Some(3), Some(2), None]), "abdh");
        // The base tells nothing of its two layers.
        assert_eq!(marked("abc", &[3, 3, 2, 2].map(Some)), "b");
        // From nothing.
        assert_eq!(marked("abc", &[1, 1, 0, 0].map(Some)), "b");
        assert_eq!(marked("abc", &[3, 2, 1, 0].map(Some)), "abc");
    }

    #[test]
    fn what_is_not_known_is_not_marked() {
        // Two steps between which nothing is known: both left nothing, or one of them did.
        assert_eq!(marked("abc", &[Some(1), None, Some(1), Some(0)]), "a");
        assert_eq!(marked("abc", &[Some(2), None, Some(1), Some(0)]), "abc");
        // Lines that do not go with the steps.
        assert_eq!(marked("abc", &[2, 2, 2].map(Some)), "abc");
        assert_eq!(marked("a", &[1, 1, 1, 0].map(Some)), "a");
        assert_eq!(marked("a", &[]), "a");
    }
}
