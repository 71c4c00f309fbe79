//! What a step that failed has left, kept for somebody who looks at it.
//!
//! In: the step, and its layers as the command left them. Out: a row of the store ([`rb_store::FailureRow`]) from which
//! [`shell`](super::shell) makes the step ready again and [`resume`](super::resume) goes on with it, and an error that names the
//! commands for that.
//! **Invariants:** what a failed step left is found by no key and by no content, so no build takes it for a result.
//! No value of a secret and no proxy is in the row. That something cannot be kept changes nothing about the failure.

use rb_llb::{MountKind, Op, Vertex};
use rb_oci::Digest;
use rb_snapshot::ContentKey;
use rb_store::{FailureRow, SnapshotId};
use serde::{Deserialize, Serialize};

use super::exec::Way;
use super::lay::{Laid, Writable};
use super::resume::{Left, LeftTree};
use crate::LocalEngine;
use crate::error::EngineError;
use crate::job::JobContext;
use crate::parts::Parts;
use crate::value::{self, Product, Tree, Value};

/// A step that failed and is kept, as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedStep {
    /// Names it: `rb shell ID`.
    pub id: u64,
    /// What it is called: `+app | RUN make`.
    pub name: String,
    /// How it ended.
    pub outcome: String,
    /// When, in seconds since 1970.
    pub failed_unix: i64,
    /// It failed in this process.
    pub is_ours: bool,
    /// The build that it failed in, where that can be asked for again.
    pub build: Option<OfBuild>,
}

/// A build, as its steps that fail keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfBuild {
    /// Tells it from others.
    pub id: String,
    /// How to ask for it again, in the client's words.
    pub asked: String,
}

/// Where a step comes from, beside what it does.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// Where it was written: file and line.
    pub(super) place: Option<(String, u32)>,
    /// What trees were that it began with, by its mounts, before what another one left was laid over them.
    pub(super) began: Vec<(usize, Tree)>,
    /// What ran in place of its own command, if something did.
    pub(super) instead: Option<String>,
}

impl LocalEngine {
    /// Says how to ask again for the build that this engine does, in the client's words: steps that fail keep it. Once.
    pub fn keep_asked(&self, asked: String) {
        let now = self.parts.store.clock().now().as_nanos();
        let id = format!("{now}-{}", std::process::id());
        // The first one stays.
        drop(self.parts.build.set(OfBuild { id, asked }));
    }

    /// Returns the steps that failed and are kept, newest first.
    pub fn failed_steps(&self) -> Result<Vec<FailedStep>, EngineError> {
        let rows = self.parts.store.failures()?;
        Ok(rows.iter().filter_map(|row| Kept::read(row).map(|kept| kept.shown(row))).collect())
    }
}

/// What a step saw when it ran.
pub(super) struct Seen<'a> {
    /// The client's workspace, for caches.
    pub(super) scope: String,
    pub(super) inputs: &'a [Value],
    pub(super) laid: Laid<'a>,
}

/// What a row says beside the step's bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) name: String,
    outcome: String,
    /// The client's workspace, for caches.
    pub(super) scope: String,
    /// Numbers of the mounts that are trees, or that a cache began as.
    mounts: Vec<usize>,
    /// Those trees, as a record has them.
    trees: String,
    /// Numbers of the mounts that it wrote in, and what their trees were before.
    #[serde(default)]
    written: Vec<usize>,
    #[serde(default)]
    began: String,
    #[serde(default)]
    place: Option<(String, u32)>,
    /// The vertex, which as it is kept has no proxy.
    #[serde(default)]
    vertex: Option<Digest>,
    #[serde(default)]
    build: Option<OfBuild>,
}

impl Kept {
    /// Reads what a row says; nothing where another version wrote it.
    pub(super) fn read(row: &FailureRow) -> Option<Self> {
        serde_json::from_str(&row.about).ok()
    }

    /// Returns the step with each of its trees as an input of its own: what it left in place of what it began with.
    pub(super) fn step(&self, row: &FailureRow) -> Option<(Vertex, Vec<Value>)> {
        let mut vertex = Vertex::decode(row.step.clone().into()).ok()?;
        let Op::Exec(op) = &mut vertex.op else { return None };
        let trees = value::decode(self.trees.as_bytes())?;
        let mut inputs = Vec::with_capacity(trees.len());
        for (number, tree) in self.mounts.iter().zip(trees) {
            let Product::Here(tree) = tree else { return None };
            let mount = op.mounts.get_mut(*number)?;
            mount.input = Some(inputs.len());
            if mount.dest == "/" {
                // It was cut down to that already.
                mount.selector.clear();
            }
            inputs.push(tree);
        }
        Some((vertex, inputs))
    }

    /// Returns what it left, for who goes on with it; nothing where an older version wrote it.
    pub(super) fn left(&self, row: &FailureRow) -> Option<Left> {
        let Self { name, mounts, trees, written, began, place, vertex: digest, .. } = self;
        let vertex = Vertex::decode(row.step.clone().into()).ok()?;
        let Op::Exec(op) = &vertex.op else { return None };
        let (trees, began) = (trees_of(trees)?, trees_of(began)?);
        let tree = |(number, began): (&usize, Tree)| {
            let at = mounts.iter().position(|mount| mount == number)?;
            Some(LeftTree { dest: op.mounts.get(*number)?.dest.clone(), began, left: trees.get(at)?.clone() })
        };
        let trees = written.iter().zip(began).map(tree).collect::<Option<_>>()?;
        let (name, inputs) = (name.clone(), vertex.inputs);
        Some(Left::new(row.id, name, ((*digest)?, inputs, place.clone()), trees))
    }

