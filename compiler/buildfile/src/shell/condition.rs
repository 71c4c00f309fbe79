//! The truth of commands: lists, `true`, `false`, `:` and `test`.
//!
//! In: what [`super::parse`] read. Out: the exit status as truth, or `None`. Statuses above 1, which `test` has for
//! errors, are `None` too: the run shows the message.
//! **Invariant:** every command that is reached is decided, or nothing is. `test` is decided by its number of
//! arguments, as POSIX has it; above four only `-a` and `-o` between plain comparisons are.
//! Source: POSIX.1-2024, `test`.

use std::cmp::Ordering;

use super::expand::Variables;
use super::parse::{Command, Connector, List, Pipeline};

/// Returns the truth of a list: that of its last command.
pub(super) fn list(list: &List, variables: &Variables<'_>) -> Option<bool> {
    let mut last = None;
    for and_or in &list.0 {
        let mut truth = pipeline(&and_or.first, variables)?;
        for (connector, next) in &and_or.rest {
            if truth == (*connector == Connector::And) {
                truth = pipeline(next, variables)?;
            }
        }
        last = Some(truth);
    }
    last
}

fn pipeline(pipeline: &Pipeline, variables: &Variables<'_>) -> Option<bool> {
    let truth = match &pipeline.command {
        Command::Group(inner) => list(inner, variables)?,
        Command::Simple(words) => {
            let (name, words) = words.split_first()?;
            let args = || variables.fields(words);
            match name.bare()? {
                "true" | ":" => args().map(|_| true)?,
                "false" => args().map(|_| false)?,
                "test" => test(&args()?)?,
                "[" => bracket(&args()?)?,
                _ => return None,
            }
        }
    };
    Some(truth != pipeline.negated)
}

/// Returns the truth of `[`, whose last argument has to be `]`.
pub(super) fn bracket(args: &[String]) -> Option<bool> {
    let (close, args) = args.split_last()?;
    if close != "]" {
        return None;
    }
    test(args)
}

/// Returns the truth of `test`.
pub(super) fn test(args: &[String]) -> Option<bool> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] => Some(false),
        // The operators `-n` and `-z` alone are texts like any other: `[ -n $x ]` is true where x is empty.
        ["!" | "(" | ")"] => None,
        [text] => Some(!text.is_empty()),
        ["!", text] => plain(text).map(str::is_empty),
        ["!", rest @ ..] if rest.len() <= 3 => primary(rest).map(|truth| !truth),
        _ => any(&args),
    }
}

/// Decides `a -o b`, where each side may hold `-a`, which binds closer.
fn any(args: &[&str]) -> Option<bool> {
    // Both sides must be known: a shell complains about a bad number on either.
    args.split(|arg| *arg == "-o").map(all).try_fold(false, |truth, next| Some(truth | next?))
}

fn all(args: &[&str]) -> Option<bool> {
    args.split(|arg| *arg == "-a").map(primary).try_fold(true, |truth, next| Some(truth & next?))
}

/// Decides `-n a`, `-z a` and `a operator b`. Operands that look like operators are left to a real shell.
fn primary(args: &[&str]) -> Option<bool> {
    match args {
        ["-n", text] => plain(text).map(|text| !text.is_empty()),
        ["-z", text] => plain(text).map(str::is_empty),
        [left, operator, right] => {
            let (left, right) = (plain(left)?, plain(right)?);
            let order = || Some(number(left)?.cmp(&number(right)?));
            match *operator {
                "=" => Some(left == right),
                "!=" => Some(left != right),
                "-eq" => order().map(Ordering::is_eq),
                "-ne" => order().map(Ordering::is_ne),
                "-lt" => order().map(Ordering::is_lt),
                "-le" => order().map(Ordering::is_le),
                "-gt" => order().map(Ordering::is_gt),
                "-ge" => order().map(Ordering::is_ge),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Returns the text unless it looks like an operator or a parenthesis.
fn plain(text: &str) -> Option<&str> {
    let letters = |rest: &str| rest.len() <= 2 && rest.chars().all(|next| next.is_ascii_alphabetic());
    let operator = text.starts_with(['!', '=', '<', '>', '(', ')']) && text.len() <= 2;
    let operator = operator || text.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && letters(rest));
    (!operator).then_some(text)
}

/// Reads a number that every shell reads: decimal, with a sign only if it is negative, within 32 bits.
fn number(text: &str) -> Option<i32> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let good = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}
