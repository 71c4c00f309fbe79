//! A target: what one build is asked for.
//!
//! Written as JSON it is what `docker buildx bake --print` shows of it, key for key, and it can be read as a bake file
//! again: `${` and `%{` are escaped where a text of a bake file would be evaluated.

mod entries;
mod merge;
mod set;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

pub use entries::{Attest, CacheEntry, Export, Policy, PolicyFile, Resources, Secret, Ssh};
pub(crate) use entries::{Entry, canonical_attest, parse_cache, parse_each};
pub(crate) use merge::unique;
pub(crate) use set::Change;

/// One build.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
    /// What it is for, in the user's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The targets whose attributes it takes; empty once it is resolved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inherits: Vec<String>,
    /// `[types:]key=value`.
    #[serde(skip_serializing_if = "none", serialize_with = "escaped_list")]
    pub annotations: Option<Vec<String>>,
    /// Attestations.
    #[serde(skip_serializing_if = "none")]
    pub attest: Option<Vec<Attest>>,
    /// Directory or address of the build context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Further contexts by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, String>,
    /// Path of the Dockerfile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The text of the Dockerfile itself.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "escaped")]
    pub dockerfile_inline: Option<String>,
    /// Build arguments.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub args: BTreeMap<String, String>,
    /// Labels of the image.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub labels: BTreeMap<String, String>,
    /// Names of the image.
    #[serde(skip_serializing_if = "none")]
    pub tags: Option<Vec<String>>,
    /// Caches to read.
    #[serde(skip_serializing_if = "none")]
    pub cache_from: Option<Vec<CacheEntry>>,
    /// Caches to write.
    #[serde(skip_serializing_if = "none")]
    pub cache_to: Option<Vec<CacheEntry>>,
    /// The stage to build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Secrets.
    #[serde(skip_serializing_if = "none")]
    pub secret: Option<Vec<Secret>>,
    /// Agents and keys of ssh.
    #[serde(skip_serializing_if = "none")]
    pub ssh: Option<Vec<Ssh>>,
    /// Platforms to build for.
    #[serde(skip_serializing_if = "none")]
    pub platforms: Option<Vec<String>>,
    /// Where results go.
    #[serde(skip_serializing_if = "none")]
    pub output: Option<Vec<Export>>,
    /// Whether images are always looked up anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<bool>,
    /// Whether no cache is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_cache: Option<bool>,
    /// The network of RUN: `default`, `none` or `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Stages that use no cache.
    #[serde(skip_serializing_if = "none")]
    pub no_cache_filter: Option<Vec<String>>,
    /// The size of `/dev/shm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<String>,
    /// `name=soft:hard`.
    #[serde(skip_serializing_if = "none")]
    pub ulimits: Option<Vec<String>>,
    /// Limits of each step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What is asked of the frontend instead of a build: `check`, `outline`, `targets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// What the build may do beyond what every build may.
    #[serde(skip_serializing_if = "none")]
    pub entitlements: Option<Vec<String>>,
    /// Addresses by host name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "escaped_map")]
    pub extra_hosts: BTreeMap<String, String>,
    /// Policies for sources.
    #[serde(skip_serializing_if = "none")]
    pub policy: Option<Vec<Policy>>,
    /// Whether it is built only because another target names it as a context.
    #[serde(skip)]
    pub linked: bool,
}

/// Names of targets under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// What it is for, in the user's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Targets and other groups.
    pub targets: Vec<String>,
}

#[expect(clippy::ref_option, reason = "serde passes the field itself")]
fn none<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

/// Escapes what a bake file would evaluate.
fn escape(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

#[expect(clippy::ref_option, reason = "serde passes the field itself")]
fn escaped<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().map(escape).serialize(serializer)
}

#[expect(clippy::ref_option, reason = "serde passes the field itself")]
fn escaped_list<S: Serializer>(texts: &Option<Vec<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().flatten().map(|text| escape(text)))
}

fn escaped_map<S: Serializer>(texts: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(texts.iter().map(|(name, text)| (name, escape(text))))
}
