//! Findings and errors as a SARIF log, for editors and code hosts.
//!
//! Written by hand: the one crate for the format generates thousands of lines from its schema in every build, of which
//! a log of ours needs a dozen fields. Source: SARIF 2.1.0, sections 3.13 to 3.30.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rb_diag::Span;
use serde_json::{Value, json};

use super::Report;
use crate::checks::Rule;

/// What a path of a URI may not hold.
const NOT_IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~')
    .remove(b'+')
    .remove(b'@');

pub(super) fn sarif(report: &Report<'_>) -> String {
    let findings = report.findings.iter().map(|finding| {
        json!({
            "ruleId": finding.rule.name(),
            "ruleIndex": Rule::ALL.iter().position(|rule| *rule == finding.rule),
            "level": "warning",
            "message": { "text": finding.message },
            "locations": locations(report, Some(finding.span)),
        })
    });
    let errors = report.errors.iter().map(|error| {
        let text = match &error.help {
            Some(help) => format!("{}\n{help}", error.message),
            None => error.message.clone(),
        };
        json!({
            "ruleId": error.code,
            "level": "error",
            "message": { "text": text },
            "locations": locations(report, error.labels.first().map(|label| label.span)),
        })
    });
    let results: Vec<Value> = findings.chain(errors).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "rb",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": Rule::ALL.iter().copied().map(rule).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    let mut text = serde_json::to_string_pretty(&log).expect("texts and numbers are JSON");
    text.push('\n');
    text
}

fn rule(rule: Rule) -> Value {
    let mut value = json!({ "id": rule.name(), "shortDescription": { "text": rule.description() } });
    if let Some(url) = rule.url() {
        value["helpUri"] = url.into();
    }
    value
}

fn locations(report: &Report<'_>, span: Option<Span>) -> Vec<Value> {
    let place = span.and_then(|span| Some((span, report.sources.get(span.source)?)));
    let location = place.map(|(span, file)| {
        let (start, end) = (file.position(span.start), file.position(span.end));
        json!({ "physicalLocation": {
            "artifactLocation": { "uri": utf8_percent_encode(&file.name, NOT_IN_PATHS).to_string() },
            "region": {
                "startLine": start.line,
                "startColumn": start.column,
                "endLine": end.line,
                "endColumn": end.column,
            },
        } })
    });
    location.into_iter().collect()
}
