//! `RUN --mount=`: comma-separated options, and what is wrong with them before any variable has a value.
//!
//! In: the flag's value. Out: its options, keys in lower case and known. A value with a variable in it is checked when
//! the step is converted; so is what depends on a type with a variable in it.
//! Source of the rules: BuildKit's frontend/dockerfile/instructions/commands_runmount.go; RFC 4180 for the commas.

use rb_diag::{Diagnostic, Span};

use super::report::{Report, shown, with_names};
use crate::{RunMount, Word, codes, go};

/// Every key. Those of the second list stand for true where they have no value.
const KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "id",
    "sharing",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
    "ro",
    "readonly",
    "rw",
    "readwrite",
    "required",
];
const SWITCHES: &[&str] = &["ro", "readonly", "rw", "readwrite", "required"];
const TYPES: &[&str] = &["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING: &[&str] = &["shared", "private", "locked"];

/// Reads one mount; `None` if its options cannot be parted, or nobody knows what kind of mount it is.
pub(super) fn read(value: &Word, report: &mut Report) -> Option<RunMount> {
    let mut mount = RunMount { span: value.span, options: Vec::new() };
    let mut has_kind = true;
    for field in fields(value, report)? {
        match option(&field) {
            Ok(option) => mount.options.push(option),
            Err(error) => {
                has_kind &= !is_type(&field);
                report.add(error);
            }
        }
    }
    // What else is wrong with it depends on that.
    if !has_kind {
        return None;
    }
    check_type(&mount, report);
    Some(mount)
}

/// Tells whether an option says what kind of mount it is.
fn is_type(field: &Word) -> bool {
    field.value.split_once('=').is_some_and(|(key, _)| key.eq_ignore_ascii_case("type"))
}

/// Parts a text at its commas; a field may stand in double quotes, which are doubled within.
fn fields(value: &Word, report: &mut Report) -> Option<Vec<Word>> {
    let fields = match go::csv_fields(&value.value) {
        Ok(fields) => fields,
        Err(reason) => {
            let message = format!("failed to parse csv mounts: {}", shown(&reason));
            let error = Diagnostic::error(codes::BAD_MOUNT, message).with_label(value.span, "");
            report.add(error.with_help(
                "quotes stand around a whole option, and are escaped: `--mount=type=bind,\\\"source=a,b\\\"`",
            ));
            return None;
        }
    };
    let mut start = value.span.start;
    let exact = is_exact(value) && !value.value.contains('"');
    let placed = fields.into_iter().map(|field| {
        let end = start + field.len() as u32;
        let span = if exact { Span { start, end, ..value.span } } else { value.span };
        start = end + 1;
        Word::new(field, span)
    });
    Some(placed.collect())
}

/// Returns whether a word stands in the file as it is, so that a part of it has a place of its own.
fn is_exact(word: &Word) -> bool {
    (word.span.end - word.span.start) as usize == word.value.len()
}

fn option(field: &Word) -> Result<(Word, Option<Word>), Diagnostic> {
    let (key, value) = match field.value.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (field.value.as_str(), None),
    };
    let exact = is_exact(field);
    let middle = field.span.start + key.len() as u32;
    let key_span = if exact { Span { end: middle, ..field.span } } else { field.span };
    let value_span =
        if exact { Span { start: (middle + 1).min(field.span.end), ..field.span } } else { field.span };
    let key = Word::new(key.to_lowercase(), key_span);
    let value = value.map(|value| Word::new(value.to_owned(), value_span));
    if !KEYS.contains(&key.value.as_str()) {
        let message = match &value {
            Some(_) => format!("unexpected key '{}' in '{}'", shown(&key.value), shown(&field.value)),
            None => format!("invalid field '{}' must be a key=value pair", shown(&field.value)),
        };
        let error =
            Diagnostic::error(codes::BAD_MOUNT, message).with_label(key.span, "a mount has no such option");
        return Err(with_names(error, &key.value, "options", KEYS.iter().copied()));
    }
    match &value {
        None if !SWITCHES.contains(&key.value.as_str()) => {
            let message = format!("invalid field '{}' must be a key=value pair", shown(&field.value));
            let error = Diagnostic::error(codes::BAD_MOUNT, message).with_label(field.span, "no value");
            return Err(error.with_help(format!("write `{}=VALUE`", key.value)));
        }
        Some(value) => check_value(&key.value, value)?,
        None => {}
    }
    Ok((key, value))
}

