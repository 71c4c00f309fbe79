//! `$name` and `${name…}`: which variable, and what becomes of its value.
//!
//! In: a reader that stands at `$`. Out: the text that takes its place; the reader stands behind it.

use super::{Reader, WordError, pattern};

impl Reader<'_> {
    /// Reads `$…`; a `$` that no name follows is itself.
    pub(super) fn read_dollar(&mut self) -> Result<String, WordError> {
        let value = self.read_variable()?;
        self.room = self.room.checked_sub(value.len()).ok_or(WordError::TooLong)?;
        Ok(value)
    }

    fn read_variable(&mut self) -> Result<String, WordError> {
        self.next();
        if self.peek() == Some('{') {
            self.next();
            return self.read_braces();
        }
        let name = self.read_name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(match self.look_up(&name) {
            Some(value) => value,
            None if self.lexer.keeps_unset => format!("${name}"),
            None => String::new(),
        })
    }

    fn read_braces(&mut self) -> Result<String, WordError> {
        match self.peek() {
            None => return Err(WordError::UnclosedBrace),
            Some('{' | '}' | ':') => return Err(WordError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.read_name();
        match self.next() {
            None => Err(WordError::UnclosedBrace),
            Some('}') => Ok(match self.look_up(&name) {
                Some(value) => value,
                None if self.lexer.keeps_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some('/') => self.read_replacement(&name),
            Some(':') => match self.next() {
                None => Err(WordError::UnclosedBrace),
                Some(sign @ ('+' | '-' | '?')) => self.read_modifier(&name, sign, true),
                Some(sign) => Err(WordError::UnsupportedModifier(format!(":{sign}"))),
            },
            Some(sign @ ('+' | '-' | '?' | '#' | '%')) => self.read_modifier(&name, sign, false),
            Some(sign) => Err(WordError::UnsupportedModifier(sign.to_string())),
        }
    }

    /// Reads the word behind a sign, and does what the sign says; `empty_is_unset` where a colon stands before it.
    fn read_modifier(&mut self, name: &str, sign: char, empty_is_unset: bool) -> Result<String, WordError> {
        let (word, _) = self.read_until(Some('}'), matches!(sign, '#' | '%'))?;
        let found = self.look_up(name);
        if self.lexer.keeps_unset && found.is_none() {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{sign}{word}}}"));
        }
        let usable = found.as_deref().filter(|value| !(empty_is_unset && value.is_empty()));
        match (sign, usable) {
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            ('?', None) => Err(required(name, word, found.is_some())),
            ('-' | '?', Some(value)) => Ok(value.to_owned()),
            (_, value) => {
                let (word, longest) = match word.strip_prefix(sign) {
                    Some(word) => (word, true),
                    None => (word.as_str(), false),
                };
                let value = value.unwrap_or_default();
                if sign == '#' {
                    pattern::without_prefix(word, value, longest)
                } else {
                    pattern::without_suffix(word, value, longest)
                }
            }
        }
    }

    /// Reads `/pattern/text}` or `//pattern/text}`.
    fn read_replacement(&mut self, name: &str) -> Result<String, WordError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let (searched, _) = self.read_until(Some('/'), true)?;
        let (replacement, _) = self.read_until(Some('}'), true)?;
        match self.look_up(name) {
            None if self.lexer.keeps_unset => Ok(format!("${{{name}/{searched}/{replacement}}}")),
            value => pattern::replace(&searched, &value.unwrap_or_default(), &replacement, all),
        }
    }

    /// Reads a name: letters, digits and `_`; a number; or one of the signs that a shell gives a meaning.
    fn read_name(&mut self) -> String {
        let length = match self.peek() {
            Some(first) if first.is_ascii_digit() => self.length(|character| character.is_ascii_digit()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => self.length(|character| character.is_alphanumeric() || character == '_'),
        };
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        name.to_owned()
    }

    /// Returns how many bytes from here on are such characters.
    fn length(&self, is_part: impl Fn(char) -> bool) -> usize {
        self.rest.find(|character| !is_part(character)).unwrap_or(self.rest.len())
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name);
        let names = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        names.insert(name.to_owned());
        value
    }
}

fn required(name: &str, word: String, is_set: bool) -> WordError {
    let default = if is_set { "is not allowed to be empty" } else { "is not allowed to be unset" };
    let message = if word.is_empty() { default.to_owned() } else { word };
    WordError::Required { name: name.to_owned(), message }
}
