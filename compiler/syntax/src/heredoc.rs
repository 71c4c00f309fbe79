//! Heredocs: the lines below a `RUN` or `COPY`, up to one that is the heredoc's name alone.
//!
//! In: where the grammar found `<<NAME`. Out: the lines. They are no entries of the file: nothing in them is a
//! comment, a continuation or a command. Line ends are given as `\n`, so that a build does not depend on the editor.
//! **Invariant:** linear time, whatever is never closed: where names could close stands in an index, made once.
//! Source of the rules: POSIX, Shell Command Language, "Here-Document"; Dockerfile syntax 1.4.

use std::collections::BTreeMap;

use rb_diag::{SourceFile, Span, Spanned};

/// `<<NAME` as written.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) name: Spanned<String>,
    /// All of `<<NAME`.
    pub(crate) span: Span,
    /// NAME was not quoted.
    pub(crate) expand: bool,
    /// `<<-`: tabs at the start of lines mean nothing.
    pub(crate) tabs: bool,
}

/// The lines of one heredoc.
#[derive(Debug)]
pub(crate) struct Lines {
    /// Where they stand; empty where the first line closes.
    pub(crate) body: Span,
    /// The line that closes, without its end.
    pub(crate) closing: Span,
    /// Where the text goes on.
    pub(crate) end: usize,
}

impl Lines {
    /// Returns the lines with their ends; of `<<-` without the tabs they start with.
    pub(crate) fn text(&self, file: &SourceFile, tabs: bool) -> String {
        let lines = file.slice(self.body).split_inclusive('\n');
        lines.map(|line| plain_end(if tabs { line.trim_start_matches('\t') } else { line })).collect()
    }

    /// Returns the lines and the one that closes, each with its end, as a shell reads them.
    pub(crate) fn shell_text(&self, file: &SourceFile) -> String {
        let closing = file.slice(self.closing);
        self.text(file, false) + closing + "\n"
    }
}

fn plain_end(line: &str) -> String {
    line.strip_suffix("\r\n").map_or_else(|| line.to_owned(), |line| format!("{line}\n"))
}

/// Finds the lines that close heredocs.
#[derive(Debug, Default)]
pub(crate) struct Closings<'a> {
    index: Option<Index<'a>>,
}

/// Of each line that could close a heredoc: its text, and where such lines start.
type Places<'a> = BTreeMap<&'a str, Vec<u32>>;

#[derive(Debug, Default)]
struct Index<'a> {
    exact: Places<'a>,
    /// The same without tabs at the start.
    behind_tabs: Places<'a>,
    /// The same without any blanks around: only to explain what is wrong.
    loose: Places<'a>,
}

impl<'a> Closings<'a> {
    /// Returns the lines of the heredoc `mark` that start at `at`, or `None` if it is never closed.
    pub(crate) fn find(&mut self, file: &'a SourceFile, mark: &Mark, at: usize) -> Option<Lines> {
        let index = self.index(file);
        let places = if mark.tabs { &index.behind_tabs } else { &index.exact };
        let start = first_from(places.get(mark.name.value.as_str())?, at)?;
        let line = line_at(file, start);
        let length = line.trim_end_matches(['\n', '\r']).len();
        let span = |start: usize, end: usize| Span { start: start as u32, end: end as u32, ..file.span() };
        Some(Lines { body: span(at, start), closing: span(start, start + length), end: start + line.len() })
    }

    /// Returns a line behind `at` that would close the heredoc if it were not indented.
    pub(crate) fn find_indented(&mut self, file: &'a SourceFile, mark: &Mark, at: usize) -> Option<Span> {
        let start = first_from(self.index(file).loose.get(mark.name.value.as_str())?, at)?;
        let line = line_at(file, start);
        let name = start + line.len() - line.trim_start().len();
        Some(Span { start: name as u32, end: (name + mark.name.value.len()) as u32, ..file.span() })
    }

    fn index(&mut self, file: &'a SourceFile) -> &Index<'a> {
        self.index.get_or_insert_with(|| {
            let mut index = Index::default();
            let mut start = 0;
            for line in file.text.split_inclusive('\n') {
                let content = line.trim_end_matches('\n').trim_end_matches('\r');
                let name = content.trim();
                if could_close(name) {
                    let add = |places: &mut Places<'a>| places.entry(name).or_default().push(start as u32);
                    add(&mut index.loose);
                    if content.trim_start_matches('\t') == name {
                        add(&mut index.behind_tabs);
                    }
                    if content == name {
                        add(&mut index.exact);
                    }
                }
                start += line.len();
            }
            index
        })
    }
}

/// Returns whether `name` is what the grammar takes for the name of a heredoc.
fn could_close(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Returns the first of the sorted `places` that is not before `at`.
fn first_from(places: &[u32], at: usize) -> Option<usize> {
    places.get(places.partition_point(|place| (*place as usize) < at)).map(|place| *place as usize)
}

/// Returns the line that starts at `start`, its end included.
fn line_at(file: &SourceFile, start: usize) -> &str {
    file.text.get(start..).and_then(|rest| rest.split_inclusive('\n').next()).unwrap_or_default()
}
