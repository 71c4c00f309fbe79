//! `ARG`, `LET`, `SET` and `ENV`: names and their values.
//!
//! A name ends at the first `=` outside quotes, and the value is the rest of the line, blanks inside it included; ENV
//! of `VERSION 1` takes several pairs instead. Source: earthly-language, "File, lexing, grammar".

use rb_diag::{Diagnostic, Span, Spanned};

use super::arg_type::{self, Typed};
use super::text::{cut, split_pair, split_words};
use super::{Reader, is_identifier};
use crate::commands::Command;
use crate::entries::Part;
use crate::flags::{tables, take_flags};
use crate::report::{nearest, shown};
use crate::{Arg, Assignment, Edition, Word, codes};

/// `NAME = value` taken apart.
#[derive(Default)]
struct Pieces {
    flags: Vec<Word>,
    key: Option<Word>,
    equals: bool,
    text: Option<Word>,
}

impl Pieces {
    fn new(parts: Vec<Part>) -> Self {
        let mut pieces = Self::default();
        for part in parts {
            match part {
                Part::Word(word) => pieces.flags.push(word),
                Part::Key(key) => pieces.key = Some(key),
                Part::Equals => pieces.equals = true,
                Part::Text(text) => pieces.text = Some(text),
                Part::FlagsEnd | Part::Call { .. } | Part::Exec(_) | Part::Heredoc(_) => {}
            }
        }
        pieces
    }
}

