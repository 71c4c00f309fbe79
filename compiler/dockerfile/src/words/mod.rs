//! What a word of a Dockerfile means: quotes, escapes and variables, as BuildKit's own lexer takes them.
//!
//! In: a word as written and the variables of its place. Out: its text, and for what may become several words the list
//! of them; which variables were found and which were not. `$v`, `${v}`, `:-` `-` `:+` `+` `:?` `?` with a word, the
//! patterns `#` `##` `%` `%%` and the replacements `/` `//` are known.
//! **Invariant:** linear in the text but for patterns, never deeper than [`MAX_DEPTH`] nor longer by more than
//! [`MAX_EXPANSION_BYTES`].
//! Source of the rules: BuildKit's frontend/dockerfile/shell. One thing differs: where a word with a default, such as
//! `80${X:-81}`, is split, its start is kept; there it is lost.

use std::collections::BTreeSet;

mod expansion;
mod pattern;

#[cfg(test)]
mod tests;

/// `${a:-${b:-…}}` nested deeper than this is an error.
const MAX_DEPTH: usize = 64;

/// What variables put into one word is at most this long: more than a process can be given, and an end to words that double
/// themselves line by line.
const MAX_EXPANSION_BYTES: usize = 1 << 20;

/// Where values of variables come from.
pub trait Variables {
    /// Returns the value of a variable that is set.
    fn get(&self, name: &str) -> Option<String>;
}

impl Variables for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

/// No variable is set.
#[derive(Clone, Copy, Debug)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<String> {
        None
    }
}

/// What is wrong with a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A quote is not closed.
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    UnclosedQuote(&'static str),
    /// `${` is not closed.
    #[error("syntax error: missing '}}'")]
    UnclosedBrace,
    /// The pattern of `${v/pattern/text}` is not closed.
    #[error("syntax error: missing '/' in ${{}}")]
    UnclosedPattern,
    /// `${}`, `${:…}` or `${{…}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// What stands behind the name means nothing.
    #[error("unsupported modifier ({0}) in substitution")]
    UnsupportedModifier(String),
    /// `${v?text}` of a variable that is not set, or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the word says of it.
        message: String,
    },
    /// A pattern means nothing.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// Substitutions in substitutions.
    #[error("substitutions are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Variables that hold variables, over and over.
    #[error("its variables make it longer than {MAX_EXPANSION_BYTES} bytes")]
    TooLong,
}

/// What a word stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text as one word.
    pub text: String,
    /// Its words; what came from variables and is not quoted is split too.
    pub words: Vec<String>,
    /// Variables that were looked up and are set.
    pub matched: BTreeSet<String>,
    /// Variables that were looked up and are not set.
    pub unmatched: BTreeSet<String>,
}

/// How words are read.
#[derive(Clone, Copy, Debug)]
pub struct Lexer {
    escape: char,
    raw_quotes: bool,
    raw_escapes: bool,
    reads_quotes: bool,
    keeps_unset: bool,
}

impl Lexer {
    /// Reads words of a file with this escape sign.
    pub fn new(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, reads_quotes: true, keeps_unset: false }
    }

    /// Reads the text of a heredoc: quotes are plain characters, and a backslash escapes.
    pub fn heredoc() -> Self {
        Self { reads_quotes: false, ..Self::new('\\') }
    }

    /// Keeps quotes, escapes or both.
    pub(crate) fn raw(self, quotes: bool, escapes: bool) -> Self {
        Self { raw_quotes: quotes, raw_escapes: escapes, ..self }
    }

    /// Keeps variables that are not set as they are written: a step's shell will set them.
    #[must_use]
    pub fn keeping_unset(self) -> Self {
        Self { keeps_unset: true, ..self }
    }

    /// Says what a word stands for.
    pub fn expand(&self, word: &str, variables: &dyn Variables) -> Result<Expanded, WordError> {
        let mut reader = Reader {
            lexer: *self,
            rest: word,
            variables,
            depth: 0,
            room: MAX_EXPANSION_BYTES,
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        let (text, words) = reader.read_until(None, self.raw_escapes)?;
        Ok(Expanded { text, words, matched: reader.matched, unmatched: reader.unmatched })
    }

    /// Returns the words that a word stands for.
    pub fn split(&self, word: &str, variables: &dyn Variables) -> Result<Vec<String>, WordError> {
        self.expand(word, variables).map(|expanded| expanded.words)
    }
}

