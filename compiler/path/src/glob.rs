//! Wildcards: Go's `path.Match`, and what others add to it.
//!
//! `*` is any run of characters but `/`, `?` one of them, `[a-z]` and `[^a-z]` one of a class, `\\` takes away a meaning. A pattern is compiled to a list of states and run over the name once, all states at a time, so that no pattern
//! takes exponential time. Bytes that are not UTF-8 count as U+FFFD, as in Go.
//! Source: Go's path/filepath, "Match"; moby/patternmatcher's documentation and tests.

/// What one state takes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Exactly this character.
    Literal(char),
    /// Any one character but `/`.
    One,
    /// Any number of characters but `/`.
    Many,
    /// Any one character.
    Any,
    /// One of these ranges, or none of them.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// Entry of "any number of whole directories": may skip the next state as well.
    DirectoriesEntry,
    /// Inside of it: left after a `/` only.
    Directories,
    /// Anything at all.
    Everything,
}

/// A pattern does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a valid pattern: {reason}")]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Whose words a pattern is said in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Go's `path.Match`: `**` is `*`.
    Go,
    /// moby/patternmatcher: `**/` is any number of directories, `**` at the end is everything.
    Moby,
    /// A shell's `${x#pattern}`: a text is no path, so `/` is a character like others; a backslash at the end is itself.
    Text,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    states: Vec<State>,
}

impl Glob {
    /// Compiles `pattern`; [`BadPattern`] for what Go refuses.
    pub fn new(pattern: &str, dialect: Dialect) -> Result<Self, BadPattern> {
        let error = |reason| BadPattern { pattern: pattern.to_owned(), reason };
        let mut states = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(next) = chars.next() {
            match next {
                '*' if dialect == Dialect::Moby && chars.peek() == Some(&'*') => {
                    chars.next();
                    chars.next_if_eq(&'/');
                    if chars.peek().is_none() {
                        states.push(State::Everything);
                    } else {
                        states.extend([State::DirectoriesEntry, State::Directories]);
                    }
                }
                '*' if dialect == Dialect::Text => states.push(State::Everything),
                '*' => states.push(State::Many),
                '?' if dialect == Dialect::Text => states.push(State::Any),
                '?' => states.push(State::One),
                '[' => states.push(parse_class(&mut chars).map_err(error)?),
                '\\' => {
                    let itself = (dialect == Dialect::Text).then_some('\\');
                    let escaped = chars.next().or(itself);
                    states.push(State::Literal(
                        escaped.ok_or_else(|| error("it ends with a single backslash"))?,
                    ));
                }
                literal => states.push(State::Literal(literal)),
            }
        }
        Ok(Self { states })
    }

    /// Returns the text that the pattern stands for if it holds no wildcard (escapes taken out).
    pub fn literal(&self) -> Option<String> {
        self.states
            .iter()
            .map(|state| match state {
                State::Literal(literal) => Some(*literal),
                State::One
                | State::Many
                | State::Any
                | State::Class { .. }
                | State::DirectoriesEntry
                | State::Directories
                | State::Everything => None,
            })
            .collect()
    }

    /// Tells whether the whole of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        let end = self.states.len();
        let mut now = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        self.enter(&mut now, 0);
        for taken in Characters(name) {
            next.fill(false);
            let mut alive = false;
            for (index, state) in self.states.iter().enumerate() {
                if !now[index] {
                    continue;
                }
                alive = true;
                match state {
                    State::Literal(literal) if *literal == taken => self.enter(&mut next, index + 1),
                    State::One if taken != '/' => self.enter(&mut next, index + 1),
                    State::Any => self.enter(&mut next, index + 1),
                    State::Many if taken != '/' => self.enter(&mut next, index),
                    State::Class { negated, ranges } => {
                        if ranges.iter().any(|(low, high)| (*low..=*high).contains(&taken)) != *negated {
                            self.enter(&mut next, index + 1);
                        }
                    }
                    State::Directories => {
                        self.enter(&mut next, index);
                        if taken == '/' {
                            self.enter(&mut next, index + 1);
                        }
                    }
                    State::Everything => self.enter(&mut next, index),
                    State::Literal(_) | State::One | State::Many | State::DirectoriesEntry => {}
                }
            }
            if !alive {
                return false;
            }
            std::mem::swap(&mut now, &mut next);
        }
        now[end]
    }

    /// Marks `index` and every state that follows from it without taking a character.
    fn enter(&self, states: &mut [bool], mut index: usize) {
        loop {
            if states[index] {
                return;
            }
            states[index] = true;
            match self.states.get(index) {
                Some(State::Many | State::Everything) => index += 1,
                Some(State::DirectoriesEntry) => {
                    states[index + 1] = true;
                    index += 2;
                }
                Some(
                    State::Literal(_) | State::One | State::Any | State::Class { .. } | State::Directories,
                )
                | None => {
                    return;
                }
            }
        }
    }
}

