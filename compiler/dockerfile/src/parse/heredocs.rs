//! Heredocs: `<<NAME` in a line, and the lines below it up to one that is the name alone.
//!
//! In: a line of `RUN`, `COPY` or `ADD`, and the reader behind it. Out: each body, in order; the reader stands behind
//! the last. Nothing in a body is a comment, a continuation or an instruction.
//! Source of the rules: BuildKit's frontend/dockerfile/parser, `heredocsFromLine`.

use rb_diag::{Diagnostic, Span};

use super::report::Report;
use crate::lines::{Part, Reader};
use crate::words::{Lexer, NoVariables};
use crate::{Heredoc, codes};

/// `<<NAME` as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) descriptor: u32,
    pub(crate) strips_tabs: bool,
    pub(crate) expands: bool,
}

/// Reads a word that names a heredoc and is nothing else.
pub(crate) fn mark(word: &str) -> Option<Mark> {
    let behind_number = word.trim_start_matches(|character: char| character.is_ascii_digit());
    let number = &word[..word.len() - behind_number.len()];
    let rest = behind_number.strip_prefix("<<")?;
    let (rest, strips_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let lexer = Lexer::new('\\').keeping_unset();
    let [name] = <[String; 1]>::try_from(lexer.split(rest, &NoVariables).ok()?).ok()?;
    let raw = lexer.raw(true, false).split(rest, &NoVariables).ok()?.concat();
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Some(Mark {
        descriptor: number.parse().unwrap_or(0),
        strips_tabs,
        expands: quotes(&name) == quotes(&raw),
        name,
    })
}

/// Returns the heredocs that a line names, in order, each with the place of its mark.
fn marks(line: Part<'_>) -> Vec<(Mark, Span)> {
    let lexer = Lexer::new('\\').keeping_unset().raw(true, true);
    let mut from = 0;
    let words = lexer.split(line.text(), &NoVariables).unwrap_or_default();
    let mut marks = Vec::new();
    for word in &words {
        let found = line.text().get(from..).and_then(|rest| rest.find(word.as_str()));
        let place = match found {
            Some(at) => line.slice(from + at..from + at + word.len()),
            None => line,
        };
        from = found.map_or(from, |at| from + at + word.len());
        marks.extend(mark(word).map(|mark| (mark, place.span())));
    }
    marks
}

/// Reads the bodies of all heredocs that a line names.
pub(super) fn read(line: Part<'_>, reader: &mut Reader<'_>, report: &mut Report) -> Vec<Heredoc> {
    if !line.text().contains("<<") {
        return Vec::new();
    }
    marks(line).into_iter().map(|(mark, place)| read_body(mark, place, reader, report)).collect()
}

fn read_body(mark: Mark, place: Span, reader: &mut Reader<'_>, report: &mut Report) -> Heredoc {
    let mut raw = String::new();
    let mut span: Option<Span> = None;
    let mut indented = None;
    let closed = loop {
        let Some(line) = reader.next_line() else { break false };
        let content = line.content();
        let here = reader.span(line.start, line.start + content.len());
        let name = if mark.strips_tabs { content.trim_start_matches('\t') } else { content };
        if name == mark.name {
            span.get_or_insert(Span { end: here.start, ..here });
            break true;
        }
        if indented.is_none() && content.trim() == mark.name {
            indented = Some(here);
        }
        let end = line.start + line.text.len();
        let body = span.get_or_insert(here);
        *body = body.to(reader.span(line.start, end));
        raw.push_str(line.text);
    };
    if !closed {
        report.swallows = true;
        report.add(unterminated(&mark, place, indented));
    }
    let content = if mark.strips_tabs { without_tabs(&raw) } else { raw.clone() };
    Heredoc {
        span: span.unwrap_or(place),
        name: mark.name,
        descriptor: mark.descriptor,
        content,
        raw,
        strips_tabs: mark.strips_tabs,
        expands: mark.expands,
    }
}

fn unterminated(mark: &Mark, place: Span, indented: Option<Span>) -> Diagnostic {
    let error = Diagnostic::error(codes::HEREDOC, "unterminated heredoc")
        .with_label(place, format!("no line below is `{}` alone", mark.name));
    match indented {
        Some(line) => error.with_label(line, "there are blanks around this one").with_help(format!(
            "write `{}` at the start of its line; `<<-` allows tabs before it",
            mark.name
        )),
        None => error.with_help(format!("add a line `{}` where the text ends", mark.name)),
    }
}

fn without_tabs(text: &str) -> String {
    text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

/// Returns whether a word is `<<NAME` and nothing else, so that a command is the text of its one heredoc.
pub fn is_heredoc(word: &str) -> bool {
    mark(word).is_some()
}