impl Reader<'_> {
    pub(crate) fn arg(&mut self, parts: Vec<Part>) -> Option<Arg> {
        let Pieces { flags: mut words, key, equals, text } = Pieces::new(parts);
        let flags = take_flags(&tables::ARG, self.edition, &mut words, self.report);
        let (required, global) = (flags.is_on("required"), flags.is_on("global"));
        let key = self.key(key, "`ARG NAME=default`")?;
        if self.edition >= Edition::One
            && let Some(Typed { name, kind, default }) = arg_type::divide(&key, equals, text.as_ref())
        {
            let name = self.name(name)?;
            let kind = self.arg_type(&kind)?;
            if let Some(default) = &default {
                self.check_default(&name, &kind.value, default)?;
            }
            return Some(Arg { required, global, name, kind: Some(kind), default });
        }
        let name = self.name(key)?;
        if !equals && let Some(text) = text {
            self.behind_name(&name, &text);
            return None;
        }
        let default = equals.then(|| text.unwrap_or_else(|| empty_behind(name.span)));
        Some(Arg { required, global, name, kind: None, default })
    }

    /// Reports words behind the name of an ARG that has no `=`.
    fn behind_name(&mut self, name: &Spanned<String>, text: &Word) {
        let name = shown(&name.value);
        let flag = ["required", "global"].into_iter().find(|flag| text.raw.starts_with(&format!("--{flag}")));
        let (code, message, help) = if let Some(flag) = flag {
            let message = format!("`--{flag}` stands behind the words of `ARG`");
            let help = format!("flags stand right behind the command: `ARG --{flag} {name}`");
            (codes::MISPLACED_FLAG, message, help)
        } else {
            let help = if text.raw.contains('=') {
                "write an `ARG` of its own for it".to_owned()
            } else {
                format!("for a default write `ARG {name} = {}`", shown(&text.raw))
            };
            (codes::UNEXPECTED_WORD, format!("`ARG` takes one name, not `{}`", shown(&text.raw)), help)
        };
        self.report.push(Diagnostic::error(code, message).with_label(text.span, "").with_help(help));
    }

    /// Reads `LET NAME=value` and `SET NAME=value`.
    pub(crate) fn assignment(&mut self, parts: Vec<Part>) -> Option<Assignment> {
        let command = self.command.name();
        let Pieces { flags: _, key, equals, text } = Pieces::new(parts);
        let key = self.key(key, &format!("`{command} NAME=value`"))?;
        let name = self.name(key)?;
        if !equals {
            let shown_name = shown(&name.value);
            let (message, span, help) = match text {
                Some(text) => (
                    format!("between `{shown_name}` and its value `=` is missing"),
                    text.span,
                    format!("write `{command} {shown_name} = {}`", shown(&text.raw)),
                ),
                None => (
                    format!("`{command} {shown_name}` has no value"),
                    name.span,
                    format!(
                        "write `{command} {shown_name}=value`; for an empty one, `{command} {shown_name}=`"
                    ),
                ),
            };
            let diagnostic = Diagnostic::error(codes::MISSING_VALUE, message).with_label(span, "");
            self.report.push(diagnostic.with_help(help));
            return None;
        }
        let value = text.unwrap_or_else(|| empty_behind(name.span));
        Some(Assignment { name, value })
    }

    /// Reads `ENV NAME=value` and `ENV NAME value`, and in `VERSION 1` several pairs.
    pub(crate) fn env(&mut self, parts: Vec<Part>) -> Option<Vec<Assignment>> {
        let Pieces { flags: _, key, equals, text } = Pieces::new(parts);
        let key = self.key(key, "`ENV NAME=value`")?;
        let key_end = key.span.end;
        let name = self.name(key)?;
        let Some(text) = text else { return Some(vec![Assignment { value: empty_behind(name.span), name }]) };
        if equals && self.edition >= Edition::One {
            return self.env_pairs(name, key_end, &text);
        }
        self.warn_of_pairs(&name, &text);
        Some(vec![Assignment { name, value: text }])
    }

    /// Reads what stands behind `ENV NAME=`: the value, and further pairs.
    fn env_pairs(&mut self, name: Spanned<String>, key_end: u32, text: &Word) -> Option<Vec<Assignment>> {
        let mut words = split_words(text).into_iter();
        let value = words.next().unwrap_or_else(|| empty_behind(name.span));
        let apart = value.span.start > key_end + 1;
        if apart && split_pair(&value).1.is_some() {
            // Is `B=2` in `A= B=2` the value of A, or a pair?
            let (name, value) = (shown(&name.value), shown(&text.raw));
            let message = format!("is `{value}` the value of `{name}`, or are these pairs?");
            let diagnostic = Diagnostic::error(codes::BAD_PAIR, message).with_label(text.span, "");
            let help = format!("write `{name}=\"{value}\"` or `{name}=\"\" {value}`");
            self.report.push(diagnostic.with_help(help));
            return None;
        }
        let mut pairs = vec![Assignment { name, value }];
        for word in words {
            let (key, value) = split_pair(&word);
            let Some(value) = value else {
                let before = &pairs[pairs.len() - 1];
                let message = format!("`{}` is no pair `NAME=value`", shown(&word.raw));
                let diagnostic = Diagnostic::error(codes::BAD_PAIR, message).with_label(word.span, "");
                let value = before.value.raw.replace('"', "");
                let help = format!(
                    "if it belongs to the value before it, quote that: `{}=\"{} {}\"`",
                    shown(&before.name.value),
                    shown(&value),
                    shown(&word.raw)
                );
                self.report.push(diagnostic.with_help(help));
                return None;
            };
            let name = self.name(key)?;
            pairs.push(Assignment { name, value });
        }
        Some(pairs)
    }

    /// Returns the part that should be a name, or says that there is none.
    fn key(&mut self, key: Option<Word>, example: &str) -> Option<Word> {
        if key.is_none() {
            self.missing(&format!("`{}` needs a name", self.command.name()), example);
        }
        key
    }

    /// Checks the name of a variable.
    fn name(&mut self, key: Word) -> Option<Spanned<String>> {
        let name = Spanned::new(key.raw, key.span);
        let valid = match self.command {
            // Programs may read any variable; a shell could not even pass these on.
            Command::Env => !name.value.is_empty() && !name.value.contains(['"', '\'', '$', '\\', '(', '`']),
            _ => is_identifier(&name.value),
        };
        if valid && !name.value.starts_with("--") {
            return Some(name);
        }
        let help = if let Some(flag) = name.value.strip_prefix("--") {
            let near = nearest(flag, ["required", "global"]).filter(|_| self.command == Command::Arg);
            Some(near.map_or_else(
                || format!("`{}` has no such flag", self.command.name()),
                |near| format!("did you mean `--{near}`?"),
            ))
        } else if self.command == Command::Arg && name.value.contains(':') {
            Some("the type of an argument needs `VERSION 1`".to_owned())
        } else if matches!(self.command, Command::Let | Command::Set) && name.value.ends_with(':') {
            Some("only an `ARG` has a type".to_owned())
        } else {
            None
        };
        self.bad_name(&name, help);
        None
    }

    /// Warns where `A=1 B=2` was meant as two pairs: here the value of `A` is `1 B=2`.
    fn warn_of_pairs(&mut self, name: &Spanned<String>, value: &Word) {
        if value.raw.contains(['"', '\'', '(']) {
            return;
        }
        let mut start = 0;
        for word in value.raw.split(' ') {
            let key = word.split_once('=').map(|(key, _)| key);
            if start > 0
                && let Some(key) = key.filter(|key| is_identifier(key))
            {
                let message =
                    format!("`{}` becomes a part of the value of `{}`", shown(word), shown(&name.value));
                let span = cut(value, start, start + word.len()).span;
                let diagnostic = Diagnostic::warning(codes::ENV_PAIRS, message).with_label(span, "");
                let help = format!("write `ENV {}=…` on a line of its own, or quote the value", shown(key));
                self.report.push(diagnostic.with_help(help));
                return;
            }
            start += word.len() + 1;
        }
    }
}

/// An empty word right behind `span`.
fn empty_behind(span: Span) -> Word {
    Word { raw: String::new(), span: Span { start: span.end, ..span } }
}
