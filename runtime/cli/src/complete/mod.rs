//! Completion: what may stand where the cursor is, asked for by the scripts of `rb completion SHELL`.
//!
//! In: `rb __complete SHELL …`, with the words up to the cursor ([`shell`]). Out, on stdout: lines that the shell's script
//! reads. [`mod@line`] finds what the word is by clap's table; [`values`] knows the values of options, [`targets`] what build
//! files say. An image's names are read from the store's database alone.
//! **Invariant:** nothing is built, written or asked of the network, and nothing is said: what cannot be read, such as a
//! broken Buildfile, has no completions, and the exit code is 0.

mod line;
mod shell;
mod targets;
mod values;

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory};

use crate::args::Args;
use crate::environment::Environment;
use crate::report;
use line::{Place, repeats};
pub(crate) use shell::Shell;
use targets::Tree;

/// The word that asks for it. Nobody types it.
const WORD: &str = "__complete";

/// One word that may stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    /// The whole word. What ends in `=`, `/`, `+`, `,` or `:` is gone on with: the scripts let no space follow.
    word: String,
    /// What it is, in a line.
    help: String,
}

impl Candidate {
    fn new(word: impl Into<String>, help: impl Into<String>) -> Self {
        Self { word: word.into(), help: help.into() }
    }
}

/// What may stand there.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// One of these, in this order.
    Words(Vec<Candidate>),
    /// A file, behind this beginning of the word.
    Files(String),
    /// A folder, behind this beginning of the word.
    Folders(String),
}

impl Answer {
    fn none() -> Self {
        Self::Words(Vec::new())
    }
}

/// Answers and returns the exit code, if `argv` asks for it.
pub(crate) fn serve(argv: &[OsString]) -> Option<u8> {
    let [_, word, name, rest @ ..] = argv else { return None };
    if word != WORD {
        return None;
    }
    let text = answer(&name.to_string_lossy(), rest).unwrap_or_default();
    // A shell that has gone away needs no answer.
    report::print(text.as_bytes()).ok();
    Some(0)
}

fn answer(name: &str, rest: &[OsString]) -> Option<String> {
    let shell = <Shell as clap::ValueEnum>::from_str(name, false).ok()?;
    let rest: Vec<String> = rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let asked = shell.asked(&rest)?;
    let environment = Environment::read().ok()?;
    let answer = complete(&environment, shell, &asked.words);
    Some(shell.told(answer, &asked))
}

/// Finds what the last of these words may become.
fn complete(environment: &Environment, shell: Shell, words: &[String]) -> Answer {
    let mut table = Args::command();
    table.build();
    let tree = Tree { cwd: &environment.cwd, home: environment.home(), shell };
    match line::place(&table, words) {
        None => Answer::none(),
        Some(Place::Value { arg, before, text }) => {
            values::of_option(environment, &tree, arg, text).behind(before)
        }
        Some(Place::Option { command, given, text }) => Answer::Words(options(command, &given, text)),
        Some(Place::Word { command, arg, given, text }) => {
            let mut found = Vec::new();
            if arg.is_none_or(|arg| arg.get_index().is_some()) {
                found.extend(commands(command, text));
            }
            match arg {
                Some(arg) => match values::of_argument(environment, &tree, command, arg, text) {
                    Answer::Words(more) => found.extend(more),
                    paths => return paths,
                },
                None if command.is_allow_external_subcommands_set() => {
                    let artifacts = given.contains(&"artifact");
                    found.extend(if artifacts { tree.artifacts(text) } else { tree.targets(text) });
                }
                None => {}
            }
            Answer::Words(found)
        }
        Some(Place::Behind { command, given, words }) => {
            values::behind(&tree, command, given.contains(&"artifact"), words)
        }
    }
}

impl Answer {
    /// Returns the answer for a word of which `before` is said.
    fn behind(self, before: &str) -> Self {
        match self {
            Self::Words(words) => Self::Words(
                words
                    .into_iter()
                    .map(|found| Candidate { word: format!("{before}{}", found.word), ..found })
                    .collect(),
            ),
            Self::Files(more) => Self::Files(format!("{before}{more}")),
            Self::Folders(more) => Self::Folders(format!("{before}{more}")),
        }
    }
}

/// Returns the first line of a text of the table.
fn first_line(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string)
        .and_then(|text| text.lines().next().map(ToOwned::to_owned))
        .unwrap_or_default()
}

fn commands(command: &Command, text: &str) -> Vec<Candidate> {
    let known = command.get_subcommands().filter(|known| !known.is_hide_set());
    known
        .filter(|known| known.get_name().starts_with(text))
        .map(|known| Candidate::new(known.get_name(), first_line(known.get_about())))
        .collect()
}

/// Returns the options that begin with `text`; short ones where it is no more than a dash.
fn options(command: &Command, given: &[&str], text: &str) -> Vec<Candidate> {
    let free = |arg: &&Arg| {
        !arg.is_hide_set()
            && !arg.is_positional()
            && (repeats(arg) || !given.contains(&arg.get_id().as_str()))
    };
    let known = || command.get_arguments().filter(free);
    let candidate = |arg: &Arg, word: String| Candidate::new(word, first_line(arg.get_help()));
    let long = known().filter_map(|arg| arg.get_long().map(|name| candidate(arg, format!("--{name}"))));
    let short = known().filter_map(|arg| arg.get_short().map(|letter| candidate(arg, format!("-{letter}"))));
    short.chain(long).filter(|found| found.word.starts_with(text)).collect()
}

#[cfg(test)]
mod tests;
