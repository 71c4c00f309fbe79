//! `lifecycle.toml`: what the programs of a lifecycle are and speak.
//!
//! In: its text. Out: [`LifecycleFile`], its label, and where releases of it are. Source: pack's reader of lifecycles.

use serde::{Deserialize, Serialize};

use crate::ApiVersion;
use crate::decode::{self, DecodeError};

/// The release that is taken if a builder does not say.
pub const DEFAULT_LIFECYCLE: &str = "0.21.0";

/// Programs that every lifecycle has.
pub const PROGRAMS: [&str; 7] =
    ["detector", "restorer", "analyzer", "builder", "exporter", "launcher", "creator"];

/// `lifecycle.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifecycleFile {
    /// Its version.
    pub version: String,
    /// Of modules.
    pub buildpack: Versions,
    /// Of platforms.
    pub platform: Versions,
}

/// What a lifecycle supports of an API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Versions {
    /// Those that will go.
    pub deprecated: Option<Vec<ApiVersion>>,
    /// All.
    pub supported: Option<Vec<ApiVersion>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    lifecycle: RawVersion,
    api: Oldest,
    apis: Apis,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawVersion {
    version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Apis {
    buildpack: Versions,
    platform: Versions,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Oldest {
    buildpack: Option<ApiVersion>,
    platform: Option<ApiVersion>,
}

/// What a builder's label says of its lifecycle.
#[derive(Serialize)]
pub(super) struct Label<'a> {
    version: &'a str,
    api: Oldest,
    apis: LabelApis<'a>,
}

#[derive(Serialize)]
struct LabelApis<'a> {
    buildpack: &'a Versions,
    platform: &'a Versions,
}

impl Versions {
    /// Returns all, deprecated ones too.
    pub fn all(&self) -> impl Iterator<Item = ApiVersion> {
        self.deprecated.iter().chain(&self.supported).flatten().copied()
    }
}

impl LifecycleFile {
    /// Reads `lifecycle.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        let Raw { lifecycle: RawVersion { version }, api, apis: Apis { mut buildpack, mut platform } } =
            decode::toml("lifecycle.toml", text)?;
        // Old ones name a version of each, and nothing else.
        let is_old =
            [&buildpack, &platform].iter().all(|one| one.supported.as_ref().is_none_or(Vec::is_empty));
        if let (true, Some(old), Some(of_platform)) = (is_old, api.buildpack, api.platform) {
            buildpack = Versions { deprecated: None, supported: Some(vec![old]) };
            platform = Versions { deprecated: None, supported: Some(vec![of_platform]) };
        }
        Ok(Self { version, buildpack, platform })
    }

    pub(super) fn label(&self) -> Label<'_> {
        let Self { version, buildpack, platform } = self;
        let api = Oldest { buildpack: buildpack.all().min(), platform: platform.all().min() };
        Label { version, api, apis: LabelApis { buildpack, platform } }
    }
}

/// Returns where a release is; none for a processor that there are none for.
pub fn release(version: &str, architecture: &str) -> Option<String> {
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte))
    };
    let machine = match architecture {
        "amd64" => "x86-64",
        "arm64" | "ppc64le" | "s390x" => architecture,
        _ => return None,
    };
    plain(version).then(|| {
        format!(
            "https://github.com/buildpacks/lifecycle/releases/download/v{version}/lifecycle-v{version}+linux.{machine}.tgz"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn what_a_label_says() {
        let text = "[lifecycle]\nversion='0.21.0'\n[apis.buildpack]\ndeprecated=[]\nsupported=['0.10','0.9']\n[apis.platform]\n\
                    supported=['0.12']\n";
        let file = LifecycleFile::parse(text.as_bytes()).expect("reads");
        assert_eq!(
            json::text(&file.label()).expect("writes"),
            r#"{"version":"0.21.0","api":{"buildpack":"0.9","platform":"0.12"},"apis":{"buildpack":{"deprecated":[],"supported":["0.10","0.9"]},"platform":{"deprecated":null,"supported":["0.12"]}}}"#
        );
        let old = LifecycleFile::parse(b"[api]\nbuildpack='0.2'\nplatform='0.3'\n").expect("reads");
        assert_eq!(old.buildpack.all().map(|one| one.to_string()).collect::<Vec<_>>(), ["0.2"]);
    }

    #[test]
    fn where_releases_are() {
        let url = release("0.21.0", "amd64").expect("there is one");
        assert!(url.ends_with("/v0.21.0/lifecycle-v0.21.0+linux.x86-64.tgz"), "{url}");
        assert_eq!(release("../x", "amd64"), None);
        assert_eq!(release("0.21.0", "riscv64"), None);
    }
}
