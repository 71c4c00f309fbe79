//! LLB ops, bound to the parts of the runtime that do them.
//!
//! In: a verified vertex and its job. Out: what the solver asks of an op: how to recognise the result, the digest
//! of the part of an input that is read, the result. One file per kind of op.
//! **Invariant:** what enters a key is decided here and listed here:
//!
//! | op | cache map | slow key of an input |
//! | --- | --- | --- |
//! | `local://` | names, kinds, modes, contents of the files kept | none |
//! | `docker-image://`, `oci-layout://` | chain id of the layers: that is the tree, whatever the name or config | none |
//! | `host://` | package database, binds, fingerprints' output, the files of /etc shown | none |
//! | exec | the op's bytes but inputs and proxy variables | the selected part of a read-only mount |
//! | file | the op's bytes but inputs | the paths a copy reads |
//!
//! Never in a key: what a cache mount holds, secrets' values, whether privileged steps are allowed. A definition's own bytes
//! are: ids of caches and secrets, where they are mounted, that a step is privileged.
//!
//! Inputs enter by their keys (see `rb-solver`), so the op's own bytes leave their digests out.

mod authorities;
mod caches;
mod exec;
mod file;
mod mounts;
mod secrets;
mod source;
mod times;

use std::sync::Arc;

use async_trait::async_trait;
use rb_api::Course;
use rb_llb::{Op as LlbKind, Vertex};
use rb_oci::{Digest, Platform};
use rb_solver::{CacheInput, CacheMap, Context, Op, OpError, Weight};

use crate::error::EngineError;
use crate::job::JobContext;
use crate::parts::Parts;
use crate::value::{Product, Tree, Value};

/// One vertex of a definition, bound to its job.
pub(crate) struct LlbOp {
    vertex: Vertex,
    ignore_cache: bool,
    /// It is work that people count, and takes a place while it runs.
    is_step: bool,
    job: Arc<JobContext>,
    source: source::Pinned,
}

impl LlbOp {
    pub(crate) fn new(vertex: Vertex, ignore_cache: bool, is_step: bool, job: Arc<JobContext>) -> Self {
        Self { vertex, ignore_cache, is_step, job, source: source::Pinned::default() }
    }

    /// Returns what can be read: an image is fetched.
    async fn here(&self, cx: &Context, product: Product) -> Result<Value, OpError> {
        match product {
            Product::Here(value) => Ok(value),
            Product::Image(image, _) => {
                crate::fetch::tree_for(cx, &self.job.parts, &image).await.map(Value::Tree)
            }
        }
    }
}

pub(crate) use authorities::Authorities;
pub(crate) use caches::Turns;
pub(crate) use caches::marks::settle;
pub(crate) use exec::stack_of;

/// Returns a value as a tree of the store; a look at the user's folder is copied into one.
pub(crate) fn as_tree(parts: &Parts, value: &Value) -> Result<Tree, EngineError> {
    mounts::tree(parts, value, "/")
}

/// The error for what is refused by name.
pub(crate) fn unsupported(what: impl Into<String>, help: Option<&str>) -> EngineError {
    EngineError::Unsupported { what: what.into(), help: help.map(ToOwned::to_owned) }
}

/// Refuses a step for a machine of another kind: it would run this machine's programs under the other one's name.
fn refuse_foreign(vertex: &Vertex) -> Result<(), EngineError> {
    let Some(platform) = &vertex.platform else { return Ok(()) };
    let native = Platform::host();
    let (os, architecture) = (platform.os.as_str(), platform.architecture.as_str());
    let runs =
        architecture == native.architecture || (native.architecture == "amd64" && architecture == "386");
    if os == native.os && runs {
        return Ok(());
    }
    let help =
        format!("this machine runs steps for {native}; what only copies files builds for any platform");
    Err(unsupported(format!("a step for {os}/{architecture}"), Some(&help)))
}

#[async_trait]
impl Op for LlbOp {
    type Value = Product;

