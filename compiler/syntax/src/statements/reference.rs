//! References to targets and artifacts, with their arguments.
//!
//! `[project]+target` and `[project]+target/path`; `\+` is a plus that means nothing. Source: earthly-language,
//! "References".

use rb_diag::{Diagnostic, Span, Spanned};

use super::Reader;
use crate::commands::Command;
use crate::flags::{self, cut, refuse_late_flags, split_flag, take_flags};
use crate::report::shown;
use crate::{Call, CallArg, Parsed, Word, codes};

/// Returns where the first `+` of a word stands that has no backslash before it.
pub(crate) fn plus(raw: &str) -> Option<usize> {
    let mut escaped = false;
    raw.bytes().position(|byte| {
        let found = byte == b'+' && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    })
}

/// Returns whether the word holds something that only its value tells.
fn varies(raw: &str) -> bool {
    raw.contains(['$', '"', '\'', '\\', '*', '?', '['])
}

/// Splits `+target/path`: the target's part ends at the first `/` behind the plus. Quotes around the whole are put
/// around the path alone.
fn split_artifact(word: &Word) -> (Word, Option<Word>) {
    let raw = word.raw.as_str();
    let quote = ['"', '\''].into_iter().find(|quote| {
        let inner = raw.strip_prefix(*quote).and_then(|raw| raw.strip_suffix(*quote));
        inner.is_some_and(|inner| !inner.contains(*quote))
    });
    let (start, end) = if quote.is_some() { (1, raw.len() - 1) } else { (0, raw.len()) };
    let slash = plus(raw).and_then(|plus| raw.get(plus..end)?.find('/').map(|slash| plus + slash));
    let path = slash.map(|slash| {
        let mut path = cut(word, slash, end);
        if let Some(quote) = quote {
            path.raw = format!("{quote}{}{quote}", path.raw);
        }
        path
    });
    (cut(word, start, slash.unwrap_or(end)), path)
}

impl Reader<'_> {
    /// Reads `BUILD +target [--ARG=value]…`.
    pub(crate) fn build(&mut self, mut words: Vec<Word>) -> Option<Call<Parsed>> {
        take_flags("BUILD", flags::BUILD, &mut words, self.report);
        if words.is_empty() {
            self.missing("`BUILD` needs a target", "`BUILD +target`");
            return None;
        }
        let target = words.remove(0);
        self.call(target, words)
    }

    /// Reads a reference to a target and its arguments.
    pub(crate) fn call(&mut self, target: Word, args: Vec<Word>) -> Option<Call<Parsed>> {
        let command = self.command.name();
        if let Some(plus) = plus(&target.raw) {
            let name = target.raw.get(plus + 1..).unwrap_or_default();
            if let Some((name, _)) = name.split_once('/').filter(|_| !varies(&target.raw)) {
                let message =
                    format!("`{command}` takes a target, and `{}` is an artifact", shown(&target.raw));
                let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(target.span, "");
                let whole = format!("{}+{name}", target.raw.get(..plus).unwrap_or_default());
                self.report.push(diagnostic.with_help(format!("name the target: `{}`", shown(&whole))));
                return None;
            }
        } else if !varies(&target.raw) {
            let message = format!("`{}` names no target", shown(&target.raw));
            let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(target.span, "");
            let help = if is_target_name(&target.raw) {
                format!("targets are written with a plus: `+{}`", shown(&target.raw))
            } else {
                "a target is written `+name`, or `./folder+name`".to_owned()
            };
            self.report.push(diagnostic.with_help(help));
            return None;
        }
        self.check_target_name(&target)?;
        let span = target.span;
        let args = self.call_args(args);
        Some(Call { target, span, args })
    }

    /// Reads a reference to an artifact, `+target/path`, and its arguments; `span` is all of it.
    pub(crate) fn artifact(
        &mut self,
        word: &Word,
        args: Vec<Word>,
        span: Span,
    ) -> Option<(Call<Parsed>, Word)> {
        let (target, path) = split_artifact(word);
        let Some(path) = path else {
            let message = format!("`{}` names a target, not one of its artifacts", shown(&word.raw));
            let diagnostic = Diagnostic::error(codes::BAD_REFERENCE, message).with_label(word.span, "");
            let help = if plus(&word.raw) == Some(0) {
                format!("write `{}/path`, or `{0}/` for all of them", shown(&word.raw))
            } else {
                "write `+target/path`; a plus in the name of a file is written `\\+`".to_owned()
            };
            self.report.push(diagnostic.with_help(help));
            return None;
        };
        self.check_target_name(&target)?;
        let args = self.call_args(args);
        Some((Call { target, span, args }, path))
    }

    /// Reports a target's name that cannot be one.
    fn check_target_name(&mut self, target: &Word) -> Option<()> {
        let Some(plus) = plus(&target.raw) else { return Some(()) };
        let name = target.raw.get(plus + 1..).unwrap_or_default();
        if is_target_name(name) || varies(&target.raw) {
            return Some(());
        }
        let span = cut(target, plus, target.raw.len()).span;
        let (message, help) = if name.is_empty() {
            ("behind `+` the name of a target is missing".to_owned(), "write `+name`")
        } else {
            (
                format!("`{}` cannot be the name of a target", shown(name)),
                "names start with a small letter and hold letters, digits, `.` and `-`",
            )
        };
        self.report
            .push(Diagnostic::error(codes::BAD_REFERENCE, message).with_label(span, "").with_help(help));
        None
    }

    /// Reads `--NAME=value` and `--NAME value`.
    fn call_args(&mut self, words: Vec<Word>) -> Vec<CallArg> {
        let mut args = Vec::new();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            if !word.raw.starts_with("--") || word.raw == "--" {
                let message = format!("`{}` is no argument for the target", shown(&word.raw));
                let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, message).with_label(word.span, "");
                let help = if self.command == Command::Build && plus(&word.raw).is_some() {
                    "write a `BUILD` of its own for each target"
                } else {
                    "arguments are written `--NAME=value`"
                };
                self.report.push(diagnostic.with_help(help));
                continue;
            }
            let flag = split_flag(&word);
            let specs = flags::BUILD;
            if specs.iter().any(|spec| spec.name == flag.name) {
                refuse_late_flags(self.command.name(), specs, std::slice::from_ref(&word), self.report);
                continue;
            }
            match flag.value.or_else(|| words.next_if(|next| !next.raw.starts_with("--"))) {
                Some(value) => {
                    let name_span =
                        Span { start: (flag.name_span.start + 2).min(flag.name_span.end), ..flag.name_span };
                    args.push(CallArg { name: Spanned::new(flag.name, name_span), value });
                }
                None => {
                    let message = format!("the argument `--{}` has no value", shown(&flag.name));
                    let diagnostic =
                        Diagnostic::error(codes::MISSING_VALUE, message).with_label(word.span, "");
                    self.report.push(diagnostic.with_help(format!("write `--{}=value`", shown(&flag.name))));
                }
            }
        }
        args
    }
}

/// Returns whether a target may be called so.
pub(crate) fn is_target_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_skips_escaped_ones() {
        assert_eq!(plus("./a+t"), Some(3));
        assert_eq!(plus(r"g\+\+"), None);
        assert_eq!(plus(r"c\\+t"), Some(3));
        assert_eq!(plus("a"), None);
    }
}
