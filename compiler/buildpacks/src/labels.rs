//! Labels of app images, and what is in those of the lifecycle.
//!
//! In and out: JSON, the same that the lifecycle reads and writes, byte for byte ([`crate::json`]).
//! Source: platform spec, "Labels".

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::decode::{self, DecodeError};
use crate::json::{self, JsonError};

/// What an image is made of, for reuse and rebasing.
pub const LIFECYCLE_METADATA: &str = "io.buildpacks.lifecycle.metadata";
/// What built it, and what it can start.
pub const BUILD_METADATA: &str = "io.buildpacks.build.metadata";
/// Where its source is from.
pub const PROJECT_METADATA: &str = "io.buildpacks.project.metadata";
/// The execution environment that it was built for.
pub const EXECUTION_ENVIRONMENT: &str = "io.buildpacks.exec-env";
/// `false` if it may not be rebased.
pub const REBASABLE: &str = "io.buildpacks.rebasable";
/// Identifier of a base image.
pub const BASE_ID: &str = "io.buildpacks.base.id";
/// `ID` of a base image's os-release.
pub const DISTRO_NAME: &str = "io.buildpacks.base.distro.name";
/// `VERSION_ID` of a base image's os-release.
pub const DISTRO_VERSION: &str = "io.buildpacks.base.distro.version";

/// [`LIFECYCLE_METADATA`]: of which layers an image is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct LifecycleMetadata {
    /// The app's layers; one text or table in old images.
    pub app: serde_json::Value,
    /// The layer of bills of materials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<LayerSha>,
    /// Launch layers of buildpacks.
    #[serde(deserialize_with = "null_is_empty")]
    pub buildpacks: Vec<BuildpackLayers>,
    /// The layer of `metadata.toml`.
    pub config: LayerSha,
    /// The layer of the launcher.
    pub launcher: LayerSha,
    /// The layer of the links to it; without a diff id if there is none.
    pub process_types: LayerSha,
    /// The base below.
    #[serde(rename = "runImage")]
    pub run_image: RunImageRecord,
    /// The same, for old platforms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackRecord>,
}

/// A layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LayerSha {
    /// Its diff id.
    pub sha: String,
}

/// Layers of one buildpack.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct BuildpackLayers {
    /// Its id.
    #[serde(rename = "key")]
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its layers by name.
    #[serde(deserialize_with = "null_is_empty")]
    pub layers: BTreeMap<String, LayerRecord>,
    /// What it keeps for its next build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreRecord>,
}

/// What is kept of a layer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct LayerRecord {
    /// Its diff id.
    pub sha: String,
    /// Its metadata.
    pub data: serde_json::Value,
    /// Its types.
    pub build: bool,
    /// Its types.
    pub launch: bool,
    /// Its types.
    pub cache: bool,
}

/// What a buildpack keeps for its next build.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct StoreRecord {
    /// `metadata` of `store.toml`.
    pub metadata: serde_json::Value,
}

/// The base of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RunImageRecord {
    /// Diff id of its topmost layer.
    pub top_layer: String,
    /// The image itself, by digest.
    pub reference: String,
    /// Its names.
    #[serde(flatten)]
    pub names: RunImageNames,
}

/// Names of a base image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct RunImageNames {
    /// The first one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Where else it can be had.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub mirrors: Vec<String>,
}

/// The base of an image, for old platforms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct StackRecord {
    /// Its names.
    #[serde(rename = "runImage", alias = "run-image")]
    pub run_image: RunImageNames,
}

/// Layers of a cache image or volume: the label `io.buildpacks.lifecycle.cache.metadata`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct CacheMetadata {
    /// The layer of bills of materials; without a diff id if there is none.
    pub sbom: LayerSha,
    /// Cached layers of buildpacks.
    #[serde(deserialize_with = "null_is_empty")]
    pub buildpacks: Vec<BuildpackLayers>,
}

/// [`PROJECT_METADATA`], and `project-metadata.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProjectMetadata {
    /// Where the source is from.
    pub source: Option<ProjectSource>,
}

/// Where a source is from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProjectSource {
    /// Such as `git`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which commit, for example.
    pub version: toml::Table,
    /// Which repository, for example.
    pub metadata: toml::Table,
}

