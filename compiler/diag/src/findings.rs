//! What is wrong in a file of settings: each finding says its place in the message, as `FILE:line:column`.
//!
//! In: a text, and what a reader of its format says of it. Out: diagnostics in the order of the text. The text itself is
//! not shown, and of texts in it none that stands in a wrong place: it may be an address with a password.

use std::ops::Range;
use std::sync::Arc;

use crate::{Diagnostic, Diagnostics, SourceFile, SourceId, nearest};

/// What was found in one text.
#[derive(Debug)]
pub struct Findings {
    source: SourceFile,
    /// Each with its first byte.
    found: Vec<(usize, Diagnostic)>,
}

impl Findings {
    /// Begins to look at a text, which is shown by this name.
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { source: SourceFile::new(SourceId::default(), name, text), found: Vec::new() }
    }

    /// Adds one.
    pub fn add(&mut self, code: &'static str, range: &Range<usize>, message: &str, help: impl Into<String>) {
        let at = self.source.position(u32::try_from(range.start).unwrap_or(u32::MAX));
        let message = format!("{}:{}:{}: {message}", self.source.name, at.line, at.column);
        self.found.push((range.start, Diagnostic::error(code, message).with_help(help)));
    }

    /// Adds what serde, or a reader of TOML, has against the text, in words of those who write it.
    pub fn refuse(&mut self, code: &'static str, range: &Range<usize>, message: &str) {
        self.add(code, range, &in_words(message), FORMS);
    }

    /// Adds a finding for each key that is not `known`; `place` tells in which table. `help` may know more of a name.
    pub fn check_keys<'a>(
        &mut self,
        code: &'static str,
        keys: impl IntoIterator<Item = (&'a str, Range<usize>)>,
        known: &[&str],
        place: &str,
        help: impl Fn(&str) -> Option<&'static str>,
    ) {
        for (name, range) in keys.into_iter().filter(|(name, _)| !known.contains(name)) {
            let help = match (help(name), nearest(name, known.iter().copied())) {
                (Some(help), _) => help.to_owned(),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("known keys: {}", known.join(", ")),
            };
            self.add(code, &range, &format!("there is no key `{name}`{place}"), help);
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns what was found.
    pub fn into_diagnostics(mut self) -> Diagnostics {
        self.found.sort_by_key(|(start, _)| *start);
        self.found.into_iter().map(|(_, found)| found).collect()
    }
}

/// How values look.
const FORMS: &str =
    "values are written `true`, `4`, `\"text\"` or `[\"one\", \"two\"]`, keys of a table below its `[name]`";

/// Says in words what a reader says in the terms of its own types.
fn in_words(message: &str) -> String {
    fn expected(rest: &str) -> Option<(String, &str)> {
        rest.rsplit_once(", expected ").map(|(was, wanted)| (found(was), kind(wanted)))
    }
    let told = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((was, wanted)) = told.and_then(expected) {
        return format!("this is {wanted}, not {was}");
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("{name} is missing");
    }
    if message.starts_with("invalid boolean") {
        // What begins with a letter, to the reader.
        return "this is no value: texts stand in quotes".to_owned();
    }
    match message {
        "duplicate key" => "this is here twice".to_owned(),
        other => other.to_owned(),
    }
}

/// What was written.
fn found(was: &str) -> String {
    let quoted = || was.split('`').nth(1).unwrap_or_default();
    match was.split([' ', '`']).next().unwrap_or_default() {
        "integer" | "floating" => format!("the number {}", quoted()),
        "boolean" => format!("`{}`", quoted()),
        "string" => "a text".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a table or a time".to_owned(),
        _ => was.to_owned(),
    }
}

/// What is to be written.
fn kind(wanted: &str) -> &str {
    match wanted {
        wanted if wanted.starts_with("a nonzero") => "a number, at least 1",
        "usize" | "u64" | "u32" | "u16" => "a number",
        "a map" => "a table",
        wanted if wanted.starts_with("struct ") => "a table",
        "a string" | "path string" => "a text",
        "a sequence" => "a list",
        "a boolean" => "`true` or `false`",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_in_the_order_of_the_text() {
        let mut findings = Findings::new("rb.toml", "jobs = 0\nrot = 1\n");
        let keys = [("jobs", 0..4), ("rot", 9..12)];
        let special = |name: &str| (name == "jobs").then_some("jobs are not for projects");
        findings.check_keys("x", keys, &["root"], "", special);
        findings.refuse("y", &(7..8), "invalid value: integer `0`, expected a nonzero usize");
        let found: Vec<_> = findings
            .into_diagnostics()
            .into_iter()
            .map(|found| (found.code, found.message, found.help.unwrap_or_default()))
            .collect();
        let told = |code, message: &str, help: &str| (code, message.to_owned(), help.to_owned());
        assert_eq!(
            found,
            [
                told("x", "rb.toml:1:1: there is no key `jobs`", "jobs are not for projects"),
                told("y", "rb.toml:1:8: this is a number, at least 1, not the number 0", FORMS),
                told("x", "rb.toml:2:1: there is no key `rot`", "did you mean `root`?"),
            ]
        );
    }

    #[test]
    fn types_are_said_in_words_and_texts_are_not_repeated() {
        for (message, words) in [
            ("invalid type: string \"hunter2\", expected a boolean", "this is `true` or `false`, not a text"),
            ("invalid type: string \"a, expected b\", expected a map", "this is a table, not a text"),
            (
                "invalid type: floating point `1.5`, expected a nonzero usize",
                "this is a number, at least 1, not the number 1.5",
            ),
            (
                "invalid type: integer `99999999999999999999` as i128, expected a nonzero usize",
                "this is a number, at least 1, not the number 99999999999999999999",
            ),
            ("invalid type: integer `3`, expected struct Network", "this is a table, not the number 3"),
            ("invalid type: boolean `true`, expected path string", "this is a text, not `true`"),
            ("invalid type: map, expected a sequence", "this is a list, not a table or a time"),
            ("missing field `cert`", "`cert` is missing"),
            ("duplicate key", "this is here twice"),
            ("invalid boolean, expected `false`", "this is no value: texts stand in quotes"),
            ("unclosed table, expected `]`", "unclosed table, expected `]`"),
        ] {
            assert_eq!(in_words(message), words, "{message}");
        }
    }
}
