//! Options that other builders have and `rb` does not: said by name, with what to do instead.
//!
//! In: an option as typed. Out: a message and help. Sources: Earthly's command line reference; docker buildx build
//! reference, "Options".

use std::ffi::OsString;

use clap::CommandFactory;
use rb_diag::nearest;

use crate::args::{Args, ArgsError};

/// Instead of an option, where `rb` has something.
const INSTEAD: &[(&[&str], &str)] = &[
    (&["-f", "--file"], "a target names its folder: `rb DIR+TARGET`; Dockerfiles come later"),
    (&["--target"], "name the target itself: `rb +TARGET`"),
    (&["-t", "--tag"], "`SAVE IMAGE NAME` in the Buildfile names the image"),
    (&["-V", "--verbose", "-D", "--debug"], "`RB_LOG=debug` in front of the command shows what rb does"),
];

/// Options without a substitute.
const NONE_YET: &[&str] = &[
    "-i",
    "-m",
    "--add-host",
    "--allow",
    "--attest",
    "--auth-token",
    "--auto-skip",
    "--auto-skip-db-path",
    "--build-context",
    "--builder",
    "--buildkit-host",
    "--buildkit-image",
    "--cache-from",
    "--cache-to",
    "--call",
    "--cgroup-parent",
    "--check",
    "--config",
    "--conversion-parallelism",
    "--disable-remote-registry-proxy",
    "--exec-stats",
    "--exec-stats-summary",
    "--git-branch",
    "--git-lfs-pull-include",
    "--git-password",
    "--git-username",
    "--github-annotations",
    "--installation-name",
    "--interactive",
    "--label",
    "--max-remote-cache",
    "--memory",
    "--no-auto-skip",
    "--no-buildkit-update",
    "--no-cache-filter",
    "--org",
    "--profiler",
    "--provenance",
    "--remote-cache",
    "--sat",
    "--satellite",
    "--save-inline-cache",
    "--sbom",
    "--shm-size",
    "--ssh",
    "--ssh-auth-sock",
    "--tls-enabled",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
    "--ulimit",
    "--use-inline-cache",
    "--version-flag-overrides",
];

/// Options of `docker run`, and what `rb run` does about them.
const OF_RUN: &[(&[&str], &str)] = &[
    (&["-d", "--detach"], "leave it out and end the line with `&`: the program ends with rb"),
    (&["--publish-all", "--expose"], "name each port: `-p 8080:80`"),
    (
        &["--volumes-from", "--volume-driver"],
        "rb keeps no volumes: `-v ./data:/data` shows a folder of yours",
    ),
    (
        &["--restart", "--init", "--pid", "--ipc", "--uts", "--userns"],
        "leave it out: a program runs once, apart from all others",
    ),
    (
        &["--privileged", "--cap-add", "--cap-drop", "--security-opt", "--device", "--gpus"],
        "leave it out: a program has docker's usual privileges; steps of a build may have all (`RUN --privileged`)",
    ),
    (
        &["-m", "--memory", "--cpus", "--cpu-shares", "--pids-limit", "--shm-size", "--ulimit"],
        "leave it out: a program may have all of the machine",
    ),
    (
        &["-l", "--label", "--cidfile", "--link"],
        "leave it out: nothing is kept of a run, so nothing needs a name",
    ),
    (
        &["--stop-signal", "--stop-timeout", "--sig-proxy"],
        "leave it out: Ctrl-C ends a program at once, with -it it is the program's",
    ),
    (&["-a", "--attach"], "leave it out: stdout and stderr are the program's, stdin with -i"),
    (
        &["--dns", "--dns-search", "--dns-option", "--ip", "--mac-address"],
        "leave it out: names are resolved as on this machine",
    ),
];

/// An option that is not known, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Habit {
    /// One line.
    pub(crate) message: String,
    /// What to do instead.
    pub(crate) help: Option<String>,
}

/// Returns the option without its value.
fn bare(option: &str) -> &str {
    option.split_once('=').map_or(option, |(name, _)| name)
}

fn find(table: &[(&[&str], &str)], option: &str) -> Option<String> {
    table.iter().find(|(names, _)| names.contains(&option)).map(|(_, help)| (*help).to_owned())
}

