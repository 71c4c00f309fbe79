//! `rb build`: a Dockerfile, built as `docker build` and `docker buildx build` do.
//!
//! In: flags as typed and the environment ([`order`]). The frontend plans it on a job of the engine; what it gives is solved and
//! written on the same job, with the same progress, records and reports as targets of a Buildfile.
//!
//! | module | idea |
//! | --- | --- |
//! | `order` | what was asked for, settled |
//! | `context`, `contexts`, `archive` | what is lent: the context, the Dockerfile, further contexts; a tar in place of a folder |
//! | `volumes` | what of this machine steps see: buildah's `--volume` |
//! | `limits` | docker's flags for limits |
//! | `outputs` | where the result goes |
//! | `metadata` | what the metadata file says beside images |
//! | `attest` | what is said of the image beside it |
//! | `planning` | the frontend asked, and what it found told |
//! | `foreign` | another language: the frontend that `# syntax=` names, run |
//! | `requests` | `--check` and `--call`: answers in place of an image |
//! | `foresee` | what would run: `--dry-run`, `--expect-cached`, `rb plan`, `rb why` |
//! | `finish` | what is done to an image after the Dockerfile |
//! | `several` | several at once, for `rb bake` |
//! | `words`, `help` | what a build is called and what of its words is kept; what to type, as docker has it |

mod archive;
mod attest;
mod caches;
mod context;
mod contexts;
mod finish;
mod foreign;
mod foresee;
mod help;
mod limits;
mod metadata;
mod order;
mod outputs;
mod planning;
mod requests;
pub(super) mod several;
mod volumes;
pub(crate) mod words;

use std::time::Instant;

use rb_api::{Course, ExportResult, PlatformImage, SolveResult};
use rb_diag::SourceMap;
use rb_dockerfile::{Finding, PlannedImage};
use serde_json::Map;

use self::attest::{About, Ready};
pub(super) use self::foresee::look;
pub(super) use self::order::Order;
use self::order::Reach;
use self::planning::Planning;
use super::exports::{Asked as Wants, Wanted};
use super::workbench::Workbench;
use super::{after, build, elsewhere, resume, shell};
use crate::args::{BuildOptions, DockerfileArgs};
use crate::environment::Environment;
use crate::output_spec::{self, OutputSpec};
use crate::progress::{Progress, terminal_columns};
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// Builds a Dockerfile, or answers a question about it.
pub(super) fn execute(
    environment: &Environment,
    outer: BuildOptions,
    args: DockerfileArgs,
) -> Result<u8, Failure> {
    execute_with(environment, outer, args, |_| {})
}

/// Does the same with settings that are changed before anything begins.
pub(super) fn execute_with(
    environment: &Environment,
    outer: BuildOptions,
    args: DockerfileArgs,
    change: impl FnOnce(&mut Settings),
) -> Result<u8, Failure> {
    let start = Instant::now();
    let mut order = Order::read(environment, outer, args)?;
    change(&mut order.settings);
    let display = order.settings.display;
    if display.mode != ProgressMode::Quiet {
        let tell = |line: &String| report::tell(&report::warning(line, display, terminal_columns()));
        order.warnings.iter().for_each(tell);
    }
    let done = if order.builds() { make(&order, start) } else { requests::answer(&order) };
    done.map_err(help::as_docker_has_it)
}

/// What came of a build.
struct Done {
    result: SolveResult,
    loaded: after::Loaded,
}

/// Builds it, and writes what was asked for.
fn make(order: &Order, start: Instant) -> Result<u8, Failure> {
    if order.reach == Reach::Look {
        return foresee::show(order);
    }
    if order.reach == Reach::Cached {
        elsewhere::looks_here(&order.settings)?;
    }
    if order.reach == Reach::Shell {
        shell::check_terminal(&order.settings)?;
    }
    check(order)?;
    let bench = Workbench::open(&order.settings, order.asked("build"), Some(order.workspace()))?;
    make_on(order, bench, start)
}

/// Refuses outputs that cannot be written, before anything is done.
pub(super) fn check(order: &Order) -> Result<(), Failure> {
    let (settings, output) = (&order.settings, &order.outputs.options);
    output_spec::check(&output.output, &settings.cwd, report::is_terminal())?;
    let is_files = |spec: &OutputSpec| matches!(spec, OutputSpec::Local { .. } | OutputSpec::Tar { .. });
    if output.iidfile.is_some() && output.output.iter().all(is_files) {
        let help = "add an output that is an image: `-o type=image,name=NAME`".to_owned();
        return Err(Failure::input("--iidfile: the build makes no image", Some(help)));
    }
    after::check_files(settings, output)
}

