//! `.arg`, `.secret` and `.env`: lines of `NAME=value` beside which the user stands.
//!
//! In: the bytes of a file. Out: names and values in the order of the file, or an [`EnvFileError`] with its line.
//! The syntax is dotenv's: `export ` before a name and lines that begin with `#` say nothing; a value is the rest of the
//! line without blanks around it and without a remark behind ` #`; in `'…'` it is as written, in `"…"` `\n`, `\t`, `\r`,
//! `\"`, `\\` and `\$` are what they are elsewhere, and both may span lines. `$NAME` and `${NAME}`, outside of `'…'`, are
//! values from above in the same file.
//!
//! A parser of its own, since those of crates look variables up in this process's environment, which a file must not
//! see, and repeat the line in their errors, which may hold a secret.
//! **Invariant:** an error says where and what, and nothing of a value.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// Why a file cannot be read as such lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {trouble}")]
pub(crate) struct EnvFileError {
    /// Counted from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) trouble: Trouble,
}

/// What may be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// There is no `=`.
    #[error("expected NAME=value")]
    NoValue,
    /// What stands before `=`.
    #[error("what stands before `=` is not a name")]
    BadName,
    /// A quote is never closed.
    #[error("the quote {0} is not closed")]
    Open(char),
    /// Something follows a quoted value.
    #[error("something stands behind the closing quote")]
    Behind,
    /// A variable that nothing above sets; which, may be part of a password.
    #[error("a `$` stands before a name that is not set above; in '…' a `$` is only a `$`")]
    Unset,
    /// Bytes that are no text.
    #[error("it is not UTF-8 text")]
    NotText,
}

/// Reads all lines; of two of one name the later stands at its own place too.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, EnvFileError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        EnvFileError { line, trouble: Trouble::NotText }
    })?;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut reader =
        Reader { rest: text.chars().peekable(), line: 1, known: BTreeMap::new(), found: Vec::new() };
    loop {
        reader.take_while(char::is_whitespace);
        let line = reader.line;
        match reader.rest.peek() {
            None => break,
            Some('#') => drop(reader.take_while(|next| next != '\n')),
            Some(_) => reader.entry().map_err(|trouble| EnvFileError { line, trouble })?,
        }
    }
    Ok(reader.found)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    known: BTreeMap<String, String>,
    found: Vec<(String, String)>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    /// Takes characters for as long as they fit.
    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(next) = self.rest.next_if(|next| fits(*next)) {
            self.line += usize::from(next == '\n');
            taken.push(next);
        }
        taken
    }

    /// Reads one line, or as many as its quotes span.
    fn entry(&mut self) -> Result<(), Trouble> {
        let name = self.take_while(|next| next != '=' && next != '\n');
        if self.rest.next_if_eq(&'=').is_none() {
            return Err(Trouble::NoValue);
        }
        let name = name.trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim).to_owned();
        if !is_name(&name) {
            return Err(Trouble::BadName);
        }
        self.take_while(|next| next == ' ' || next == '\t');
        let value = match self.rest.peek() {
            Some(quote @ ('\'' | '"')) => {
                let quote = *quote;
                self.next();
                self.quoted(quote)?
            }
            _ => self.plain()?,
        };
        self.known.insert(name.clone(), value.clone());
        self.found.push((name, value));
        Ok(())
    }

    fn quoted(&mut self, quote: char) -> Result<String, Trouble> {
        let mut value = String::new();
        loop {
            match self.next() {
                None => return Err(Trouble::Open(quote)),
                Some(end) if end == quote => break,
                Some('\\') if quote == '"' => match self.next() {
                    None => return Err(Trouble::Open(quote)),
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some(plain @ ('"' | '\\' | '$' | '`')) => value.push(plain),
                    Some(other) => value.extend(['\\', other]),
                },
                Some('$') if quote == '"' => value.push_str(&self.variable()?),
                Some(plain) => value.push(plain),
            }
        }
        let behind = self.take_while(|next| next != '\n');
        match behind.trim() {
            "" => Ok(value),
            remark if remark.starts_with('#') => Ok(value),
            _ => Err(Trouble::Behind),
        }
    }

    fn plain(&mut self) -> Result<String, Trouble> {
        let mut value = String::new();
        while let Some(next) = self.rest.next_if(|next| *next != '\n') {
            match next {
                '#' if value.is_empty() || value.ends_with([' ', '\t']) => {
                    self.take_while(|next| next != '\n');
                }
                '$' => value.push_str(&self.variable()?),
                plain => value.push(plain),
            }
        }
        Ok(value.trim_end().to_owned())
    }

    /// Reads what stands behind a `$`; one that no name follows is only a `$`.
    fn variable(&mut self) -> Result<String, Trouble> {
        let braced = self.rest.next_if_eq(&'{').is_some();
        let name = self.take_while(|next| next.is_ascii_alphanumeric() || next == '_');
        let closed = braced && self.rest.next_if_eq(&'}').is_some();
        match self.known.get(&name) {
            _ if braced && !closed => Err(Trouble::Unset),
            _ if name.is_empty() && !braced => Ok("$".to_owned()),
            Some(value) => Ok(value.clone()),
            None => Err(Trouble::Unset),
        }
    }
}

