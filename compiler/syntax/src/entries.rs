//! Text → entries: one value per line of the file (with the lines that continue it).
//!
//! The grammar's rule `entry` is run on a window of the text: the line, then twice as much for as long as a string or
//! a continued line runs past the window's end. A string that never closes is thus noticed when the window holds the
//! rest of the file; then the line alone is read again, so that the message points at the first quote left open and
//! the lines below keep their meaning. What that costs is bounded by a budget, so reading stays linear.
//! **Invariant:** entries cover the text without gap or overlap, and nothing of pest leaves this module.

use pest::Parser as _;
use pest::Token;
use pest::iterators::Pair;
use pest_derive::Parser;
use rb_diag::{Diagnostic, SourceFile, Span, Spanned};

use crate::Word;
use crate::codes;
use crate::commands::Command;
use crate::report::Report;

/// Quotes and parentheses may be nested this deep.
const MAX_DEPTH: usize = 64;

/// What may be read in vain even in a short file, in bytes: enough for a mistake on every screenful.
const SPARE_BYTES: usize = 128 << 10;

#[derive(Parser)]
#[grammar = "../../grammar/buildfile.pest"]
struct Grammar;

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
}

/// What a statement starts with.
#[derive(Debug)]
pub(crate) enum What {
    /// A command of this version.
    Command { command: Command, keyword: Span, parts: Vec<Part> },
    /// A command of a later version; one space between two words.
    Later { name: String, keyword: Span },
    /// No command.
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
}

/// What a window of the text reads as.
struct Reading {
    entry: Entry,
    /// Bytes the entry takes, line end included.
    length: usize,
    faults: Vec<Fault>,
    /// A string or continued line runs into the end of the window.
    open: bool,
}

/// Something that opens and does not end.
struct Fault {
    kind: FaultKind,
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    Quote,
    Parenthesis,
    CutOff,
    CutShort,
}

/// What is to be known of the quotes and parentheses of an entry.
#[derive(Default)]
struct Marks {
    faults: Vec<Fault>,
    /// Strings of several lines, not those within others.
    strings: Vec<(usize, usize)>,
    open: bool,
}

impl Marks {
    /// Collects the marks; `None` where the entry is nested too deeply.
    fn of(entry: &Pair<'_, Rule>, window: &str) -> Option<Self> {
        let mut marks = Self::default();
        let mut inside: Vec<(FaultKind, usize)> = Vec::new();
        for token in entry.clone().tokens() {
            match token {
                Token::Start { rule: Rule::missing, pos } => {
                    marks.open |= pos.pos() == window.len();
                    marks.faults.extend(inside.last().map(|(kind, at)| Fault { kind: *kind, at: *at }));
                }
                Token::Start { rule: Rule::cut_off, pos } => {
                    marks.open = true;
                    marks.faults.push(Fault { kind: FaultKind::CutOff, at: pos.pos() });
                }
                Token::Start { rule: Rule::cut_short, pos } => {
                    marks.faults.push(Fault { kind: FaultKind::CutShort, at: pos.pos() });
                }
                Token::Start { rule, pos } => {
                    inside.extend(opener(rule).map(|kind| (kind, pos.pos())));
                    if inside.len() > MAX_DEPTH {
                        return None;
                    }
                }
                Token::End { rule, pos } if opener(rule).is_some() => {
                    let (kind, start) = inside.pop()?;
                    let lines = || window.get(start..pos.pos()).is_some_and(|string| string.contains('\n'));
                    if kind == FaultKind::Quote && inside.is_empty() && lines() {
                        marks.strings.push((start, pos.pos()));
                    }
                }
                Token::End { .. } => {}
            }
        }
        Some(marks)
    }
}

/// The entries of a file, one after the other.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    file: &'a SourceFile,
    at: usize,
    /// Bytes that may still be read in vain.
    budget: usize,
}

