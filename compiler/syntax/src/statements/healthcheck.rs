//! `HEALTHCHECK NONE` and `HEALTHCHECK [flags] CMD command`.

use rb_diag::{Diagnostic, Span};

use super::Reader;
use super::run::divide;
use super::text::cut;
use crate::entries::Part;
use crate::flags::{refuse_late_flags, tables, take_flags};
use crate::report::shown;
use crate::{CommandLine, Healthcheck, Probe, Word, codes};

const FLAGS: [&str; 5] = ["interval", "timeout", "start-period", "start-interval", "retries"];

impl Reader<'_> {
    pub(crate) fn healthcheck(&mut self, parts: Vec<Part>) -> Option<Healthcheck> {
        const EXAMPLE: &str = "`HEALTHCHECK CMD curl -f http://localhost/`, or `HEALTHCHECK NONE`";
        let table = &tables::HEALTHCHECK;
        let exec = parts
            .iter()
            .find_map(|part| if let Part::Exec(words) = part { Some(exec_span(words)) } else { None });
        let (mut words, rest) = divide(parts);
        let flags = take_flags(table, self.edition, &mut words, self.report);
        for (name, word) in FLAGS.into_iter().filter_map(|name| Some((name, flags.value(name)?))) {
            if matches!(word.raw.as_str(), "CMD" | "NONE") {
                let message = format!("`--{name}` has no value, or `{}` is it", word.raw);
                let diagnostic = Diagnostic::error(codes::MISSING_VALUE, message).with_label(word.span, "");
                self.report.push(diagnostic.with_help(format!("write `--{name}=VALUE {}`", word.raw)));
                return None;
            }
        }
        let mut words = words.into_iter();
        let Some(word) = words.next() else {
            self.missing("`HEALTHCHECK` needs `CMD` and a command, or `NONE`", EXAMPLE);
            return None;
        };
        let more: Vec<Word> = words.collect();
        if word.raw == "NONE" {
            self.nothing_more(table, &more);
            self.no_effect(&flags, &FLAGS, "on `NONE`");
            return Some(Healthcheck::None);
        }
        if word.raw != "CMD" {
            let message = format!("behind `HEALTHCHECK` follows `CMD` or `NONE`, not `{}`", shown(&word.raw));
            let diagnostic = Diagnostic::error(codes::UNEXPECTED_WORD, message).with_label(word.span, "");
            let capitals = word.raw.to_ascii_uppercase();
            self.report.push(if matches!(capitals.as_str(), "CMD" | "NONE") {
                diagnostic.with_help(format!("it is written in capitals: `{capitals}`"))
            } else {
                diagnostic.with_help(format!("for example {EXAMPLE}"))
            });
            return None;
        }
        if let Some(span) = exec {
            let message = "`HEALTHCHECK` has no exec form";
            let diagnostic =
                Diagnostic::error(codes::WRONG_FORM, message).with_label(span.unwrap_or(word.span), "");
            self.report
                .push(diagnostic.with_help("write the command as one text: `HEALTHCHECK CMD curl -f …`"));
            return None;
        }
        let text =
            rest.into_iter().find_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
        let Some(text) = text else {
            self.missing("behind `CMD` the command is missing", EXAMPLE);
            return None;
        };
        // What belongs in front of `CMD` is the command's own name else.
        let first = text.raw.split([' ', '\t', '=']).next().unwrap_or_default();
        if first.strip_prefix("--").is_some_and(|name| table.find(name, self.edition).is_some()) {
            let flag = cut(&text, 0, first.len());
            refuse_late_flags(table, self.edition, &[flag], self.report);
            return None;
        }
        Some(Healthcheck::Probe(Box::new(Probe {
            interval: flags.value("interval"),
            timeout: flags.value("timeout"),
            start_period: flags.value("start-period"),
            start_interval: flags.value("start-interval"),
            retries: flags.value("retries"),
            command: CommandLine::Shell(text),
        })))
    }
}

/// Returns where the strings of an array stand.
fn exec_span(words: &[Word]) -> Option<Span> {
    words.iter().map(|word| word.span).reduce(Span::to)
}
