//! The record of a build as a value: what is written when it has ended, and read by `rb history` and `rb why`.
//!
//! ```text
//! {"format": 2, "command": "build", "target": "+app", "args": ["TAG"], "targets": ["+app"],
//!  "workspace": "/home/me/project",
//!  "dockerfile": {"file": "Dockerfile", "target": "test", "context": ".", "folder": …, "words": […]},   of one
//!  "app": {"folder": …, "words": […]},        of one that buildpacks built
//!  "placed": {"engine": "farm", "node": "a", "address": "tcp://…", "why": "…", "failed": [{"node": "b", "why": "…"}]},   of several
//!  "started_unix_ms": …, "duration_ms": …, "outcome": "done" | "failed" | "interrupted", "exit_code": 0, "left_out": 0,
//!  "parts": [{"kind": "command", "name": "", "value": "make"}, …],      what keys are made of, each once
//!  "steps": [
//!    {"name": "+app | RUN make", "vertex": "sha256:…", "step": true,
//!     "verdict": "cached" | "ran" | "failed" | "cancelled" | "not_needed",
//!     "key": "fast",                             of what was cached
//!     "from": "me/app:cache",                    of what a cache elsewhere had
//!     "reason": "…", "miss": {"why": …},         of what missed: for people, and as `rb_api::Miss`
//!     "shared_with": "sha256:…",                 of what waited for an equal one
//!     "began_ms": 3, "duration_ms": 12,          of what ran; the first since the build began
//!     "message": "…",                            of what failed
//!     "bytes": {"fetching": 1234},               what it moved, by what it was at
//!     "place": ["Buildfile", 4], "inputs": [[0, 0]], "own": [0], "about": [], "files": "sha256:…"}]}
//! ```
//!
//! An input is the place of a step and which of its outputs; none of a step that was left out. `own` and `about` are places in
//! `parts`, see [`rb_api::KeyParts`]. The list behind `files` lies beside the record ([`super::files`]). Records of format 1 lack what
//! came with 2.

use std::collections::BTreeMap;

use rb_api::{CacheKey, KeyPart, Miss};
use rb_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::progress::{bare_target, divided};

/// Number of the format that is written.
pub(in crate::commands) const FORMAT: u32 = 2;

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct Document {
    pub(in crate::commands) format: u32,
    pub(in crate::commands) command: String,
    pub(in crate::commands) target: String,
    #[serde(default)]
    pub(in crate::commands) args: Vec<String>,
    /// The targets that were asked for by name, as steps have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) targets: Vec<String>,
    /// The root of what was built, if files of one were; not in a record of another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) workspace: Option<String>,
    /// It came by `rb history import`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::commands) imported: bool,
    /// The Dockerfile that was built, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) dockerfile: Option<OfDockerfile>,
    /// The build of an app by buildpacks, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) app: Option<OfApp>,
    /// The node that built it, of an engine that has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) placed: Option<PlacedOn>,
    pub(in crate::commands) started_unix_ms: u64,
    #[serde(default)]
    pub(in crate::commands) duration_ms: u64,
    #[serde(default)]
    pub(in crate::commands) outcome: String,
    #[serde(default)]
    pub(in crate::commands) exit_code: u8,
    #[serde(default)]
    pub(in crate::commands) left_out: usize,
    #[serde(default)]
    pub(in crate::commands) parts: Vec<KeyPart>,
    #[serde(default)]
    pub(in crate::commands) steps: Vec<RecordStep>,
}

/// Where a build went, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct PlacedOn {
    /// The engine's name.
    pub(in crate::commands) engine: String,
    /// The node's; none where no node took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) why: Option<String>,
    /// Nodes that failed before, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) failed: Vec<FailedOn>,
    /// Other nodes that parts of it went to, by the platforms that those are for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::commands) parts: BTreeMap<String, PartOn>,
}

/// Where a part of a build went, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct PartOn {
    pub(in crate::commands) node: String,
    pub(in crate::commands) address: String,
    pub(in crate::commands) why: String,
}

/// A node that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct FailedOn {
    pub(in crate::commands) node: String,
    pub(in crate::commands) why: String,
}

