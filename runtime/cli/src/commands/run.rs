//! `rb run`: an image of the store, or a target that is built first, as a process of this terminal.
//!
//! stdin, stdout and stderr belong to the program; `rb` itself talks on stderr, and only before the program begins. What
//! the program is given beside its image is settled in [`given`].

mod given;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rb_api::{EventSink, ExportResult};
use rb_engine::{LocalEngine, RunRequest, Runnable};
use rb_exec::{ExitStatus, KillSwitch, RawMode};
use tokio::signal::unix::{SignalKind, signal};

use super::anew;
use super::build::{self, Build};
use super::gateway::Settling;
use super::record::Asked;
use super::workbench::Workbench;
use crate::args::{NetworkChoice, RunArgs, TargetCall, texts};
use crate::habits::refuse_option;
use crate::progress::Progress;
use crate::report::Failure;
use crate::settings::{Display, ProgressMode, Settings};

/// Runs it and returns the program's exit code.
pub(super) fn execute(settings: &Settings, run: &RunArgs) -> Result<u8, Failure> {
    refuse_option("run", &run.words)?;
    let env = given::variables(&settings.cwd, run)?;
    let given = given::settle(&settings.cwd, run)?;
    let request = |image: String, args: Vec<String>| RunRequest {
        image,
        args,
        env,
        workdir: run.workdir.clone(),
        user: run.user.clone(),
        pull: settings.pull,
        network_none: run.network == NetworkChoice::None,
        given,
    };
    if run.words.first().is_some_and(|word| TargetCall::is_target(word)) {
        let (call, command) = TargetCall::parse_run(&run.words)?;
        let build = Build::find(settings, &call)?;
        let bench = Workbench::open(settings, Asked::of_target("run", &call), Some(build.root()))?;
        let image = build_image(settings, &bench, &build, &call)?;
        start(settings, bench, request(image, command))
    } else {
        let mut words = texts(&run.words)?.into_iter();
        let image = words.next().unwrap_or_default();
        let bench = Workbench::open(settings, Asked::of("run", &image), None)?;
        // `--` between image and command is a habit of fingers.
        let mut command: Vec<String> = words.collect();
        if command.first().is_some_and(|word| word == "--") {
            command.remove(0);
        }
        start(settings, bench, request(image, command))
    }
}

/// Builds a target with all its outputs and returns the digest of its image.
fn build_image(
    settings: &Settings,
    bench: &Workbench,
    build: &Build<'_>,
    call: &TargetCall,
) -> Result<String, Failure> {
    let begin = Instant::now();
    let mut progress = Progress::start(settings.display, &call.word);
    let solved = bench.run(async {
        let started = build.start(bench, &progress, Settling::Write);
        let plan = started.plan().await?;
        let mut wanted = started.wanted(&plan)?;
        wanted.image_of(&plan.target, Vec::new(), &build.sources())?;
        started.solve(wanted).await
    });
    progress.finish();
    let result = solved?;
    // stdout is the program's: a quiet build says nothing at all.
    if settings.display.mode != ProgressMode::Quiet {
        build::tell(settings, &call.word, &result, begin)?;
    }
    match result.exports.last() {
        Some(ExportResult::Image { digest, .. }) => Ok(digest.to_string()),
        Some(ExportResult::Local { .. } | ExportResult::Tar { .. }) | None => Err(Failure::Said {
            kind: rb_diag::ErrorKind::Internal,
            message: "the engine returned no image".to_owned(),
            help: None,
        }),
    }
}

fn start(settings: &Settings, bench: Workbench, request: RunRequest) -> Result<u8, Failure> {
    anew::forbid();
    // The program may run for days.
    bench.sync_apart();
    let kill = KillSwitch::new();
    let shown = Shown::default();
    let ended = bench.run(async {
        // Dropping the future, as a signal does, ends the program.
        let _guard = KillOnDrop(kill.clone());
        let events = shown.sink(settings.display, &request.image);
        let image = bench.engine.fetch_to_run(&request, &events).await;
        shown.finish();
        run_here(&bench.engine, request, image?, kill.clone()).await
    });
    shown.finish();
    bench.close();
    Ok(match ended? {
        ExitStatus::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        ExitStatus::Signaled(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
    })
}

/// Runs the program, with this terminal's keys and size for its own, if it has one.
async fn run_here(
    engine: &LocalEngine,
    request: RunRequest,
    image: Runnable,
    kill: KillSwitch,
) -> Result<ExitStatus, Failure> {
    let Some(terminal) = request.given.terminal.clone() else {
        return Ok(engine.run_image(request, image, kill).await?);
    };
    // Dropped at the end, at a signal and in a panic, which gives the keys their meaning back.
    let _raw =
        match request.given.stdin {
            true => Some(RawMode::enter(std::io::stdin()).map_err(|error| {
                Failure::environment("this terminal's settings cannot be changed", &error)
            })?),
            false => None,
        };
    let mut resized = signal(SignalKind::window_change())
        .map_err(|error| Failure::environment("signals cannot be waited for", &error))?;
    let run = engine.run_image(request, image, kill);
    tokio::pin!(run);
    loop {
        // Also at first: it may have changed since it was looked at.
        if let Some(size) = given::size() {
            terminal.resize(size);
        }
        tokio::select! {
            ended = &mut run => return Ok(ended?),
            Some(()) = resized.recv() => {}
        }
    }
}

/// Progress that is shown only if there is something to tell: most images are here.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<Mutex<Option<Progress>>>);

impl Shown {
    /// Returns where events go.
    pub(super) fn sink(&self, display: Display, title: &str) -> EventSink {
        let (shown, title) = (self.clone(), title.to_owned());
        Arc::new(move |event| {
            let sink = shown.lock().get_or_insert_with(|| Progress::start(display, &title)).sink();
            sink(event);
        })
    }

    /// Ends the view, if there is one.
    pub(super) fn finish(&self) {
        if let Some(mut progress) = self.lock().take() {
            progress.finish();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Progress>> {
        // Each change is a single step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct KillOnDrop(KillSwitch);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}
