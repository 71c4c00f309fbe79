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
        [word] if let Some(text) = help::entry(word) => text,
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
         `rb help WORD` explains one, `rb help +TARGET` a target of yours. `rb -h` lists\n\
         the options of a build, `rb --help` says all of them.\n"
    )
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
    let help = match nearest(word, commands.chain(topics)) {
        Some(near) => format!("did you mean `rb help{said} {near}`?"),
        None if before.is_empty() => "`rb help` lists commands and topics".to_owned(),
        None => format!("`rb help{said}` says what there is"),
    };
    let message = if before.is_empty() {
        format!("`{word}` is neither a command nor a topic")
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
    }

    #[test]
    fn the_overview_names_all() {
        let text = overview();
        assert!(TOPICS.iter().all(|topic| text.contains(topic.about)));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
