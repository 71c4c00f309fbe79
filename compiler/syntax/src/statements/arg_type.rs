//! `ARG NAME: type = default` of `VERSION 1`.
//!
//! The grammar gives the line as a key up to a blank or `=`, and a text behind; where the type ends is found here.

use std::collections::BTreeSet;

use rb_diag::{Diagnostic, Spanned};

use super::Reader;
use super::text::{cut, settled};
use crate::report::{nearest, shown};
use crate::{ArgType, Word, codes};

const TYPES: [&str; 6] = ["string", "bool", "int", "enum", "path", "list"];
const TYPES_SHOWN: &str = "`string`, `bool`, `int`, `path`, `list` or `enum(a, b)`";

/// A declaration with a colon, taken apart.
pub(crate) struct Typed {
    pub(crate) name: Word,
    /// What stands between the colon and `=`; may be empty.
    pub(crate) kind: Word,
    pub(crate) default: Option<Word>,
}

/// Takes a declaration apart at its colon; `None` where it has none.
pub(crate) fn divide(key: &Word, equals: bool, text: Option<&Word>) -> Option<Typed> {
    let Some(colon) = key.raw.find(':') else {
        // `NAME : type = default`
        let text = text.filter(|text| !equals && text.raw.starts_with(':'))?;
        let (kind, default) = divide_text(text, 1);
        return Some(Typed { name: key.clone(), kind, default });
    };
    let name = cut(key, 0, colon);
    let head = trimmed(key, colon + 1, key.raw.len());
    if equals {
        let default = text.cloned().unwrap_or_else(|| cut(&head, head.raw.len(), head.raw.len()));
        return Some(Typed { name, kind: head, default: Some(default) });
    }
    let Some(text) = text else { return Some(Typed { name, kind: head, default: None }) };
    let (tail, default) = divide_text(text, 0);
    let kind = match (head.raw.is_empty(), tail.raw.is_empty()) {
        (true, _) => tail,
        (false, true) => head,
        (false, false) => Word { raw: format!("{} {}", head.raw, tail.raw), span: head.span.to(tail.span) },
    };
    Some(Typed { name, kind, default })
}

/// Divides `type = default` from `start` on.
fn divide_text(text: &Word, start: usize) -> (Word, Option<Word>) {
    let end = text.raw.len();
    match text.raw.find('=') {
        Some(equals) => (trimmed(text, start, equals), Some(trimmed(text, equals + 1, end))),
        None => (trimmed(text, start, end), None),
    }
}

/// Cuts a part out of a word, without the blanks around it.
fn trimmed(word: &Word, start: usize, end: usize) -> Word {
    let part = word.raw.get(start..end).unwrap_or_default();
    let from = start + (part.len() - part.trim_start().len());
    cut(word, from, (start + part.trim_end().len()).max(from))
}

impl Reader<'_> {
    /// Reads the type of an argument.
    pub(crate) fn arg_type(&mut self, word: &Word) -> Option<Spanned<ArgType>> {
        match read(&word.raw) {
            Ok(kind) => Some(Spanned::new(kind, word.span)),
            Err((message, help)) => {
                let diagnostic = Diagnostic::error(codes::BAD_TYPE, message).with_label(word.span, "");
                self.report.push(diagnostic.with_help(help));
                None
            }
        }
    }

    /// Reports a default that is not of its argument's type, where no variable tells.
    pub(crate) fn check_default(
        &mut self,
        name: &Spanned<String>,
        kind: &ArgType,
        default: &Word,
    ) -> Option<()> {
        let Some(value) = settled(&default.raw) else { return Some(()) };
        if value.is_empty() && matches!(kind, ArgType::Bool | ArgType::Int | ArgType::Enum(_)) {
            let message = format!("behind `=` the default of `{}` is missing", shown(&name.value));
            let diagnostic = Diagnostic::error(codes::BAD_DEFAULT, message).with_label(name.span, "");
            self.report.push(diagnostic.with_help("write one, or take the `=` away"));
            return None;
        }
        let help = match kind {
            ArgType::Bool if !matches!(value, "true" | "false") => "write `true` or `false`".to_owned(),
            ArgType::Int if value.parse::<i64>().is_err() => "write a whole number".to_owned(),
            ArgType::Enum(values) if !values.iter().any(|known| known == value) => {
                match nearest(value, values.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it is one of `{}`", values.join("`, `")),
                }
            }
            _ => return Some(()),
        };
        let message = format!("`{}` cannot be the default of `{}`", shown(value), shown(&name.value));
        let diagnostic = Diagnostic::error(codes::BAD_DEFAULT, message).with_label(default.span, "");
        self.report.push(diagnostic.with_help(help));
        None
    }
}

