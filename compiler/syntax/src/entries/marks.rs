//! What opens in an entry and never closes, and strings that run over several lines.

use pest::Token;
use pest::iterators::Pair;
use rb_diag::{Diagnostic, SourceFile, Span};

use super::span_of;
use crate::codes;
use crate::grammar::Rule;
use crate::report::Report;

/// Quotes and parentheses may be nested this deep.
const MAX_DEPTH: usize = 64;

/// Something that opens and does not end.
pub(super) struct Fault {
    kind: FaultKind,
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultKind {
    Quote,
    Parenthesis,
    CutOff,
    CutShort,
}

/// What is to be known of the quotes and parentheses of an entry.
#[derive(Default)]
pub(super) struct Marks {
    faults: Vec<Fault>,
    /// Strings of several lines, not those within others.
    pub(super) strings: Vec<(usize, usize)>,
    /// A string or continued line runs into the end of the window.
    pub(super) open: bool,
}

impl Marks {
    /// Collects the marks; `None` where the entry is nested too deeply.
    pub(super) fn of(entry: &Pair<'_, Rule>, window: &str) -> Option<Self> {
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

    /// Returns whether a quote or parenthesis never closes.
    pub(super) fn is_broken(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Quote | FaultKind::Parenthesis))
    }

    /// Reports what does not end: of several things nested in one another, the one that most likely is the mistake.
    pub(super) fn report(&self, file: &SourceFile, at: usize, report: &mut Report) {
        let first = |kind| self.faults.iter().find(|fault| fault.kind == kind);
        let mut add = |fault: &Fault, length: usize, code, message: String, help: String| {
            let start = at + fault.at;
            let label = span_of(file, start, start + length);
            report.push(Diagnostic::error(code, message).with_label(label, "").with_help(help));
        };
        let text = |fault: &Fault| file.text.get(at + fault.at..).unwrap_or_default();
        if let Some(fault) = first(FaultKind::Parenthesis) {
            let (sign, closing) = match text(fault) {
                text if text.starts_with('$') => ("$(", ")"),
                text if text.starts_with('{') => ("{{", "}}"),
                _ => ("(", ")"),
            };
            let help = format!(
                "close it with `{closing}` on the same line, or write `\\{sign}` for the sign itself"
            );
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
        Rule::substitution
        | Rule::quoted_substitution
        | Rule::paren
        | Rule::quoted_paren
        | Rule::call
        | Rule::type_values
        | Rule::expression => Some(FaultKind::Parenthesis),
        _ => None,
    }
}

/// Returns the finding that `span` is nested too deeply.
pub(super) fn too_deep(span: Span) -> Diagnostic {
    let message = format!("quotes and parentheses are nested more than {MAX_DEPTH} deep");
    Diagnostic::error(codes::NESTED_TOO_DEEPLY, message)
        .with_label(span, "")
        .with_help("move the command into a script and run that")
}
