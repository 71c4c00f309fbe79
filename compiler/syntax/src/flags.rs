//! Flags of commands: which there are, and reading them off the front of a command's words.
//!
//! As in Earthly: `--flag`, `--flag=value`, `--flag value`; `--` or the first word that is no flag ends them; flags
//! that are on or off take `=true` and `=false`.

use rb_diag::{Diagnostic, Span};

use crate::Word;
use crate::codes;
use crate::report::{Report, nearest, shown};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// It is on or off.
    Nothing,
    /// A value.
    Value,
}

/// Whether this version has a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// It does.
    Now,
    /// It says what is so anyway.
    Implied,
    /// Not yet.
    Later,
}

/// A flag of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlagSpec {
    /// Name without dashes.
    pub(crate) name: &'static str,
    pub(crate) takes: Takes,
    pub(crate) support: Support,
}

const fn switch(name: &'static str) -> FlagSpec {
    FlagSpec { name, takes: Takes::Nothing, support: Support::Now }
}

const fn value(name: &'static str) -> FlagSpec {
    FlagSpec { name, takes: Takes::Value, support: Support::Now }
}

const fn later(name: &'static str, takes: Takes) -> FlagSpec {
    FlagSpec { name, takes, support: Support::Later }
}

/// Flags every reference to a target will take.
const REFERENCE: [FlagSpec; 4] = [
    later("platform", Takes::Value),
    later("allow-privileged", Takes::Nothing),
    later("pass-args", Takes::Nothing),
    later("build-arg", Takes::Value),
];

/// Flags before the word of `FROM`.
pub(crate) const FROM: &[FlagSpec] = &REFERENCE;
/// Flags behind `FROM @host`.
pub(crate) const HOST: &[FlagSpec] = &[value("bind"), value("fingerprint")];
/// Flags of `RUN`.
pub(crate) const RUN: &[FlagSpec] = &[
    value("network"),
    switch("no-cache"),
    later("push", Takes::Nothing),
    later("entrypoint", Takes::Nothing),
    later("privileged", Takes::Nothing),
    later("secret", Takes::Value),
    later("ssh", Takes::Nothing),
    later("mount", Takes::Value),
    later("interactive", Takes::Nothing),
    later("interactive-keep", Takes::Nothing),
    later("aws", Takes::Nothing),
    later("oidc", Takes::Value),
    later("raw-output", Takes::Nothing),
];
/// Flags of `COPY`.
pub(crate) const COPY: &[FlagSpec] = &[
    switch("dir"),
    switch("if-exists"),
    switch("keep-ts"),
    switch("keep-own"),
    switch("symlink-no-follow"),
    value("chmod"),
    value("chown"),
    REFERENCE[0],
    REFERENCE[1],
    REFERENCE[2],
    REFERENCE[3],
];
/// Flags of `ARG`.
pub(crate) const ARG: &[FlagSpec] = &[switch("required"), switch("global")];
/// Flags of `SAVE ARTIFACT`. An artifact keeps its owner with or without `--keep-own`.
pub(crate) const SAVE_ARTIFACT: &[FlagSpec] = &[
    switch("if-exists"),
    switch("force"),
    switch("keep-ts"),
    FlagSpec { name: "keep-own", takes: Takes::Nothing, support: Support::Implied },
    switch("symlink-no-follow"),
];
/// Flags of `SAVE IMAGE`.
pub(crate) const SAVE_IMAGE: &[FlagSpec] = &[
    switch("push"),
    later("insecure", Takes::Nothing),
    later("no-manifest-list", Takes::Nothing),
    later("cache-hint", Takes::Nothing),
    later("cache-from", Takes::Value),
    later("without-earthly-labels", Takes::Nothing),
];
/// Flags before the word of `BUILD`.
pub(crate) const BUILD: &[FlagSpec] =
    &[REFERENCE[0], REFERENCE[1], REFERENCE[2], REFERENCE[3], later("auto-skip", Takes::Nothing)];
/// Commands without flags.
pub(crate) const NONE: &[FlagSpec] = &[];

/// The flags found at the front of a command.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    found: Vec<(&'static str, Found)>,
}

#[derive(Debug)]
enum Found {
    Switch(bool),
    Value(Word),
}

impl Flags {
    /// Returns whether a switch is on; of several the last counts.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        let last = self.found.iter().rev().find(|(found, _)| *found == name);
        matches!(last, Some((_, Found::Switch(true))))
    }

    /// Returns the values of a flag in order.
    pub(crate) fn values(&self, name: &str) -> Vec<Word> {
        let values = self.found.iter().filter(|(found, _)| *found == name);
        values
            .filter_map(|(_, found)| if let Found::Value(word) = found { Some(word.clone()) } else { None })
            .collect()
    }

    /// Returns the value of a flag; of several the last counts.
    pub(crate) fn value(&self, name: &str) -> Option<Word> {
        self.values(name).pop()
    }
}