/// Tells whether there is a variable in the value of an option.
pub(crate) fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

/// Checks a value in which there is no variable.
fn check_value(key: &str, value: &Word) -> Result<(), Diagnostic> {
    let text = value.value.as_str();
    if text.contains('$') {
        if key == "from" && has_variable(text) {
            let message = "'from' doesn't support variable expansion, define alias stage instead";
            let error = Diagnostic::error(codes::BAD_MOUNT, message).with_label(value.span, "");
            return Err(error.with_help("write `FROM $IMAGE AS name` above, and `from=name` here"));
        }
        return Ok(());
    }
    let lower = text.to_lowercase();
    let told = |message: String, help: &str| Err(refusal(value.span, message, help));
    match key {
        "type" if !TYPES.contains(&lower.as_str()) => Err(no_name("unsupported mount type", value, TYPES)),
        "sharing" if !SHARING.contains(&lower.as_str()) => {
            Err(no_name("unsupported sharing value", value, SHARING))
        }
        key if SWITCHES.contains(&key) && go::parse_bool(text).is_none() => {
            told(format!("invalid value for {key}: {}", shown(text)), "write `true` or `false`")
        }
        "mode" if u32::from_str_radix(text, 8).is_err() => told(
            format!("invalid value {} for mode", shown(text)),
            "a mode is an octal number, such as `0755`",
        ),
        "uid" | "gid" if text.parse::<u32>().is_err() => {
            told(format!("invalid value {} for {key}", shown(text)), "an id is a number")
        }
        _ => Ok(()),
    }
}

fn no_name(what: &str, value: &Word, names: &[&str]) -> Diagnostic {
    let message = format!("{what} \"{}\"", shown(&value.value));
    let error = Diagnostic::error(codes::BAD_MOUNT, message).with_label(value.span, "");
    with_names(error, &value.value, "one of", names.iter().copied())
}

/// Checks which options a mount of this type takes.
fn check_type(mount: &RunMount, report: &mut Report) {
    let kind = match last(mount, &["type"]) {
        Some((_, Some(kind))) => kind.value.to_lowercase(),
        _ => "bind".to_owned(),
    };
    for (key, _) in mount.options.iter().filter(|_| TYPES.contains(&kind.as_str())) {
        let name = key.value.as_str();
        let taken_by: &[&str] = match name {
            "required" => &["secret", "ssh"],
            "size" => &["tmpfs"],
            "mode" | "uid" | "gid" => &["secret", "ssh", "cache"],
            "sharing" => &["cache"],
            _ => continue,
        };
        if !taken_by.contains(&kind.as_str()) {
            let message = format!("unexpected key '{name}' for mount type '{kind}'");
            let help = format!("`{name}` is for mounts of type {}", taken_by.join(", "));
            report.add(refusal(key.span, message, help));
        }
    }
    if kind == "secret" {
        check_secret(mount, report);
    }
}

/// Checks that it is clear which secret is meant.
fn check_secret(mount: &RunMount, report: &mut Report) {
    if let Some((key, _)) = last(mount, &["from"]) {
        let help = "secrets come from the command line: take this away";
        report.add(refusal(key.span, "secret mount should not have a from", help));
    }
    let (source, id) = (last(mount, &["source", "src"]), last(mount, &["id"]));
    if source.is_none() && id.is_none() && last(mount, &["target", "dst", "destination"]).is_none() {
        let message = "invalid secret mount. one of source, target required";
        report.add(refusal(mount.span, message, "write `type=secret,id=NAME`"));
    }
    if let (Some(_), Some((key, _))) = (source, id) {
        let help = "`source` is another word for `id`: take one of them away";
        report.add(refusal(key.span, "both source and id can't be set", help));
    }
}

/// Returns the last option under one of some keys: it counts.
fn last<'a>(mount: &'a RunMount, names: &[&str]) -> Option<&'a (Word, Option<Word>)> {
    mount.options.iter().rfind(|(key, _)| names.contains(&key.value.as_str()))
}

fn refusal(place: Span, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
    Diagnostic::error(codes::BAD_MOUNT, message).with_label(place, "").with_help(help)
}
