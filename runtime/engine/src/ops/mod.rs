//! LLB ops, bound to the parts of the runtime that do them.
//!
//! In: a verified vertex and its job. Out: what the solver asks of an op: how to recognise the result, the digest
//! of the part of an input that is read, the result. One file per kind of op.
//! **Invariant:** what enters a key is decided here and listed here:
//!
//! | op | cache map | slow key of an input |
//! | --- | --- | --- |
//! | `local://` | names, kinds, modes, contents of the files kept | none |
//! | `local://` with names wanted | the same of what has content, and the list: names, modes, sizes, times | none |
//! | `docker-image://`, `oci-layout://` | chain id of the layers: that is the tree, whatever the name or config | none |
//! | `http://`, `https://`, `…+blob://` | digest, name, mode and owner of the one file | none |
//! | `git://` | commit, folder, submodules or not; with `.git` the address and branch, too; of a bundle the name in it | none |
//! | `host://` | package database, binds, fingerprints' output, the files of /etc shown | none |
//! | exec | the op's bytes but inputs, proxy variables and ids of caches that hold hints; that it runs in a chroot | the selected part of a mount that is read-only, or whose op says so; of a folder of the user's mounted whole, its key |
//! | file | the op's bytes but inputs | the paths a copy takes, by its patterns; of a folder of the user's taken whole, its key |
//! | merge, diff | the op's bytes but inputs | none |
//! | build | the op's bytes but inputs; looked up in no cache, since what the definition names may have changed | none |
//!
//! Never in a key: what a cache mount holds, secrets' values, ssh agents, whether privileged steps are allowed, on which `terms`
//! a step runs but the isolation, what a device's name stands for. A definition's own bytes are: ids of caches, secrets and agents, where they are
//! mounted, names of devices, that a step is privileged.
//!
//! Inputs enter by their keys (see `rb-solver`), so the op's own bytes leave their digests out. What each key is made of is told as
//! it is made ([`rb_api::KeyParts`]): of the bytes of an op by `parts`, of a source by what it was pinned to.

mod agents;
mod authorities;
mod budget;
mod build;
mod caches;
mod chroot;
mod devices;
mod diff;
mod exec;
mod exit;
mod file;
mod fingerprint;
mod kept;
mod lay;
mod merge;
mod mounts;
mod parts;
pub(crate) mod process;
mod resume;
mod secrets;
mod shell;
pub(crate) mod source;
mod taken;
mod terms;
mod times;
mod unpack;

use std::sync::Arc;

use async_trait::async_trait;
use rb_api::{Course, Event, EventKind, EventSink, KeyPart, KeyParts};
use rb_llb::{Op as LlbKind, Vertex, VertexMeta};
use rb_oci::Digest;
use rb_snapshot::View;
use rb_solver::{CacheInput, CacheMap, Context, Op, OpError, Weight};

use crate::error::EngineError;
use crate::fetch::Listener;
use crate::job::JobContext;
use crate::parts::Parts;
use crate::progress::{self, Gauge};
use crate::value::{Product, Tree, Value};

/// One vertex of a definition, bound to its job.
pub(crate) struct LlbOp {
    vertex: Vertex,
    meta: VertexMeta,
    /// It is work that people count, and takes a place while it runs.
    is_step: bool,
    job: Arc<JobContext>,
    source: source::Pinned,
    told: Told,
}

/// Whom an op tells what its key is made of, and where it was written: file and line.
pub(crate) struct Told {
    pub(crate) events: EventSink,
    pub(crate) place: Option<(String, u32)>,
}

impl LlbOp {
    pub(crate) fn new(
        vertex: Vertex,
        meta: &VertexMeta,
        is_step: bool,
        job: Arc<JobContext>,
        told: Told,
    ) -> Self {
        Self { vertex, meta: meta.clone(), is_step, job, source: source::Pinned::default(), told }
    }

    /// Tells what the key is made of.
    fn tell_parts(&self) {
        let platform = self.vertex.platform.as_ref();
        let (own, about, files) = match &self.vertex.op {
            LlbKind::Source(op) => self.source.parts(op),
            LlbKind::Exec(op) => {
                let mut own = parts::of_exec(op, platform, &self.meta);
                own.extend(chroot::part(&self.job.parts.steps));
                (own, Vec::new(), None)
            }
            LlbKind::File(op) => (parts::of_files(op, platform), Vec::new(), None),
            LlbKind::Merge(_) | LlbKind::Diff(_) | LlbKind::Build(_) => {
                (parts::of_digest(&self.vertex.op_digest()), Vec::<KeyPart>::new(), None)
            }
        };
        let inputs = self.vertex.inputs.iter().map(|edge| (edge.vertex, edge.index)).collect();
        let parts = Arc::new(KeyParts { inputs, own, about, files, place: self.told.place.clone() });
        (self.told.events)(Event { vertex: self.vertex.digest, kind: EventKind::Keyed { parts } });
    }

