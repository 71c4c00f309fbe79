//! Words of `rb why`.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::{ArgsError, BuildOptions, TargetCall, texts};

/// `rb why`
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "rb why [OPTIONS] [DIR]+TARGET [--NAME=VALUE]... [STEP]\n       rb why [OPTIONS] build [OPTIONS] CONTEXT [STEP]\n       rb why [OPTIONS] pack build [OPTIONS] IMAGE [STEP]\n       rb why [OPTIONS]",
    after_help = "\
What would run now is told, by a look as --dry-run takes it; where nothing would, what ran in the last build that ran \
something. Nothing is run. Compared is with the build before, of this workspace, of the same target; each reason is where \
a chain of steps begins: the file, argument, line or image that changed. What cannot be known is said to be unknown.

`build` and what stands behind it is the build of a Dockerfile, as `rb build` takes it; it is compared with the build before of \
the same Dockerfile and stage. So it is with `pack build`, of the same image. With nothing named it is what was built last from this folder.

Examples:
  rb why +app                           why it would run, or did
  rb why build -f prod.Dockerfile .     the same of a Dockerfile
  rb why pack build app -B builder      the same of an app that buildpacks build
  rb why                                the same of what was built last
  rb why +app 'RUN make'                the same of one step
  rb why --last +app                    why the last build ran what it ran
  rb why --since @3 +app                what differs from the third last build
  rb why --between 1a2b3c 4d5e6f +app   two builds; one may be imported"
)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    /// Explain the last build, without a look at how things are now
    #[arg(long, help_heading = "What is compared", conflicts_with_all = ["since", "between"])]
    pub(crate) last: bool,
    /// Compare with this build, an id of `rb history ls`
    #[arg(long, value_name = "BUILD", help_heading = "What is compared", conflicts_with = "between")]
    pub(crate) since: Option<String>,
    /// Compare two builds with each other
    #[arg(long, value_names = ["BUILD", "BUILD"], num_args = 2, help_heading = "What is compared")]
    pub(crate) between: Vec<String>,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// The target, or `build …` or `pack build …`; and words of a step
    #[arg(value_name = "TARGET", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

impl WhyArgs {
    /// Reads the target, and the words of a step.
    pub(crate) fn asked(&self) -> Result<(TargetCall, Option<String>), ArgsError> {
        let mut step = None;
        let call = TargetCall::read(texts(&self.words)?, Some(&mut step))?;
        Ok((call, step))
    }
}
