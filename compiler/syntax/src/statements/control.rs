//! The first lines of blocks: `IF`, `ELSE IF` and `FOR`.

use rb_diag::{Diagnostic, Span, Spanned};

use super::run::divide;
use super::text::cut;
use super::{ForHead, Reader, is_identifier};
use crate::commands::Command;
use crate::entries::Part;
use crate::flags::{looks_like_flag, refuse_late_flags, tables, take_flags};
use crate::report::shown;
use crate::{Condition, Word, codes};

impl Reader<'_> {
    /// Reads what decides an `IF` or `ELSE IF`.
    pub(crate) fn condition(&mut self, parts: Vec<Part>) -> Option<Condition> {
        let (mut words, rest) = divide(parts);
        let table = if self.command == Command::If { &tables::IF } else { &tables::ELSE_IF };
        let flags = take_flags(table, self.edition, &mut words, self.report);
        let flags = self.step_flags(&flags);
        let command = self.command_line(rest)?;
        Some(Condition { flags, command, span: self.line })
    }

    /// Reads `FOR [flags] NAME IN words…`.
    pub(crate) fn for_head(&mut self, parts: Vec<Part>) -> Option<ForHead> {
        const EXAMPLE: &str = "`FOR name IN a b c`";
        let (mut words, rest) = divide(parts);
        let flags = take_flags(&tables::FOR, self.edition, &mut words, self.report);
        let separators = flags.value("sep");
        let flags = self.step_flags(&flags);
        let mut words = words.into_iter();
        let Some(variable) = words.next() else {
            self.missing("`FOR` needs a name and words to go through", EXAMPLE);
            return None;
        };
        let items =
            rest.into_iter().find_map(|part| if let Part::Text(text) = part { Some(text) } else { None });
        let variable = Spanned::new(variable.raw, variable.span);
        if !is_identifier(&variable.value) {
            self.bad_name(&variable, None);
            return None;
        }
        // The rest is one text; its first word may be a flag that is late.
        if let Some(items) = items.as_ref().filter(|items| looks_like_flag(items)) {
            let end = items.raw.find([' ', '\t', '=']).unwrap_or(items.raw.len());
            let flag = cut(items, 0, end);
            if tables::FOR.find(flag.raw.trim_start_matches('-'), self.edition).is_some() {
                refuse_late_flags(&tables::FOR, self.edition, &[flag], self.report);
                return None;
            }
        }
        let follows = words.next().is_some_and(|word| word.raw == "IN");
        if !follows && variable.value == "IN" {
            self.missing("before `IN` the name is missing", EXAMPLE);
            return None;
        }
        if !follows {
            self.lacks_in(&variable, items.as_ref());
            return None;
        }
        let Some(items) = items else {
            let message = format!("behind `IN` the words for `{}` are missing", shown(&variable.value));
            self.missing(&message, EXAMPLE);
            return None;
        };
        Some(ForHead { variable, separators, flags, items })
    }

    /// Reports that between the name and the words there is no `IN`.
    fn lacks_in(&mut self, variable: &Spanned<String>, items: Option<&Word>) {
        let name = shown(&variable.value);
        let behind = Span { start: variable.span.end, ..variable.span };
        let (message, span) = match items {
            Some(text) if text.raw.split([' ', '\t']).next() == Some("in") => {
                ("`IN` is written in capitals".to_owned(), Span { end: text.span.start + 2, ..text.span })
            }
            Some(text) => (format!("behind `{name}` follows no `IN`"), text.span),
            None => (format!("behind `{name}` follows no `IN`"), behind),
        };
        let diagnostic = Diagnostic::error(codes::MISSING_WORDS, message).with_label(span, "");
        self.report.push(diagnostic.with_help(format!("write `FOR {name} IN a b c`")));
    }
}
