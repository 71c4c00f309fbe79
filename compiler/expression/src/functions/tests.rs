//! The table holds what it says.

use super::FUNCTIONS;
use crate::{Answer, Expression, Question, Scope, Value};

struct Project;

impl Scope for Project {
    fn variable(&self, _: &str) -> Option<Value> {
        None
    }

    fn answer(&self, question: &Question) -> Option<Answer> {
        Some(match question {
            Question::Read { path } if path == "VERSION" => Answer::Text("1.4.2\n".into()),
            Question::Read { path } if path == "Cargo.toml" => {
                Answer::Text("[package]\nname = \"demo\"\nversion = \"0.3.0\"\n".into())
            }
            Question::Glob { .. } => Answer::Paths(vec!["src/b.c".into(), "src/a.c".into()]),
            Question::Read { .. } => Answer::Missing,
            Question::Exists { .. } => Answer::Exists(false),
        })
    }
}

fn value(text: &str) -> Value {
    Expression::parse(text).unwrap().evaluate(&Project).unwrap()
}

#[test]
fn examples_result_in_what_they_say() {
    for function in FUNCTIONS {
        let (example, result) = function.example;
        assert_eq!(value(example), value(result), "{example}");
        assert!(example.contains(&format!("{}(", function.name)), "{example} shows another function");
    }
}

#[test]
fn signatures_say_how_many_arguments_there_are() {
    for function in FUNCTIONS {
        let (_, parameters) = function.signature.split_once('(').unwrap();
        let parameters: Vec<&str> = parameters.trim_end_matches(')').split(", ").collect();
        let many = parameters.contains(&"…");
        let optional = parameters.iter().filter(|parameter| parameter.ends_with('?')).count();
        let known = parameters.len() - usize::from(many);
        let expected = (known - optional, if many { usize::MAX } else { known });
        assert_eq!(function.arguments, expected, "{}", function.signature);
        assert_eq!(function.parameter(0), parameters[0].trim_end_matches('?'));
    }
}

#[test]
fn rows_fit_into_a_table() {
    for function in FUNCTIONS {
        for text in [function.signature, function.doc, function.example.0, function.example.1] {
            assert!(!text.contains(['|', '\n']), "{text}");
        }
        assert!(function.doc.ends_with('.'), "{}", function.doc);
        assert_eq!(FUNCTIONS.iter().filter(|other| other.name == function.name).count(), 1);
    }
}
