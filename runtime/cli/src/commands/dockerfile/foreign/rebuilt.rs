//! A graph that came as bytes, as a state that more can be made of.
//!
//! Places in files are kept, so that a step that fails is shown with its lines. **Invariant:** the state does what the graph does; the
//! bytes of its ops are our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_diag::{SourceFile, SourceMap, Span};
use rb_llb::{Definition, Edge, ExecState, FileOp, Graph, LlbError, NodeMeta, Op, Range, State, Vertex};
use rb_oci::{Digest, Platform};

/// What a vertex became.
enum Made {
    Tree(State),
    Exec(ExecState),
    /// A node for each output that is asked for.
    Files(Box<(Vec<State>, FileOp, NodeMeta)>),
}

impl Made {
    fn output(&self, index: u32) -> State {
        match self {
            Self::Tree(state) => state.clone(),
            Self::Exec(exec) => exec.output(index),
            Self::Files(files) => {
                let (inputs, op, meta) = files.as_ref();
                State::file(inputs.clone(), op.clone(), index, None, meta.clone())
            }
        }
    }
}

const LOCAL: &str = "local://";

/// Makes a graph of a definition in which folders of the client have the names that `folders` leads to.
pub(super) fn with_folders(
    definition: &Definition,
    folders: &BTreeMap<String, String>,
) -> Result<Definition, LlbError> {
    let sources = SourceMap::default();
    let renamed = |identifier: &str| {
        let known = identifier.strip_prefix(LOCAL).and_then(|name| folders.get(name));
        known.map_or_else(|| identifier.to_owned(), |known| format!("{LOCAL}{known}"))
    };
    state_with(definition, &sources, &renamed)?.marshal(&sources)
}

/// Makes a state of a definition; files that it came from are added to `sources`.
pub(super) fn state(definition: &Definition, sources: &SourceMap) -> Result<State, LlbError> {
    state_with(definition, sources, &ToOwned::to_owned)
}

fn state_with(
    definition: &Definition,
    sources: &SourceMap,
    source_name: &dyn Fn(&str) -> String,
) -> Result<State, LlbError> {
    let graph = definition.graph()?;
    let Some(root) = graph.root() else { return Ok(State::scratch()) };
    let files: Vec<Arc<SourceFile>> = definition
        .sources
        .files
        .iter()
        .map(|file| sources.add(file.name.clone(), String::from_utf8_lossy(&file.data).into_owned()))
        .collect();
    let mut made: BTreeMap<Digest, Made> = BTreeMap::new();
    for vertex in graph.vertices() {
        let inputs: Vec<State> = vertex.inputs.iter().map(|edge| output(&made, edge)).collect();
        let meta = meta(&graph, vertex, &files);
        made.insert(vertex.digest, node(vertex, inputs, meta, source_name)?);
    }
    Ok(output(&made, &root))
}

fn output(made: &BTreeMap<Digest, Made>, edge: &Edge) -> State {
    // A verified graph has inputs first.
    made.get(&edge.vertex).map(|made| made.output(edge.index)).unwrap_or_default()
}

fn node(
    vertex: &Vertex,
    inputs: Vec<State>,
    meta: NodeMeta,
    source_name: &dyn Fn(&str) -> String,
) -> Result<Made, LlbError> {
    let platform = vertex.platform.as_ref().map(Platform::from);
    let at = |index: &Option<usize>| index.and_then(|index| inputs.get(index)).cloned().unwrap_or_default();
    Ok(match &vertex.op {
        Op::Source(source) => Made::Tree(State::source(
            source_name(&source.identifier),
            source.attrs.clone(),
            platform.as_ref(),
            meta,
        )),
        Op::Exec(exec) => Made::Exec(State::exec(inputs, exec.clone(), platform.as_ref(), meta)),
        Op::File(files) => Made::Files(Box::new((inputs, files.clone(), meta))),
        Op::Merge(merge) => Made::Tree(State::merge(merge.inputs.iter().map(at).collect(), None, meta)),
        Op::Diff(diff) => Made::Tree(State::diff(&at(&diff.lower), &at(&diff.upper), None, meta)),
        Op::Build(_) => return Err(LlbError::Invalid("a graph in a graph is not taken of a frontend")),
    })
}

