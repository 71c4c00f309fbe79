//! From a failing vertex to the user's line.
//!
//! In: a vertex's digest and the definitions of its job. Out: the [`Place`] that the frontend noted for it. Definitions
//! may come from anywhere, so nothing in them is trusted to fit.

use std::ops::Range;

use rb_llb::{Definition, Position};
use rb_oci::Digest;

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
