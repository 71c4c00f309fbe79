//! The bundled engine: binds LLB ops to the parts of the runtime and solves jobs in this process.
//!
//! In: the requests and queries of a [`Job`](rb_api::Job). Out: their results, and events. The solver decides what runs,
//! `ops` say how, the store keeps what came of it, the exporters write what was asked for.
//! **Invariant:** nothing here prints or reads the environment; when a call has ended, or was dropped and
//! [`Engine::idle`](rb_api::Engine::idle) has returned, no process of it is left and nothing is mounted.

mod cache;
mod claims;
mod error;
mod exports;
mod gateway;
mod graph;
mod images;
mod job;
mod ops;
mod parts;
mod run_image;
mod solve;
mod value;
mod watch;

pub use error::EngineError;
pub use images::{ImageDetails, SaveFormat};
pub use run_image::RunRequest;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rb_exec::{Privileges, Rootless};
use rb_exporters::Precious;
use rb_snapshot::{DriverKind, Snapshots};
use rb_solver::{OpError, Options, Solver};
use rb_store::Store;

use crate::cache::StoreCache;
use crate::claims::Claims;
use crate::ops::LlbOp;
use crate::parts::Parts;

/// How to open the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Absolute path of the state directory; made if it is not there.
    pub root: PathBuf,
    /// What [`rb_exec::enter_runtime`] returned.
    pub privileges: Privileges,
    /// Steps that may run at once.
    pub jobs: NonZeroUsize,
    /// Host folders that `FROM @host --bind` may show beyond those that hold software.
    pub allowed_binds: Vec<PathBuf>,
    /// Directories that no export replaces, beside the state directory, each with what it is: "your home".
    pub precious: Vec<(PathBuf, &'static str)>,
}

/// The engine of this process. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct LocalEngine {
    parts: Arc<Parts>,
    jobs: NonZeroUsize,
    allowed_binds: Vec<PathBuf>,
    solver: Arc<OnceLock<Solver<LlbOp>>>,
}

impl LocalEngine {
    /// Opens the state directory. Cheap where it exists; several processes may have it open.
    pub fn open(options: EngineOptions) -> Result<Self, EngineError> {
        let store = Store::open(&options.root)?;
        let snapshots = Snapshots::new(store.clone(), driver())?;
        let claims = Claims::below(&options.root);
        claims.sweep();
        let precious = Precious { directories: options.precious, state: Some(options.root) };
        let parts = Parts {
            store,
            snapshots,
            claims,
            privileges: options.privileges,
            precious,
            caches: Default::default(),
        };
        Ok(Self {
            parts: Arc::new(parts),
            jobs: options.jobs,
            allowed_binds: options.allowed_binds,
            solver: Arc::default(),
        })
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Returns the solver; started at its first use, which is within a tokio runtime.
    fn solver(&self) -> &Solver<LlbOp> {
        self.solver.get_or_init(|| {
            let single_id = self.parts.privileges.mode == Rootless::SingleId;
            let cache = StoreCache::new(self.parts.store.clone(), self.parts.claims.clone(), single_id);
            Solver::new(Arc::new(cache), Options::new(self.jobs))
        })
    }
}

/// Chooses how snapshots are layered: by overlayfs, or by copies where this kernel refuses it to us.
fn driver() -> DriverKind {
    if rb_exec::overlay_works() { DriverKind::Overlay } else { DriverKind::Copy }
}

/// Wraps an error for the solver.
fn op_error(error: EngineError) -> OpError {
    match error {
        EngineError::Exec(rb_exec::ExecError::Cancelled) => OpError::cancelled(),
        error => OpError::new(error.kind(), error),
    }
}

/// Runs blocking work on tokio's threads for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, OpError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(op_error),
        Err(error) => Err(op_error(EngineError::Worker { reason: error.to_string() })),
    }
}
