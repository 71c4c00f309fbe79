//! `rb build`: a Dockerfile, built as `docker build` and `docker buildx build` do.
//!
//! In: flags as typed and the environment ([`order`]). The frontend plans it on a job of the engine; what it gives is solved and
//! written on the same job, with the same progress, records and reports as targets of a Buildfile.
//!
//! | module | idea |
//! | --- | --- |
//! | `order` | what was asked for, settled |
//! | `context`, `contexts`, `archive` | what is lent: the context, the Dockerfile, further contexts; a tar in place of a folder |
//! | `limits` | docker's flags for limits |
//! | `outputs` | where the result goes |
//! | `planning` | the frontend asked, and what it found told |
//! | `requests` | `--check` and `--call`: answers in place of an image |
//! | `finish` | what is done to an image after the Dockerfile |

mod archive;
mod context;
mod contexts;
mod finish;
mod limits;
mod order;
mod outputs;
mod planning;
mod requests;

use std::time::Instant;

use rb_api::{Course, ExportResult, PlatformImage, SolveResult};

use self::order::Order;
use self::planning::Planning;
use super::exports::{Asked as Wants, Wanted};
use super::record::Asked;
use super::workbench::Workbench;
use super::{after, build};
use crate::args::{BuildOptions, DockerfileArgs};
use crate::environment::Environment;
use crate::output_spec;
use crate::progress::{Progress, terminal_columns};
use crate::report::{self, Failure};
use crate::settings::ProgressMode;

/// Builds a Dockerfile, or answers a question about it.
pub(super) fn execute(
    environment: &Environment,
    outer: BuildOptions,
    args: DockerfileArgs,
) -> Result<u8, Failure> {
    let start = Instant::now();
    let order = Order::read(environment, outer, args)?;
    let display = order.settings.display;
    if display.mode != ProgressMode::Quiet {
        let tell = |line: &String| report::tell(&report::warning(line, display, terminal_columns()));
        order.warnings.iter().for_each(tell);
    }
    if order.builds() { make(&order, start) } else { requests::answer(&order) }
}

/// What came of a build.
struct Done {
    result: SolveResult,
    loaded: after::Loaded,
    findings: String,
}

/// Builds it, and writes what was asked for.
fn make(order: &Order, start: Instant) -> Result<u8, Failure> {
    let (settings, output) = (&order.settings, &order.outputs.options);
    output_spec::check(&output.output, &settings.cwd, report::is_terminal())?;
    after::check_files(settings, output)?;
    let bench = Workbench::open(settings, Asked::of("build", &order.title), order.lent.folder.as_deref())?;
    let mut progress = Progress::start(settings.display, &order.shown);
    let done = bench.run(async {
        let planning = Planning::start(order, &bench, &progress, Course::Stop);
        build_all(order, &bench, &planning).await
    });
    progress.finish();
    bench.close();
    let Done { result, loaded, findings } = done?;
    after::write_files(settings, output, &result)?;
    build::tell(settings, &order.shown, &result, false, start)?;
    if matches!(settings.display.mode, ProgressMode::Plain | ProgressMode::Live) {
        report::tell(&unnamed(&result));
    }
    after::tell(settings, loaded);
    report::tell(&findings);
    Ok(0)
}

async fn build_all(order: &Order, bench: &Workbench, planning: &Planning<'_>) -> Result<Done, Failure> {
    let (settings, output) = (&order.settings, &order.outputs.options);
    let planned = planning.plan().await?;
    let findings = planning.told(&planned.findings);
    let sources = &planning.sources;
    let epoch = planned.images.iter().find_map(|image| image.epoch);
    let mut wanted = Wanted::annotated(&output.annotation);
    let mut images = Vec::with_capacity(planned.images.len());
    for image in planned.images {
        let label = match settings.platforms.len() {
            0 | 1 => order.title.clone(),
            _ => format!("{} {}", order.title, image.platform),
        };
        let (state, config) = finish::changed(image, &order.changes);
        images.push(PlatformImage { root: wanted.root(&label, &state, sources)?, config });
    }
    for spec in &output.output {
        let spec = spec.clone().no_later_than(epoch);
        wanted.output(&spec, images.clone(), None, &settings.cwd)?;
    }
    wanted.check_annotations(false)?;
    let Wants { request, loads, notes } = wanted.asked();
    let count = request.exports.len();
    let result = build::solve(planning.job.as_ref(), request).await?;
    let notes = [notes, order.outputs.notes.clone()].concat();
    let loaded = after::load(bench, output, &result, (count, &loads), notes).await?;
    Ok(Done { result, loaded, findings })
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
