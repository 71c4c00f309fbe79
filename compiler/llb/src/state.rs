//! The builder: trees that are made of other trees.
//!
//! In: typed ops, the states they work on, and what to say about them. Out: a [`Definition`].
//! A [`State`] is one output of an immutable node; cloning it is cheap. A node is encoded and digested as it is made,
//! so a state's digest is always at hand; what was wrong with a node is told when it or a state made of it is
//! digested or marshalled.
//! **Invariant:** the bytes, the order of ops and the capabilities are those BuildKit's client would give for the
//! same graph. Source: BuildKit's `client/llb`.

mod exec;
mod file;
mod marshal;
mod names;
mod path;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rb_diag::{SourceMap, Span};
use rb_oci::{Digest, Platform};

pub use exec::{ExecBuilder, ExecState, MountOptions};
pub use file::FileBuilder;
pub use path::absolute_path;

use crate::meta::CUSTOM_NAME;
use crate::validate::{in_range, validate};
use crate::wire::encode_op;
use crate::{
    BuildOp, CopyAction, Definition, DiffOp, Edge, FileOp, LinuxResources, LlbError, MergeOp, MkdirAction,
    MkfileAction, Op, OpPlatform, ProgressGroup, SourceOp, VertexMeta, WorkerConstraints, attr, caps,
};

/// Name of the input of a build op that holds the definition.
const LLB_DEFINITION_INPUT: &str = "buildkit.llb.definition";

/// A tree: one output of a node, or the empty tree.
#[derive(Clone, Default)]
pub struct State {
    node: Option<Arc<Node>>,
    output: u32,
}

/// What is said about a node; nothing of it but `worker_filter` is part of its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMeta {
    /// What to show instead of what the op does.
    pub name: Option<String>,
    /// Where it was written.
    pub span: Option<Span>,
    /// Whether it runs even where a result is known.
    pub ignore_cache: bool,
    /// Further texts, which engines do not interpret.
    pub description: BTreeMap<String, String>,
    /// Whether its result goes to exported caches; none is the exporter's choice.
    pub export_cache: Option<bool>,
    /// What it is shown with.
    pub progress_group: Option<ProgressGroup>,
    /// Limits on memory and processors.
    pub linux_resources: Option<LinuxResources>,
    /// Capabilities beyond those the op asks for by itself.
    pub caps: Vec<String>,
    /// Which workers may run it, as containerd filters.
    pub worker_filter: Vec<String>,
}

impl NodeMeta {
    /// Says what to show.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Says where it was written.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    fn vertex_meta(self, op: &Op) -> VertexMeta {
        let Self {
            name, ignore_cache, mut description, export_cache, progress_group, linux_resources, ..
        } = self;
        description.extend(name.map(|name| (CUSTOM_NAME.to_owned(), name)));
        let asked = caps::of(op, linux_resources.is_some()).into_iter().map(ToOwned::to_owned);
        let caps = asked.chain(self.caps).map(|cap| (cap, true)).collect();
        VertexMeta { description, ignore_cache, export_cache, caps, progress_group, linux_resources }
    }
}

struct Node {
    /// Inputs in the order in which BuildKit's client visits them; not always the order of the op's inputs.
    inputs: Vec<State>,
    encoded: Result<Encoded, LlbError>,
    meta: VertexMeta,
    span: Option<Span>,
}

struct Encoded {
    bytes: Bytes,
    digest: Digest,
    outputs: u32,
}

impl Drop for Node {
    /// Drops long chains in a loop: recursion would use up the stack.
    fn drop(&mut self) {
        let mut inputs = std::mem::take(&mut self.inputs);
        while let Some(state) = inputs.pop() {
            if let Some(mut node) = state.node.and_then(Arc::into_inner) {
                inputs.append(&mut node.inputs);
            }
        }
    }
}

impl Node {
    /// Encodes `op`, whose inputs are `inputs`, none of them empty; they are visited in the order `visit`.
    fn new(
        op: &Op,
        inputs: &[State],
        visit: &[usize],
        platform: Option<&OpPlatform>,
        meta: NodeMeta,
    ) -> Arc<Self> {
        let constraints = WorkerConstraints { filter: meta.worker_filter.clone() };
        let encoded = edges(inputs).and_then(|edges| {
            validate(op, edges.len()).map_err(|error| builder_error(op, error))?;
            let bytes = encode_op(Some(op), &edges, platform, Some(&constraints));
            Ok(Encoded { digest: Digest::of(&bytes), bytes, outputs: op.output_count() })
        });
        Self::with(encoded, op, visit.iter().filter_map(|at| inputs.get(*at).cloned()).collect(), meta)
    }

