//! What `rb` can do, one command a file.
//!
//! [`main`] walks from argv to the exit code; commands take [`crate::settings::Settings`] and what was typed, and return an exit code or
//! a [`Failure`]. **Invariant:** no thread exists before [`workbench`] has entered the runtime.

mod build;
mod compile;
mod doctor;
mod exports;
mod image;
mod ls;
mod run;
mod solve;
mod start;
mod table;
mod workbench;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::{Args, BuildOptions, Command, OutputOptions, TargetCall, texts};
use crate::habits::{self, Habit};
use crate::progress::terminal_columns;
use crate::report::{self, Failure};
use crate::settings::{self, Display, Environment, ProgressMode};

/// Does what argv says and returns the exit code.
pub(crate) fn main() -> u8 {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            if let Some(habit) = habit(&error) {
                return end(Err(habit.into()), Display { mode: ProgressMode::Plain, colours: false });
            }
            // Help and version go to stdout, errors to stderr; a reader that went away is no failure.
            let _ignored = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let fallback = Display { mode: ProgressMode::Plain, colours: false };
    let environment = match Environment::read() {
        Ok(environment) => environment,
        Err(error) => return end(Err(error.into()), fallback),
    };
    start_logs(&environment);
    let typed = typed_display(&args).over(args.build.clone());
    match settings::display(&typed, &environment) {
        Ok(display) => end(dispatch(args, &environment), display),
        Err(error) => end(Err(error.into()), fallback),
    }
}

/// Tells of an option that is unknown here and known elsewhere.
fn habit(error: &clap::Error) -> Option<Habit> {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) => habits::of_builders(option),
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

/// Returns the options that stand behind the name of a command.
fn typed_display(args: &Args) -> BuildOptions {
    match &args.command {
        Some(Command::Run(run)) => run.build.clone(),
        Some(Command::Compile(compile)) => compile.build.clone(),
        Some(Command::Solve(solve)) => solve.build.clone(),
        Some(
            Command::Ls(_)
            | Command::Image(_)
            | Command::Doctor(_)
            | Command::Completion { .. }
            | Command::Word(_),
        )
        | None => BuildOptions::default(),
    }
}

/// Our own logs, for us; nothing unless RB_LOG asks.
fn start_logs(environment: &Environment) {
    if let Some(filter) = environment.log_filter() {
        // A filter that cannot be read asks for logs all the same.
        let filter: Targets = filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::DEBUG));
        let lines =
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(environment.colours());
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    }
}

fn dispatch(args: Args, environment: &Environment) -> Result<u8, Failure> {
    let Args { build, output, command } = args;
    let Some(command) = command else {
        return if build == BuildOptions::default() && output == OutputOptions::default() {
            start::welcome(environment)
        } else {
            Err(Failure::input(
                "no target was named",
                Some("name one: `rb [OPTIONS] [DIR]+TARGET`".to_owned()),
            ))
        };
    };
    match command {
        Command::Word(words) if words.first().is_some_and(|word| TargetCall::is_target(word)) => {
            let settings = settings::settle(&build, environment)?;
            build::execute(&settings, &TargetCall::parse(&words)?, &output)
        }
        Command::Word(words) => Err(start::unknown_word(environment, &texts(&words)?)),
        Command::Run(run) => {
            refuse_outputs("run", &output)?;
            let settings = settings::settle(&run.build.clone().over(build), environment)?;
            run::execute(&settings, &run)
        }
        Command::Compile(compile) => {
            refuse_outputs("compile", &output)?;
            let settings = settings::settle(&compile.build.clone().over(build), environment)?;
            compile::execute(&settings, &compile)
        }
        Command::Solve(solve) => {
            let settings = settings::settle(&solve.build.clone().over(build), environment)?;
            let outputs = [output.output, solve.output.clone()].concat();
            solve::execute(&settings, &solve, &outputs)
        }
        Command::Ls(ls) => {
            refuse_options("ls", &build, &output)?;
            ls::execute(environment, &ls)
        }
        Command::Image(image) => {
            refuse_options("image", &build, &output)?;
            image::execute(&settings::settle(&build, environment)?, &image)
        }
        Command::Doctor(doctor) => {
            refuse_options("doctor", &build, &output)?;
            doctor::execute(environment, &doctor)
        }
        Command::Completion { shell } => {
            refuse_options("completion", &build, &output)?;
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "rb", &mut script);
            report::print(&script).map(|()| 0)
        }
    }
}

fn refuse_options(command: &str, build: &BuildOptions, output: &OutputOptions) -> Result<(), Failure> {
    refuse_outputs(command, output)?;
    // How to show things says something to every command.
    let BuildOptions { no_cache, jobs, allow_bind, platform, epoch, progress: _, quiet: _ } = build;
    if !*no_cache && jobs.is_none() && allow_bind.is_empty() && platform.is_none() && epoch.is_none() {
        return Ok(());
    }
    Err(nothing_to(command, "options of a build"))
}

fn refuse_outputs(command: &str, output: &OutputOptions) -> Result<(), Failure> {
    if *output == OutputOptions::default() {
        Ok(())
    } else {
        Err(nothing_to(command, "--output and --no-output"))
    }
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
            let error = Args::try_parse_from(["rb", word, "+t"]).expect_err("no option of ours");
            habit(&error).map(|habit| habit.message)
        };
        for (word, option) in [("--push", "--push"), ("-P", "-P"), ("--secret=A=b", "--secret"), ("-f", "-f")]
        {
            let expected = format!("`{option}` is not part of this version of rb");
            assert_eq!(said(word), Some(expected), "{word}");
        }
        assert_eq!(said("--no-cahce"), None);
    }
}
