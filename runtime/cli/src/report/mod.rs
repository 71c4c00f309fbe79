//! The only place that turns errors and results into text and exit codes.
//!
//! In: a [`Failure`], or what a build wrote ([`summary`]). Out: text for stderr, as people read it ([`fancy`]), as JSON or as
//! GitHub wants it ([`github`]), and the exit code of DESIGN, "The command line". stdout is data: it gets text through [`print()`] only, and a
//! reader that went away is no failure.

mod about;
mod fancy;
pub(crate) mod github;
mod narrow;
mod place;
mod several;
mod struck;
pub(crate) mod summary;

use std::error::Error;
use std::io::{self, Write};

use rb_api::SolveError;
use rb_diag::{Diagnostic, Diagnostics, ErrorKind, SourceMap, chain};
use rb_frontend::WorldError;
use rb_llb::Definition;
use serde_json::{Value, json};

use crate::args::ArgsError;
use crate::habits::Habit;
use crate::output_spec::OutputSpecError;
use crate::progress;
use crate::progress::{RawWarning, clean, fit};
use crate::settings::{Display, ProgressMode, SettingsError};
use crate::signals::Interrupt;
pub(crate) use about::{About, FailedLog};
use fancy::{Finding, Snippet};
pub(crate) use place::callers_by_build;
pub(crate) use struck::keep as keep_secret;

/// Why `rb` ends without having done what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the user wrote is wrong.
    Diagnostics {
        /// At least one.
        items: Diagnostics,
        /// Where the texts are.
        sources: SourceMap,
    },
    /// A job failed.
    Solve {
        /// Why.
        error: Box<SolveError>,
        /// The graphs of the job, which know the places of their vertices.
        definitions: Vec<Definition>,
    },
    /// Anything else that can be said in one line.
    Said {
        /// Who has to act.
        kind: ErrorKind,
        /// One line, causes included.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// Another failure, of which more is known.
    With {
        /// That one.
        failure: Box<Self>,
        /// What is known.
        about: About,
    },
    /// Several of these, of a build that went on after the first, or of words that are all wrong. None is of this kind.
    Several(Vec<Self>),
    /// A signal came.
    Interrupted(Interrupt),
    /// Nobody reads stdout any more; that is success.
    Unheard,
}

