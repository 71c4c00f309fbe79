//! Versions of the two APIs, and what changes with them.
//!
//! In: `0.10`, `v0.12`, `1`. Out: [`BuildpackApi`] and [`PlatformApi`], which exist for supported versions only and answer
//! each switch by name: no other file compares versions.
//! Source: the specs' "API" chapters; the lifecycle supports the same Buildpack APIs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Exit;

/// A version of an API: `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApiVersion {
    /// Before the point.
    pub major: u32,
    /// After the point; 0 if there is none.
    pub minor: u32,
}

/// A version is not one, or not a supported one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The text is no version.
    #[error("`{0}` is not an API version: expected major.minor, such as 0.10")]
    Malformed(String),
    /// A module speaks another Buildpack API.
    #[error("Buildpack API {0} is not supported: 0.7 to 0.12 are")]
    Buildpack(ApiVersion),
    /// A platform speaks another Platform API.
    #[error("Platform API {0} is not supported: 0.12 to 0.15 are")]
    Platform(ApiVersion),
    /// No Platform API is known to both sides.
    #[error("the builder's lifecycle supports no Platform API from 0.12 to 0.15, but {0}")]
    NoCommonPlatform(String),
}

impl ApiError {
    /// Returns the lifecycle's exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Malformed(_) | Self::Buildpack(_) => Exit::BuildpackApi,
            Self::Platform(_) | Self::NoCommonPlatform(_) => Exit::PlatformApi,
        }
    }
}

impl FromStr for ApiVersion {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let error = || ApiError::Malformed(text.chars().take(40).collect());
        let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => part.parse::<u32>().map_err(|_| error()),
            false => Err(error()),
        };
        let plain = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = plain.split_once('.').unwrap_or((plain, ""));
        let minor = if minor.is_empty() { "0" } else { minor };
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl TryFrom<String> for ApiVersion {
    type Error = ApiError;

    fn try_from(text: String) -> Result<Self, ApiError> {
        text.parse()
    }
}

impl From<ApiVersion> for String {
    fn from(version: ApiVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// A supported Buildpack API: 0.7 to 0.12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "ApiVersion")]
pub struct BuildpackApi(u32);

impl BuildpackApi {
    /// The newest.
    pub const LATEST: Self = Self(12);

    /// Returns the version.
    pub fn version(self) -> ApiVersion {
        ApiVersion { major: 0, minor: self.0 }
    }

    /// Whether programs are told their folders by variables beside arguments.
    pub fn tells_paths(self) -> bool {
        self.0 >= 8
    }

    /// Whether a process may have a working directory; before, it is passed over.
    pub fn working_directory(self) -> bool {
        self.0 >= 8
    }

    /// Whether a command is a list, every process is direct, and a user's arguments take the place of the default ones.
    pub fn command_lists(self) -> bool {
        self.0 >= 9
    }

    /// Whether programs are told the target by `CNB_TARGET_*`.
    pub fn tells_target(self) -> bool {
        self.0 >= 10
    }

    /// Whether a module of the stack `bionic` means its target even beside other stacks.
    pub fn stacks_mean_targets(self) -> bool {
        self.0 >= 10
    }

    /// Whether a module may be for some execution environments only, and is told which it is.
    pub fn execution_environments(self) -> bool {
        self.0 >= 12
    }
}

impl TryFrom<ApiVersion> for BuildpackApi {
    type Error = ApiError;

    fn try_from(version: ApiVersion) -> Result<Self, ApiError> {
        match version {
            ApiVersion { major: 0, minor: minor @ 7..=12 } => Ok(Self(minor)),
            other => Err(ApiError::Buildpack(other)),
        }
    }
}

impl FromStr for BuildpackApi {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        text.parse::<ApiVersion>()?.try_into()
    }
}

impl From<BuildpackApi> for ApiVersion {
    fn from(api: BuildpackApi) -> Self {
        api.version()
    }
}

impl fmt::Display for BuildpackApi {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version().fmt(out)
    }
}

/// A supported Platform API: 0.12 to 0.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "ApiVersion")]
pub struct PlatformApi(u32);

impl PlatformApi {
    /// The oldest.
    pub const OLDEST: Self = Self(12);
    /// The newest.
    pub const LATEST: Self = Self(15);

    /// Returns the newest version that is also in `theirs`, the `lifecycle.apis.platform.supported` of a builder: the
    /// launcher that goes into the image must know it.
    pub fn common(theirs: &[ApiVersion]) -> Result<Self, ApiError> {
        let common = theirs.iter().filter_map(|version| Self::try_from(*version).ok()).max();
        common.ok_or_else(|| {
            let names: Vec<String> = theirs.iter().take(20).map(ToString::to_string).collect();
            ApiError::NoCommonPlatform(names.join(", "))
        })
    }

    /// Returns the version.
    pub fn version(self) -> ApiVersion {
        ApiVersion { major: 0, minor: self.0 }
    }

    /// Whether image extensions are no experiment.
    pub fn extensions_are_stable(self) -> bool {
        self.0 >= 13
    }

    /// Whether metadata of a launch layer comes from the cache where the previous image has none.
    pub fn launch_layers_from_cache(self) -> bool {
        self.0 >= 14
    }

    /// Whether `system.toml` counts.
    pub fn system_buildpacks(self) -> bool {
        self.0 >= 15
    }

    /// Whether execution environments count.
    pub fn execution_environments(self) -> bool {
        self.0 >= 15
    }
}

impl TryFrom<ApiVersion> for PlatformApi {
    type Error = ApiError;

    fn try_from(version: ApiVersion) -> Result<Self, ApiError> {
        match version {
            ApiVersion { major: 0, minor: minor @ 12..=15 } => Ok(Self(minor)),
            other => Err(ApiError::Platform(other)),
        }
    }
}

impl From<PlatformApi> for ApiVersion {
    fn from(api: PlatformApi) -> Self {
        api.version()
    }
}

impl fmt::Display for PlatformApi {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version().fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_lifecycle_reads_them() {
        for (text, shown) in [("0.10", "0.10"), ("v0.7", "0.7"), ("1", "1.0"), ("2.", "2.0")] {
            assert_eq!(text.parse::<ApiVersion>().map(|version| version.to_string()), Ok(shown.to_owned()));
        }
        for text in ["", ".", ".1", "a", "0.x", "0.1.2", "-1", "99999999999", "0. 1"] {
            assert!(text.parse::<ApiVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn others_are_refused_with_the_codes_of_the_lifecycle() {
        for text in ["0.6", "0.13", "1.0", "1"] {
            let error = text.parse::<BuildpackApi>().expect_err("not supported");
            assert_eq!(error.exit().code(), 12, "{text}");
        }
        let old = ApiVersion { major: 0, minor: 11 };
        assert_eq!(PlatformApi::try_from(old).map_err(|error| error.exit().code()), Err(11));
    }

    #[test]
    fn the_newest_common_platform_is_taken() {
        let versions =
            |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a version")).collect::<Vec<_>>();
        assert_eq!(PlatformApi::common(&versions(&["0.3", "0.12", "0.14", "0.99"])), Ok(PlatformApi(14)));
        assert_eq!(PlatformApi::common(&versions(&["0.3"])).map_err(|error| error.exit().code()), Err(11));
    }
}
