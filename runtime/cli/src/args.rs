//! The command line exactly as it was typed.
//!
//! In: argv. Out: [`Args`]. One clap table makes parsing, help and completion; what the options mean beside the
//! environment and the defaults is decided in [`crate::settings`].
//!
//! A target is a word with a `+`; clap hands the first word that is no command, and all behind it, over as it is
//! ([`Command::Word`]), and [`TargetCall::parse`] reads it. So options of `rb` stand before the target, and every
//! `--NAME=value` behind it belongs to the target.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};
use rb_oci::Platform;

use crate::habits;
use crate::output_spec::OutputSpec;
use crate::settings;

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

impl BuildOptions {
    /// Joins options typed before and behind the name of a command; those behind win.
    pub(crate) fn over(self, outer: Self) -> Self {
        Self {
            no_cache: self.no_cache || outer.no_cache,
            jobs: self.jobs.or(outer.jobs),
            allow_bind: [outer.allow_bind, self.allow_bind].concat(),
            platform: self.platform.or(outer.platform),
            epoch: self.epoch.or(outer.epoch),
            progress: self.progress.or(outer.progress),
            quiet: self.quiet || outer.quiet,
        }
    }
}

/// Where results go.
#[derive(Debug, Default, Clone, PartialEq, Eq, ClapArgs)]
pub(crate) struct OutputOptions {
    /// Also write the target's filesystem: type=oci (an image; tar=false for a folder), type=tar or type=local
    #[arg(long, short, value_name = "type=TYPE,dest=PATH", help_heading = "Output")]
    pub(crate) output: Vec<OutputSpec>,
    /// Build, but save no image and write no local artifact
    #[arg(long, help_heading = "Output")]
    pub(crate) no_output: bool,
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
    Run(RunArgs),
    /// List the targets of a Buildfile
    Ls(LsArgs),
    /// Show what a target compiles to: LLB as text, as JSON, or as a file for `rb solve`
    Compile(CompileArgs),
    /// Build a marshalled LLB definition
    Solve(SolveArgs),
    /// Look after the images in the store
    #[command(subcommand)]
    Image(ImageCommand),
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

/// `rb run`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb run [OPTIONS] [DIR]+TARGET [--NAME=VALUE]... [--] [COMMAND]...\n       rb run [OPTIONS] IMAGE [COMMAND]...",
    after_help = "\
A word with a `+` is a target: it is built, and the last image it saves is run; where it saves none, its filesystem \
is. stdin, stdout and stderr are the program's own, and its exit code is that of `rb` (128+N for signal N).

Examples:
  rb run ./examples/hello+image         build and run
  rb run +image --MODE=debug -- --help  a build argument, and an argument of the program
  rb run -e LEVEL=debug app:latest sh   a saved image, with another command"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    /// Network of the program: the host's, or none
    #[arg(long, value_name = "NETWORK", value_enum, default_value = "host", help_heading = "Program")]
    pub(crate) network: NetworkChoice,
    /// Set an environment variable; `NAME` alone passes this shell's value on
    #[arg(long, short, value_name = "NAME[=VALUE]", help_heading = "Program")]
    pub(crate) env: Vec<String>,
    /// Run as this user [default: the image's]
    #[arg(long, short, value_name = "USER[:GROUP]", help_heading = "Program")]
    pub(crate) user: Option<String>,
    /// Run in this folder [default: the image's]
    #[arg(long, short, value_name = "DIR", help_heading = "Program")]
    pub(crate) workdir: Option<String>,
    /// What to run, and its command
    #[arg(value_name = "IMAGE|TARGET", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

/// Networks of `rb run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkChoice {
    /// That of this machine
    Host,
    /// Only a loopback of its own
    None,
}

/// `rb ls`
#[derive(Debug, ClapArgs)]
pub(crate) struct LsArgs {
    /// Show the whole documentation and the arguments of each target
    #[arg(long, short)]
    pub(crate) long: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of the Buildfile
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
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
    /// Write the result: type=oci (tar=false for a folder), type=tar, type=local or type=image,name=NAME
    #[arg(long, short, value_name = "type=TYPE,dest=PATH", help_heading = "Output")]
    pub(crate) output: Vec<OutputSpec>,
    /// The definition; `-` is stdin
    pub(crate) file: PathBuf,
}

/// `rb image`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List images
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// `table` or `json`
        #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
        format: ListFormat,
        /// Print digests only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show the config and layers of an image, as JSON
    Inspect {
        /// Name or digest
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Write images to a file that docker, podman and skopeo load
    Save {
        /// File, or folder for `--format=oci-dir`
        #[arg(long, short, value_name = "PATH")]
        output: PathBuf,
        /// Format of the file
        #[arg(long, value_name = "FORMAT", value_enum, default_value = "oci-archive")]
        format: SaveChoice,
        /// Names or digests
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove names of images; what no name holds goes with the next collection
    Rm {
        /// Names
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// Formats of `rb image save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveChoice {
    /// A tar file holding an OCI layout
    #[value(alias = "tar", alias = "oci")]
    OciArchive,
    /// An OCI layout as a folder
    OciDir,
}

/// Formats of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    Table,
    /// For programs
    Json,
}

/// `rb doctor`
#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A target with its arguments, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetCall {
    /// `[DIR]+target`
    pub(crate) word: String,
    /// `--NAME=value`; of two the later counts.
    pub(crate) args: BTreeMap<String, String>,
}

