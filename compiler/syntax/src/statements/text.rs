//! What can be told of a word by its text alone: where it can be divided, and what only its value will tell.

use rb_diag::Span;

use crate::Word;

/// Returns whether the text holds something to be filled in later: a variable, `$(…)`, or `{{ … }}`.
pub(crate) fn is_open(raw: &str) -> bool {
    raw.contains('$') || raw.contains("{{")
}

/// Returns the text's value where it is known already: without variables and escapes, and without the quotes
/// around it.
pub(crate) fn settled(raw: &str) -> Option<&str> {
    let inner = quote_around(raw).map_or(raw, |_| raw.get(1..raw.len() - 1).unwrap_or_default());
    (!is_open(inner) && !inner.contains(['\\', '"', '\''])).then_some(inner)
}

/// Returns the quote that encloses the whole text.
pub(crate) fn quote_around(raw: &str) -> Option<char> {
    ['"', '\''].into_iter().find(|quote| {
        let inner = raw.strip_prefix(*quote).and_then(|raw| raw.strip_suffix(*quote));
        inner.is_some_and(|inner| !inner.contains(*quote))
    })
}

/// Returns a part of a word. Where continued lines were joined within the word, the span is the whole word's.
pub(crate) fn cut(word: &Word, start: usize, end: usize) -> Word {
    let raw = word.raw.get(start..end).unwrap_or_default().to_owned();
    let whole = (word.span.end - word.span.start) as usize == word.raw.len();
    let span = if whole {
        Span {
            source: word.span.source,
            start: word.span.start + start as u32,
            end: word.span.start + end as u32,
        }
    } else {
        word.span
    };
    Word { raw, span }
}

/// Divides `NAME=value` at the first `=` outside quotes. Quotes around the whole are put around the value alone.
pub(crate) fn split_pair(word: &Word) -> (Word, Option<Word>) {
    let end = word.raw.len();
    if let Some(quote) = quote_around(&word.raw)
        && let Some(equals) = word.raw.find('=')
    {
        let mut value = cut(word, equals + 1, end - 1);
        value.raw = format!("{quote}{}{quote}", value.raw);
        return (cut(word, 1, equals), Some(value));
    }
    match find_bare(&word.raw, b'=') {
        Some(equals) => (cut(word, 0, equals), Some(cut(word, equals + 1, end))),
        None => (word.clone(), None),
    }
}

/// Divides a text at the blanks outside quotes, `${…}`, `$(…)` and `{{ … }}`.
pub(crate) fn split_words(text: &Word) -> Vec<Word> {
    let blanks = bare(&text.raw).filter(|(_, byte)| matches!(byte, b' ' | b'\t')).map(|(at, _)| at);
    let mut words = Vec::new();
    let mut start = 0;
    for end in blanks.chain([text.raw.len()]) {
        if start < end {
            words.push(cut(text, start, end));
        }
        start = end + 1;
    }
    words
}

/// Returns where a byte first stands outside quotes, `${…}`, `$(…)` and `{{ … }}`.
pub(crate) fn find_bare(raw: &str, wanted: u8) -> Option<usize> {
    bare(raw).find(|(_, byte)| *byte == wanted).map(|(at, _)| at)
}

/// Stands for the one `}` that closes `${`, among the closers of [`bare`]; no byte of a text.
const VARIABLE: u8 = 0xFF;

