//! Blocks: what decides which statements are evaluated.

use rb_diag::{Span, Spanned};
use serde::Serialize;

use super::{CommandLine, Stage, StepFlags, Stmt, Word};

/// `IF … ELSE IF … ELSE … END`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct If<S: Stage> {
    /// `IF` and each `ELSE IF`, in order; never empty.
    pub branches: Vec<Branch<S>>,
    /// `ELSE`
    pub otherwise: Option<Vec<Stmt<S>>>,
}

/// One `IF` or `ELSE IF`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Branch<S: Stage> {
    /// What decides.
    pub condition: Condition,
    /// The statements below.
    pub body: Vec<Stmt<S>>,
}

/// What decides an IF: a command that succeeds, or in `VERSION 1` a word that is one `{{ … }}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// How the command runs.
    pub flags: StepFlags,
    /// The command.
    pub command: CommandLine,
    /// The line of this branch.
    pub span: Span,
}

/// `FOR [--sep=…] [flags] NAME IN words… END`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct For<S: Stage> {
    /// The loop's variable.
    pub variable: Spanned<String>,
    /// `--sep`: each of its characters divides; newline, tab and space where not given.
    pub separators: Option<Word>,
    /// How the command that prints the words runs.
    pub flags: StepFlags,
    /// The words as one text, as `echo` would get it; or in `VERSION 1` one `{{ … }}` that gives a list.
    pub items: Word,
    /// The statements below.
    pub body: Vec<Stmt<S>>,
}

/// `TRY … CATCH … FINALLY … END`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Try<S: Stage> {
    /// What may fail.
    pub body: Vec<Stmt<S>>,
    /// `CATCH`: what is done if it does.
    pub catch: Option<Vec<Stmt<S>>>,
    /// `FINALLY`: what is done then, and if it does not.
    pub finally: Option<Vec<Stmt<S>>>,
}

/// A command or block that this version reads and refuses where it is reached: ADD, ONBUILD, WITH DOCKER; in `VERSION 1`
/// also SERVICE, TEST, AFTER, MATRIX.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Later<S: Stage> {
    /// The keyword, one space between two words: `WITH DOCKER`.
    pub name: String,
    /// Where the keyword stands.
    pub keyword: Span,
    /// What follows it on the line, as written; empty where nothing does.
    pub text: Option<Word>,
    /// The parts of a block, in order: of TRY its body, CATCH and FINALLY.
    pub blocks: Vec<Vec<Stmt<S>>>,
}
