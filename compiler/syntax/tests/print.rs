//! Trees and diagnostics as text, one line for each statement.
//!
//! Written against the tree's serialized form, so that every field of every command is in it: `name=value`, without
//! those that are empty or off.

use std::fmt::Write as _;

use rb_diag::{Diagnostic, Severity, SourceFile, SourceId, Span};
use rb_syntax::{Parse, Parsed, Recipe, Stmt};
use serde_json::{Map, Value};

/// Makes a file of `text`.
pub(crate) fn source(text: &str) -> SourceFile {
    SourceFile::new(SourceId(0), "Buildfile", text)
}

/// Prints all that parsing gave.
pub(crate) fn print(file: &SourceFile, parse: &Parse) -> String {
    let printer = Printer { file };
    let mut out = String::new();
    let tree = &parse.buildfile;
    if let Some(version) = &tree.version {
        let flags: Vec<_> = version.flags.iter().map(|flag| format!(" {}", flag.value)).collect();
        writeln!(out, "{} version {:?}{}", printer.place(version.span), version.edition, flags.concat())
            .unwrap();
    }
    printer.statements(&mut out, &tree.base);
    for (what, recipes) in [("target", &tree.targets), ("function", &tree.functions)] {
        for Recipe { name, doc, body } in recipes {
            let doc = doc.as_ref().map_or(String::new(), |doc| format!(" {doc:?}"));
            writeln!(out, "{} {what} {}{doc}", printer.place(name.span), name.value).unwrap();
            printer.statements(&mut out, body);
        }
    }
    for diagnostic in &parse.diagnostics {
        writeln!(out, "{}", printer.diagnostic(diagnostic)).unwrap();
    }
    out
}

struct Printer<'a> {
    file: &'a SourceFile,
}

impl Printer<'_> {
    fn place(&self, span: Span) -> String {
        let (start, end) = (self.file.position(span.start), self.file.position(span.end));
        format!("{}:{}-{}:{}", start.line, start.column, end.line, end.column)
    }

    fn diagnostic(&self, diagnostic: &Diagnostic) -> String {
        let place = diagnostic.labels.first().map_or(String::new(), |label| self.place(label.span));
        let severity = if diagnostic.severity == Severity::Warning { "warning " } else { "" };
        let mut out = format!("{place} {severity}{} {}", diagnostic.code, diagnostic.message);
        for label in diagnostic.labels.iter().skip(1) {
            write!(out, " [{} {}]", self.place(label.span), label.text).unwrap();
        }
        if let Some(help) = &diagnostic.help {
            write!(out, " / {help}").unwrap();
        }
        out
    }

    fn statements(&self, out: &mut String, statements: &[Stmt<Parsed>]) {
        for statement in statements {
            self.statement(out, &serde_json::to_value(statement).unwrap(), 1);
        }
    }

    /// One statement, and below it those of its blocks.
    fn statement(&self, out: &mut String, statement: &Value, depth: usize) {
        let mut bodies = Vec::new();
        let kind = &statement["kind"];
        let said = self.value(&kind["statement"], &mut bodies);
        let doc =
            if statement["doc"].is_null() { String::new() } else { format!(" doc={}", statement["doc"]) };
        let place = self.place(span(&statement["span"]).unwrap());
        let indentation = "  ".repeat(depth);
        let command = kind["command"].as_str().unwrap();
        let said = said.strip_prefix('{').and_then(|said| said.strip_suffix('}')).unwrap_or(&said);
        writeln!(out, "{indentation}{place} {command} {said}{doc}").unwrap();
        for (index, body) in bodies.iter().enumerate() {
            writeln!(out, "{indentation}| {}", index + 1).unwrap();
            for statement in *body {
                self.statement(out, statement, depth + 1);
            }
        }
    }

    /// A value on one line; statements in it are put aside.
    fn value<'v>(&self, value: &'v Value, bodies: &mut Vec<&'v [Value]>) -> String {
        match value {
            Value::String(text) => text.clone(),
            Value::Object(fields) => self.object(fields, bodies),
            Value::Array(items) if items.first().is_some_and(is_statement) => {
                bodies.push(items);
                format!("|{}", bodies.len())
            }
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| self.value(item, bodies)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        }
    }

    fn object<'v>(&self, fields: &'v Map<String, Value>, bodies: &mut Vec<&'v [Value]>) -> String {
        if let Some(span) = span_of(fields) {
            return self.short(span);
        }
        if let (2, Some(raw), Some(place)) = (fields.len(), fields.get("raw"), fields.get("span")) {
            return format!("{}@{}", quoted(raw.as_str().unwrap()), self.short(span(place).unwrap()));
        }
        if let (2, Some(value), Some(place)) = (fields.len(), fields.get("value"), fields.get("span"))
            && let Some(span) = span(place)
        {
            let text = value.as_str().map(|text| format!("{text:?}"));
            return format!("{}@{}", text.unwrap_or_else(|| self.value(value, bodies)), self.short(span));
        }
        let fields = fields.iter().filter(|(_, value)| !is_default(value));
        let fields: Vec<_> = fields
            .map(|(name, value)| match value {
                Value::Bool(true) => name.clone(),
                value => format!("{name}={}", self.value(value, bodies)),
            })
            .collect();
        format!("{{{}}}", fields.join(" "))
    }

    /// Columns alone where a span is on one line.
    fn short(&self, span: Span) -> String {
        let (start, end) = (self.file.position(span.start), self.file.position(span.end));
        if start.line == end.line { format!("{}-{}", start.column, end.column) } else { self.place(span) }
    }
}

fn is_statement(value: &Value) -> bool {
    value.get("kind").is_some_and(|kind| kind.get("command").is_some())
}

/// Returns whether a value says nothing: no, none, an empty list, a switch that is off.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text == "Off",
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            span_of(fields).is_none() && !fields.is_empty() && fields.values().all(is_default)
        }
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn span(value: &Value) -> Option<Span> {
    value.as_object().and_then(span_of)
}

/// Reads a span out of its serialized form.
pub(crate) fn span_of(fields: &Map<String, Value>) -> Option<Span> {
    let number =
        |name| fields.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    Some(Span { source: SourceId(number("source")?), start: number("start")?, end: number("end")? })
}

/// `«text»`, with what is not seen made visible.
fn quoted(text: &str) -> String {
    format!("«{}»", text.replace('\n', "⏎").replace('\r', "␍").replace('\t', "⇥"))
}
