//! Flags of commands: reading them off the front of a command's words.
//!
//! As in Earthly: `--flag`, `--flag=value`, `--flag value`; `--` or the first word that is no flag ends them; flags
//! that are on or off take `=true` and `=false`. Which command has which flags stands in [`tables`].
//! **Invariant:** a flag that is not in the table of its command is reported and taken away, so the words behind it
//! are read as if it were not there.

pub(crate) mod tables;

use rb_diag::{Diagnostic, Span};

use crate::codes;
use crate::report::{Report, nearest, shown};
use crate::statements::text::{cut, is_open};
use crate::{Edition, Toggle, Word};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// It is on or off.
    Nothing,
    /// It is on or off, and variables may tell which.
    Toggle,
    /// A value.
    Value,
}

/// A flag of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlagSpec {
    /// Name without dashes.
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    /// Every value counts, not the last alone.
    repeats: bool,
    /// The first edition that has it.
    since: Edition,
    /// From this edition on it is only kept for old files, with what to write instead.
    deprecated: Option<(Edition, &'static str)>,
}

/// The flags of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlagTable {
    /// The command as messages call it.
    pub(crate) owner: &'static str,
    pub(crate) flags: &'static [FlagSpec],
}

impl FlagTable {
    /// Makes the table of a command without flags.
    pub(crate) const fn none(owner: &'static str) -> Self {
        Self { owner, flags: &[] }
    }

    /// Returns the flag of that name, if an edition has it.
    pub(crate) fn find(&self, name: &str, edition: Edition) -> Option<&'static FlagSpec> {
        self.flags.iter().find(|spec| spec.name == name && spec.since <= edition)
    }

    fn unknown(&self, name: &str, span: Span, edition: Edition) -> Diagnostic {
        let owner = self.owner;
        let message = format!("`{owner}` has no flag `--{}`", shown(name));
        let diagnostic = Diagnostic::error(codes::UNKNOWN_FLAG, message).with_label(span, "");
        if owner == "COPY" && name == "from" {
            let help = "copy from a target: `COPY +target/path destination`, where `target` ends with \
                        `SAVE ARTIFACT path`";
            return diagnostic.with_help(help);
        }
        let (from, host) = (&tables::FROM, &tables::FROM_HOST);
        if owner == from.owner && host.find(name, edition).is_some() {
            return diagnostic.with_help(format!("it stands behind the base: `FROM @host --{name}=VALUE`"));
        }
        if owner == host.owner && from.find(name, edition).is_some() {
            return diagnostic.with_help(format!("it stands before the base: `FROM --{name} … @host`"));
        }
        if self.flags.iter().any(|spec| spec.name == name) {
            return diagnostic.with_help(format!("`--{name}` needs `VERSION 1`"));
        }
        let known = || self.flags.iter().filter(|spec| spec.since <= edition && spec.deprecated.is_none());
        match nearest(name, known().map(|spec| spec.name)) {
            Some(near) => diagnostic.with_help(format!("did you mean `--{near}`?")),
            None if known().next().is_some() => {
                let list: Vec<_> = known().map(|spec| format!("`--{}`", spec.name)).collect();
                diagnostic.with_help(format!("it has {}", list.join(", ")))
            }
            None => diagnostic.with_help(format!("take it away; `{owner}` has no flags")),
        }
    }
}

/// The flags found at the front of a command.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    found: Vec<Found>,
    /// A lone `--` ends them, so what follows is no flag whatever it looks like.
    ended: bool,
}

#[derive(Debug)]
struct Found {
    name: &'static str,
    /// The dashes and the name.
    span: Span,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Toggle(Toggle),
    Word(Word),
}

impl Flags {
    fn last(&self, name: &str) -> Option<&Found> {
        self.found.iter().rev().find(|found| found.name == name)
    }

    /// Returns whether a switch is on; of several the last counts.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// Returns where a switch was turned on; of several the last counts.
    pub(crate) fn place(&self, name: &str) -> Option<Span> {
        self.last(name)
            .filter(|found| matches!(found.value, Value::Toggle(Toggle::On)))
            .map(|found| found.span)
    }