    /// Makes a node that cannot be marshalled.
    fn failed(op: &Op, error: LlbError, meta: NodeMeta) -> Arc<Self> {
        let error = match error {
            LlbError::Builder { .. } => error,
            other => builder_error(op, other),
        };
        Self::with(Err(error), op, Vec::new(), meta)
    }

    fn with(encoded: Result<Encoded, LlbError>, op: &Op, inputs: Vec<State>, meta: NodeMeta) -> Arc<Self> {
        let span = meta.span;
        Arc::new(Self { inputs, encoded, meta: meta.vertex_meta(op), span })
    }

    fn output(self: &Arc<Self>, output: u32) -> State {
        State { node: Some(Arc::clone(self)), output }
    }
}

fn builder_error(op: &Op, error: LlbError) -> LlbError {
    LlbError::Builder { name: op.display(), source: Box::new(error) }
}

fn edges(inputs: &[State]) -> Result<Vec<Edge>, LlbError> {
    inputs
        .iter()
        .map(|state| state.digest().transpose().unwrap_or(Err(LlbError::Invalid("an input is empty"))))
        .collect()
}

impl State {
    /// Returns the empty tree.
    pub fn scratch() -> Self {
        Self::default()
    }

    /// Tells whether this is the empty tree.
    pub fn is_scratch(&self) -> bool {
        self.node.is_none()
    }

    /// Returns the edge that names this tree; none is the empty tree.
    pub fn digest(&self) -> Result<Option<Edge>, LlbError> {
        let Some(node) = &self.node else { return Ok(None) };
        let encoded = node.encoded.as_ref().map_err(Clone::clone)?;
        in_range("output number", Some(self.output as usize), encoded.outputs as usize).map_err(
            |source| LlbError::Builder { name: encoded.digest.to_string(), source: Box::new(source) },
        )?;
        Ok(Some(Edge { vertex: encoded.digest, index: self.output }))
    }

    /// Makes a tree that comes from outside. Images are for a platform, the host's where none is given; other
    /// sources are the same for all.
    pub fn source(
        identifier: impl Into<String>,
        attrs: BTreeMap<String, String>,
        platform: Option<&Platform>,
        meta: NodeMeta,
    ) -> Self {
        let source = SourceOp { identifier: identifier.into(), attrs };
        let for_platform = matches!(source.scheme().0, "docker-image" | "oci-layout");
        let platform = for_platform.then(|| platform_or_host(platform));
        Node::new(&Op::Source(source), &[], &[], platform.as_ref(), meta).output(0)
    }

    /// Changes files, and gives output `output` of that. Indices of the actions are those of `inputs`, and beyond
    /// these earlier actions; inputs may be empty or equal, the op's indices are adjusted. File ops are the same for
    /// all platforms, so `_platform` changes nothing. [`FileBuilder`] is easier to use.
    pub fn file(
        inputs: Vec<Self>,
        op: FileOp,
        output: u32,
        _platform: Option<&Platform>,
        meta: NodeMeta,
    ) -> Self {
        file::node(&inputs, op, meta).output(output)
    }

    /// Runs a command. Mounts may stand in any order and their inputs may be empty or equal: they are put into
    /// BuildKit's order, and [`ExecState::output`] still takes the numbers given here. An `ssh` mount without a path
    /// gets one, and `SSH_AUTH_SOCK` is set where the command has none. [`ExecBuilder`] is easier to use.
    pub fn exec(
        inputs: Vec<Self>,
        op: crate::ExecOp,
        platform: Option<&Platform>,
        meta: NodeMeta,
    ) -> ExecState {
        exec::state(&inputs, op, platform, meta)
    }

