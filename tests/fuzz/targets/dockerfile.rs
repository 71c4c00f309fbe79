//! Any text as a Dockerfile: what always holds of its tree, its errors, what its words mean, and how they are shown.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use rb_diag::{SourceMap, Span};
use rb_dockerfile::checks::report::Report;
use rb_dockerfile::words::Lexer;
use rb_dockerfile::{Control, parse, parse_trigger};
use serde_json::Value;

fuzz_target!(|text: &str| {
    let sources = SourceMap::default();
    let file = sources.add("Dockerfile", text);
    let parsed = parse(&file);
    for error in &parsed.errors {
        assert!(
            error.help.is_some() && !error.labels.is_empty() && !error.message.contains('\n'),
            "{error:?}"
        );
        error.labels.iter().for_each(|label| check_span(label.span, text));
    }
    parsed.findings.iter().for_each(|finding| check_span(finding.span, text));
    check_tree(&serde_json::to_value(&parsed.dockerfile).expect("trees serialize"), text);
    let _ = (parse_trigger(&file).is_ok(), Control::parse(text).is_ok());
    let report = Report { findings: &parsed.findings, errors: &parsed.errors, sources: &sources };
    let _ = (report.text(), report.json(), report.sarif());
    let values = BTreeMap::from([("a".to_owned(), "x y*".to_owned()), ("b".to_owned(), String::new())]);
    for lexer in [Lexer::new(parsed.dockerfile.directives.escape), Lexer::heredoc().keeping_unset()] {
        let _ = lexer.expand(text, &values).is_ok();
    }
});

/// A span lies in the text, on borders of characters.
fn check_span(span: Span, text: &str) {
    assert!(span.start <= span.end, "{span:?}");
    assert!(
        text.is_char_boundary(span.start as usize) && text.is_char_boundary(span.end as usize),
        "{span:?}"
    );
}

fn check_tree(value: &Value, text: &str) {
    match value {
        Value::Object(fields) => {
            if let Ok(span) = serde_json::from_value::<(u32, u32)>(Value::Array(
                ["start", "end"].iter().filter_map(|name| fields.get(*name).cloned()).collect(),
            )) {
                check_span(Span { start: span.0, end: span.1, ..Span::default() }, text);
            }
            fields.values().for_each(|field| check_tree(field, text));
        }
        Value::Array(items) => items.iter().for_each(|item| check_tree(item, text)),
        _ => {}
    }
}
