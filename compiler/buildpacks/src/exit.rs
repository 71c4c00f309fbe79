//! Exit codes of the lifecycle: what scripts and platforms look at to tell how a phase ended.
//!
//! Every error of this crate answers `exit()` with one of these. Source: platform spec, "Exit Codes", which the
//! lifecycle follows.

use rb_diag::ErrorKind;

/// How a phase of the lifecycle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// Anything without a code of its own.
    Failed,
    /// The Platform API is not supported.
    PlatformApi,
    /// The Buildpack API of a module is not supported.
    BuildpackApi,
    /// No group passed detection.
    NoGroup,
    /// No group passed detection, and a `bin/detect` ended with an error.
    NoGroupWithErrors,
    /// Detection could not be done.
    Detect,
    /// The previous image or the run image could not be analyzed.
    Analyze,
    /// Layers could not be restored.
    Restore,
    /// A `bin/build` ended with an error.
    BuildFailed,
    /// What a buildpack left could not be used.
    Build,
    /// The image could not be put together.
    Export,
    /// The image could not be rebased.
    Rebase,
    /// The process could not be launched.
    Launch,
    /// A `bin/generate` ended with an error.
    GenerateFailed,
    /// What an extension left could not be used.
    Generate,
    /// A base image could not be extended.
    Extend,
}

impl Exit {
    /// Returns the exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::PlatformApi => 11,
            Self::BuildpackApi => 12,
            Self::NoGroup => 20,
            Self::NoGroupWithErrors => 21,
            Self::Detect => 22,
            Self::Analyze => 32,
            Self::Restore => 42,
            Self::BuildFailed => 51,
            Self::Build => 52,
            Self::Export => 62,
            Self::Rebase => 72,
            Self::Launch => 82,
            Self::GenerateFailed => 91,
            Self::Generate => 92,
            Self::Extend => 102,
        }
    }

    /// Returns who has to act: what a module's own program did is the build's failure, all else is input.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::NoGroup | Self::NoGroupWithErrors | Self::BuildFailed | Self::GenerateFailed => {
                ErrorKind::Build
            }
            Self::Failed
            | Self::PlatformApi
            | Self::BuildpackApi
            | Self::Detect
            | Self::Analyze
            | Self::Restore
            | Self::Build
            | Self::Export
            | Self::Rebase
            | Self::Launch
            | Self::Generate
            | Self::Extend => ErrorKind::Input,
        }
    }
}