impl PlacedOn {
    /// Returns it as lines: a word, and what there is to say.
    pub(in crate::commands) fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { engine, node, address, why, failed, parts } = self;
        let built = node.as_ref().map(|node| {
            let address = address.as_deref().unwrap_or_default();
            ("engine", format!("{engine}/{node}, {address}: {}", why.as_deref().unwrap_or_default()))
        });
        // One that has no nodes.
        let alone = (node.is_none() && failed.is_empty()).then(|| ("engine", engine.clone()));
        let failed =
            failed.iter().map(|failed| ("failed", format!("{engine}/{}: {}", failed.node, failed.why)));
        let parts = parts.iter().map(|(part, PartOn { node, address, why })| {
            ("engine", format!("{engine}/{node}, {address}, for {part}: {why}"))
        });
        built.into_iter().chain(alone).chain(parts).chain(failed).collect()
    }
}

/// What a build of a Dockerfile was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct OfDockerfile {
    /// Path of the Dockerfile, as it was typed or found.
    pub(in crate::commands) file: String,
    /// The stage that was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) target: Option<String>,
    /// The folder or address that was named.
    pub(in crate::commands) context: String,
    /// Where that was; not in a record of another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) folder: Option<String>,
    /// What stood behind `rb build`, but for secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) words: Vec<String>,
}

/// What a build with buildpacks was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct OfApp {
    /// Where it was asked for; not in a record of another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) folder: Option<String>,
    /// What stood behind `rb pack build`; nothing where values of variables are among that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) words: Vec<String>,
}

/// A step of it, or another vertex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct RecordStep {
    pub(in crate::commands) name: String,
    pub(in crate::commands) vertex: Digest,
    pub(in crate::commands) step: bool,
    pub(in crate::commands) verdict: Verdict,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) key: Option<CacheKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) miss: Option<Miss>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) shared_with: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) began_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) message: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::commands) bytes: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) place: Option<(String, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) inputs: Vec<(Option<usize>, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) own: Vec<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) about: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::commands) files: Option<Digest>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::commands) enum Verdict {
    Cached,
    Ran,
    Failed,
    Cancelled,
    NotNeeded,
}

impl Verdict {
    /// Returns it as people read it.
    pub(in crate::commands) fn word(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Ran => "ran",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::NotNeeded => "not needed",
        }
    }
}

impl Document {
    /// Returns it as the record of another machine: without the folders of this one.
    pub(in crate::commands) fn into_imported(mut self) -> Self {
        if let Some(dockerfile) = &mut self.dockerfile {
            dockerfile.folder = None;
        }
        Self { workspace: None, imported: true, ..self }
    }

    /// Returns what was asked for as one line: `rb +app`, `rb run +app`.
    pub(in crate::commands) fn title(&self) -> String {
        match self.command.as_str() {
            "build" => format!("rb {}", self.target),
            command => format!("rb {command} {}", self.target),
        }
    }

    /// Returns the parts at some places; what lies beyond them is none.
    pub(in crate::commands) fn parts_at<'a>(
        &'a self,
        places: &'a [usize],
    ) -> impl Iterator<Item = &'a KeyPart> {
        places.iter().filter_map(|place| self.parts.get(*place))
    }

    /// Counts the steps of some verdict that people count.
    pub(in crate::commands) fn count(&self, fits: impl Fn(Verdict) -> bool) -> usize {
        self.steps.iter().filter(|step| step.step && fits(step.verdict)).count()
    }
}

impl RecordStep {
    /// A step of which nothing more is known.
    pub(in crate::commands) fn of(name: impl Into<String>, vertex: Digest, verdict: Verdict) -> Self {
        Self {
            name: name.into(),
            vertex,
            step: true,
            verdict,
            key: None,
            from: None,
            reason: None,
            miss: None,
            shared_with: None,
            began_ms: None,
            duration_ms: None,
            message: None,
            bytes: BTreeMap::new(),
            place: None,
            inputs: Vec::new(),
            own: Vec::new(),
            about: Vec::new(),
            files: None,
        }
    }

    /// Returns the target with its arguments, or the stage of a Dockerfile; "" of what belongs to none.
    pub(in crate::commands) fn label(&self) -> &str {
        divided(&self.name).0
    }

    /// Returns the target without its arguments.
    pub(in crate::commands) fn target(&self) -> &str {
        bare_target(self.label())
    }

    /// Returns what it does: `RUN make`.
    pub(in crate::commands) fn what(&self) -> &str {
        divided(&self.name).1
    }
}
