//! Words of `rb compile` and `rb solve`: LLB out, LLB in.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::BuildOptions;
use crate::output_spec::OutputSpec;

/// `rb compile`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb compile [OPTIONS] [DIR]+TARGET [--NAME=VALUE]...",
    after_help = "\
Examples:
  rb compile +app                       text, for people
  rb compile --json +app                JSON, one object per operation
  rb compile -o app.pb +app             as BuildKit takes it; `-o -` is stdout"
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
    /// Language of what is compiled
    ///
    /// `dockerfile` takes a context instead of a target, and prints what would be asked of an engine, with made-up images.
    #[arg(long, value_enum, default_value_t, hide = true, help_heading = "Input")]
    pub(crate) frontend: FrontendChoice,
    /// An option of the frontend
    #[arg(long, value_name = "NAME=VALUE", value_parser = option, hide = true, help_heading = "Input")]
    pub(crate) opt: Vec<(String, String)>,
    /// Where images are looked up
    #[arg(long, value_enum, default_value_t, hide = true, help_heading = "Input")]
    pub(crate) resolver: ResolverChoice,
    /// The target and its arguments
    #[arg(value_name = "TARGET", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

/// `--frontend`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum FrontendChoice {
    /// Targets of build files
    #[default]
    Buildfile,
    /// A Dockerfile
    Dockerfile,
}

/// `--resolver`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResolverChoice {
    /// Every image exists, its digest made of its name
    #[default]
    Golden,
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
    /// Write the result
    ///
    /// type=oci (tar=false for a folder), type=docker, type=tar, type=local or type=image,name=NAME, as for a target.
    #[arg(long, short, value_name = "type=TYPE,…", help_heading = "Output")]
    pub(crate) output: Vec<OutputSpec>,
    /// The definition; `-` is stdin
    pub(crate) file: PathBuf,
}

fn option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => Ok((name.to_owned(), PathBuf::from(dir))),
        _ => Err("expected NAME=DIR".to_owned()),
    }
}