/// Walks over the bytes outside quotes, `${…}`, `$(…)` and `{{ … }}` that no backslash precedes, and where they are.
fn bare(raw: &str) -> impl Iterator<Item = (usize, u8)> {
    let bytes = raw.as_bytes();
    // What would close what is open, innermost last.
    let mut closers: Vec<u8> = Vec::new();
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(&byte) = bytes.get(at) {
            let here = at;
            at += 1;
            let next = bytes.get(at).copied();
            let closer = closers.last().copied();
            match (closer, byte) {
                (Some(b'\''), b'\'') => _ = closers.pop(),
                (Some(b'\''), _) => {}
                (_, b'\\') => at += 1,
                (Some(b'}'), b'}') if next == Some(b'}') => {
                    closers.pop();
                    at += 1;
                }
                (Some(b'}'), b'}') => {}
                (Some(VARIABLE), b'}') => _ = closers.pop(),
                (Some(closer), byte) if closer == byte => _ = closers.pop(),
                (_, b'$') if next == Some(b'(') => {
                    closers.push(b')');
                    at += 1;
                }
                (_, b'$') if next == Some(b'{') => {
                    closers.push(VARIABLE);
                    at += 1;
                }
                (None | Some(b'"' | VARIABLE), b'{') if next == Some(b'{') => {
                    closers.push(b'}');
                    at += 1;
                }
                (Some(b')'), b'(') => closers.push(b')'),
                (_, b'"') => closers.push(b'"'),
                (None | Some(b')' | b'}' | VARIABLE), b'\'') => closers.push(b'\''),
                (None, byte) => return Some((here, byte)),
                (Some(_), _) => {}
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(raw: &str) -> Word {
        Word { raw: raw.to_owned(), span: Span { end: raw.len() as u32, ..Span::default() } }
    }

    #[test]
    fn words_end_at_bare_blanks() {
        let split = |raw: &str| split_words(&word(raw)).into_iter().map(|word| word.raw).collect::<Vec<_>>();
        assert_eq!(split("a  b"), ["a", "b"]);
        assert_eq!(split(r#"a="x y" b='p "q' c\ d"#), [r#"a="x y""#, r#"b='p "q'"#, r"c\ d"]);
        assert_eq!(split(r#"$(a "b )" (c d)) e"#), [r#"$(a "b )" (c d))"#, "e"]);
        assert_eq!(split(r#""$(a " b")" {{ f("}} x") }} y"#), [r#""$(a " b")""#, r#"{{ f("}} x") }}"#, "y"]);
        assert_eq!(split("${a:?say b} ${c:-$(d e)}f g"), ["${a:?say b}", "${c:-$(d e)}f", "g"]);
        assert_eq!(split(r#"${a:-"}" x}y z"#), [r#"${a:-"}" x}y"#, "z"]);
        assert!(split("").is_empty());
    }

    #[test]
    fn pairs_divide_outside_quotes() {
        let split = |raw: &str| {
            let (name, value) = split_pair(&word(raw));
            (name.raw, value.map(|value| value.raw))
        };
        assert_eq!(split("a=b=c"), ("a".to_owned(), Some("b=c".to_owned())));
        assert_eq!(split(r#""a=b c""#), ("a".to_owned(), Some(r#""b c""#.to_owned())));
        assert_eq!(split(r#""a=b"=c"#), (r#""a=b""#.to_owned(), Some("c".to_owned())));
        assert_eq!(split("a"), ("a".to_owned(), None));
    }

    proptest! {
        #[test]
        fn parts_are_where_their_spans_say(raw in "[a ='\"\\\\${}()é]{0,24}") {
            let text = word(&raw);
            let mut end = 0;
            for part in split_words(&text) {
                let (from, to) = (part.span.start as usize, part.span.end as usize);
                prop_assert_eq!(raw.get(from..to), Some(part.raw.as_str()));
                prop_assert!(from >= end && raw[end..from].trim().is_empty() && !part.raw.is_empty());
                end = to;
            }
            prop_assert!(raw[end..].trim().is_empty());
            if let (name, Some(value)) = split_pair(&text)
                && quote_around(&raw).is_none()
            {
                prop_assert_eq!(format!("{}={}", name.raw, value.raw), raw);
            }
        }
    }

    #[test]
    fn values_without_variables_are_settled() {
        assert_eq!(settled("a"), Some("a"));
        assert_eq!(settled("'a b'"), Some("a b"));
        for raw in ["$a", "\"$a\"", "a\\b", "{{ a }}", "a\"b\""] {
            assert_eq!(settled(raw), None, "{raw}");
        }
    }
}
