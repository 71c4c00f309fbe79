//! The command line exactly as it was typed.
//!
//! In: argv. Out: [`Args`]. One clap table makes parsing, help and completion; what the options mean beside the
//! environment and the defaults is decided in [`crate::settings`].
//!
//! A target is a word with a `+`; clap hands the first word that is no command, and all behind it, over as it is
//! ([`Command::Word`]), and [`TargetCall::parse`] reads it. So options of `rb` stand before the target, and every
//! `--NAME=value` behind it belongs to the target. Options have Earthly's names where Earthly has them; called as
//! `earthly`, the few words that mean something else there are read as Earthly does ([`as_earthly`]).

mod cache;
mod calls;
mod image;
mod login;
mod run;

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};
use rb_oci::Platform;

pub(crate) use cache::CacheCommand;
pub(crate) use calls::{ArgsError, ArtifactCall, TargetCall, texts};
pub(crate) use image::{
    ImageCommand, ImageCopyArgs, ImageInspectArgs, ImageLoadArgs, ImageLsArgs, ImagePushArgs, ImageSaveArgs,
    ListFormat, SaveChoice,
};
pub(crate) use login::{LoginArgs, LogoutArgs};
pub(crate) use run::{NetworkChoice, RunArgs, RunMount, Tmpfs, Volume};

use crate::output_spec::{Annotation, OutputSpec};
use crate::{environment, settings};

const ABOUT: &str = "Builds images and artifacts from a Buildfile, with nothing else installed";

const EXAMPLES: &str = "\
Examples:
  rb +app                               build the target `app` of the Buildfile here
  rb ./services/api+image --TAG=v2      a target elsewhere, with a build argument
  rb -o type=oci,dest=app.tar +image    write its image as an OCI archive
  rb run +image                         build it, then run it
  rb ls --long                          what can be built here, and with which arguments";

/// All that was typed.
#[derive(Debug, Parser)]
#[command(
    name = "rb",
    version,
    about = ABOUT,
    override_usage = "rb [OPTIONS] [DIR]+TARGET [--NAME=VALUE]...\n       rb [OPTIONS] COMMAND",
    after_help = EXAMPLES,
    after_long_help = long_help_end(),
    max_term_width = 100,
    disable_help_subcommand = false
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of everything that builds.
#[derive(Debug, Default, Clone, PartialEq, Eq, ClapArgs)]
pub(crate) struct BuildOptions {
    /// Look no result up; results are stored all the same
    #[arg(long, help_heading = "Build")]
    pub(crate) no_cache: bool,
    /// Steps that may run at once [default: one per processor]
    #[arg(long, short, value_name = "N", help_heading = "Build")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Let `FROM @host --bind` show this folder, beyond those that hold software
    #[arg(long, value_name = "DIR", help_heading = "Build")]
    pub(crate) allow_bind: Vec<PathBuf>,
    /// Platform to build for; only this machine's own so far
    #[arg(long, value_name = "OS/ARCH", help_heading = "Build")]
    pub(crate) platform: Option<Platform>,
    /// Build argument, weaker than one behind the target; `NAME` alone passes this shell's value on
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Build")]
    pub(crate) build_arg: Vec<String>,
    /// When to ask registries what tags stand for [default: for what the image store does not have; --pull alone:
    /// always]
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        help_heading = "Build"
    )]
    pub(crate) pull: Option<PullChoice>,
    /// Trust the authorities in a PEM file beside the usual ones: rb itself, and in steps, of which nothing is kept
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(crate) ca: Vec<PathBuf>,
    /// Give steps and programs this machine's proxies as variables, of which nothing is kept [default: true]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Network"
    )]
    pub(crate) http_proxy: Option<bool>,
    /// Run what is marked `--push`, and push images
    #[arg(long, help_heading = "Build")]
    pub(crate) push: bool,
    /// As a CI run: --strict, and of a target that is named as such no output
    #[arg(long, help_heading = "Build")]
    pub(crate) ci: bool,
    /// Run nothing outside of sandboxes (LOCALLY)
    #[arg(long, help_heading = "Build")]
    pub(crate) strict: bool,
    /// Let steps run with all privileges (`RUN --privileged`)
    #[arg(long, short = 'P', help_heading = "Build")]
    pub(crate) allow_privileged: bool,
    /// Lend a secret to steps that ask for it; `NAME` alone passes this shell's value on
    #[arg(long, short, value_name = "NAME[=VALUE]", help_heading = "Secrets and files")]
    pub(crate) secret: Vec<Hidden>,
    /// Lend a file's content as a secret
    #[arg(long, value_name = "NAME=PATH", help_heading = "Secrets and files")]
    pub(crate) secret_file: Vec<String>,
    /// File of build arguments, weakest of all [default: .arg, if it is there]
    #[arg(long, value_name = "PATH", help_heading = "Secrets and files")]
    pub(crate) arg_file_path: Option<PathBuf>,
    /// File of secrets [default: .secret, if it is there]
    #[arg(long, value_name = "PATH", help_heading = "Secrets and files")]
    pub(crate) secret_file_path: Option<PathBuf>,
    /// File of RB_… and EARTHLY_… variables [default: .env, if it is there]
    #[arg(long, value_name = "PATH", help_heading = "Secrets and files")]
    pub(crate) env_file_path: Option<PathBuf>,
    /// Latest time that images show, in seconds since 1970 [env: SOURCE_DATE_EPOCH]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = settings::epoch_seconds,
        allow_negative_numbers = true,
        help_heading = "Build"
    )]
    pub(crate) epoch: Option<i64>,
    /// How to show progress, on stderr: a live view, plain lines, one JSON object per line, or not at all
    #[arg(long, value_name = "HOW", value_enum, help_heading = "Display")]
    pub(crate) progress: Option<ProgressChoice>,
    /// Show errors only, and print digests of images on stdout (as --progress=quiet)
    #[arg(long, short, help_heading = "Display")]
    pub(crate) quiet: bool,
}

