//! Why nothing was started, and the exit code that says so. Source: the lifecycle's exit codes of its launch phase.

use std::io;
use std::path::PathBuf;

/// Nothing was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The platform does not say which API it speaks.
    #[error(
        "failed to get platform API version; please set 'CNB_PLATFORM_API' to specify the desired platform API version"
    )]
    NoPlatform,
    /// What it says is no version.
    #[error("failed to parse platform API '{0}'")]
    MalformedPlatform(String),
    /// It speaks another one.
    #[error("failed to set platform API: platform API version '{0}' is incompatible with the lifecycle")]
    Platform(String),
    /// A buildpack's version is none.
    #[error("failed to parse buildpack API '{api}' for buildpack '{id}'")]
    MalformedBuildpack {
        /// The version.
        api: String,
        /// The buildpack.
        id: String,
    },
    /// A buildpack speaks another API.
    #[error(
        "failed to set API for buildpack '{id}': buildpack API version '{api}' is incompatible with the lifecycle"
    )]
    Buildpack {
        /// The version.
        api: String,
        /// The buildpack.
        id: String,
    },
    /// What a build left cannot be read.
    #[error("failed to read metadata: {0}")]
    Metadata(String),
    /// A process is of a buildpack that took no part.
    #[error("failed to launch: process type '{kind}' provided by unknown buildpack '{buildpack}'")]
    Nobody {
        /// Its type.
        kind: String,
        /// The buildpack.
        buildpack: String,
    },
    /// All else.
    #[error("failed to launch: {doing}: {why}")]
    Launch {
        /// What was done.
        doing: &'static str,
        /// Why it came to nothing.
        why: String,
    },
}

impl LaunchError {
    /// Returns the exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NoPlatform | Self::MalformedPlatform(_) | Self::Platform(_) => 11,
            Self::MalformedBuildpack { .. } | Self::Buildpack { .. } => 12,
            Self::Metadata(_) => 1,
            Self::Nobody { .. } | Self::Launch { .. } => 82,
        }
    }

    /// Says what was done as it came to nothing.
    pub(crate) fn while_doing<E: ToString>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |why| Self::Launch { doing, why: why.to_string() }
    }
}

/// A file could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {}", path.display(), words(source))]
pub(crate) struct FileError {
    pub(crate) doing: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// Returns what the system says, as the reference writes it: without the number.
pub(crate) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match (text.split_once(" (os error"), error.raw_os_error()) {
        (Some((text, _)), Some(_)) => {
            let mut letters = text.chars();
            letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
        }
        _ => text,
    }
}
