//! Words with variables in them: `$x`, `${x:-w}`, quotes and escapes.
//!
//! In: the text of a word as written. Out: a [`Template`], and from that, once the variables are known, a text.
//! First the whole word is read, then it is filled in, so that a later part may ask the outside in between (the
//! value of `$(…)`). The rules are those of Dockerfile words plus `$(…)`: single quotes keep all, double quotes keep
//! all but `$` and `\`, quotes go away.
//! Source: buildkit's shell lexer; earthly-language 3.14.

use std::ops::Range;

use crate::glob;

/// A word taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    /// Where an unquoted `{{` stands, which `VERSION 1` keeps for expressions.
    pub(crate) expression: Option<Range<usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `\x` outside of single quotes.
    Escaped(char),
    Variable {
        name: String,
        operator: Option<(Operator, Template)>,
        range: Range<usize>,
    },
    Command {
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

/// A word cannot become text.
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
    #[error("`${{` must be followed by a name")]
    NoName,
    #[error("`{operator}` is not one of the operators `:-`, `:+`, `:?`, `#`, `##`, `%` and `%%`")]
    Operator { operator: String },
    #[error("`{command}` would have to run to know this value")]
    Command { command: String },
    #[error("`{name}` has no value: {message}")]
    Required { name: String, message: String },
}

impl Template {
    /// Takes a word apart.
    pub(crate) fn parse(raw: &str) -> Result<Self, WordError> {
        let mut reader = Reader { raw, at: 0, expression: None };
        let segments = reader.segments(None)?;
        Ok(Self { segments, expression: reader.expression })
    }

    /// Returns whether the text is the same whatever variables there are.
    pub(crate) fn is_constant(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_) | Segment::Escaped(_)))
    }

    /// Fills in the variables.
    pub(crate) fn expand(
        &self,
        escapes: Escapes,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Expanded, WordError> {
        let mut expanded = Expanded::default();
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => expanded.text.push_str(text),
                Segment::Escaped(character) => {
                    let keep = match escapes {
                        Escapes::Remove => false,
                        Escapes::KeepPlus => *character == '+',
                        Escapes::KeepPattern => "*?[\\".contains(*character),
                    };
                    if keep {
                        expanded.text.push('\\');
                    }
                    expanded.text.push(*character);
                }
                Segment::Variable { name, operator, range } => {
                    variable(name, operator.as_ref(), range, escapes, lookup, &mut expanded)?;
                }
                Segment::Command { range } => {
                    return Err(WordError {
                        kind: WordErrorKind::Command { command: "$(…)".to_owned() },
                        range: range.clone(),
                    });
                }
            }
        }
        Ok(expanded)
    }
}

fn variable(
    name: &str,
    operator: Option<&(Operator, Template)>,
    range: &Range<usize>,
    escapes: Escapes,
    lookup: &dyn Fn(&str) -> Option<String>,
    expanded: &mut Expanded,
) -> Result<(), WordError> {
    let value = lookup(name);
    let Some((operator, word)) = operator else {
        if value.is_none() {
            expanded.unknown.push((name.to_owned(), range.clone()));
        }
        expanded.text.push_str(&value.unwrap_or_default());
        return Ok(());
    };
    let counts = |or_empty: bool| value.as_ref().is_some_and(|value| !(or_empty && value.is_empty()));
    let mut fill = |word: &Template| -> Result<String, WordError> {
        let inner = word.expand(escapes, lookup)?;
        expanded.unknown.extend(inner.unknown);
        Ok(inner.text)
    };
    let text = match *operator {
        Operator::Default { or_empty } if counts(or_empty) => value.unwrap_or_default(),
        Operator::Default { .. } => fill(word)?,
        Operator::Alternative { or_empty } if counts(or_empty) => fill(word)?,
        Operator::Alternative { .. } => String::new(),
        Operator::Required { or_empty } if counts(or_empty) => value.unwrap_or_default(),
        Operator::Required { .. } => {
            let message = match fill(word)? {
                message if message.is_empty() => "it is required here".to_owned(),
                message => message,
            };
            let kind = WordErrorKind::Required { name: name.to_owned(), message };
            return Err(WordError { kind, range: range.clone() });
        }
        Operator::CutStart { longest } => {
            let pattern = fill(word)?;
            let value = value.unwrap_or_default();
            let mut ends = boundaries(&value);
            let cut = |end: &usize| glob::matches(&pattern, &value[..*end]);
            let end = if longest { ends.rfind(cut) } else { ends.find(cut) };
            value[end.unwrap_or(0)..].to_owned()
        }
        Operator::CutEnd { longest } => {
            let pattern = fill(word)?;
            let value = value.unwrap_or_default();
            let mut starts = boundaries(&value);
            let cut = |start: &usize| glob::matches(&pattern, &value[*start..]);
            let start = if longest { starts.find(cut) } else { starts.rfind(cut) };
            value[..start.unwrap_or(value.len())].to_owned()
        }
    };
    expanded.text.push_str(&text);
    Ok(())
}