fn meta(graph: &Graph, vertex: &Vertex, files: &[Arc<SourceFile>]) -> NodeMeta {
    let told = graph.meta(&vertex.digest).clone();
    let place = graph.locations(&vertex.digest).first();
    let span = place.and_then(|place| {
        let file = files.get(place.file)?;
        let (first, last) = (place.ranges.first()?, place.ranges.last()?);
        Some(span(file, first, last))
    });
    NodeMeta {
        name: told.name().map(ToOwned::to_owned),
        span,
        ignore_cache: told.ignore_cache,
        description: told.description,
        export_cache: told.export_cache,
        progress_group: told.progress_group,
        linux_resources: told.linux_resources,
        caps: told.caps.into_keys().collect(),
        worker_filter: vertex.constraints.as_ref().map(|worker| worker.filter.clone()).unwrap_or_default(),
    }
}

/// Returns the lines of a place, as far as the file has them.
fn span(file: &SourceFile, first: &Range, last: &Range) -> Span {
    let start_of = |line: u32| {
        let before = file.text.split_inclusive('\n').take(line.saturating_sub(1) as usize).map(str::len);
        before.sum::<usize>()
    };
    let start = start_of(first.start.line);
    let end = start_of(last.end.line.max(last.start.line).saturating_add(1));
    let text = file.text.get(start..end).unwrap_or_default();
    let end = start + text.trim_end().len();
    Span { source: file.id, start: start as u32, end: end as u32 }
}

#[cfg(test)]
mod tests {
    use rb_llb::{CopyAction, MkfileAction, dump};

    use super::*;

    #[test]
    fn a_graph_that_came_as_bytes_is_the_same_again() {
        let sources = SourceMap::default();
        let file = sources.add("f", "one\ntwo\nthree\n");
        let at = |start, end| Span { source: file.id, start, end };
        let image = State::source(
            "docker-image://docker.io/library/a:1",
            BTreeMap::new(),
            None,
            NodeMeta::named("a"),
        );
        let made = image.mkfile(
            MkfileAction { path: "/x".to_owned(), ..MkfileAction::default() },
            NodeMeta::named("x").at(at(4, 7)),
        );
        let copy = CopyAction { src: "/x".to_owned(), dest: "/y".to_owned(), ..CopyAction::default() };
        let both = image.copy(&made, copy, NodeMeta::named("y"));
        let merged = State::merge(vec![made.clone(), both], None, NodeMeta::named("all"));
        let definition = merged.marshal(&sources).expect("marshals");
        let came = Definition::from_bytes(&definition.to_bytes()).expect("decodes");
        let again = SourceMap::default();
        let state = state(&came, &again).expect("is made");
        let back = state.marshal(&again).expect("marshals");
        assert_eq!(back.ops, definition.ops);
        let graph = back.graph().expect("is a graph");
        assert_eq!(dump(&graph), dump(&definition.graph().expect("is a graph")));
        let place = graph.vertices().find_map(|vertex| graph.location(&vertex.digest)).expect("has a place");
        assert_eq!((place.0.name.as_str(), place.1.start.line), ("f", 2));
        // Under other names it is the same but for those.
        let local = State::source("local://context", BTreeMap::new(), None, NodeMeta::named("load"));
        let folders = BTreeMap::from([("context".to_owned(), "context@app".to_owned())]);
        let definition = local.marshal(&sources).expect("marshals");
        let renamed = with_folders(&definition, &folders).expect("is made").graph().expect("is a graph");
        assert!(dump(&renamed).contains("local://context@app"), "{}", dump(&renamed));
        assert!(super::state(&Definition::empty(), &again).expect("is made").is_scratch());
    }
}
