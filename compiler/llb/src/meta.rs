//! What goes with a vertex without being part of its digest: metadata and places in source files.

use std::collections::BTreeMap;

use bytes::Bytes;
use rb_oci::Digest;

use crate::{Definition, LlbError};

/// Key of [`VertexMeta::description`] that holds the display name.
pub(crate) const CUSTOM_NAME: &str = "llb.customname";

/// Metadata of one vertex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VertexMeta {
    /// Texts that engines do not interpret, but for the display name.
    pub description: BTreeMap<String, String>,
    /// Whether the vertex runs even where a result is known.
    pub ignore_cache: bool,
    /// Whether its result goes to exported caches; none is the exporter's choice.
    pub export_cache: Option<bool>,
    /// Capabilities that an engine must have to solve it.
    pub caps: BTreeMap<String, bool>,
    /// What it is shown with.
    pub progress_group: Option<ProgressGroup>,
    /// Limits on memory and processors.
    pub linux_resources: Option<LinuxResources>,
}

impl VertexMeta {
    /// Returns the name that the frontend chose to show.
    pub fn name(&self) -> Option<&str> {
        self.description.get(CUSTOM_NAME).map(String::as_str)
    }

    /// Chooses another name to show.
    pub fn set_name(&mut self, name: impl Into<String>) {
        self.description.insert(CUSTOM_NAME.to_owned(), name.into());
    }

    /// Adds what a second node with the same bytes says. Flags that are set stay set; later texts win.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self { description, ignore_cache, export_cache, caps, progress_group, linux_resources } = other;
        self.description.extend(description.iter().map(|(key, value)| (key.clone(), value.clone())));
        self.ignore_cache |= ignore_cache;
        self.export_cache = export_cache.or(self.export_cache);
        self.caps.extend(caps.iter().map(|(key, value)| (key.clone(), *value)));
        self.progress_group = progress_group.clone().or_else(|| self.progress_group.take());
        self.linux_resources = linux_resources.clone().or_else(|| self.linux_resources.take());
    }
}

/// Vertices that are shown as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressGroup {
    /// Identity.
    pub id: String,
    /// What to show.
    pub name: String,
    /// Whether a vertex of its own name breaks out.
    pub weak: bool,
}

/// Limits of the cgroup; 0 and empty mean none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinuxResources {
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Memory and swap in bytes.
    pub memory_swap_bytes: i64,
    /// Relative weight.
    pub cpu_shares: u64,
    /// Scheduling period in microseconds.
    pub cpu_period_us: u64,
    /// Share of a period in microseconds.
    pub cpu_quota_us: i64,
    /// Processors, as `0-3`.
    pub cpuset_cpus: String,
    /// Memory nodes, as `0,1`.
    pub cpuset_mems: String,
}

/// Which source files a definition came from, and which vertex from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMapping {
    /// The files.
    pub files: Vec<SourceInfo>,
    /// Places by vertex, the main one first.
    pub locations: BTreeMap<Digest, Vec<Location>>,
}

/// A source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceInfo {
    /// Its name.
    pub name: String,
    /// `Dockerfile`, `Buildfile`.
    pub language: String,
    /// Its text.
    pub data: Bytes,
    /// The definition that brings it, as it came; see [`SourceInfo::definition`].
    pub def: Option<Bytes>,
}

impl SourceInfo {
    /// Decodes the definition that brings the file, if there is one.
    pub fn definition(&self) -> Result<Option<Definition>, LlbError> {
        self.def.as_ref().map(|bytes| Definition::from_bytes(bytes)).transpose()
    }
}

/// Ranges in one source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Index in [`SourceMapping::files`].
    pub file: usize,
    /// The ranges.
    pub ranges: Vec<Range>,
}

/// Half-open range in a source file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First character.
    pub start: Position,
    /// One past the last character.
    pub end: Position,
}

/// A place in a source file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Character in the line, from 0.
    pub character: u32,
}
