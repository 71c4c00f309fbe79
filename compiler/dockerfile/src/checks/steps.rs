//! What is likely wrong with one instruction, seen from its stage.
//!
//! In: an instruction and what its stage has come to. Out: findings at it. Conversion calls these for each instruction of
//! a stage that is built, in order, and gives them to [`super::Checks`] with the instruction's own control.
//! Source: BuildKit's frontend/dockerfile/dockerfile2llb/validations.go, convert.go and convert_expose.go.

use std::sync::LazyLock;

use rb_diag::Span;
use regex::Regex;

use super::{Finding, Rule};
use crate::go;

/// Words in names of what must not be seen, and words with which they may.
static SECRET: LazyLock<Regex> =
    LazyLock::new(|| words("apikey|auth|credential|credentials|key|password|pword|passwd|secret|token"));
static PUBLIC: LazyLock<Regex> = LazyLock::new(|| words("public|file|version"));

fn words(words: &str) -> Regex {
    Regex::new(&format!("(?i)(?:_|^)(?:{words})(?:_|$)")).expect("the lists above are plain words")
}

/// Says that a key of `ARG` or `ENV` is named like a secret: it would be in the image's history.
pub fn secret(span: Span, instruction: &str, key: &str) -> Option<Finding> {
    let found = SECRET.is_match(key) && !PUBLIC.is_match(key);
    found.then(|| {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} {})",
            go::quote(key)
        );
        Finding::new(Rule::SecretsUsedInArgOrEnv, span, message)
    })
}

/// Says that a pair of `ENV` or `LABEL` is written without `=`; the keyword is given as typed.
pub fn legacy_pair(span: Span, keyword: &str) -> Finding {
    let message =
        format!(r#""{keyword} key=value" should be used instead of legacy "{keyword} key value" format"#);
    Finding::new(Rule::LegacyKeyValueFormat, span, message)
}

/// Says that `CMD` or `ENTRYPOINT` runs in a shell that nobody chose by `SHELL`; the keyword is given as typed.
pub fn json_recommended(span: Span, keyword: &str) -> Finding {
    let message = format!(
        "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
    );
    Finding::new(Rule::JSONArgsRecommended, span, message)
}

/// Says of an instruction that a later one of its stage takes its place; the later keyword is given as typed.
pub fn overridden(earlier: Span, keyword: &str) -> Finding {
    let message = format!(
        "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
    );
    Finding::new(Rule::MultipleInstructionsDisallowed, earlier, message)
}

/// Says that the first `WORKDIR` of a stage and those below it depends on the one of the base image.
pub fn relative_workdir(span: Span, path: &str) -> Finding {
    let message =
        format!("Relative workdir {} can have unexpected results if the base image changes", go::quote(path));
    Finding::new(Rule::WorkdirRelativePath, span, message)
}

/// Looks at a port of `EXPOSE`, `[[IP:]HOST:]PORT[/PROTOCOL]`, after variables have their values.
pub fn exposed_port(span: Span, port: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let container = port.rsplit(':').next().unwrap_or_default();
    let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
    if protocol != protocol.to_lowercase() {
        let message = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        found.push(Finding::new(Rule::ExposeProtoCasing, span, message));
    }
    if port[..port.len() - container.len()].chars().any(|character| character != ':') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        found.push(Finding::new(Rule::ExposeInvalidFormat, span, message));
    }
    found
}

/// Says that a file which is copied from the context is left out of it by `.dockerignore`.
///
/// Call it where there are such patterns and none begins with `!`: what those bring back is not seen in the patterns.
/// `hides` says whether a path or a directory above it is left out, `hides_all` whether a pattern is `*`, `**` or `**/*`.
pub fn ignored_file(
    span: Span,
    is_add: bool,
    path: &str,
    hides_all: bool,
    hides: impl FnOnce(&str) -> bool,
) -> Option<Finding> {
    let path = rb_path::clean(path);
    let is_root = matches!(path.as_str(), "." | "/");
    if is_root && !hides_all || !hides(&path) {
        return None;
    }
    let verb = if is_add { "Add" } else { "Copy" };
    let message = format!("Attempting to {verb} file {} that is excluded by .dockerignore", go::quote(&path));
    Some(Finding::new(Rule::CopyIgnoredFile, span, message))
}
