//! Questions about a Dockerfile instead of a build: which targets it has, and what a target takes from outside.
//!
//! Answers are values; as JSON they have the members of BuildKit's `frontend.targets` and `frontend.outline`, and as text
//! its tables. Source: BuildKit's `frontend/subrequests`.

mod outline;
mod targets;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rb_diag::{SourceFile, Span};
use serde::Serialize;

pub use outline::{Outline, Parameter, Required, outline};
pub use targets::{TargetList, TargetStage, targets};

/// Lines of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// One range for each line, as BuildKit has it.
    ranges: Vec<Range>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Range {
    start: Line,
    end: Line,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Line {
    line: u32,
}

impl Place {
    fn new(file: &SourceFile, span: Span) -> Self {
        let (first, last) = (file.position(span.start).line, file.position(span.end).line);
        let range = |line| Range { start: Line { line }, end: Line { line } };
        Self { ranges: (first..=last).map(range).collect() }
    }

    /// Returns the first line, from 1.
    pub fn line(&self) -> u32 {
        self.ranges.first().map_or(0, |range| range.start.line)
    }
}

/// Returns the file as JSON has it.
fn encoded(file: &SourceFile) -> Vec<String> {
    vec![STANDARD.encode(file.text.as_bytes())]
}

/// Writes a table: every column but the last as wide as its longest cell, with some blanks behind, also where nothing follows.
/// Source: Go's text/tabwriter, by which BuildKit writes them.
fn table(rows: &[Vec<&str>], blanks: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            match widths.get(column) {
                Some(width) => text.push_str(&format!("{cell:width$}{}", " ".repeat(blanks))),
                None => text.push_str(cell),
            }
        }
        text.push('\n');
    }
    text
}
