//! The command line exactly as it was typed.
//!
//! In: argv. Out: [`Args`]. One clap table makes parsing, help and completion; what the options mean beside the
//! environment and the defaults is decided in [`crate::settings`].
//!
//! A target is a word with a `+`; clap hands the first word that is no command, and all behind it, over as it is
//! ([`Command::Word`]), and [`TargetCall::parse_all`] reads it: further targets, too. So options of `rb` stand before the target, and every
//! `--NAME=value` behind it belongs to the target. Options have Earthly's names where Earthly has them; called as
//! `earthly`, the few words that mean something else there are read as Earthly does ([`as_earthly`]).

mod artifacts;
mod bake;
mod build;
mod cache;
mod calls;
mod course;
mod docker;
mod dockerfile;
mod engine;
mod history;
mod image;
pub(crate) mod kaniko;
mod limits;
mod llb;
mod login;
mod logs;
mod look;
mod output;
mod pack;
mod plan;
mod resume;
mod run;
mod shell;
mod why;

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use artifacts::ArtifactCalls;
pub(crate) use bake::{BakeArgs, BakeList};
pub(crate) use build::{
    BuildOptions, Hidden, IsolationChoice, ProgressChoice, PullChoice, StepNetworkChoice,
};
pub(crate) use cache::{CacheCommand, CacheFilter, DuArgs, PinArgs, PruneArgs};
pub(crate) use calls::{ArgsError, TargetCall, texts};
pub(crate) use course::CourseOptions;
pub(crate) use docker::DockerCommand;
pub(crate) use dockerfile::{
    Allowed, CallChoice, CallFormat, Called, DockerNetwork, DockerfileArgs, HostAddress, LayoutFormat,
    NamedContext, Pair, StepVolume,
};
pub(crate) use engine::{EngineAddArgs, EngineCommand, EngineDrainArgs};
pub(crate) use history::{
    HistoryCommand, HistoryExportArgs, HistoryImportArgs, HistoryLogsArgs, HistoryLsArgs, HistoryRmArgs,
    HistoryShowArgs,
};
pub(crate) use image::{
    ImageCommand, ImageCopyArgs, ImageInspectArgs, ImageLoadArgs, ImageLsArgs, ImagePullArgs, ImagePushArgs,
    ImageSaveArgs, ListFormat, SaveChoice, TypesChoice,
};
pub(crate) use limits::{Cpus, LimitOptions, Ulimit};
pub(crate) use llb::{CompileArgs, FrontendChoice, ResolverChoice, SolveArgs};
pub(crate) use login::{LoginArgs, LogoutArgs, RegistryArgs};
pub(crate) use logs::LogsArgs;
pub(crate) use look::{
    AstArgs, CompletionArgs, ConfigArgs, DocArgs, DoctorArgs, HelpArgs, LsArgs, StatusArgs,
};
pub(crate) use output::{LoadChoice, OutputOptions};
pub(crate) use pack::{
    AddRegistry, BuilderCreate, BuilderInspect, DefaultBuilder, DefaultRegistry, Experimental, Listed,
    Mirrors, ModuleInspect, ModuleNew, ModulePackage, ModulePull, ModuleTarget, PackArgs, PackBinding,
    PackBuild, PackBuilder, PackBuildpack, PackCache, PackChoices, PackCommand, PackConfig, PackDetect,
    PackExtension, PackFormat, PackInspect, PackLauncher, PackLifecycle, PackNetwork, PackPull, PackPulls,
    PackRebase, PackSbom, PackSbomDownload, PackageFormat, PullPolicy, Registries, RegistryType,
    RunImageMirrors, TrustedBuilders,
};
pub(crate) use plan::PlanArgs;
pub(crate) use resume::ResumeArgs;
pub(crate) use run::{NetworkChoice, RunArgs, RunMount, Tmpfs, Volume};
pub(crate) use shell::ShellArgs;
pub(crate) use why::WhyArgs;

use crate::help;

const ABOUT: &str = "Builds images and artifacts from a Buildfile, with nothing else installed";

const EXAMPLES: &str = "\
Examples:
  rb +app                              build `app` of the Buildfile here
  rb ./services/api+image --TAG=v2     a target elsewhere, with an argument
  rb -o type=oci,dest=app.tar +image   write its image as an OCI archive
  rb run +image                        build it, then run it
  rb ls --long                         what can be built here, and with what";

