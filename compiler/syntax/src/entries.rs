//! Text → entries: one value per line of the file (with the lines that continue it).
//!
//! The grammar's rule `entry` is run on a window of the text: the line, then twice as much for as long as a string or
//! a continued line runs past the window's end. A string that never closes is thus noticed when the window holds the
//! rest of the file; then the line alone is read again, so that the message points at the first quote left open and
//! the lines below keep their meaning. What that costs is bounded by a budget, so reading stays linear. The lines of
//! heredocs are taken behind the entry that names them.
//! **Invariant:** entries cover the text without gap or overlap; where asked for, so do the nodes of the tree.

mod heredocs;
mod marks;
mod parts;

use pest::Parser as _;
use pest::iterators::Pair;
use rb_diag::{SourceFile, Span, Spanned};

use self::marks::{Marks, too_deep};
use self::parts::Place;
use crate::commands::{self, Command};
use crate::grammar::{Grammar, Rule};
use crate::heredoc::{Closings, Mark};
use crate::report::Report;
use crate::tree::Node;
use crate::{Edition, Heredoc, Word};

/// What may be read in vain even in a short file, in bytes: enough for a mistake on every screenful.
const SPARE_BYTES: usize = 128 << 10;

/// One entry of the file.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Nothing.
    Empty,
    /// A comment alone on its line, without `#`.
    Comment { text: String, indented: bool },
    /// The header of a target or function.
    Header(Header),
    /// Anything else.
    Statement(Statement),
}

/// `name:`
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) kind: HeaderKind,
    pub(crate) name: Spanned<String>,
    pub(crate) indented: bool,
}

/// How well a header is written.
#[derive(Debug)]
pub(crate) enum HeaderKind {
    /// A target's.
    Target,
    /// A function's.
    Function,
    /// One by its looks: the name may be wrong, and there may be more on the line.
    Loose { rest: Option<Span> },
}

/// A line that should be a statement.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) what: What,
    pub(crate) span: Span,
    pub(crate) indented: bool,
    /// Something opens here and never closes (reported); the parts are not to be trusted.
    pub(crate) broken: bool,
    /// Strings of more than one line, quotes included; not those within others.
    pub(crate) strings: Vec<Span>,
    /// Heredocs it names, in order.
    pub(crate) heredocs: Vec<Mark>,
}

/// What a statement starts with.
#[derive(Debug)]
pub(crate) enum What {
    /// A command of this edition.
    Command { command: Command, keyword: Span, parts: Vec<Part> },
    /// No command; `alone`: nothing else is on the line.
    Junk { word: Spanned<String>, alone: bool },
}

/// A part of a statement, in the order of the text.
#[derive(Debug)]
pub(crate) enum Part {
    /// A word or a flag.
    Word(Word),
    /// `(word word…)`
    Call { words: Vec<Word>, span: Span },
    /// `--` alone.
    FlagsEnd,
    /// The name before `=`.
    Key(Word),
    /// `=`
    Equals,
    /// The rest of the line.
    Text(Word),
    /// `["…", "…"]`, the strings as JSON.
    Exec(Vec<Word>),
    /// `<<NAME` as a word of its own, with its lines: of RUN that has nothing else, and of COPY (`VERSION 1`).
    Heredoc(Heredoc),
}

/// What a window of the text reads as.
struct Reading<'a> {
    entry: Pair<'a, Rule>,
    marks: Marks,
}

/// The entries of a file, one after the other.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    file: &'a SourceFile,
    at: usize,
    /// Bytes that may still be read in vain.
    budget: usize,
    /// The edition that the first VERSION line names.
    edition: Option<Edition>,
    closings: Closings<'a>,
    /// The nodes so far, where a tree is asked for.
    nodes: Option<Vec<Node>>,
}

impl<'a> Entries<'a> {
    /// Starts at the beginning of the text, behind a byte order mark.
    pub(crate) fn new(file: &'a SourceFile) -> Self {
        let at = if file.text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
        let budget = 4 * file.text.len() + SPARE_BYTES;
        Self { file, at, budget, edition: None, closings: Closings::default(), nodes: None }
    }

    /// Reads the whole text into nodes of the tree.
    pub(crate) fn nodes(file: &'a SourceFile) -> Vec<Node> {
        let mut entries = Self::new(file);
        let mark = (entries.at > 0).then(|| Node::token("byte_order_mark", span_of(file, 0, entries.at)));
        entries.nodes = Some(mark.into_iter().collect());
        // Findings are the parser's to tell.
        let mut report = Report::default();
        while entries.next(&mut report).is_some() {}
        entries.nodes.unwrap_or_default()
    }

