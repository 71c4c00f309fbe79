//! What `rb plan`, `rb why` and `rb resume` are about: targets, the build of a Dockerfile or of an app, or what was built last here.
//!
//! In: the words behind the command. Out: targets as they are typed, or what stands behind `rb build` or `rb pack build`. With no words it is what
//! was built last from this folder, by its record, with what was typed then but for secrets.

use std::ffi::OsString;
use std::path::Path;

use super::record::document::{OfApp, OfDockerfile};
use super::{dockerfile, pack, past, settle};
use crate::args::{BuildOptions, DockerfileArgs, OutputOptions, PackBuild, PlanArgs, TargetCall, WhyArgs};
use crate::environment::Environment;
use crate::report::Failure;
use crate::settings;
use crate::world::BUILDFILE_NAMES;

/// Explains what is meant.
pub(super) fn why(
    environment: &Environment,
    why: WhyArgs,
    outer: BuildOptions,
    output: &OutputOptions,
) -> Result<u8, Failure> {
    let options = why.build.clone().over(outer);
    match meant("why", &why.words, environment)? {
        Meant::Targets(words) => {
            super::why::execute(&settle(&options, output, environment)?, &WhyArgs { words, ..why })
        }
        Meant::Dockerfile(mut args) => {
            let step = args.step_behind();
            let order = dockerfile::Order::read(environment, options, *args)?;
            super::why::of_dockerfile(&order, &why, step.as_deref())
        }
        Meant::App(args, step) => {
            let subject = pack::Subject::read(environment, options, *args)?;
            super::why::of_app(&subject, &why, step.as_deref())
        }
    }
}

/// Plans what is meant.
pub(super) fn plan(
    environment: &Environment,
    plan: PlanArgs,
    outer: BuildOptions,
    output: &OutputOptions,
) -> Result<u8, Failure> {
    let options = plan.build.clone().over(outer);
    match meant("plan", &plan.words, environment)? {
        Meant::Targets(words) => {
            super::plan::execute(&settle(&options, output, environment)?, &PlanArgs { words, ..plan })
        }
        Meant::Dockerfile(args) => {
            let order = dockerfile::Order::read(environment, options, *args)?;
            super::plan::of_dockerfile(&order, plan.json)
        }
        Meant::App(..) => {
            let help = "`rb pack detect` tells who would build, `rb why pack build …` what would run";
            Err(Failure::input("what buildpacks would do is not planned", Some(help.to_owned())))
        }
    }
}

/// Tells whether words are about the build of a Dockerfile.
pub(super) fn is_of_dockerfile(words: &[OsString]) -> bool {
    words.first().is_some_and(|word| word == "build")
}

/// Returns what stands behind `pack build`, if words are about that.
fn of_app(words: &[OsString]) -> Option<&[OsString]> {
    match words {
        [pack, build, rest @ ..] if pack == "pack" && build == "build" => Some(rest),
        _ => None,
    }
}

/// What is meant.
#[derive(Debug)]
enum Meant {
    /// These words, a target or what is none.
    Targets(Vec<OsString>),
    /// The build of a Dockerfile.
    Dockerfile(Box<DockerfileArgs>),
    /// The build of an app by buildpacks, and words of a step.
    App(Box<PackBuild>, Option<String>),
}

/// Says what the words behind a command mean.
fn meant(command: &str, words: &[OsString], environment: &Environment) -> Result<Meant, Failure> {
    match words {
        [] => last(command, &settings::state_directory(environment)?, &environment.cwd),
        [_, rest @ ..] if is_of_dockerfile(words) => {
            Ok(Meant::Dockerfile(Box::new(DockerfileArgs::read(rest)?)))
        }
        words => match of_app(words) {
            Some(rest) => {
                let (build, step) = PackBuild::read(rest)?;
                Ok(Meant::App(Box::new(build), step))
            }
            None => Ok(Meant::Targets(words.to_vec())),
        },
    }
}

/// Returns what was built last from a folder.
fn last(command: &str, state: &Path, folder: &Path) -> Result<Meant, Failure> {
    let named =
        format!("name what is meant: `rb {command} +TARGET`, or `rb {command} build .` of a Dockerfile");
    let Some(past) = past::last_in(state, folder)? else {
        return Err(Failure::input("nothing was built from this folder that is kept", Some(named)));
    };
    let document = &past.document;
    if let Some(OfApp { words, .. }) = &document.app {
        if words.is_empty() {
            let message =
                format!("the last build here was `{}`, and its variables are not kept", document.title());
            return Err(Failure::input(message, Some(format!("name it: `rb {command} pack build …`"))));
        }
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        return Ok(Meant::App(Box::new(PackBuild::read(&words)?.0), None));
    }
    let Some(OfDockerfile { words, .. }) = &document.dockerfile else {
        // Of arguments the names are kept, and not what they were.
        if !document.args.is_empty() || document.target.contains(' ') {
            let message =
                format!("the last build here was `{}`, and its arguments are not kept", document.title());
            return Err(Failure::input(message, Some(named)));
        }
        return Ok(Meant::Targets(vec![OsString::from(&document.target)]));
    };
    let args = DockerfileArgs::read(&words.iter().map(OsString::from).collect::<Vec<_>>())?;
    if words.is_empty() || args.reads_stdin() {
        let message = format!("the last build here was `{}`, and what it read is not kept", document.title());
        return Err(Failure::input(message, Some(named)));
    }
    Ok(Meant::Dockerfile(Box::new(args)))
}

/// Says that a word is no target, and what may be meant.
pub(super) fn no_target(command: &str, word: &str, cwd: &Path) -> Failure {
    let folder = cwd.join(word);
    let is_dockerfiles = folder.is_dir() && !BUILDFILE_NAMES.iter().any(|name| folder.join(name).exists());
    let help = match is_dockerfiles {
        true => format!("for the Dockerfile in it: `rb {command} build {word}`"),
        false => format!("targets are written with a `+`: `rb {command} +{word}`"),
    };
    debug_assert!(!TargetCall::is_target(word.as_ref()), "it is a target");
    Failure::input(format!("`{word}` is not a target"), Some(help))
}
