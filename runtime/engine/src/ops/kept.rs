//! What a step that failed has left, kept for somebody who looks at it.
//!
//! In: the step, and its layers as the command left them. Out: a row of the store ([`rb_store::FailureRow`]) from which
//! [`shell`](super::shell) makes the step ready again, and an error that names the command for that.
//! **Invariants:** what a failed step left is found by no key and by no content, so no build takes it for a result.
//! No value of a secret and no proxy is in the row. That something cannot be kept changes nothing about the failure.

use rb_llb::{MountKind, Op, Vertex};
use rb_oci::Digest;
use rb_snapshot::ContentKey;
use rb_store::{FailureRow, SnapshotId};
use serde::{Deserialize, Serialize};

use super::exec::{Laid, Way, Writable};
use crate::LocalEngine;
use crate::error::EngineError;
use crate::job::JobContext;
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
}

impl LocalEngine {
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

    fn shown(&self, row: &FailureRow) -> FailedStep {
        FailedStep {
            id: row.id,
            name: self.name.clone(),
            outcome: self.outcome.clone(),
            failed_unix: row.failed_unix,
            is_ours: row.is_ours,
        }
    }
}

/// Keeps what a step has left, and says in its error how to look at it.
pub(super) fn keep(job: &JobContext, way: &Way, seen: Seen<'_>, failed: EngineError) -> EngineError {
    let EngineError::Exit { outcome, log_tail, help } = failed else { return failed };
    let help = match keep_row(job, way, seen, &outcome) {
        Ok(id) => {
            let told = format!("`rb shell {id}` opens a shell where it failed");
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
        let left = Tree { snapshot: Some(snapshot), content: content(job, snapshot), host: base.host };
        if op.mounts.get(mount).is_some_and(|mount| mount.dest == "/") {
            job.note_left(vertex.digest, left.clone());
        }
        trees.push((mount, left));
    }
    let (mounts, trees): (Vec<usize>, Vec<Tree>) = trees.into_iter().unzip();
    let products: Vec<Product> = trees.into_iter().map(|tree| Product::Here(Value::Tree(tree))).collect();
    let (trees, _) = value::encode(&products)
        .ok_or_else(|| EngineError::Worker { reason: "a tree that cannot be kept".to_owned() })?;
    let trees = String::from_utf8_lossy(&trees).into_owned();
    let kept = Kept { name: way.name.clone(), outcome: outcome.to_owned(), scope, mounts, trees };
    let about = serde_json::to_string(&kept).expect("plain data serialises");
    Ok(store.keep_failure(&vertex.encode(), &about, &own, &read)?)
}

/// Returns a content key that nothing else has: what was left is nobody's result.
fn content(job: &JobContext, snapshot: SnapshotId) -> ContentKey {
    let now = job.parts.store.clock().now().as_nanos();
    let text = format!("left by a step that failed: {snapshot} at {now} in {}", std::process::id());
    ContentKey::from_bytes(*Digest::of(text).as_bytes())
}
