//! The graph on the wire: ops as bytes, inputs first, and what is said about them.

use std::collections::BTreeMap;

use bytes::Bytes;
use rb_oci::Digest;

use crate::wire::{self, decode_definition, encode_definition};
use crate::{Graph, LlbError, SourceMapping, VertexMeta};

/// A marshalled graph. The last op names the root; no ops at all are an empty tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// Ops, inputs first; the last one has no operation, only the root as its input.
    pub ops: Vec<Bytes>,
    /// Metadata by digest of the op.
    pub meta: BTreeMap<Digest, VertexMeta>,
    /// Where the vertices were written.
    pub sources: SourceMapping,
}

impl Definition {
    /// Longest definition that [`Definition::from_bytes`] takes.
    pub const MAX_BYTES: usize = wire::MAX_DEFINITION_BYTES;

    /// Returns the definition of an empty tree.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Tells whether this is an empty tree.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Encodes the definition; its ops stay the bytes they are.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode_definition(self)
    }

    /// Decodes a definition, but not its ops. Takes any bytes: lists are counted before they are decoded.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LlbError> {
        decode_definition(bytes)
    }

    /// Decodes and verifies the ops.
    pub fn graph(&self) -> Result<Graph, LlbError> {
        Graph::verify(self)
    }
}
