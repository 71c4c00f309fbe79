//! Typed operations, as values.
//!
//! Fields are those of BuildKit's `pb` package; where its wire uses -1 for "none", these are `Option`s.
//! **Invariant:** decoding what Go's client encodes, and encoding again, gives the same bytes.

mod exec;
mod file;

use std::collections::BTreeMap;

use bytes::Bytes;
use rb_oci::{Digest, Platform};

pub use exec::{
    CacheSharing, CdiDevice, ContentCache, ExecMeta, ExecOp, HostAddress, Mount, MountKind, NetworkMode,
    ProxyEnv, SecretEnv, SecretMount, SecurityMode, SshMount, Ulimit,
};
pub use file::{
    CopyAction, CopyMode, FileAction, FileActionKind, FileOp, MkdirAction, MkfileAction, Owner, RmAction,
    SymlinkAction, UserSpec,
};

use crate::{Definition, LlbError};

/// Output `index` (from 0) of the vertex with this digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// Digest of the vertex.
    pub vertex: Digest,
    /// Which of its outputs.
    pub index: u32,
}

/// What a vertex does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a graph has one per vertex, and most are the largest one")]
pub enum Op {
    /// Brings a tree from outside.
    Source(SourceOp),
    /// Runs a command.
    Exec(ExecOp),
    /// Changes files.
    File(FileOp),
    /// Solves LLB that lies in an input.
    Build(BuildOp),
    /// Lays inputs over one another.
    Merge(MergeOp),
    /// Takes what one input has over another.
    Diff(DiffOp),
}

/// Platform of an op. BuildKit's has two fields more than [`Platform`]; empty means not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpPlatform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v7`, or empty.
    pub variant: String,
    /// Version of Windows, or empty.
    pub os_version: String,
    /// Features of Windows.
    pub os_features: Vec<String>,
}

impl From<&Platform> for OpPlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl From<&OpPlatform> for Platform {
    fn from(platform: &OpPlatform) -> Self {
        Self {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: Some(platform.variant.clone()).filter(|variant| !variant.is_empty()),
        }
    }
}

/// Which workers may run an op: containerd filters, all of which must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerConstraints {
    /// The filters.
    pub filter: Vec<String>,
}

/// A tree from outside, such as `docker-image://…`, `local://…`, `git://…`, `https://…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOp {
    /// Scheme and name.
    pub identifier: String,
    /// Options; names stand in [`crate::attr`].
    pub attrs: BTreeMap<String, String>,
}

impl SourceOp {
    /// Returns what stands before `://`, and what after it.
    pub fn scheme(&self) -> (&str, &str) {
        self.identifier.split_once("://").unwrap_or(("", &self.identifier))
    }
}

/// Solves a definition that is a file of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOp {
    /// Which input holds the frontend; none means that the input named `buildkit.llb.definition` holds LLB.
    pub builder: Option<usize>,
    /// Inputs by name.
    pub inputs: BTreeMap<String, usize>,
    /// A definition in place, as it came; see [`BuildOp::definition`].
    pub def: Option<Bytes>,
    /// Options; `llbbuild.filename` names the file.
    pub attrs: BTreeMap<String, String>,
}

impl BuildOp {
    /// Decodes the definition in place, if there is one.
    pub fn definition(&self) -> Result<Option<Definition>, LlbError> {
        self.def.as_ref().map(|bytes| Definition::from_bytes(bytes)).transpose()
    }
}

/// Lays inputs over one another, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeOp {
    /// Inputs of the vertex; none is an empty tree.
    pub inputs: Vec<Option<usize>>,
}

/// Takes what `upper` has over `lower`; none is an empty tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiffOp {
    /// The base.
    pub lower: Option<usize>,
    /// What was made of it.
    pub upper: Option<usize>,
}
