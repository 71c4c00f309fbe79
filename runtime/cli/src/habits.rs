//! Options and commands that others have and `rb` does not: said by name, with what to do instead.
//!
//! In: a word as typed. Out: a message and help. Sources: Earthly's command line reference; docker buildx build
//! reference, "Options".

use std::ffi::OsString;

use clap::CommandFactory;
use rb_diag::nearest;

use crate::args::{Args, ArgsError};

/// Instead of an option, where `rb` has something.
const INSTEAD: &[(&[&str], &str)] = &[
    (
        &["-f", "--file"],
        "a target names its folder: `rb DIR+TARGET`; `rb build -f FILE DIR` builds a Dockerfile",
    ),
    (
        &["--target"],
        "name the target itself: `rb +TARGET`; `rb build --target STAGE DIR` builds a Dockerfile",
    ),
    (
        &["-t", "--tag"],
        "`SAVE IMAGE NAME` in the Buildfile names the image; `rb build -t NAME DIR` builds a Dockerfile",
    ),
    (&["--ssh-auth-sock"], "`--ssh default=SOCKET` in front of the target names another agent"),
    (
        &["--cpu-shares", "--cpu-quota", "--cpu-period"],
        "`--cpus 1.5` limits the processors' time of each step",
    ),
    (
        &["-D", "--debug"],
        "`RB_LOG=debug` in front of the command shows what rb does; `rb build --debug` does the same",
    ),
    (
        &["--env-file"],
        "values for ARGs stand in `.arg`, or --arg-file-path FILE; `rb run --env-file FILE` gives a program variables",
    ),
    (
        &["-e", "--env"],
        "`rb +TARGET --NAME=value` gives an ARG; `rb run -e NAME=value` gives a program a variable",
    ),
    (
        &["-v", "--volume", "--mount"],
        "`COPY` in the Buildfile takes files; `rb run -v ./folder:/place` shows a program a folder",
    ),
    (&["--builder"], "`rb --engine NAME +TARGET` builds on a BuildKit daemon: `rb engine ls`"),
    (&["--tty", "--rm"], "options of a program stand behind `rb run`: `rb run -it +TARGET sh`"),
    (&["-n", "--just-print"], "`rb --dry-run +TARGET` shows what would run"),
    (&["-B", "--always-make", "--rerun-tasks"], "`rb --no-cache +TARGET` runs every step"),
    (&["-l", "--list", "--list-targets"], "`rb ls` lists the targets"),
    (&["-C", "--directory"], "a target names its folder: `rb DIR+TARGET`"),
];

/// Options without a substitute.
const NONE_YET: &[&str] = &[
    "--add-host",
    "--allow",
    "--attest",
    "--auth-token",
    "--auto-skip",
    "--auto-skip-db-path",
    "--build-context",
    "--buildkit-host",
    "--buildkit-image",
    "--cache-from",
    "--cache-to",
    "--call",
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
    "--label",
    "--max-remote-cache",
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
    "--tls-enabled",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
    "--use-inline-cache",
    "--version-flag-overrides",
];

