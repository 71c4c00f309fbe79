//! `--mount=type=cache,target=/path,…`: what of it can be checked before variables are filled in.
//!
//! In: the word as written. Out: diagnostics alone, as the word is read again once its value is known. A word with a
//! variable or an escape in it is left to that.
//! Source: earthly-language, "Commands", RUN.

use rb_diag::{Diagnostic, Span};

use super::text::{cut, quote_around, settled};
use crate::report::{Report, nearest, shown};
use crate::{Edition, Word, codes};

const TYPES: [&str; 7] = ["cache", "tmpfs", "secret", "bind", "ssh", "bind-experimental", "ssh-experimental"];

/// Keys that take a value.
const KEYS: [&str; 13] = [
    "type",
    "target",
    "dst",
    "destination",
    "source",
    "src",
    "id",
    "sharing",
    "mode",
    "chmod",
    "size",
    "uid",
    "gid",
];
/// Keys that may stand alone.
const SWITCHES: [&str; 3] = ["ro", "readonly", "required"];
/// Keys of `VERSION 1`.
const LATER_KEYS: [&str; 1] = ["from"];
const LATER_SWITCHES: [&str; 2] = ["rw", "readwrite"];

const SHARING: [&str; 3] = ["locked", "shared", "private"];

/// Checks the value of one `--mount`.
pub(crate) fn check(word: &Word, edition: Edition, report: &mut Report) {
    let Some(text) = settled(&word.raw) else { return };
    let quotes = usize::from(quote_around(&word.raw).is_some());
    let mut kind = None;
    let mut target = false;
    let mut start = quotes;
    for field in text.split(',') {
        let span = cut(word, start, start + field.len()).span;
        start += field.len() + 1;
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        if let Err(problem) = check_field(key, value, edition) {
            report.push(problem.at(span));
            // One word too many or too few changes the meaning of the rest.
            return;
        }
        kind = kind.or(value.filter(|_| key == "type"));
        target |= matches!(key, "target" | "dst" | "destination");
    }
    match kind {
        None => {
            let help = format!("begin with `type=`: {}", list(&TYPES));
            report.push(Problem::new("the mount has no `type`", help).at(word.span));
        }
        Some(kind) if !target && needs_target(kind, edition) => {
            let help = format!("write `type={kind},target=/path`");
            let message = format!("a mount of type `{kind}` needs a `target`");
            report.push(Problem::new(message, help).at(word.span));
        }
        Some(_) => {}
    }
}

fn needs_target(kind: &str, edition: Edition) -> bool {
    matches!(kind, "cache" | "tmpfs") || (kind == "bind" && edition >= Edition::One)
}

/// What is wrong with a mount.
struct Problem {
    message: String,
    help: String,
}

impl Problem {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    fn at(self, span: Span) -> Diagnostic {
        Diagnostic::error(codes::BAD_MOUNT, self.message).with_label(span, "").with_help(self.help)
    }
}

fn check_field(key: &str, value: Option<&str>, edition: Edition) -> Result<(), Problem> {
    let is_later = |keys: &[&str]| keys.contains(&key) && edition >= Edition::One;
    if SWITCHES.contains(&key) || is_later(&LATER_SWITCHES) {
        return match value {
            None | Some("true" | "false") => Ok(()),
            Some(other) => Err(Problem::new(
                format!("`{key}` of a mount is on or off, it cannot be `{}`", shown(other)),
                format!("write `{key}`, or take it away"),
            )),
        };
    }
    if LATER_KEYS.contains(&key) && edition < Edition::One {
        let help = "copy from a target instead: `COPY +target/path destination`; `VERSION 1` has it";
        return Err(Problem::new(format!("mounts have no `{key}` here"), help));
    }
    if key.is_empty() {
        return Err(Problem::new("the mount has an empty part", "take a `,` away"));
    }
    if TYPES.contains(&key) && value.is_none() {
        return Err(Problem::new(format!("mounts have no `{key}`"), format!("did you mean `type={key}`?")));
    }
    if !KEYS.contains(&key) && !is_later(&LATER_KEYS) {
        let later = || LATER_KEYS.into_iter().chain(LATER_SWITCHES).filter(|_| edition >= Edition::One);
        let known = || KEYS.into_iter().chain(SWITCHES).chain(later());
        let help = nearest(key, known()).map_or_else(
            || format!("there are {}", list(&known().collect::<Vec<_>>())),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(Problem::new(format!("mounts have no `{}`", shown(key)), help));
    }
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Err(Problem::new(
            format!("`{key}` of the mount has no value"),
            format!("write `{key}=VALUE`"),
        ));
    };
    match key {
        "type" => one_of(key, value, &TYPES),
        "sharing" => one_of(key, value, &SHARING),
        "mode" | "chmod" if !value.bytes().all(|byte| matches!(byte, b'0'..=b'7')) => Err(Problem::new(
            format!("`{key}` of the mount cannot be `{}`", shown(value)),
            "write the mode in octal digits: `mode=0644`",
        )),
        "uid" | "gid" if value.parse::<u32>().is_err() => Err(Problem::new(
            format!("`{key}` of the mount cannot be `{}`", shown(value)),
            format!("write a number: `{key}=1000`"),
        )),
        _ => Ok(()),
    }
}

