//! Findings as the JSON that BuildKit gives for `frontend.lint`.
//!
//! Lines are listed one by one. The graph by which BuildKit's server could fetch a file again is left out.

use base64::Engine as _;
use rb_diag::{Diagnostic, SourceFile, Span};
use serde::Serialize;

use super::Report;
use crate::checks::Finding;

#[derive(Serialize)]
struct Results {
    warnings: Vec<Warning>,
    sources: Vec<Source>,
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    error: Option<BuildError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning {
    rule_name: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    location: Location,
}

/// As in a message of protobuf, what is zero or empty is left out.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    #[serde(skip_serializing_if = "is_zero")]
    source_index: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Clone, Copy, Serialize)]
struct Position {
    line: u32,
}

#[derive(Serialize)]
struct Source {
    filename: String,
    data: String,
    language: &'static str,
}

pub(super) fn json(report: &Report<'_>) -> String {
    let results = Results {
        warnings: report.findings.iter().map(|finding| warning(report, finding)).collect(),
        sources: report.files().iter().map(|file| source(file)).collect(),
        error: report.errors.first().map(|error| build_error(report, error)),
    };
    let mut text = serde_json::to_string_pretty(&results).expect("texts and numbers are JSON");
    text.push('\n');
    text
}

fn warning(report: &Report<'_>, finding: &Finding) -> Warning {
    Warning {
        rule_name: finding.rule.name(),
        description: finding.rule.description(),
        url: finding.rule.url(),
        detail: finding.message.clone(),
        location: location(report, finding.span),
    }
}

/// Returns the first error: there is room for one.
fn build_error(report: &Report<'_>, error: &Diagnostic) -> BuildError {
    let place = error.labels.first().and_then(|label| location(report, label.span));
    BuildError { message: error.message.clone(), location: place.unwrap_or_default() }
}

fn location(report: &Report<'_>, span: Span) -> Option<Location> {
    let source_index = report.files().iter().position(|file| file.id == span.source)?;
    let (_, lines) = report.lines(span)?;
    let ranges = lines.map(|line| Range { start: Position { line }, end: Position { line } }).collect();
    Some(Location { source_index, ranges })
}

fn source(file: &SourceFile) -> Source {
    let data = base64::engine::general_purpose::STANDARD.encode(file.text.as_bytes());
    Source { filename: file.name.clone(), data, language: "Dockerfile" }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
