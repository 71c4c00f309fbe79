//! Words with variables in them: `$x`, `${x:-w}`, `$(command)`, `{{ expression }}`, quotes and escapes.
//!
//! In: the text of a word as written. Out: a [`Template`] ([`read`]), and from that, with a [`Scope`], a text
//! ([`expand`]). The rules are those of Dockerfile words plus `$(…)` and, where [`Expressions::On`], `{{ … }}`:
//! single quotes keep all, double quotes keep all but `$`, `\` and expressions, quotes go away.
//! **Invariant:** nothing outside is touched. A word that needs a command's output or a file stops with what it
//! needs ([`Stop`]); the caller finds out and expands again, so a text is a function of the word and the scope. Only
//! branches that are taken ask.
//! Source: buildkit's shell lexer; Earthly's, for `$(…)` and the two variables a shell is asked for.

mod expand;
mod read;
mod split;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rb_expression::{Answer, Expression, ExpressionError, Question, Value};

pub(crate) use split::split;

/// Variables of the image's shell: `echo $HOME` is run where nothing else defines them.
const SHELL_VARIABLES: [&str; 2] = ["HOME", "PATH"];

/// A word taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    /// How long the word is as written, in bytes.
    length: usize,
}

#[derive(Debug, Clone)]
enum Segment {
    Literal(String),
    /// `\x` outside of single quotes.
    Escaped(char),
    Variable {
        name: String,
        operator: Option<(Operator, Vec<Self>)>,
        range: Range<usize>,
    },
    /// `$(command)`
    Command {
        command: String,
        range: Range<usize>,
    },
    /// `{{ expression }}`
    Expression {
        expression: Box<Expression>,
        range: Range<usize>,
    },
}

/// What stands behind the name in `${name…}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// `:-` and `-`
    Default { or_empty: bool },
    /// `:+` and `+`
    Alternative { or_empty: bool },
    /// `:?` and `?`
    Required { or_empty: bool },
    /// `#` and `##`
    CutStart { longest: bool },
    /// `%` and `%%`
    CutEnd { longest: bool },
}

/// Whether `{{ … }}` is an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expressions {
    /// As in `VERSION 1`. `\{{` and single quotes keep the braces.
    On,
    /// Braces are text.
    Off,
}

/// Which `\x` stay as written when a word becomes text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// None: `\x` is `x`.
    Remove,
    /// `\+`, because an unescaped plus divides a reference.
    KeepPlus,
    /// `\*`, `\?`, `\[` and `\\`, because the text is a pattern.
    KeepPattern,
}

/// A word's text, and what it named that nothing defines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Names and where they stand; each became the empty text.
    pub(crate) unknown: Vec<(String, Range<usize>)>,
}

/// What a word can see.
pub(crate) trait Scope {
    /// Returns the text of a variable, or `None` where nothing defines it.
    fn variable(&self, name: &str) -> Option<String>;

    /// Returns the value of a variable, with its type, for expressions.
    fn value(&self, name: &str) -> Option<Value>;

    /// Returns the names of all variables, for "did you mean".
    fn names(&self) -> Vec<String>;

    /// Returns what `$(command)` printed without one trailing newline, or `None` where it did not run yet.
    fn output(&self, command: &str) -> Option<String>;

    /// Returns the answer to an expression's question, or `None` where it is not known yet.
    fn answer(&self, question: &Question) -> Option<Answer>;
}

/// Why a word has no text (yet). Ranges are bytes of the word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The output of a command is needed; then expand again.
    Command {
        /// As it stands between the parentheses.
        command: String,
        range: Range<usize>,
    },
    /// The answer to a question is needed; then expand again.
    File { question: Question, range: Range<usize> },
    /// The word cannot become text.
    Error(WordError),
}

/// A word is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub(crate) struct WordError {
    pub(crate) kind: WordErrorKind,
    /// Bytes of the word.
    pub(crate) range: Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordErrorKind {
    #[error("the quote is not closed")]
    OpenQuote,
    #[error("`${{` is not closed by `}}`")]
    OpenBrace,
    #[error("`$(` is not closed by `)`")]
    OpenCommand,
    #[error("`{{{{` is not closed by `}}}}`")]
    OpenExpression,
    #[error("`${{` must be followed by a name")]
    NoName,
    #[error("`{operator}` is not one of the operators `:-`, `:+`, `:?`, `#`, `##`, `%` and `%%`")]
    Operator { operator: String },
    #[error("`${{…}}` is nested more than {limit} times")]
    TooDeep { limit: usize },
    #[error("the value is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("`{name}` has no value: {message}")]
    Required { name: String, message: String },
    /// Its own range counts from behind the `{{`; that of the [`WordError`] is mapped into the word.
    #[error("{0}")]
    Expression(ExpressionError),
}

impl From<WordError> for Stop {
    fn from(error: WordError) -> Self {
        Self::Error(error)
    }
}

impl Template {
    /// Returns whether the text is the same whatever variables there are.
    pub(crate) fn is_constant(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_) | Segment::Escaped(_)))
    }

    /// Returns whether the whole word, perhaps in double quotes, is one `{{ … }}`, so that it has a [`Self::value`].
    pub(crate) fn single_expression(&self) -> bool {
        self.only_expression().is_some()
    }

    fn only_expression(&self) -> Option<(&Expression, &Range<usize>)> {
        let mut found = None;
        for segment in &self.segments {
            match segment {
                // The quotes; two empty ones before it would take two bytes.
                Segment::Literal(text) if text.is_empty() => {}
                Segment::Expression { expression, range } if found.is_none() => {
                    found = Some((&**expression, range));
                }
                Segment::Literal(_)
                | Segment::Escaped(_)
                | Segment::Variable { .. }
                | Segment::Command { .. }
                | Segment::Expression { .. } => return None,
            }
        }
        found.filter(|(_, range)| range.start <= 1 && range.end + range.start == self.length)
    }
}

/// Returns whether `character` may stand in a variable's name.
pub(crate) fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}
