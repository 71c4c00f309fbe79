//! rb as a plugin of docker's command line: `docker rb …`, and in buildx's place `docker buildx …` and `docker build`.
//!
//! In: argv as docker gives it: its own global options, the plugin's name, words. Out: argv as `rb` has it, with `--default-load`
//! where a build is to end in Docker. Which Docker, and whose settings, is said by variables, so that everything below reads it
//! in one place: who typed them on docker's command line is started anew with them.
//! Source: docker's `cli-plugins`: how metadata is asked for, what is passed on.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::buildx;
use crate::report::{self, Failure};

/// Names that a plugin is found by; what stands behind `docker-` is the command.
pub(super) const NAMES: [&str; 2] = ["docker-rb", "docker-buildx"];

/// The word by which docker asks what a plugin is.
const METADATA: &str = "docker-cli-plugin-metadata";

/// The words by which shells ask docker, and docker asks a plugin, what may follow.
const COMPLETE: [&str; 2] = ["__complete", "__completeNoDesc"];

/// Options of docker itself that take a value.
const WITH_VALUE: [&str; 7] =
    ["--config", "--context", "--host", "--log-level", "--tlscacert", "--tlscert", "--tlskey"];

/// What is to be done.
#[derive(Debug)]
pub(in crate::commands) enum Turned {
    /// What these words say.
    Words(Vec<OsString>),
    /// Nothing more.
    Done(Result<u8, Failure>),
}

/// Turns words of a plugin into ours; others stay as they are.
pub(in crate::commands) fn turn(argv: Vec<OsString>) -> Turned {
    let called = argv.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    let name = called.and_then(|called| NAMES.iter().find(|name| **name == called));
    let first = argv.get(1).and_then(|word| word.to_str());
    if first == Some(METADATA) {
        return Turned::Done(report::print(metadata(name.copied()).as_bytes()).map(|()| 0));
    }
    let Some(name) = name else { return Turned::Words(argv) };
    if first.is_some_and(|word| COMPLETE.contains(&word)) {
        // Nothing is proposed, and files are.
        return Turned::Done(report::print(b":0\n").map(|()| 0));
    }
    let command = name.trim_start_matches("docker-");
    let Globals { variables, rest } = Globals::split(argv.into_iter().skip(1).collect(), command);
    let turned = match command {
        "buildx" => buildx::turn(rest),
        _ => Turned::Words(loading(rest)),
    };
    match turned {
        Turned::Words(words) => {
            let words: Vec<OsString> = std::iter::once("rb".into()).chain(words).collect();
            if variables.is_empty() { Turned::Words(words) } else { Turned::Done(anew(&words, variables)) }
        }
        done @ Turned::Done(_) => done,
    }
}

/// Has what builds hand images to Docker where no output is named.
pub(super) fn loading(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.first().is_some_and(|word| word == "build" || word == "bake") {
        words.insert(1, "--default-load".into());
    }
    words
}

/// Describes rb to docker. docker takes plugins of a vendor, a version and a line of text.
fn metadata(name: Option<&str>) -> String {
    let about = match name {
        Some("docker-buildx") => "Builds with rb, in buildx's place",
        _ => "Builds images and artifacts from Buildfiles, Dockerfiles and bake files",
    };
    let own = env!("CARGO_PKG_VERSION");
    let version = match name {
        // Docker's compose asks for one that is new enough.
        Some("docker-buildx") => format!("{}-rb.{own}", buildx::STANDS_FOR),
        _ => format!("v{own}"),
    };
    let value = json!({
        "SchemaVersion": "0.1.0", "Vendor": "rb", "Version": version,
        "ShortDescription": about,
    });
    format!("{value:#}\n")
}

/// Starts rb anew with further variables; comes back only where that fails.
fn anew(words: &[OsString], variables: Vec<(&'static str, OsString)>) -> Result<u8, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("rb").args(&words[1..]);
    if variables.iter().any(|(name, _)| *name == "DOCKER_CONTEXT") {
        // What is typed counts before the environment.
        command.env_remove("DOCKER_HOST");
    }
    let error = command.envs(variables).exec();
    Err(Failure::environment("rb cannot be started anew", &error))
}

/// docker's own options, and what stands behind them and the plugin's name.
#[derive(Debug, PartialEq)]
struct Globals {
    variables: Vec<(&'static str, OsString)>,
    rest: Vec<OsString>,
}

impl Globals {
    fn split(words: Vec<OsString>, command: &str) -> Self {
        let mut variables = Vec::new();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next_if(|word| word.as_encoded_bytes().starts_with(b"-")) {
            let text = word.to_string_lossy().into_owned();
            if matches!(text.as_str(), "--help" | "-h" | "--version" | "-v") && words.peek().is_none() {
                return Self { variables, rest: vec![word] };
            }
            let (option, value) = match text.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(OsString::from(value))),
                _ => (text.as_str(), None),
            };
            let option = match option {
                "-c" => "--context",
                "-H" => "--host",
                "-l" => "--log-level",
                option => option,
            };
            let value = if WITH_VALUE.contains(&option) { value.or_else(|| words.next()) } else { None };
            let variable = match option {
                "--config" => "DOCKER_CONFIG",
                "--context" => "DOCKER_CONTEXT",
                "--host" => "DOCKER_HOST",
                // How docker talks to a daemon elsewhere, and what it logs.
                _ => continue,
            };
            variables.extend(value.map(|value| (variable, value)));
        }
        words.next_if(|word| word == command);
        Self { variables, rest: words.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_plugins_name_and_dockers_options_go() {
        let split = |line: &str| {
            let Globals { variables, rest } = Globals::split(words(line), "rb");
            let variables: Vec<String> = variables
                .into_iter()
                .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
                .collect();
            (variables.join(" "), rest)
        };
        assert_eq!(split("rb build -t x ."), (String::new(), words("build -t x .")));
        assert_eq!(split("build rb"), (String::new(), words("build rb")));
        let (variables, rest) =
            split("--config /c -H=x --host=unix:///s -c other -D --tls rb build --host x");
        assert_eq!(variables, "DOCKER_CONFIG=/c DOCKER_HOST=unix:///s DOCKER_CONTEXT=other");
        assert_eq!(rest, words("build --host x"));
        assert_eq!(split("rb rb"), (String::new(), words("rb")));
    }

    #[test]
    fn who_is_called_otherwise_is_not_turned() {
        let turned = |line: &str| match turn(words(line)) {
            Turned::Words(words) => words.join(OsStr::new(" ")).into_string().expect("is text"),
            Turned::Done(result) => format!("{result:?}"),
        };
        assert_eq!(turned("/usr/bin/rb build ."), "/usr/bin/rb build .");
        assert_eq!(turned("/p/docker-rb rb build ."), "rb build --default-load .");
        assert_eq!(turned("/p/docker-rb rb +app"), "rb +app");
        assert_eq!(
            turned("/p/docker-buildx buildx build --builder rb ."),
            "rb build --builder rb --default-load ."
        );
        assert_eq!(turned("/p/docker-buildx buildx du --verbose"), "rb cache du --all");
    }

    #[test]
    fn metadata_is_what_docker_reads() {
        let value: serde_json::Value = metadata(None).parse().expect("is JSON");
        for key in ["SchemaVersion", "Vendor", "Version", "ShortDescription"] {
            assert!(value[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        }
    }
}
