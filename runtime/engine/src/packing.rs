//! Layers of an image, packed while its later steps run.
//!
//! In: which vertices make the layers of the images that a request exports, and each tree as soon as its vertex has run. Out:
//! rows of packed layers in the store, which the export at the end finds. One thread of low priority does it, a
//! layer at a time; what it did not get to, the export does.
//!
//! **Invariants:** what is packed does not depend on who packs it. No layer is packed by both at once: each holds
//! [`Packing::alone`]. A failure here is no failure of the build: the export meets it again, and tells it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rb_api::Export;
use rb_exporters::{Epoch, ExportError, Packing as How};
use rb_llb::{Graph, Op, Vertex};
use rb_oci::{Compression, Digest};
use rb_snapshot::Tally;
use rb_store::SnapshotId;

use crate::graph::Output;
use crate::parts::Parts;
use crate::value::Value;

/// How much of its share a packing thread leaves to the steps that run beside it.
const NICE: i32 = 5;

/// What one job packs ahead.
#[derive(Default)]
pub(crate) struct Packing {
    state: Mutex<State>,
    /// Held by whoever packs.
    alone: Mutex<()>,
    cancelled: AtomicBool,
    /// Counts the layer at hand.
    tally: Arc<Tally>,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<Output, Vec<Format>>,
    waiting: VecDeque<(SnapshotId, Format)>,
    is_running: bool,
}

/// What decides how a layer is packed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Format {
    compression: Compression,
    force: bool,
    epoch: Epoch,
}

impl Packing {
    /// Has the layers of the images among `exports` packed as they are made; `graphs` are those of the roots.
    pub(crate) fn want(&self, graphs: &[Graph], exports: &[Export], epoch: Epoch) {
        for export in exports {
            let Some(format) = export.format() else { continue };
            let format = Format {
                compression: format.compression,
                force: format.force_compression,
                epoch: format.epoch_seconds.map_or(epoch, Epoch),
            };
            let graphs = export.images().iter().filter_map(|image| graphs.get(image.root));
            let mut state = self.state();
            for output in graphs.flat_map(chain) {
                let formats = state.wanted.entry(output).or_default();
                if !formats.contains(&format) {
                    formats.push(format);
                }
            }
        }
    }

    /// Takes what a vertex has made.
    pub(crate) fn made(self: &Arc<Self>, parts: &Arc<Parts>, vertex: &Digest, values: &[Value]) {
        let mut state = self.state();
        for (index, value) in values.iter().enumerate() {
            let Value::Tree(tree) = value else { continue };
            let (Some(snapshot), None) = (tree.snapshot, &tree.host) else { continue };
            let Ok(index) = u32::try_from(index) else { continue };
            let formats = state.wanted.get(&(*vertex, index)).cloned().unwrap_or_default();
            state.waiting.extend(formats.into_iter().map(|format| (snapshot, format)));
        }
        if state.waiting.is_empty() || state.is_running || self.cancelled.load(Ordering::Relaxed) {
            return;
        }
        let (packing, parts) = (Arc::clone(self), Arc::clone(parts));
        let thread = std::thread::Builder::new().name("rb-pack".to_owned());
        // Without a thread the export does it.
        state.is_running = thread.spawn(move || packing.work(&parts)).is_ok();
    }

    /// Gives up what waits, waits for the layer at hand, and keeps others from packing while the guard lives.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.state().waiting.clear();
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where the layer at hand is counted, for who waits for it.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Ends all packing; that of a layer at hand ends soon.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.state().waiting.clear();
    }

    fn work(&self, parts: &Parts) {
        // Of this thread alone, and those that it starts. Where it cannot be, it competes.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "layers are packed at full priority");
        }
        loop {
            let mut state = self.state();
            let Some((top, format)) = state.waiting.pop_front() else {
                state.is_running = false;
                return;
            };
            drop(state);
            if let Err(error) = self.pack(parts, top, format) {
                tracing::debug!(snapshot = %top, error = rb_diag::chain(&error), "a layer is not packed ahead");
            }
        }
    }

    /// Packs a tree with what it stands on: that was there before, or was packed just now.
    fn pack(&self, parts: &Parts, top: SnapshotId, format: Format) -> Result<(), ExportError> {
        for id in parts.snapshots.layer_tops(Some(top))? {
            let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
            self.tally.begin_part(1, 1);
            let how = How {
                compression: format.compression,
                force: format.force,
                cancelled: Some(&self.cancelled),
                tally: Some(&self.tally),
            };
            rb_exporters::pack_layer(&parts.store, &parts.snapshots, id, format.epoch, how)?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the outputs whose trees an image consists of, from its root down.
pub(crate) fn chain(graph: &Graph) -> Vec<Output> {
    let mut chain = Vec::new();
    let mut next = graph.root().map(|edge| (edge.vertex, edge.index));
    while let Some(output) = next {
        chain.push(output);
        next = graph.get(&output.0).and_then(|vertex| below(vertex, output.1));
    }
    chain
}

/// Returns what an output of a vertex stands on.
pub(crate) fn below(vertex: &Vertex, output: u32) -> Option<Output> {
    let input = match &vertex.op {
        Op::Exec(op) => op.mounts.iter().find(|mount| mount.output == Some(output))?.input?,
        Op::File(op) => {
            let mut action = op.actions.iter().find(|action| action.output == Some(output))?;
            loop {
                let input = action.input?;
                match input.checked_sub(vertex.inputs.len()) {
                    None => break input,
                    Some(earlier) => action = op.actions.get(earlier)?,
                }
            }
        }
        Op::Source(_) | Op::Merge(_) | Op::Diff(_) | Op::Build(_) => return None,
    };
    vertex.inputs.get(input).map(|edge| (edge.vertex, edge.index))
}
