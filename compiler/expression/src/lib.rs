//! The expressions of build files: what stands between `{{` and `}}`.
//!
//! In: the text between the braces, and a [`Scope`] that knows variables and answers questions about the project's
//! files. Out: a [`Value`], or a [`Stop`]. In two steps: [`Expression::parse`] (`scan` looks at quotes and brackets,
//! `parse` makes the tree and settles functions), then [`Expression::evaluate`] (`evaluate`, `operators`, and one
//! module per family of [`FUNCTIONS`]).
//! **Invariant:** nothing outside is touched. An expression that needs a file stops with the question; the caller
//! answers and evaluates again, so a value is a function of the text, the variables and the answers. Whatever the
//! text, depth, size and work are bounded (`limits`).
//! The language is described in `grammar/expression.pest`.

mod error;
mod evaluate;
mod functions;
pub mod glob;
mod limits;
mod operators;
mod parse;
mod scan;
mod tree;
mod value;

use std::ops::Range;

pub use error::{ExpressionError, ExpressionErrorKind, Hint, Wanted};
pub use functions::{FUNCTIONS, Function};
pub use scan::end;
pub use value::Value;

/// An expression that was read: its grammar, its functions and how many arguments they get are in order.
#[derive(Debug, Clone)]
pub struct Expression {
    root: tree::Node,
}

impl Expression {
    /// Reads the text between `{{` and `}}`. Ranges of errors are byte offsets in `text`.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        parse::parse(text).map(|root| Self { root })
    }

    /// Returns each mention of a variable, in the order of the text.
    pub fn names(&self) -> Vec<(String, Range<usize>)> {
        let mut names = Vec::new();
        self.root.visit(&mut |node| {
            if let tree::Kind::Variable(name, range) = &node.kind {
                names.push((name.clone(), range.clone()));
            }
        });
        names
    }

    /// Computes the value; what is not needed for it is neither looked at nor asked for.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, Stop> {
        evaluate::evaluate(&self.root, scope)
    }
}

/// What an expression sees of the world.
pub trait Scope {
    /// Returns the value of a variable, or `None` where nothing defines it.
    fn variable(&self, name: &str) -> Option<Value>;

    /// Returns the answer to a question, or `None` where it is not known yet.
    fn answer(&self, question: &Question) -> Option<Answer>;

    /// Returns the names of all variables, for "did you mean".
    fn names(&self) -> Vec<String> {
        vec![]
    }
}

/// Something an expression wants to know of the project's files.
///
/// Paths are relative to the project, normalised, and lead nowhere out of it; equal questions are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// What is in this file?
    Read {
        /// The file.
        path: String,
    },
    /// Is there anything at this path?
    Exists {
        /// The path.
        path: String,
    },
    /// Which files match this pattern, as [`glob::matches_path`] tells?
    Glob {
        /// The pattern.
        pattern: String,
    },
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Read`: what is in the file.
    Text(String),
    /// There is nothing.
    Missing,
    /// To `Read`: it is no text in UTF-8, or no file.
    NotText,
    /// To `Exists`.
    Exists(bool),
    /// To `Glob`: the files' paths in the project, in any order.
    Paths(Vec<String>),
}

/// Why there is no value (yet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// A question has to be answered first; then evaluate again.
    Ask {
        /// The question.
        question: Question,
        /// The call that asks.
        range: Range<usize>,
    },
    /// The expression is wrong.
    Error(ExpressionError),
}

impl From<ExpressionError> for Stop {
    fn from(error: ExpressionError) -> Self {
        Self::Error(error)
    }
}
