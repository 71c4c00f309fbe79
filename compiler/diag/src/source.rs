//! Source files and places in them.

use std::sync::{Arc, Mutex};

use serde::Serialize;

/// Identity of one [`SourceFile`] within a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct SourceId(pub u32);

/// Half-open UTF-8 byte range `start..end` in one source file. 12 bytes, `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Span {
    /// The file the range lies in.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Returns the smallest span that covers both; the two must lie in one file.
    pub fn to(self, other: Self) -> Self {
        Self { source: self.source, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A value and the place it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Pairs `value` with `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

/// A line and a column, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One text, with its display name (relative to where the user stands; never part of any digest).
#[derive(Debug)]
pub struct SourceFile {
    /// Id within the map that owns the file.
    pub id: SourceId,
    /// Name to show.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
    line_starts: Box<[u32]>,
}

impl SourceFile {
    /// Indexes the lines of `text`. Texts over 4 GiB do not fit a [`Span`]; callers bound files long before.
    pub fn new(id: SourceId, name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at as u32 + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        Self { id, name: name.into(), text, line_starts }
    }

    /// Returns the span of the whole text.
    pub fn span(&self) -> Span {
        Span { source: self.id, start: 0, end: self.text.len() as u32 }
    }

    /// Returns the text under `span`, or "" where the span does not fit this text.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Returns line and column of a byte offset; an offset past the end is the end.
    pub fn position(&self, offset: u32) -> LineColumn {
        let line = self.line_starts.partition_point(|start| *start <= offset) - 1;
        let start = self.line_starts.get(line).copied().unwrap_or_default() as usize;
        let end = (offset as usize).min(self.text.len());
        let column = self.text.get(start..end).map_or(0, |before| before.chars().count()) as u32 + 1;
        LineColumn { line: line as u32 + 1, column }
    }
}

/// All source files of one run; hands out ids. Cheap to clone, shared by its clones.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Arc<Mutex<Vec<Arc<SourceFile>>>>,
}

impl SourceMap {
    /// Adds a text and returns the file with its new id.
    pub fn add(&self, name: impl Into<String>, text: impl Into<Arc<str>>) -> Arc<SourceFile> {
        let mut files = self.files.lock().expect("no holder of this lock panics");
        let file = Arc::new(SourceFile::new(SourceId(files.len() as u32), name, text));
        files.push(Arc::clone(&file));
        file
    }

    /// Returns the file with this id, if this map handed it out.
    pub fn get(&self, id: SourceId) -> Option<Arc<SourceFile>> {
        self.files.lock().expect("no holder of this lock panics").get(id.0 as usize).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_counts_lines_and_characters_from_one() {
        let file = SourceFile::new(SourceId(0), "Buildfile", "a\nbö+c\n");
        assert_eq!(file.position(0), LineColumn { line: 1, column: 1 });
        assert_eq!(file.position(5), LineColumn { line: 2, column: 3 });
        assert_eq!(file.position(99), LineColumn { line: 3, column: 1 });
    }

    #[test]
    fn map_returns_the_file_it_was_given() {
        let map = SourceMap::default();
        let first = map.add("a", "x");
        let second = map.add("b", "y");
        assert_eq!(map.get(second.id).map(|file| file.name.clone()), Some("b".to_owned()));
        assert_ne!(first.id, second.id);
        assert!(map.get(SourceId(7)).is_none());
    }
}
