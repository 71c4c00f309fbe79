//! From nodes to a definition, in the order of BuildKit's client: depth first, inputs before what uses them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use rb_diag::{SourceId, SourceMap, Span};
use rb_oci::Digest;

use super::{Node, State};
use crate::wire::encode_op;
use crate::{Definition, LlbError, Location, Position, Range, SourceInfo, SourceMapping, VertexMeta, caps};

/// Marshals `state`.
pub(super) fn marshal(state: &State, sources: &SourceMap) -> Result<Definition, LlbError> {
    let (Some(root), Some(node)) = (state.digest()?, &state.node) else {
        return Ok(Definition::empty());
    };
    let mut collected = Collected::new(sources);
    walk(node, &mut |node| collected.add(node))?;
    let Collected { mut ops, known: _, mut meta, locations, files } = collected;
    let head = encode_op(None, &[root], None, None);
    let caps = caps::of_head(meta.values());
    meta.insert(Digest::of(&head), VertexMeta { caps, ..VertexMeta::default() });
    ops.push(head);
    Ok(Definition { ops, meta, sources: SourceMapping { files: files.infos, locations } })
}

/// Calls `visit` for each node once, inputs first. A loop, since chains can be long.
fn walk<'a>(root: &'a Node, visit: &mut dyn FnMut(&'a Node) -> Result<(), LlbError>) -> Result<(), LlbError> {
    let mut seen: HashSet<*const Node> = HashSet::from([std::ptr::from_ref(root)]);
    let mut stack = vec![(root, 0)];
    while let Some((node, next)) = stack.last_mut() {
        let node = *node;
        match node.inputs.get(*next) {
            Some(input) => {
                *next += 1;
                if let Some(input) =
                    input.node.as_deref().filter(|input| seen.insert(std::ptr::from_ref(*input)))
                {
                    stack.push((input, 0));
                }
            }
            None => {
                visit(node)?;
                stack.pop();
            }
        }
    }
    Ok(())
}

struct Collected<'a> {
    ops: Vec<Bytes>,
    known: BTreeSet<Digest>,
    meta: BTreeMap<Digest, VertexMeta>,
    locations: BTreeMap<Digest, Vec<Location>>,
    files: Files<'a>,
}

impl<'a> Collected<'a> {
    fn new(sources: &'a SourceMap) -> Self {
        Self {
            ops: Vec::new(),
            known: BTreeSet::new(),
            meta: BTreeMap::new(),
            locations: BTreeMap::new(),
            files: Files::new(sources),
        }
    }

    /// Adds a node; two nodes with the same bytes are one op, about which both say something.
    fn add(&mut self, node: &Node) -> Result<(), LlbError> {
        let encoded = node.encoded.as_ref().map_err(Clone::clone)?;
        self.meta.entry(encoded.digest).or_default().merge(&node.meta);
        let locations = self.locations.entry(encoded.digest).or_default();
        locations.extend(node.span.and_then(|span| self.files.location(span)));
        if self.known.insert(encoded.digest) {
            self.ops.push(encoded.bytes.clone());
        }
        Ok(())
    }
}

/// Source files in the order in which vertices name them.
struct Files<'a> {
    sources: &'a SourceMap,
    index: BTreeMap<SourceId, usize>,
    infos: Vec<SourceInfo>,
}

impl<'a> Files<'a> {
    fn new(sources: &'a SourceMap) -> Self {
        Self { sources, index: BTreeMap::new(), infos: Vec::new() }
    }

    fn location(&mut self, span: Span) -> Option<Location> {
        let source = self.sources.get(span.source)?;
        let file = *self.index.entry(span.source).or_insert_with(|| {
            self.infos.push(SourceInfo {
                name: source.name.clone(),
                language: language(&source.name).to_owned(),
                data: Bytes::copy_from_slice(source.text.as_bytes()),
                def: None,
            });
            self.infos.len() - 1
        });
        let position = |offset| {
            let at = source.position(offset);
            Position { line: at.line, character: at.column.saturating_sub(1) }
        };
        let range = Range { start: position(span.start), end: position(span.end) };
        Some(Location { file, ranges: vec![range] })
    }
}

/// Names the language as GitHub's linguist does, by the file's name.
fn language(name: &str) -> &'static str {
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default().to_lowercase();
    if file.contains("dockerfile") || file.contains("containerfile") { "Dockerfile" } else { "Buildfile" }
}
