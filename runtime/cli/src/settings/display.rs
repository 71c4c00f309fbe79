//! How to talk to the user: what is typed, the environment and the terminal, decided.

use super::SettingsError;
use crate::args::{BuildOptions, ProgressChoice};
use crate::environment::Environment;

/// How to show progress, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// Lines.
    Plain,
    /// A view that redraws itself.
    Live,
    /// JSON lines.
    Json,
    /// BuildKit's JSON lines.
    RawJson,
    /// Nothing.
    Quiet,
}

/// How to talk to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Display {
    /// Progress.
    pub(crate) mode: ProgressMode,
    /// Colours on stderr.
    pub(crate) colours: bool,
    /// Lines are for GitHub Actions, which folds them.
    pub(crate) github: bool,
    /// Why each step runs, too.
    pub(crate) verbose: bool,
}

/// Settles how to talk.
pub(crate) fn display(options: &BuildOptions, environment: &Environment) -> Result<Display, SettingsError> {
    let word = |text: &str| <ProgressChoice as clap::ValueEnum>::from_str(text, false).ok();
    let wanted = match (options.progress, options.quiet) {
        (_, true) => ProgressChoice::Quiet,
        (Some(choice), false) => choice,
        (None, false) => environment.parsed("RB_PROGRESS", word)?.unwrap_or(ProgressChoice::Auto),
    };
    let github = wanted == ProgressChoice::Auto
        && environment.get("GITHUB_ACTIONS").is_some_and(|(_, value)| value == "true");
    let mode = match wanted {
        ProgressChoice::Auto if github => ProgressMode::Plain,
        ProgressChoice::Auto if environment.terminal && !environment.dumb() => ProgressMode::Live,
        ProgressChoice::Auto | ProgressChoice::Plain => ProgressMode::Plain,
        ProgressChoice::Tty => ProgressMode::Live,
        ProgressChoice::Json => ProgressMode::Json,
        ProgressChoice::RawJson => ProgressMode::RawJson,
        ProgressChoice::Quiet => ProgressMode::Quiet,
    };
    let colours =
        options.colours.unwrap_or_else(|| environment.colours()) && !github && mode != ProgressMode::RawJson;
    Ok(Display { mode, colours, github, verbose: options.verbose })
}
