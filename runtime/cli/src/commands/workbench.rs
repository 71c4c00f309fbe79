//! The engine of this process, opened, and the threads it works on.
//!
//! Opening leaves a process outside first, for what must run on the user's own machine, then enters the runtime (a mount
//! namespace as root, a user namespace otherwise), both while this process has one thread. Whatever happens to the work,
//! [`Workbench::run`] returns only when its processes have ended, or after a moment's patience; what is left then dies
//! with this process.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rb_api::Engine;
use rb_api::EventSink;
use rb_engine::{EngineError, EngineOptions, HostPrograms, LocalEngine, StatusServer};
use rb_exec::{ExecError, Isolation, Outside};
use rb_registry::{Credentials, Registry};
use tokio::runtime::Runtime;

use rb_diag::chain;

use super::record::document::Document;
use super::record::{Asked, Lists, Placed, Recorder};
use super::{anew, apart, elsewhere, past};
use crate::helpers::docker_config;
use crate::report::{self, Failure};
use crate::settings::engine::EngineSettings;
use crate::settings::{Display, ProgressMode, Settings};
use crate::signals::{Interrupt, until_interrupted};

/// How long processes of cancelled work are waited for; Ctrl-C must end within a second.
const PATIENCE: Duration = Duration::from_millis(600);

/// How long threads of ended work are waited for.
const SHUTDOWN: Duration = Duration::from_millis(200);

/// Threads for blocking work beside those of steps, as many as there are by default for all.
const OTHER_THREADS: usize = 512;

/// What each of the threads has that walk trees, in bytes: address space, of which what is used is taken.
const FILES_STACK: usize = 16 << 20;

/// What is told of steps that run in a chroot: less isolation is never silent.
const IN_CHROOT: &str = "warning: steps run in a chroot and not in a sandbox: they have this machine's network, with what listens on it, and \
    its processes around them (`rb doctor`)\n";

/// An engine and its threads.
pub(super) struct Workbench {
    /// The engine.
    pub(super) engine: Arc<LocalEngine>,
    /// The engine elsewhere that builds, if there is one.
    remote: Option<Arc<dyn Engine>>,
    /// The way to the user's own machine.
    pub(super) outside: Arc<Outside>,
    recorder: Recorder,
    display: Display,
    /// Tells others what this process is at; absent where that cannot be done.
    _status: Option<StatusServer>,
    threads: Runtime,
}