fn boundaries(text: &str) -> impl DoubleEndedIterator<Item = usize> + '_ {
    text.char_indices().map(|(at, _)| at).chain(std::iter::once(text.len()))
}

/// Returns whether `character` may stand in a variable's name.
pub(crate) fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Divides a text at spaces that are not quoted, not escaped and not inside `$(…)` or `${…}`; each word comes with
/// where it starts.
pub(crate) fn split(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let (mut start, mut at) = (None, 0);
    while let Some(next) = text[at..].chars().next() {
        if next.is_whitespace() {
            words.extend(start.take().map(|start| (start, &text[start..at])));
            at += next.len_utf8();
        } else {
            start.get_or_insert(at);
            at = skip(text, at);
        }
    }
    words.extend(start.map(|start| (start, &text[start..])));
    words
}

/// Returns the end of the character, escape, quote or `$(…)` that starts at `at`; the end of the text if it is open.
fn skip(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let closed = |open: usize, close: char| {
        let mut inner = at + open;
        while let Some(next) = text[inner..].chars().next() {
            if next == close {
                return inner + next.len_utf8();
            }
            inner = if close == '\'' { inner + next.len_utf8() } else { skip(text, inner) };
        }
        text.len()
    };
    match rest.chars().next() {
        Some('\\') => at + 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        Some('\'') => closed(1, '\''),
        Some('"') => closed(1, '"'),
        Some('$') if rest.starts_with("$(") => closed(2, ')'),
        Some('$') if rest.starts_with("${") => closed(2, '}'),
        Some('(') => closed(1, ')'),
        Some(other) => at + other.len_utf8(),
        None => at,
    }
}