impl<'a> Entries<'a> {
    /// Starts at the beginning of the text, behind a byte order mark.
    pub(crate) fn new(file: &'a SourceFile) -> Self {
        let at = if file.text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
        Self { file, at, budget: 4 * file.text.len() + SPARE_BYTES }
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
        while end < text.len() && self.budget > 0 && reading.as_ref().is_some_and(|reading| reading.open) {
            end = self.line_end((2 * end - self.at).min(text.len() - 1));
            reading = self.read(end);
        }
        if end > first && reading.as_ref().is_none_or(|reading| reading.open) {
            self.budget = self.budget.saturating_sub(2 * (end - self.at));
            end = self.continued_lines(usize::MAX);
            reading = self.read(end);
        }
        let at = self.at;
        let Some(reading) = reading else {
            // The grammar fits any text; what it cannot hold is depth.
            self.at = end;
            let span = trimmed(text, at, end, self.file);
            report.push(too_deep(span));
            return Some(Entry::Statement(Statement {
                what: What::Junk { word: Spanned::new(String::new(), span), alone: false },
                span,
                indented: starts_with_blank(text, at),
                broken: true,
                strings: Vec::new(),
            }));
        };
        self.at += reading.length;
        self.report_faults(&reading, at, report);
        Some(reading.entry)
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
    fn read(&self, end: usize) -> Option<Reading> {
        let window = self.file.text.get(self.at..end)?;
        let entry = Grammar::parse(Rule::entry, window).ok()?.next()?;
        let length = entry.as_str().len();
        let Marks { faults, strings, open } = Marks::of(&entry, window)?;
        let mut entry = Place { file: self.file, at: self.at }.entry(entry);
        if let Entry::Statement(statement) = &mut entry {
            let unclosed = |fault: &Fault| matches!(fault.kind, FaultKind::Quote | FaultKind::Parenthesis);
            statement.broken = faults.iter().any(unclosed);
            statement.strings =
                strings.iter().map(|(start, end)| span(self.file, self.at + start, self.at + end)).collect();
        }
        Some(Reading { entry, length, faults, open })
    }

    /// Reports what does not end: of several things nested in one another, the one that most likely is the mistake.
    fn report_faults(&self, reading: &Reading, at: usize, report: &mut Report) {
        let first = |kind| reading.faults.iter().find(|fault| fault.kind == kind);
        let mut add = |fault: &Fault, length: usize, code, message: String, help: String| {
            let start = at + fault.at;
            let label = span(self.file, start, start + length);
            report.push(Diagnostic::error(code, message).with_label(label, "").with_help(help));
        };
        let text = |fault: &Fault| self.file.text.get(at + fault.at..).unwrap_or_default();
        if let Some(fault) = first(FaultKind::Parenthesis) {
            let sign = if text(fault).starts_with('$') { "$(" } else { "(" };
            let help = format!("close it with `)` on the same line, or write `\\{sign}` for the sign itself");
            add(fault, sign.len(), codes::UNCLOSED_PARENTHESIS, format!("`{sign}` is never closed"), help);
        } else if let Some(fault) = first(FaultKind::Quote) {
            let sign = if text(fault).starts_with('\'') { '\'' } else { '"' };
            let help = format!("close it with `{sign}`, or write `\\{sign}` for the sign itself");
            add(fault, 1, codes::UNCLOSED_QUOTE, format!("`{sign}` is never closed"), help);
        }
        for (kind, follows) in
            [(FaultKind::CutOff, "the file ends"), (FaultKind::CutShort, "a target follows")]
        {
            if let Some(fault) = first(kind) {
                let message = format!("`\\` continues the line, but {follows}");
                add(fault, 1, codes::NOTHING_CONTINUED, message, "take the `\\` away".to_owned());
            }
        }
    }
}

/// Returns whether a rule opens something that has to close, and what.
fn opener(rule: Rule) -> Option<FaultKind> {
    match rule {
        Rule::double_quoted | Rule::single_quoted => Some(FaultKind::Quote),
        Rule::substitution | Rule::quoted_substitution | Rule::paren | Rule::quoted_paren | Rule::call => {
            Some(FaultKind::Parenthesis)
        }
        _ => None,
    }
}

fn too_deep(span: Span) -> Diagnostic {
    let message = format!("quotes and parentheses are nested more than {MAX_DEPTH} deep");
    Diagnostic::error(codes::NESTED_TOO_DEEPLY, message)
        .with_label(span, "")
        .with_help("move the command into a script and run that")
}

fn starts_with_blank(text: &str, at: usize) -> bool {
    text.as_bytes().get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t'))
}

fn span(file: &SourceFile, start: usize, end: usize) -> Span {
    Span { source: file.id, start: start as u32, end: end as u32 }
}

/// Returns the span of the text between `start` and `end` without the white space around it.
fn trimmed(text: &str, start: usize, end: usize, file: &SourceFile) -> Span {
    let slice = text.get(start..end).unwrap_or_default();
    let from = start + (slice.len() - slice.trim_start().len());
    span(file, from, (start + slice.trim_end().len()).max(from))
}

/// Where the window lies in the file: makes spans and owned values out of the grammar's nodes.
struct Place<'a> {
    file: &'a SourceFile,
    at: usize,
}

