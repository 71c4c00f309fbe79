//! Expressions and what they result in, side by side.
//!
//! `tests/corpus/expressions.txt` has one expression per line, in sections; the snapshot shows each with its value, or
//! with the error, its help and the range it points at.

use std::fmt::Write as _;

use rb_expression::Stop;

use crate::scope::{Fake, evaluate, literal};

#[test]
fn expressions_result_in() {
    let scope = Fake::project();
    let mut shown = String::new();
    for line in include_str!("corpus/expressions.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(shown, "{line}").unwrap();
            continue;
        }
        let outcome = match evaluate(line, &scope) {
            Ok(value) => format!("  = {}", literal(&value)),
            Err(Stop::Ask { question, .. }) => panic!("{line} asks {question:?}"),
            Err(Stop::Error(error)) => {
                let before = line.get(..error.range.start).expect("a character starts here").chars().count();
                let width = line.get(error.range.clone()).expect("a character ends here").chars().count();
                let help = error.help().map(|help| format!("\n  help: {help}")).unwrap_or_default();
                format!("{}{}\n  error: {error}{help}", " ".repeat(before), "^".repeat(width))
            }
        };
        writeln!(shown, "{line}\n{outcome}").unwrap();
    }
    insta::assert_snapshot!(shown);
}
