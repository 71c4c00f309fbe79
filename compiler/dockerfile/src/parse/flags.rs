//! Flags of an instruction: `--name=value` before its words.
//!
//! In: what follows the instruction's keyword. Out: its flags, and where its words start. Quotes and escapes are taken
//! off as they are read; `--` alone ends them.
//! **Invariant:** a flag that is not in the instruction's table is an error, and so is one that stands twice unless its
//! values are a list.
//! Source of the rules: BuildKit's frontend/dockerfile/parser/split_command.go and instructions/bflag.go.

use rb_diag::{Diagnostic, Span, Spanned};

use super::keyword::{Keyword, Takes};
use super::report::{Report, shown, with_names};
use crate::lines::Part;
use crate::{Word, codes};

/// A flag as it is written.
#[derive(Debug)]
pub(super) struct RawFlag<'a> {
    /// Without quotes and escapes.
    text: String,
    part: Part<'a>,
}

/// Parts flags from the words behind them.
pub(super) fn split<'a>(rest: Part<'a>, escape: char) -> (Vec<RawFlag<'a>>, Part<'a>) {
    let mut flags = Vec::new();
    let mut rest = rest;
    loop {
        let skipped = rest.text().len() - rest.text().trim_start().len();
        rest = rest.from(skipped);
        if !rest.text().starts_with("--") {
            return (flags, rest);
        }
        let (text, length) = read_flag(rest.text(), escape);
        let part = rest.slice(0..length);
        rest = rest.from(length);
        if text == "--" {
            return (flags, rest);
        }
        if !text.is_empty() {
            flags.push(RawFlag { text, part });
        }
    }
}

/// Reads one word; returns it without quotes and escapes, and how long it is as written.
fn read_flag(text: &str, escape: char) -> (String, usize) {
    let mut flag = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && character.is_whitespace() {
            return (flag, at);
        } else if quote.is_none() && matches!(character, '\'' | '"') {
            quote = Some(character);
        } else if character == escape {
            flag.extend(characters.next().map(|(_, escaped)| escaped));
        } else {
            flag.push(character);
        }
    }
    (flag, text.len())
}

/// Flags of one instruction that are in its table.
#[derive(Debug, Default)]
pub(super) struct Flags {
    found: Vec<Flag>,
}

#[derive(Debug)]
struct Flag {
    name: &'static str,
    /// `true` or `false` of a switch.
    value: Word,
}

impl Flags {
    /// Checks flags against the table of their instruction.
    pub(super) fn read(raw: Vec<RawFlag<'_>>, keyword: Keyword, report: &mut Report) -> Self {
        let mut flags = Self::default();
        for flag in raw {
            match flags.check(&flag, keyword) {
                Ok(flag) => flags.found.push(flag),
                Err(error) => report.add(error),
            }
        }
        flags
    }

    fn check(&self, raw: &RawFlag<'_>, keyword: Keyword) -> Result<Flag, Diagnostic> {
        let (flag, value) = match raw.text.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (raw.text.as_str(), None),
        };
        let name = flag.strip_prefix("--").unwrap_or(flag);
        let span = raw.part.span();
        let known = keyword.flags().iter().find(|(known, _)| *known == name);
        let (name, takes) = *known.ok_or_else(|| unknown(name, span, keyword))?;
        let first = self.found.iter().find(|found| found.name == name && takes != Takes::Values);
        if let Some(first) = first {
            return Err(bad(format!("duplicate flag specified: --{name}"), span, "the second one")
                .with_label(first.value.span, "the first one")
                .with_help("take one of them away"));
        }
        let value = match (takes, value) {
            (Takes::Switch, None) => Word::new("true".to_owned(), span),
            (Takes::Switch, Some(value)) => Word::new(read_switch(name, value, span)?, span),
            (Takes::Value | Takes::Values, Some(value)) => raw.value(value),
            (Takes::Value | Takes::Values, None) => {
                return Err(bad(format!("missing a value on flag: --{name}"), span, "no value")
                    .with_help(format!("write `--{name}=VALUE`")));
            }
        };
        Ok(Flag { name, value })
    }

    /// Returns the value of a flag.
    pub(super) fn value(&self, name: &str) -> Option<Word> {
        self.values(name).into_iter().next()
    }

    /// Returns all values of a flag.
    pub(super) fn values(&self, name: &str) -> Vec<Word> {
        self.found.iter().filter(|flag| flag.name == name).map(|flag| flag.value.clone()).collect()
    }

    /// Returns whether a switch is on, if it is there.
    pub(super) fn switch(&self, name: &str) -> Option<Spanned<bool>> {
        self.value(name).map(|value| Spanned::new(value.value == "true", value.span))
    }
}

impl RawFlag<'_> {
    /// Returns the value with its place, which is the whole flag where quotes or escapes were taken off.
    fn value(&self, value: &str) -> Word {
        let written = self.part.text();
        let part = if written == self.text { self.part.from(written.len() - value.len()) } else { self.part };
        Word::new(value.to_owned(), part.span())
    }
}

/// Reads the value of a switch, in whichever case.
fn read_switch(name: &str, value: &str, span: Span) -> Result<String, Diagnostic> {
    let lower = value.to_lowercase();
    let (message, label) = match lower.as_str() {
        "true" | "false" => return Ok(lower),
        "" => (format!("missing a value on flag: --{name}"), "no value"),
        _ => {
            let value = shown(value);
            (format!("expecting boolean value for flag --{name}, not: {value}"), "neither true nor false")
        }
    };
    let help = format!("write `--{name}`, `--{name}=true` or `--{name}=false`");
    Err(bad(message, span, label).with_help(help))
}

fn unknown(name: &str, span: Span, keyword: Keyword) -> Diagnostic {
    let error = Diagnostic::error(codes::UNKNOWN_FLAG, format!("unknown flag: --{}", shown(name)))
        .with_label(span, format!("{keyword} has no such flag"));
    let others: Vec<&str> = Keyword::with_flag(name).map(Keyword::name).collect();
    let names: Vec<String> = keyword.flags().iter().map(|(name, _)| format!("--{name}")).collect();
    if !others.is_empty() {
        error.with_help(format!("`--{name}` is a flag of {}", others.join(" and ")))
    } else if names.is_empty() {
        error.with_help(format!("{keyword} takes no flags; behind `--` words may start with dashes"))
    } else {
        let what = format!("flags of {keyword}");
        with_names(error, &format!("--{name}"), &what, names.iter().map(String::as_str))
    }
}

fn bad(message: String, span: Span, label: &str) -> Diagnostic {
    Diagnostic::error(codes::BAD_FLAG, message).with_label(span, label)
}
