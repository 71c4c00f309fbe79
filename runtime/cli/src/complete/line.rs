//! What is being typed: an option, the value of one, a command, or words behind a target.
//!
//! In: clap's table and the words up to the cursor. Out: a [`Place`]. Words are read as clap reads them; what it hands
//! over as it is ([`crate::args::Command::Word`], the words of `rb run`) begins with a target or an image.
//! clap_complete's own engine is not used: it knows nothing of words that are handed over, and takes a word behind an
//! option whose value needs an `=` for that value.

use clap::builder::ArgAction;
use clap::{Arg, Command};

/// What the last word is. `before` is what stands in that word before `text`, which is to be completed.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// The value of an option.
    Value { arg: &'a Arg, before: &'a str, text: &'a str },
    /// The name of an option; `given` are those that are there already.
    Option { command: &'a Command, given: Vec<&'a str>, text: &'a str },
    /// A command, where `command` has some and none is named yet, or the positional argument `arg`.
    Word { command: &'a Command, arg: Option<&'a Arg>, given: Vec<&'a str>, text: &'a str },
    /// A word behind the first of those that are handed over.
    Behind { command: &'a Command, given: Vec<&'a str>, words: &'a [String] },
}

/// Reads the words behind the program's name; the last one is being typed. `table` has been built.
pub(super) fn place<'a>(table: &'a Command, words: &'a [String]) -> Option<Place<'a>> {
    let (text, before) = words.split_last()?;
    let mut reader = Reader { command: table, positionals: 0, ended: false, waits: None, given: Vec::new() };
    for (at, word) in before.iter().enumerate() {
        if reader.hands_over(word) {
            return Some(Place::Behind {
                command: reader.command,
                given: reader.given,
                words: words.get(at..)?,
            });
        }
        reader.read(word);
    }
    Some(reader.last(text))
}

struct Reader<'a> {
    command: &'a Command,
    /// So many positional arguments of the command are there.
    positionals: usize,
    /// `--` ended the options.
    ended: bool,
    /// The option whose value comes next.
    waits: Option<&'a Arg>,
    /// Ids of the options that are there.
    given: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn is_plain(&self, word: &str) -> bool {
        self.waits.is_none() && (self.ended || word == "-" || !word.starts_with('-'))
    }

    /// Tells whether this word and all behind it are handed over.
    fn hands_over(&self, word: &str) -> bool {
        if !self.is_plain(word) || self.subcommand(word).is_some() {
            return false;
        }
        self.command.is_allow_external_subcommands_set()
            || self.positional().is_some_and(Arg::is_trailing_var_arg_set)
    }

    fn subcommand(&self, word: &str) -> Option<&'a Command> {
        (self.positionals == 0 && !self.ended).then(|| self.command.find_subcommand(word)).flatten()
    }

    /// Returns the positional argument that comes next; of the last one there may be several.
    fn positional(&self) -> Option<&'a Arg> {
        let all: Vec<&Arg> = self.command.get_positionals().collect();
        let several = |arg: &&&Arg| arg.get_num_args().is_some_and(|count| count.max_values() > 1);
        all.get(self.positionals).or_else(|| all.last().filter(several)).copied()
    }

    fn read(&mut self, word: &'a str) {
        if self.waits.take().is_some() {
            return;
        }
        if self.is_plain(word) {
            match self.subcommand(word) {
                Some(command) => self.command = command,
                None => self.positionals += 1,
            }
        } else if word == "--" {
            self.ended = true;
        } else if let Some(long) = word.strip_prefix("--") {
            let name = long.split_once('=').map_or(long, |(name, _)| name);
            if let Some(arg) = self.long(name) {
                self.given.push(arg.get_id().as_str());
                self.waits = (!long.contains('=') && takes_next(arg)).then_some(arg);
            }
        } else if let Some((arg, before)) = self.short_with_value(word) {
            self.waits = (before == word && takes_next(arg)).then_some(arg);
        }
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        let named = |arg: &&Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|names| names.contains(&name))
        };
        self.command.get_arguments().find(named)
    }

    /// Reads `-abc`: returns the first of them that takes a value, and the word up to that value.
    fn short_with_value(&mut self, word: &'a str) -> Option<(&'a Arg, &'a str)> {
        for (at, letter) in word.char_indices().skip(1) {
            let arg = self.command.get_arguments().find(|arg| arg.get_short() == Some(letter))?;
            self.given.push(arg.get_id().as_str());
            if takes_value(arg) {
                let end = at + letter.len_utf8();
                let end = end + usize::from(word.get(end..).is_some_and(|rest| rest.starts_with('=')));
                return Some((arg, word.get(..end).unwrap_or(word)));
            }
        }
        None
    }

    fn last(mut self, text: &'a str) -> Place<'a> {
        if let Some(arg) = self.waits {
            return Place::Value { arg, before: "", text };
        }
        if !self.ended && text.starts_with("--") {
            if let Some((name, value)) = text.split_once('=')
                && let Some(arg) =
                    self.long(name.strip_prefix("--").unwrap_or(name)).filter(|arg| takes_value(arg))
            {
                let before = text.strip_suffix(value).unwrap_or_default();
                return Place::Value { arg, before, text: value };
            }
            return Place::Option { command: self.command, given: self.given, text };
        }
        if !self.ended && text.starts_with('-') {
            let given = self.given.clone();
            if let Some((arg, before)) = self.short_with_value(text).filter(|(_, before)| *before != text) {
                return Place::Value { arg, before, text: text.strip_prefix(before).unwrap_or_default() };
            }
            return Place::Option { command: self.command, given, text };
        }
        Place::Word { command: self.command, arg: self.positional(), given: self.given, text }
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|count| count.takes_values())
}

