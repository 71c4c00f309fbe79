//! Any text as an expression: parsing and evaluating end, with ranges inside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rb_expression::{Answer, Expression, Question, Scope, Stop, Value};

struct Names;

impl Scope for Names {
    fn variable(&self, name: &str) -> Option<Value> {
        Some(match name {
            "a" => Value::String("1.2.3".to_owned()),
            "n" => Value::Int(7),
            "b" => Value::Bool(true),
            "l" => Value::List(vec![Value::String("x".to_owned()), Value::Int(-1)]),
            _ => return None,
        })
    }

    fn answer(&self, question: &Question) -> Option<Answer> {
        Some(match question {
            Question::Read { .. } => Answer::Text("{\"a\": [1, 2]}\n".to_owned()),
            Question::Exists { .. } => Answer::Exists(false),
            Question::Glob { .. } => Answer::Paths(vec!["src/b".to_owned(), "a".to_owned()]),
        })
    }
}

fuzz_target!(|text: &str| {
    let whole = format!("{{{{{text}}}}}");
    if let Some(end) = rb_expression::end(&whole, 0) {
        assert!(whole.is_char_boundary(end));
    }
    let evaluated = match Expression::parse(text) {
        Ok(expression) => {
            for (_, range) in expression.names() {
                assert!(text.get(range).is_some());
            }
            expression.evaluate(&Names)
        }
        Err(error) => Err(Stop::Error(error)),
    };
    match evaluated {
        Ok(value) => drop(value.to_string()),
        Err(Stop::Error(error)) => {
            assert!(text.get(error.range.clone()).is_some(), "{error:?}");
            drop((error.to_string(), error.help()));
        }
        Err(Stop::Ask { question, .. }) => panic!("{question:?} was answered"),
    }
});