/// Does the same with an engine that is open.
pub(super) fn make_on(order: &Order, bench: Workbench, start: Instant) -> Result<u8, Failure> {
    let (settings, output) = (&order.settings, &order.outputs.options);
    bench.engine.keep_asked(resume::asked_of_dockerfile(&settings.cwd, &order.typed));
    let course = if order.reach == Reach::Cached { Course::Look } else { Course::Stop };
    let mut progress = Progress::start(settings.display, &order.shown);
    let (mut findings, mut warnings) = (String::new(), Vec::new());
    let done = bench.run(async {
        let planning = Planning::start(order, &bench, &progress, course);
        let mut found = Vec::new();
        let done = build_all(order, &bench, &planning, &mut found).await;
        findings = planning.told(&found);
        warnings = planning.warnings(&found);
        done
    });
    progress.finish();
    let done = done.and_then(|done| {
        let mut more = Map::new();
        if output.metadata_file.is_some() {
            more = order.metadata.of_build(&bench, &order.attests, &done.result.exports)?;
            more.extend(order.metadata.warnings(warnings));
        }
        Ok((done, more))
    });
    if order.reach == Reach::Shell
        && let Err(failure) = &done
        && let Some(code) = shell::after_failure(settings, &bench, failure)?
    {
        bench.close();
        return Ok(code);
    }
    bench.close();
    let (Done { result, loaded }, more) = match done {
        Ok(done) => done,
        Err(failure) => {
            report::tell(&findings);
            return Err(failure);
        }
    };
    after::write_files(settings, output, &result, more)?;
    match settings.display.mode {
        // Docker knows an image by its id.
        ProgressMode::Quiet if output.load.is_some() => report::print(ids(&result).as_bytes())?,
        _ => drop(build::tell(settings, &order.shown, &result, false, start)?),
    }
    if matches!(settings.display.mode, ProgressMode::Plain | ProgressMode::Live) {
        report::tell(&unnamed(&result));
    }
    after::tell(settings, loaded);
    report::tell(&findings);
    Ok(0)
}

async fn build_all(
    order: &Order,
    bench: &Workbench,
    planning: &Planning<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Done, Failure> {
    let output = &order.outputs.options;
    let wants = match order.reach {
        Reach::Cached => foresee::cached(order, planning, bench).await?,
        Reach::Whole | Reach::Look | Reach::Shell => {
            let images = planning.plan(findings).await?;
            let ready = planning.ready(&images).await?;
            wanted(order, images, &ready, &planning.sources)?
        }
    };
    let Wants { request, loads, notes } = wants;
    let count = request.exports.len();
    let result = build::solve(planning.job.as_ref(), request).await?;
    let notes = [notes, order.outputs.notes.clone()].concat();
    let loaded = after::load(bench, output, &result, (count, &loads), notes).await?;
    Ok(Done { result, loaded })
}

/// Returns what the engine is asked for.
fn wanted(
    order: &Order,
    planned: Vec<PlannedImage>,
    ready: &Ready,
    sources: &SourceMap,
) -> Result<Wants, Failure> {
    let (settings, output) = (&order.settings, &order.outputs.options);
    let epoch = planned.iter().find_map(|image| image.epoch);
    let mut wanted = Wanted::annotated(&output.annotation);
    let mut made = Vec::with_capacity(planned.len());
    for image in planned {
        let label = match settings.platforms.len() {
            0 | 1 => order.title.clone(),
            _ => format!("{} {}", order.title, image.platform),
        };
        let (platform, scans) = (image.platform.clone(), image.scans.clone());
        let (state, config) = finish::changed(image, &order.changes);
        let about = About { label: &label, state: &state, platform: &platform, scans: &scans };
        let root = ready.root(&mut wanted, &about, sources)?;
        made.push((state, PlatformImage { root, config }));
    }
    for spec in &output.output {
        let spec = spec.clone().no_later_than(epoch);
        wanted.output_of_states(&spec, &made, &settings.cwd, sources)?;
    }
    let roots: Vec<usize> = made.iter().map(|(_, image)| image.root).collect();
    wanted.cached_to(&order.cache_to, &roots);
    wanted.check_annotations(false)?;
    Ok(wanted.asked())
}

/// Returns the ids of images that Docker has, a line each.
fn ids(result: &SolveResult) -> String {
    let id = |export: &ExportResult| match export {
        ExportResult::Image { config: Some(config), destination: None, .. } => Some(format!("{config}\n")),
        ExportResult::Image { .. } | ExportResult::Local { .. } | ExportResult::Tar { .. } => None,
    };
    result.exports.iter().filter_map(id).collect()
}

/// Tells of images that have no name: nothing but their digest leads to them.
fn unnamed(result: &SolveResult) -> String {
    let line = |export: &ExportResult| match export {
        ExportResult::Image { names, digest, destination: None, .. } if names.is_empty() => {
            Some(format!("  image {digest}  without a name: `-t NAME` gives it one\n"))
        }
        ExportResult::Image { .. } | ExportResult::Local { .. } | ExportResult::Tar { .. } => None,
    };
    result.exports.iter().filter_map(line).collect()
}
