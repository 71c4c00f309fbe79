//! A verified definition: typed vertices, inputs first.
//!
//! **Invariants:** each digest was computed from the bytes at hand; each input is a vertex before the one that uses
//! it, and has the output that is used; each index inside an op points to something; chains are bounded.

use std::collections::BTreeMap;

use bytes::Bytes;
use rb_oci::Digest;

use crate::validate::{in_range, validate};
use crate::wire::{MAX_DEPTH, decode_op, encode_op};
use crate::{
    Definition, Edge, LlbError, Location, Op, OpPlatform, Range, SourceInfo, SourceMapping, VertexMeta,
    WorkerConstraints,
};

/// One operation of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// sha256 of `bytes`.
    pub digest: Digest,
    /// What it does.
    pub op: Op,
    /// What it needs.
    pub inputs: Vec<Edge>,
    /// What it is for; none for ops that do not depend on it.
    pub platform: Option<OpPlatform>,
    /// Which workers may run it.
    pub constraints: Option<WorkerConstraints>,
    /// The op as received, never encoded again.
    pub bytes: Bytes,
}

impl Vertex {
    /// Returns a digest of what the vertex does, apart from what it does it to: the op and its platform, but neither
    /// inputs nor worker constraints. For cache keys, where inputs enter by their own keys.
    pub fn op_digest(&self) -> Digest {
        self.op.digest_without_inputs(self.platform.as_ref())
    }

    /// Decodes the bytes of one vertex apart from its graph. That its inputs are what it takes them for is not checked.
    pub fn decode(bytes: Bytes) -> Result<Self, LlbError> {
        let digest = Digest::of(&bytes);
        let crate::wire::DecodedOp { op, inputs, platform, constraints } = decode_op(&bytes)?;
        let op = op.ok_or(LlbError::Invalid("an operation that does nothing"))?;
        Ok(Self { digest, op, inputs, platform, constraints, bytes })
    }

    /// Encodes the typed values. Equal to `bytes` for all that BuildKit's client or this crate made.
    pub fn encode(&self) -> Bytes {
        encode_op(Some(&self.op), &self.inputs, self.platform.as_ref(), self.constraints.as_ref())
    }
}

impl Op {
    /// Returns the digest of the op on `platform` as if it had no inputs.
    pub fn digest_without_inputs(&self, platform: Option<&OpPlatform>) -> Digest {
        Digest::of(encode_op(Some(self), &[], platform, None))
    }
}

/// A verified graph. Made by [`Definition::graph`].
#[derive(Clone, Debug, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
    index: BTreeMap<Digest, usize>,
    root: Option<Edge>,
    head: Option<Head>,
    meta: BTreeMap<Digest, VertexMeta>,
    no_meta: VertexMeta,
    sources: SourceMapping,
}

/// The last op of a definition.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

impl Graph {
    pub(crate) fn verify(definition: &Definition) -> Result<Self, LlbError> {
        let mut graph = Self::default();
        let mut depths = Vec::new();
        for (at, bytes) in definition.ops.iter().enumerate() {
            let digest = Digest::of(bytes);
            let is_last = at + 1 == definition.ops.len();
            graph.add(digest, bytes, is_last, &mut depths).map_err(|error| match error {
                LlbError::Vertex { .. } => error,
                source => LlbError::Vertex { vertex: digest, source: Box::new(source) },
            })?;
        }
        graph.meta = definition.meta.clone();
        graph.sources = definition.sources.clone();
        Ok(graph)
    }

    fn add(
        &mut self,
        digest: Digest,
        bytes: &Bytes,
        is_last: bool,
        depths: &mut Vec<usize>,
    ) -> Result<(), LlbError> {
        if self.index.contains_key(&digest) && !is_last {
            return Ok(());
        }
        let decoded = decode_op(bytes)?;
        let mut depth = 0;
        for edge in &decoded.inputs {
            let at = *self.index.get(&edge.vertex).ok_or(LlbError::MissingInput { input: edge.vertex })?;
            let outputs = self.vertices[at].op.output_count() as usize;
            in_range("output number of an input", Some(edge.index as usize), outputs)?;
            depth = depth.max(depths[at] + 1);
        }
        if depth > MAX_DEPTH {
            return Err(LlbError::TooLarge { what: "chain of inputs", actual: depth, limit: MAX_DEPTH });
        }
        let op = match (decoded.op, is_last) {
            (Some(op), false) => op,
            (None, true) => match decoded.inputs[..] {
                [root] => {
                    self.root = Some(root);
                    self.head = Some(Head { digest, bytes: bytes.clone() });
                    return Ok(());
                }
                _ => {
                    return Err(LlbError::Invalid(
                        "the last operation of a definition has one input, its root",
                    ));
                }
            },
            (Some(_), true) => {
                return Err(LlbError::Invalid("the last operation of a definition only names its root"));
            }
            (None, false) => return Err(LlbError::Unsupported { kind: "unknown" }),
        };
        validate(&op, decoded.inputs.len())?;
        self.index.insert(digest, self.vertices.len());
        depths.push(depth);
        self.vertices.push(Vertex {
            digest,
            op,
            inputs: decoded.inputs,
            platform: decoded.platform,
            constraints: decoded.constraints,
            bytes: bytes.clone(),
        });
        Ok(())
    }

    /// Returns what the definition is about; none is an empty tree.
    pub fn root(&self) -> Option<Edge> {
        self.root
    }

    /// Returns the vertex with this digest, if there is one.
    pub fn get(&self, digest: &Digest) -> Option<&Vertex> {
        self.index.get(digest).map(|at| &self.vertices[*at])
    }

    /// Returns the vertex with this digest, which an [`Edge`] or another vertex of this graph named.
    ///
    /// # Panics
    /// Where the digest is from elsewhere; ask [`Graph::get`] for such.
    pub fn vertex(&self, digest: &Digest) -> &Vertex {
        self.get(digest).expect("the caller took the digest from this graph, whose edges were verified")
    }

    /// Yields all vertices, inputs first.
    pub fn vertices(&self) -> impl ExactSizeIterator<Item = &Vertex> + DoubleEndedIterator {
        self.vertices.iter()
    }

    /// Returns how many vertices there are.
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    /// Tells whether there are no vertices.
    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }

    /// Returns the position of a vertex in [`Graph::vertices`].
    pub fn position(&self, digest: &Digest) -> Option<usize> {
        self.index.get(digest).copied()
    }

    /// Returns metadata of a vertex; what was not said is the default.
    pub fn meta(&self, digest: &Digest) -> &VertexMeta {
        self.meta.get(digest).unwrap_or(&self.no_meta)
    }

    /// Returns what to call a vertex: the name its frontend chose, or else what it does.
    pub fn name(&self, vertex: &Vertex) -> String {
        self.meta(&vertex.digest).name().map_or_else(|| vertex.display(), ToOwned::to_owned)
    }

    /// Returns all source files and places.
    pub fn sources(&self) -> &SourceMapping {
        &self.sources
    }

    /// Returns all places of a vertex, the main one first.
    pub fn locations(&self, digest: &Digest) -> &[Location] {
        self.sources.locations.get(digest).map_or(&[], Vec::as_slice)
    }

    /// Returns the main place of a vertex: its file and its first range there.
    pub fn location(&self, digest: &Digest) -> Option<(&SourceInfo, Range)> {
        self.locations(digest)
            .iter()
            .find_map(|location| Some((self.sources.files.get(location.file)?, *location.ranges.first()?)))
    }

    pub(crate) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }
}