/// Tells of an option that other builders have.
pub(crate) fn of_builders(option: &str) -> Option<Habit> {
    let option = bare(option);
    let help = find(INSTEAD, option);
    if help.is_none() && !NONE_YET.contains(&option) {
        return None;
    }
    let later = if help.is_none() { ": it comes later" } else { "" };
    Some(Habit { message: format!("`{option}` is not part of this version of rb{later}"), help })
}

/// Tells of an option of `docker run`.
fn of_run(option: &str) -> Option<String> {
    find(OF_RUN, bare(option))
}

/// Refuses an option that `command` does not have where it should name what to work on.
pub(crate) fn refuse_option(command: &'static str, words: &[OsString]) -> Result<(), ArgsError> {
    let word = words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    if !word.starts_with('-') || word == "-" {
        return Ok(());
    }
    let option = word.split_once('=').map_or(word.as_ref(), |(name, _)| name).to_owned();
    let table = Args::command();
    let mine = table.find_subcommand(command).map(clap::Command::get_arguments);
    let near = option.strip_prefix("--").and_then(|name| {
        let known = mine.into_iter().flatten().filter_map(clap::Arg::get_long);
        nearest(name, known).map(|near| format!("did you mean `--{near}`?"))
    });
    let habit = || of_builders(&option).map(|habit| habit.help.unwrap_or(habit.message));
    let of_run = (command == "run").then(|| of_run(&option)).flatten();
    let lists = || format!("`rb {command} --help` lists its options");
    let help = of_run.or(near).or_else(habit).unwrap_or_else(lists);
    Err(ArgsError::UnknownOption { option, command, help: Some(help) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_others_are_named() {
        let said = |option: &str| of_builders(option).map(|habit| (habit.message, habit.help.is_some()));
        let config = "`--config` is not part of this version of rb: it comes later".to_owned();
        assert_eq!(said("--config"), Some((config.clone(), false)));
        assert_eq!(said("--config=x"), Some((config, false)));
        assert_eq!(said("-f"), Some(("`-f` is not part of this version of rb".to_owned(), true)));
        assert_eq!(said("--no-cahce"), None);
        assert!(of_run("--memory=1g").is_some_and(|help| help.contains("all of the machine")));
    }

    #[test]
    fn none_is_an_option_of_ours() {
        let ours = Args::command();
        for option in INSTEAD.iter().flat_map(|(names, _)| *names).chain(NONE_YET) {
            let names = |known: &clap::Arg| {
                let long = known.get_long().map(|name| format!("--{name}"));
                let short = known.get_short().map(|name| format!("-{name}"));
                [long, short].contains(&Some((*option).to_owned()))
            };
            assert!(!ours.get_arguments().any(names), "{option}");
        }
    }

    #[test]
    fn what_is_no_option_is_named() {
        let refused = |command, word: &str| {
            let error = refuse_option(command, &[word.into(), "+t".into()]).expect_err("no option");
            (error.to_string(), error.help().unwrap_or_default())
        };
        let (message, help) = refused("run", "--detach");
        assert_eq!(message, "unknown option `--detach` of `rb run`");
        assert!(help.contains("with `&`"), "{help}");
        assert_eq!(refused("run", "--netwrok=none").1, "did you mean `--network`?");
        assert_eq!(
            refused("run", "--config").1,
            "`--config` is not part of this version of rb: it comes later"
        );
        assert_eq!(refused("compile", "--jsn").1, "did you mean `--json`?");
        assert_eq!(refused("run", "--zzzzzzzz").1, "`rb run --help` lists its options");
        assert_eq!(refuse_option("run", &["hello".into(), "-it".into()]), Ok(()));
    }

    #[test]
    fn what_run_has_is_not_said_to_be_missing() {
        let table = Args::command();
        let run = table.find_subcommand("run").expect("is a command");
        for option in OF_RUN.iter().flat_map(|(names, _)| *names) {
            let names = |known: &clap::Arg| {
                let long = known.get_long().map(|name| format!("--{name}"));
                let short = known.get_short().map(|name| format!("-{name}"));
                [long, short].contains(&Some((*option).to_owned()))
            };
            assert!(!run.get_arguments().any(names), "{option}");
        }
    }
}