    /// Returns what a flag that variables may tell was set to; of several the last counts.
    pub(crate) fn toggle(&self, name: &str) -> Toggle {
        match self.last(name).map(|found| &found.value) {
            Some(Value::Toggle(toggle)) => toggle.clone(),
            Some(Value::Word(_)) | None => Toggle::Off,
        }
    }

    /// Returns the values of a flag in order.
    pub(crate) fn values(&self, name: &str) -> Vec<Word> {
        let values = self.found.iter().filter(|found| found.name == name);
        values
            .filter_map(|found| if let Value::Word(word) = &found.value { Some(word.clone()) } else { None })
            .collect()
    }

    /// Returns the value of a flag; of several the last counts.
    pub(crate) fn value(&self, name: &str) -> Option<Word> {
        self.values(name).pop()
    }

    /// Returns those of `names` that were given and not turned off, in the order of the text, and where.
    pub(crate) fn given(&self, names: &[&str]) -> Vec<(&'static str, Span)> {
        let given = self.found.iter().filter(|found| {
            names.contains(&found.name) && !matches!(found.value, Value::Toggle(Toggle::Off))
        });
        given.map(|found| (found.name, found.span)).collect()
    }
}

/// Takes the flags off the front of `words`.
///
/// A lone `--` is taken too and ends the flags.
pub(crate) fn take_flags(
    table: &FlagTable,
    edition: Edition,
    words: &mut Vec<Word>,
    report: &mut Report,
) -> Flags {
    let mut flags = Flags::default();
    let mut queue = std::mem::take(words).into_iter().peekable();
    while let Some(word) = queue.next_if(|word| word.raw.starts_with("--")) {
        if word.raw == "--" {
            flags.ended = true;
            break;
        }
        let Flag { name, name_span: span, value } = split_flag(&word);
        let Some(spec) = table.find(&name, edition) else {
            report.push(table.unknown(&name, span, edition));
            continue;
        };
        let value = if spec.takes == Takes::Value {
            let value = value.or_else(|| queue.next_if(|next| !next.raw.starts_with("--")));
            value.map(Value::Word).or_else(|| {
                let message = format!("`--{name}` has no value");
                let diagnostic = Diagnostic::error(codes::MISSING_VALUE, message).with_label(word.span, "");
                report.push(diagnostic.with_help(format!("write `--{name}=VALUE`")));
                None
            })
        } else {
            read_toggle(spec, edition, value, report).map(Value::Toggle)
        };
        if let Some((since, instead)) = spec.deprecated
            && since <= edition
        {
            let message = format!("`--{name}` of `{}` is only kept for old files", table.owner);
            let diagnostic = Diagnostic::warning(codes::DEPRECATED, message).with_label(span, "");
            report.push(diagnostic.with_help(instead));
        }
        let Some(value) = value else { continue };
        if let Some(first) = flags.last(spec.name)
            && spec.takes == Takes::Value
            && !spec.repeats
        {
            let message = format!("`--{name}` is given twice, and the last one counts");
            let diagnostic = Diagnostic::warning(codes::NO_EFFECT, message)
                .with_label(first.span, "this one has no effect")
                .with_label(span, "this one counts");
            report.push(diagnostic.with_help("take one of them away"));
        }
        flags.found.push(Found { name: spec.name, span, value });
    }
    *words = queue.collect();
    flags
}

/// Returns whether one of the words behind `flags` looks like a flag and may not.
pub(crate) fn has_late_flags<'a>(flags: &Flags, words: impl IntoIterator<Item = &'a Word>) -> bool {
    !flags.ended && words.into_iter().any(looks_like_flag)
}

/// Reports words that look like flags behind the first word that is none.
pub(crate) fn refuse_late_flags(table: &FlagTable, edition: Edition, words: &[Word], report: &mut Report) {
    let owner = table.owner;
    for word in words.iter().filter(|word| looks_like_flag(word)) {
        let Flag { name, name_span, .. } = split_flag(word);
        report.push(if table.find(&name, edition).is_some() {
            let message = format!("`--{name}` stands behind the words of `{owner}`");
            Diagnostic::error(codes::MISPLACED_FLAG, message)
                .with_label(name_span, "")
                .with_help(format!("flags stand right behind the command: `{owner} --{name} …`"))
        } else {
            table.unknown(&name, name_span, edition)
        });
    }
}