impl Place<'_> {
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let place = pair.as_span();
        span(self.file, self.at + place.start(), self.at + place.end())
    }

    fn spanned(&self, pair: &Pair<'_, Rule>) -> Spanned<String> {
        Spanned::new(pair.as_str().to_owned(), self.span(pair))
    }

    /// Makes a word: its text with continued lines joined.
    fn word(&self, pair: Pair<'_, Rule>) -> Word {
        let span = self.span(&pair);
        let text = pair.as_str();
        let start = pair.as_span().start();
        let mut raw = String::with_capacity(text.len());
        let mut done = 0;
        for inner in pair.into_inner().flatten() {
            let between = match inner.as_rule() {
                Rule::join | Rule::quoted_join => "",
                Rule::gap => " ",
                _ => continue,
            };
            let place = inner.as_span();
            raw.push_str(text.get(done..place.start() - start).unwrap_or_default());
            raw.push_str(between);
            done = place.end() - start;
        }
        raw.push_str(text.get(done..).unwrap_or_default());
        Word { raw, span }
    }

    fn entry(&self, entry: Pair<'_, Rule>) -> Entry {
        let indented = starts_with_blank(&self.file.text, self.at);
        let Some(inner) = entry.into_inner().next() else { return Entry::Empty };
        match inner.as_rule() {
            Rule::nothing => match inner.into_inner().next() {
                Some(comment) => {
                    let text = comment.as_str();
                    Entry::Comment { text: text.strip_prefix('#').unwrap_or(text).to_owned(), indented }
                }
                None => Entry::Empty,
            },
            Rule::target_header => self.header(HeaderKind::Target, inner, indented),
            Rule::function_header => self.header(HeaderKind::Function, inner, indented),
            _ => match inner.into_inner().next() {
                Some(command) => self.command(command, indented),
                None => Entry::Empty,
            },
        }
    }

    fn header(&self, kind: HeaderKind, pair: Pair<'_, Rule>, indented: bool) -> Entry {
        match pair.into_inner().next() {
            Some(name) => Entry::Header(Header { kind, name: self.spanned(&name), indented }),
            None => Entry::Empty,
        }
    }

    fn command(&self, pair: Pair<'_, Rule>, indented: bool) -> Entry {
        let span = self.span(&pair);
        let command = match pair.as_rule() {
            Rule::version => Command::Version,
            Rule::from => Command::From,
            Rule::run => Command::Run,
            Rule::copy => Command::Copy,
            Rule::arg => Command::Arg,
            Rule::env => Command::Env,
            Rule::workdir => Command::Workdir,
            Rule::entrypoint => Command::Entrypoint,
            Rule::cmd => Command::Cmd,
            Rule::save_artifact => Command::SaveArtifact,
            Rule::save_image => Command::SaveImage,
            Rule::build => Command::Build,
            Rule::loose_header => {
                let rest = pair.clone().into_inner().nth(1).map(|rest| self.span(&rest));
                return self.header(HeaderKind::Loose { rest }, pair, indented);
            }
            rule => return Entry::Statement(self.other(rule, pair, indented)),
        };
        let keyword = Span { end: span.start + keyword_length(pair.as_str(), command.name()), ..span };
        let parts = pair.into_inner().filter_map(|part| self.part(part)).collect();
        let what = What::Command { command, keyword, parts };
        Entry::Statement(Statement { what, span, indented, broken: false, strings: Vec::new() })
    }

    /// Makes a statement of what is no command of this version.
    fn other(&self, rule: Rule, pair: Pair<'_, Rule>, indented: bool) -> Statement {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let word = inner.next().map(|word| self.spanned(&word));
        let word = word.unwrap_or_else(|| Spanned::new(String::new(), span));
        let what = if rule == Rule::junk {
            What::Junk { word, alone: inner.next().is_none() }
        } else {
            let name = word.value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            What::Later { name, keyword: word.span }
        };
        Statement { what, span, indented, broken: false, strings: Vec::new() }
    }

    fn part(&self, pair: Pair<'_, Rule>) -> Option<Part> {
        let span = self.span(&pair);
        Some(match pair.as_rule() {
            Rule::word | Rule::flag | Rule::value_flag => Part::Word(self.word(pair)),
            Rule::flags_end => Part::FlagsEnd,
            Rule::key => Part::Key(self.word(pair)),
            Rule::equals => Part::Equals,
            Rule::text => Part::Text(self.word(pair)),
            Rule::call => Part::Call { words: self.words(pair, Rule::call_word), span },
            Rule::exec => Part::Exec(self.words(pair, Rule::json_string)),
            _ => return None,
        })
    }

    fn words(&self, pair: Pair<'_, Rule>, rule: Rule) -> Vec<Word> {
        pair.into_inner().filter(|inner| inner.as_rule() == rule).map(|word| self.word(word)).collect()
    }
}

/// Returns the length of the keyword at the start of `text`, in which any blanks may stand between its words.
fn keyword_length(text: &str, name: &str) -> u32 {
    let mut length = 0;
    for word in name.split(' ') {
        let rest = text.get(length..).unwrap_or_default();
        length += rest.len() - rest.trim_start_matches([' ', '\t']).len() + word.len();
    }
    length as u32
}

#[cfg(test)]
mod tests;
