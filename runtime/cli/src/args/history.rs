//! What `rb history` takes.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueHint};

use super::ListFormat;

/// `rb history`
#[derive(Debug, Subcommand)]
pub(crate) enum HistoryCommand {
    /// List the builds that are kept
    #[command(visible_alias = "list")]
    Ls(HistoryLsArgs),
    /// Show what a build ran, and why
    #[command(visible_alias = "inspect")]
    Show(HistoryShowArgs),
    /// Print what the steps of a build wrote
    Logs(HistoryLogsArgs),
    /// Remove records of builds, with their logs
    Rm(HistoryRmArgs),
    /// Write a build's record and logs as one file
    Export(HistoryExportArgs),
    /// Take in records that were exported, here or elsewhere
    Import(HistoryImportArgs),
}

/// `rb history ls`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
The last 100 builds are kept, 20 MB of records at most; `@1` is the last, in the place of its id.

Examples:
  rb history ls                         the last twenty builds
  rb history ls --all --json            all that are kept, for programs
  rb why --between ID ID +app           what differs between two of them")]
pub(crate) struct HistoryLsArgs {
    /// List all, not the last twenty alone
    #[arg(long, short)]
    pub(crate) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// `table` or `json`
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub(crate) format: ListFormat,
    /// Print ids only
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// `rb history show`
#[derive(Debug, ClapArgs)]
pub(crate) struct HistoryShowArgs {
    /// Print the record as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// `table` or `json`
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub(crate) format: ListFormat,
    /// Show every step, those that were not needed too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// A build: the beginning of its id, or `@1` for the last
    #[arg(value_name = "BUILD", default_value = "@1")]
    pub(crate) build: String,
}

/// `rb history logs`
#[derive(Debug, ClapArgs)]
pub(crate) struct HistoryLogsArgs {
    /// Only of steps that failed
    #[arg(long)]
    pub(crate) failed: bool,
    /// A build: the beginning of its id, or `@1` for the last
    #[arg(value_name = "BUILD", default_value = "@1")]
    pub(crate) build: String,
    /// A step's number, target or words
    #[arg(value_name = "STEP|+TARGET")]
    pub(crate) step: Option<String>,
}

/// `rb history rm`
#[derive(Debug, ClapArgs)]
pub(crate) struct HistoryRmArgs {
    /// Remove all
    #[arg(long, short, conflicts_with = "builds")]
    pub(crate) all: bool,
    /// Builds: beginnings of their ids, or `@1` for the last
    #[arg(value_name = "BUILD", required_unless_present = "all")]
    pub(crate) builds: Vec<String>,
}

/// `rb history export`
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
In the file are what each key was made of, names and digests of files, and what the steps wrote. Not in it are contents \
of files, secrets, and the folder that was built.

Examples:
  rb history export                     the last build, as rb-ID.tar.zst
  rb history export -o - @2 | ssh there rb history import -")]
pub(crate) struct HistoryExportArgs {
    /// Write to this file; `-` is stdout [default: rb-ID.tar.zst]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Leave out what the steps wrote
    #[arg(long)]
    pub(crate) no_logs: bool,
    /// A build: the beginning of its id, or `@1` for the last
    #[arg(value_name = "BUILD", default_value = "@1")]
    pub(crate) build: String,
}

/// `rb history import`
#[derive(Debug, ClapArgs)]
pub(crate) struct HistoryImportArgs {
    /// Files of `rb history export`; `-` is stdin
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
}