/// What cannot be read as a target with arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error("`{word}` is not valid UTF-8")]
    NotUtf8 { word: String },
    #[error("build argument `--{name}` has no value")]
    NoValue { name: String },
    #[error("`--{name}` is no name of a build argument")]
    BadName { name: String },
    #[error("option `{word}` stands behind the target")]
    OptionBehind { word: String },
    #[error("unknown option `{option}` of `rb {command}`")]
    UnknownOption { option: String, command: &'static str, help: Option<String> },
    #[error("`{word}` stands behind the target `{target}`")]
    StrayWord { word: String, target: String },
}

impl ArgsError {
    /// Returns what to type instead.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::NotUtf8 { .. } => None,
            Self::NoValue { name } if is_option(name) => {
                Some(format!("options of rb stand before the target: `rb --{name} …`"))
            }
            Self::NoValue { name } => Some(match habits::of_builders(&format!("--{name}")) {
                Some(habit) => format!("write `--{name}=value`; as an option, {}", habit.message),
                None => format!("write `--{name}=value`"),
            }),
            Self::BadName { .. } => {
                Some("names are letters, digits and `_`, and start with no digit".to_owned())
            }
            Self::UnknownOption { help, .. } => help.clone(),
            Self::OptionBehind { word } => Some(match habits::of_builders(word) {
                Some(habit) => habit.help.unwrap_or(habit.message),
                None => format!(
                    "options of rb stand before the target: `rb {word} …`; build arguments are written `--NAME=value`"
                ),
            }),
            Self::StrayWord { word, .. } if word.contains('+') => {
                Some(format!("one target at a time: run `rb {word}` after it, or let a target `BUILD` both"))
            }
            Self::StrayWord { .. } => Some("build arguments are written `--NAME=value`".to_owned()),
        }
    }
}

impl TargetCall {
    /// Tells whether a word names a target.
    pub(crate) fn is_target(word: &OsStr) -> bool {
        word.as_encoded_bytes().contains(&b'+')
    }

    /// Reads `[DIR]+target` and the arguments behind it: `--NAME=value` or `--NAME value`, and nothing else.
    pub(crate) fn parse(words: &[OsString]) -> Result<Self, ArgsError> {
        let mut rest = texts(words)?.into_iter();
        let word = rest.next().unwrap_or_default();
        let mut args = BTreeMap::new();
        while let Some(next) = rest.next() {
            let Some(body) = next.strip_prefix("--").filter(|body| !body.is_empty()) else {
                return Err(if next.starts_with('-') {
                    ArgsError::OptionBehind { word: next }
                } else {
                    ArgsError::StrayWord { word: next, target: word }
                });
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => match rest.next().filter(|value| !value.starts_with("--")) {
                    Some(value) if is_name(body) => (body.to_owned(), value),
                    _ => return Err(ArgsError::NoValue { name: body.to_owned() }),
                },
            };
            if !is_name(&name) {
                return Err(ArgsError::BadName { name });
            }
            args.insert(name, value);
        }
        Ok(Self { word, args })
    }

    /// Reads what stands behind `rb run` where it is a target: `--NAME=value`… right behind the target are its
    /// arguments, `--` or the first other word begins the command.
    pub(crate) fn parse_run(words: &[OsString]) -> Result<(Self, Vec<String>), ArgsError> {
        let texts = texts(words)?;
        let mine = texts.iter().skip(1).take_while(|word| word.starts_with("--") && *word != "--").count();
        let command = texts.get(1 + mine..).unwrap_or_default();
        let command = command.strip_prefix(&["--".to_owned()]).unwrap_or(command).to_vec();
        let own = texts.get(..=mine).unwrap_or_default();
        if let Some(word) = own.iter().skip(1).find(|word| !word.contains('=')) {
            return Err(ArgsError::NoValue { name: word.trim_start_matches('-').to_owned() });
        }
        let own: Vec<OsString> = own.iter().map(OsString::from).collect();
        Ok((Self::parse(&own)?, command))
    }
}

/// Checks that words are UTF-8.
pub(crate) fn texts(words: &[OsString]) -> Result<Vec<String>, ArgsError> {
    let text = |word: &OsString| {
        word.to_str()
            .map(ToOwned::to_owned)
            .ok_or_else(|| ArgsError::NotUtf8 { word: word.to_string_lossy().into_owned() })
    };
    words.iter().map(text).collect()
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

fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn pair(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => Ok((name.to_owned(), PathBuf::from(dir))),
        _ => Err("expected NAME=DIR".to_owned()),
    }
}

fn long_help_end() -> String {
    let width = settings::VARIABLES.iter().map(|variable| variable.name.len()).max().unwrap_or_default();
    let variables: String = settings::VARIABLES
        .iter()
        .map(|variable| format!("  {:width$}  {}\n", variable.name, variable.meaning))
        .collect();
    format!(
        "{EXAMPLES}\n\nEnvironment:\n{variables}\n\
         Exit codes:\n  0  done\n  1  a command of the build failed\n  2  what was typed or written is wrong\n  \
         3  network, disk or kernel\n  70 a bug of rb\n  130 interrupted"
    )
}

#[cfg(test)]
mod tests;