/// Returns whether a word is written as flags are.
pub(crate) fn looks_like_flag(word: &Word) -> bool {
    word.raw.starts_with("--") && word.raw != "--"
}

fn read_toggle(
    spec: &FlagSpec,
    edition: Edition,
    value: Option<Word>,
    report: &mut Report,
) -> Option<Toggle> {
    let Some(value) = value else { return Some(Toggle::On) };
    // `{{ … }}` is an expression in our own edition alone.
    let open = |raw: &str| if edition >= Edition::One { is_open(raw) } else { raw.contains('$') };
    match value.raw.as_str() {
        "true" => Some(Toggle::On),
        "false" => Some(Toggle::Off),
        other if spec.takes == Takes::Toggle && open(other) => Some(Toggle::Word(value)),
        other => {
            let name = spec.name;
            let message = format!("`--{name}` is on or off, it cannot be `{}`", shown(other));
            let diagnostic = Diagnostic::error(codes::BAD_FLAG_VALUE, message).with_label(value.span, "");
            report.push(diagnostic.with_help(format!("write `--{name}` or `--{name}=false`")));
            None
        }
    }
}

/// `--name` or `--name=value`.
pub(crate) struct Flag {
    pub(crate) name: String,
    /// The dashes and the name.
    pub(crate) name_span: Span,
    pub(crate) value: Option<Word>,
}

/// Splits a word that starts with `--`.
pub(crate) fn split_flag(word: &Word) -> Flag {
    let raw = word.raw.strip_prefix("--").unwrap_or(&word.raw);
    match raw.split_once('=') {
        Some((name, _)) => {
            let equals = word.raw.len() - raw.len() + name.len();
            let name_span = cut(word, 0, equals).span;
            Flag { name: name.to_owned(), name_span, value: Some(cut(word, equals + 1, word.raw.len())) }
        }
        None => Flag { name: raw.to_owned(), name_span: word.span, value: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &FlagTable, edition: Edition, line: &str) -> (Flags, Vec<String>, Vec<&'static str>) {
        let word = |raw: &str| Word { raw: raw.to_owned(), span: Span::default() };
        let mut words = line.split(' ').map(word).collect();
        let mut report = Report::default();
        let flags = take_flags(table, edition, &mut words, &mut report);
        let found = report.finish().iter().map(|found| found.code).collect();
        (flags, words.into_iter().map(|word| word.raw).collect(), found)
    }

    #[test]
    fn flags_end_at_the_first_other_word_or_at_two_dashes() {
        let (flags, rest, found) = read(&tables::COPY, Edition::One, "--dir --chmod 0644 a --keep-ts b");
        assert!(flags.is_on("dir") && !flags.is_on("keep-ts") && found.is_empty());
        assert_eq!(flags.value("chmod").expect("it was given").raw, "0644");
        assert_eq!(rest, ["a", "--keep-ts", "b"]);
        let (flags, rest, _) = read(&tables::COPY, Edition::One, "--dir=false -- --dir b");
        assert!(!flags.is_on("dir"));
        assert_eq!(rest, ["--dir", "b"]);
    }

    #[test]
    fn only_toggles_take_variables() {
        let (flags, _, found) = read(&tables::RUN, Edition::One, "--no-cache=$X --push=$X a");
        assert!(matches!(flags.toggle("no-cache"), Toggle::Word(word) if word.raw == "$X"));
        assert_eq!(found, [codes::BAD_FLAG_VALUE]);
    }

    #[test]
    fn editions_differ() {
        assert_eq!(read(&tables::RUN, Edition::Earthly08, "--env=A b").2, [codes::UNKNOWN_FLAG]);
        assert!(read(&tables::RUN, Edition::One, "--env=A b").2.is_empty());
        assert!(read(&tables::SAVE_ARTIFACT, Edition::Earthly06, "--keep-own b").2.is_empty());
        assert_eq!(read(&tables::SAVE_ARTIFACT, Edition::Earthly07, "--keep-own b").2, [codes::DEPRECATED]);
    }
}
