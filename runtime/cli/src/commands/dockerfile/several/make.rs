//! Several builds made: planned on one job, solved as one request, written, told of.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use rb_api::{Course, ExportResult, Job, PlatformImage, SolveResult};
use rb_diag::SourceMap;
use rb_dockerfile::{Input, PlannedImage};
use rb_session::Session;
use serde_json::{Map, Value};

use super::names::Names;
use super::{All, Build, input};
use crate::args::OutputOptions;
use crate::commands::dockerfile::attest::{About, Wishes};
use crate::commands::dockerfile::foreign::Host;
use crate::commands::dockerfile::planning::Planning;
use crate::commands::dockerfile::{finish, unnamed};
use crate::commands::exports::{Asked as Wants, Wanted};
use crate::commands::workbench::Workbench;
use crate::commands::{after, build, resume, struck};
use crate::output_spec::{self, OutputSpec};
use crate::progress::Progress;
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// What the build checks found.
#[derive(Default)]
pub(super) struct Told {
    /// As it is told.
    pub(super) lines: String,
    /// As the metadata file has it, each once.
    warnings: Vec<Value>,
}

/// What came of it.
struct Done {
    result: SolveResult,
    loaded: after::Loaded,
    /// What each has written, by name: places among the results.
    written: Vec<(String, Range<usize>)>,
}

/// Makes them, and writes what was asked for.
pub(super) fn make(
    all: All,
    builds: &[Build],
    open: Option<Workbench>,
    start: Instant,
) -> Result<u8, Failure> {
    let All { title, settings, output, session, words } = all;
    let checked = check(&settings, builds)
        .and_then(|specs| after::check_files(&settings, &OutputOptions { output: specs, ..output.clone() }));
    if let Err(failure) = checked {
        if let Some(bench) = open {
            bench.close();
        }
        return Err(failure);
    }
    let bench = super::bench(open, &settings, "build", &title)?;
    bench.engine.keep_asked(resume::asked_of_bake(&settings.cwd, &words));
    let mut progress = Progress::start(settings.display, &title);
    let session: Arc<dyn Session> = Arc::new(session);
    let mut findings = Told::default();
    let done = bench.run(async {
        let given = struck::of_arguments(builds.iter().map(|build| &build.order.options));
        let events = struck::sink(given, bench.heard(progress.sink()));
        let (engine, heard) = (Arc::clone(&bench.engine), Arc::clone(&events));
        let host = Host { engine, events: heard, only_looks: false };
        let job = build::open_job(&settings, &bench, session, events, Course::Stop);
        build_all(&settings, builds, &bench, (&job, &host), &mut findings).await
    });
    progress.finish();
    let Told { lines: findings, warnings } = findings;
    let done = done.and_then(|done| {
        let is_wanted = output.metadata_file.is_some();
        let more = if is_wanted { metadata(&bench, builds, &done, warnings)? } else { OfEach::default() };
        Ok((done, more))
    });
    bench.close();
    let (Done { result, loaded, written }, (of_each, more)) = match done {
        Ok(done) => done,
        Err(failure) => {
            report::tell(&findings);
            return Err(failure);
        }
    };
    if let Some(path) = &output.metadata_file {
        let of_each = written
            .iter()
            .zip(of_each)
            .map(|((name, range), more)| (name.as_str(), exports(&result, range), more));
        after::write_metadata(&settings, path, of_each, more)?;
    }
    build::tell(&settings, &title, &result, false, start)?;
    if matches!(settings.display.mode, ProgressMode::Plain | ProgressMode::Live) {
        report::tell(&unnamed(&result));
    }
    after::tell(&settings, loaded);
    report::tell(&findings);
    Ok(0)
}

/// What metadata says of each that is written, in their order, and of all.
type OfEach = (Vec<Map<String, Value>>, Map<String, Value>);

/// Returns what the metadata file says beside images.
fn metadata(
    bench: &Workbench,
    builds: &[Build],
    done: &Done,
    warnings: Vec<Value>,
) -> Result<OfEach, Failure> {
    // What the environment says of it is the same for all.
    let Some(first) = builds.first() else { return Ok(OfEach::default()) };
    let of = |(name, range): &(String, Range<usize>)| {
        let order =
            builds.iter().find(|build| build.name == *name).map_or(&first.order, |build| &build.order);
        order.metadata.of_build(bench, &order.attests, exports(&done.result, range))
    };
    let of_each = done.written.iter().map(of).collect::<Result<_, _>>()?;
    Ok((of_each, first.order.metadata.warnings(warnings)))
}

fn exports<'a>(result: &'a SolveResult, range: &Range<usize>) -> &'a [ExportResult] {
    result.exports.get(range.clone()).unwrap_or_default()
}

/// Checks outputs before anything is built, and returns all. Files of several may go to one folder, archives each to a place
/// of its own.
fn check(settings: &Settings, builds: &[Build]) -> Result<Vec<OutputSpec>, Failure> {
    let mut all = Vec::new();
    for Build { name, order, .. } in builds {
        let specs = &order.outputs.options.output;
        output_spec::check(specs, &settings.cwd, report::is_terminal())
            .map_err(|error| Failure::from(error).of_part(name))?;
        all.extend(specs.iter().cloned());
    }
    let apart: Vec<OutputSpec> =
        all.iter().filter(|spec| !matches!(spec, OutputSpec::Local { delete: false, .. })).cloned().collect();
    output_spec::check(&apart, &settings.cwd, report::is_terminal())?;
    Ok(all)
}

/// What builds that are planned share.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) job: &'a Arc<dyn Job>,
    pub(super) host: &'a Host,
    pub(super) sources: &'a SourceMap,
    pub(super) names: &'a Names,
}