    /// Returns what the failed step left that this one goes on with.
    fn left(&self) -> Option<Arc<resume::Left>> {
        self.job.parts.resumption.get()?.left_for(&self.vertex.digest)
    }

    /// Returns who is to run the programs of this step, if the processor does not.
    fn emulator(&self) -> Result<Option<rb_exec::Emulator>, OpError> {
        terms::emulator(&self.vertex, &self.job.parts.steps.emulators).map_err(crate::op_error)
    }

    /// Returns what can be read: an image is fetched.
    async fn here(&self, cx: &Context, product: Product) -> Result<Value, OpError> {
        match product {
            Product::Here(value) | Product::Resumed(value, _) => Ok(value),
            Product::Image(image, _) => {
                crate::fetch::tree_for(cx, &self.job.parts, &image).await.map(Value::Tree)
            }
        }
    }
}

pub(crate) use authorities::Authorities;
pub(crate) use build::Nesting;
pub(crate) use caches::Turns;
pub(crate) use caches::marks::settle;
pub use kept::{FailedStep, OfBuild};
pub(crate) use lay::stack_of;
pub(crate) use resume::{INSTEAD_OF_IMAGES, Resumption};
pub use resume::{ResumeRequest, ResumedStep};
pub use shell::{OpenStep, OpenTarget, ShellRequest};
pub(crate) use source::{Asked, repository};
pub use terms::StepTerms;

/// Returns what can be read of a value, without copying.
pub(crate) fn view(parts: &Parts, value: &Value) -> Result<View, EngineError> {
    mounts::view(parts, value)
}

/// Returns a value as a tree of the store; a look at the user's folder is copied into one.
pub(crate) fn as_tree(parts: &Parts, value: &Value) -> Result<Tree, EngineError> {
    mounts::tree(parts, value, "/")
}

/// The error for what is refused by name.
pub(crate) fn unsupported(what: impl Into<String>, help: Option<&str>) -> EngineError {
    EngineError::Unsupported { what: what.into(), help: help.map(ToOwned::to_owned) }
}

/// The error for an input that an op names and does not have.
fn no_input(what: &str, index: usize) -> EngineError {
    EngineError::Definition { reason: format!("{what} uses input {index}, which is not there") }
}

#[async_trait]
impl Op for LlbOp {
    type Value = Product;

    async fn cache_map(&self, cx: &Context) -> Result<CacheMap, OpError> {
        let ignore_cache = self.meta.ignore_cache || self.job.no_cache;
        let (digest, content): (Digest, Vec<bool>) = match &self.vertex.op {
            LlbKind::Source(op) => (self.source.pin(cx, op, &self.vertex, &self.job).await?, Vec::new()),
            LlbKind::Exec(op) => {
                exec::refuse(op, &self.job).map_err(crate::op_error)?;
                if !op.cdi_devices.is_empty() {
                    let (op, job) = (op.clone(), Arc::clone(&self.job));
                    let look = move || devices::refuse(&op, &job.allowed_devices, &job.parts.steps);
                    crate::blocking(look).await?;
                }
                terms::refuse_foreign(&self.vertex).map_err(crate::op_error)?;
                let digest = chroot::keyed(exec::digest(&self.vertex, op), &self.job.parts.steps);
                (digest, exec::slow_inputs(op, &self.meta, self.vertex.inputs.len()))
            }
            LlbKind::File(op) => (self.vertex.op_digest(), file::slow_inputs(op, self.vertex.inputs.len())),
            LlbKind::Merge(_) | LlbKind::Diff(_) | LlbKind::Build(_) => {
                (self.vertex.op_digest(), vec![false; self.vertex.inputs.len()])
            }
        };
        self.tell_parts();
        let ignore_cache = ignore_cache || self.left().is_some_and(|left| left.has_command());
        let ignore_cache = match self.vertex.op {
            LlbKind::Source(_) => false,
            LlbKind::Build(_) => true,
            LlbKind::Exec(_) | LlbKind::File(_) | LlbKind::Merge(_) | LlbKind::Diff(_) => ignore_cache,
        };
        let inputs = content.into_iter().map(|content| CacheInput { selector: None, content }).collect();
        Ok(CacheMap { digest, inputs, ignore_cache, taint_dependents: false })
    }