    /// Returns the edition of the file as far as it is read; the newest one before a VERSION line says another.
    pub(crate) fn edition(&self) -> Edition {
        self.edition.unwrap_or(Edition::One)
    }

    /// Returns the next entry, or `None` at the end of the text.
    pub(crate) fn next(&mut self, report: &mut Report) -> Option<Entry> {
        let text: &str = &self.file.text;
        if self.at >= text.len() {
            return None;
        }
        let mut end = self.continued_lines(1024);
        let mut reading = self.read(end);
        let first = end;
        while end < text.len() && self.budget > 0 && reading.as_ref().is_some_and(|found| found.marks.open) {
            end = self.line_end((2 * end - self.at).min(text.len() - 1));
            reading = self.read(end);
        }
        if end > first && reading.as_ref().is_none_or(|reading| reading.marks.open) {
            self.budget = self.budget.saturating_sub(2 * (end - self.at));
            end = self.continued_lines(usize::MAX);
            reading = self.read(end);
        }
        let at = self.at;
        let Some(Reading { entry, marks }) = reading else {
            // The grammar fits any text; what it cannot hold is depth.
            self.at = end;
            let span = trimmed(text, at, end, self.file);
            report.push(too_deep(span));
            if let Some(nodes) = &mut self.nodes {
                nodes.push(Node::token("too_deep", span_of(self.file, at, end)));
            }
            return Some(Entry::Statement(Statement {
                what: What::Junk { word: Spanned::new(String::new(), span), alone: false },
                span,
                indented: starts_with_blank(text, at),
                broken: true,
                strings: Vec::new(),
                heredocs: Vec::new(),
            }));
        };
        self.at += entry.as_str().len();
        marks.report(self.file, at, report);
        if let Some(nodes) = &mut self.nodes {
            nodes.push(Node::of(entry.clone(), self.file, at));
        }
        let mut entry = Place { file: self.file, at, edition: self.edition() }.entry(entry);
        if let Entry::Statement(statement) = &mut entry {
            statement.broken = marks.is_broken();
            let strings = marks.strings.iter();
            statement.strings =
                strings.map(|(start, end)| span_of(self.file, at + start, at + end)).collect();
            self.settle_edition(statement);
            self.take_heredocs(statement, report);
        }
        Some(entry)
    }

    /// The first VERSION line says how the lines below it are read.
    fn settle_edition(&mut self, statement: &Statement) {
        if let What::Command { command: Command::Version, parts, .. } = &statement.what
            && self.edition.is_none()
        {
            let number = parts.iter().find_map(|part| match part {
                Part::Word(word) if !word.raw.starts_with("--") => commands::edition(&word.raw),
                _ => None,
            });
            self.edition = Some(number.unwrap_or(Edition::One));
        }
    }

    /// Returns the end of the line at `offset`, its newline included.
    fn line_end(&self, offset: usize) -> usize {
        let text = self.file.text.as_bytes();
        let newline = text.iter().skip(offset).position(|byte| *byte == b'\n');
        newline.map_or(text.len(), |found| offset + found + 1)
    }

    /// Returns the end of this line and of those that backslashes join to it, as long as that is below `limit` bytes.
    ///
    /// A guess that saves reading twice: quotes are not looked at.
    fn continued_lines(&self, limit: usize) -> usize {
        let mut start = self.at;
        let mut continued = false;
        loop {
            let end = self.line_end(start);
            let line = self.file.text.get(start..end).unwrap_or_default().trim();
            let nothing = line.is_empty() || line.starts_with('#');
            continued = if nothing { continued } else { line.ends_with('\\') };
            if !continued || end - self.at >= limit || end == self.file.text.len() {
                return end;
            }
            start = end;
        }
    }

    /// Reads one entry from the text between here and `end`; `None` where it is nested too deeply.
    fn read(&self, end: usize) -> Option<Reading<'a>> {
        let file: &'a SourceFile = self.file;
        let window = file.text.get(self.at..end)?;
        let entry = Grammar::parse(Rule::entry, window).ok()?.next()?;
        let marks = Marks::of(&entry, window)?;
        Some(Reading { entry, marks })
    }
}

fn starts_with_blank(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t'))
}

fn span_of(file: &SourceFile, start: usize, end: usize) -> Span {
    Span { source: file.id, start: start as u32, end: end as u32 }
}

/// Returns the span of the text between `start` and `end` without the white space around it.
fn trimmed(text: &str, start: usize, end: usize, file: &SourceFile) -> Span {
    let slice = text.get(start..end).unwrap_or_default();
    let from = start + (slice.len() - slice.trim_start().len());
    span_of(file, from, (start + slice.trim_end().len()).max(from))
}

#[cfg(test)]
mod tests;