    fn shown(&self, row: &FailureRow) -> FailedStep {
        FailedStep {
            id: row.id,
            name: self.name.clone(),
            outcome: self.outcome.clone(),
            failed_unix: row.failed_unix,
            is_ours: row.is_ours,
            build: self.build.clone(),
        }
    }
}

/// Keeps what a step has left, and says in its error how to look at it.
pub(super) fn keep(job: &JobContext, way: &Way, seen: Seen<'_>, failed: EngineError) -> EngineError {
    let EngineError::Exit { outcome, log_tail, help } = failed else { return failed };
    let help = match keep_row(job, way, seen, &outcome) {
        Ok(id) => {
            let mut told = format!("`rb shell {id}` opens a shell where it failed");
            if job.parts.build.get().is_some() {
                told.push_str(&format!(", `rb resume {id}` goes on from there"));
            }
            Some(help.map_or_else(|| told.clone(), |help| format!("{help}; {told}")))
        }
        Err(error) => {
            tracing::warn!(error = rb_diag::chain(&error), "what a failed step left is not kept");
            help
        }
    };
    EngineError::Exit { outcome, log_tail, help }
}

fn keep_row(job: &JobContext, way: &Way, seen: Seen<'_>, outcome: &str) -> Result<u64, EngineError> {
    let store = &job.parts.store;
    let mut vertex = way.vertex.clone();
    let Op::Exec(op) = &mut vertex.op else {
        return Err(EngineError::Worker { reason: "only commands are kept".to_owned() });
    };
    // How this machine reaches the network, with passwords perhaps.
    op.meta.proxy_env = None;
    let Seen { scope, inputs, laid: Laid { shown, writables, .. } } = seen;
    let Way { origin, .. } = way;
    let (mut written, mut began) = (Vec::new(), Vec::new());
    let (mut own, mut read) = (Vec::new(), Vec::new());
    let mut trees: Vec<(usize, Tree)> = Vec::new();
    for (number, mount) in op.mounts.iter().enumerate() {
        let MountKind::Cache { .. } = mount.kind else { continue };
        let Some(seed) = mount.input.and_then(|index| inputs.get(index)) else { continue };
        // By its key the directory is found, which is there by now.
        let content = ContentKey::from_bytes(*seed.key().as_bytes());
        trees.push((number, Tree { snapshot: None, content, host: None }));
    }
    for (number, tree) in shown {
        read.extend(tree.snapshot);
        trees.push((number, tree));
    }
    for Writable { mount, active, base, .. } in writables {
        let snapshot = job.parts.snapshots.commit_unread(active)?;
        own.push(snapshot);
        let before = origin.began.iter().find(|(number, _)| *number == mount);
        written.push(mount);
        began.push(before.map_or_else(|| base.clone(), |(_, tree)| tree.clone()));
        let content = content(&job.parts, "left by a step that failed", snapshot);
        let left = Tree { snapshot: Some(snapshot), content, host: base.host };
        if op.mounts.get(mount).is_some_and(|mount| mount.dest == "/") {
            job.note_left(vertex.digest, left.clone());
        }
        trees.push((mount, left));
    }
    let (mounts, trees): (Vec<usize>, Vec<Tree>) = trees.into_iter().unzip();
    let kept = Kept {
        name: way.name.clone(),
        outcome: outcome.to_owned(),
        scope,
        mounts,
        trees: text_of(trees)?,
        written,
        began: text_of(began)?,
        place: origin.place.clone(),
        vertex: Some(way.vertex.digest),
        build: job.parts.build.get().cloned(),
    };
    let about = serde_json::to_string(&kept).expect("plain data serialises");
    Ok(store.keep_failure(&vertex.encode(), &about, &own, &read)?)
}

/// Writes trees as a record has them.
fn text_of(trees: Vec<Tree>) -> Result<String, EngineError> {
    let products: Vec<Product> = trees.into_iter().map(|tree| Product::Here(Value::Tree(tree))).collect();
    let (bytes, _) = value::encode(&products)
        .ok_or_else(|| EngineError::Worker { reason: "a tree that cannot be kept".to_owned() })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads them.
fn trees_of(text: &str) -> Option<Vec<Tree>> {
    let tree = |product| match product {
        Product::Here(Value::Tree(tree)) => Some(tree),
        Product::Here(Value::Local(_)) | Product::Image(..) | Product::Resumed(..) => None,
    };
    value::decode(text.as_bytes())?.into_iter().map(tree).collect()
}

/// Returns a content key that nothing else has: what was left is nobody's result.
pub(super) fn content(parts: &Parts, what: &str, snapshot: SnapshotId) -> ContentKey {
    let now = parts.store.clock().now().as_nanos();
    let text = format!("{what}: {snapshot} at {now} in {}", std::process::id());
    ContentKey::from_bytes(*Digest::of(text).as_bytes())
}