    /// Lays trees over one another, lowest first. Empty ones are left out; one alone is itself.
    pub fn merge(inputs: Vec<Self>, _platform: Option<&Platform>, meta: NodeMeta) -> Self {
        let mut inputs: Vec<Self> = inputs.into_iter().filter(|state| !state.is_scratch()).collect();
        if inputs.len() < 2 {
            return inputs.pop().unwrap_or_default();
        }
        let order: Vec<usize> = (0..inputs.len()).collect();
        let op = Op::Merge(MergeOp { inputs: order.iter().copied().map(Some).collect() });
        Node::new(&op, &inputs, &order, None, meta).output(0)
    }

    /// Takes what `upper` has over `lower`. Over the empty tree that is all of it.
    pub fn diff(lower: &Self, upper: &Self, _platform: Option<&Platform>, meta: NodeMeta) -> Self {
        if lower.is_scratch() {
            return upper.clone();
        }
        let upper_index = (!upper.is_scratch()).then_some(1);
        let op = Op::Diff(DiffOp { lower: Some(0), upper: upper_index });
        let inputs: Vec<Self> =
            [lower, upper].into_iter().filter(|state| !state.is_scratch()).cloned().collect();
        let order: Vec<usize> = (0..inputs.len()).collect();
        Node::new(&op, &inputs, &order, None, meta).output(0)
    }

    /// Solves the definition that lies in `input`, in the file `filename` (BuildKit's default where none).
    pub fn build(input: &Self, filename: Option<&str>, platform: Option<&Platform>, meta: NodeMeta) -> Self {
        let attrs = filename.map(|name| (attr::LLB_DEFINITION_FILENAME.to_owned(), name.to_owned()));
        let inputs = BTreeMap::from([(LLB_DEFINITION_INPUT.to_owned(), 0)]);
        let op = BuildOp { builder: None, inputs, def: None, attrs: attrs.into_iter().collect() };
        let platform = platform_or_host(platform);
        Node::new(&Op::Build(op), std::slice::from_ref(input), &[0], Some(&platform), meta).output(0)
    }

    /// Starts a file op on this tree.
    pub fn files(&self) -> FileBuilder {
        FileBuilder::new(self)
    }

    /// Copies from `source` into this tree.
    pub fn copy(&self, source: &Self, action: CopyAction, meta: NodeMeta) -> Self {
        self.files().copy(source, action).finish(meta)
    }

    /// Makes a directory in this tree.
    pub fn mkdir(&self, action: MkdirAction, meta: NodeMeta) -> Self {
        self.files().mkdir(action).finish(meta)
    }

    /// Makes a file in this tree.
    pub fn mkfile(&self, action: MkfileAction, meta: NodeMeta) -> Self {
        self.files().mkfile(action).finish(meta)
    }

    /// Marshals this tree and all it is made of. Spans become places through `sources`; the empty tree gives an empty
    /// definition.
    pub fn marshal(&self, sources: &SourceMap) -> Result<Definition, LlbError> {
        marshal::marshal(self, sources)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digest() {
            Ok(None) => write!(out, "State(scratch)"),
            Ok(Some(edge)) => write!(out, "State({}.{})", edge.vertex.short(), edge.index),
            Err(error) => write!(out, "State({error})"),
        }
    }
}

/// Returns the platform an op is for. Ops that depend on it always name one, as BuildKit's client does.
fn platform_or_host(platform: Option<&Platform>) -> OpPlatform {
    platform.map_or_else(|| OpPlatform::from(&Platform::host()), OpPlatform::from)
}

/// Inputs of an op as they are used: empty ones are none, equal ones are one.
#[derive(Default)]
struct InputList {
    states: Vec<State>,
    edges: Vec<Edge>,
}

impl InputList {
    /// Returns the index of input `at` of `given` in this list, after adding it if need be.
    fn index(
        &mut self,
        given: &[State],
        at: Option<usize>,
        what: &'static str,
    ) -> Result<Option<usize>, LlbError> {
        let Some(at) = at else { return Ok(None) };
        in_range(what, Some(at), given.len())?;
        let Some(edge) = given[at].digest()? else { return Ok(None) };
        if let Some(index) = self.edges.iter().position(|known| *known == edge) {
            return Ok(Some(index));
        }
        self.edges.push(edge);
        self.states.push(given[at].clone());
        Ok(Some(self.edges.len() - 1))
    }
}

#[cfg(test)]
mod tests;
