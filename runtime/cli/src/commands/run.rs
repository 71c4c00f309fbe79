//! `rb run`: an image of the store, or a target that is built first, as a process of this terminal.
//!
//! stdin, stdout and stderr belong to the program; `rb` itself talks on stderr, and only before the program begins. Signals
//! are the program's too, as far as `rb` hears of them, unless it has a terminal, whose keys are. What it is given beside
//! its image is settled in [`given`].

mod given;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rb_api::{EventSink, ExportResult, PullPolicy, SolveResult};
use rb_engine::{EngineError, LocalEngine, RunRequest, Runnable};
use rb_exec::{ExecError, ExitStatus, KillSwitch, RawMode, Terminal};
use rb_frontend::BuildPlan;
use rb_llb::NetworkMode;
use tokio::signal::unix::{SignalKind, signal};

use super::anew;
use super::build::{self, Build};
use super::exports::Wanted;
use super::gateway::Settling;
use super::record::Asked;
use super::workbench::{Workbench, interruptible};
use crate::args::{NetworkChoice, RunArgs, TargetCall, texts};
use crate::habits::{of_pull, refuse_option};
use crate::progress::{Progress, terminal_columns};
use crate::report::{self, Failure};
use crate::settings::{Display, ProgressMode, Settings, check_platform};
use crate::signals::{Insistence, Interrupt, Passed};
pub(super) use given::size;

/// Runs it and returns the program's exit code.
pub(super) fn execute(settings: &Settings, run: &RunArgs) -> Result<u8, Failure> {
    refuse_option("run", &run.words)?;
    refuse_value_of_pull(settings, run)?;
    settings.platforms.iter().try_for_each(check_platform)?;
    let env = given::variables(&settings.cwd, run)?;
    let given = given::settle(&settings.cwd, run)?;
    // With a terminal keys are the program's, and signals are rb's.
    let proxy = (run.sig_proxy && !run.tty).then_some(Proxy { stop_timeout: run.stop_timeout });
    let request = |image: String, args: Vec<String>| RunRequest {
        image,
        args,
        env,
        workdir: run.workdir.clone(),
        user: run.user.clone(),
        pull: settings.pull,
        network: match run.network {
            NetworkChoice::Host => NetworkMode::Host,
            NetworkChoice::Sandbox => NetworkMode::Sandbox,
            NetworkChoice::None => NetworkMode::None,
        },
        given,
    };
    if run.words.first().is_some_and(|word| TargetCall::is_target(word)) {
        let (call, command) = TargetCall::parse_run(&run.words)?;
        let build = Build::find(settings, std::slice::from_ref(&call))?;
        let asked = Asked::of_target("run", &call).naming(build.names());
        let bench = Workbench::open(settings, asked, Some(build.root()))?;
        let image = build_image(settings, &bench, &build, &call, Settling::Write)?;
        start(settings, bench, request(image, command), proxy)
    } else {
        let mut words = texts(&run.words)?.into_iter();
        let image = words.next().unwrap_or_default();
        let bench = Workbench::open(settings, Asked::of("run", &image), None)?;
        // Whatever stands behind the image is the command as it is typed, as docker has it; `--`, too.
        start(settings, bench, request(image, words.collect()), proxy)
    }
}

/// Refuses `--pull always IMAGE`, as docker has it: here the word would be the image.
fn refuse_value_of_pull(settings: &Settings, run: &RunArgs) -> Result<(), Failure> {
    let word = run.words.first().and_then(|word| word.to_str()).unwrap_or_default();
    if settings.pull == PullPolicy::Always
        && let Some(help) = of_pull(word)
    {
        return Err(Failure::input(format!("`{word}` is not an image"), Some(help)));
    }
    Ok(())
}

/// Builds a target, with what becomes of its outputs, and returns the digest of its image.
pub(super) fn build_image(
    settings: &Settings,
    bench: &Workbench,
    build: &Build<'_>,
    call: &TargetCall,
    settling: Settling,
) -> Result<String, Failure> {
    let want =
        |wanted: &mut Wanted, plan: &BuildPlan| wanted.image_of(&plan.targets, Vec::new(), &build.sources());
    image_in(&build_wanted(settings, bench, build, call, settling, want)?)
}

/// Returns the digest of the image that was written last.
pub(super) fn image_in(result: &SolveResult) -> Result<String, Failure> {
    match result.exports.last() {
        Some(ExportResult::Image { digest, .. }) => Ok(digest.to_string()),
        Some(ExportResult::Local { .. } | ExportResult::Tar { .. }) | None => Err(Failure::Said {
            kind: rb_diag::ErrorKind::Internal,
            message: "the engine returned no image".to_owned(),
            help: None,
        }),
    }
}

/// Builds a target, with what becomes of its outputs, and what `want` adds to what is wanted of its plan.
pub(super) fn build_wanted(
    settings: &Settings,
    bench: &Workbench,
    build: &Build<'_>,
    call: &TargetCall,
    settling: Settling,
    want: impl FnOnce(&mut Wanted, &BuildPlan) -> Result<(), Failure>,
) -> Result<SolveResult, Failure> {
    let begin = Instant::now();
    let mut progress = Progress::start(settings.display, &call.word);
    let solved = bench.run(async {
        let started = build.start(bench, &progress, settling);
        let work = async {
            let plan = started.plan().await?;
            let mut wanted = started.wanted(&plan)?;
            want(&mut wanted, &plan)?;
            started.solve(wanted.asked().request).await
        };
        started.telling(work).await
    });
    progress.finish();
    let result = solved?;
    // stdout is the program's: a quiet build says nothing at all.
    if settings.display.mode != ProgressMode::Quiet {
        build::tell(settings, &call.word, &result, false, begin)?;
    }
    Ok(result)
}

