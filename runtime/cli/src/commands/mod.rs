//! What `rb` can do, one command a file.
//!
//! [`main`] walks from argv to the exit code; commands take [`crate::settings::Settings`] and what was typed, and return an exit code or
//! a [`Failure`]. **Invariant:** no thread exists before [`workbench`] has entered the runtime.

mod after;
mod again;
pub(crate) mod anew;
mod apart;
mod artifacts;
mod ast;
mod bake;
mod build;
mod cache;
mod compile;
mod completion;
mod config;
mod describe;
mod doc;
mod docker;
pub(crate) mod dockerfile;
mod doctor;
mod elsewhere;
mod engines;
mod exports;
mod foresight;
mod frontend;
mod gateway;
mod help;
mod history;
mod image;
mod kaniko;
mod login;
mod logs;
mod ls;
mod pack;
mod past;
mod plan;
mod pull;
mod record;
mod resume;
mod run;
mod scratch;
mod shell;
mod solve;
mod start;
mod status;
mod struck;
mod table;
mod targets;
mod units;
mod why;
mod workbench;

use std::ffi::OsString;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::{
    self, Args, ArtifactCalls, BuildOptions, Command, CourseOptions, OutputOptions, TargetCall, texts,
};
use crate::complete;
use crate::environment::Environment;
use crate::habits::{self, Habit};
use crate::progress::terminal_columns;
use crate::report::github::GitHub;
use crate::report::{self, Failure};
use crate::settings::given::{self, Given, Kind, Lines};
use crate::settings::{self, Display, ProgressMode, Settings};

/// How things are shown before it is known how.
const FALLBACK: Display =
    Display { mode: ProgressMode::Plain, colours: false, github: false, verbose: false };

/// Does what argv says and returns the exit code.
pub(crate) fn main() -> u8 {
    let argv = std::env::args_os().collect::<Vec<_>>();
    let served = apart::serve(&argv).or_else(|| frontend::serve(&argv)).or_else(|| complete::serve(&argv));
    if let Some(code) = served.or_else(|| kaniko::serve(&argv)) {
        return code;
    }
    let argv = match docker::turn(args::as_earthly(argv)) {
        docker::Turned::Words(argv) => argv,
        docker::Turned::Done(ended) => return end(ended, FALLBACK),
    };
    let args = match Args::try_parse_from(&argv) {
        Ok(args) => args.noting(&argv),
        Err(error) => {
            if let Some(habit) = habit(&error, &argv) {
                return end(Err(habit.into()), FALLBACK);
            }
            // Help and version go to stdout, errors to stderr; a reader that went away is no failure.
            let _ignored = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let mut environment = match Environment::read() {
        Ok(environment) => environment,
        Err(error) => return end(Err(error.into()), FALLBACK),
    };
    start_logs(&environment, asks_for_logs(&args));
    let typed = options_of(&args).over(args.build.clone());
    let told = match read_env_file(&args, &typed, &mut environment) {
        Ok(told) => told,
        Err(failure) => return end(Err(failure), FALLBACK),
    };
    match settings::display(&typed, &environment) {
        Ok(display) => {
            warn(&told, display);
            let mut ended = dispatch(args, &environment);
            if ended.is_err()
                && anew::is_wanted()
                && let Ok(args) = Args::try_parse_from(&argv)
            {
                ended = dispatch(args.noting(&argv), &environment);
            }
            let ended = ended.map_err(Failure::without_secrets);
            match &ended {
                Err(failure) if display.github => {
                    let text = failure.render(display, terminal_columns());
                    report::tell(&GitHub::of(&environment).failed(&text, failure));
                    failure.exit_code()
                }
                _ => end(ended, display),
            }
        }
        Err(error) => end(Err(error.into()), FALLBACK),
    }
}

/// Tells of an option or a command that is unknown here and known elsewhere.
fn habit(error: &clap::Error, argv: &[OsString]) -> Option<Habit> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let option = text(ContextKind::InvalidArg)?;
            if argv.iter().take_while(|word| *word != option).any(|word| word == "build") {
                return habits::of_build(option);
            }
            habits::of_builders(option).or_else(|| habits::of_arguments(option))
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand)?;
            let at = argv.iter().position(|typed| *typed == word)?;
            habits::of_below(argv.get(at.checked_sub(1)?)?.to_str()?, word)
        }
        _ => None,
    }
}