/// A word that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden(String);

impl Hidden {
    /// Returns the word.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Hidden")
    }
}

impl BuildOptions {
    /// Returns these options without those that say how to show things.
    pub(crate) fn without_display(self) -> Self {
        Self { progress: None, quiet: false, ..self }
    }

    /// Joins options typed before and behind the name of a command; those behind win.
    pub(crate) fn over(self, outer: Self) -> Self {
        Self {
            no_cache: self.no_cache || outer.no_cache,
            jobs: self.jobs.or(outer.jobs),
            allow_bind: [outer.allow_bind, self.allow_bind].concat(),
            platform: self.platform.or(outer.platform),
            build_arg: [outer.build_arg, self.build_arg].concat(),
            pull: self.pull.or(outer.pull),
            ca: [outer.ca, self.ca].concat(),
            http_proxy: self.http_proxy.or(outer.http_proxy),
            push: self.push || outer.push,
            ci: self.ci || outer.ci,
            strict: self.strict || outer.strict,
            allow_privileged: self.allow_privileged || outer.allow_privileged,
            secret: [outer.secret, self.secret].concat(),
            secret_file: [outer.secret_file, self.secret_file].concat(),
            arg_file_path: self.arg_file_path.or(outer.arg_file_path),
            secret_file_path: self.secret_file_path.or(outer.secret_file_path),
            env_file_path: self.env_file_path.or(outer.env_file_path),
            epoch: self.epoch.or(outer.epoch),
            progress: self.progress.or(outer.progress),
            quiet: self.quiet || outer.quiet,
        }
    }
}

/// When registries are asked what a tag stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullChoice {
    /// Also for what the image store has
    #[value(alias = "true")]
    Always,
    /// For what is not known here, from the image store or from an earlier time
    Missing,
    /// For nothing: what is not here is an error
    Never,
}

/// Where results go.
#[derive(Debug, Default, Clone, PartialEq, Eq, ClapArgs)]
pub(crate) struct OutputOptions {
    /// Also write the target's filesystem: type=oci (an image; tar=false for a folder), type=docker (an image for `docker
    /// load`; without dest= loaded at once), type=image,name=NAME (into the store), type=tar or type=local; dest=- is stdout.
    /// Images take compression=gzip|zstd|uncompressed, compression-level=N, force-compression=true,
    /// oci-mediatypes=false, annotation.KEY=VALUE
    #[arg(long, short, value_name = "type=TYPE,dest=PATH", help_heading = "Output")]
    pub(crate) output: Vec<OutputSpec>,
    /// Hand the saved images to Docker, podman or containerd, whichever is there or is named
    #[arg(
        long,
        value_name = "PROGRAM",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        conflicts_with = "no_output",
        help_heading = "Output"
    )]
    pub(crate) load: Option<LoadChoice>,
    /// Annotate images; `manifest-descriptor:KEY=VALUE` annotates what names them in a layout
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Output")]
    pub(crate) annotation: Vec<Annotation>,
    /// Write what was made as JSON: digests and names of images
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the id of the image: the digest of its config, as docker shows it
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Build, but save no image and write no local artifact; --push counts all the same
    #[arg(long, help_heading = "Output")]
    pub(crate) no_output: bool,
    /// Write one artifact: `rb -a [DIR]+TARGET/PATH [DEST]`, and nothing else
    #[arg(
        long,
        short,
        conflicts_with_all = ["output", "no_output", "image", "load", "annotation", "metadata_file", "iidfile"],
        help_heading = "Output"
    )]
    pub(crate) artifact: bool,
    /// Save the target's own images, and nothing else
    #[arg(long, conflicts_with_all = ["output", "no_output"], help_heading = "Output")]
    pub(crate) image: bool,
    /// Earthly's `--output`: also what --ci would not put out.
    #[arg(long, hide = true, conflicts_with = "no_output")]
    pub(crate) force_output: bool,
}

/// Who may keep images beside `rb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadChoice {
    /// The first of these that is there
    Auto,
    /// Docker, by its socket (DOCKER_HOST)
    Docker,
    /// podman
    Podman,
    /// containerd, by `ctr`
    Containerd,
}

