//! `IMPORT` and `PROJECT`.
//!
//! Source: earthly-language, "References": an alias has no `/` and no `:`, and a path whose last part is `.` or `..`
//! needs one.

use rb_diag::{Diagnostic, Spanned};

use super::text::settled;
use super::{Reader, reference};
use crate::flags::{has_late_flags, refuse_late_flags, tables, take_flags};
use crate::report::shown;
use crate::{Import, Parsed, Word, codes};

impl Reader<'_> {
    pub(crate) fn import(&mut self, mut words: Vec<Word>) -> Option<Import<Parsed>> {
        let table = &tables::IMPORT;
        let flags = take_flags(table, self.edition, &mut words, self.report);
        if has_late_flags(&flags, &words) {
            refuse_late_flags(table, self.edition, &words, self.report);
            return None;
        }
        let mut words = words.into_iter();
        let Some(project) = words.next().filter(|word| word.raw != "AS") else {
            self.missing("`IMPORT` needs a project", "`IMPORT ./lib`, or `IMPORT ./lib AS name`");
            return None;
        };
        let alias = match words.next() {
            None => None,
            Some(word) if word.raw == "AS" => match words.next() {
                Some(alias) => Some(self.alias(alias)?),
                None => {
                    let diagnostic =
                        Diagnostic::error(codes::MISSING_WORDS, "behind `AS` the name is missing");
                    let help = format!("write `IMPORT {} AS name`", shown(&project.raw));
                    self.report.push(diagnostic.with_label(word.span, "").with_help(help));
                    return None;
                }
            },
            Some(word) if word.raw == "as" => {
                let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, "`AS` is written in capitals");
                let help = format!("write `IMPORT {} AS name`", shown(&project.raw));
                self.report.push(diagnostic.with_label(word.span, "").with_help(help));
                return None;
            }
            Some(word) => {
                self.nothing_more(table, &[word]);
                return None;
            }
        };
        self.nothing_more(table, &words.collect::<Vec<_>>());
        self.check_project(&project, alias.is_some())?;
        Some(Import {
            span: project.span,
            project,
            alias,
            pass_args: flags.is_on("pass-args"),
            allow_privileged: flags.is_on("allow-privileged"),
        })
    }

    fn alias(&mut self, word: Word) -> Option<Spanned<String>> {
        let valid = !word.raw.starts_with(['.', '~'])
            && !word.raw.contains(['/', ':', '+', '$', '"', '\'', '\\', '(', ')', '=', '{']);
        if !valid {
            let message = format!("`{}` cannot be the name of an import", shown(&word.raw));
            let diagnostic = Diagnostic::error(codes::BAD_ALIAS, message).with_label(word.span, "");
            self.report.push(diagnostic.with_help("write a plain name, without `/`, `:` and variables"));
        }
        valid.then(|| Spanned::new(word.raw, word.span))
    }

    /// Reports what text alone tells to be no project.
    fn check_project(&mut self, word: &Word, named: bool) -> Option<()> {
        let Some(path) = settled(&word.raw) else { return Some(()) };
        let (code, message, help) = if let Some(plus) = reference::plus(path) {
            let project = path.get(..plus).unwrap_or_default();
            let message = format!("`IMPORT` takes a project, not one of its targets, `{}`", shown(path));
            let help = if project.is_empty() {
                "what this file has needs no import".to_owned()
            } else {
                format!("write `IMPORT {}`", shown(project))
            };
            (codes::BAD_REFERENCE, message, help)
        } else if !path.starts_with(['.', '/', '~']) && !path.contains(['/', ':']) {
            let message = format!("`{}` is a name, and an import needs a path", shown(path));
            (
                codes::BAD_REFERENCE,
                message,
                format!("for the folder beside this file write `./{}`", shown(path)),
            )
        } else if !named
            && matches!(path.trim_end_matches('/').rsplit('/').next(), Some("." | ".." | "" | "~"))
        {
            let message = format!("the import of `{}` needs a name", shown(path));
            (codes::BAD_ALIAS, message, format!("write `IMPORT {} AS name`", shown(path)))
        } else {
            return Some(());
        };
        self.report.push(Diagnostic::error(code, message).with_label(word.span, "").with_help(help));
        None
    }

    /// Reads `PROJECT org/name`, which is kept and changes nothing.
    pub(crate) fn project(&mut self, mut words: Vec<Word>) -> Option<Word> {
        self.no_flags(&mut words);
        let mut words = words.into_iter();
        let Some(name) = words.next() else {
            self.missing("`PROJECT` needs an organisation and a name", "`PROJECT org/name`");
            return None;
        };
        self.nothing_more(&crate::flags::FlagTable::none("PROJECT"), &words.collect::<Vec<_>>());
        let diagnostic = Diagnostic::warning(codes::NO_EFFECT, "`PROJECT` has no effect");
        self.report.push(diagnostic.with_label(self.keyword, "").with_help("take the line away"));
        Some(name)
    }
}