struct Reader<'a> {
    raw: &'a str,
    at: usize,
    expression: Option<Range<usize>>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.raw[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn error<T>(&self, start: usize, kind: WordErrorKind) -> Result<T, WordError> {
        Err(WordError { kind, range: start..self.at })
    }

    /// Reads to the end, or to an unquoted `until`, which is left for the caller.
    fn segments(&mut self, until: Option<char>) -> Result<Vec<Segment>, WordError> {
        let mut segments = Vec::new();
        while let Some(next) = self.peek() {
            if Some(next) == until {
                break;
            }
            match next {
                '\'' => self.single_quoted(&mut segments)?,
                '"' => self.double_quoted(&mut segments)?,
                _ => self.bare(&mut segments, None)?,
            }
        }
        Ok(segments)
    }

    /// Reads one escape, variable, command or character. In double quotes only `"`, `$` and `\` can be escaped.
    fn bare(&mut self, segments: &mut Vec<Segment>, escapable: Option<&str>) -> Result<(), WordError> {
        let start = self.at;
        match self.next() {
            Some('\\') => match self.peek() {
                Some(next) if escapable.is_none_or(|escapable| escapable.contains(next)) => {
                    self.at += next.len_utf8();
                    segments.push(Segment::Escaped(next));
                }
                _ => push(segments, '\\'),
            },
            Some('$') => self.dollar(start, segments)?,
            Some(next) => {
                if next == '{' && self.peek() == Some('{') && self.expression.is_none() {
                    self.expression = Some(start..self.at + 1);
                }
                push(segments, next);
            }
            None => {}
        }
        Ok(())
    }

    fn single_quoted(&mut self, segments: &mut Vec<Segment>) -> Result<(), WordError> {
        let start = self.at;
        self.at += 1;
        // An empty literal, so that '' is a word.
        segments.push(Segment::Literal(String::new()));
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(next) => push(segments, next),
                None => return self.error(start, WordErrorKind::OpenQuote),
            }
        }
    }

    fn double_quoted(&mut self, segments: &mut Vec<Segment>) -> Result<(), WordError> {
        let start = self.at;
        self.at += 1;
        segments.push(Segment::Literal(String::new()));
        loop {
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.bare(segments, Some("\"$\\"))?,
                None => return self.error(start, WordErrorKind::OpenQuote),
            }
        }
    }

    fn dollar(&mut self, start: usize, segments: &mut Vec<Segment>) -> Result<(), WordError> {
        match self.peek() {
            Some('(') => {
                let end = skip(self.raw, start);
                self.at = end;
                if !self.raw[..end].ends_with(')') {
                    return self.error(start, WordErrorKind::OpenCommand);
                }
                segments.push(Segment::Command { range: start..end });
            }
            Some('{') => {
                self.at += 1;
                let segment = self.braced(start)?;
                segments.push(segment);
            }
            Some(first) if is_name_character(first) => {
                let name = self.name();
                segments.push(Segment::Variable { name, operator: None, range: start..self.at });
            }
            _ => push(segments, '$'),
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(is_name_character) {
            self.at += 1;
        }
        self.raw[start..self.at].to_owned()
    }

    fn braced(&mut self, start: usize) -> Result<Segment, WordError> {
        let name = self.name();
        if name.is_empty() {
            return self.error(start, WordErrorKind::NoName);
        }
        let operator = match self.peek() {
            Some('}') => None,
            None => return self.error(start, WordErrorKind::OpenBrace),
            Some(_) => {
                let operator = self.operator()?;
                let expression = self.expression.clone();
                let segments = self.segments(Some('}'))?;
                self.expression = expression;
                Some((operator, Template { segments, expression: None }))
            }
        };
        if self.next() != Some('}') {
            return self.error(start, WordErrorKind::OpenBrace);
        }
        Ok(Segment::Variable { name, operator, range: start..self.at })
    }

    fn operator(&mut self) -> Result<Operator, WordError> {
        let start = self.at;
        let or_empty = self.peek() == Some(':');
        if or_empty {
            self.at += 1;
        }
        let first = self.next();
        let doubled = |this: &mut Self| {
            let doubled = this.peek() == first;
            this.at += usize::from(doubled);
            doubled
        };
        Ok(match first {
            Some('-') => Operator::Default { or_empty },
            Some('+') => Operator::Alternative { or_empty },
            Some('?') => Operator::Required { or_empty },
            Some('#') if !or_empty => Operator::CutStart { longest: doubled(self) },
            Some('%') if !or_empty => Operator::CutEnd { longest: doubled(self) },
            _ => {
                let operator = self.raw[start..self.at].to_owned();
                return self.error(start, WordErrorKind::Operator { operator });
            }
        })
    }
}