/// Takes the flags off the front of `words`. `owner` is the command as messages call it.
///
/// A lone `--` is taken too and ends the flags.
pub(crate) fn take_flags(
    owner: &str,
    specs: &[FlagSpec],
    words: &mut Vec<Word>,
    report: &mut Report,
) -> Flags {
    let mut flags = Flags::default();
    let mut queue = std::mem::take(words).into_iter().peekable();
    while let Some(word) = queue.next_if(|word| word.raw.starts_with("--")) {
        if word.raw == "--" {
            break;
        }
        let Flag { name, name_span, value } = split_flag(&word);
        let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
            report.push(unknown_flag(owner, &name, name_span, specs));
            continue;
        };
        let found = match spec.takes {
            Takes::Value => match value.or_else(|| queue.next_if(|next| !next.raw.starts_with("--"))) {
                Some(value) => Some(Found::Value(value)),
                None => {
                    let diagnostic =
                        Diagnostic::error(codes::MISSING_VALUE, format!("`--{name}` has no value"));
                    report.push(
                        diagnostic.with_label(word.span, "").with_help(format!("write `--{name}=VALUE`")),
                    );
                    None
                }
            },
            Takes::Nothing => read_switch(&name, value, report).map(Found::Switch),
        };
        if spec.support == Support::Later {
            let message = format!("`--{name}` of `{owner}` is not part of this version of rb");
            report.push(Diagnostic::error(codes::UNSUPPORTED_FLAG, message).with_label(name_span, ""));
        }
        flags.found.extend(found.map(|found| (spec.name, found)));
    }
    *words = queue.collect();
    flags
}

/// Reports words that look like flags behind the first word that is none.
pub(crate) fn refuse_late_flags(owner: &str, specs: &[FlagSpec], words: &[Word], report: &mut Report) {
    for word in words.iter().filter(|word| word.raw.starts_with("--") && word.raw != "--") {
        let Flag { name, name_span, .. } = split_flag(word);
        report.push(if specs.iter().any(|spec| spec.name == name) {
            let message = format!("`--{name}` stands behind the words of `{owner}`");
            Diagnostic::error(codes::MISPLACED_FLAG, message)
                .with_label(name_span, "")
                .with_help(format!("flags stand right behind the command: `{owner} --{name} …`"))
        } else {
            unknown_flag(owner, &name, name_span, specs)
        });
    }
}

fn read_switch(name: &str, value: Option<Word>, report: &mut Report) -> Option<bool> {
    let Some(value) = value else { return Some(true) };
    match value.raw.as_str() {
        "true" => Some(true),
        "false" => Some(false),
        other => {
            let message = format!("`--{name}` is on or off, it cannot be `{}`", shown(other));
            let diagnostic = Diagnostic::error(codes::BAD_FLAG_VALUE, message).with_label(value.span, "");
            report.push(diagnostic.with_help(format!("write `--{name}` or `--{name}=false`")));
            None
        }
    }
}

fn unknown_flag(owner: &str, name: &str, span: Span, specs: &[FlagSpec]) -> Diagnostic {
    let message = format!("`{owner}` has no flag `--{}`", shown(name));
    let diagnostic = Diagnostic::error(codes::UNKNOWN_FLAG, message).with_label(span, "");
    let known = || specs.iter().filter(|spec| spec.support == Support::Now);
    if owner == "COPY" && name == "from" {
        return diagnostic.with_help("copy from a target: `COPY +target/path destination`");
    }
    match nearest(name, specs.iter().map(|spec| spec.name)) {
        Some(near) => diagnostic.with_help(format!("did you mean `--{near}`?")),
        None if known().next().is_some() => {
            let list: Vec<_> = known().map(|spec| format!("`--{}`", spec.name)).collect();
            diagnostic.with_help(format!("it has {}", list.join(", ")))
        }
        None => diagnostic,
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

/// Returns a part of a word. Where continued lines were joined within the word, the span is the whole word's.
pub(crate) fn cut(word: &Word, start: usize, end: usize) -> Word {
    let raw = word.raw.get(start..end).unwrap_or_default().to_owned();
    let whole = (word.span.end - word.span.start) as usize == word.raw.len();
    let span = if whole {
        Span {
            source: word.span.source,
            start: word.span.start + start as u32,
            end: word.span.start + end as u32,
        }
    } else {
        word.span
    };
    Word { raw, span }
}