fn end(result: Result<u8, Failure>, display: Display) -> u8 {
    match result {
        Ok(code) => code,
        Err(failure) => {
            report::tell(&failure.render(display, terminal_columns()));
            failure.exit_code()
        }
    }
}

/// Takes what `.env` says, for what builds. Returns what is to be told about it.
fn read_env_file(
    args: &Args,
    options: &BuildOptions,
    environment: &mut Environment,
) -> Result<Vec<String>, Failure> {
    let builds = match &args.command {
        Some(Command::Word(words)) => {
            words.first().is_some_and(|word| TargetCall::is_target(word)) && !TargetCall::asks_for_help(words)
        }
        // Of a Dockerfile's folder docker reads nothing but the context; `.env` is a program's there.
        Some(Command::Why(why)) if again::is_of_dockerfile(&why.words) => false,
        Some(Command::Plan(plan)) if again::is_of_dockerfile(&plan.words) => false,
        Some(
            Command::Run(_)
            | Command::Shell(_)
            | Command::Resume(_)
            | Command::Why(_)
            | Command::Plan(_)
            | Command::Compile(_)
            | Command::Solve(_)
            | Command::Config(_),
        ) => true,
        Some(
            Command::Build(_)
            | Command::Bake(_)
            | Command::Ls(_)
            | Command::Doc(_)
            | Command::Ast(_)
            | Command::Image(_)
            | Command::Pack(_)
            | Command::Cache(_)
            | Command::Status(_)
            | Command::Logs(_)
            | Command::History(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Docker(_)
            | Command::Engine(_)
            | Command::Doctor(_)
            | Command::Completion(_)
            | Command::Help(_),
        )
        | None => false,
    };
    if !builds {
        return Ok(Vec::new());
    }
    let Some(Lines { path: _, shown, lines }) = given::read_lines(Kind::Env, options, environment)? else {
        return Ok(Vec::new());
    };
    // Beside the others it is there for programs of the project's own.
    let beside = [Kind::Arg, Kind::Secret].iter().any(|kind| environment.cwd.join(kind.name()).exists());
    Ok(environment.add_file(lines, &shown, beside))
}

/// Tells of what does not end the run.
fn warn(lines: &[String], display: Display) {
    if display.mode != ProgressMode::Quiet {
        lines.iter().for_each(|line| report::tell(&report::warning(line, display, terminal_columns())));
    }
}

/// Settles what a build needs to know, and tells what there is to be told about it.
fn settle(
    options: &BuildOptions,
    output: &OutputOptions,
    environment: &Environment,
) -> Result<Settings, Failure> {
    let given = given::collect(options, environment)?;
    let settings = settings::settle(options, output, given, environment)?;
    warn(&settings.warnings, settings.display);
    Ok(settings)
}

/// Returns the options that stand behind the name of a command.
fn options_of(args: &Args) -> BuildOptions {
    match &args.command {
        Some(Command::Build(build)) => build.display(),
        Some(Command::Bake(bake)) => bake.options(),
        Some(Command::Run(run)) => run.build.clone(),
        Some(Command::Shell(shell)) => shell.build.clone(),
        Some(Command::Resume(resume)) => resume.build.clone(),
        Some(Command::Why(why)) => why.build.clone(),
        Some(Command::Plan(plan)) => plan.build.clone(),
        Some(Command::Compile(compile)) => compile.build.clone(),
        Some(Command::Solve(solve)) => solve.build.clone(),
        Some(Command::Image(image)) => image.options(),
        Some(Command::Pack(pack)) => pack.options(),
        Some(
            Command::Ls(_)
            | Command::Doc(_)
            | Command::Ast(_)
            | Command::Cache(_)
            | Command::Status(_)
            | Command::Logs(_)
            | Command::History(_)
            | Command::Login(_)
            | Command::Logout(_)
            | Command::Docker(_)
            | Command::Engine(_)
            | Command::Doctor(_)
            | Command::Config(_)
            | Command::Completion(_)
            | Command::Help(_)
            | Command::Word(_),
        )
        | None => BuildOptions::default(),
    }
}

/// Tells whether a command asks for our own logs: buildx's `--debug`.
fn asks_for_logs(args: &Args) -> bool {
    matches!(&args.command, Some(Command::Build(build)) if build.debug == Some(true))
}

/// Our own logs, for us; nothing unless RB_LOG asks, or a command does.
fn start_logs(environment: &Environment, is_asked: bool) {
    let asked = || is_asked.then(|| "debug".to_owned());
    if let Some(filter) = environment.log_filter().or_else(asked) {
        // A filter that cannot be read asks for logs all the same.
        let filter: Targets = filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::DEBUG));
        let lines =
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(environment.colours());
        // A stderr that is gone is no reason to panic.
        let lines = lines.log_internal_errors(false);
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    }
}

