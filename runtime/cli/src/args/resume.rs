//! `rb resume` as it was typed.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::BuildOptions;

/// `rb resume`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb resume [OPTIONS] [ID]... [[DIR]+TARGET [--NAME=VALUE]...]... [-- COMMAND...]",
    after_help = "\
Builds what was built when the step failed, with the files and commands as they are now; but the step that failed begins \
with what it left, not from the beginning: a compilation goes on with the objects that are there. What it wrote or removed stays so, \
what it did not touch comes as it is now, and files that were changed since are newer than all that it wrote. What it wrote \
is not taken back where the new command would not write it. Without an ID all steps go on that failed in the last build; \
what failed is kept for an hour, of the last five steps (`rb shell --list`).

The step is found by its name; where its command was changed, by its line, or by the steps before it. Where its result is known by \
now, that is taken.

What is made so is not what a build from the beginning gives. So nothing of it is kept as a result, the next build runs \
the step clean, and images of it are refused; of a Dockerfile none is written. Files are written, as by any build. Options of the first build, secrets and ssh \
agents are not kept: give them again; what stood behind `rb build` is. Caches are as the step left them.

Examples:
  rb resume                  where the last build failed
  rb resume 3                where step 3 did
  rb resume 3 -- make -k     with another command, this once (no ID: the last)
  rb resume --no-output      only to see whether it passes now
  rb resume 3 +app --V=2     build `app` with it"
)]
pub(crate) struct ResumeArgs {
    /// Write images too, and with --push push them
    #[arg(long, conflicts_with = "no_output", help_heading = "Output")]
    pub(crate) with_images: bool,
    /// Save no image and write no local artifact
    #[arg(long, help_heading = "Output")]
    pub(crate) no_output: bool,
    /// After a failure, go on with what can go on
    #[arg(long, short, help_heading = "Build")]
    pub(crate) keep_going: bool,
    /// At a failure, open a shell in the step that failed
    #[arg(long, short, conflicts_with = "keep_going", help_heading = "Build")]
    pub(crate) interactive: bool,
    /// Failed steps, else those of the last build; targets; and a command
    #[arg(value_name = "ID|TARGET", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) build: BuildOptions,
}
