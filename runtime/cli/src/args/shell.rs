//! `rb shell` as it was typed.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::BuildOptions;

/// `rb shell`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb shell [OPTIONS] [ID] [COMMAND]...\n       rb shell [OPTIONS] [DIR]+TARGET [--NAME=VALUE]... [--] [COMMAND]...",
    after_help = "\
What a step left that failed is kept for an hour, of the last five; the error says by which number. The shell has the \
step's files as they were then, its mounts, caches, variables, user, folder, network and privileges. Secrets and ssh \
agents are not kept: give them again. What is changed there is thrown away, but for caches; the number opens the \
same state again. Where stdin is no terminal, the shell reads commands from it.

A word with a `+` is a target: it is built, nothing of it is written, and the shell is in its last state. On `FROM @host` it is a \
further step of the target, which sees of this machine what the target's RUN sees, and is allowed by the same options.

Examples:
  rb shell                    where the last step failed
  rb shell 3 cat config.log   one command, where step 3 did
  rb shell --secret KEY 3     with the secret that the step had
  rb shell +app               in what `app` becomes
  rb -i +app                  build; at a failure, a shell at once"
)]
pub(crate) struct ShellArgs {
    /// List the failed steps that are kept
    #[arg(long)]
    pub(crate) list: bool,
    /// A failed step, else the last; or a target; and a command instead of a shell
    #[arg(value_name = "ID|TARGET", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) build: BuildOptions,
}
