//! Which text is one instruction: lines joined by the escape sign at their end, comments above and between them.
//!
//! In: a file behind its directives, and its escape sign. Out: [`Joined`] lines, each with the comments above it and
//! the place of each of its bytes in the file; on demand the bodies of heredocs, which follow a line and are not split.
//! No grammar generator is used: the file itself chooses its escape sign, a heredoc ends at a word that the line before
//! has named, and whether there is one depends on the instruction. What is one line is known only while reading.
//! **Invariant:** each part of a joined line is a piece of the file as it stands, so every span lies in the file, and
//! reading is linear in the length of the file.
//! Source of the rules: BuildKit's frontend/dockerfile/parser.

use std::ops::Range;

use rb_diag::{SourceFile, Span};

use crate::Word;

/// A comment's text, without `#` and blanks around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// One instruction's text in one line.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    text: String,
    /// Where each piece begins: in the text, in the file.
    pieces: Vec<(usize, usize)>,
    /// All lines it stands on, what is between them included.
    pub(crate) span: Span,
    /// Comments above, back to the last instruction or empty comment.
    pub(crate) comments: Vec<Comment>,
    /// There is an empty line within.
    pub(crate) has_empty_line: bool,
}

impl Joined {
    /// Returns all of the text.
    pub(crate) fn part(&self) -> Part<'_> {
        Part { line: self, start: 0, end: self.text.len() }
    }

    /// Returns where a byte of the text stands in the file.
    fn place(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        self.pieces.get(piece).map_or(0, |(start, place)| place + (at - start))
    }
}

/// Some of a joined line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    line: &'a Joined,
    start: usize,
    end: usize,
}

impl<'a> Part<'a> {
    /// Returns the text.
    pub(crate) fn text(self) -> &'a str {
        self.line.text.get(self.start..self.end).unwrap_or_default()
    }

    /// Returns whether there is no text.
    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Returns where it stands, from its first to its last character.
    pub(crate) fn span(self) -> Span {
        let start = self.line.place(self.start);
        let end = if self.is_empty() { start } else { self.line.place(self.end - 1) + 1 };
        Span { source: self.line.span.source, start: start as u32, end: end as u32 }
    }

    /// Returns the text with its place.
    pub(crate) fn word(self) -> Word {
        Word::new(self.text().to_owned(), self.span())
    }

    /// Returns some of it; the range counts from its own start.
    pub(crate) fn slice(self, range: Range<usize>) -> Self {
        Self { start: self.start + range.start, end: (self.start + range.end).min(self.end), ..self }
    }

    /// Returns what is left from a byte on.
    pub(crate) fn from(self, at: usize) -> Self {
        self.slice(at..self.end - self.start)
    }

    /// Returns it without blanks around.
    pub(crate) fn trim(self) -> Self {
        let text = self.text();
        let start = text.len() - text.trim_start().len();
        self.slice(start..start + text.trim().len())
    }

    /// Splits at the first blanks, which belong to neither part.
    pub(crate) fn split_blank(self) -> (Self, Option<Self>) {
        match self.text().find(is_blank) {
            Some(at) => {
                let rest = self.from(at);
                let skipped = rest.text().len() - rest.text().trim_start_matches(is_blank).len();
                (self.slice(0..at), Some(rest.from(skipped)))
            }
            None => (self, None),
        }
    }

    /// Returns what stands between blanks.
    pub(crate) fn fields(self) -> Vec<Self> {
        let mut fields = Vec::new();
        let mut rest = (!self.is_empty()).then_some(self);
        while let Some(part) = rest {
            let (field, next) = part.split_blank();
            fields.push(field);
            rest = next;
        }
        fields
    }
}

/// What separates words of an instruction; a joined line has no other line breaks.
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Reads a file line by line.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    file: &'a SourceFile,
    /// First byte that is not read.
    at: usize,
    /// Where the last line that was read ends, without its end sign.
    last_end: usize,
    escape: char,
}

/// A line of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// With its end.
    pub(crate) text: &'a str,
    /// Where it starts.
    pub(crate) start: usize,
}

impl Line<'_> {
    /// Returns it without its end.
    pub(crate) fn content(&self) -> &str {
        self.text.trim_end_matches(['\r', '\n'])
    }
}

impl<'a> Reader<'a> {
    /// Starts to read at a byte that starts a line.
    pub(crate) fn new(file: &'a SourceFile, at: usize, escape: char) -> Self {
        Self { file, at, last_end: at, escape }
    }

    /// Returns the next line, as the body of a heredoc has it.
    pub(crate) fn next_line(&mut self) -> Option<Line<'a>> {
        let rest = self.file.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let text = rest.split_inclusive('\n').next()?;
        let line = Line { text, start: self.at };
        self.at += text.len();
        self.last_end = line.start + line.content().len();
        Some(line)
    }

    /// Returns where the last line that was read ends.
    pub(crate) fn end_of_last_line(&self) -> u32 {
        self.last_end as u32
    }

    /// Returns the next instruction.
    pub(crate) fn next_instruction(&mut self) -> Option<Joined> {
        let mut comments = Vec::new();
        while let Some(line) = self.next_line() {
            let content = line.content();
            let start = line.start + (content.len() - content.trim_start().len());
            if content.trim_start().starts_with('#') {
                self.add_comment(&line, &mut comments);
            } else if !content.trim().is_empty() {
                return Some(self.join(&line, start, comments));
            }
        }
        None
    }

    /// Adds the comment of a line; an empty one parts those above from what follows.
    ///
    /// Of an indented comment only the first blank is taken off, so that it describes and directs nothing.
    fn add_comment(&self, line: &Line<'_>, comments: &mut Vec<Comment>) {
        let content = line.content();
        let mut characters = content.chars();
        characters.next();
        let text = characters.as_str().trim();
        if text.is_empty() {
            comments.clear();
        } else {
            let span = self.span(line.start, line.start + content.len());
            comments.push(Comment { text: text.to_owned(), span });
        }
    }

    /// Joins a first line, of which blanks are left out, with those that continue it.
    fn join(&mut self, first: &Line<'_>, start: usize, comments: Vec<Comment>) -> Joined {
        let content_end = first.start + first.content().len();
        let mut joined = Joined {
            text: String::new(),
            pieces: Vec::new(),
            span: self.span(start, content_end),
            comments,
            has_empty_line: false,
        };
        let mut continues = self.add_piece(&mut joined, start, content_end);
        while continues {
            let Some(line) = self.next_line() else { break };
            let content = line.content();
            joined.span.end = (line.start + content.len()) as u32;
            if content.trim_start().starts_with('#') {
                continue;
            }
            if content.trim_start().is_empty() {
                joined.has_empty_line = true;
                continue;
            }
            continues = self.add_piece(&mut joined, line.start, line.start + content.len());
        }
        joined
    }

    /// Adds what stands there without the sign that continues it; returns whether there was one.
    fn add_piece(&self, joined: &mut Joined, start: usize, end: usize) -> bool {
        let text = self.file.text.get(start..end).unwrap_or_default();
        let kept = without_continuation(text, self.escape);
        let piece = kept.unwrap_or(text);
        if !piece.is_empty() {
            joined.pieces.push((joined.text.len(), start));
            joined.text.push_str(piece);
        }
        kept.is_some()
    }

    /// Returns a span of the file.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32, ..self.file.span() }
    }
}

/// Returns a line without the escape sign at its end, or `None` if it ends without one, or with an escaped one.
fn without_continuation(line: &str, escape: char) -> Option<&str> {
    let kept = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!kept.ends_with(escape)).then_some(kept)
}
