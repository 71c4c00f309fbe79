//! From a failing vertex to the user's line.
//!
//! In: a vertex's digest and the definitions of its job. Out: the [`Place`] that the frontend noted for it. Definitions
//! may come from anywhere, so nothing in them is trusted to fit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use rb_api::SolveError;
use rb_buildfile::CALLED_FROM;
use rb_frontend::TargetOutput;
use rb_llb::{Definition, Graph, Position};
use rb_oci::Digest;

use crate::progress::clean;

/// A place in a file that came with a definition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Name of the file.
    pub(super) file: String,
    /// All of its text.
    pub(super) text: String,
    /// Bytes, within one line.
    pub(super) range: Range<usize>,
    /// Line, from 1.
    pub(super) line: u32,
}

/// Returns the main place of a vertex, if a definition knows it. Of a statement over several lines, the first is shown.
pub(super) fn of_vertex(vertex: &Digest, definitions: &[Definition]) -> Option<Place> {
    definitions.iter().find_map(|definition| {
        let location = definition.sources.locations.get(vertex)?.first()?;
        let file = definition.sources.files.get(location.file)?;
        let range = location.ranges.first()?;
        let text = String::from_utf8_lossy(&file.data).into_owned();
        let start = offset(&text, range.start)?;
        let line_end = text.get(start..)?.find('\n').map_or(text.len(), |end| start + end);
        let end = offset(&text, range.end).unwrap_or(line_end).clamp(start, line_end);
        let written = text.get(start..end)?.trim_end();
        let written = written.strip_suffix('\\').unwrap_or(written).trim_end();
        Some(Place {
            file: file.name.clone(),
            range: start..start + written.len(),
            line: range.start.line,
            text,
        })
    })
}

/// Returns how a graph's root comes to need a vertex, target by target, as far as it leads through other targets than the
/// vertex's own: `called from +app --MODE=debug`, innermost first.
pub(super) fn callers(vertex: &Digest, definitions: &[Definition]) -> Vec<String> {
    let graphs = definitions.iter().filter_map(|definition| definition.graph().ok());
    graphs.filter_map(|graph| way(&graph, vertex)).next().unwrap_or_default()
}

/// Returns where the functions that a vertex's statement stands in are called: `called from DO +F, Buildfile:5`, innermost
/// first.
pub(super) fn calls(vertex: &Digest, definitions: &[Definition]) -> Vec<String> {
    const MOST: usize = 20;
    let graphs = definitions.iter().filter_map(|definition| definition.graph().ok());
    let noted = |graph: Graph| graph.meta(vertex).description.get(CALLED_FROM).cloned();
    let noted = graphs.filter_map(noted).next().unwrap_or_default();
    noted.lines().take(MOST).map(|line| clean(line, false)).collect()
}

/// Returns which target names which in a BUILD, the first that does: callee to caller, by their keys.
pub(crate) fn callers_by_build(targets: &[Arc<TargetOutput>]) -> BTreeMap<String, String> {
    let mut callers = BTreeMap::new();
    let mut open: Vec<&TargetOutput> = targets.iter().map(AsRef::as_ref).collect();
    while let Some(target) = open.pop() {
        for callee in &target.builds {
            if let Entry::Vacant(place) = callers.entry(callee.key.to_string()) {
                place.insert(target.key.to_string());
                open.push(callee);
            }
        }
    }
    callers
}

/// Returns further targets that the first one of [`callers`] is built for; `by` says who names whom in a BUILD.
pub(super) fn builders(
    error: &SolveError,
    definitions: &[Definition],
    by: &BTreeMap<String, String>,
) -> Vec<String> {
    const MOST: usize = 20;
    let SolveError::Vertex { vertex, name, .. } = error else { return Vec::new() };
    let callers = callers(vertex, definitions);
    let outermost = callers.last().and_then(|line| line.strip_prefix("called from "));
    let own = of_target(name).map_or("", |(target, _)| target);
    let mut at = outermost.unwrap_or(own);
    let mut lines = Vec::new();
    while let Some(caller) = by.get(at).filter(|_| lines.len() < MOST) {
        lines.push(format!("called from {caller}"));
        at = caller;
    }
    lines
}

/// Splits `+app | RUN make` into the target and what is done; the `[stage 2/5]` of a Dockerfile is no target.
pub(super) fn of_target(name: &str) -> Option<(&str, &str)> {
    name.split_once(" | ").filter(|_| !name.starts_with('['))
}

fn way(graph: &Graph, vertex: &Digest) -> Option<Vec<String>> {
    graph.get(vertex)?;
    // Who needs each vertex: inputs stand before their users, so the last user named is nearest to the root.
    let mut needed_by: BTreeMap<Digest, Digest> = BTreeMap::new();
    for user in graph.vertices() {
        for input in &user.inputs {
            needed_by.insert(input.vertex, user.digest);
        }
    }
    let target = |digest: &Digest| -> Option<String> {
        let name = graph.meta(digest).name()?;
        Some(clean(of_target(name)?.0, false))
    };
    let mut last = target(vertex)?;
    let mut lines = Vec::new();
    let mut at = *vertex;
    while let Some(user) = needed_by.get(&at) {
        at = *user;
        if let Some(next) = target(user).filter(|next| *next != last) {
            lines.push(format!("called from {next}"));
            last = next;
        }
    }
    Some(lines)
}

/// Returns the byte a position stands at; a character behind the end of its line is that end.
fn offset(text: &str, position: Position) -> Option<usize> {
    let line = usize::try_from(position.line).ok()?.checked_sub(1)?;
    let start = if line == 0 { 0 } else { text.match_indices('\n').nth(line - 1)?.0 + 1 };
    let rest = text.get(start..)?;
    let rest = rest.split_once('\n').map_or(rest, |(line, _)| line);
    let inside = rest.char_indices().nth(position.character as usize).map_or(rest.len(), |(at, _)| at);
    Some(start + inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_of_a_dockerfile_names_no_target() {
        assert_eq!(of_target("+app | RUN a | b"), Some(("+app", "RUN a | b")));
        assert_eq!(of_target("[app 2/5] RUN a | b"), None);
        assert_eq!(of_target("look up alpine"), None);
    }

    #[test]
    fn positions_count_lines_from_one_and_characters_from_zero() {
        let text = "a\nbö+c\n";
        let at = |line, character| offset(text, Position { line, character });
        assert_eq!(
            [at(1, 0), at(2, 0), at(2, 2), at(2, 99), at(3, 0)],
            [Some(0), Some(2), Some(5), Some(7), Some(8)]
        );
        assert_eq!([at(0, 0), at(9, 0)], [None, None]);
    }
}
