//! How far the building of targets goes.

use clap::Args as ClapArgs;

/// Options of `rb +TARGET…` alone.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, ClapArgs)]
pub(crate) struct CourseOptions {
    /// After a failure, go on with what can go on
    ///
    /// With all that does not need what failed; what went well is written, also where a target BUILDs it that fails itself, and
    /// every failure is told once, at the end.
    #[arg(long, short, help_heading = "Build")]
    pub(crate) keep_going: bool,
    /// At a failure, open a shell in the step that failed
    ///
    /// With all that it saw, as `rb shell` does; what is changed there is thrown away.
    #[arg(long, short, conflicts_with_all = ["dry_run", "expect_cached", "keep_going"], help_heading = "Build")]
    pub(crate) interactive: bool,
    /// Show what would run; run no step, write nothing
    ///
    /// And what is cached, and what would be written. What it looks up on the way, digests of files and what names of images
    /// stand for, is kept in the state directory, as by any build.
    #[arg(long, conflicts_with_all = ["expect_cached", "keep_going"], help_heading = "Build")]
    pub(crate) dry_run: bool,
    /// Fail unless every step is cached
    ///
    /// Before anything runs; each step that is not is told, with why.
    #[arg(long, conflicts_with_all = ["no_cache", "keep_going"], help_heading = "Build")]
    pub(crate) expect_cached: bool,
}
