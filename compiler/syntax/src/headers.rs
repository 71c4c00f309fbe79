//! Headers: where targets and functions start, and what is wrong with their names.

use std::collections::btree_map::Entry as Slot;

use rb_diag::{Diagnostic, Span, Spanned};

use crate::commands;
use crate::entries::{Header, HeaderKind};
use crate::file::{Builder, Home};
use crate::report::shown;
use crate::statements::{is_function_name, is_target_name};
use crate::{Recipe, codes, docs};

impl Builder<'_> {
    pub(crate) fn header(&mut self, header: Header) {
        let Header { kind, name, indented } = header;
        self.close_recipe(Some(name.span));
        let is_command = commands::names(self.edition).any(|command| command == name.value);
        let function = match kind {
            HeaderKind::Target => false,
            HeaderKind::Function => true,
            HeaderKind::Loose { rest } => {
                let function = rest.is_none() && !is_command && is_function_name(&name.value);
                self.loose_header(&name, indented, rest, function);
                function
            }
        };
        self.home = Home::Nowhere;
        if function {
            self.awaiting_function = Some(name.clone());
        }
        if name.value == "base" {
            let diagnostic = Diagnostic::error(codes::RESERVED_TARGET_NAME, "no target can be called `base`");
            let help = "`+base` is what stands above the first target; choose another name";
            self.report.push(diagnostic.with_label(name.span, "").with_help(help));
            return;
        }
        match self.names.entry(name.value.clone()) {
            Slot::Vacant(slot) => {
                slot.insert(name.span);
            }
            Slot::Occupied(first) => {
                let (code, what) = if function {
                    (codes::DUPLICATE_FUNCTION, "functions")
                } else {
                    (codes::DUPLICATE_TARGET, "targets")
                };
                let message = format!("there are two {what} `{}`", shown(&name.value));
                let diagnostic = Diagnostic::error(code, message)
                    .with_label(name.span, "the second one")
                    .with_label(*first.get(), "the first one");
                self.report.push(diagnostic.with_help("rename one of them"));
                return;
            }
        }
        let doc = docs::of_recipe(&self.comments, &name.value);
        let recipe = Recipe { name, doc, body: Vec::new() };
        if function {
            self.home = Home::Function;
            self.buildfile.functions.push(recipe);
        } else {
            self.home = Home::Target;
            self.buildfile.targets.push(recipe);
        }
    }

    /// Reports a function whose first line does not say that it is one.
    pub(crate) fn missing_function(&mut self, name: &Spanned<String>) {
        let shown_name = shown(&name.value);
        let word = self.function_word();
        let diagnostic = if commands::names(self.edition).any(|command| command == name.value) {
            let message = format!("`{shown_name}` is a command, not a target or a function");
            Diagnostic::error(codes::BAD_TARGET_NAME, message)
                .with_help(format!("write `{shown_name}` without a colon"))
        } else {
            let message = format!("the first line of the function `{shown_name}` is not `{word}`");
            let help =
                format!("write `{word}` below the header; the name of a target starts with a small letter");
            Diagnostic::error(codes::MISSING_FUNCTION, message).with_help(help)
        };
        self.report.push(diagnostic.with_label(name.span, ""));
    }

    /// Says what is wrong with a header that is not quite one.
    fn loose_header(&mut self, name: &Spanned<String>, indented: bool, rest: Option<Span>, function: bool) {
        let valid = function || is_target_name(&name.value);
        let shown_name = shown(&name.value);
        if indented {
            let diagnostic =
                Diagnostic::error(codes::INDENTED, format!("the header `{shown_name}` is indented"));
            self.report.push(diagnostic.with_label(name.span, "").with_help("start it in the first column"));
        } else if let Some(command) = commands::names(self.edition).find(|command| *command == name.value) {
            let diagnostic =
                Diagnostic::error(codes::BAD_TARGET_NAME, format!("`{command}` is a command, not a target"));
            self.report.push(
                diagnostic.with_label(name.span, "").with_help(format!("write `{command}` without a colon")),
            );
        } else if !valid {
            let message = format!("`{shown_name}` cannot be the name of a target");
            let diagnostic = Diagnostic::error(codes::BAD_TARGET_NAME, message).with_label(name.span, "");
            let mended = name.value.to_lowercase().replace('_', "-");
            let help = if is_target_name(&mended) {
                format!("did you mean `{}`?", shown(&mended))
            } else {
                "names start with a small letter and hold letters, digits, `.` and `-`".to_owned()
            };
            self.report.push(diagnostic.with_help(help));
        } else if let Some(rest) = rest {
            let message = format!("the header `{shown_name}` is not alone on its line");
            let diagnostic = Diagnostic::error(codes::HEADER_NOT_ALONE, message).with_label(rest, "");
            let help = if self.file.slice(rest).starts_with('+') {
                "what a target needs is named below it: `BUILD +other`"
            } else {
                "start what follows on the next line, indented"
            };
            self.report.push(diagnostic.with_help(help));
        } else {
            let message = format!("between `{shown_name}` and the colon there is a blank");
            let diagnostic = Diagnostic::error(codes::BAD_TARGET_NAME, message).with_label(name.span, "");
            self.report.push(diagnostic.with_help(format!("write `{shown_name}:`")));
        }
    }
}
