//! Patterns of a shell within a variable: `*` is any text, `?` any character, a backslash makes them plain.
//!
//! In: a pattern and a value. Out: the value without what the pattern fits, or with something else there. Lists of
//! characters in brackets are plain text, as with BuildKit.
//! Source: POSIX, Shell Command Language, "Pattern Matching Notation".

use regex::Regex;

use super::{MAX_EXPANSION_BYTES, WordError};

/// Takes the shortest or longest text off the start that fits.
pub(super) fn without_prefix(pattern: &str, value: &str, longest: bool) -> Result<String, WordError> {
    let found = compile(pattern, longest, true)?.find(value).map_or(0, |found| found.end());
    Ok(value.get(found..).unwrap_or_default().to_owned())
}

/// Takes the shortest or longest text off the end that fits.
///
/// A regular expression finds the leftmost, so both are turned round.
pub(super) fn without_suffix(pattern: &str, value: &str, longest: bool) -> Result<String, WordError> {
    let turned: String = value.chars().rev().collect();
    let rest = without_prefix(&reversed(pattern), &turned, longest).map_err(|error| match error {
        WordError::BadPattern { reason, .. } => WordError::BadPattern { pattern: pattern.to_owned(), reason },
        other => other,
    })?;
    Ok(rest.chars().rev().collect())
}

/// Puts another text where the pattern fits, once or everywhere.
pub(super) fn replace(pattern: &str, value: &str, replacement: &str, all: bool) -> Result<String, WordError> {
    let pattern = compile(pattern, true, false)?;
    let times = if all { usize::MAX } else { 1 };
    let found = pattern.find_iter(value).take(times).count();
    if found.saturating_mul(replacement.len()) > MAX_EXPANSION_BYTES {
        return Err(WordError::TooLong);
    }
    Ok(pattern.replacen(value, times, regex::NoExpand(replacement)).into_owned())
}

/// Turns a pattern round; an escape stays before what it escapes.
fn reversed(pattern: &str) -> String {
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let escaped = if character == '\\' { characters.next() } else { None };
        parts.push((character, escaped));
    }
    parts.iter().rev().flat_map(|(character, escaped)| std::iter::once(*character).chain(*escaped)).collect()
}

fn compile(pattern: &str, longest: bool, at_start: bool) -> Result<Regex, WordError> {
    let bad = |reason: String| WordError::BadPattern { pattern: pattern.to_owned(), reason };
    let mut expression = String::from(if at_start { "^" } else { "" });
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' => expression.push_str(if longest { ".*" } else { ".*?" }),
            '?' => expression.push('.'),
            // These end a substitution: their escape is no part of the pattern.
            '\\' if matches!(characters.peek(), Some('}' | '/')) => {}
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '?' | '\\')) => expression.extend(['\\', escaped]),
                Some(other) => return Err(bad(format!("invalid escape '\\{other}'"))),
                None => return Err(bad("nothing is escaped at its end".to_owned())),
            },
            plain => expression.push_str(&regex::escape(plain.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&expression).map_err(|error| bad(error.to_string()))
}
