//! Words of `rb plan`.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::{ArgsError, BuildOptions, TargetCall};

/// `rb plan`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb plan [OPTIONS] [DIR]+TARGET [--NAME=VALUE]...\n       rb plan [OPTIONS] build [OPTIONS] CONTEXT\n       rb plan [OPTIONS]",
    after_help = "\
Told is each step that would run, in order, and why, in the words of `rb why`; a step that works on what another one has yet \
to make may run, or be found when that is made. Nothing is run, written or pulled; what names of images stand for is asked as \
by any build.

A step's time is the median of its last runs in this workspace; `~` stands for those with other arguments, or of the \
command that stood in its place, `?` for a step that never ran. Work is the sum of the times. The end is reckoned as steps are started: in order, each once what it needs is \
made and one of --jobs is free; what pulling, WAIT, --memory-budget and the writing of outputs take is not in it. To pull are \
layers that are not here, as manifests say their sizes.

`build` and what stands behind it is the build of a Dockerfile, as `rb build` takes it. With nothing named it is what was built \
last from this folder.

Examples:
  rb plan +app                          what would run, and what that takes
  rb plan -j 2 ./services/api+image     with two steps at once
  rb plan build --target test .         what building a Dockerfile would run
  rb plan --json +app                   the same for programs"
)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Targets with their arguments, or `build` and its words
    #[arg(value_name = "TARGET", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

impl PlanArgs {
    /// Reads the targets.
    pub(crate) fn calls(&self) -> Result<Vec<TargetCall>, ArgsError> {
        TargetCall::parse_all(&self.words)
    }
}
