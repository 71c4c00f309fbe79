//! The bundled engine: binds LLB ops to the parts of the runtime and solves jobs in this process.
//!
//! In: the requests and queries of a [`Job`](rb_api::Job). Out: their results, and events. The solver decides what runs,
//! `ops` say how, the store keeps what came of it, the exporters write what was asked for.
//! **Invariant:** nothing here prints or reads the environment; when a call has ended, or was dropped and
//! [`Engine::idle`](rb_api::Engine::idle) has returned, no process of it is left and nothing is mounted.

mod admission;
mod cache;
mod claims;
mod error;
mod exports;
mod fetch;
mod gateway;
mod graph;
mod history;
mod host;
mod images;
mod job;
mod load;
mod look;
mod names;
mod network;
mod ops;
mod packing;
mod parts;
mod pinned;
mod progress;
mod pull;
mod push;
mod run_image;
mod shared;
mod snapshotter;
mod solve;
mod status;
mod value;
mod verify;
mod watch;

pub use admission::MemoryStatus;
pub use error::EngineError;
pub use host::HostPrograms;
pub use images::{Copied, Delivery, ImageDetails, Loaded, Place, PlaceError, SaveFormat};
pub use load::{Layers, LoadPlaces, LoadReport, LoadedImage, Loader};
pub use network::StepNetwork;
pub use ops::{
    FailedStep, OfBuild, OpenStep, OpenTarget, ResumeRequest, ResumedStep, ShellRequest, StepTerms,
};
pub use pull::PulledImage;
pub use push::Platforms;
pub use run_image::{RunGiven, RunRequest, Runnable};
pub use snapshotter::Snapshotter;
pub use status::{Answer, ProcessStatus, StatusServer, ask_all};
pub use verify::{BrokenImage, Verified};

pub use rb_solver::{Phase, Status, VertexStatus, WaitsFor};

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use rb_exec::{Isolation, Privileges, Rootless};
use rb_exporters::Precious;
use rb_snapshot::Snapshots;
use rb_solver::{OpError, Options, Solver};
use rb_store::{Policy, Store};

use crate::admission::Admission;
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
    /// How roots of steps are made of layers.
    pub snapshotter: Snapshotter,
    /// Host folders that `FROM @host --bind` may show beyond those that hold software.
    pub allowed_binds: Vec<PathBuf>,
    /// How registries are asked.
    pub registry: rb_registry::Registry,
    /// How commands reach the network.
    pub network: StepNetwork,
    /// On which terms they run.
    pub steps: StepTerms,
    /// Directories that no export replaces, beside the state directory, each with what it is: "your home".
    pub precious: Vec<(PathBuf, &'static str)>,
}

/// The engine of this process. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct LocalEngine {
    parts: Arc<Parts>,
    jobs: NonZeroUsize,
    allowed_binds: Vec<PathBuf>,
    copying: Option<Arc<str>>,
    solver: Arc<OnceLock<Solver<LlbOp>>>,
    /// How many jobs have ended.
    ended: Arc<AtomicUsize>,
}

impl LocalEngine {
    /// Opens the state directory. Cheap where it exists; several processes may have it open.
    pub fn open(options: EngineOptions) -> Result<Self, EngineError> {
        // One for each of those that compute: the others wait for the disk and for what they started.
        rb_sys::memory::share_heaps(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
        let store = Store::open(&options.root)?;
        if let Err(error) = store.drop_lapsed_failures() {
            tracing::warn!(error = rb_diag::chain(&error), "steps that failed are kept for longer");
        }
        let snapshotter = match options.steps.isolation {
            Isolation::Sandbox => options.snapshotter,
            // There is nothing to mount by.
            Isolation::Chroot => Snapshotter::Native,
        };
        let (driver, copying) = snapshotter::choose(&store, snapshotter)?;
        let snapshots = Snapshots::new(store.clone(), driver)?;
        let claims = Claims::below(&options.root);
        claims.sweep();
        let precious = Precious { directories: options.precious, state: Some(options.root) };
        let budget = options.steps.memory_budget;
        let admission = budget.map(|amount| Admission::open(amount, options.jobs, &store)).transpose()?;
        let parts = Parts {
            store,
            snapshots,
            claims,
            privileges: options.privileges,
            registry: options.registry,
            network: options.network,
            networks: Default::default(),
            steps: options.steps,
            host: OnceLock::new(),
            precious,
            unpacking: tokio::sync::Semaphore::new(options.jobs.get()),
            admission,
            caches: Default::default(),
            build: OnceLock::new(),
            on_host: Default::default(),
            shared: Default::default(),
            resumption: OnceLock::new(),
        };
        Ok(Self {
            parts: Arc::new(parts),
            jobs: options.jobs,
            allowed_binds: options.allowed_binds,
            copying: copying.map(Arc::from),
            solver: Arc::default(),
            ended: Arc::default(),
        })
    }

    /// Lends the user's own machine, on which sources of git run git; once.
    pub fn lend_programs(&self, host: Arc<dyn HostPrograms>) {
        // The first one stays.
        drop(self.parts.host.set(host));
    }

    /// Returns why each step works in a copy of its root, if that is for want of overlayfs.
    pub fn copying(&self) -> Option<&str> {
        self.copying.as_deref()
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Says whether a process apart should be started to write through to the disk what this one leaves behind: one that
    /// hands the returned directory to [`sync_apart`]. `None` where nothing is to be done, or somebody is at it.
    pub fn begin_sync(&self) -> Result<Option<File>, EngineError> {
        Ok(self.parts.store.begin_sync(self.parts.caches.were_used())?)
    }

    /// Returns the solver; started at its first use, which is within a tokio runtime.
    fn solver(&self) -> &Solver<LlbOp> {
        self.solver.get_or_init(|| {
            let single_id = self.parts.privileges.mode == Rootless::SingleId;
            let cache = StoreCache::new(&self.parts, single_id);
            Solver::new(Arc::new(cache), Options::new(self.jobs))
        })
    }
}

/// Writes what was built below the state directory `root` through to the disk: snapshots, and caches that nobody uses.
/// `directory` is what [`LocalEngine::begin_sync`] returned. Then removes what is too much by the policy that is `kept`.
pub fn sync_apart(root: &Path, directory: &File, kept: Option<Policy>) -> Result<(), EngineError> {
    rb_store::sync_apart(root, directory)?;
    let settled = ops::settle(&root.join("caches"), directory);
    settled.map_err(|source| EngineError::Cache { action: "sync", id: "all".to_owned(), source })?;
    Ok(rb_store::tidy_apart(root, directory, kept)?)
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