fn dispatch(args: Args, environment: &Environment) -> Result<u8, Failure> {
    let Args { build, course, output, version: _, command } = args;
    let Some(command) = command else {
        let is_alone = output == OutputOptions::default() && course == CourseOptions::default();
        return if is_alone && build == BuildOptions::default() {
            start::welcome(environment)
        } else if is_alone && build == (BuildOptions { verbose: true, ..BuildOptions::default() }) {
            start::version()
        } else {
            let swallowed = build.secret.iter().any(|secret| secret.reveal().starts_with('+'))
                || build.build_arg.iter().any(|given| given.starts_with('+'));
            let more = if swallowed { "; --secret and --build-arg take the word behind them" } else { "" };
            Err(Failure::input(
                "no target was named",
                Some(format!("name one: `rb [OPTIONS] [DIR]+TARGET`{more}")),
            ))
        };
    };
    if course != CourseOptions::default() && !matches!(command, Command::Word(_)) {
        let help = "they stand before a target: `rb --keep-going +a +b`".to_owned();
        return Err(Failure::input(
            "--keep-going, --interactive, --dry-run and --expect-cached are for targets alone",
            Some(help),
        ));
    }
    match command {
        Command::Word(words) if words.first().is_some_and(|word| TargetCall::is_target(word)) => {
            if TargetCall::asks_for_help(&words) {
                return doc::of_target(environment, &texts(&words)?);
            }
            let settings = settle(&build, &output, environment)?;
            if output.artifact {
                artifacts::execute(&settings, &ArtifactCalls::parse(&words)?, course)
            } else if output.image {
                targets::image(&settings, &TargetCall::parse_all(&words)?, &output, course)
            } else {
                targets::execute(&settings, &TargetCall::parse_all(&words)?, &output, course)
            }
        }
        Command::Word(words) => Err(start::unknown_word(environment, &texts(&words)?)),
        Command::Build(args) => {
            refuse_outputs("build", &output)?;
            dockerfile::execute(environment, build, *args)
        }
        Command::Bake(bake) => {
            refuse_outputs("bake", &output)?;
            bake::execute(environment, build, &bake)
        }
        Command::Run(run) => {
            refuse_outputs("run", &output)?;
            let settings = settle(&run.build.clone().over(build), &output, environment)?;
            run::execute(&settings, &run)
        }
        Command::Shell(shell) => {
            refuse_outputs("shell", &output)?;
            let settings = settle(&shell.build.clone().over(build), &output, environment)?;
            shell::execute(&settings, &shell)
        }
        Command::Resume(resume) => {
            refuse_outputs("resume", &output)?;
            let output = OutputOptions { no_output: resume.no_output, ..output };
            let options = resume.build.clone().over(build);
            let settings = settle(&options, &output, environment)?;
            resume::execute(environment, &options, (&settings, &resume))
        }
        Command::Compile(compile) => {
            refuse_outputs("compile", &output)?;
            let settings = settle(&compile.build.clone().over(build), &output, environment)?;
            compile::execute(&settings, &compile)
        }
        Command::Solve(solve) => {
            let options = solve.build.clone().over(build);
            refuse_language(&options)?;
            let settings = settle(&options, &output, environment)?;
            let outputs = [output.output, solve.output.clone()].concat();
            solve::execute(&settings, &solve, &OutputOptions { output: outputs, ..output })
        }
        Command::Ls(ls) => {
            refuse_options("ls", &build, &output)?;
            ls::execute(environment, &ls)
        }
        Command::Doc(doc) => {
            refuse_options("doc", &build, &output)?;
            doc::execute(environment, &doc)
        }
        Command::Ast(ast) => {
            refuse_options("ast", &build, &output)?;
            ast::execute(environment, &ast)
        }
        Command::Image(image) => {
            refuse_options("image", &build, &output)?;
            let options = image.options().over(build).building_nothing();
            image::execute(&settings::settle(&options, &output, Given::default(), environment)?, &image)
        }
        Command::Pack(pack) => {
            refuse_outputs("pack", &output)?;
            pack::execute(environment, build, &pack)
        }
        Command::Cache(cache) => {
            refuse_options("cache", &build, &output)?;
            let build = build.building_nothing();
            cache::execute(&settings::settle(&build, &output, Given::default(), environment)?, &cache)
        }
        Command::Status(status) => {
            refuse_options("status", &build, &output)?;
            status::execute(environment, &status)
        }
        Command::Logs(logs) => {
            refuse_options("logs", &build, &output)?;
            logs::execute(environment, &logs)
        }
        Command::History(history) => {
            refuse_options("history", &build, &output)?;
            history::execute(environment, &history)
        }
        Command::Why(why) => {
            refuse_outputs("why", &output)?;
            again::why(environment, *why, build, &output)
        }
        Command::Plan(plan) => {
            refuse_outputs("plan", &output)?;
            again::plan(environment, *plan, build, &output)
        }
        Command::Login(login) => {
            refuse_options("login", &build, &output)?;
            login::login(environment, &login, settings::display(&build, environment)?)
        }
        Command::Logout(logout) => {
            refuse_options("logout", &build, &output)?;
            login::logout(environment, &logout, settings::display(&build, environment)?)
        }
        Command::Docker(command) => {
            refuse_options("docker", &build, &output)?;
            docker::execute(&command)
        }
        Command::Engine(command) => {
            refuse_options("engine", &build, &output)?;
            engines::execute(environment, &command)
        }
        Command::Doctor(doctor) => {
            refuse_options("doctor", &build, &output)?;
            // Without words it tells of this machine, whoever builds.
            let told = if doctor.engine.is_some() { elsewhere::doctor(environment, &doctor)? } else { None };
            told.map_or_else(|| doctor::execute(environment, &doctor), Ok)
        }
        Command::Config(config) => {
            refuse_outputs("config", &output)?;
            config::execute(environment, &build, &config)
        }
        Command::Completion(completion) => {
            refuse_options("completion", &build, &output)?;
            completion::execute(&completion)
        }
        Command::Help(help) => {
            refuse_options("help", &build, &output)?;
            help::execute(environment, &help)
        }
    }
}

