//! A first look at the text: strings and brackets, nothing else.
//!
//! In: text. Out: where an expression ends ([`end`]), and whether strings close and brackets match ([`check`]), said
//! better than a grammar can. **Invariant:** text that passes [`check`] nests no deeper than `limits::MAX_DEPTH`, so
//! what recurses over brackets later needs little stack.

use crate::limits::{MAX_DEPTH, MAX_EXPRESSION_BYTES};
use crate::{ExpressionError, ExpressionErrorKind};

/// Returns where the expression ends that starts with the `{{` at `start`: the byte offset behind its `}}`.
///
/// Braces within strings do not count. `None` where it never closes, or where a string in it does not close on the
/// line it starts on.
pub fn end(text: &str, start: usize) -> Option<usize> {
    let inside = text.get(start..)?.strip_prefix("{{")?.as_bytes();
    let mut at = 0;
    loop {
        at = match inside.get(at)? {
            b'\'' | b'"' => string_end(inside, at)?,
            b'}' if inside.get(at + 1) == Some(&b'}') => return Some(start + 2 + at + 2),
            _ => at + 1,
        }
    }
}

/// Returns the offset behind the string that starts at `start` with a quote, or `None` where its line ends first.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let quote = text.get(start)?;
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'\n' | b'\r' => return None,
            b'\\' if !matches!(text.get(at + 1)?, b'\n' | b'\r') => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Checks length, strings and brackets.
pub(crate) fn check(text: &str) -> Result<(), ExpressionError> {
    use ExpressionErrorKind::{Empty, ExpressionTooLong, OpenBracket, OpenString, StrayBracket, TooDeep};
    let failed =
        |kind: ExpressionErrorKind, from: usize, to: usize| Err(ExpressionError { kind, range: from..to });
    if text.len() > MAX_EXPRESSION_BYTES {
        return failed(ExpressionTooLong, 0, text.len());
    }
    if text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\\').is_empty() {
        return failed(Empty, 0, text.len());
    }
    let bytes = text.as_bytes();
    let mut open: Vec<(char, usize)> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let bracket = char::from(*byte);
        match bracket {
            '\'' | '"' => {
                let Some(end) = string_end(bytes, at) else { return failed(OpenString, at, at + 1) };
                at = end;
                continue;
            }
            '(' | '[' if open.len() == MAX_DEPTH => return failed(TooDeep, at, at + 1),
            '(' | '[' => open.push((bracket, at)),
            ')' | ']' => match open.pop() {
                Some((opening, _)) if (opening == '(') == (bracket == ')') => {}
                Some((opening, from)) => return failed(OpenBracket { bracket: opening }, from, from + 1),
                None => return failed(StrayBracket { bracket }, at, at + 1),
            },
            _ => {}
        }
        at += 1;
    }
    match open.pop() {
        Some((bracket, from)) => failed(OpenBracket { bracket }, from, from + 1),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::end;

    #[test]
    fn ends_behind_the_braces() {
        for (text, start, expected) in [
            ("{{x}}", 0, Some(5)),
            ("a {{ x }} b }}", 2, Some(9)),
            ("{{'}}'}}", 0, Some(8)),
            (r#"{{"\"}}"}}"#, 0, Some(10)),
            (r"{{'\\'}}", 0, Some(8)),
            ("{{x}}}", 0, Some(5)),
            ("{{a\n}}", 0, Some(6)),
            ("{{}}", 0, Some(4)),
            ("é{{é}}", 2, Some(8)),
            ("{{x}", 0, None),
            ("{{it's}}\nit's", 0, None),
            ("{{'\\\n'}}", 0, None),
            ("{{'\\", 0, None),
            ("{{", 0, None),
            ("{x}}", 0, None),
            ("é{{x}}", 1, None),
            ("", 7, None),
        ] {
            assert_eq!(end(text, start), expected, "{text}");
        }
    }
}