impl Failure {
    /// Returns what it says first, in one line.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Diagnostics { items, .. } => {
                items.first().map(|item| item.message.clone()).unwrap_or_default()
            }
            Self::Solve { error, .. } => error.to_string(),
            Self::Said { message, .. } => message.clone(),
            Self::With { failure, about: _ } => failure.message(),
            Self::Several(failures) => failures.first().map(Self::message).unwrap_or_default(),
            Self::Interrupted(_) | Self::Unheard => String::new(),
        }
    }

    /// Makes an error the user has to mend.
    pub(crate) fn input(message: impl Into<String>, help: Option<String>) -> Self {
        Self::Said { kind: ErrorKind::Input, message: message.into(), help }
    }

    /// Makes an error of disk, kernel or network from what caused it.
    pub(crate) fn environment(what: &str, error: &dyn Error) -> Self {
        Self::Said { kind: ErrorKind::Environment, message: format!("{what}: {}", chain(error)), help: None }
    }

    /// Returns the exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // Of several findings the gravest kind decides, our own bugs first.
            Self::Diagnostics { items, .. } => {
                items.iter().map(|item| item.kind).max().unwrap_or(ErrorKind::Internal).exit_code()
            }
            Self::Solve { error, .. } => {
                error.kind().map_or(Interrupt::Int.exit_code(), ErrorKind::exit_code)
            }
            Self::Said { kind, .. } => kind.exit_code(),
            Self::With { failure, about: _ } => failure.exit_code(),
            // The gravest one decides.
            Self::Several(failures) => failures.iter().map(Self::exit_code).max().unwrap_or(70),
            Self::Interrupted(interrupt) => interrupt.exit_code(),
            Self::Unheard => 0,
        }
    }

    /// Renders it for stderr. `columns` is the width to wrap at.
    pub(crate) fn render(&self, display: Display, columns: usize) -> String {
        if display.mode == ProgressMode::Json {
            return self.json();
        }
        self.render_about(&About::default(), display, columns)
    }

    fn render_about(&self, about: &About, display: Display, columns: usize) -> String {
        let finding = |finding: &Finding<'_>| fancy::render(finding, display.colours, columns);
        match self {
            Self::With { failure, about } => failure.render_about(about, display, columns),
            Self::Several(failures) => {
                let shown = failures.iter().take(MOST_FINDINGS);
                let shown: Vec<String> = shown.map(|failure| failure.render(display, columns)).collect();
                let log = about.log.as_ref().map(|log| format!("\n  log: {}\n", log.whole()));
                shown.join("\n") + &more(failures.len()) + &log.unwrap_or_default()
            }
            Self::Diagnostics { items, sources } => {
                let shown = items.iter().take(MOST_FINDINGS).enumerate().map(|(at, item)| {
                    let mut item = Finding::of_diagnostic(item, sources);
                    if let Some(log) = about.log.as_ref().filter(|_| at == 0) {
                        item.log = if has_shown_logs(display) { &[] } else { &log.tail };
                        item.whole_log = Some(log.whole());
                    }
                    finding(&item)
                });
                shown.collect::<Vec<_>>().join("\n") + &more(items.len())
            }
            Self::Solve { error, definitions } => solve_error(error, definitions, about, display, columns),
            Self::Said { kind, message, help } => {
                finding(&Finding::of_message(message.clone(), help.clone().or_else(|| bug_help(*kind))))
            }
            Self::Interrupted(_) => interrupted(display),
            Self::Unheard => String::new(),
        }
    }

    /// Renders it as lines of JSON: `event` is `error` or `interrupted`.
    fn json(&self) -> String {
        let values: Vec<Value> = match self {
            Self::Several(failures) => return failures.iter().map(Self::json).collect(),
            Self::Diagnostics { items, sources } => {
                items.iter().map(|item| diagnostic_json(item, sources)).collect()
            }
            Self::Solve { error, definitions } => vec![solve_json(error, definitions)],
            Self::Said { kind, message, help } => {
                vec![json!({ "event": "error", "kind": kind_name(*kind), "message": message, "help": help })]
            }
            Self::With { failure, about } => {
                let text = failure.json();
                let mut values: Vec<Value> = text.lines().filter_map(|line| line.parse().ok()).collect();
                if let Some(first) = values.first_mut() {
                    if !about.trail.is_empty() {
                        first["trail"] = json!(about.trail);
                    }
                    first["log"] = json!(about.log.as_ref().map(|log| &log.command));
                }
                values
            }
            Self::Interrupted(_) => vec![json!({ "event": "interrupted" })],
            Self::Unheard => Vec::new(),
        };
        values.iter().map(|value| format!("{value}\n")).collect()
    }
}

fn solve_error(
    error: &SolveError,
    definitions: &[Definition],
    about: &About,
    display: Display,
    columns: usize,
) -> String {
    let finding = match error {
        SolveError::Vertex { vertex, name, kind, message, help, log_tail } => {
            let snippet = place::of_vertex(vertex, definitions).map(|place| Snippet {
                name: place.file,
                text: place.text,
                labels: vec![(place.range, message.clone())],
            });
            let mut notes = place::calls(vertex, definitions);
            notes.extend(place::callers(vertex, definitions));
            // What came before the job knows the same way from its beginning.
            notes.retain(|note| !about.trail.contains(note));
            notes.extend(about.trail.iter().cloned());
            let name = step_name(name, columns);
            let title = if snippet.is_some() {
                format!("{name} failed")
            } else {
                format!("{name} failed: {message}")
            };
            let log: &[String] = if has_shown_logs(display) { &[] } else { log_tail };
            let help = help.clone().or_else(|| bug_help(*kind));
            let whole_log = about.log.as_ref().map(FailedLog::whole);
            Finding { snippet, log, notes, whole_log, ..Finding::of_message(title, help) }
        }
        SolveError::Job { kind, message, help } => {
            Finding::of_message(message.clone(), help.clone().or_else(|| bug_help(*kind)))
        }
        SolveError::NoSuchFile { .. } => Finding::of_message(error.to_string(), None),
        SolveError::Withheld { vertex, name, reason } => {
            let why = reason.as_ref().map_or("the image that it reads is not here", |reason| &reason.text);
            let snippet = place::of_vertex(vertex, definitions).map(|place| Snippet {
                name: place.file,
                text: place.text,
                labels: vec![(place.range, why.to_owned())],
            });
            let title = format!("{} would have to run", step_name(name, columns));
            let title = if snippet.is_some() { title } else { format!("{title}: {why}") };
            Finding { snippet, ..Finding::of_message(title, None) }
        }
        SolveError::Several(errors) => {
            let each = errors.iter().map(|error| solve_error(error, definitions, about, display, columns));
            return each.collect::<Vec<_>>().join("\n");
        }
        SolveError::Cancelled => return interrupted(display),
    };
    fancy::render(&finding, display.colours, columns)
}