fn refuse_options(command: &str, build: &BuildOptions, output: &OutputOptions) -> Result<(), Failure> {
    refuse_outputs(command, output)?;
    // How to show things says something to every command.
    if build.clone().without_display() == BuildOptions::default() {
        return Ok(());
    }
    Err(nothing_to(command, "options of a build"))
}

fn refuse_outputs(command: &str, output: &OutputOptions) -> Result<(), Failure> {
    if *output == OutputOptions::default() {
        Ok(())
    } else {
        Err(nothing_to(command, "options of a target's output"))
    }
}

/// Refuses what only a Buildfile can mean.
fn refuse_language(build: &BuildOptions) -> Result<(), Failure> {
    let BuildOptions { build_arg, push, ci, strict, .. } = build;
    if build_arg.is_empty() && !push && !ci && !strict {
        return Ok(());
    }
    let help = "a definition is what a Buildfile became: give these to `rb compile`".to_owned();
    Err(Failure::input("--build-arg, --push, --ci and --strict say nothing to `rb solve`", Some(help)))
}

fn nothing_to(command: &str, what: &str) -> Failure {
    Failure::input(
        format!("{what} before the command say nothing to `rb {command}`"),
        Some(format!("`rb {command} --help` lists its options; they stand behind its name")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_other_builders_are_told_by_name() {
        let said = |word: &str| {
            let argv = ["rb", word, "+t"].map(OsString::from);
            let error = Args::try_parse_from(&argv).expect_err("no option of ours");
            habit(&error, &argv).map(|habit| habit.message)
        };
        for (word, option) in
            [("--config=x", "--config"), ("--sbom", "--sbom"), ("--buildkit-host=x", "--buildkit-host")]
        {
            let expected = format!("`{option}` is not part of this version of rb: it comes later");
            assert_eq!(said(word), Some(expected), "{word}");
        }
        assert_eq!(said("-f"), Some("`-f` is not part of this version of rb".to_owned()));
        assert_eq!(said("--no-cahce"), None);
        let argv = ["rb", "-q", "cache", "clean"].map(OsString::from);
        let error = Args::try_parse_from(&argv).expect_err("no command of ours");
        let told = habit(&error, &argv).map(|habit| habit.message);
        assert_eq!(told.as_deref(), Some("there is no command `rb cache clean`"));
    }
}
