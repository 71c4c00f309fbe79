//! The engine of this process, opened, and the threads it works on.
//!
//! Opening enters the runtime first (a mount namespace as root, a user namespace otherwise), while this process has one
//! thread. Whatever happens to the work, [`Workbench::run`] returns only when its processes have ended, or after a
//! moment's patience; what is left then dies with this process.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rb_api::Engine;
use rb_engine::{EngineError, EngineOptions, LocalEngine};
use rb_exec::ExecError;
use tokio::runtime::Runtime;

use rb_diag::chain;

use crate::report::Failure;
use crate::settings::Settings;
use crate::signals::until_interrupted;

/// How long processes of cancelled work are waited for; Ctrl-C must end within a second.
const PATIENCE: Duration = Duration::from_millis(600);

/// How long threads of ended work are waited for.
const SHUTDOWN: Duration = Duration::from_millis(200);

/// An engine and its threads.
pub(super) struct Workbench {
    /// The engine.
    pub(super) engine: Arc<LocalEngine>,
    threads: Runtime,
}

impl Workbench {
    /// Enters the runtime, opens the state directory and starts the threads.
    pub(super) fn open(settings: &Settings) -> Result<Self, Failure> {
        let privileges = rb_exec::enter_runtime()?;
        tracing::debug!(?privileges, "entered the runtime");
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.jobs.get().clamp(1, 4))
            .enable_all()
            .build()
            .map_err(|error| Failure::environment("no threads can be started", &error))?;
        let options = EngineOptions {
            root: settings.state_directory.clone(),
            privileges,
            jobs: settings.jobs,
            allowed_binds: settings.allowed_binds.clone(),
        };
        let engine = {
            let _guard = threads.enter();
            LocalEngine::open(options)?
        };
        Ok(Self { engine: Arc::new(engine), threads })
    }

    /// Does the work, or drops it at a signal, and waits for its processes.
    pub(super) fn run<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let done = self.threads.block_on(until_interrupted(Box::pin(work)));
        let idle = async { tokio::time::timeout(PATIENCE, self.engine.idle()).await };
        if self.threads.block_on(idle).is_err() {
            tracing::warn!("processes of cancelled work are still there; they end with this one");
        }
        match done {
            Ok(Ok(result)) => result,
            Ok(Err(interrupt)) => Err(Failure::Interrupted(interrupt)),
            Err(error) => Err(Failure::environment("signals cannot be waited for", &error)),
        }
    }

    /// Ends the threads.
    pub(super) fn close(self) {
        self.threads.shutdown_timeout(SHUTDOWN);
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Said { kind: error.kind(), message: chain(&error), help: error.help() }
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        let help = "`rb doctor` tells what this machine allows, and what to do where it does not".to_owned();
        Self::Said { kind: error.kind(), message: chain(&error), help: Some(help) }
    }
}