/// Ways to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressChoice {
    /// `tty` on a terminal, else `plain`
    Auto,
    /// Lines `+target | output`
    Plain,
    /// A live view that is gone when the build is done
    Tty,
    /// One JSON object per line
    Json,
    /// Errors only
    Quiet,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a target if need be and run its image, or run an image of the store
    Run(Box<RunArgs>),
    /// List the targets and functions of a Buildfile
    Ls(LsArgs),
    /// Show what a target is for, what it takes and what it makes
    Doc(DocArgs),
    /// Print the tree of a Buildfile as JSON, with all that is wrong in it
    Ast(AstArgs),
    /// Show what a target compiles to: LLB as text, as JSON, or as a file for `rb solve`
    Compile(CompileArgs),
    /// Build a marshalled LLB definition
    Solve(SolveArgs),
    /// Look after the images in the store
    #[command(subcommand)]
    Image(ImageCommand),
    /// Look after what is kept between builds
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Tell who waits for what, in every `rb` at work over this state directory
    Status(StatusArgs),
    /// Log in to a registry, for rb and docker
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Tell what this machine allows, and what to do where it does not
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completion {
        /// Shell to complete in
        shell: clap_complete::Shell,
    },
    /// The first word that is no command, and all words behind it.
    #[command(external_subcommand)]
    Word(Vec<OsString>),
}

/// `rb ls`
#[derive(Debug, ClapArgs)]
pub(crate) struct LsArgs {
    /// Show the arguments of each target
    #[arg(long, short)]
    pub(crate) args: bool,
    /// Show the whole documentation, arguments and outputs of each target
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of the Buildfile [default: here, or the nearest above]
    pub(crate) dir: Option<PathBuf>,
}

/// `rb doc`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  rb doc                                what the targets here are for
  rb doc ./services/api+image           one target; as `rb ./services/api+image --help`")]
pub(crate) struct DocArgs {
    /// Show arguments and outputs of each target of a folder, and targets without a comment
    #[arg(long, short)]
    pub(crate) long: bool,
    /// What to describe [default: all targets here, or of the nearest Buildfile above]
    #[arg(value_name = "[DIR][+TARGET]")]
    pub(crate) word: Option<String>,
}

/// `rb ast`
#[derive(Debug, ClapArgs)]
pub(crate) struct AstArgs {
    /// A build file, or its folder
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    pub(crate) path: PathBuf,
}

/// `rb compile`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb compile [OPTIONS] [DIR]+TARGET [--NAME=VALUE]...",
    after_help = "\
Examples:
  rb compile +app                       text, for people
  rb compile --json +app                JSON, one object per operation
  rb compile -o app.pb +app             protobuf, as BuildKit takes it; `-o -` writes to stdout"
)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    /// Print JSON
    #[arg(long, conflicts_with = "output", help_heading = "Output")]
    pub(crate) json: bool,
    /// Write the marshalled definition to a file; `-` is stdout
    #[arg(long, short, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,
    /// The target and its arguments
    #[arg(value_name = "TARGET", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

/// `rb solve`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Only what --local and --oci-layout lend exists for the definition.

Examples:
  rb compile -o app.pb +app && rb solve app.pb --local context=.
  rb solve - -o type=local,dest=out < app.pb")]
pub(crate) struct SolveArgs {
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    /// Lend a folder as `local://NAME`
    #[arg(long, value_name = "NAME=DIR", value_parser = pair, help_heading = "Input")]
    pub(crate) local: Vec<(String, PathBuf)>,
    /// Lend an OCI layout as a store
    #[arg(long, value_name = "STORE=DIR", value_parser = pair, help_heading = "Input")]
    pub(crate) oci_layout: Vec<(String, PathBuf)>,
    /// Write the result: type=oci (tar=false for a folder), type=docker, type=tar, type=local or type=image,name=NAME
    #[arg(long, short, value_name = "type=TYPE,dest=PATH", help_heading = "Output")]
    pub(crate) output: Vec<OutputSpec>,
    /// The definition; `-` is stdin
    pub(crate) file: PathBuf,
}

/// `rb status`
#[derive(Debug, ClapArgs)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `rb doctor`
#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
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
    let mut names: Vec<String> =
        Args::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.push("help".to_owned());
    names
}

/// Tells whether a long option of this name exists before a target.
fn is_option(name: &str) -> bool {
    Args::command().get_arguments().any(|argument| argument.get_long() == Some(name))
}

fn pair(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => Ok((name.to_owned(), PathBuf::from(dir))),
        _ => Err("expected NAME=DIR".to_owned()),
    }
}

fn long_help_end() -> String {
    let variables = environment::help();
    format!(
        "{EXAMPLES}\n\nEnvironment:\n{variables}\n\
         Exit codes:\n  0  done\n  1  a command of the build failed\n  2  what was typed or written is wrong\n  \
         3  network, disk or kernel\n  70 a bug of rb\n  130 interrupted"
    )
}

#[cfg(test)]
mod tests;
