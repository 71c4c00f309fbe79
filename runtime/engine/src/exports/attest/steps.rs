//! A graph as numbered steps, and the texts it was written in. Source: BuildKit's `buildConfig`.
//!
//! Steps stand inputs first, each once, as a walk from the root meets them; an op has no inputs here, its step names them.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rb_llb::{Definition, FileActionKind, Graph, Location, Op, Position, SourceInfo, Vertex, to_json};
use rb_oci::Digest;
use serde_json::{Map, Value, json};

use super::strike::{Strike, variable};
use crate::error::EngineError;

/// What of a source says who asked, and not what was asked for.
const OF_SESSION: [&str; 2] = ["local.session", "local.unique"];

/// The steps of one graph.
#[derive(Debug)]
pub(super) struct Steps {
    numbers: BTreeMap<Digest, usize>,
    list: Vec<Value>,
    /// What the texts were and where the steps stand in them; nothing of a graph that nobody wrote.
    source: Option<Value>,
    /// The output that is the root.
    pub(super) root: Option<(Digest, u32)>,
}

impl Steps {
    /// Numbers the steps of a definition; what `strike` knows is not in them. A text is called `file_name` where that is what it is
    /// called in its folder: where that lies is nobody's business.
    pub(super) fn of(
        definition: &Definition,
        file_name: Option<&str>,
        strike: &Strike,
    ) -> Result<Self, EngineError> {
        let graph = definition.graph()?;
        let (numbers, list) = walk(&graph, strike);
        let root = graph.root().map(|edge| (edge.vertex, edge.index));
        let mut steps = Self { numbers, list, source: None, root };
        if !definition.sources.files.is_empty() {
            let infos: Result<Vec<Value>, EngineError> =
                definition.sources.files.iter().map(|file| info(file, file_name, strike)).collect();
            let locations = definition.sources.locations.iter();
            let known = locations.filter_map(|(digest, places)| {
                let places: Vec<Value> = places.iter().map(place).collect();
                let told = if places.is_empty() { json!({}) } else { json!({ "locations": places }) };
                Some((steps.called(digest)?, told))
            });
            let locations: Map<String, Value> = known.collect();
            steps.source = Some(json!({ "infos": infos?, "locations": locations }));
        }
        Ok(steps)
    }

    /// Returns what a vertex is called.
    pub(super) fn called(&self, vertex: &Digest) -> Option<String> {
        self.numbers.get(vertex).map(|number| format!("step{number}"))
    }

    /// Returns the steps as BuildKit's `buildConfig` has them.
    pub(super) fn config(&self) -> Value {
        json!({ "llbDefinition": self.list, "digestMapping": mapping(&self.numbers) })
    }

    /// Returns texts and places.
    pub(super) fn source(&self) -> Option<&Value> {
        self.source.as_ref()
    }
}

fn mapping(numbers: &BTreeMap<Digest, usize>) -> Map<String, Value> {
    numbers.iter().map(|(digest, number)| (digest.to_string(), format!("step{number}").into())).collect()
}

/// Numbers the vertices that the last op leads to, that one last.
fn walk(graph: &Graph, strike: &Strike) -> (BTreeMap<Digest, usize>, Vec<Value>) {
    let Value::Array(ops) = to_json(graph) else { return Default::default() };
    let digest = |op: &Value| op["Digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
    let mut by_digest: BTreeMap<Digest, Value> =
        ops.into_iter().filter_map(|mut op| Some((digest(&op)?, op["Op"].take()))).collect();
    // The last op has nothing but the root as its input.
    let head = by_digest.keys().find(|digest| graph.get(digest).is_none()).copied();
    let mut open: Vec<(Digest, bool)> = head.map(|head| (head, false)).into_iter().collect();
    let (mut numbers, mut list) = (BTreeMap::new(), Vec::new());
    while let Some((digest, is_left)) = open.pop() {
        if numbers.contains_key(&digest) {
            continue;
        }
        let inputs: Vec<(Digest, u32)> = match graph.get(&digest) {
            Some(vertex) => vertex.inputs.iter().map(|edge| (edge.vertex, edge.index)).collect(),
            None => graph.root().map(|edge| (edge.vertex, edge.index)).into_iter().collect(),
        };
        if !is_left {
            open.push((digest, true));
            open.extend(inputs.iter().rev().map(|(input, _)| (*input, false)));
            continue;
        }
        let number = list.len();
        let mut op = by_digest.remove(&digest).unwrap_or_default();
        clean(&mut op, graph.get(&digest), strike);
        let mut step = json!({ "id": format!("step{number}"), "op": op });
        if !inputs.is_empty() {
            let called = inputs.iter().map(|(input, index)| format!("step{}:{index}", numbers[input]));
            step["inputs"] = called.collect();
        }
        list.push(step);
        numbers.insert(digest, number);
    }
    (numbers, list)
}

/// Takes out of an op what names its session, its inputs, and what nobody is to read.
fn clean(op: &mut Value, vertex: Option<&Vertex>, strike: &Strike) {
    if let Some(op) = op.as_object_mut() {
        op.remove("inputs");
    }
    if let Some(source) = op.pointer_mut("/Op/source").and_then(Value::as_object_mut) {
        if let Some(attrs) = source.get_mut("attrs").and_then(Value::as_object_mut) {
            OF_SESSION.iter().for_each(|name| drop(attrs.remove(*name)));
        }
        if source.get("attrs").and_then(Value::as_object).is_some_and(Map::is_empty) {
            source.remove("attrs");
        }
    }
    if let Some(Value::Array(env)) = op.pointer_mut("/Op/exec/meta/env") {
        for line in env {
            if let Some(text) = line.as_str() {
                *line = variable(text).into();
            }
        }
    }
    let Some(Vertex { op: Op::File(files), .. }) = vertex else { return };
    for (at, action) in files.actions.iter().enumerate() {
        if let FileActionKind::Mkfile(mkfile) = &action.kind
            && strike.is_in(&mkfile.data)
        {
            let text = String::from_utf8_lossy(&mkfile.data);
            let data = BASE64_STANDARD.encode(strike.text(&text));
            if let Some(told) = op.pointer_mut(&format!("/Op/file/actions/{at}/Action/mkfile/data")) {
                *told = data.into();
            }
        }
    }
}

/// Returns a text that steps were written in.
fn info(file: &SourceInfo, file_name: Option<&str>, strike: &Strike) -> Result<Value, EngineError> {
    let text = String::from_utf8_lossy(&file.data);
    let name = file_name.filter(|name| file.name.ends_with(name)).unwrap_or(&file.name);
    let mut info = json!({ "filename": name, "data": BASE64_STANDARD.encode(strike.text(&text)) });
    if !file.language.is_empty() {
        info["language"] = file.language.clone().into();
    }
    if let Some(definition) = file.definition()? {
        let (numbers, list) = walk(&definition.graph()?, strike);
        info["llbDefinition"] = list.into();
        info["digestMapping"] = mapping(&numbers).into();
    }
    Ok(info)
}

fn place(place: &Location) -> Value {
    let position = |Position { line, character }: Position| match character {
        0 => json!({ "line": line }),
        _ => json!({ "line": line, "character": character }),
    };
    let range = |range: &rb_llb::Range| json!({ "start": position(range.start), "end": position(range.end) });
    let mut told = json!({ "ranges": place.ranges.iter().map(range).collect::<Vec<_>>() });
    if place.file > 0 {
        told["sourceIndex"] = place.file.into();
    }
    told
}
