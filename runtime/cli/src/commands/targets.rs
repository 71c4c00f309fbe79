//! `rb [DIR]+target…`: what is built of targets and patterns, and what is written of it.
//!
//! All targets of a command line are one build: planned together, one job, one view. Its results are written when all of it
//! is made; with `--keep-going` ([`super::units`]) what went well is, with `--expect-cached` ([`super::foresight`]) all or
//! nothing, and with `--dry-run` nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rb_api::{Course, SolveResult};
use rb_frontend::{BuildPlan, PlannedOutput, TargetOutput};

use super::build::{self, Build, Fits, Started};
use super::exports::{Asked, Wanted};
use super::gateway::Settling;
use super::record;
use super::workbench::Workbench;
use super::{after, foresight, resume, shell, units};
use crate::args::{CourseOptions, OutputOptions, TargetCall};
use crate::output_spec;
use crate::progress::Progress;
use crate::report::{self, Failure, summary};
use crate::settings::{ProgressMode, Settings};

/// What is asked for.
pub(super) struct Order<'a> {
    pub(super) settings: &'a Settings,
    pub(super) calls: &'a [TargetCall],
    pub(super) output: &'a OutputOptions,
    pub(super) course: CourseOptions,
    /// What becomes of the outputs that the Buildfiles name.
    pub(super) settling: Settling,
    /// Adds to what is wanted of a plan what else is written, of the targets that are meant.
    pub(super) choose: &'a Choose<'a>,
}

/// See [`Order::choose`].
type Choose<'a> = dyn Fn(&Build<'_>, &BuildPlan, &mut Wanted, Fits<'_>) -> Result<(), Failure> + Sync + 'a;

/// What came of a build.
pub(super) struct Done {
    pub(super) result: SolveResult,
    pub(super) loaded: after::Loaded,
    /// Images marked `--push` that were not to be pushed.
    pub(super) held: Vec<String>,
    /// Steps marked `--push` that were not to be run.
    pub(super) left_out: Vec<String>,
    /// What it is called in the summary.
    pub(super) title: String,
}

/// Builds targets and writes their outputs.
pub(super) fn execute(
    settings: &Settings,
    calls: &[TargetCall],
    output: &OutputOptions,
    course: CourseOptions,
) -> Result<u8, Failure> {
    output_spec::check(&output.output, &settings.cwd, report::is_terminal())?;
    refuse_several(calls, output)?;
    let settling = if settings.no_output { Settling::Make } else { Settling::Write };
    let choose = |build: &Build<'_>, plan: &BuildPlan, wanted: &mut Wanted, fits: Fits<'_>| {
        let platforms = meant(plan, fits);
        for spec in output.output.iter().filter(|_| !platforms.is_empty()) {
            wanted.output_of(spec, &platforms, &settings.cwd, &build.sources())?;
        }
        Ok(())
    };
    carry_out(&Order { settings, calls, output, course, settling, choose: &choose })
}

/// Builds targets and saves their own images, and nothing else.
pub(super) fn image(
    settings: &Settings,
    calls: &[TargetCall],
    output: &OutputOptions,
    course: CourseOptions,
) -> Result<u8, Failure> {
    refuse_several(calls, output)?;
    let choose = |build: &Build<'_>, plan: &BuildPlan, wanted: &mut Wanted, fits: Fits<'_>| {
        for target in meant(plan, fits) {
            if target.images.is_empty() {
                let help =
                    "SAVE IMAGE in the target gives one; `rb -o type=image,name=NAME` saves any target's";
                let message = format!("`{}` saves no image", target.key.target);
                return Err(Failure::input(message, Some(help.to_owned())));
            }
            for image in &target.images {
                let output = PlannedOutput::Image { label: target.key.to_string(), image: image.clone() };
                wanted.planned(&output, Path::new("/"), &build.sources())?;
            }
        }
        Ok(())
    };
    carry_out(&Order { settings, calls, output, course, settling: Settling::Make, choose: &choose })
}

/// Returns the targets that are asked for and meant; one of several platforms is there for each.
fn meant(plan: &BuildPlan, fits: Fits<'_>) -> Vec<Arc<TargetOutput>> {
    plan.targets.iter().filter(|target| fits(&target.key.to_string())).cloned().collect()
}

/// Refuses outputs of which there can be one only.
fn refuse_several(calls: &[TargetCall], output: &OutputOptions) -> Result<(), Failure> {
    let option = match output {
        OutputOptions { output, .. } if !output.is_empty() => "--output",
        OutputOptions { iidfile: Some(_), .. } => "--iidfile",
        _ => return Ok(()),
    };
    let is_pattern = |call: &TargetCall| folder_of(call).contains(['*', '?', '[']);
    if calls.len() < 2 && !calls.iter().any(is_pattern) {
        return Ok(());
    }
    let named = match calls {
        [call] => format!("and `{}` may mean several", call.word),
        calls => format!("and {} are named", calls.len()),
    };
    let help = "name one target with it; `SAVE IMAGE` and `SAVE ARTIFACT … AS LOCAL` in the Buildfiles write any number";
    Err(Failure::input(format!("{option} is for one target, {named}"), Some(help.to_owned())))
}

