//! Lines that are no command: what was meant?

use rb_diag::{Diagnostic, Spanned};

use crate::commands::{self, Command};
use crate::file::{Builder, Home};
use crate::report::{nearest, shown};
use crate::statements::is_target_name;
use crate::{Recipe, codes};

impl Builder<'_> {
    /// Reports a line that starts with no command. `lone`: the word stands alone, in the first column.
    pub(crate) fn unknown(&mut self, word: &Spanned<String>, lone: bool) {
        let edition = self.edition;
        let text = word.value.as_str();
        let capitals = text.to_ascii_uppercase();
        // The line below need not say again that there is no version.
        self.version_seen |= self.first == Some(word.span) && capitals == "VERSION";
        let begins = |part: &str| commands::names(edition).find(|name| name.split(' ').next() == Some(part));
        let mut message = format!("`{}` is no command", shown(text));
        let help = if let Some(character) = text.chars().find(|character| character.is_whitespace()) {
            let code = u32::from(character);
            Some(format!("there is a blank of another kind in it, U+{code:04X}; write a plain one"))
        } else if text == "SAVE" {
            message = "behind `SAVE` follows `ARTIFACT` or `IMAGE`".to_owned();
            Some("write `SAVE ARTIFACT path` or `SAVE IMAGE name`".to_owned())
        } else if Command::find(text).is_some_and(|command| !command.is_in(edition)) {
            message = format!("`{text}` is no command of this edition of the language");
            Some("`VERSION 1` has it".to_owned())
        } else if let Some(name) = begins(text) {
            message = format!("`{text}` alone is no command");
            Some(format!("did you mean `{name}`?"))
        } else if lone && is_target_name(text) {
            let command =
                begins(&capitals).map_or(String::new(), |_| format!(", for the command `{capitals}`"));
            self.lost_colon(word);
            Some(format!("for the header of a target write `{}:`{command}", shown(text)))
        } else if begins(&capitals).is_some() {
            Some(format!("commands are written in capitals: `{capitals}`"))
        } else if !text.starts_with(char::is_alphanumeric) {
            message = format!("the line starts with `{}`, which is no command", shown(text));
            Some("if it belongs to the line above, end that one with `\\`".to_owned())
        } else if let Some(name) = commands::names(edition).find(|name| glued(text, name)) {
            Some(format!("behind `{name}` a blank is missing"))
        } else if let Some(name) = nearest(text, commands::names(edition)) {
            Some(format!("did you mean `{name}`?"))
        } else if text.starts_with(|first: char| first.is_ascii_lowercase()) {
            Some(format!("to run a program write `RUN {} …`", shown(text)))
        } else {
            Some("a line starts with a command, such as `RUN` or `COPY`".to_owned())
        };
        let mut diagnostic = Diagnostic::error(codes::UNKNOWN_COMMAND, message).with_label(word.span, "");
        diagnostic.help = help;
        self.report.push(diagnostic);
    }

    /// Goes on as if a word that stands alone in the first column were a header.
    fn lost_colon(&mut self, name: &Spanned<String>) {
        if name.value != "base" && !self.names.contains_key(&name.value) {
            self.close_recipe(Some(name.span));
            self.home = Home::Target;
            self.names.insert(name.value.clone(), name.span);
            self.buildfile.targets.push(Recipe { name: name.clone(), doc: None, body: Vec::new() });
        }
    }
}

/// Returns whether `text` is the command `name` and something that is no letter right behind it.
fn glued(text: &str, name: &str) -> bool {
    text.strip_prefix(name).is_some_and(|rest| rest.starts_with(|first: char| !first.is_alphanumeric()))
}
