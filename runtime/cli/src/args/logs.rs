//! What `rb logs` takes.

use clap::Args as ClapArgs;

/// `rb logs`
#[derive(Debug, Default, Clone, PartialEq, Eq, ClapArgs)]
#[command(
    override_usage = "rb logs [OPTIONS] [@BUILD] [STEP|+TARGET]",
    after_help = "\
Steps that wrote nothing and results of the cache have no log. One log is printed as it was written; several stand below \
headings. Kept are the logs of the last 100 builds, 1 GiB at most.

Examples:
  rb logs                          what the steps of the last build wrote
  rb logs --failed                 of those that failed, when one last did
  rb logs +app                     of a target's steps, when they last wrote
  rb logs --list                   which builds there are, and which steps
  rb logs @2 3                     step 3 of the build before the last
  rb logs -f                       what the build that runs now writes"
)]
pub(crate) struct LogsArgs {
    /// List builds, and the steps of the build that is named or is the last
    #[arg(long, short, conflicts_with = "follow")]
    pub(crate) list: bool,
    /// Only of steps that failed
    #[arg(long)]
    pub(crate) failed: bool,
    /// Go on as long as the build does
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// A build, `@1` the last; a step's number, target or words
    #[arg(value_name = "@BUILD|STEP|+TARGET", num_args = 0..=2)]
    pub(crate) words: Vec<String>,
}