/// Options of `docker build`, `docker buildx build` and `buildah build` that `rb build` cannot honour, and what it does about them.
const OF_BUILD: &[(&[&str], &str)] = &[
    (&["--source-policy-file"], "leave it out: this version of rb applies no policies"),
    (
        &["--cap-add", "--cap-drop"],
        "leave it out: `RUN --security=insecure` has all rights, with --allow security.insecure",
    ),
    (&["--device"], "`RUN --device=NAME` asks for one, `--allow device=NAME` gives it"),
    (
        &["--tls-verify", "--cert-dir", "--authfile", "--creds"],
        "leave it out: `rb login` logs in, and config.toml says how registries are reached: `rb help registries`",
    ),
    (&["--dns", "--dns-search", "--dns-option"], "leave it out: names are resolved as on this machine"),
    (&["--arch", "--os", "--variant"], "`--platform OS/ARCH` says both"),
    (&["--all-platforms"], "name them: `--platform linux/amd64,linux/arm64`"),
    (&["--manifest"], "`--platform` with several platforms makes an index, under the name of -t"),
    (
        &["--from"],
        "write the base as an argument, `ARG BASE` and `FROM $BASE`, or replace it: `--build-context NAME=docker-image://OTHER`",
    ),
    (&["--cpp-flag"], "leave it out: Dockerfiles are not preprocessed"),
    (
        &[
            "--userns",
            "--userns-uid-map",
            "--userns-gid-map",
            "--group-add",
            "--ipc",
            "--pid",
            "--uts",
            "--cgroupns",
        ],
        "leave it out: steps run apart from all others",
    ),
    (&["--runtime-flag"], "leave it out; `rb --runtime NAME build …` names another runtime"),
    (&["--stream"], "leave it out: there is no daemon that a context would be sent to"),
    (
        &["--disable-content-trust"],
        "leave it out: rb asks no notary; `FROM NAME@sha256:…` pins what a name stands for",
    ),
    (&["--squash-all"], "`--squash` makes one layer of all"),
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
        &["--restart", "--pid", "--ipc", "--uts", "--userns"],
        "leave it out: a program runs once, apart from all others",
    ),
    (
        &["--privileged", "--cap-add", "--cap-drop", "--security-opt", "--device", "--gpus"],
        "leave it out: a program has docker's usual privileges; steps of a build may have all (`RUN --privileged`)",
    ),
    (
        &["-l", "--label", "--cidfile", "--link"],
        "leave it out: nothing is kept of a run, so nothing needs a name",
    ),
    (&["--stop-signal"], "leave it out: signals that rb gets are handed on as they are"),
    (&["-a", "--attach"], "leave it out: stdout and stderr are the program's, stdin with -i"),
    (
        &["--dns", "--dns-search", "--dns-option", "--ip", "--mac-address"],
        "leave it out: names are resolved as on this machine",
    ),
];

/// Commands of docker and Earthly, and what `rb` has instead.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["pull"], "did you mean `rb image pull`?"),
    (&["push"], "did you mean `rb image push`? `rb --push +TARGET` pushes what a build saves"),
    (&["images"], "did you mean `rb image ls`?"),
    (&["rmi"], "did you mean `rb image rm`?"),
    (&["tag"], "did you mean `rb image tag`?"),
    (&["save"], "did you mean `rb image save`?"),
    (&["load", "import"], "did you mean `rb image load`?"),
    (&["inspect"], "did you mean `rb image inspect`?"),
    (
        &["ps", "top", "stats", "container", "containers"],
        "did you mean `rb status`? a program of `rb run` is a process like others: `ps`",
    ),
    (
        &["exec", "attach", "cp", "port", "wait"],
        "a program of `rb run` lives with its terminal, and nothing else reaches it: `rb run -it IMAGE sh` starts another",
    ),
    (
        &["start", "stop", "restart", "kill", "rm", "create", "pause", "unpause", "rename"],
        "`rb run` keeps nothing: a program begins with it and ends with it, by Ctrl-C or `kill`",
    ),
    (
        &["compose", "stack", "service", "swarm"],
        "rb runs one program at a time: `rb run` for each; they share this machine's network",
    ),
    (
        &["volume", "network"],
        "rb keeps none: see `rb run --help` for `-v ./folder:/place`, `-p` and `--network`",
    ),
    (&["prune", "system"], "did you mean `rb cache prune`? `rb cache du` shows what is kept"),
    (&["info", "bootstrap"], "did you mean `rb doctor`?"),
    (&["version"], "did you mean `rb --version`?"),
    (&["buildx", "builder"], "targets need none: `rb +TARGET`"),
    (&["list", "targets", "tasks"], "did you mean `rb ls`?"),
    (
        &["clean", "clear", "gc", "du", "df", "reset"],
        "did you mean `rb cache prune`, or `rb cache du`? removing the directory that `rb config root` names forgets everything",
    ),
    (
        &["sh", "bash", "debug"],
        "`rb shell` opens a shell where a step failed, `rb shell +TARGET` in what a target becomes",
    ),
    (
        &["graph", "tree", "explain"],
        "`rb plan +TARGET` says what would run and what that takes, `rb why +TARGET` why, `rb compile +TARGET` shows the graph",
    ),
    (
        &["fmt", "format", "lint", "check", "validate"],
        "`rb ast DIR >/dev/null` tells what is wrong in a Buildfile",
    ),
    (&["init", "new"], "write a file `Buildfile`: `rb help language` shows one"),
    (
        &[
            "account",
            "org",
            "orgs",
            "sat",
            "satellite",
            "satellites",
            "billing",
            "web",
            "cloud",
            "project",
            "projects",
        ],
        "everything runs on this machine: there is nothing to sign up for",
    ),
    (&["secret", "vault"], "`rb --secret NAME +TARGET` lends one to a build: `rb help secrets`"),
    (&["registry", "auth"], "`rb login HOST` logs in; more in `rb help registries`"),
    (&["update", "upgrade", "self-update"], "install the newer version over this one; what is stored stays"),
    (&["search"], "registries are searched in a browser; `rb image pull NAME` takes what is found"),
    (&["docker-build", "bud", "dockerfile"], "did you mean `rb build .`? it builds a Dockerfile"),
];