impl Workbench {
    /// Leaves a process outside, enters the runtime, opens the state directory and starts the threads.
    ///
    /// `asked` is what for; `workspace` is the root of what is built, if files of one are.
    pub(super) fn open(settings: &Settings, asked: Asked, workspace: Option<&Path>) -> Result<Self, Failure> {
        if is_read_only(&settings.state_directory) {
            return Err(read_only(&settings.state_directory, &asked.title()));
        }
        let outside = match anew::kept_outside() {
            Some(outside) => outside,
            None => Arc::new(Outside::start()?),
        };
        let privileges = match settings.steps.isolation {
            Isolation::Sandbox => rb_exec::enter_runtime()?,
            Isolation::Chroot => rb_exec::enter_chroot()?,
        };
        tracing::debug!(?privileges, registry = ?settings.registry, "entered the runtime");
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.jobs.get().clamp(1, 4))
            // Each step that runs has one, and what they wait for needs some.
            .max_blocking_threads(settings.jobs.get().saturating_add(OTHER_THREADS))
            .enable_all()
            .build()
            .map_err(|error| Failure::environment("no threads can be started", &error))?;
        // A thread that waits for its part of a tree takes up parts of other trees, one on top of the other. Where they were started
        // before, they stay as they are.
        drop(
            rayon::ThreadPoolBuilder::new()
                .thread_name(|number| format!("files {number}"))
                .stack_size(FILES_STACK)
                .build_global(),
        );
        let credentials = Arc::new(docker_config(&settings.registry, Arc::clone(&outside)));
        let lent: Arc<dyn Credentials> = Arc::clone(&credentials) as _;
        let options = EngineOptions {
            root: settings.state_directory.clone(),
            privileges,
            jobs: settings.jobs,
            snapshotter: settings.snapshotter,
            allowed_binds: settings.allowed_binds.clone(),
            registry: Registry::new(settings.registry.options(), credentials),
            network: settings.network.clone(),
            steps: settings.steps.clone(),
            precious: precious(settings, workspace),
        };
        let guard = threads.enter();
        let engine = LocalEngine::open(options)?;
        engine.store().keep_within(settings.space.clone());
        engine.lend_programs(Arc::clone(&outside) as Arc<dyn HostPrograms>);
        let engine = Arc::new(engine);
        let placed = Placed::default();
        if let Some(EngineSettings::One(at)) = &settings.engine {
            placed.at(at.address.to_string());
        }
        let hears = placed.hears(settings.display);
        let remote = elsewhere::engine(settings, lent, &engine, precious(settings, workspace), hears)?;
        let status = engine.serve_status(asked.title());
        if let Err(error) = &status {
            tracing::warn!(error = chain(error), "`rb status` will not hear of this process");
        }
        for warning in engine.store().warnings() {
            report::tell(&format!("warning: {warning}\n"));
        }
        let runs_steps = asked.runs_steps() && remote.is_none();
        if settings.steps.isolation == Isolation::Chroot && runs_steps {
            report::tell(IN_CHROOT);
        }
        if let Some(why) = engine.copying().filter(|_| runs_steps) {
            let what = "overlayfs is not available here";
            report::tell(&format!("warning: {what}: {why}; each step copies its root (`rb doctor`)\n"));
        }
        let workspace = workspace.filter(|_| asked.is_compared());
        let recorder = Recorder::new(asked, engine.store()).in_workspace(workspace).placed(placed);
        drop(guard);
        Ok(Self {
            engine,
            remote,
            outside,
            recorder,
            display: settings.display,
            _status: status.ok(),
            threads,
        })
    }

    /// Returns who builds: this process, or an engine elsewhere.
    pub(super) fn builder(&self) -> &dyn Engine {
        match &self.remote {
            Some(remote) => remote.as_ref(),
            None => self.engine.as_ref(),
        }
    }

    /// Returns where the events of a job go: into the record of this build, and on to `next`.
    pub(super) fn heard(&self, next: EventSink) -> EventSink {
        self.recorder.sink(next)
    }

    /// Returns what was heard so far of its jobs, as the record of this build would have it.
    pub(super) fn heard_so_far(&self) -> (Document, Lists) {
        self.recorder.so_far()
    }

    /// Returns the id of the record of its last build, once that has ended.
    pub(super) fn record_id(&self) -> Option<String> {
        self.recorder.written().map(|name| past::id(&name))
    }

    /// Does the work, or says so and drops it at a signal, and waits for its processes. What is to be kept of a build is
    /// written then.
    pub(super) fn run<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.run_through(interruptible(work, |interrupt| {
            report::tell(&report::stopping(interrupt, self.display));
        }))
    }

    /// Does work that comes before what is recorded: what has to be known before it is known what is built.
    pub(super) fn run_first<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.threads.block_on(interruptible(work, |interrupt| {
            report::tell(&report::stopping(interrupt, self.display));
        }))
    }

    /// Does the same where stderr belongs to a program.
    pub(super) fn run_program<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.run_through(interruptible(work, |_| {}))
    }

    /// As [`run`](Self::run), for work that hears of signals itself.
    pub(super) fn run_through<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let ended = self.threads.block_on(work);
        let idle = async { tokio::time::timeout(PATIENCE, self.engine.idle()).await };
        if self.threads.block_on(idle).is_err() {
            tracing::warn!("processes of cancelled work are still there; they end with this one");
        }
        let ended = self.recorder.write(self.engine.store(), ended);
        anew::note(&self.engine, &self.outside, &ended);
        ended
    }

    fn tell_of_space(&self) {
        if !matches!(self.display.mode, ProgressMode::Plain | ProgressMode::Live) {
            return;
        }
        match self.engine.store().space_notes() {
            Ok(notes) => notes
                .into_iter()
                .for_each(|note| report::tell(&format!("{}\n", super::cache::space::note_in_words(note)))),
            Err(error) => tracing::warn!(error = chain(&error), "it is not known how much room is taken"),
        }
    }

    /// Leaves it to another process to make durable what was built, if there is anything.
    pub(super) fn sync_apart(&self) {
        if !self.engine.store().is_damaged() {
            apart::start(&self.engine);
        }
    }

    /// Ends the threads, and says what people should know of the room that was taken.
    pub(super) fn close(self) {
        self.tell_of_space();
        self.sync_apart();
        self.threads.shutdown_timeout(SHUTDOWN);
    }
}

/// Tells whether a state directory lies on a disk that is mounted read-only: files of it can be read, and its database cannot be
/// opened.
pub(super) fn is_read_only(root: &Path) -> bool {
    rustix::fs::access(root, rustix::fs::Access::WRITE_OK) == Err(rustix::io::Errno::ROFS)
}

fn read_only(root: &Path, command: &str) -> Failure {
    let root = root.display();
    let message = format!(
        "`{command}` needs the database of the state directory `{root}`, which cannot be opened: its disk is read-only"
    );
    let help = "have that disk mounted so that it can be written to, or set RB_ROOT to a directory on another; \
        `rb history`, `rb logs` and `rb why --last` read files alone, and work there";
    Failure::Said { kind: rb_diag::ErrorKind::Environment, message, help: Some(help.to_owned()) }
}

/// Does the work, or calls `heard` and drops it at a signal. To be called within a tokio runtime.
pub(super) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
    heard: impl FnOnce(Interrupt),
) -> Result<T, Failure> {
    match until_interrupted(Box::pin(work), heard).await {
        Ok(Ok(result)) => result,
        Ok(Err(interrupt)) => Err(Failure::Interrupted(interrupt)),
        Err(error) => Err(Failure::environment("signals cannot be waited for", &error)),
    }
}

/// What an export must not replace.
fn precious(settings: &Settings, workspace: Option<&Path>) -> Vec<(PathBuf, &'static str)> {
    let home = settings.home.iter().map(|home| (home.clone(), "your home"));
    let workspace = workspace.map(|root| (root.to_owned(), "the workspace"));
    home.chain(workspace).chain([(settings.cwd.clone(), "the working directory")]).collect()
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Said { kind: error.kind(), message: chain(&error), help: error.help() }
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        let doctor =
            || "`rb doctor` tells what this machine allows, and what to do where it does not".to_owned();
        let help = error.help().unwrap_or_else(doctor);
        Self::Said { kind: error.kind(), message: chain(&error), help: Some(help) }
    }
}