/// Signals are handed on.
#[derive(Clone, Copy)]
pub(super) struct Proxy {
    /// How long the program may take to end by the first that asks for it.
    stop_timeout: Option<Duration>,
}

pub(super) fn start(
    settings: &Settings,
    bench: Workbench,
    request: RunRequest,
    proxy: Option<Proxy>,
) -> Result<u8, Failure> {
    anew::forbid();
    // The program may run for days.
    bench.sync_apart();
    let kill = KillSwitch::new();
    let shown = Shown::default();
    let fetch = async {
        let events = shown.sink(settings.display, &request.image);
        let image = bench.engine.fetch_to_run(&request, &events).await;
        shown.finish();
        Ok(image?)
    };
    // Dropping the future, as a signal does, ends the program.
    let guard = KillOnDrop::new(&kill);
    let ended = match proxy {
        None => bench.run_program(async {
            let _guard = guard;
            let image = fetch.await?;
            run_here(&bench.engine, request.clone(), image, kill.clone()).await
        }),
        Some(proxy) => bench.run_through(async {
            let _guard = guard;
            // Before the last moment at which a signal would end rb.
            let mut passed = Passed::listen().map_err(|error| unheard(&error))?;
            let image = interruptible(fetch, |_| {}).await?;
            passed.listen_to_all().map_err(|error| unheard(&error))?;
            run_passing(&bench.engine, request.clone(), image, kill.clone(), (passed, proxy)).await
        }),
    };
    shown.finish();
    bench.close();
    Ok(told(settings, ended?))
}

/// Returns the exit code of a program; where it never began, tells why.
pub(super) fn told(settings: &Settings, ran: Ran) -> u8 {
    match ran {
        Ok(ended) => u8::try_from(ended.code()).unwrap_or(u8::MAX),
        Err(NotBegun { code, why }) => {
            report::tell(&why.render(settings.display, terminal_columns()));
            code
        }
    }
}

/// How a program ended, or why it never began.
pub(super) type Ran = Result<ExitStatus, NotBegun>;

/// The program itself is why it did not begin.
pub(super) struct NotBegun {
    /// As of a shell, and of docker.
    code: u8,
    why: Failure,
}

/// Tells apart what is wrong with the program from what is wrong with anything else.
fn ran(ended: Result<ExitStatus, EngineError>) -> Result<Ran, Failure> {
    let error = match ended {
        Ok(status) => return Ok(Ok(status)),
        Err(error) => error,
    };
    let code = match &error {
        EngineError::Exec(ExecError::NotFound { .. } | ExecError::InterpreterNotFound { .. }) => 127,
        EngineError::Exec(ExecError::NotExecutable { .. } | ExecError::Cwd { .. }) => 126,
        _ => return Err(error.into()),
    };
    Ok(Err(NotBegun { code, why: error.into() }))
}

fn unheard(error: &std::io::Error) -> Failure {
    Failure::environment("signals cannot be waited for", error)
}

/// Runs the program and hands signals on to it. It is killed where somebody insists, or it takes too long to end.
async fn run_passing(
    engine: &LocalEngine,
    request: RunRequest,
    image: Runnable,
    kill: KillSwitch,
    (mut passed, proxy): (Passed, Proxy),
) -> Result<Ran, Failure> {
    let run = engine.run_image(request, image, kill.clone());
    tokio::pin!(run);
    let mut insistence = Insistence::default();
    // Never, as yet.
    let grace = tokio::time::sleep(Duration::from_secs(0));
    tokio::pin!(grace);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut run => return ran(ended),
            () = &mut grace, if stopping => {
                kill.kill();
                stopping = false;
            }
            signal = passed.next() => {
                if insistence.is_insisted(signal, Instant::now()) {
                    kill.kill();
                    continue;
                }
                kill.signal(signal);
                if let (Some(_), Some(timeout), false) = (Interrupt::of(signal), proxy.stop_timeout, stopping) {
                    grace.as_mut().reset(tokio::time::Instant::now() + timeout);
                    stopping = true;
                }
            }
        }
    }
}

/// Runs the program, with this terminal's keys and size for its own, if it has one.
async fn run_here(
    engine: &LocalEngine,
    request: RunRequest,
    image: Runnable,
    kill: KillSwitch,
) -> Result<Ran, Failure> {
    let (terminal, stdin) = (request.given.terminal.clone(), request.given.stdin);
    attended(terminal, stdin, engine.run_image(request, image, kill)).await
}

/// Waits for a program to end; meanwhile this terminal's keys, if it reads `stdin`, and size are for its own, if it has one.
pub(super) async fn attended(
    terminal: Option<Terminal>,
    stdin: bool,
    run: impl Future<Output = Result<ExitStatus, EngineError>>,
) -> Result<Ran, Failure> {
    let Some(terminal) = terminal else { return ran(run.await) };
    // Dropped at the end, at a signal and in a panic, which gives the keys their meaning back.
    let _raw =
        match stdin {
            true => Some(RawMode::enter(std::io::stdin()).map_err(|error| {
                Failure::environment("this terminal's settings cannot be changed", &error)
            })?),
            false => None,
        };
    let mut resized = signal(SignalKind::window_change()).map_err(|error| unheard(&error))?;
    tokio::pin!(run);
    loop {
        // Also at first: it may have changed since it was looked at.
        if let Some(size) = given::size() {
            terminal.resize(size);
        }
        tokio::select! {
            ended = &mut run => return ran(ended),
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

/// Ends a program with all its processes when this is dropped.
pub(super) struct KillOnDrop(KillSwitch);

impl KillOnDrop {
    pub(super) fn new(kill: &KillSwitch) -> Self {
        Self(kill.clone())
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}