/// Commands that others have below one of ours, and what `rb` has instead.
const BELOW: &[(&str, &[&str], &str)] = &[
    ("cache", &["clean", "clear", "gc", "rm", "reset"], "did you mean `rb cache prune`?"),
    ("cache", &["ls", "list"], "did you mean `rb cache du`?"),
    ("image", &["prune"], "`rb image rm NAME` removes an image; its layers stay, for builds"),
    ("image", &["history"], "did you mean `rb image inspect`?"),
    (
        "image",
        &["build"],
        "did you mean `rb build .`? it builds a Dockerfile; targets need no command: `rb +TARGET`",
    ),
    ("image", &["import"], "did you mean `rb image load`?"),
    ("image", &["export"], "did you mean `rb image save`?"),
    ("pack", &["completion"], "`rb completion SHELL` completes the words of `rb pack`, too"),
    ("pack", &["version"], "did you mean `rb --version`?"),
    ("pack", &["report"], "did you mean `rb doctor`?"),
    ("pack", &["inspect-image"], "did you mean `rb pack inspect`?"),
    ("pack", &["create-builder"], "did you mean `rb pack builder create`?"),
    ("pack", &["inspect-builder"], "did you mean `rb pack builder inspect`?"),
    ("pack", &["package-buildpack"], "did you mean `rb pack buildpack package`?"),
    ("pack", &["inspect-buildpack"], "did you mean `rb pack buildpack inspect`?"),
    ("pack", &["set-default-builder"], "did you mean `rb pack config default-builder`?"),
    ("pack", &["suggest-builders"], "did you mean `rb pack builder suggest`?"),
    (
        "pack",
        &["trust-builder", "untrust-builder", "list-trusted-builders"],
        "did you mean `rb pack config trusted-builders`?",
    ),
    ("pack", &["set-run-image-mirrors"], "did you mean `rb pack config run-image-mirrors`?"),
    (
        "pack",
        &["add-registry", "remove-registry", "list-registries", "set-default-registry"],
        "did you mean `rb pack config registries`?",
    ),
    (
        "pack",
        &["register-buildpack", "yank-buildpack"],
        "rb reads registries of buildpacks and writes to none",
    ),
    ("pack", &["manifest"], "an index is made by `--target` of several systems and `--publish`"),
    ("pack", &["stack"], "base images are named in `builder.toml`; `rb pack builder suggest` names builders"),
    (
        "pack buildpack",
        REGISTRY_WORDS,
        "rb reads registries of buildpacks and writes to none; packages are images",
    ),
];

/// What pack does with registries of buildpacks.
const REGISTRY_WORDS: &[&str] = &["register", "yank"];

/// An option or a command that is not known, in words.
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