fn one_of(key: &str, value: &str, values: &[&'static str]) -> Result<(), Problem> {
    if values.contains(&value) {
        return Ok(());
    }
    let help = nearest(value, values.iter().copied())
        .map_or_else(|| format!("it is one of {}", list(values)), |near| format!("did you mean `{near}`?"));
    Err(Problem::new(format!("`{key}` of a mount cannot be `{}`", shown(value)), help))
}

/// Lists words for a message.
fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(raw: &str) -> Vec<(String, u32)> {
        findings_of(Edition::Earthly08, raw)
    }

    fn findings_of(edition: Edition, raw: &str) -> Vec<(String, u32)> {
        let span = Span { end: raw.len() as u32, ..Span::default() };
        let mut report = Report::default();
        check(&Word { raw: raw.to_owned(), span }, edition, &mut report);
        report.finish().into_iter().map(|found| (found.message, found.labels[0].span.start)).collect()
    }

    #[test]
    fn good_mounts_pass() {
        for mount in [
            "type=cache,target=/root/.cache,id=go,sharing=shared,chmod=0755",
            "\"type=cache,target=/a b\"",
            "type=tmpfs,target=/tmp,size=64m",
            "type=secret,id=+secrets/x,target=/root/.npmrc,mode=0400",
            "type=bind-experimental,source=a,target=/b,ro",
            "type=ssh-experimental",
            "type=ssh,id=github,target=/agent,uid=1000,gid=1000,mode=0600,required",
            "type=secret,id=x,required=false",
            "$MOUNT",
            "type=cach$E,nonsense",
        ] {
            assert!(findings(mount).is_empty(), "{mount}");
        }
    }

    #[test]
    fn trees_of_elsewhere_are_of_version_1() {
        let of_one = |raw| findings_of(Edition::One, raw);
        for mount in [
            "type=bind,source=src,target=/src,rw",
            "type=bind,from=+t,source=/a,target=/b,readwrite=false",
            "type=cache,from=+t/a,target=/b",
        ] {
            assert!(of_one(mount).is_empty(), "{mount}: {:?}", of_one(mount));
        }
        assert_eq!(of_one("type=bind,source=a"), [("a mount of type `bind` needs a `target`".to_owned(), 0)]);
        assert_eq!(of_one("type=bind,target=/a,from"), [("`from` of the mount has no value".to_owned(), 20)]);
        assert_eq!(findings("type=bind,target=/a,rw"), [("mounts have no `rw`".to_owned(), 20)]);
    }

    #[test]
    fn the_field_is_marked() {
        let one = |raw, message: &str, at| assert_eq!(findings(raw), [(message.to_owned(), at)], "{raw}");
        one("type=cach,target=/x", "`type` of a mount cannot be `cach`", 0);
        one("'type=cache,taget=/x'", "mounts have no `taget`", 12);
        one("type=cache,target=/x,sharing=open", "`sharing` of a mount cannot be `open`", 21);
        one("target=/x", "the mount has no `type`", 0);
        one("type=cache", "a mount of type `cache` needs a `target`", 0);
        one("type=bind,from=+x", "mounts have no `from` here", 10);
        one("type=tmpfs,target=/x,mode=rwx", "`mode` of the mount cannot be `rwx`", 21);
        one("type=ssh,uid=me", "`uid` of the mount cannot be `me`", 9);
        one("type=secret,id", "`id` of the mount has no value", 12);
    }
}