    async fn content(&self, cx: &Context, index: usize, value: &Product) -> Result<Digest, OpError> {
        // A look fetches nothing either.
        if self.job.course == Course::Look && matches!(value, Product::Image(..)) {
            return Err(OpError::withheld());
        }
        if value.is_resumed() {
            // Nor does a part of it stand for what a build from the beginning has.
            return Ok(value.key());
        }
        let value = self.here(cx, value.clone()).await?;
        let (op, job) = (self.vertex.op.clone(), Arc::clone(&self.job));
        let gauge = Gauge::new("reading");
        let tally = gauge.tally();
        let work = crate::blocking(move || {
            let input = taken::Input::new(&job.parts, &value, &tally)?;
            match &op {
                LlbKind::File(op) => taken::by_copies(op, index, &input),
                LlbKind::Exec(op) => taken::by_mounts(op, index, &input),
                LlbKind::Source(_) | LlbKind::Merge(_) | LlbKind::Diff(_) | LlbKind::Build(_) => {
                    Ok(value.key())
                }
            }
        });
        progress::told(&Listener::of(cx), &gauge, || true, work).await
    }

    async fn run(&self, cx: &Context, products: Vec<Product>) -> Result<Vec<Product>, OpError> {
        let mut is_resumed = products.iter().any(Product::is_resumed);
        let mut inputs = Vec::with_capacity(products.len());
        for product in products {
            // Others may run while an image is on its way.
            inputs.push(cx.aside(self.here(cx, product)).await?);
        }
        let values = match &self.vertex.op {
            LlbKind::Exec(op) => {
                let terms = terms::Terms::of(&self.meta).map_err(crate::op_error)?;
                let (vertex, emulator) = (self.vertex.clone(), self.emulator()?);
                let name = self.meta.name().map_or_else(|| vertex.display(), ToOwned::to_owned);
                let mut origin =
                    kept::Origin { place: self.told.place.clone(), began: Vec::new(), instead: None };
                let mut op = op.clone();
                if let Some(left) = self.left() {
                    is_resumed = true;
                    origin.instead = left.command();
                    let left = (left, name.clone());
                    (op, inputs, origin.began) = resume::begin(cx, &self.job, left, (op, inputs)).await?;
                }
                exec::run(cx, &op, inputs, &self.job, exec::Way { terms, emulator, vertex, name, origin })
                    .await?
            }
            LlbKind::File(op) => {
                let (op, job, listener) = (op.clone(), Arc::clone(&self.job), Listener::of(cx));
                let gauge = Gauge::new("copying");
                let (tally, cx) = (gauge.tally(), cx.clone());
                let stopped = move || cx.is_cancelled();
                let work = crate::blocking(move || file::run(&job.parts, &op, &inputs, &tally, &stopped));
                progress::told(&listener, &gauge, || true, work).await?
            }
            LlbKind::Merge(op) => {
                let (op, job) = (op.clone(), Arc::clone(&self.job));
                vec![crate::blocking(move || merge::run(&job.parts, &op, &inputs)).await?]
            }
            LlbKind::Diff(op) => {
                let (op, job) = (op.clone(), Arc::clone(&self.job));
                vec![crate::blocking(move || diff::run(&job.parts, &op, &inputs)).await?]
            }
            LlbKind::Build(op) => {
                let made = build::run(cx, op, self.vertex.digest, inputs, &self.job).await?;
                if !is_resumed {
                    return Ok(vec![made]);
                }
                vec![self.here(cx, made).await?]
            }
            LlbKind::Source(op) => {
                let made = self.source.make(cx, op, &self.vertex.digest, &self.job).await;
                return made.map(|product| vec![product]);
            }
        };
        self.job.packing.made(&self.job.parts, &self.vertex.digest, &values);
        if is_resumed {
            return Ok(resume::marked(&self.job.parts, &self.vertex.digest, values));
        }
        Ok(values.into_iter().map(Product::Here).collect())
    }

    fn content_key(value: &Product) -> Digest {
        value.key()
    }

    fn weight(&self) -> Weight {
        match self.vertex.op {
            // Such as the folder that an answer is written to: a frontend's own plumbing, made in no time.
            LlbKind::File(_) if !self.is_step => Weight::Free,
            LlbKind::Exec(_) | LlbKind::File(_) | LlbKind::Merge(_) | LlbKind::Diff(_) => Weight::Slot,
            // A build waits for other vertices, which take places of their own.
            LlbKind::Source(_) | LlbKind::Build(_) => Weight::Free,
        }
    }

    fn is_shared(&self) -> bool {
        match &self.vertex.op {
            LlbKind::Exec(_) | LlbKind::File(_) | LlbKind::Merge(_) | LlbKind::Diff(_) => true,
            // What of an image is work is shared by `fetch`, and done for whom it concerns; so it is with the vertices of
            // a definition that is built.
            LlbKind::Source(_) | LlbKind::Build(_) => false,
        }
    }
}
