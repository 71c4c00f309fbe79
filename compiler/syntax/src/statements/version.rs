//! `VERSION [--feature]… EDITION`

use rb_diag::{Diagnostic, Span, Spanned};

use super::only_words;
use crate::entries::Part;
use crate::report::{Report, shown};
use crate::{Edition, Version, codes};

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
    let flags = flags.iter().map(|flag| {
        let name = flag.raw.strip_prefix("--").unwrap_or_default();
        Spanned::new(name.to_owned(), flag.span)
    });
    Some(Version { edition, flags: flags.collect(), span })
}
