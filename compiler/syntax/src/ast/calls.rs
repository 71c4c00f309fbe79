//! References with what is passed along: calls of targets and functions, imports.

use rb_diag::{Span, Spanned};
use serde::Serialize;

use super::{Stage, Toggle, Word};

/// A reference to a target with arguments: in FROM, BUILD, COPY.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call<S: Stage> {
    /// Which target.
    pub target: S::Target,
    /// Where the reference stands.
    pub span: Span,
    /// `--NAME=value` in order; a name may come twice (matrix BUILD). `--build-arg NAME=value` is one of them.
    pub args: Vec<CallArg>,
    /// `--platform=…`, of BUILD several.
    pub platforms: Vec<Word>,
    /// `--pass-args`
    pub pass_args: bool,
    /// `--allow-privileged`
    pub allow_privileged: bool,
    /// `--auto-skip` of BUILD.
    pub auto_skip: Toggle,
}

impl<S: Stage> Call<S> {
    /// Returns a call without arguments and flags.
    pub fn bare(target: S::Target, span: Span) -> Self {
        Self {
            target,
            span,
            args: Vec::new(),
            platforms: Vec::new(),
            pass_args: false,
            allow_privileged: false,
            auto_skip: Toggle::Off,
        }
    }
}

/// `--NAME=value` behind a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallArg {
    /// Name, without dashes.
    pub name: Spanned<String>,
    /// Value, expanded in the caller; none for `--build-arg NAME` (the caller's value of that name).
    pub value: Option<Word>,
}

/// `DO [--allow-privileged] [--pass-args] +FUNCTION [--NAME=value]…`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Do<S: Stage> {
    /// Which function.
    pub function: S::Function,
    /// Where the reference stands.
    pub span: Span,
    /// `--NAME=value` in order.
    pub args: Vec<CallArg>,
    /// `--pass-args`
    pub pass_args: bool,
    /// `--allow-privileged`
    pub allow_privileged: bool,
}

/// `IMPORT [--allow-privileged] [--pass-args] project [AS alias]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Import<S: Stage> {
    /// Which project.
    pub project: S::Project,
    /// Where the reference stands.
    pub span: Span,
    /// `AS alias`; the last part of the path where none was written.
    pub alias: Option<Spanned<String>>,
    /// `--pass-args`
    pub pass_args: bool,
    /// `--allow-privileged`
    pub allow_privileged: bool,
}
