//! What goes into an image's configuration, one command each: `WORKDIR`, `USER`, `EXPOSE`, `VOLUME`, `STOPSIGNAL`,
//! `SHELL`; and `HOST`.

use rb_diag::{Diagnostic, Spanned};

use super::Reader;
use super::command_line::string;
use crate::entries::Part;
use crate::flags::{FlagTable, take_flags};
use crate::{HostEntry, Word, codes};

impl Reader<'_> {
    pub(crate) fn workdir(&mut self, words: Vec<Word>) -> Option<Word> {
        self.one_word(words, "`WORKDIR` needs a directory", "`WORKDIR /src`")
    }

    pub(crate) fn user(&mut self, words: Vec<Word>) -> Option<Word> {
        self.one_word(words, "`USER` needs a user", "`USER app`, or `USER 1000:1000`")
    }

    pub(crate) fn stop_signal(&mut self, words: Vec<Word>) -> Option<Word> {
        self.one_word(words, "`STOPSIGNAL` needs a signal", "`STOPSIGNAL SIGINT`")
    }

    pub(crate) fn expose(&mut self, mut words: Vec<Word>) -> Option<Vec<Word>> {
        self.no_flags(&mut words);
        if words.is_empty() {
            self.missing("`EXPOSE` needs a port", "`EXPOSE 8080`, or `EXPOSE 53/udp`");
            return None;
        }
        Some(words)
    }

    /// Reads `VOLUME path…` and `VOLUME ["path", …]`; a string of the array becomes a word in double quotes.
    pub(crate) fn volume(&mut self, parts: Vec<Part>) -> Option<Vec<Word>> {
        let mut words = Vec::new();
        for part in parts {
            match part {
                Part::Word(word) => words.push(word),
                Part::Exec(strings) => words.extend(strings.into_iter().map(quoted)),
                _ => {}
            }
        }
        self.no_flags(&mut words);
        let Some(first) = words.first() else {
            self.missing("`VOLUME` needs a path", "`VOLUME /data`");
            return None;
        };
        if first.raw.starts_with('[') {
            let message = "this is no JSON array of strings, so each word of it is a path";
            let diagnostic = Diagnostic::warning(codes::EXEC_FORM, message).with_label(first.span, "");
            self.report.push(diagnostic.with_help("write `VOLUME [\"/a\", \"/b\"]`, or `VOLUME /a /b`"));
        }
        Some(words)
    }

    /// Reads `SHELL ["program", "argument"…]`.
    pub(crate) fn shell(&mut self, parts: Vec<Part>) -> Option<Vec<Spanned<String>>> {
        const EXAMPLE: &str = "`SHELL [\"/bin/bash\", \"-c\"]`";
        let Some(part) = parts.into_iter().next() else {
            self.missing("`SHELL` needs a program and its arguments", EXAMPLE);
            return None;
        };
        match part {
            Part::Exec(strings) if !strings.is_empty() => Some(strings.into_iter().map(string).collect()),
            Part::Text(text) | Part::Word(text) => {
                let message = "`SHELL` is written as a JSON array of strings";
                let diagnostic = Diagnostic::error(codes::WRONG_FORM, message).with_label(text.span, "");
                self.report.push(diagnostic.with_help(format!("for example {EXAMPLE}")));
                None
            }
            _ => {
                self.missing("`SHELL` needs a program and its arguments", EXAMPLE);
                None
            }
        }
    }

    pub(crate) fn host(&mut self, mut words: Vec<Word>) -> Option<HostEntry> {
        self.no_flags(&mut words);
        let mut words = words.into_iter();
        let (Some(name), Some(address)) = (words.next(), words.next()) else {
            self.missing("`HOST` needs a name and an address", "`HOST db 10.0.0.2`");
            return None;
        };
        let rest: Vec<Word> = words.collect();
        self.nothing_more(&FlagTable::none("HOST"), &rest);
        rest.is_empty().then_some(HostEntry { name, address })
    }

    /// Reads the one word that a command takes.
    fn one_word(&mut self, mut words: Vec<Word>, lack: &str, example: &str) -> Option<Word> {
        self.no_flags(&mut words);
        let mut words = words.into_iter();
        let Some(word) = words.next() else {
            self.missing(lack, example);
            return None;
        };
        self.nothing_more(&FlagTable::none(self.command.name()), &words.collect::<Vec<_>>());
        Some(word)
    }

    /// Takes the flags off a command that has none.
    pub(crate) fn no_flags(&mut self, words: &mut Vec<Word>) {
        take_flags(&FlagTable::none(self.command.name()), self.edition, words, self.report);
    }
}

/// Turns a string of JSON into a word of the same value; variables in it are filled in as in any word.
fn quoted(word: Word) -> Word {
    let span = word.span;
    let raw = format!("\"{}\"", string(word).value.replace('\\', "\\\\").replace('"', "\\\""));
    Word { raw, span }
}
