//! Indexes: which of several manifests is meant, and how much of a stranger's index is looked at.
//!
//! In: descriptors and documents from a layout or a registry. Out: the one for a platform. No IO: who walks indexes
//! reads them, and keeps to the limits here.
//! Source: OCI image-index.md and manifest.md; Docker image manifest V2, schema 2; containerd for the choice.

use serde::Deserialize;

use crate::{Descriptor, Digest, DigestError, ImageConfig, MediaType, Platform};

/// Size of a manifest, index or config that is read; registries refuse larger ones as well.
pub const JSON_LIMIT_BYTES: u64 = 4 << 20;
/// How deep indexes may lie in one another.
pub const INDEX_DEPTH: usize = 4;
/// Manifests of one image's platforms; indexes above them count too.
pub const MANIFESTS: usize = 1000;
/// Layers of an image.
pub const LAYERS: usize = 500;

/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a JSON document is, told by what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// It lists manifests.
    Index,
    /// It names a config and layers.
    Manifest,
    /// Docker's manifest of before 2017, which says nothing that can be verified.
    Schema1,
}

/// A document is none of those.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DocumentError {
    /// It could be read as either.
    #[error("it is index and manifest in one")]
    Ambiguous,
    /// It says of itself that it is the other one.
    #[error("it calls itself `{0}`, and it is none")]
    Mislabelled(String),
    /// It is neither.
    #[error("it is neither index nor manifest")]
    Neither,
    /// It is no JSON object.
    #[error("{0}")]
    Json(String),
}

/// What tells an index from a manifest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Tells what a document is; the same bytes never pass for two things.
    pub fn of(bytes: &[u8]) -> Result<Self, DocumentError> {
        let shape: Shape =
            serde_json::from_slice(bytes).map_err(|error| DocumentError::Json(error.to_string()))?;
        let manifest = shape.config.is_some() || shape.layers.is_some();
        let found = match (shape.manifests.is_some(), manifest) {
            (true, true) => return Err(DocumentError::Ambiguous),
            (true, false) => Self::Index,
            (false, true) => Self::Manifest,
            (false, false) if shape.schema_version == Some(1) || shape.fs_layers.is_some() => Self::Schema1,
            (false, false) => return Err(DocumentError::Neither),
        };
        let called = shape.media_type.unwrap_or_default();
        let known = match called.as_str() {
            "application/vnd.oci.image.index.v1+json" | DOCKER_INDEX => Some(Self::Index),
            "application/vnd.oci.image.manifest.v1+json" | DOCKER_MANIFEST => Some(Self::Manifest),
            _ => None,
        };
        if known.is_some_and(|known| known != found) {
            return Err(DocumentError::Mislabelled(called));
        }
        Ok(found)
    }
}

/// Says whether a descriptor's media type is that of an index.
pub fn is_index(descriptor: &Descriptor) -> bool {
    match descriptor.media_type() {
        MediaType::ImageIndex => true,
        MediaType::Other(name) => name == DOCKER_INDEX,
        _ => false,
    }
}

/// Returns the digest of a descriptor, if it is one that can be checked.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest, DigestError> {
    descriptor.digest().as_ref().parse()
}

/// The platform that a descriptor names; none for what is no platform, such as the `unknown` of attestations.
pub fn named_platform(descriptor: &Descriptor) -> Option<Platform> {
    let named = descriptor.platform().as_ref()?;
    parse_platform(&named.os().to_string(), &named.architecture().to_string(), named.variant().as_deref())
}

/// The platform that a config names.
pub fn config_platform(config: &ImageConfig) -> Option<Platform> {
    parse_platform(&config.os, &config.architecture, config.variant.as_deref())
}

fn parse_platform(os: &str, architecture: &str, variant: Option<&str>) -> Option<Platform> {
    let variant = variant.filter(|variant| !variant.is_empty());
    let text = [Some(os), Some(architecture), variant].into_iter().flatten().collect::<Vec<_>>().join("/");
    text.parse().ok().filter(|platform: &Platform| platform.os != "unknown")
}

/// How much older the processor is that an image was made for; none if it does not run on `wanted`.
pub fn distance(wanted: &Platform, have: &Platform) -> Option<u32> {
    let generation = |platform: &Platform| match (platform.architecture.as_str(), &platform.variant) {
        ("amd64", None) => Some(1),
        ("arm64", None) => Some(8),
        (_, None) => Some(0),
        (_, Some(variant)) => variant.strip_prefix('v')?.parse::<u32>().ok(),
    };
    if (&wanted.os, &wanted.architecture) != (&have.os, &have.architecture) {
        return None;
    }
    if wanted.variant == have.variant {
        return Some(0);
    }
    generation(wanted)?.checked_sub(generation(have)?)
}

/// Picks what is for a platform: for that very platform before an older processor of its kind, the first among equals.
pub fn closest<T>(wanted: &Platform, found: impl IntoIterator<Item = (Platform, T)>) -> Option<T> {
    let near = found.into_iter().filter_map(|(have, what)| Some((distance(wanted, &have)?, what)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, what)| what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_one_thing() {
        for (text, expected) in [
            (r#"{"manifests":[]}"#, Ok(Document::Index)),
            (r#"{"config":{},"layers":[]}"#, Ok(Document::Manifest)),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, Ok(Document::Schema1)),
            (r#"{"manifests":[],"layers":[]}"#, Err(DocumentError::Ambiguous)),
            (r#"{"manifests":[],"config":{}}"#, Err(DocumentError::Ambiguous)),
            ("{}", Err(DocumentError::Neither)),
            (
                r#"{"mediaType":"application/vnd.oci.image.index.v1+json","config":{}}"#,
                Err(DocumentError::Mislabelled("application/vnd.oci.image.index.v1+json".to_owned())),
            ),
        ] {
            assert_eq!(Document::of(text.as_bytes()), expected, "{text}");
        }
        assert!(matches!(Document::of(b"<html>"), Err(DocumentError::Json(_))));
    }

    #[test]
    fn the_closest_platform() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let choose = |wanted: &str, have: &[&'static str]| {
            closest(&platform(wanted), have.iter().map(|text| (platform(text), *text)))
        };
        assert_eq!(choose("linux/amd64", &["linux/arm64", "linux/amd64"]), Some("linux/amd64"));
        assert_eq!(choose("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"]), Some("linux/arm/v6"));
        assert_eq!(choose("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"]), Some("linux/amd64/v2"));
        assert_eq!(choose("linux/arm/v6", &["linux/arm/v7"]), None);
        assert_eq!(choose("linux/amd64", &[]), None);
    }
}