fn push(segments: &mut Vec<Segment>, character: char) {
    match segments.last_mut() {
        Some(Segment::Literal(text)) => text.push(character),
        _ => segments.push(Segment::Literal(character.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(raw: &str) -> Result<String, WordErrorKind> {
        let lookup = |name: &str| match name {
            "x" => Some("value".to_owned()),
            "file" => Some("a.tar.gz".to_owned()),
            "empty" => Some(String::new()),
            _ => None,
        };
        Template::parse(raw)
            .and_then(|template| template.expand(Escapes::Remove, &lookup))
            .map(|expanded| expanded.text)
            .map_err(|error| error.kind)
    }

    #[test]
    fn fills_in_variables() {
        for (raw, expected) in [
            ("a$x-${x}b", "avalue-valueb"),
            ("$x_", ""),
            ("${none:-w}${empty:-w}${empty-w}${x:-w}", "wwvalue"),
            ("${none:+w}|${x:+w}|${empty+w}", "|w|w"),
            ("${none:-${x:-y}\"}\"}", "value}"),
            ("${x:?bad}", "value"),
            ("${file#*.}|${file##*.}|${file%.*}|${file%%.*}", "tar.gz|gz|a.tar|a"),
            ("'$x'\"$x\"\\$x", "$xvalue$x"),
            (r#"a\ b "c\"d\e" 'f\g'"#, r#"a b c"d\e f\g"#),
            ("$ 5$", "$ 5$"),
            ("''", ""),
        ] {
            assert_eq!(expand(raw), Ok(expected.to_owned()), "{raw}");
        }
    }

    #[test]
    fn refuses_what_is_not_well_formed() {
        assert_eq!(expand("'a"), Err(WordErrorKind::OpenQuote));
        assert_eq!(expand("a\"b"), Err(WordErrorKind::OpenQuote));
        assert_eq!(expand("${x"), Err(WordErrorKind::OpenBrace));
        assert_eq!(expand("${x:-a"), Err(WordErrorKind::OpenBrace));
        assert_eq!(expand("${}"), Err(WordErrorKind::NoName));
        assert_eq!(expand("${x/a/b}"), Err(WordErrorKind::Operator { operator: "/".to_owned() }));
        assert_eq!(expand("$(a"), Err(WordErrorKind::OpenCommand));
        assert!(matches!(expand("a$(echo ')' b)"), Err(WordErrorKind::Command { .. })));
        assert_eq!(
            expand("${none:?say $x}"),
            Err(WordErrorKind::Required { name: "none".to_owned(), message: "say value".to_owned() })
        );
    }

    #[test]
    fn keeps_the_escapes_asked_for() {
        let keep = |escapes| {
            let template = Template::parse(r"a\+b\*c\ d").expect("parses");
            template.expand(escapes, &|_| None).expect("expands").text
        };
        assert_eq!(keep(Escapes::Remove), "a+b*c d");
        assert_eq!(keep(Escapes::KeepPlus), r"a\+b*c d");
        assert_eq!(keep(Escapes::KeepPattern), r"a+b\*c d");
    }

    #[test]
    fn names_what_nothing_defines_and_where_expressions_stand() {
        let template = Template::parse("a${no}b$x").expect("parses");
        let expanded = template.expand(Escapes::Remove, &|_| None).expect("expands");
        assert_eq!(expanded.unknown, [("no".to_owned(), 1..6), ("x".to_owned(), 7..9)]);
        assert_eq!(Template::parse("a{{ 1 }}").expect("parses").expression, Some(1..3));
        assert_eq!(Template::parse("'{{ 1 }}'").expect("parses").expression, None);
    }

    #[test]
    fn splits_at_unquoted_spaces() {
        assert_eq!(
            split(r#" echo "a b" 'c d' $(e f) g\ h "#),
            [(1, "echo"), (6, r#""a b""#), (12, "'c d'"), (18, "$(e f)"), (25, r"g\ h")]
        );
        assert_eq!(split("  "), []);
    }

    proptest::proptest! {
        /// Any text is a word or an error with a place inside it, and splitting loses nothing but spaces.
        #[test]
        fn any_text_is_read(raw in "[ a-z${}()'\"\\\\:?#%+\u{e9}-]{0,24}") {
            let result = Template::parse(&raw).and_then(|word| word.expand(Escapes::Remove, &|_| None));
            if let Err(error) = result {
                proptest::prop_assert!(raw.get(error.range).is_some());
            }
            for (start, word) in split(&raw) {
                proptest::prop_assert_eq!(&raw[start..start + word.len()], word);
            }
            let kept: usize = split(&raw).iter().map(|(_, word)| word.len()).sum();
            proptest::prop_assert!(kept >= raw.replace(' ', "").len());
        }

        /// What is quoted as a shell would have it comes out as it was.
        #[test]
        fn quoted_text_comes_out_as_it_was(text in "[ -~\u{e9}]{0,24}") {
            let raw = format!("'{}'", text.replace('\'', r"'\''"));
            proptest::prop_assert_eq!(expand(&raw), Ok(text.clone()));
            let raw: String = text.chars().flat_map(|next| ['\\', next]).collect();
            proptest::prop_assert_eq!(expand(&raw), Ok(text));
        }
    }
}