/// Names of secrets may have more than letters and digits: `npm/token`.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|next| next.is_ascii_alphanumeric() || "_.-/".contains(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).expect("is well formed")
    }

    fn value(text: &str) -> String {
        read(&format!("A={text}\n")).pop().expect("has one").1
    }

    fn refused(text: &[u8]) -> (usize, String) {
        let error = parse(text).expect_err("is malformed");
        (error.line, error.trouble.to_string())
    }

    #[test]
    fn lines_are_names_and_values() {
        let text = "\u{FEFF}# remark\n\nA=1\r\n export  B = two words # remark\nA=3\n c.d-e/f=\nLAST=x";
        let expected = [("A", "1"), ("B", "two words"), ("A", "3"), ("c.d-e/f", ""), ("LAST", "x")];
        assert_eq!(read(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(read(""), []);
    }

    #[test]
    fn quotes_escapes_and_remarks() {
        for (text, expected) in [
            ("a#b", "a#b"),
            ("a #b", "a"),
            ("# b", ""),
            ("'a # $b \\n'", "a # $b \\n"),
            ("\"a # b\"  # c", "a # b"),
            (r#""a\tb\n\"c\" \$d \x""#, "a\tb\n\"c\" $d \\x"),
            ("'one\ntwo'", "one\ntwo"),
            ("\"one\ntwo\"", "one\ntwo"),
            ("a=b=c", "a=b=c"),
            ("it's", "it's"),
            ("5$", "5$"),
            ("\\n", "\\n"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_are_those_above() {
        let values: Vec<String> =
            read("A=x\nB=$A-${A}y\nC=\"<$B>\"\nD='$A'\n").into_iter().map(|pair| pair.1).collect();
        assert_eq!(values, ["x", "x-xy", "<x-xy>", "$A"]);
        let unset = "a `$` stands before a name that is not set above; in '…' a `$` is only a `$`";
        assert_eq!(refused(b"A=1\nPASSWORD=pa$$word\n"), (2, unset.to_owned()));
        assert_eq!(refused(b"A=${HOME}").1, unset);
        assert_eq!(refused(b"A=1\nB=${A").1, unset);
    }

    #[test]
    fn errors_say_the_line_and_nothing_of_the_value() {
        assert_eq!(refused(b"A=1\n\nhunter2\n"), (3, "expected NAME=value".to_owned()));
        assert_eq!(refused(b"two words=1"), (1, "what stands before `=` is not a name".to_owned()));
        assert_eq!(refused(b"A='x\ny\n\nB=1\n"), (1, "the quote ' is not closed".to_owned()));
        assert_eq!(refused(b"A='x' hunter2"), (1, "something stands behind the closing quote".to_owned()));
        assert_eq!(refused(b"A='1\n2'\nB=\xff"), (3, "it is not UTF-8 text".to_owned()));
        assert_eq!(refused(b"A='1\n2'\nB"), (3, "expected NAME=value".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_line_it_has(text in "[A-C=\"'#$\\\\ {}a-c\n\r\té]{0,60}") {
            if let Err(error) = parse(text.as_bytes()) {
                let lines = text.split('\n').count();
                proptest::prop_assert!((1..=lines).contains(&error.line), "{} of {}", error.line, lines);
            }
        }

        #[test]
        fn what_is_quoted_is_read_back(value in proptest::prelude::any::<String>(), plain in "[!%&(-~é]{0,20}") {
            let simple = value.replace('\'', "");
            proptest::prop_assert_eq!(read(&format!("A='{simple}'")), [("A".to_owned(), simple)]);
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            proptest::prop_assert_eq!(&read(&format!("A=\"{escaped}\" # x\nB=1")).swap_remove(0).1, &value);
            proptest::prop_assert_eq!(&read(&format!("A={plain}\n")).swap_remove(0).1, &plain);
        }
    }
}
