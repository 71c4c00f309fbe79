//! Findings as people read them: message, the user's line underlined, what to type.
//!
//! In: a [`Finding`]. Out: text, drawn by miette. A finding draws the lines of one file; places in other files, the
//! way the build took and the end of a log follow, and what to type comes last.

use std::fmt;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};
use rb_diag::{Diagnostic, SourceMap};

use super::narrow::narrowed;
use crate::progress::{clean, fill, turns_round};

/// Where so many columns are, as where there is no terminal, lines of a file are shown whole, unless they are longer than anybody reads.
pub(super) const WIDE: usize = 100;

/// How many columns of a line are shown at most.
const LONGEST: usize = 500;

/// Writes control characters, except newline and tab, as `\xNN`, and those that turn the direction of a text as `\u{NNNN}`.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            out.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else if turns_round(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Replaces control characters by others of as many bytes, so that ranges into the text stay true.
fn same_length(text: &str) -> String {
    let mut rest = text.chars().peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(character) = rest.next() {
        out.push(match character {
            '\n' | '\t' => character,
            // A carriage return is harmless at the end of a line only.
            '\r' if rest.peek().is_none_or(|next| *next == '\n') => character,
            // Each has three bytes, as the character that stands for it.
            character if turns_round(character) => char::REPLACEMENT_CHARACTER,
            character if !character.is_control() => character,
            character if character.len_utf8() == 1 => '?',
            _ => '·',
        });
    }
    out
}

/// What is to be said.
#[derive(Debug)]
pub(super) struct Finding<'a> {
    /// Stable code.
    pub(super) code: Option<&'static str>,
    /// It does not end the run.
    pub(super) warning: bool,
    /// One line.
    pub(super) message: String,
    /// The lines it is about.
    pub(super) snippet: Option<Snippet>,
    /// Further lines, each one sentence.
    pub(super) notes: Vec<String>,
    /// What to type.
    pub(super) help: Option<String>,
    /// Last lines of a command's output.
    pub(super) log: &'a [String],
    /// Where all of it is.
    pub(super) whole_log: Option<String>,
}

/// A text with places in it.
#[derive(Debug)]
pub(super) struct Snippet {
    /// Name of the file.
    pub(super) name: String,
    /// All of its text.
    pub(super) text: String,
    /// Byte ranges and what is said of them, the main one first.
    pub(super) labels: Vec<(std::ops::Range<usize>, String)>,
}

impl Finding<'_> {
    /// Says one line and what to do.
    pub(super) fn of_message(message: String, help: Option<String>) -> Self {
        Self {
            code: None,
            warning: false,
            message,
            snippet: None,
            notes: Vec::new(),
            help,
            log: &[],
            whole_log: None,
        }
    }

    /// Says what a compiler found.
    pub(super) fn of_diagnostic(item: &Diagnostic, sources: &SourceMap) -> Self {
        let main = item.labels.first().and_then(|label| sources.get(label.span.source));
        let mut notes = Vec::new();
        let mut labels = Vec::new();
        for label in &item.labels {
            let range = label.span.start as usize..label.span.end as usize;
            match (&main, sources.get(label.span.source)) {
                (Some(main), Some(file)) if main.id == file.id => labels.push((range, label.text.clone())),
                (_, Some(file)) => {
                    let at = file.position(label.span.start);
                    notes.push(format!("at {}:{}:{}: {}", file.name, at.line, at.column, label.text));
                }
                (_, None) => notes.push(label.text.clone()),
            }
        }
        notes.extend(item.trail.iter().cloned());
        Self {
            code: Some(item.code),
            warning: item.severity == rb_diag::Severity::Warning,
            message: item.message.clone(),
            snippet: main.map(|file| Snippet {
                name: file.name.clone(),
                text: file.text.to_string(),
                labels,
            }),
            notes,
            help: item.help.clone(),
            log: &[],
            whole_log: None,
        }
    }
}

/// A finding in the form miette wants.
#[derive(Debug)]
struct Drawn<'a> {
    finding: &'a Finding<'a>,
    source: Option<NamedSource<String>>,
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.finding.message)
    }
}

impl std::error::Error for Drawn<'_> {}

impl miette::Diagnostic for Drawn<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.finding.code.map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        Some(if self.finding.warning { Severity::Warning } else { Severity::Error })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let snippet = self.finding.snippet.as_ref()?;
        let size = snippet.text.len();
        Some(Box::new(snippet.labels.iter().enumerate().map(move |(at, (range, text))| {
            let start = range.start.min(size);
            let span = (start, range.end.clamp(start, size) - start);
            let text = (!text.is_empty()).then(|| text.clone());
            if at == 0 {
                LabeledSpan::new_primary_with_span(text, span)
            } else {
                LabeledSpan::new_with_span(text, span)
            }
        })))
    }
}

/// Draws a finding; the text ends with a newline. Names and texts come from anywhere, so no control character of
/// theirs gets to the terminal.
pub(super) fn render(finding: &Finding<'_>, colours: bool, columns: usize) -> String {
    let shown = if columns < WIDE { columns.max(40) } else { LONGEST };
    let columns = columns.clamp(40, 120);
    let snippet = finding.snippet.as_ref().map(|snippet| Snippet {
        name: visible(&snippet.name),
        text: same_length(&snippet.text),
        labels: snippet.labels.iter().map(|(range, text)| (range.clone(), visible(text))).collect(),
    });
    let (snippet, said) = match snippet {
        Some(snippet) => {
            let (snippet, said) = narrowed(snippet, shown);
            (Some(snippet), said)
        }
        None => (None, Vec::new()),
    };
    let notes = said.into_iter().chain(finding.notes.iter().map(|note| visible(note))).collect();
    let finding = &Finding {
        code: finding.code,
        warning: finding.warning,
        // Beside it stands `  × `.
        message: fill(&visible(&finding.message), columns - 4, ""),
        snippet,
        notes,
        help: finding.help.as_deref().map(visible),
        log: finding.log,
        whole_log: finding.whole_log.as_deref().map(visible),
    };
    let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    // It would break lines within words, and within what is to be copied.
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(columns)
        .with_wrap_lines(false)
        .with_context_lines(1)
        .with_links(false);
    let source =
        finding.snippet.as_ref().map(|snippet| NamedSource::new(&snippet.name, snippet.text.clone()));
    let mut text = String::new();
    if handler.render_report(&mut text, &Drawn { finding, source }).is_err() {
        // miette refuses only places outside the text; what matters is said without the drawing.
        text = format!("  × {}\n", finding.message);
    }
    let mut out: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    for note in &finding.notes {
        out.push_str(&format!("{}\n", fill(&format!("        {note}"), columns, "          ")));
    }
    if !finding.log.is_empty() {
        out.push_str("  last lines of its output:\n");
        for line in finding.log {
            out.push_str(format!("    {}", clean(line, colours)).trim_end());
            out.push_str(if colours { "\u{1b}[0m\n" } else { "\n" });
        }
    }
    let (start, end) = if colours { ("\u{1b}[36m", "\u{1b}[0m") } else { ("", "") };
    for (word, text) in [("help", &finding.help), ("log", &finding.whole_log)] {
        if let Some(text) = text {
            let indent = " ".repeat(word.len() + 4);
            let text = fill(&format!("{indent}{text}"), columns, &indent);
            out.push_str(&format!("  {start}{word}:{end} {}\n", text.trim_start()));
        }
    }
    out
}