/// Tells whether `name` holds a wildcard that is not escaped: whether it has to be matched, rather than looked up.
pub fn has_wildcard(name: &str) -> bool {
    let mut chars = name.chars();
    while let Some(next) = chars.next() {
        match next {
            '\\' => {
                chars.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// The part of a class after `[`, up to its `]`.
fn parse_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<State, &'static str> {
    const OPEN: &str = "a `[` is not closed";
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(State::Class { negated, ranges });
        }
        let low = class_character(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { class_character(chars)? } else { low };
        if chars.peek().is_none() {
            return Err(OPEN);
        }
        ranges.push((low, high));
    }

    fn class_character(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, &'static str> {
        match chars.next() {
            None => Err(OPEN),
            Some('-' | ']') => Err("a `-` or `]` inside `[…]` must be escaped with a backslash"),
            Some('\\') => chars.next().ok_or(OPEN),
            Some(character) => Ok(character),
        }
    }
}

/// The characters of bytes that are mostly UTF-8: each byte that is not is one U+FFFD.
struct Characters<'a>(&'a [u8]);

impl Iterator for Characters<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let first = *self.0.first()?;
        let width = match first {
            0..=0x7f => 1,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
        let decoded = self.0.get(..width).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let character = decoded.and_then(|text| text.chars().next());
        self.0 = &self.0[if character.is_some() { width } else { 1 }..];
        Some(character.unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn go(pattern: &str, name: &str) -> bool {
        Glob::new(pattern, Dialect::Go).unwrap().matches(name.as_bytes())
    }

    #[test]
    fn matches_as_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
            ("**", "a/b", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(go(pattern, name), expected, "{pattern} {name}");
        }
        assert!(Glob::new("a?c", Dialect::Go).unwrap().matches(b"a\xffc"), "one bad byte is one character");
    }

    #[test]
    fn refuses_what_go_refuses() {
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[]"] {
            assert!(Glob::new(pattern, Dialect::Go).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_slash_in_a_text_is_a_character() {
        for (pattern, text, expected) in [
            ("*/", "a/b/", true),
            ("a?b", "a/b", true),
            ("*.c", "src/a.c", true),
            ("a\\", "a\\", true),
            ("a[", "a", false),
        ] {
            let glob = Glob::new(pattern, Dialect::Text);
            assert_eq!(glob.is_ok_and(|glob| glob.matches(text.as_bytes())), expected, "{pattern} {text}");
        }
    }

    proptest! {
        /// A text with its letters escaped fits itself and nothing else.
        #[test]
        fn escaped_text_is_itself(text in "[a-c*?\\[\\]-]{1,8}", other in "[a-c*?\\[\\]-]{1,8}") {
            let escaped: String = text.chars().flat_map(|letter| ['\\', letter]).collect();
            prop_assert!(go(&escaped, &text));
            prop_assert_eq!(go(&escaped, &other), text == other);
        }
    }

    #[test]
    fn takes_linear_time() {
        let pattern = "a*".repeat(40) + "b";
        assert!(!go(&pattern, &"a".repeat(4000)));
    }

    #[test]
    fn finds_wildcards() {
        assert!(has_wildcard("a*") && has_wildcard("[x]") && has_wildcard("?"));
        assert!(!has_wildcard("a\\*") && !has_wildcard("plain"));
    }
}
