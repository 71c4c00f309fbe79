//! What can be wrong with an expression, and what to do about it.

use std::ops::Range;

use crate::functions;

/// A mistake and where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ExpressionError {
    /// The mistake.
    pub kind: ExpressionErrorKind,
    /// Byte offsets in the text that was parsed.
    pub range: Range<usize>,
}

/// All mistakes there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum ExpressionErrorKind {
    // Of the text.
    #[error("there is no expression between the braces")]
    Empty,
    #[error("the expression is longer than 64 KiB")]
    ExpressionTooLong,
    #[error("the expression is nested too deeply")]
    TooDeep,
    #[error("this string does not close on its line")]
    OpenString,
    #[error("this `{bracket}` is never closed")]
    OpenBracket { bracket: char },
    #[error("this `{bracket}` closes nothing")]
    StrayBracket { bracket: char },
    #[error("`{escape}` is no escape of a string")]
    UnknownEscape { escape: String },
    #[error("expected {wanted}, found `{found}`")]
    Unexpected { found: String, wanted: Wanted, hint: Option<Hint> },
    #[error("the expression ends where {wanted} should stand")]
    EndsEarly { wanted: Wanted },
    #[error("a comparison has two sides, this one has more")]
    ChainedComparison,
    #[error("there is no function `{name}`")]
    UnknownFunction { name: String, near: Option<&'static str> },
    #[error("`{function}` does not take {given} arguments")]
    ArgumentCount { function: &'static str, signature: &'static str, given: usize },

    // Of the values.
    #[error("there is no variable `{name}`")]
    UnknownVariable { name: String, near: Option<String> },
    #[error("{place} has to be a {expected}, this is a {found}")]
    WrongType { place: String, expected: &'static str, found: &'static str },
    #[error("`{operator}` cannot take a {left} and a {right}")]
    Operands { operator: &'static str, left: &'static str, right: &'static str },
    #[error("the result of `{operation}` is out of range")]
    Overflow { operation: &'static str },
    #[error("numbers go from -9223372036854775808 to 9223372036854775807")]
    NumberTooLarge,
    #[error("division by zero")]
    DivisionByZero,
    #[error("there is no item {index} in a list of {length}")]
    NoItem { index: i64, length: usize },
    #[error("`{argument}` of `{function}` cannot be used: {reason}")]
    BadArgument { function: &'static str, argument: &'static str, reason: String },
    #[error("there is no `{path}` in the {format}")]
    NoEntry { path: String, format: &'static str },
    #[error("nothing in the string matches `{pattern}`")]
    NoMatch { pattern: String },

    // Of the project's files.
    #[error("`{path}` is no path in the project: {reason}")]
    BadPath { path: String, reason: &'static str },
    #[error("there is no file `{path}`")]
    MissingFile { path: String },
    #[error("`{path}` is no text")]
    NotText { path: String },
    #[error("the answer about `{path}` is of the wrong kind")]
    WrongAnswer { path: String },

    // Of the limits.
    #[error("the string is longer than 1 MiB")]
    TextTooLong,
    #[error("the list has more than 100000 items")]
    ListTooLong,
    #[error("evaluating the expression takes too much work")]
    TooMuchWork,
}

/// What should have stood where something else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A value.
    Value,
    /// An operator, or the end of what is open.
    Operator,
    /// `else`, or an operator.
    Else,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Value => "a value",
            Self::Operator => "an operator or the end",
            Self::Else => "`else`",
        })
    }
}

/// What the writer may have had in mind who writes as in another language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// `x.upper()`
    Method,
    /// `1.5`
    Fraction,
    /// `3x`, `straße`
    Name,
    /// `x = 1`
    Equals,
    /// `x | upper`
    Filter,
    /// `a & b`
    And,
    /// `c ? a : b`
    Ternary,
    /// `$x`
    Dollar,
    /// `{{ {{ x }} }}`
    Braces,
    /// `'a' 'b'`
    Join,
    /// `**`, `//`
    Operator,
}

impl ExpressionErrorKind {
    /// Returns whether something asked for is not there, so that `default` steps in.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::UnknownVariable { .. }
                | Self::MissingFile { .. }
                | Self::NoItem { .. }
                | Self::NoEntry { .. }
                | Self::NoMatch { .. }
        )
    }
}