/// Tells whether the progress has shown what commands wrote: it is told once.
fn has_shown_logs(display: Display) -> bool {
    matches!(display.mode, ProgressMode::Plain | ProgressMode::RawJson)
}

/// Says that a signal was heard.
pub(crate) fn stopping(interrupt: Interrupt, display: Display) -> String {
    match (display.mode, interrupt) {
        (ProgressMode::Quiet | ProgressMode::RawJson, _) => String::new(),
        (ProgressMode::Json, _) => format!("{}\n", json!({ "event": "stopping" })),
        (ProgressMode::Plain | ProgressMode::Live, Interrupt::Int) => {
            "stopping…, Ctrl-C again to end at once\n".to_owned()
        }
        (ProgressMode::Plain | ProgressMode::Live, Interrupt::Term | Interrupt::Hup) => {
            format!("stopping… ({}), again to end at once\n", interrupt.name())
        }
    }
}

/// Shows `+app | RUN make all` as "+app: `RUN make all`", in one line.
fn step_name(name: &str, columns: usize) -> String {
    // What stands in backquotes is not broken, so on a narrow terminal it is shorter.
    let most =
        |before: usize| if columns < fancy::WIDE { columns.saturating_sub(before + 16).max(16) } else { 60 };
    match place::of_target(&clean(name, false)) {
        Some((target, what)) => format!("{target}: `{}`", fit(what, most(target.chars().count()).min(60))),
        None => format!("`{}`", fit(name, most(0).min(60))),
    }
}

fn interrupted(display: Display) -> String {
    match display.mode {
        ProgressMode::Quiet => String::new(),
        ProgressMode::Plain | ProgressMode::Live | ProgressMode::Json | ProgressMode::RawJson => {
            "interrupted\n".to_owned()
        }
    }
}

fn solve_json(error: &SolveError, definitions: &[Definition]) -> Value {
    match error {
        SolveError::Vertex { vertex, name, kind, message, help, log_tail: _ } => {
            let place = place::of_vertex(vertex, definitions);
            json!({
                "event": "error", "kind": kind_name(*kind), "vertex": vertex.to_string(), "name": name,
                "message": message, "help": help,
                "file": place.as_ref().map(|place| place.file.clone()),
                "line": place.as_ref().map(|place| place.line),
            })
        }
        SolveError::Job { kind, message, help } => {
            json!({ "event": "error", "kind": kind_name(*kind), "message": message, "help": help })
        }
        SolveError::NoSuchFile { .. } => {
            json!({ "event": "error", "kind": kind_name(ErrorKind::Input), "message": error.to_string() })
        }
        SolveError::Withheld { vertex, name, reason } => {
            let place = place::of_vertex(vertex, definitions);
            json!({
                "event": "error", "kind": kind_name(ErrorKind::Build), "vertex": vertex.to_string(), "name": name,
                "message": error.to_string(), "reason": reason.as_ref().map(|reason| reason.text.clone()),
                "miss": reason.as_ref().map(|reason| &reason.miss),
                "file": place.as_ref().map(|place| place.file.clone()),
                "line": place.as_ref().map(|place| place.line),
            })
        }
        SolveError::Several(errors) => {
            Value::Array(errors.iter().map(|error| solve_json(error, definitions)).collect())
        }
        SolveError::Cancelled => json!({ "event": "interrupted" }),
    }
}

/// Renders one line that does not end the run.
pub(crate) fn warning(message: &str, display: Display, columns: usize) -> String {
    match display.mode {
        ProgressMode::Json => format!("{}\n", json!({ "event": "warning", "message": message })),
        ProgressMode::RawJson => RawWarning { short: clean(message, false), ..RawWarning::default() }.line(),
        ProgressMode::Plain | ProgressMode::Live | ProgressMode::Quiet => {
            let finding = Finding { warning: true, ..Finding::of_message(message.to_owned(), None) };
            fancy::render(&finding, display.colours, columns)
        }
    }
}

/// As many findings are shown to people at once: what is beyond them is mostly more of the same.
const MOST_FINDINGS: usize = 50;