/// Tells whether the next word is the value of an option that stands alone.
fn takes_next(arg: &Arg) -> bool {
    takes_value(arg) && !arg.is_require_equals_set()
}

/// Tells whether an option may be there twice.
pub(super) fn repeats(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append | ArgAction::Count)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Args;

    /// Says in short what the last of these words is.
    fn told(words: &[&str]) -> String {
        let mut table = Args::command();
        table.build();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match place(&table, &words).expect("there is a last word") {
            Place::Value { arg, before, text } => format!("{}: `{before}` `{text}`", arg.get_id()),
            Place::Option { command, given, text } => format!("{} {given:?} `{text}`", command.get_name()),
            Place::Word { command, arg, text, .. } => {
                format!("{} {} `{text}`", command.get_name(), arg.map_or("-", |arg| arg.get_id().as_str()))
            }
            Place::Behind { command, words, .. } => {
                format!("{} behind {}", command.get_name(), words.join(" "))
            }
        }
    }

    #[test]
    fn words_are_read_as_clap_reads_them() {
        for (words, expected) in [
            (&[""][..], "rb - ``"),
            (&["ru"], "rb - `ru`"),
            (&["+im"], "rb - `+im`"),
            (&["--no"], "rb [] `--no`"),
            (&["--no-cache", "-"], "rb [\"no_cache\"] `-`"),
            (&["--progress="], "progress: `--progress=` ``"),
            (&["--progress", "pl"], "progress: `` `pl`"),
            (&["-j"], "rb [] `-j`"),
            (&["-j4"], "jobs: `-j` `4`"),
            (&["-Po", "ty"], "output: `` `ty`"),
            (&["-o=ty"], "output: `-o=` `ty`"),
            // The value of --load needs a `=`, so what follows is a target.
            (&["--load", "+im"], "rb - `+im`"),
            (&["--load=po"], "load: `--load=` `po`"),
            (&["--pull=always", "./a+b", "--A="], "rb behind ./a+b --A="),
            // What is the value of an option is no command.
            (&["-o", "run", "+a", ""], "rb behind +a "),
            (&["run", ""], "run words ``"),
            (&["run", "--network", ""], "network: `` ``"),
            (&["run", "-it", "--rm", "app", "ls", "--a"], "run behind app ls --a"),
            (&["run", "--", "ap"], "run words `ap`"),
            (&["image", "i"], "image - `i`"),
            (&["image", "rm", "-f", "a", "b"], "rm images `b`"),
            (&["image", "copy", "a", "b"], "copy to `b`"),
            (&["image", "ls", "a", "b"], "ls - `b`"),
            (&["compile", "--json", "+a", "--"], "compile behind +a --"),
        ] {
            assert_eq!(told(words), expected, "{words:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_words_are_read(words in proptest::collection::vec("-{0,2}[a-zP+=./]{0,6}|.{0,4}", 0..6)) {
            let mut table = Args::command();
            table.build();
            proptest::prop_assert_eq!(place(&table, &words).is_some(), !words.is_empty());
        }
    }
}