/// Reads a type; the error is a message and a help.
fn read(text: &str) -> Result<ArgType, (String, String)> {
    let (name, values) = match text.split_once('(') {
        Some((name, values)) => (name.trim_end(), Some(values)),
        None => (text, None),
    };
    let kind = match name {
        "string" => ArgType::String,
        "bool" => ArgType::Bool,
        "int" => ArgType::Int,
        "path" => ArgType::Path,
        "list" => ArgType::List,
        "enum" => return read_enum(values).map(ArgType::Enum),
        "" => {
            let message = "behind the colon the type is missing".to_owned();
            return Err((message, format!("write {TYPES_SHOWN}")));
        }
        _ => {
            let help = nearest(name, TYPES)
                .map_or_else(|| format!("there are {TYPES_SHOWN}"), |near| format!("did you mean `{near}`?"));
            return Err((format!("there is no type `{}`", shown(text)), help));
        }
    };
    if values.is_some() {
        let help = format!("write `{name}`, or `enum(a, b)` to list what is allowed");
        return Err((format!("the type `{name}` lists no values"), help));
    }
    Ok(kind)
}

/// Reads the values of an enum, behind the parenthesis.
fn read_enum(values: Option<&str>) -> Result<Vec<String>, (String, String)> {
    const HELP: &str = "write `enum(a, b)`";
    let Some(values) = values else { return Err(("an `enum` lists its values".to_owned(), HELP.to_owned())) };
    let Some(values) = values.strip_suffix(')') else {
        return Err(("the values of an `enum` end with `)`".to_owned(), HELP.to_owned()));
    };
    let mut read = Vec::new();
    let mut seen = BTreeSet::new();
    for value in values.split(',').map(str::trim) {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '/' | ':' | '@');
        if value.is_empty() || !value.chars().all(plain) {
            let message = if value.is_empty() {
                "a value of the `enum` is empty".to_owned()
            } else {
                format!("`{}` cannot be a value of an `enum`", shown(value))
            };
            return Err((message, "values are plain words: `enum(debug, release)`".to_owned()));
        }
        if !seen.insert(value) {
            return Err((format!("the `enum` lists `{}` twice", shown(value)), "take one away".to_owned()));
        }
        read.push(value.to_owned());
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use rb_diag::Span;

    use super::*;

    fn word(raw: &str, start: usize) -> Word {
        let span = Span { start: start as u32, end: (start + raw.len()) as u32, ..Span::default() };
        Word { raw: raw.to_owned(), span }
    }

    #[test]
    fn declarations_are_divided_wherever_blanks_stand() {
        let divided = |key: &str, equals: bool, text: Option<&str>| {
            let text = text.map(|text| word(text, key.len() + 1));
            let typed = divide(&word(key, 0), equals, text.as_ref())?;
            Some((typed.name.raw, typed.kind.raw, typed.default.map(|default| default.raw)))
        };
        let expected = |kind: &str| Some(("a".to_owned(), kind.to_owned(), Some("x y".to_owned())));
        assert_eq!(divided("a:int", true, Some("x y")), expected("int"));
        assert_eq!(divided("a: int", true, Some("x y")), expected("int"));
        assert_eq!(divided("a:", false, Some("int = x y")), expected("int"));
        assert_eq!(divided("a", false, Some(": int=x y")), expected("int"));
        assert_eq!(divided("a:enum(x,", false, Some("y) = x y")), expected("enum(x, y)"));
        assert_eq!(divided("a:int", false, None), Some(("a".to_owned(), "int".to_owned(), None)));
        assert_eq!(divided("a", true, Some(":x")), None);
        assert_eq!(divided("a", false, Some("b")), None);
    }

    #[test]
    fn types_are_read() {
        assert_eq!(read("int"), Ok(ArgType::Int));
        assert_eq!(read("enum(a, b-1)"), Ok(ArgType::Enum(vec!["a".to_owned(), "b-1".to_owned()])));
        assert_eq!(read("enum (a)"), Ok(ArgType::Enum(vec!["a".to_owned()])));
        for wrong in
            ["", "enum", "enum()", "enum(a", "enum(a,)", "enum(a, a)", "enum(\"a\")", "strng", "int(1)"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
