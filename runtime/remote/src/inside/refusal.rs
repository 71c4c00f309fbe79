//! What a frontend tells of a failure: words, a code, and lines of files, as BuildKit's clients show them.
//!
//! Source: BuildKit's `solver/errdefs` and `util/grpcerrors`: details are JSON under a type's name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use rb_diag::{Diagnostic, ErrorKind, Severity, SourceId, SourceMap, Span};
use rb_llb::Position;
use rb_wire::control;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::error::{RemoteError, said};

/// What details are named by.
const TYPES: &str = "github.com/moby/buildkit/errdefs";
/// What a file's language is called.
const LANGUAGE: &str = "Buildfile";

/// Why there is no result.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    code: Code,
    message: String,
    details: Vec<control::Detail>,
}

impl Refusal {
    /// Tells what is wrong in words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { code: code(kind), message: message.into(), details: Vec::new() }
    }

    /// Tells what is wrong with files, each finding with its lines.
    pub fn of_findings(findings: &[Diagnostic], sources: &SourceMap) -> Self {
        let errors = || findings.iter().filter(|found| found.severity == Severity::Error);
        let words = errors().map(|found| words(found, sources));
        let kind = errors().next().map_or(ErrorKind::Internal, |found| found.kind);
        let lines = errors().filter_map(|found| lines(found.labels.first()?.span, sources));
        let mut details: Vec<_> = lines.collect();
        if details.is_empty() {
            // What has no place in the file is shown at its first line by whoever read `# syntax=` there, unless a place is given: none.
            details.extend(
                sources
                    .get(SourceId::default())
                    .map(|file| of_ranges(&file.name, file.text.as_bytes(), &json!([]))),
            );
        }
        Self { code: code(kind), message: words.collect::<Vec<_>>().join("\n"), details }
    }

    /// Says that a question is none that this frontend answers.
    pub fn unsupported(request: &str) -> Self {
        let value = json!({ "name": request }).to_string().into();
        Self {
            code: Code::Unimplemented,
            message: format!("unsupported request {request}"),
            details: vec![control::Detail { type_url: format!("{TYPES}.Subrequest+json"), value }],
        }
    }

    pub(super) fn of_error(error: &RemoteError) -> Self {
        let message = match error.help() {
            Some(help) => format!("{}: {help}", rb_diag::chain(error)),
            None => rb_diag::chain(error),
        };
        match error {
            RemoteError::Call(status) => Self::of_status(status),
            RemoteError::OnlyHere { place: Some(place), .. } => {
                let (file, range) = place.as_ref();
                let at = |place: Position| json!({ "line": place.line, "character": place.character });
                let (start, end) = (at(range.start), at(range.end));
                Self {
                    code: code(error.kind()),
                    message: format!("{}:{}: {message}", file.name, range.start.line),
                    details: vec![of_lines(&file.name, &file.data, &start, &end)],
                }
            }
            _ => Self::new(error.kind(), message),
        }
    }

    /// Passes an error of the daemon on as it came.
    pub(super) fn of_status(status: &Status) -> Self {
        let details = control::Status::decode(status.details()).map(|status| status.details);
        Self { code: status.code(), message: said(status), details: details.unwrap_or_default() }
    }

    pub(super) fn into_status(self) -> control::Status {
        control::Status { code: self.code as i32, message: self.message, details: self.details }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Internal => Code::Internal,
        // Clients say every other code before the words.
        ErrorKind::Input | ErrorKind::Build | ErrorKind::Environment => Code::Unknown,
    }
}

/// `Buildfile:3: message (help)`.
fn words(found: &Diagnostic, sources: &SourceMap) -> String {
    let place = found.labels.first().and_then(|label| {
        let file = sources.get(label.span.source)?;
        Some(format!("{}:{}: ", file.name, file.position(label.span.start).line))
    });
    let help = found.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}{}{help}", place.unwrap_or_default(), found.message)
}

/// The file and the lines of a place in it.
fn lines(span: Span, sources: &SourceMap) -> Option<control::Detail> {
    let file = sources.get(span.source)?;
    let place = |offset: u32| {
        let at = file.position(offset);
        json!({ "line": at.line, "character": at.column.saturating_sub(1) })
    };
    Some(of_lines(&file.name, file.text.as_bytes(), &place(span.start), &place(span.end)))
}

fn of_lines(name: &str, text: &[u8], start: &Value, end: &Value) -> control::Detail {
    of_ranges(name, text, &json!([{ "start": start, "end": end }]))
}

fn of_ranges(name: &str, text: &[u8], ranges: &Value) -> control::Detail {
    let value = json!({
        "info": { "filename": name, "data": STANDARD.encode(text), "language": LANGUAGE },
        "ranges": ranges,
    });
    control::Detail { type_url: format!("{TYPES}.Source+json"), value: value.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_name_their_lines() {
        let sources = SourceMap::default();
        let file = sources.add("Buildfile", "VERSION 1\na:\n    FROM +b\n");
        let span = Span { source: file.id, start: 22, end: 24 };
        let found = Diagnostic::error("rb::x", "there is no target `b`")
            .with_label(span, "here")
            .with_help("name one");
        let warning = Diagnostic::warning("rb::y", "unusual");
        let refusal = Refusal::of_findings(&[warning, found], &sources);
        assert_eq!(refusal.message, "Buildfile:3: there is no target `b` (name one)");
        let status = refusal.into_status();
        assert_eq!(status.code, Code::Unknown as i32);
        let [detail] = status.details.as_slice() else { panic!("one place") };
        assert_eq!(detail.type_url, "github.com/moby/buildkit/errdefs.Source+json");
        let value: serde_json::Value = serde_json::from_slice(&detail.value).expect("is JSON");
        assert_eq!(value["ranges"][0]["start"]["line"], 3);
        assert_eq!(value["info"]["filename"], "Buildfile");
        let typed = Refusal::of_findings(&[Diagnostic::error("rb::x", "no target")], &sources);
        let value: serde_json::Value = serde_json::from_slice(&typed.details[0].value).expect("is JSON");
        assert_eq!((&value["ranges"], typed.message.as_str()), (&json!([]), "no target"));
    }

    #[test]
    fn what_the_daemon_said_goes_back_as_it_came() {
        let detail = control::Detail { type_url: "x".to_owned(), value: "y".into() };
        let inner = control::Status { code: 2, message: "m".to_owned(), details: vec![detail.clone()] };
        let status = Status::with_details(Code::Unknown, "exit code: 3", inner.encode_to_vec().into());
        let back = Refusal::of_status(&status).into_status();
        assert_eq!((back.code, back.message.as_str(), back.details), (2, "exit code: 3", vec![detail]));
        let unknown = Refusal::unsupported("frontend.other").into_status();
        assert_eq!((unknown.code, unknown.message.as_str()), (12, "unsupported request frontend.other"));
    }
}
