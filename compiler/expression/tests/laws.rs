//! What holds of any text and any value.

use proptest::prelude::*;
use rb_expression::{Expression, Stop, Value, end};

use crate::scope::{Fake, evaluate, literal};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<bool>().prop_map(Value::Bool),
        ".{0,8}".prop_map(Value::String),
        "[\\\\'\"\n{}]{0,4}".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::List))
}

/// Text made of what expressions are made of.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "1", "23", "'a'", "\"b\"", "'", "\"", "\\", "true", "version", "x", "unknown", "upper", "default",
        "range", "slice", "split", "(", ")", "[", "]", ",", "+", "-", "*", "/", "%", "~", "==", "!=", "<",
        "<=", "!", "&&", "||", "and", "or", "not", "in", "if", "else", " ", "\n", ".", "é", "}}", "{{", "=",
        "|",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// An expression of numbers and bools whose types fit, and how it is written with brackets everywhere.
#[derive(Debug, Clone)]
enum Tree {
    Number(i64),
    Unary(&'static str, Box<Self>),
    Binary(&'static str, Box<Self>, Box<Self>),
}

impl Tree {
    /// How tightly its operator binds, by the table of the grammar.
    fn level(&self) -> u8 {
        match self {
            Self::Number(_) => 9,
            Self::Unary("not", _) => 3,
            Self::Unary(..) => 8,
            Self::Binary(operator, ..) => match *operator {
                "or" => 1,
                "and" => 2,
                "~" => 5,
                "+" | "-" => 6,
                "*" | "/" | "%" => 7,
                _ => 4,
            },
        }
    }

    fn full(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Unary(operator, operand) => format!("({operator} {})", operand.full()),
            Self::Binary(operator, left, right) => format!("({} {operator} {})", left.full(), right.full()),
        }
    }

    /// With brackets only where the table asks for them.
    fn short(&self) -> String {
        let within = |tree: &Self, least: u8| {
            if tree.level() < least { format!("({})", tree.short()) } else { tree.short() }
        };
        match self {
            Self::Number(number) => number.to_string(),
            Self::Unary(operator, operand) => format!("{operator} {}", within(operand, self.level())),
            Self::Binary(operator, left, right) => {
                // Comparisons do not chain; all others lean to the left.
                let left = within(left, self.level() + u8::from(self.level() == 4));
                format!("{left} {operator} {}", within(right, self.level() + 1))
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let operators = vec!["or", "and", "==", "!=", "<", ">=", "~", "+", "-", "*", "/", "%"];
    (0..5i64).prop_map(Tree::Number).prop_recursive(5, 24, 2, move |inner| {
        let pair = (prop::sample::select(operators.clone()), inner.clone(), inner.clone());
        prop_oneof![
            1 => (prop::sample::select(vec!["not", "-"]), inner)
                .prop_map(|(operator, operand)| Tree::Unary(operator, Box::new(operand))),
            5 => pair.prop_map(|(operator, left, right)| Tree::Binary(operator, Box::new(left), Box::new(right))),
        ]
    })
}

/// A result without its ranges.
fn outcome(text: &str) -> Result<Value, String> {
    evaluate(text, &Fake::project()).map_err(|stop| match stop {
        Stop::Error(error) => error.to_string(),
        Stop::Ask { question, .. } => format!("{question:?}"),
    })
}

fn check_any(text: &str) -> Result<(), TestCaseError> {
    match Expression::parse(text) {
        Err(error) => prop_assert!(text.get(error.range.clone()).is_some(), "{:?} {:?}", text, error),
        Ok(expression) => {
            for (name, range) in expression.names() {
                prop_assert_eq!(text.get(range), Some(name.as_str()));
            }
            match expression.evaluate(&Fake::project()) {
                Err(Stop::Error(error)) => {
                    prop_assert!(text.get(error.range.clone()).is_some(), "{:?} {:?}", text, error);
                    prop_assert!(!error.to_string().is_empty() && error.help() != Some(String::new()));
                }
                Ok(_) | Err(Stop::Ask { .. }) => {}
            }
            // What parses is found by `end` between its braces.
            let braced = format!("x{{{{{text}}}}}y");
            if !text.ends_with('}') {
                prop_assert_eq!(end(&braced, 1), Some(braced.len() - 1));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        check_any(&text)?;
    }

    #[test]
    fn any_row_of_tokens_is_read_or_refused(text in soup()) {
        check_any(&text)?;
    }

    #[test]
    fn any_text_has_an_end_or_none(text in "[{}'\"\\\\\na é]{0,20}", start in 0..24usize) {
        if let Some(end) = end(&text, start) {
            let inside = &text[start..end];
            prop_assert!(inside.len() >= 4 && inside.starts_with("{{") && inside.ends_with("}}"));
        }
    }

    #[test]
    fn a_value_that_is_written_is_that_value(value in value()) {
        prop_assert_eq!(evaluate(&literal(&value), &Fake::default()), Ok(value));
    }

    #[test]
    fn brackets_stand_where_the_table_says(tree in tree()) {
        prop_assert_eq!(outcome(&tree.short()), outcome(&tree.full()), "{} | {}", tree.short(), tree.full());
    }

    #[test]
    fn joining_is_the_text_forms_in_a_row(left in value(), right in value()) {
        let joined = evaluate(&format!("{} ~ {}", literal(&left), literal(&right)), &Fake::default());
        prop_assert_eq!(joined, Ok(Value::String(format!("{left}{right}"))));
    }

    #[test]
    fn splitting_undoes_joining(items in prop::collection::vec("[a-z]{0,3}", 1..6)) {
        let list = Value::List(items.into_iter().map(Value::String).collect());
        let text = format!("split(join({}, ','), ',')", literal(&list));
        prop_assert_eq!(evaluate(&text, &Fake::default()), Ok(list));
    }

    #[test]
    fn numbers_survive_as_text(number in any::<i64>()) {
        prop_assert_eq!(evaluate(&format!("int(string({number}))"), &Fake::default()), Ok(Value::Int(number)));
    }

    #[test]
    fn normal_paths_are_normal(path in "[./a]{0,10}") {
        let once = evaluate(&format!("normalize_path('{path}')"), &Fake::default()).unwrap();
        let twice = evaluate(&format!("normalize_path({})", literal(&once)), &Fake::default());
        prop_assert_eq!(twice, Ok(once));
    }
}
