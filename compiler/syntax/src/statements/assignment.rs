//! `ARG NAME=value` and `ENV NAME=value`.

use rb_diag::{Diagnostic, Span, Spanned};

use super::Reader;
use crate::commands::Command;
use crate::entries::Part;
use crate::flags::{self, cut, take_flags};
use crate::report::{nearest, shown};
use crate::{Arg, Parsed, StmtKind, Word, codes};

/// `NAME = value` taken apart.
#[derive(Default)]
struct Assignment {
    flags: Vec<Word>,
    key: Option<Word>,
    equals: bool,
    text: Option<Word>,
}

impl Assignment {
    fn new(parts: Vec<Part>) -> Self {
        let mut assignment = Self::default();
        for part in parts {
            match part {
                Part::Word(word) => assignment.flags.push(word),
                Part::Key(key) => assignment.key = Some(key),
                Part::Equals => assignment.equals = true,
                Part::Text(text) => assignment.text = Some(text),
                Part::FlagsEnd | Part::Call { .. } | Part::Exec(_) => {}
            }
        }
        assignment
    }
}

impl Reader<'_> {
    pub(crate) fn arg(&mut self, parts: Vec<Part>) -> Option<Arg> {
        let Assignment { flags: mut words, key, equals, text } = Assignment::new(parts);
        let flags = take_flags("ARG", flags::ARG, &mut words, self.report);
        let name = self.name(key, "`ARG NAME=default`")?;
        if let Some(text) = text.as_ref().filter(|_| !equals) {
            let flag =
                ["required", "global"].into_iter().find(|flag| text.raw.starts_with(&format!("--{flag}")));
            let diagnostic = if let Some(flag) = flag {
                Diagnostic::error(
                    codes::MISPLACED_FLAG,
                    format!("`--{flag}` stands behind the words of `ARG`"),
                )
                .with_help(format!(
                    "flags stand right behind the command: `ARG --{flag} {}`",
                    shown(&name.value)
                ))
            } else {
                Diagnostic::error(
                    codes::UNEXPECTED_WORD,
                    format!("`ARG` takes one name, not `{}`", shown(&text.raw)),
                )
                .with_help(if text.raw.contains('=') {
                    "write an `ARG` of its own for it".to_owned()
                } else {
                    format!("for a default write `ARG {} = {}`", shown(&name.value), shown(&text.raw))
                })
            };
            self.report.push(diagnostic.with_label(text.span, ""));
            return None;
        }
        let default = equals.then(|| text.unwrap_or_else(|| empty_behind(name.span)));
        Some(Arg { required: flags.is_on("required"), global: flags.is_on("global"), name, default })
    }

    pub(crate) fn env(&mut self, parts: Vec<Part>) -> Option<StmtKind<Parsed>> {
        let Assignment { flags: _, key, equals: _, text } = Assignment::new(parts);
        let name = self.name(key, "`ENV NAME=value`")?;
        let value = text.unwrap_or_else(|| empty_behind(name.span));
        self.warn_of_pairs(&name, &value);
        Some(StmtKind::Env { name, value })
    }

    /// Checks the name of a variable.
    fn name(&mut self, key: Option<Word>, example: &str) -> Option<Spanned<String>> {
        let Some(key) = key else {
            self.missing(&format!("`{}` needs a name", self.command.name()), example);
            return None;
        };
        let name = Spanned::new(key.raw, key.span);
        let valid = match self.command {
            // Programs may read any variable; a shell could not even pass these on.
            Command::Env => !name.value.contains(['"', '\'', '$', '\\', '(', '`']),
            _ => is_identifier(&name.value),
        };
        if valid && !name.value.starts_with("--") {
            return Some(name);
        }
        let message = format!("`{}` cannot be the name of a variable", shown(&name.value));
        let diagnostic = Diagnostic::error(codes::BAD_NAME, message).with_label(name.span, "");
        let underscored = name.value.replace(['-', '.'], "_");
        let help = if let Some(flag) = name.value.strip_prefix("--") {
            let near = nearest(flag, ["required", "global"]).filter(|_| self.command == Command::Arg);
            near.map_or_else(
                || format!("`{}` has no such flag", self.command.name()),
                |near| format!("did you mean `--{near}`?"),
            )
        } else if is_identifier(&underscored) {
            format!("did you mean `{underscored}`?")
        } else {
            "names hold letters, digits and `_`, and start with no digit".to_owned()
        };
        self.report.push(diagnostic.with_help(help));
        None
    }

    /// Warns where `A=1 B=2` was meant as two pairs: here the value of `A` is `1 B=2`.
    fn warn_of_pairs(&mut self, name: &Spanned<String>, value: &Word) {
        if value.raw.contains(['"', '\'', '(']) {
            return;
        }
        let mut start = 0;
        for word in value.raw.split(' ') {
            let key = word.split_once('=').map(|(key, _)| key);
            if start > 0
                && let Some(key) = key.filter(|key| is_identifier(key))
            {
                let message =
                    format!("`{}` becomes a part of the value of `{}`", shown(word), shown(&name.value));
                let span = cut(value, start, start + word.len()).span;
                let diagnostic = Diagnostic::warning(codes::ENV_PAIRS, message).with_label(span, "");
                let help = format!("write `ENV {}=…` on a line of its own, or quote the value", shown(key));
                self.report.push(diagnostic.with_help(help));
                return;
            }
            start += word.len() + 1;
        }
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// An empty word right behind `span`.
fn empty_behind(span: Span) -> Word {
    Word { raw: String::new(), span: Span { start: span.end, ..span } }
}