/// What Go never filled is `null`.
pub(crate) fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl StoreRecord {
    /// Keeps `metadata` of `store.toml`.
    pub fn new(metadata: Option<&toml::Table>) -> Result<Self, JsonError> {
        let metadata = metadata.map(json::of_table).transpose()?;
        Ok(Self { metadata: metadata.map_or(serde_json::Value::Null, serde_json::Value::Object) })
    }
}

impl LifecycleMetadata {
    /// Reads the label.
    pub fn parse(label: &str) -> Result<Self, DecodeError> {
        decode::json(LIFECYCLE_METADATA, label.as_bytes())
    }

    /// Returns the label.
    pub fn label(&self) -> Result<String, JsonError> {
        json::text(self)
    }

    /// Returns the layers of a buildpack.
    pub fn of(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().find(|one| one.id == id)
    }
}

impl CacheMetadata {
    /// Reads the label.
    pub fn parse(label: &str) -> Result<Self, DecodeError> {
        decode::json("io.buildpacks.lifecycle.cache.metadata", label.as_bytes())
    }

    /// Returns the label.
    pub fn label(&self) -> Result<String, JsonError> {
        json::text(self)
    }

    /// Returns the layers of a buildpack.
    pub fn of(&self, id: &str) -> Option<&BuildpackLayers> {
        self.buildpacks.iter().find(|one| one.id == id)
    }
}

impl ProjectMetadata {
    /// Reads `project-metadata.toml`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        decode::toml("project-metadata.toml", text)
    }

    /// Returns the label.
    pub fn label(&self) -> Result<String, JsonError> {
        #[derive(Serialize)]
        struct Metadata<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            source: Option<Source<'a>>,
        }
        #[derive(Serialize)]
        struct Source<'a> {
            #[serde(rename = "type", skip_serializing_if = "str::is_empty")]
            kind: &'a str,
            #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
            version: serde_json::Map<String, serde_json::Value>,
            #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
            metadata: serde_json::Map<String, serde_json::Value>,
        }
        let source = |source: &ProjectSource| -> Result<(_, _), JsonError> {
            Ok((json::of_table(&source.version)?, json::of_table(&source.metadata)?))
        };
        let tables = self.source.as_ref().map(source).transpose()?;
        let source = self.source.as_ref().zip(tables);
        let source =
            source.map(|(source, (version, metadata))| Source { kind: &source.kind, version, metadata });
        json::text(&Metadata { source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the lifecycle's form.
    const LABEL: &str = concat!(
        r#"{"app":[{"sha":"sha256:a"}],"sbom":{"sha":"sha256:b"},"buildpacks":[{"key":"x/y","version":"1","layers":{"l":{"#,
        r#""sha":"sha256:c","data":{"a":"\u003c"},"build":false,"launch":true,"cache":false}},"store":{"metadata":{"n":1}"#,
        r#"}},{"key":"z","version":"2","layers":{}}],"config":{"sha":"sha256:d"},"launcher":{"sha":"sha256:e"},"process-t"#,
        r#"ypes":{"sha":""},"runImage":{"topLayer":"sha256:f","reference":"r","image":"i","mirrors":["m"]},"stack":{"runI"#,
        r#"mage":{"image":"i","mirrors":["m"]}}}"#,
    );

    #[test]
    fn a_label_survives() {
        let metadata = LifecycleMetadata::parse(LABEL).expect("reads");
        assert_eq!(metadata.label().expect("writes"), LABEL);
        assert_eq!(metadata.of("x/y").map(|one| one.layers.len()), Some(1));
        let old = r#"{"app":"x","buildpacks":null,"runImage":{"mirrors":null}}"#;
        assert_eq!(LifecycleMetadata::parse(old).expect("reads").app, "x");
        assert!(LifecycleMetadata::parse(r#"{"buildpacks":1}"#).is_err());
        assert_eq!(
            CacheMetadata::parse("{}").expect("reads").label().expect("writes"),
            r#"{"sbom":{"sha":""},"buildpacks":[]}"#
        );
    }

    #[test]
    fn where_a_source_is_from() {
        assert_eq!(ProjectMetadata::default().label().expect("writes"), "{}");
        let text = "[source]\ntype='git'\n[source.version]\ncommit='c'\n";
        let label = ProjectMetadata::parse(text.as_bytes()).expect("reads").label().expect("writes");
        assert_eq!(label, r#"{"source":{"type":"git","version":{"commit":"c"}}}"#);
    }
}
