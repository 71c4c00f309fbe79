//! `rb help`: the list of commands and topics, or one of them; man pages; the reference.

use std::ffi::OsString;
use std::path::Path;

use clap::{Command, CommandFactory, Parser};
use rb_diag::nearest;

use super::doc;
use crate::args::{Args, HelpArgs, TargetCall};
use crate::environment::Environment;
use crate::help::{self, TOPICS, wrapped};
use crate::reference;
use crate::report::{self, Failure};

/// Prints or writes it.
pub(super) fn execute(environment: &Environment, asked: &HelpArgs) -> Result<u8, Failure> {
    if let Some(folder) = &asked.man {
        return man(&environment.cwd.join(folder));
    }
    if asked.markdown {
        return report::print(reference::markdown().as_bytes()).map(|()| 0);
    }
    let text = match asked.words.as_slice() {
        [] => overview(),
        [word, ..] if TargetCall::is_target(word.as_ref()) => {
            return doc::of_target(environment, &asked.words);
        }
        [word] if let Some(topic) = help::topic(word) => topic.text(),
        [word] if let Some(text) = help::entry(word).or_else(|| help::code(word)) => text,
        // Commands have small letters, statements capitals; a word that is no command may be a statement in small ones.
        words
            if is_statement(words)
                && let Some(text) = help::statement(words) =>
        {
            text
        }
        words => return of_command(words),
    };
    report::print(text.as_bytes()).map(|()| 0)
}

fn overview() -> String {
    let table = Args::command();
    let commands: Vec<&Command> = table.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let names =
        commands.iter().map(|command| command.get_name()).chain(TOPICS.iter().map(|topic| topic.name));
    let width = names.map(str::len).max().unwrap_or_default() + 1;
    let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    let commands: String =
        commands.iter().map(|command| wrapped(command.get_name(), width, &about(command))).collect();
    let topics: String = TOPICS.iter().map(|topic| wrapped(topic.name, width, topic.about)).collect();
    format!(
        "rb [OPTIONS] [DIR]+TARGET [--NAME=VALUE]... builds a target; what else rb does:\n\n\
         Commands:\n{commands}\n\
         Topics:\n{topics}\n\
         `rb help WORD` explains one, and `rb help RUN` a statement, `rb help CODE` the\n\
         code of an error, `rb help +TARGET` a target of yours. `rb -h` lists the options\n\
         of a build, `rb --help` says all of them.\n"
    )
}

/// Tells whether words mean a statement rather than a command.
fn is_statement(words: &[String]) -> bool {
    let table = Args::command();
    words.first().is_some_and(|word| table.find_subcommand(word).is_none())
}

/// Prints the help of a command, as `--help` behind it does.
fn of_command(words: &[String]) -> Result<u8, Failure> {
    let table = Args::command();
    let mut command = &table;
    for (at, word) in words.iter().enumerate() {
        command = command
            .find_subcommand(word)
            .ok_or_else(|| unknown(command, words.get(..at).unwrap_or(words), word))?;
    }
    let argv = ["rb".to_owned()].into_iter().chain(words.iter().cloned()).chain(["--help".to_owned()]);
    match Args::try_parse_from(argv.map(OsString::from)) {
        // It prints itself in the terminal's width and colours; a reader that went away is no failure.
        Err(help) => help.print().map_or(Ok(0), |()| Ok(0)),
        Ok(_) => Ok(0),
    }
}

fn unknown(command: &Command, before: &[String], word: &str) -> Failure {
    let commands = command.get_subcommands().map(Command::get_name);
    let topics = TOPICS.iter().map(|topic| topic.name).filter(|_| before.is_empty());
    let said: String = before.iter().map(|word| format!(" {word}")).collect();
    let words = [before, &[word.to_owned()]].concat();
    let statement = || help::near_statement(&words).map(|near| format!("did you mean `rb help {near}`?"));
    let is_shouted = word.starts_with(|first: char| first.is_ascii_uppercase());
    let help = match nearest(word, commands.chain(topics)) {
        _ if let Some(near) = help::near_code(word) => format!("did you mean `rb help {near}`?"),
        _ if is_shouted && let Some(near) = statement() => near,
        Some(near) => format!("did you mean `rb help{said} {near}`?"),
        None if before.is_empty() => {
            statement().unwrap_or_else(|| "`rb help` lists commands and topics".to_owned())
        }
        None => format!("`rb help{said}` says what there is"),
    };
    let message = if before.is_empty() {
        format!("`{word}` is no command, topic, statement, setting or code")
    } else {
        format!("`rb{said}` has no command `{word}`")
    };
    Failure::input(message, Some(help))
}

fn man(folder: &Path) -> Result<u8, Failure> {
    let failed = |path: &Path| {
        let what = format!("`{}` cannot be written", path.display());
        move |error: std::io::Error| Failure::environment(&what, &error)
    };
    for (name, text) in help::pages() {
        let path = folder.join(name);
        let above = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(above).map_err(failed(above))?;
        std::fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_near_are_named() {
        let said = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            match of_command(&words).expect_err("is unknown") {
                Failure::Said { message, help, .. } => (message, help.unwrap_or_default()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(said(&["enviroment"]).1, "did you mean `rb help environment`?");
        assert_eq!(said(&["imgae"]).1, "did you mean `rb help image`?");
        let (message, help) = said(&["image", "puhs"]);
        assert_eq!(
            (message.as_str(), help.as_str()),
            ("`rb image` has no command `puhs`", "did you mean `rb help image push`?")
        );
        assert_eq!(said(&["zzzzzzzz"]).1, "`rb help` lists commands and topics");
        assert_eq!(said(&["RUNN"]).1, "did you mean `rb help RUN`?");
        assert_eq!(said(&["wrokdir"]).1, "did you mean `rb help WORKDIR`?");
        assert_eq!(said(&["rb::resolve::cylce"]).1, "did you mean `rb help rb::resolve::cycle`?");
    }

    #[test]
    fn the_overview_names_all() {
        let text = overview();
        assert!(TOPICS.iter().all(|topic| text.contains(topic.about)));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
