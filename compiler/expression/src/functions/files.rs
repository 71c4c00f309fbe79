//! Functions that ask about the project's files.
//!
//! **Invariant:** the path in a question is normalised and inside the project.

use super::Arguments;
use crate::limits::check_items;
use crate::{Answer, ExpressionErrorKind, Question, Stop, Value};

/// Longest path that is asked for, as Linux has it.
const MAX_PATH_BYTES: usize = 4096;

type Outcome = Result<Value, Stop>;

/// Returns the path in the project that the argument says.
fn project_path(arguments: &Arguments<'_>) -> Result<String, Stop> {
    let path = arguments.text(0)?;
    let normal = rb_path::clean(path);
    let reason = if path.is_empty() {
        "it is empty"
    } else if path.len() > MAX_PATH_BYTES {
        "it is too long"
    } else if path.contains('\0') {
        "it has a NUL in it"
    } else if path.starts_with('/') {
        "it is absolute"
    } else if normal == ".." || normal.starts_with("../") {
        "it leads out of the project"
    } else {
        return Ok(normal);
    };
    let path = super::texts::shown(path);
    Err(arguments.error_at(0, ExpressionErrorKind::BadPath { path, reason }))
}

fn ask(arguments: &Arguments<'_>, question: Question) -> Result<Answer, Stop> {
    let answer = arguments.scope.answer(&question);
    answer.ok_or_else(|| Stop::Ask { question, range: arguments.range.clone() })
}

fn wrong_answer(arguments: &Arguments<'_>, path: String) -> Stop {
    arguments.error(ExpressionErrorKind::WrongAnswer { path })
}

pub(super) fn read(arguments: &Arguments<'_>) -> Outcome {
    let path = project_path(arguments)?;
    match ask(arguments, Question::Read { path: path.clone() })? {
        Answer::Text(mut text) => {
            if text.ends_with('\n') {
                text.pop();
                if text.ends_with('\r') {
                    text.pop();
                }
            }
            Ok(Value::String(text))
        }
        Answer::Missing => Err(arguments.error_at(0, ExpressionErrorKind::MissingFile { path })),
        Answer::NotText => Err(arguments.error_at(0, ExpressionErrorKind::NotText { path })),
        Answer::Exists(_) | Answer::Paths(_) => Err(wrong_answer(arguments, path)),
    }
}

pub(super) fn exists(arguments: &Arguments<'_>) -> Outcome {
    let path = project_path(arguments)?;
    match ask(arguments, Question::Exists { path: path.clone() })? {
        Answer::Exists(exists) => Ok(Value::Bool(exists)),
        Answer::Missing => Ok(Value::Bool(false)),
        Answer::Text(_) | Answer::NotText | Answer::Paths(_) => Err(wrong_answer(arguments, path)),
    }
}

pub(super) fn glob(arguments: &Arguments<'_>) -> Outcome {
    let pattern = project_path(arguments)?;
    match ask(arguments, Question::Glob { pattern: pattern.clone() })? {
        Answer::Paths(mut paths) => {
            check_items(paths.len()).map_err(|kind| arguments.error(kind))?;
            paths.sort();
            paths.dedup();
            Ok(Value::List(paths.into_iter().map(Value::String).collect()))
        }
        Answer::Missing => Ok(Value::List(vec![])),
        Answer::Text(_) | Answer::NotText | Answer::Exists(_) => Err(wrong_answer(arguments, pattern)),
    }
}
