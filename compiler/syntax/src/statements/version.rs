//! `VERSION [--feature]… EDITION`

use rb_diag::{Diagnostic, Span, Spanned};

use super::only_words;
use crate::entries::Part;
use crate::report::{Report, nearest, shown};
use crate::{Edition, Version, Word, codes};

/// Feature flags of Earthly's VERSION, oldest first. Each is on, or comes later with the command it belongs to.
const FEATURES: [&str; 48] = [
    "exec-after-parallel",
    "parallel-load",
    "use-registry-for-with-docker",
    "for-in",
    "no-implicit-ignore",
    "referenced-save-only",
    "require-force-for-unsafe-saves",
    "use-copy-include-patterns",
    "check-duplicate-images",
    "ci-arg",
    "earthly-git-author-args",
    "earthly-locally-arg",
    "earthly-version-arg",
    "explicit-global",
    "git-commit-author-timestamp",
    "new-platform",
    "no-tar-build-output",
    "save-artifact-keep-own",
    "shell-out-anywhere",
    "use-cache-command",
    "use-chmod",
    "use-copy-link",
    "use-host-command",
    "use-no-manifest-list",
    "use-project-secrets",
    "wait-block",
    "no-network",
    "arg-scope-and-set",
    "use-docker-ignore",
    "pass-args",
    "global-cache",
    "cache-persist-option",
    "git-refs",
    "use-visited-upfront-hash-collection",
    "use-function-keyword",
    "no-use-registry-for-with-docker",
    "earthly-ci-runner-arg",
    "try",
    "wildcard-builds",
    "build-auto-skip",
    "allow-privileged-from-dockerfile",
    "run-with-aws",
    "wildcard-copy",
    "raw-output",
    "git-author-email-name-args",
    "allow-without-earthly-labels",
    "docker-cache",
    "run-with-aws-oidc",
];

const HELP: &str = "write `VERSION 1`; Earthly's 0.6, 0.7 and 0.8 are read too";

/// Reads the parts of a `VERSION` line; `span` is the whole line, `keyword` its first word.
pub(crate) fn read_version(
    parts: Vec<Part>,
    span: Span,
    keyword: Span,
    report: &mut Report,
) -> Option<Version> {
    let (flags, words): (Vec<_>, Vec<_>) =
        only_words(parts).into_iter().partition(|word| word.raw.starts_with("--"));
    let mut words = words.into_iter();
    let Some(word) = words.next() else {
        let diagnostic = Diagnostic::error(codes::BAD_VERSION, "`VERSION` needs a number");
        report.push(diagnostic.with_label(keyword, "").with_help(HELP));
        return None;
    };
    let edition = match word.raw.as_str() {
        "0.6" => Edition::Earthly06,
        "0.7" => Edition::Earthly07,
        "0.8" => Edition::Earthly08,
        "1" => Edition::One,
        other => {
            let message = format!("there is no version `{}` of the language", shown(other));
            report.push(
                Diagnostic::error(codes::BAD_VERSION, message).with_label(word.span, "").with_help(HELP),
            );
            return None;
        }
    };
    if let Some(extra) = words.next() {
        let message = format!("`VERSION` takes one number, not `{}`", shown(&extra.raw));
        report
            .push(Diagnostic::error(codes::BAD_VERSION, message).with_label(extra.span, "").with_help(HELP));
    }
    if let Some(flag) = flags.first().filter(|_| edition == Edition::One) {
        let message = format!("`VERSION 1` has no feature flags, such as `{}`", shown(&flag.raw));
        let diagnostic = Diagnostic::error(codes::UNKNOWN_FLAG, message).with_label(flag.span, "");
        report.push(diagnostic.with_help("take the flag away: every feature is on"));
    }
    if let Some(flag) = flags.iter().find(|flag| flag.raw.contains('=') && edition < Edition::One) {
        let message = format!("a feature flag has no value, as in `{}`", shown(&flag.raw));
        let diagnostic = Diagnostic::error(codes::BAD_FLAG_VALUE, message).with_label(flag.span, "");
        let name = flag.raw.split('=').next().unwrap_or_default();
        report.push(diagnostic.with_help(format!("write `{}`, or take it away", shown(name))));
    }
    let name =
        |flag: &Word| flag.raw.trim_start_matches("--").split('=').next().unwrap_or_default().to_owned();
    for flag in flags.iter().filter(|flag| edition < Edition::One && !FEATURES.contains(&name(flag).as_str()))
    {
        let message = format!("there is no feature flag `{}`", shown(&flag.raw));
        let near = nearest(&name(flag), FEATURES).map(|near| format!("--{near}"));
        let diagnostic = Diagnostic::error(codes::UNKNOWN_FLAG, message).with_label(flag.span, "");
        report.push(diagnostic.with_help("take the flag away").with_nearest(near.as_deref()));
    }
    let flags = flags.iter().map(|flag| {
        let name = flag.raw.strip_prefix("--").unwrap_or_default();
        Spanned::new(name.to_owned(), flag.span)
    });
    Some(Version { edition, flags: flags.collect(), span })
}
