//! The parser: what it reads, what it refuses, and what holds for any text.

use rb_diag::{Diagnostic, SourceFile, SourceId, Span};

use crate::{Instruction, Parsed, Step, parse};

mod any_text;
mod findings;
mod reads;
mod wrong;

/// Reads a text that is right.
fn read(text: &str) -> (SourceFile, Parsed) {
    let file = SourceFile::new(SourceId(0), "Dockerfile", text);
    let parsed = parse(&file);
    assert_eq!(parsed.errors, [], "{text}");
    (file, parsed)
}

/// Reads the steps of the one stage of a text that is right.
fn steps(text: &str) -> Vec<Step> {
    let (_, parsed) = read(text);
    let [stage] = <[_; 1]>::try_from(parsed.dockerfile.stages).unwrap();
    stage.steps
}

/// Reads one instruction of a stage.
fn instruction(line: &str) -> Instruction {
    let [step] = <[_; 1]>::try_from(steps(&format!("FROM scratch\n{line}"))).unwrap();
    step.instruction
}

/// Shows where a span is, and what stands there.
fn place(file: &SourceFile, span: Span) -> String {
    let start = file.position(span.start);
    format!("{}:{} {:?}", start.line, start.column, file.slice(span))
}

/// Shows an error as text.
fn shown(file: &SourceFile, error: &Diagnostic) -> String {
    let mut text = format!("{} ({})\n", error.message, error.code.trim_start_matches("rb::dockerfile::"));
    for label in &error.labels {
        text.push_str(&format!("  {}  {}\n", place(file, label.span), label.text));
    }
    text.push_str(&format!("  help: {}\n", error.help.as_deref().unwrap_or("NONE")));
    text
}
