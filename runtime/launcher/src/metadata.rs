//! What can be started: `config/metadata.toml` of the layers' folder, and which APIs are spoken.
//!
//! Source: platform spec, "metadata.toml"; the lifecycle's lists of supported APIs.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use crate::document::{self, DocumentError, Table};
use crate::error::LaunchError;
use crate::files;

/// Largest `metadata.toml`.
const MOST: u64 = 16 << 20;

/// What a build left.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) processes: Vec<Process>,
    pub(crate) buildpacks: Vec<Buildpack>,
}

/// A buildpack that took part.
#[derive(Debug, Default)]
pub(crate) struct Buildpack {
    pub(crate) id: String,
    pub(crate) api: String,
}

impl Buildpack {
    /// Returns the name of its folder.
    pub(crate) fn folder(&self) -> String {
        self.id.replace('/', "_")
    }
}

/// What can be started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) kind: String,
    /// The program, and arguments that always stand. Old files have one text.
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) direct: bool,
    pub(crate) buildpack: String,
    pub(crate) folder: String,
    pub(crate) environments: Vec<String>,
}

impl Process {
    fn read(table: &Table<'_>) -> Result<Self, DocumentError> {
        Ok(Self {
            kind: table.text("type")?,
            command: table.one_or_list("command")?,
            args: table.list("args")?,
            direct: table.flag("direct")?,
            buildpack: table.text("buildpack-id")?,
            folder: table.text("working-dir")?,
            environments: table.list("exec-env")?,
        })
    }

    /// Whether it can be started in an execution environment.
    pub(crate) fn is_for(&self, environment: &OsStr, platform: Version) -> bool {
        platform < Version(0, 15)
            || self.environments.is_empty()
            || self.environments.iter().any(|one| one == "*" || environment == one.as_str())
    }
}

impl Metadata {
    /// Reads it.
    pub(crate) fn read(layers: &Path) -> Result<Self, LaunchError> {
        let bytes = files::read(&layers.join("config/metadata.toml"), MOST)
            .map_err(|error| LaunchError::Metadata(error.to_string()))?;
        Self::parse(&bytes).map_err(|error| LaunchError::Metadata(error.to_string()))
    }

    /// Reads its text.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        document::parse(text, |file| {
            let processes = file.tables("processes", Process::read)?;
            let buildpack =
                |table: &Table<'_>| Ok(Buildpack { id: table.text("id")?, api: table.text("api")? });
            Ok(Self { processes, buildpacks: file.tables("buildpacks", buildpack)? })
        })
    }

    /// Refuses buildpacks that speak another API.
    pub(crate) fn check(&self) -> Result<(), LaunchError> {
        for Buildpack { id, api } in &self.buildpacks {
            let (id, text) = (id.clone(), api.clone());
            match Version::read(api) {
                None => return Err(LaunchError::MalformedBuildpack { api: text, id }),
                Some(Version(0, 7..=12)) => {}
                Some(_) => return Err(LaunchError::Buildpack { api: text, id }),
            }
        }
        Ok(())
    }
}

/// Reads the API that the platform speaks.
pub(crate) fn platform(told: &OsStr) -> Result<Version, LaunchError> {
    let text = told.to_string_lossy().into_owned();
    if text.trim().is_empty() {
        return Err(LaunchError::NoPlatform);
    }
    match Version::read(&text) {
        None => Err(LaunchError::MalformedPlatform(text)),
        Some(version @ Version(0, 7..=15)) => Ok(version),
        Some(_) => Err(LaunchError::Platform(text)),
    }
}

/// A version of an API: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u64, pub(crate) u64);

impl Version {
    /// Reads `0.10`, `v1` and the like.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let number =
            |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let plain = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = plain.split_once('.').unwrap_or((plain, ""));
        Some(Self(number(major)?, if minor.is_empty() { 0 } else { number(minor)? }))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let all = ["0.10", "v0.7", "1", "1.", "", ".1", "0.1.2", "+1", "0.+1", "a"].map(Version::read);
        let some = [Some(Version(0, 10)), Some(Version(0, 7)), Some(Version(1, 0)), Some(Version(1, 0))];
        assert_eq!(all[..4], some);
        assert!(all[4..].iter().all(Option::is_none));
        assert!(Version(0, 9) < Version(0, 10));
    }

    #[test]
    fn old_and_new_files() {
        let text = "[[buildpacks]]\nid='a/b'\napi='0.8'\nversion='1'\n[[processes]]\ntype='web'\ncommand='a b'\n\
                    [[processes]]\ntype='task'\ncommand=['a', 'b']\nargs=['c']\nbuildpack-id='a/b'\nworking-dir='/x'\n";
        let read = Metadata::parse(text.as_bytes()).expect("reads");
        assert_eq!(read.processes[0].command, ["a b"]);
        assert_eq!(read.processes[1].command, ["a", "b"]);
        assert_eq!(
            (read.buildpacks[0].folder().as_str(), read.processes[1].buildpack.as_str()),
            ("a_b", "a/b")
        );
        assert!(read.check().is_ok());
        for text in [
            "[[processes]]\ncommand=1\n",
            "processes=1",
            "processes=[1]",
            "[[buildpacks]]\nid=1",
            "x",
            "\u{0}",
        ] {
            assert!(Metadata::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
