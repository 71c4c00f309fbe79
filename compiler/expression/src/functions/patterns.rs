//! Patterns: regular expressions and globs.
//!
//! Regular expressions are those of the crate `regex`, which look at each byte of the text once, but then in the
//! worst case at each state of the compiled expression. So the text is paid for by how large that is.

use regex::{Regex, RegexBuilder};

use super::Arguments;
use crate::limits::MAX_DEPTH;
use crate::{ExpressionErrorKind, Stop, Value, glob};

/// How large a compiled regular expression may be, in bytes; smaller ones are cheaper.
const PROGRAM_BYTES: [usize; 5] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// So many bytes of the compiled expression make a byte of text dearer by one.
const BYTES_PER_CHARGE: usize = 512;

type Outcome = Result<Value, Stop>;

fn regex(arguments: &Arguments<'_>) -> Result<Regex, Stop> {
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let nesting = u32::try_from(MAX_DEPTH).expect("a small number");
    for size in PROGRAM_BYTES {
        match RegexBuilder::new(pattern).size_limit(size).nest_limit(nesting).build() {
            Ok(regex) => {
                arguments.charge(text.len().saturating_mul(size / BYTES_PER_CHARGE))?;
                return Ok(regex);
            }
            Err(regex::Error::CompiledTooBig(_)) => arguments.charge(size)?,
            Err(error) => return Err(arguments.bad(1, reason(&error.to_string()))),
        }
    }
    Err(arguments.bad(1, "it is too large"))
}

/// Takes the last line of the error: before it the pattern is drawn.
fn reason(error: &str) -> String {
    let last = error.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

pub(super) fn matches_regex(arguments: &Arguments<'_>) -> Outcome {
    Ok(Value::Bool(regex(arguments)?.is_match(arguments.text(0)?)))
}

pub(super) fn capture_regex(arguments: &Arguments<'_>) -> Outcome {
    let captures = regex(arguments)?.captures(arguments.text(0)?);
    let group = captures.and_then(|found| if found.len() > 1 { found.get(1) } else { found.get(0) });
    match group {
        Some(group) => Ok(Value::String(group.as_str().to_owned())),
        None => {
            let pattern = super::texts::shown(arguments.text(1)?);
            Err(arguments.error(ExpressionErrorKind::NoMatch { pattern }))
        }
    }
}

pub(super) fn glob_match(arguments: &Arguments<'_>) -> Outcome {
    let (pattern, path) = (arguments.text(0)?, arguments.text(1)?);
    arguments.charge(pattern.len().saturating_mul(path.len()))?;
    Ok(Value::Bool(glob::matches_path(pattern, path)))
}
