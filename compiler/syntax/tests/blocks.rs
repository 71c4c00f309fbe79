//! Blocks of any shape come back as they were written.

use std::fmt::Write as _;

use proptest::prelude::*;
use rb_syntax::{Parsed, Stmt, StmtKind, parse};

use crate::print::source;

/// A statement to be written and read back.
#[derive(Debug, Clone)]
enum Shape {
    Run,
    /// Branches, and what stands below ELSE.
    If(Vec<Vec<Self>>, Option<Vec<Self>>),
    For(Vec<Self>),
    Wait(Vec<Self>),
    /// Body, CATCH, FINALLY.
    Try(Vec<Self>, Option<Vec<Self>>, Option<Vec<Self>>),
    Docker(Vec<Self>),
}

fn shape() -> impl Strategy<Value = Shape> {
    Just(Shape::Run).prop_recursive(5, 40, 4, |inner| {
        let body = move || proptest::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            (proptest::collection::vec(body(), 1..4), proptest::option::of(body()))
                .prop_map(|(branches, otherwise)| Shape::If(branches, otherwise)),
            body().prop_map(Shape::For),
            body().prop_map(Shape::Wait),
            (body(), proptest::option::of(body()), proptest::option::of(body()))
                .prop_map(|(body, catch, finally)| Shape::Try(body, catch, finally)),
            body().prop_map(Shape::Docker),
        ]
    })
}

/// Writes statements as a build file has them.
fn write(shapes: &[Shape], out: &mut String) {
    let mut line = |text: &str, body: &[Shape]| {
        writeln!(out, "    {text}").unwrap();
        write(body, out);
    };
    for shape in shapes {
        match shape {
            Shape::Run => {
                line("RUN x", &[]);
                continue;
            }
            Shape::If(branches, otherwise) => {
                for (index, body) in branches.iter().enumerate() {
                    line(if index == 0 { "IF a" } else { "ELSE IF b" }, body);
                }
                otherwise.iter().for_each(|body| line("ELSE", body));
            }
            Shape::For(body) => line("FOR i IN j", body),
            Shape::Wait(body) => line("WAIT", body),
            Shape::Try(body, catch, finally) => {
                line("TRY", body);
                catch.iter().for_each(|body| line("CATCH", body));
                finally.iter().for_each(|body| line("FINALLY", body));
            }
            Shape::Docker(body) => line("WITH DOCKER", body),
        }
        line("END", &[]);
    }
}

/// One word for each statement and parentheses for each body.
fn outline(shapes: &[Shape], out: &mut String) {
    out.push('(');
    for shape in shapes {
        let mut part = |body: &[Shape]| outline(body, out);
        match shape {
            Shape::Run => out.push('r'),
            Shape::If(branches, otherwise) => {
                branches.iter().for_each(|body| part(body));
                otherwise.iter().for_each(|body| part(body));
                out.push_str(if otherwise.is_some() { "ie" } else { "i" });
            }
            Shape::For(body) | Shape::Wait(body) | Shape::Docker(body) => part(body),
            Shape::Try(body, catch, finally) => {
                part(body);
                part(catch.as_deref().unwrap_or_default());
                part(finally.as_deref().unwrap_or_default());
            }
        }
    }
    out.push(')');
}

fn outline_of(statements: &[Stmt<Parsed>], out: &mut String) {
    out.push('(');
    for Stmt { kind, .. } in statements {
        match kind {
            StmtKind::Run(_) => out.push('r'),
            StmtKind::If(block) => {
                block.branches.iter().for_each(|branch| outline_of(&branch.body, out));
                block.otherwise.iter().for_each(|body| outline_of(body, out));
                out.push_str(if block.otherwise.is_some() { "ie" } else { "i" });
            }
            StmtKind::For(block) => outline_of(&block.body, out),
            StmtKind::Wait(body) => outline_of(body, out),
            StmtKind::Try(block) => {
                outline_of(&block.body, out);
                outline_of(block.catch.as_deref().unwrap_or_default(), out);
                outline_of(block.finally.as_deref().unwrap_or_default(), out);
            }
            StmtKind::Later(later) => later.blocks.iter().for_each(|body| outline_of(body, out)),
            other => panic!("{other:?}"),
        }
    }
    out.push(')');
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_read_as_written(shapes in proptest::collection::vec(shape(), 0..5)) {
        let mut text = "VERSION 1\nt:\n".to_owned();
        write(&shapes, &mut text);
        let parse = parse(&source(&text));
        prop_assert!(parse.diagnostics.is_empty(), "{text}{:?}", parse.diagnostics);
        let (mut expected, mut found) = (String::new(), String::new());
        outline(&shapes, &mut expected);
        outline_of(&parse.buildfile.targets[0].body, &mut found);
        prop_assert_eq!(found, expected, "{}", text);
    }

    /// Of a file whose blocks lack lines, what stands below the next header is read whole.
    #[test]
    fn a_lost_line_of_a_block_stays_in_its_recipe(
        shapes in proptest::collection::vec(shape(), 1..5),
        lost in any::<proptest::sample::Index>(),
    ) {
        let mut text = String::new();
        write(&shapes, &mut text);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.remove(lost.index(lines.len()));
        let parse = parse(&source(&format!("VERSION 1\nt:\n{}\nu:\n    WAIT\n        RUN x\n    END\n", lines.join("\n"))));
        let mut found = String::new();
        outline_of(&parse.buildfile.targets[1].body, &mut found);
        prop_assert_eq!(found, "((r))");
    }
}