/// All that was typed.
#[derive(Debug, Parser)]
#[command(
    name = "rb",
    version,
    about = ABOUT,
    override_usage = "rb [OPTIONS] [DIR]+TARGET [--NAME=VALUE]...\n       rb [OPTIONS] COMMAND",
    after_help = help_end(),
    after_long_help = long_help_end(),
    max_term_width = 100,
    disable_help_subcommand = true,
    disable_version_flag = true
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    #[command(flatten)]
    pub(crate) course: CourseOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    /// Print the version; so does -V alone
    #[arg(long, action = clap::ArgAction::Version)]
    pub(crate) version: Option<bool>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a Dockerfile, as `docker build` does
    Build(Box<DockerfileArgs>),
    /// Build the targets of bake files, or show what they are
    Bake(Box<BakeArgs>),
    /// Run an image, or a target, which is built first if need be
    Run(Box<RunArgs>),
    /// Build with buildpacks, and make and look after them
    Pack(PackArgs),
    /// Open a shell where a step failed, or in what a target becomes
    Shell(Box<ShellArgs>),
    /// Build again, going on where a step failed
    Resume(Box<ResumeArgs>),
    /// List the targets and functions of a Buildfile
    Ls(LsArgs),
    /// Show what a target is for, what it takes and what it makes
    Doc(DocArgs),
    /// Print the tree of a Buildfile as JSON, and what is wrong in it
    Ast(AstArgs),
    /// Show what a target compiles to: BuildKit's LLB
    Compile(CompileArgs),
    /// Build a marshalled LLB definition
    Solve(SolveArgs),
    /// Look after the images in the store
    #[command(subcommand)]
    Image(ImageCommand),
    /// Look after what is kept between builds
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Tell who waits for what, in every `rb` at work here
    Status(StatusArgs),
    /// Show what the steps of a build wrote, whole
    Logs(LogsArgs),
    /// Show what would run and why, for how long, what would be pulled
    Plan(Box<PlanArgs>),
    /// Explain why steps of a target would run, or did
    Why(Box<WhyArgs>),
    /// Look after the records of builds: what ran, why, what it wrote
    #[command(subcommand)]
    History(HistoryCommand),
    /// Log in to a registry, for rb and docker
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Make rb a plugin of docker
    #[command(subcommand)]
    Docker(DockerCommand),
    /// Look after BuildKit daemons by name, and choose who builds
    #[command(subcommand)]
    Engine(EngineCommand),
    /// Tell what this machine allows, and what to do where it does not
    Doctor(DoctorArgs),
    /// Show the settings in force, and who says so
    Config(ConfigArgs),
    /// Print the script by which a shell completes words
    Completion(CompletionArgs),
    /// Explain a command, topic, statement, error code or target
    Help(HelpArgs),
    /// The first word that is no command, and all words behind it.
    #[command(external_subcommand)]
    Word(Vec<OsString>),
}

/// Returns argv as `rb` would have it. Called by the name `earthly`, `--output` takes no value there, and `debug ast` is
/// our `ast`.
pub(crate) fn as_earthly(mut argv: Vec<OsString>) -> Vec<OsString> {
    let called = argv.first().map(Path::new).and_then(Path::file_name);
    if called.is_none_or(|name| name != "earthly") {
        return argv;
    }
    // Behind the target every word is the target's.
    let end = argv.iter().position(|word| TargetCall::is_target(word)).unwrap_or(argv.len());
    for word in argv.iter_mut().take(end).filter(|word| *word == "--output") {
        *word = "--force-output".into();
    }
    if argv.get(1..3).is_some_and(|words| words == ["debug", "ast"]) {
        argv.remove(1);
    }
    argv
}

/// Returns the names of all commands, for "did you mean".
pub(crate) fn command_names() -> Vec<String> {
    Args::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Tells whether a long option of this name exists before a target.
fn is_option(name: &str) -> bool {
    Args::command().get_arguments().any(|argument| argument.get_long() == Some(name))
}

fn help_end() -> String {
    format!(
        "{EXAMPLES}\n\n`rb --help` says more of each option, `rb help` lists topics, `rb help WORD` explains one."
    )
}

fn long_help_end() -> String {
    format!("{EXAMPLES}\n\nTopics, for `rb help TOPIC`:\n{}", help::list())
}

#[cfg(test)]
mod tests;
