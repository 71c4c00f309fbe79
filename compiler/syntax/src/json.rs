//! A parse as JSON, with places as people count them: for `rb ast` and tools in other languages.
//!
//! In: a [`Parse`] and its file. Out: `{"buildfile": …, "diagnostics": […]}`, the tree as its types are declared. A
//! place is `{"start": {"line", "column"}, "end": {"line", "column"}}`, counted from 1, columns in characters.
//! **Invariant:** linear in the text's length plus the tree's size, however long the lines are.

use std::collections::BTreeMap;

use rb_diag::{Diagnostic, Severity, SourceFile, Span};
use serde_json::{Map, Value, json};

use crate::Parse;

/// Returns the tree and the findings of `parse`, with places as lines and columns of `file`.
pub fn to_json(parse: &Parse, file: &SourceFile) -> Value {
    let buildfile =
        serde_json::to_value(&parse.buildfile).expect("the tree has text keys and no failing parts");
    let diagnostics: Vec<Value> = parse.diagnostics.iter().map(diagnostic).collect();
    let mut value = json!({ "buildfile": buildfile, "diagnostics": diagnostics });
    let mut offsets: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    visit(&mut value, &mut |span| {
        offsets.insert(span.start, (1, 1));
        offsets.insert(span.end, (1, 1));
        None
    });
    settle(&mut offsets, &file.text);
    visit(&mut value, &mut |span| {
        let place = |offset| {
            let (line, column) = offsets.get(&offset).copied().unwrap_or((1, 1));
            json!({ "line": line, "column": column })
        };
        Some(json!({ "start": place(span.start), "end": place(span.end) }))
    });
    value
}

fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let labels: Vec<Value> =
        diagnostic.labels.iter().map(|label| json!({ "span": label.span, "text": label.text })).collect();
    let severity = match diagnostic.severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    json!({
        "severity": severity,
        "code": diagnostic.code,
        "message": diagnostic.message,
        "help": diagnostic.help,
        "labels": labels,
    })
}

/// Shows every span of a value to `change`, which may give what to put in its place.
///
/// Recursion is as deep as blocks are nested, which `blocks` bounds.
fn visit(value: &mut Value, change: &mut impl FnMut(Span) -> Option<Value>) {
    match value {
        Value::Object(fields) => {
            if let Some(span) = span(fields) {
                if let Some(new) = change(span) {
                    *value = new;
                }
                return;
            }
            fields.values_mut().for_each(|field| visit(field, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Reads a span; nothing else of the tree has these three fields.
fn span(fields: &Map<String, Value>) -> Option<Span> {
    let number =
        |name| fields.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let (source, start, end) = (number("source")?, number("start")?, number("end")?);
    Some(Span { source: rb_diag::SourceId(source), start, end })
}

/// Finds line and column of every offset in one pass over the text.
fn settle(offsets: &mut BTreeMap<u32, (u32, u32)>, text: &str) {
    let (mut line, mut column) = (1_u32, 1_u32);
    let mut characters = text.char_indices().peekable();
    for (offset, place) in offsets.iter_mut() {
        while let Some((_, character)) = characters.next_if(|(at, _)| *at < *offset as usize) {
            if character == '\n' {
                (line, column) = (line + 1, 1);
            } else {
                column += 1;
            }
        }
        *place = (line, column);
    }
}