    async fn cache_map(&self, cx: &Context) -> Result<CacheMap, OpError> {
        let ignore_cache = self.ignore_cache || self.job.no_cache;
        let (digest, content): (Digest, Vec<bool>) = match &self.vertex.op {
            LlbKind::Source(op) => (self.source.pin(cx, op, &self.vertex, &self.job).await?, Vec::new()),
            LlbKind::Exec(op) => {
                exec::refuse(op, &self.job).map_err(crate::op_error)?;
                refuse_foreign(&self.vertex).map_err(crate::op_error)?;
                (exec::digest(&self.vertex, op), exec::slow_inputs(op, self.vertex.inputs.len()))
            }
            LlbKind::File(op) => (self.vertex.op_digest(), file::slow_inputs(op, self.vertex.inputs.len())),
            LlbKind::Merge(_) => return Err(crate::op_error(unsupported("the operation `merge`", None))),
            LlbKind::Diff(_) => return Err(crate::op_error(unsupported("the operation `diff`", None))),
            LlbKind::Build(_) => return Err(crate::op_error(unsupported("the operation `build`", None))),
        };
        let ignore_cache = ignore_cache && !matches!(self.vertex.op, LlbKind::Source(_));
        let inputs = content.into_iter().map(|content| CacheInput { selector: None, content }).collect();
        Ok(CacheMap { digest, inputs, ignore_cache, taint_dependents: false })
    }

    async fn content(&self, cx: &Context, index: usize, value: &Product) -> Result<Digest, OpError> {
        // A look fetches nothing either.
        if self.job.course == Course::Look && matches!(value, Product::Image(..)) {
            return Err(OpError::withheld());
        }
        let value = self.here(cx, value.clone()).await?;
        let (op, job) = (self.vertex.op.clone(), Arc::clone(&self.job));
        let inputs = self.vertex.inputs.len();
        crate::blocking(move || match &op {
            LlbKind::File(op) => file::content(&job.parts, op, inputs, index, &value),
            LlbKind::Exec(op) => exec::content(&job.parts, op, index, &value),
            LlbKind::Source(_) | LlbKind::Merge(_) | LlbKind::Diff(_) | LlbKind::Build(_) => Ok(value.key()),
        })
        .await
    }

    async fn run(&self, cx: &Context, products: Vec<Product>) -> Result<Vec<Product>, OpError> {
        if let LlbKind::Source(op) = &self.vertex.op {
            return self.source.make(op, &self.job).await.map(|product| vec![product]);
        }
        let mut inputs = Vec::with_capacity(products.len());
        for product in products {
            // Others may run while an image is on its way.
            inputs.push(cx.aside(self.here(cx, product)).await?);
        }
        let values = match &self.vertex.op {
            LlbKind::Exec(op) => exec::run(cx, op, inputs, &self.job).await?,
            LlbKind::File(op) => {
                let (op, job) = (op.clone(), Arc::clone(&self.job));
                crate::blocking(move || file::run(&job.parts, &op, &inputs)).await?
            }
            // Refused by `cache_map`, which the solver asks first.
            LlbKind::Source(_) | LlbKind::Merge(_) | LlbKind::Diff(_) | LlbKind::Build(_) => {
                return Err(OpError::cancelled());
            }
        };
        self.job.packing.made(&self.job.parts, &self.vertex.digest, &values);
        Ok(values.into_iter().map(Product::Here).collect())
    }

    fn content_key(value: &Product) -> Digest {
        value.key()
    }

    fn weight(&self) -> Weight {
        match self.vertex.op {
            // Such as the folder that an answer is written to: a frontend's own plumbing, made in no time.
            LlbKind::File(_) if !self.is_step => Weight::Free,
            LlbKind::Exec(_) | LlbKind::File(_) => Weight::Slot,
            LlbKind::Source(_) | LlbKind::Merge(_) | LlbKind::Diff(_) | LlbKind::Build(_) => Weight::Free,
        }
    }

    fn is_shared(&self) -> bool {
        match &self.vertex.op {
            LlbKind::Exec(_) | LlbKind::File(_) => true,
            // What of an image is work is shared by `fetch`, and done for whom it concerns.
            LlbKind::Source(_) | LlbKind::Merge(_) | LlbKind::Diff(_) | LlbKind::Build(_) => false,
        }
    }
}
