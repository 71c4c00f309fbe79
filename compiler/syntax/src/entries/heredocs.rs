//! Heredocs of a statement: their lines are taken behind the entry that names them.

use rb_diag::{Diagnostic, SourceFile, Span};

use super::{Entries, Part, Statement, What, span_of};
use crate::heredoc::{Lines, Mark};
use crate::report::{Report, shown};
use crate::tree::Node;
use crate::{Heredoc, Word, codes};

impl Entries<'_> {
    /// Takes the lines of the heredocs that a statement names.
    pub(super) fn take_heredocs(&mut self, statement: &mut Statement, report: &mut Report) {
        let marks = std::mem::take(&mut statement.heredocs);
        let mut found = Vec::new();
        for mark in marks {
            let Some(lines) = self.closings.find(self.file, &mark, self.at) else {
                self.report_heredoc(&mark, report);
                self.skip_to_header();
                statement.broken = true;
                return;
            };
            self.at = lines.end;
            statement.span.end = lines.closing.end;
            self.add_lines(&lines);
            found.push((mark, lines));
        }
        if !statement.broken
            && let What::Command { parts, .. } = &mut statement.what
        {
            fill_heredocs(parts, &found, self.file);
        }
    }

    /// Adds the lines of a heredoc to the node of their statement.
    fn add_lines(&mut self, lines: &Lines) {
        if let Some(node) = self.nodes.as_mut().and_then(|nodes| nodes.last_mut()) {
            let end = Span { start: lines.closing.start, end: lines.end as u32, ..lines.body };
            node.append(Node::token("heredoc_body", lines.body));
            node.append(Node::token("heredoc_end", end));
        }
    }

    /// Goes on at the next line that looks like a header: a heredoc that is never closed has taken the lines above.
    fn skip_to_header(&mut self) {
        let start = self.at;
        while self.at < self.file.text.len() {
            let end = self.line_end(self.at);
            let line = self.file.text.get(self.at..end).unwrap_or_default();
            let name = line.split(':').next().unwrap_or_default();
            let is_name = name.len() < line.len()
                && name.starts_with(|first: char| first.is_ascii_alphabetic())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
            let rest = line.get(name.len() + 1..).unwrap_or_default().trim();
            if is_name && (rest.is_empty() || rest.starts_with('#')) {
                break;
            }
            self.at = end;
        }
        if let Some(node) = self.nodes.as_mut().and_then(|nodes| nodes.last_mut()) {
            node.append(Node::token("heredoc_body", span_of(self.file, start, self.at)));
        }
    }

    fn report_heredoc(&mut self, mark: &Mark, report: &mut Report) {
        let name = shown(&mark.name.value);
        let diagnostic =
            Diagnostic::error(codes::UNCLOSED_HEREDOC, format!("no line `{name}` closes the heredoc"))
                .with_label(mark.span, "opened here");
        report.push(match self.closings.find_indented(self.file, mark, self.at) {
            Some(indented) => diagnostic.with_label(indented, "this line is indented").with_help(format!(
                "start `{name}` in the first column, or write `<<-{name}` and indent with tabs"
            )),
            None => diagnostic.with_help(format!("write a line `{name}` behind the last one of the text")),
        });
    }
}

/// Gives the heredocs of a statement their lines.
///
/// Of RUN the lines are a part of the text, as a shell reads them; where `<<NAME` is the whole text, they are the script.
fn fill_heredocs(parts: &mut [Part], found: &[(Mark, Lines)], file: &SourceFile) {
    let made = |(mark, lines): &(Mark, Lines)| Heredoc {
        name: mark.name.clone(),
        body: Word { raw: lines.text(file, mark.tabs), span: lines.body },
        expand: mark.expand,
    };
    let mut next = found.iter();
    for part in parts {
        match part {
            Part::Heredoc(heredoc) => {
                if let Some(found) = next.next() {
                    *heredoc = made(found);
                }
            }
            Part::Text(text) => match found {
                [] => {}
                [alone] if alone.0.span == text.span => *part = Part::Heredoc(made(alone)),
                [.., last] => {
                    text.raw.push('\n');
                    found.iter().for_each(|(_, lines)| text.raw.push_str(&lines.shell_text(file)));
                    text.span.end = last.1.closing.end;
                }
            },
            Part::Word(_)
            | Part::Call { .. }
            | Part::FlagsEnd
            | Part::Key(_)
            | Part::Equals
            | Part::Exec(_) => {}
        }
    }
}
