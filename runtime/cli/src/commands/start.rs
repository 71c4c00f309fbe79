//! `rb` alone, and words that are neither a command nor a target.

use std::path::Path;

use clap::CommandFactory;
use rb_buildfile::TargetSummary;
use rb_diag::nearest;

use super::describe;
use crate::args::{Args, command_names};
use crate::environment::Environment;
use crate::habits::{of_commands, of_pull};
use crate::help::TOPICS;
use crate::report::{self, Failure};
use crate::world::{BUILDFILE_NAMES, Place};

/// `rb` alone: short help, and what can be built here.
pub(super) fn welcome(environment: &Environment) -> Result<u8, Failure> {
    let mut text = Args::command().render_help().to_string();
    let targets = here(environment);
    if !targets.is_empty() {
        text.push_str("\nTargets here:\n");
        text.push_str(&describe::lines(&targets, "", "  "));
    }
    report::print(text.as_bytes()).map(|()| 0)
}

/// `rb -V` alone: the version in one line. With a target it is another option.
pub(super) fn version() -> Result<u8, Failure> {
    report::print(Args::command().render_version().as_bytes()).map(|()| 0)
}

/// Says what a word may have been meant as.
pub(super) fn unknown_word(environment: &Environment, words: &[String]) -> Failure {
    let word = words.first().map(String::as_str).unwrap_or_default();
    // A build file is named by its folder.
    let named = Path::new(word);
    let is_file = named.file_name().is_some_and(|name| BUILDFILE_NAMES.iter().any(|known| name == *known));
    if is_file && environment.cwd.join(word).is_file() {
        let dir = word.rsplit_once('/').map_or("", |(dir, _)| dir);
        let first =
            targets_of(environment, Path::new(if dir.is_empty() { "." } else { dir })).into_iter().next();
        let target = first.map_or_else(|| "TARGET".to_owned(), |first| first.name);
        let list = if dir.is_empty() { "rb ls".to_owned() } else { format!("rb ls {dir}") };
        let help = format!("name a target in it, such as `rb {dir}+{target}`; `{list}` lists them");
        return Failure::input(format!("`{word}` is a file"), Some(help));
    }
    if environment.cwd.join(word).is_dir() {
        let (dir, of) = match word.trim_end_matches('/') {
            "." => (String::new(), String::new()),
            dir => (dir.to_owned(), format!(" {dir}")),
        };
        let help = match targets_of(environment, Path::new(word)).first() {
            Some(target) => {
                format!("name a target in it, such as `rb {dir}+{}`; `rb ls{of}` lists them", target.name)
            }
            None => format!("name a target in it: `rb {dir}+TARGET`"),
        };
        return Failure::input(format!("`{word}` is a folder"), Some(help));
    }
    let targets = here(environment);
    let names = || targets.iter().map(|target| target.name.as_str());
    let commands = command_names();
    let own = names().find(|name| *name == word);
    if let (None, Some(help)) = (own, of_commands(word)) {
        return Failure::input(format!("there is no command `{word}`"), Some(help));
    }
    let target = own.or_else(|| nearest(word, names()));
    let command = nearest(word, commands.iter().map(String::as_str));
    let help = match (target, command) {
        (Some(target), Some(command)) => {
            format!("did you mean `rb +{target}`, or the command `rb {command}`?")
        }
        (Some(target), None) => format!("did you mean `rb +{target}`?"),
        (None, Some(command)) => format!("did you mean `rb {command}`?"),
        (None, None) if let Some(help) = of_pull(word) => help,
        (None, None) if let Some(topic) = near_topic(word) => format!("`rb help {topic}` explains that word"),
        (None, None) => match names().next() {
            Some(first) => {
                format!(
                    "targets are written with a `+`: `rb +{first}`; `rb ls` lists them, `rb help` the commands"
                )
            }
            None => {
                "targets are written with a `+`: `rb [DIR]+TARGET`; `rb help` lists the commands".to_owned()
            }
        },
    };
    Failure::input(format!("`{word}` is neither a command nor a target"), Some(help))
}

/// Returns the topic of `rb help` that a word names, or nearly.
fn near_topic(word: &str) -> Option<&'static str> {
    let names = || TOPICS.iter().map(|topic| topic.name);
    names().find(|name| *name == word).or_else(|| nearest(word, names()))
}

/// Returns the targets of a folder's build file; none where it has none or it cannot be read.
fn targets_of(environment: &Environment, dir: &Path) -> Vec<TargetSummary> {
    let place = Place::of(&environment.cwd, dir).map_err(Failure::from);
    offered(environment, place)
}

/// Returns the targets of the nearest build file.
fn here(environment: &Environment) -> Vec<TargetSummary> {
    offered(environment, Place::here(&environment.cwd).map_err(Failure::from))
}

fn offered(environment: &Environment, place: Result<Place, Failure>) -> Vec<TargetSummary> {
    let offers = place.and_then(|place| describe::offers(&environment.cwd, place));
    offers.unwrap_or_default().targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_file_is_named_by_its_folder() {
        let environment = Environment::read().expect("there is a working directory");
        let help = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            match unknown_word(&environment, &words) {
                Failure::Said { help, .. } => help.unwrap_or_default(),
                other => panic!("{other:?}"),
            }
        };
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("Buildfile"), "VERSION 1\napp:\n    FROM scratch\n").expect("writes");
        let folder = dir.path().display();
        let told = help(&[&format!("{folder}/Buildfile")]);
        assert_eq!(
            told,
            format!("name a target in it, such as `rb {folder}+app`; `rb ls {folder}` lists them")
        );
    }
}