/// Tells of a build argument that stands before its target: the names of our options have no capitals and no `_`.
pub(crate) fn of_arguments(option: &str) -> Option<Habit> {
    let name = bare(option).strip_prefix("--")?;
    name.contains(|letter: char| letter.is_ascii_uppercase() || letter == '_').then(|| Habit {
        message: format!("`--{name}` is no option of rb"),
        help: Some(format!("build arguments stand behind their target: `rb +TARGET --{name}=value`")),
    })
}

/// Tells of a command that others have below `parent`.
pub(crate) fn of_below(parent: &str, word: &str) -> Option<Habit> {
    let is_of = |of: &str| of.rsplit(' ').next() == Some(parent);
    let (parent, _, help) = BELOW.iter().find(|(of, words, _)| is_of(of) && words.contains(&word))?;
    Some(Habit {
        message: format!("there is no command `rb {parent} {word}`"),
        help: Some((*help).to_owned()),
    })
}

/// Tells of an option that others have behind `build`.
pub(crate) fn of_build(option: &str) -> Option<Habit> {
    let option = bare(option);
    let help = find(OF_BUILD, option)?;
    Some(Habit { message: format!("`{option}` is not part of `rb build`"), help: Some(help) })
}

/// Tells of an option of `docker run`.
fn of_run(option: &str) -> Option<String> {
    find(OF_RUN, bare(option))
}

/// Tells of a value of `--pull` that is a word of its own.
pub(crate) fn of_pull(word: &str) -> Option<String> {
    ["always", "missing", "never"].contains(&word).then(|| format!("write `--pull={word}`"))
}

/// Tells of a command that docker or Earthly have.
pub(crate) fn of_commands(word: &str) -> Option<String> {
    find(COMMANDS, word)
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
        let argument = of_arguments("--MODE=debug").expect("is an argument");
        assert_eq!(argument.message, "`--MODE` is no option of rb");
        assert_eq!((of_arguments("--no-cahce"), of_arguments("-X")), (None, None));
        assert!(of_run("--gpus=all").is_some_and(|help| help.contains("usual privileges")));
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
    fn none_is_a_command_of_ours() {
        let ours = crate::args::command_names();
        for word in COMMANDS.iter().flat_map(|(names, _)| *names) {
            assert!(!ours.iter().any(|name| name == word), "{word}");
        }
        // What is named instead is there.
        let table = Args::command();
        for (_, help) in COMMANDS {
            let Some(meant) = help.split("`rb ").nth(1).and_then(|rest| rest.split('`').next()) else {
                continue;
            };
            let mut words =
                meant.split(' ').filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
            let command =
                words.next().map(|word| table.find_subcommand(word).unwrap_or_else(|| panic!("{help}")));
            if let (Some(command), Some(word)) =
                (command.filter(|command| command.has_subcommands()), words.next())
            {
                assert!(command.find_subcommand(word).is_some(), "{help}");
            }
        }
    }

    #[test]
    fn none_is_a_command_below_ours() {
        let table = Args::command();
        for (place, words, _) in BELOW {
            let parent = place.rsplit(' ').next().expect("a word");
            let below_pack = || table.find_subcommand("pack")?.find_subcommand(parent);
            let parent = table.find_subcommand(parent).or_else(below_pack).expect("is a command");
            assert!(words.iter().all(|word| parent.find_subcommand(word).is_none()), "{words:?}");
        }
        let said = of_below("image", "history").expect("is known").help;
        assert_eq!(said.as_deref(), Some("did you mean `rb image inspect`?"));
        assert_eq!((of_below("image", "puhs"), of_below("config", "prune")), (None, None));
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
    fn what_run_and_build_have_is_not_said_to_be_missing() {
        let table = Args::command();
        for (command, options) in [("run", OF_RUN), ("build", OF_BUILD)] {
            let command = table.find_subcommand(command).expect("is a command");
            for option in options.iter().flat_map(|(names, _)| *names) {
                let names = |known: &clap::Arg| {
                    let long = known.get_long().map(|name| format!("--{name}"));
                    let short = known.get_short().map(|name| format!("-{name}"));
                    [long, short].contains(&Some((*option).to_owned()))
                };
                assert!(!command.get_arguments().any(names), "{option}");
            }
        }
    }
}
