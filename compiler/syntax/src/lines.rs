//! What the place of a line tells: indentation that says something else than the headers, strings that seem to have
//! swallowed lines.

use rb_diag::{Diagnostic, Span};

use crate::codes;
use crate::commands;
use crate::entries::{Statement, What};
use crate::file::{Builder, Home};
use crate::report::shown;
use crate::statements::is_target_name;

impl Builder<'_> {
    /// Below a header statements are indented, above the first one they are not; within blocks anything goes.
    pub(crate) fn check_indentation(&mut self, statement: &Statement) {
        if !self.blocks.is_empty() || matches!(statement.what, What::Junk { .. }) {
            return;
        }
        match (&self.home, statement.indented) {
            (Home::Base, true) if !self.indented_reported => {
                let diagnostic =
                    Diagnostic::error(codes::INDENTED, "the line is indented, but there is no target above");
                let label = Span {
                    end: statement.span.start,
                    start: self.line_start(statement.span.start),
                    ..statement.span
                };
                let help = "start the line in the first column, or write a header `name:` above it";
                self.report.push(diagnostic.with_label(label, "").with_help(help));
                self.indented_reported = true;
            }
            (Home::Target | Home::Function | Home::Nowhere, false) => {
                let keyword = match &statement.what {
                    What::Command { keyword, .. } => *keyword,
                    What::Junk { word, .. } => word.span,
                };
                let diagnostic =
                    Diagnostic::error(codes::NOT_INDENTED, "a statement below a header is not indented");
                let help = "indent it; what all targets share stands above the first one";
                self.report.push(diagnostic.with_label(keyword, "").with_help(help));
            }
            (Home::Base | Home::Target | Home::Function | Home::Nowhere, _) => {}
        }
    }

    /// Warns where a string of several lines rather seems to have lost its end: where it holds the header of a target
    /// with a statement below, or where its last line starts as a statement next to this one would.
    pub(crate) fn check_swallowed(&mut self, statement: Span, string: Span) {
        let indentation = self.file.slice(Span {
            start: self.line_start(statement.start),
            end: statement.start,
            ..statement
        });
        let mut start = string.start;
        let mut header = None;
        for line in self.file.slice(string).split_inclusive('\n') {
            let content = line.trim();
            let at = start + (line.len() - line.trim_start().len()) as u32;
            let span = Span { start: at, end: at + content.len() as u32, ..string };
            let keyword = content.split_ascii_whitespace().next().unwrap_or_default();
            let is_statement =
                start > string.start && commands::names(self.edition).any(|name| name == keyword);
            let beside =
                is_statement && span.end == string.end && line.strip_prefix(indentation) == Some(content);
            let swallowed =
                if beside { Some(span) } else { header.take().filter(|_| is_statement && at > start) };
            if let Some(span) = swallowed {
                let message = format!("a string runs over `{}`", shown(self.file.slice(span)));
                let opened = Span { end: string.start + 1, ..string };
                let diagnostic = Diagnostic::warning(codes::SWALLOWED_LINE, message)
                    .with_label(span, "this is inside a string")
                    .with_label(opened, "which opens here");
                self.report
                    .push(diagnostic.with_help("is a quote missing on the line where the string opens?"));
                return;
            }
            let is_header =
                start > string.start && at == start && content.strip_suffix(':').is_some_and(is_target_name);
            header = is_header.then_some(span);
            start += line.len() as u32;
        }
    }

    fn line_start(&self, offset: u32) -> u32 {
        let before = self.file.text.get(..offset as usize).unwrap_or_default();
        before.rfind('\n').map_or(0, |newline| newline as u32 + 1)
    }
}