/// Renders findings that do not end the run.
pub(crate) fn warnings(
    items: &[Diagnostic],
    sources: &SourceMap,
    display: Display,
    columns: usize,
) -> String {
    let render = |item| match display.mode {
        ProgressMode::Json => format!("{}\n", diagnostic_json(item, sources)),
        ProgressMode::RawJson => raw_warning(item, sources),
        ProgressMode::Plain | ProgressMode::Live | ProgressMode::Quiet => {
            fancy::render(&Finding::of_diagnostic(item, sources), display.colours, columns)
        }
    };
    let is_for_programs = matches!(display.mode, ProgressMode::Json | ProgressMode::RawJson);
    let more = if is_for_programs { String::new() } else { more(items.len()) };
    let most = if is_for_programs { items.len() } else { MOST_FINDINGS };
    items.iter().take(most).map(render).collect::<String>() + &more
}

/// Tells a warning in BuildKit's stream.
fn raw_warning(item: &Diagnostic, sources: &SourceMap) -> String {
    let at = item.labels.first().and_then(|label| {
        let file = sources.get(label.span.source)?;
        Some((file.position(label.span.start).line, file))
    });
    let place = at.as_ref().map(|(line, file)| (&*file.name, &*file.text, *line));
    let line = at.as_ref().map_or_else(String::new, |(line, _)| format!(" (line {line})"));
    let short = format!("{}{line}", clean(&item.message, false));
    RawWarning { short, detail: item.help.as_deref(), url: None, place }.line()
}

/// Says how many findings are not shown.
fn more(count: usize) -> String {
    match count.saturating_sub(MOST_FINDINGS) {
        0 => String::new(),
        rest => format!("\n… and {rest} more\n"),
    }
}

fn diagnostic_json(item: &Diagnostic, sources: &SourceMap) -> Value {
    let labels: Vec<Value> = item
        .labels
        .iter()
        .filter_map(|label| {
            let file = sources.get(label.span.source)?;
            let (start, end) = (file.position(label.span.start), file.position(label.span.end));
            Some(json!({
                "file": file.name, "line": start.line, "column": start.column,
                "end_line": end.line, "end_column": end.column, "text": label.text,
            }))
        })
        .collect();
    let event = match item.severity {
        rb_diag::Severity::Warning => "warning",
        rb_diag::Severity::Error => "error",
    };
    json!({
        "event": event, "kind": kind_name(item.kind), "code": item.code, "message": item.message,
        "help": item.help, "labels": labels, "trail": item.trail,
    })
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Build => "build",
        ErrorKind::Input => "input",
        ErrorKind::Environment => "environment",
        ErrorKind::Internal => "internal",
    }
}

fn bug_help(kind: ErrorKind) -> Option<String> {
    match kind {
        ErrorKind::Internal => Some(
            "this is a bug of rb; `RB_LOG=debug` in front of the command shows what a report needs"
                .to_owned(),
        ),
        ErrorKind::Build | ErrorKind::Input | ErrorKind::Environment => None,
    }
}

/// Writes data to stdout.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unheard,
        _ => Failure::environment("stdout cannot be written", &error),
    })
}

/// Tells whether stdout is a terminal, which no archive is written to.
pub(crate) fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}

/// Writes talk to stderr, above the progress that is shown; there is nobody to tell if that fails.
pub(crate) fn tell(text: &str) {
    progress::tell(text);
}

impl From<ArgsError> for Failure {
    fn from(error: ArgsError) -> Self {
        Self::input(error.to_string(), error.help())
    }
}

impl From<OutputSpecError> for Failure {
    fn from(error: OutputSpecError) -> Self {
        Self::input(format!("--output: {error}"), None)
    }
}

impl From<Habit> for Failure {
    fn from(habit: Habit) -> Self {
        Self::input(habit.message, habit.help)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        if let SettingsError::Config { errors } = error {
            return Self::Diagnostics { items: errors, sources: SourceMap::default() };
        }
        let kind = if error.is_environment() { ErrorKind::Environment } else { ErrorKind::Input };
        Self::Said { kind, message: chain(&error), help: error.help() }
    }
}

impl From<WorldError> for Failure {
    fn from(error: WorldError) -> Self {
        let message = chain(&error);
        let (kind, help) = match error {
            WorldError::NotFound { help, .. } => (ErrorKind::Input, help),
            WorldError::Failed { kind, .. } | WorldError::Step { kind, .. } => (kind, None),
        };
        Self::Said { kind, message, help }
    }
}

#[cfg(test)]
mod tests;
