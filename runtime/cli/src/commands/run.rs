//! `rb run`: an image of the store, or a target that is built first, as a process of this terminal.
//!
//! stdin, stdout and stderr belong to the program; `rb` itself talks on stderr, and only before the program begins.

use std::time::Instant;

use rb_api::ExportResult;
use rb_engine::RunRequest;
use rb_exec::{ExitStatus, KillSwitch};

use super::build::{self, Build};
use super::gateway::Settling;
use super::workbench::Workbench;
use crate::args::{NetworkChoice, RunArgs, TargetCall, texts};
use crate::environment::Environment;
use crate::habits::refuse_option;
use crate::progress::Progress;
use crate::report::Failure;
use crate::settings::{ProgressMode, Settings};

/// Runs it and returns the program's exit code.
pub(super) fn execute(settings: &Settings, run: &RunArgs) -> Result<u8, Failure> {
    let env =
        run.env.iter().filter_map(|entry| variable(entry).transpose()).collect::<Result<Vec<_>, _>>()?;
    refuse_option("run", &run.words)?;
    let request = |image: String, args: Vec<String>| RunRequest {
        image,
        args,
        env,
        workdir: run.workdir.clone(),
        user: run.user.clone(),
        network_none: run.network == NetworkChoice::None,
    };
    if run.words.first().is_some_and(|word| TargetCall::is_target(word)) {
        let (call, command) = TargetCall::parse_run(&run.words)?;
        let build = Build::find(settings, &call)?;
        let bench = Workbench::open(settings, Some(build.root()))?;
        let image = build_image(settings, &bench, &build, &call)?;
        start(bench, request(image, command))
    } else {
        let mut words = texts(&run.words)?.into_iter();
        let image = words.next().unwrap_or_default();
        let bench = Workbench::open(settings, None)?;
        // `--` between image and command is a habit of fingers.
        let mut command: Vec<String> = words.collect();
        if command.first().is_some_and(|word| word == "--") {
            command.remove(0);
        }
        start(bench, request(image, command))
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

fn start(bench: Workbench, request: RunRequest) -> Result<u8, Failure> {
    let kill = KillSwitch::new();
    let ended = bench.run(async {
        // Dropping the future, as a signal does, ends the program.
        let _guard = KillOnDrop(kill.clone());
        Ok(bench.engine.run_image(request, kill.clone()).await?)
    });
    bench.close();
    Ok(match ended? {
        ExitStatus::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        ExitStatus::Signaled(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
    })
}

struct KillOnDrop(KillSwitch);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Reads one `-e`: `NAME=value` as it is, `NAME` with this process's value, or nothing where it has none.
fn variable(entry: &str) -> Result<Option<String>, Failure> {
    match entry.split_once('=') {
        Some(("", _)) => Err(Failure::input(format!("`-e {entry}` names no variable"), None)),
        Some(_) => Ok(Some(entry.to_owned())),
        None => match Environment::pass_on(entry).map(std::ffi::OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(format!("{entry}={value}"))),
            Some(Err(_)) => Err(Failure::input(format!("the value of {entry} is not valid UTF-8"), None)),
        },
    }
}
