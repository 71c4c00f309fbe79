//! A scope made of strings.

use std::cell::RefCell;

use rb_expression::{Answer, Expression, Question, Scope, Stop, Value, glob};

/// Variables, files, and what was asked of them.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) variables: Vec<(&'static str, Value)>,
    pub(crate) files: Vec<(&'static str, Answer)>,
    /// Answers nothing.
    pub(crate) silent: bool,
    pub(crate) asked: RefCell<Vec<Question>>,
}

impl Scope for Fake {
    fn variable(&self, name: &str) -> Option<Value> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn answer(&self, question: &Question) -> Option<Answer> {
        self.asked.borrow_mut().push(question.clone());
        if self.silent {
            return None;
        }
        let find = |path: &str| self.files.iter().find(|(known, _)| *known == path);
        Some(match question {
            Question::Read { path } => find(path).map_or(Answer::Missing, |(_, answer)| answer.clone()),
            Question::Exists { path } => Answer::Exists(find(path).is_some()),
            Question::Glob { pattern } => {
                let names = self.files.iter().map(|(path, _)| *path);
                Answer::Paths(
                    names.filter(|path| glob::matches_path(pattern, path)).map(str::to_owned).collect(),
                )
            }
        })
    }

    fn names(&self) -> Vec<String> {
        self.variables.iter().map(|(name, _)| (*name).to_owned()).collect()
    }
}

impl Fake {
    /// The scope of the golden file.
    pub(crate) fn project() -> Self {
        let text = |text: &str| Answer::Text(text.to_owned());
        Self {
            variables: vec![
                ("version", string("1.4.2")),
                ("count", string("3")),
                ("number", Value::Int(3)),
                ("debug", Value::Bool(false)),
                ("systems", Value::List(vec![string("linux"), string("darwin")])),
            ],
            files: vec![
                ("VERSION", text("1.4.2\n")),
                ("windows.txt", text("a\r\nb\r\n")),
                (
                    "package.json",
                    text(
                        r#"{"name": "app", "files": ["a", "b"], "size": 1.5, "no": null, "x": {"y": true}}"#,
                    ),
                ),
                ("Cargo.toml", text("[package]\nversion = \"0.3.0\"\nsince = 2024-01-02\n")),
                ("logo.png", Answer::NotText),
                ("src/main.c", text("")),
                ("src/deep/util.c", text("")),
                ("large.txt", Answer::Text("x".repeat((1 << 20) + 1))),
            ],
            ..Self::default()
        }
    }
}

pub(crate) fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// Parses and evaluates.
pub(crate) fn evaluate(text: &str, scope: &Fake) -> Result<Value, Stop> {
    Expression::parse(text)?.evaluate(scope)
}

/// Writes a value as an expression.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let escape = |c: char| match c {
                '\'' => "\\'".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                c if c.is_control() => format!("\\u{{{:x}}}", u32::from(c)),
                c => c.to_string(),
            };
            format!("'{}'", text.chars().map(escape).collect::<String>())
        }
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
    }
}