impl ExpressionError {
    /// Returns what to do about it.
    pub fn help(&self) -> Option<String> {
        use ExpressionErrorKind as Kind;
        let help = match &self.kind {
            Kind::Empty => "write a value, for example `{{ version }}`",
            Kind::ExpressionTooLong | Kind::TextTooLong | Kind::ListTooLong | Kind::TooMuchWork => {
                "leave large data to a RUN command"
            }
            Kind::TooDeep => "split it: give a part of it a name with LET",
            Kind::OpenString => "close it with the quote it starts with; `\\n` stands for a line break",
            Kind::UnknownEscape { escape } => match escape.as_str() {
                "\\u" => "write the character's number in hexadecimal, as in `\\u{2713}`",
                _ => "escapes are \\\\ \\' \\\" \\n \\r \\t \\u{…}; write `\\\\` for a backslash",
            },
            Kind::Unexpected { hint, .. } => return hint.map(|hint| hint.help().to_owned()),
            Kind::EndsEarly { wanted: Wanted::Else } => "a condition says both: `a if condition else b`",
            Kind::ChainedComparison => "write `a < b and b < c`",
            Kind::UnknownFunction { near: Some(near), .. } => return Some(format!("did you mean `{near}`?")),
            Kind::ArgumentCount { signature, .. } => return Some(format!("call it as `{signature}`")),
            Kind::UnknownVariable { name, near } => {
                return Some(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if functions::find(name).is_some() => format!("it is a function: write `{name}(…)`"),
                    None => format!("declare it with ARG or LET, or write `default({name}, 'fallback')`"),
                });
            }
            Kind::WrongType { expected, found, .. } => return conversion(expected, found),
            Kind::Operands { operator, left, right } => return operands(operator, left, right),
            Kind::NoItem { length, .. } if *length > 0 => {
                return Some(format!("the first is 0, the last {} or -1", length - 1));
            }
            Kind::NoItem { .. } | Kind::NoEntry { .. } | Kind::NoMatch { .. } => {
                "`default(…, fallback)` says what to take instead"
            }
            Kind::MissingFile { path } => {
                return Some(format!("if it may be missing: `default(read('{path}'), '')`"));
            }
            Kind::BadPath { .. } => "paths are relative to the Buildfile's folder and stay in it",
            Kind::OpenBracket { .. }
            | Kind::StrayBracket { .. }
            | Kind::EndsEarly { .. }
            | Kind::UnknownFunction { .. }
            | Kind::Overflow { .. }
            | Kind::NumberTooLarge
            | Kind::DivisionByZero
            | Kind::BadArgument { .. }
            | Kind::NotText { .. }
            | Kind::WrongAnswer { .. } => return None,
        };
        Some(help.to_owned())
    }
}

fn conversion(expected: &str, found: &str) -> Option<String> {
    Some(match (expected, found) {
        ("number", "string") => "`int(…)` makes a number of a string".to_owned(),
        ("string", "number" | "bool") => "`string(…)` makes a string of it".to_owned(),
        ("string", "list") => "`join(…, ' ')` makes a string of a list".to_owned(),
        ("bool", "string") => {
            "compare it (`… == 'yes'`), or write `bool(…)` for 'true' and 'false'".to_owned()
        }
        ("bool", "number") => "compare it: `… != 0`".to_owned(),
        ("bool", "list") => "ask for its length: `len(…) > 0`".to_owned(),
        ("list", "string") => "`split(…)` makes a list of words, `lines(…)` one of lines".to_owned(),
        _ => return None,
    })
}

fn operands(operator: &str, left: &str, right: &str) -> Option<String> {
    Some(match (operator, left, right) {
        ("+", "string", _) | ("+", _, "string") => "`~` joins values of any type to a string".to_owned(),
        ("+", "list", _) | ("+", _, "list") => "write `list + [item]`".to_owned(),
        ("in" | "not in", _, "list") => "all items have to be of the type that is looked for".to_owned(),
        ("in" | "not in", ..) => "`in` looks for an item in a list, or for a string in a string".to_owned(),
        (_, "string", "number") | (_, "number", "string") => {
            format!("`int(…)` makes a number of the string: `int(x) {operator} 1`")
        }
        (_, "bool", "string") | (_, "string", "bool") => {
            format!("`bool(…)` reads 'true' and 'false': `bool(x) {operator} true`")
        }
        ("==" | "!=", "list", "list") => {
            "items that stand in the same place have to be of one type".to_owned()
        }
        ("<" | "<=" | ">" | ">=", ..) => "only two numbers or two strings have an order".to_owned(),
        _ => return None,
    })
}

impl Hint {
    fn help(self) -> &'static str {
        match self {
            Self::Method => "values have no methods: write `upper(x)`, `x[0]`, `json(x, 'a.b')`",
            Self::Fraction => "numbers are whole; write a version as a string, `'1.5'`",
            Self::Name => "names have a-z, A-Z, `_` and behind these 0-9; write text in quotes",
            Self::Equals => "write `==` to compare",
            Self::Filter => "there are no filters: write `upper(x)`; `or` is `||`",
            Self::And => "write `and` or `&&`",
            Self::Ternary => "write `a if condition else b`",
            Self::Dollar => "variables are named without `$` here",
            Self::Braces => "braces do not nest: write `f(x)`",
            Self::Join => "`~` joins two values to a string",
            Self::Operator => "operators are + - * / % ~ == != < <= > >= in and or not",
        }
    }
}

/// Returns the candidate that `name` most likely misspells, or `None` where none is near.
///
/// Near means a Damerau-Levenshtein distance of at most a third of the longer name (at least 1), ignoring case. Very long names
/// are near to nothing.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONG: usize = 100;
    if name.len() > LONG {
        return None;
    }
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONG)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (name.chars().count().max(candidate.chars().count()) / 3).max(1)
        })
        .min()
        .map(|(_, candidate)| candidate)
}