/// Plans builds on one job: those whose contexts are known at once. Returns what came of each; what the build checks found is told
/// also where that fails.
pub(super) async fn plan_all(
    builds: &[Build],
    wanted: &[usize],
    ground: Ground<'_>,
    findings: &mut Told,
) -> Result<BTreeMap<usize, Vec<PlannedImage>>, Failure> {
    let mut planned = BTreeMap::new();
    let mut open: Vec<usize> = wanted.to_vec();
    while !open.is_empty() {
        let is_ready = |at: &usize| builds[*at].links.iter().all(|link| planned.contains_key(&link.part));
        let (ready, later): (Vec<usize>, Vec<usize>) = open.iter().partition(|at| is_ready(at));
        let plans = ready.iter().map(|at| {
            let build = &builds[*at];
            let planning = planning(builds, build, &planned, ground);
            async move {
                let mut found = Vec::new();
                let images = planning.plan(&mut found).await;
                let told = (planning.told(&found), planning.warnings(&found));
                (images.map_err(|failure| failure.of_part(&build.name)), told)
            }
        });
        let plans = join_all(plans.collect::<Vec<_>>()).await;
        let mut failures = Vec::new();
        for (at, plan) in ready.into_iter().zip(plans) {
            let (images, (told, warnings)) = plan;
            for warning in warnings {
                if !findings.warnings.contains(&warning) {
                    findings.warnings.push(warning);
                }
            }
            if !told.is_empty() {
                findings.lines +=
                    &if builds.len() > 1 { format!("{}: {told}", builds[at].name) } else { told };
            }
            match images {
                Ok(images) => drop(planned.insert(at, images)),
                Err(failure) => failures.push(failure),
            }
        }
        // What needs a part that failed is not known.
        if !failures.is_empty() {
            return Err(Failure::several(failures));
        }
        open = later;
    }
    Ok(planned)
}

/// Begins to plan one, with what came of its contexts.
pub(super) fn planning<'a>(
    builds: &'a [Build],
    build: &'a Build,
    planned: &BTreeMap<usize, Vec<PlannedImage>>,
    Ground { job, host, sources, names }: Ground<'_>,
) -> Planning<'a> {
    let mut inputs = BTreeMap::new();
    for link in &build.links {
        let Some(images) = planned.get(&link.part) else { continue };
        for image in images {
            let platform = (images.len() > 1).then(|| image.platform.to_string());
            let handed = Input { state: image.state.clone(), config: Some(image.config.clone()) };
            inputs.insert(input(&link.name, platform), handed);
        }
    }
    let naming = (builds.len() > 1).then(|| names.of(&build.name));
    Planning::on(&build.order, Arc::clone(job), host.clone(), sources.clone(), naming).with_inputs(inputs)
}

async fn build_all(
    settings: &Settings,
    builds: &[Build],
    bench: &Workbench,
    (job, host): (&Arc<dyn Job>, &Host),
    findings: &mut Told,
) -> Result<Done, Failure> {
    let (sources, names) = (SourceMap::default(), Names::default());
    let every: Vec<usize> = (0..builds.len()).collect();
    let mut planned =
        plan_all(builds, &every, Ground { job, host, sources: &sources, names: &names }, findings).await?;
    let mut wanted = Wanted::default();
    let (mut written, mut owners, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (at, build) in builds.iter().enumerate() {
        let order = &build.order;
        let images = planned.remove(&at).unwrap_or_default();
        let ready = Wishes::ready(order, job.as_ref(), &images, &sources).await;
        let ready = ready.map_err(|failure| failure.of_part(&build.name))?;
        if build.is_context {
            for image in &images {
                names.name(&build.name, &mut image.state.marshal(&sources)?);
            }
            continue;
        }
        let output = &order.outputs.options;
        let epoch = images.iter().find_map(|image| image.epoch);
        let is_one = images.len() == 1;
        let mut made = Vec::with_capacity(images.len());
        for image in images {
            let label =
                if is_one { build.name.clone() } else { format!("{} {}", build.name, image.platform) };
            let (platform, scans) = (image.platform.clone(), image.scans.clone());
            let (state, config) = finish::changed(image, &order.changes);
            let about = About { label: &label, state: &state, platform: &platform, scans: &scans };
            let root = ready.root(&mut wanted, &about, &sources)?;
            owners.resize_with(wanted.count_roots(), || build.name.clone());
            made.push((state, PlatformImage { root, config }));
        }
        let before = wanted.count();
        wanted.annotate(&output.annotation);
        for spec in &output.output {
            let spec = spec.clone().no_later_than(epoch);
            let added = wanted.output_of_states(&spec, &made, &settings.cwd, &sources);
            added.map_err(|failure| failure.of_part(&build.name))?;
            owners.resize_with(wanted.count_roots(), || build.name.clone());
        }
        let roots: Vec<usize> = made.iter().map(|(_, image)| image.root).collect();
        wanted.cached_to(&order.cache_to, &roots);
        wanted.check_annotations(false).map_err(|failure| failure.of_part(&build.name))?;
        written.push((build.name.clone(), before..wanted.count()));
        for note in &order.outputs.notes {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
    }
    let Wants { mut request, loads, notes: more } = wanted.asked();
    if builds.len() > 1 {
        for (root, owner) in request.roots.iter_mut().zip(&owners) {
            names.name(owner, &mut root.definition);
        }
    }
    let count = request.exports.len();
    let result = build::solve(job.as_ref(), request).await?;
    let loaded =
        after::load(bench, &OutputOptions::default(), &result, (count, &loads), [more, notes].concat())
            .await?;
    Ok(Done { result, loaded, written })
}