pub(super) fn folder_of(call: &TargetCall) -> &str {
    call.word.rsplit_once('+').map_or("", |(dir, _)| dir)
}

/// Does what is asked for.
pub(super) fn carry_out(order: &Order<'_>) -> Result<u8, Failure> {
    if order.course.dry_run {
        return foresight::show(order);
    }
    if order.course.interactive {
        shell::check_terminal(order.settings)?;
    }
    let Order { settings, calls, output, .. } = *order;
    after::check_files(settings, output)?;
    let build = find(order)?;
    let asked = record::Asked::of_targets("build", calls).naming(build.names());
    let bench = Workbench::open(settings, asked, Some(build.root()))?;
    carry_out_on(order, &build, bench)
}

/// Finds the targets that are asked for.
pub(super) fn find<'a>(order: &Order<'a>) -> Result<Build<'a>, Failure> {
    let Order { settings, calls, output, .. } = *order;
    Ok(Build::find(settings, calls)?.annotated(&output.annotation).on_course(course(order)))
}

/// Says how far a build goes.
fn course(order: &Order<'_>) -> Course {
    match order.course {
        CourseOptions { keep_going: true, .. } => Course::KeepGoing,
        CourseOptions { expect_cached: true, .. } => Course::Look,
        CourseOptions { .. } => Course::Stop,
    }
}

/// Does what is asked for with an engine that is open.
pub(super) fn carry_out_on(order: &Order<'_>, build: &Build<'_>, bench: Workbench) -> Result<u8, Failure> {
    let start = Instant::now();
    let Order { settings, calls, .. } = *order;
    let course = course(order);
    if order.settling == Settling::Write || settings.no_output {
        bench.engine.keep_asked(resume::asked(&settings.cwd, calls));
    }
    let mut progress = Progress::start(settings.display, &TargetCall::title(calls));
    let mut done = None;
    let ended = bench.run(async {
        let started = build.start(&bench, &progress, order.settling);
        let work = async {
            Ok(match course {
                Course::Stop => (started.solve_all(order, &bench).await?, Vec::new()),
                Course::KeepGoing => units::solve(&started, order, &bench).await?,
                Course::Look => (foresight::solve_cached(&started, order, &bench).await?, Vec::new()),
            })
        };
        let (all, failures) = started.telling(work).await?;
        done = Some(all);
        if failures.is_empty() { Ok(()) } else { Err(Failure::several(failures)) }
    });
    progress.finish();
    if order.course.interactive
        && let Err(failure) = &ended
        && let Some(code) = shell::after_failure(settings, &bench, failure)?
    {
        bench.close();
        return Ok(code);
    }
    bench.close();
    let Some(done) = done else { return ended.map(|()| 0) };
    let told = end(order, done, start, ended.is_err());
    ended.and(told)
}

/// Writes what other programs are to know of a build, and tells what it did.
fn end(order: &Order<'_>, done: Done, start: Instant, failed: bool) -> Result<u8, Failure> {
    let Order { settings, output, .. } = *order;
    let Done { result, loaded, held, left_out, title } = done;
    if failed && result.exports.is_empty() && result.summary.executed == 0 {
        // The failures say it all.
        return Ok(0);
    }
    after::write_files(settings, output, &result, serde_json::Map::new())?;
    build::tell(settings, &title, &result, failed, start)?;
    if matches!(settings.display.mode, ProgressMode::Plain | ProgressMode::Live) {
        report::tell(&summary::not_pushed(&held));
        report::tell(&summary::not_run(&left_out));
    }
    after::tell(settings, loaded);
    Ok(0)
}

impl Started<'_> {
    /// Plans and solves all that is asked for, up to the first failure.
    async fn solve_all(&self, order: &Order<'_>, bench: &Workbench) -> Result<Done, Failure> {
        let plan = self.plan().await?;
        self.solve_plan(&plan, order, bench).await
    }

    /// Solves all that is asked for of a plan, and hands images over where that is asked for too.
    pub(super) async fn solve_plan(
        &self,
        plan: &BuildPlan,
        order: &Order<'_>,
        bench: &Workbench,
    ) -> Result<Done, Failure> {
        let mut wanted = self.wanted(plan)?;
        (order.choose)(self.build, plan, &mut wanted, &|_| true)?;
        self.hold_back(plan, &|_| true);
        wanted.check_annotations(self.gateway.has_index())?;
        let Asked { request, loads, notes } = wanted.asked();
        let count = request.exports.len();
        let called = |failure: Failure| failure.built_for(&report::callers_by_build(&plan.targets));
        let result = self.solve(request).await.map_err(called)?;
        let loaded = after::load(bench, order.output, &result, (count, &loads), notes).await?;
        let title = TargetCall::title(order.calls);
        let (held, left_out) = (self.gateway.held_back(), plan.held.clone());
        Ok(Done { result, loaded, held, left_out, title })
    }
}