/// A word that is being read.
struct Reader<'a> {
    lexer: Lexer,
    rest: &'a str,
    variables: &'a dyn Variables,
    depth: usize,
    /// How many bytes variables may still put in.
    room: usize,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    /// Reads up to the sign that ends this text, or to the end; returns it as one word and as words.
    fn read_until(
        &mut self,
        end: Option<char>,
        raw_escapes: bool,
    ) -> Result<(String, Vec<String>), WordError> {
        let before = std::mem::replace(&mut self.lexer.raw_escapes, raw_escapes);
        self.depth += 1;
        let read = if self.depth > MAX_DEPTH { Err(WordError::TooDeep) } else { self.read_text(end) };
        self.depth -= 1;
        self.lexer.raw_escapes = before;
        read
    }

    fn read_text(&mut self, end: Option<char>) -> Result<(String, Vec<String>), WordError> {
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(character) = self.peek() {
            if end == Some(character) {
                self.next();
                return Ok((text, words.finish()));
            }
            match character {
                '$' => {
                    let value = self.read_dollar()?;
                    text.push_str(&value);
                    value.chars().for_each(|character| words.add(character));
                }
                '<' => {
                    let value = self.read_heredoc_mark();
                    text.push_str(&value);
                    words.add_text(&value);
                }
                '\'' | '"' if self.lexer.reads_quotes => {
                    let value = if character == '"' { self.read_double() } else { self.read_single() }?;
                    text.push_str(&value);
                    words.add_text(&value);
                }
                _ => self.read_plain(&mut text, &mut words),
            }
        }
        match end {
            None => Ok((text, words.finish())),
            Some('/') => Err(WordError::UnclosedPattern),
            Some(_) => Err(WordError::UnclosedBrace),
        }
    }

    /// Reads one character, or one that is escaped.
    fn read_plain(&mut self, text: &mut String, words: &mut Words) {
        let Some(character) = self.next() else { return };
        if character != self.lexer.escape {
            words.add(character);
            text.push(character);
            return;
        }
        if self.lexer.raw_escapes {
            words.add_raw(character);
            text.push(character);
        }
        if let Some(escaped) = self.next() {
            words.add_raw(escaped);
            text.push(escaped);
        }
    }

    /// Reads what stands between single quotes: nothing is special there.
    fn read_single(&mut self) -> Result<String, WordError> {
        self.next();
        let (inside, rest) = self.rest.split_once('\'').ok_or(WordError::UnclosedQuote("single"))?;
        self.rest = rest;
        Ok(if self.lexer.raw_quotes { format!("'{inside}'") } else { inside.to_owned() })
    }

    /// Reads what stands between double quotes: variables are expanded; a quote, `$` and the escape sign are escaped.
    fn read_double(&mut self) -> Result<String, WordError> {
        self.next();
        let mut text = String::from(if self.lexer.raw_quotes { "\"" } else { "" });
        loop {
            match self.peek() {
                None => return Err(WordError::UnclosedQuote("double")),
                Some('"') => {
                    self.next();
                    if self.lexer.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.read_dollar()?),
                Some(character) => {
                    self.next();
                    if character == self.lexer.escape {
                        self.read_escaped(&mut text);
                    } else {
                        text.push(character);
                    }
                }
            }
        }
    }

    /// Reads what follows an escape sign between double quotes; before any other character the sign is plain.
    fn read_escaped(&mut self, text: &mut String) {
        let escape = self.lexer.escape;
        if self.lexer.raw_escapes {
            text.push(escape);
        }
        match self.peek() {
            None => {}
            Some(character) if matches!(character, '"' | '$') || character == escape => {
                self.next();
                text.push(character);
            }
            Some(_) => text.push(escape),
        }
    }

    /// Reads `<`; of `<<` the blanks behind belong to the word, as the name of a heredoc may follow.
    fn read_heredoc_mark(&mut self) -> String {
        self.next();
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.next();
        let rest = self.rest.trim_start_matches(['\t', '\r', ' ']);
        let blanks = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        format!("<<{blanks}")
    }
}

/// Words that are being gathered.
#[derive(Default)]
struct Words {
    words: Vec<String>,
    word: String,
    inside: bool,
}

impl Words {
    /// Adds a character; white space ends a word.
    fn add(&mut self, character: char) {
        if !character.is_whitespace() {
            self.add_raw(character);
        } else if self.inside && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.inside = false;
        }
    }

    /// Adds a character that separates nothing.
    fn add_raw(&mut self, character: char) {
        self.word.push(character);
        self.inside = true;
    }

    /// Adds a text that separates nothing.
    fn add_text(&mut self, text: &str) {
        self.word.push_str(text);
        self.inside = true;
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}
