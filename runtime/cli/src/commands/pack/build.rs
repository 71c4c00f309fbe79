//! `rb pack build`: an app's source becomes an image.
//!
//! In: flags as typed ([`super::order`]). The frontend decides on a job of the engine who builds and what the image is made of;
//! buildpacks run on the way. What it gives is packed, written and pushed on the same job; where an engine elsewhere builds, on one of the
//! bundled engine ([`super::gathered`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rb_api::{
    CacheExport, CacheExtent, CachePlace, CacheTarget, Course, EventSink, ExportResult, Job, SolveResult,
};
use rb_buildpacks::frontend::{self, PackRequest};
use rb_diag::SourceMap;
use rb_oci::{Platform, Reference};
use rb_store::{Clock as _, SystemClock};

use super::gathered::Gathering;
use super::order::Order;
use super::whole::{Goal, Whole};
use super::{config, foresee, launcher, names, phases, previous};
use crate::args::{PackBuild, PackCache, PackLifecycle};
use crate::commands::build;
use crate::commands::exports::Wanted;
use crate::commands::gateway::{BuildGateway, Settling};
use crate::commands::scratch::Scratch;
use crate::commands::workbench::Workbench;
use crate::environment::Environment;
use crate::progress::{Progress, terminal_columns};
use crate::report::{self, Failure};
use crate::settings::{ProgressMode, Settings};

/// Builds it.
pub(super) fn execute(
    environment: &Environment,
    settings: &Settings,
    args: &PackBuild,
) -> Result<u8, Failure> {
    let start = Instant::now();
    let asked_for = ordered(environment, settings, args)?;
    let Ordered { order, goal, made_at, cache_to, .. } = &asked_for;
    let requests = asked_for.requests();
    // Not only once everything is built.
    if let Some(folder) = &args.report_output_dir {
        std::fs::create_dir_all(settings.cwd.join(folder))
            .map_err(|error| Failure::environment(&report_trouble(folder), &error))?;
    }
    let settings = &order.settings;
    let asked = foresee::asked("build", args, &settings.cwd);
    let bench = Workbench::open(settings, asked, Some(&order.folder))?;
    let previous = previous::Found::of(&bench, &asked_for, args)?;
    warn(settings, order.warnings.iter().chain(&previous.warnings));
    let session = previous.lend(&asked_for, order.session.clone());
    let mut progress = Progress::start(settings.display, &args.image);
    let done = bench.run(async {
        let job =
            build::open_job(settings, &bench, Arc::new(session), bench.heard(progress.sink()), Course::Stop);
        let sources = SourceMap::default();
        let gateway =
            BuildGateway::new(Arc::clone(&job), sources.clone(), settings.cwd.clone(), Settling::Nothing);
        let tell = |told| phases::tell(&progress, settings.display, &told);
        let failed = |error| phases::failed(error, &gateway, &sources, settings.display);
        let (mut wanted, mut images) = (Wanted::annotated(&[]), Vec::with_capacity(requests.len()));
        for (&request, previous) in requests.iter().zip(&previous.images) {
            let whole = match args.lifecycle {
                PackLifecycle::Rb => {
                    let asked = (request, previous.as_ref());
                    Whole::from(frontend::plan(&gateway, asked, &sources, &tell).await.map_err(failed)?)
                }
                PackLifecycle::Builder => {
                    let created = frontend::create(&gateway, request, *made_at, &tell).await;
                    Whole::from(created.map_err(failed)?)
                }
            };
            previous::bring(&bench, goal, &whole).await?;
            let sboms = asked_for.sbom_folder(args, &request.platform);
            if settings.engine.is_some() {
                let to = (goal, sboms.as_deref());
                return gathered(order, &bench, job, whole, to, &sources, progress.sink()).await;
            }
            images.push({
                let way = (goal, !cache_to.is_empty());
                whole.wanted(&mut wanted, way, sboms.as_deref(), &sources)?
            });
        }
        goal.add(&mut wanted, images);
        let mut wants = wanted.asked();
        let roots: Vec<usize> = (0..wants.request.roots.len()).collect();
        wants.request.cache_to =
            cache_to.iter().map(|cache| CacheExport { roots: roots.clone(), ..cache.clone() }).collect();
        build::solve(job.as_ref(), wants.request).await
    });
    progress.finish();
    let (builder, platform) = (&order.request.builder, &order.request.platform);
    let result = done.map_err(|failure| names::with_meant(failure, &bench, builder, platform))?;
    bench.close();
    if let Some(folder) = &args.report_output_dir {
        write_report(&settings.cwd.join(folder), &result)?;
    }
    build::tell(settings, &args.image, &result, false, start)?;
    if matches!(settings.display.mode, ProgressMode::Plain | ProgressMode::Live) {
        report::tell(&format!("Successfully built image {}\n", args.image));
    }
    Ok(0)
}

/// A build, settled.
pub(super) struct Ordered {
    /// For the platform that was named last; its session lends what all of them need.
    pub(super) order: Order,
    /// For the platforms before that.
    before: Vec<Order>,
    goal: Goal,
    /// When the image was made, in seconds since 1970, if that is said.
    made_at: Option<u64>,
    cache_to: Vec<CacheExport>,
}

impl Ordered {
    /// Returns what is asked for, for each platform.
    pub(super) fn requests(&self) -> Vec<&PackRequest> {
        self.before.iter().chain([&self.order]).map(|order| &order.request).collect()
    }

    /// Returns where the image goes.
    pub(super) fn goal(&self) -> &Goal {
        &self.goal
    }

    /// Returns where bills of materials of a platform go, if they are asked for: of several platforms each has a folder of its own.
    pub(super) fn sbom_folder(&self, args: &PackBuild, platform: &Platform) -> Option<PathBuf> {
        let folder = self.order.settings.cwd.join(args.sbom_output_dir.as_ref()?);
        let is_one = self.before.is_empty();
        Some(if is_one { folder } else { folder.join(platform.to_string().replace('/', "_")) })
    }
}

/// Settles what was typed.
pub(super) fn ordered(
    environment: &Environment,
    settings: &Settings,
    args: &PackBuild,
) -> Result<Ordered, Failure> {
    if let Some((option, help)) = args.refused() {
        let message = format!("`{option}` is not part of this version of rb");
        return Err(Failure::input(message, Some(help.to_owned())));
    }
    let (goal, references) = goal(settings, args)?;
    let known = config::read(environment)?;
    let made_at = made_at(environment, settings, args.creation_time.as_deref())?;
    let (mut before, mut cache_to): (Vec<Order>, _) = (Vec::new(), Vec::new());
    for platform in platforms(settings)? {
        let session = before.last().map(|order| order.session.clone()).unwrap_or_default();
        let mut order = Order::read(settings, &known, &args.choices, &references, (&platform, session))?;
        order.request.process = args.default_process.clone().unwrap_or_default();
        order.request.workspace = workspace(&args.workspace)?;
        order.request.launcher = launcher::given(settings, args, &platform)?;
        order.request.created = made_at.map_or_else(|| rb_buildpacks::export::EPOCH.to_owned(), created);
        if let Goal::Layout { .. } = goal {
            order.request.namespace.clone_from(&args.image);
        }
        if let Some(previous) = &args.previous_image {
            order.request.namespace = reference(previous)?.repository().familiar();
        }
        cache_to = caches(&mut order, args)?;
        before.push(order);
    }
    let Some(mut order) = before.pop() else { return Err(Failure::input("there is no platform", None)) };
    order.warnings.extend(remarks(settings, args));
    Ok(Ordered { order, before, goal, made_at, cache_to })
}

/// Has the engine elsewhere make what the image is packed of, and packs it here.
async fn gathered(
    order: &Order,
    bench: &Workbench,
    job: Arc<dyn Job>,
    whole: Whole,
    (goal, sbom_folder): (&Goal, Option<&Path>),
    sources: &SourceMap,
    sink: EventSink,
) -> Result<SolveResult, Failure> {
    let settings = &order.settings;
    let scratch = Scratch::new()?;
    let platform = &order.request.platform;
    let (gathering, wanted) = Gathering::of(whole, sbom_folder, platform, scratch.path(), sources)?;
    let mut there = build::solve(job.as_ref(), wanted.asked().request).await?;
    let (whole, session) = gathering.arrived(&mut there, &order.session)?;
    let mut wanted = Wanted::annotated(&[]);
    let (image, _) = whole.packed(&mut wanted, goal, sources)?;
    goal.add(&mut wanted, vec![image]);
    let here = build::open_job_here(settings, bench, Arc::new(session), bench.heard(sink));
    let SolveResult { exports, pushed, .. } = build::solve(here.as_ref(), wanted.asked().request).await?;
    there.exports.extend(exports);
    there.pushed.extend(pushed);
    Ok(there)
}

/// Returns where the image goes, and the names that it gets.
fn goal(settings: &Settings, args: &PackBuild) -> Result<(Goal, Vec<Reference>), Failure> {
    if let Some(folder) = args.image.strip_prefix("oci:") {
        if folder.is_empty() {
            return Err(Failure::input("`oci:` names no folder", Some("write `oci:DIR`".to_owned())));
        }
        if args.publish || !args.tag.is_empty() {
            let help = "`rb image push` and `rb image copy` bring a layout to a registry".to_owned();
            return Err(Failure::input(
                "`oci:DIR` is no image of a registry: --publish and --tag name one",
                Some(help),
            ));
        }
        let folder = settings.cwd.join(folder);
        return Ok((Goal::Layout { folder, sparse: args.sparse }, Vec::new()));
    }
    if args.sparse {
        let help = Some("write `oci:DIR`, or leave it out".to_owned());
        return Err(Failure::input("--sparse leaves layers out of layouts alone", help));
    }
    let names = [std::slice::from_ref(&args.image), &args.tag].concat();
    let references = names.iter().map(|name| new_name(name)).collect::<Result<_, _>>()?;
    Ok((if args.publish { Goal::Registry(names) } else { Goal::Store(names) }, references))
}

/// Returns the platforms that the app is built for, each once.
fn platforms(settings: &Settings) -> Result<Vec<Platform>, Failure> {
    let mut all: Vec<Platform> = Vec::new();
    for platform in &settings.platforms {
        if !all.contains(platform) {
            all.push(platform.clone());
        }
    }
    if all.len() > 1 && settings.engine.is_some() {
        let help = "build each by itself, or with --engine=here".to_owned();
        return Err(Failure::input(
            "an engine elsewhere builds an app for one platform at a time",
            Some(help),
        ));
    }
    Ok(if all.is_empty() { vec![Platform::host()] } else { all })
}

/// Returns what is to be told of what was typed.
fn remarks(settings: &Settings, args: &PackBuild) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let ignored = args.ignored();
    if !ignored.is_empty() {
        all.push(format!("{} say nothing here: rb builds without a daemon", ignored.join(" and ")));
    }
    if args.choices.path.is_none() && settings.cwd.join(&args.image).is_dir() {
        all.push(format!(
            "an image called `{0}` is built of this folder; for an app in the folder `{0}` write `--path {0}`",
            args.image
        ));
    }
    all
}

/// Settles where steps are found again, and returns where they are written.
fn caches(order: &mut Order, args: &PackBuild) -> Result<Vec<CacheExport>, Failure> {
    let image = args.cache_image.iter().map(|name| PackCache::Image(name.clone()));
    let all: Vec<PackCache> = args.cache.iter().cloned().chain(image).collect();
    let here = || Some("leave it out, or build with --engine=here".to_owned());
    let mut caches = Vec::new();
    for cache in all {
        let place = match cache {
            PackCache::Launch => {
                order
                    .warnings
                    .push("--cache type=launch says nothing here: layers are stored once".to_owned());
                continue;
            }
            PackCache::Volume(None) => continue,
            PackCache::Volume(Some(name)) => {
                order.request.namespace = format!("volume {name}");
                continue;
            }
            PackCache::Image(_) | PackCache::Bind(_) if order.settings.engine.is_some() => {
                let what =
                    "steps are found again in an image or a folder (--cache, --cache-image) on this machine";
                return Err(Failure::input(
                    format!("{what}, and an engine elsewhere has its own cache"),
                    here(),
                ));
            }
            PackCache::Image(_) if !args.publish => {
                let help =
                    Some("a cache in a registry is for images there; `format=bind` is a folder".to_owned());
                return Err(Failure::input("--cache format=image goes with --publish", help));
            }
            PackCache::Image(name) => CachePlace::Registry(reference(&name)?),
            PackCache::Bind(folder) => CachePlace::Folder {
                path: order.settings.cwd.join(folder),
                tag: CachePlace::TAG.to_owned(),
                digest: None,
            },
        };
        order.settings.cache_from.push(place.clone());
        caches.push(CacheExport {
            roots: Vec::new(),
            target: CacheTarget::Place(place),
            extent: CacheExtent::Max,
            compression: None,
            force_compression: false,
            // As for pack: what is built counts.
            ignore_error: true,
            reset: false,
        });
    }
    Ok(caches)
}

/// Tells what there is to be told before anything begins.
pub(super) fn warn<'a>(settings: &Settings, warnings: impl Iterator<Item = &'a String>) {
    let display = settings.display;
    if display.mode != ProgressMode::Quiet {
        warnings.for_each(|line| report::tell(&report::warning(line, display, terminal_columns())));
    }
}

fn reference(name: &str) -> Result<Reference, Failure> {
    name.parse().map_err(|error: rb_oci::ReferenceError| Failure::input(error.to_string(), None))
}

/// Reads a name of the image that is to be built.
fn new_name(name: &str) -> Result<Reference, Failure> {
    let read = reference(name)?;
    if read.digest().is_some() {
        let help = Some("leave `@sha256:…` out: the digest follows from what is in the image".to_owned());
        return Err(Failure::input(format!("`{name}` is no name for what is yet to be built"), help));
    }
    Ok(read)
}

/// Checks where the app is to lie.
fn workspace(path: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Err(Failure::input(format!("--workspace `{path}` {why}"), None));
    let clean = path.trim_end_matches('/');
    if !clean.starts_with('/') || clean.split('/').skip(1).any(|part| ["", ".", ".."].contains(&part)) {
        return wrong("is no path from the root on");
    }
    match ["/cnb", "/layers", "/platform", "/proc", "/sys", "/dev", "/tmp"]
        .iter()
        .find(|taken| clean == **taken || clean.starts_with(&format!("{taken}/")))
    {
        Some(taken) => wrong(&format!("lies in {taken}, which is not the app's")),
        None => Ok(clean.to_owned()),
    }
}

/// Says when the image was made, in seconds since 1970: what is typed, else SOURCE_DATE_EPOCH.
fn made_at(
    environment: &Environment,
    settings: &Settings,
    typed: Option<&str>,
) -> Result<Option<u64>, Failure> {
    Ok(Some(match typed {
        Some("now") => SystemClock.now().as_secs(),
        Some(text) => text.parse().ok().filter(|seconds| *seconds <= LATEST).ok_or_else(|| {
            let help = Some("`now`, or a number of seconds since 1970".to_owned());
            Failure::input(format!("--creation-time `{text}` is no time"), help)
        })?,
        None if environment.get("SOURCE_DATE_EPOCH").is_some() => {
            u64::try_from(settings.epoch_seconds).unwrap_or_default()
        }
        None => return Ok(None),
    }))
}

/// Writes a time as images have it.
fn created(seconds: u64) -> String {
    let made = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(made).to_string()
}

/// The end of the year 9999: no format holds a later one.
const LATEST: u64 = 253_402_300_799;

fn report_trouble(folder: &Path) -> String {
    format!("--report-output-dir {}: report.toml cannot be written", folder.display())
}

/// Writes `report.toml`, as the lifecycle does.
fn write_report(folder: &Path, result: &SolveResult) -> Result<(), Failure> {
    let image = result.exports.iter().find_map(|export| match export {
        ExportResult::Image { names, digest, descriptor, .. } => Some((names, digest, descriptor.size())),
        ExportResult::Local { .. } | ExportResult::Tar { .. } => None,
    });
    let Some((names, digest, size)) = image else { return Ok(()) };
    let text = |text: &str| toml::Value::String(text.to_owned());
    let image = toml::Table::from_iter([
        ("tags".to_owned(), toml::Value::Array(names.iter().map(|name| text(name)).collect())),
        ("digest".to_owned(), text(&digest.to_string())),
        ("manifest-size".to_owned(), toml::Value::Integer(i64::try_from(size).unwrap_or(i64::MAX))),
    ]);
    let report = toml::Table::from_iter([
        ("build".to_owned(), toml::Value::Table(toml::Table::new())),
        ("image".to_owned(), toml::Value::Table(image)),
    ]);
    let failed = |error: std::io::Error| Failure::environment(&report_trouble(folder), &error);
    super::report::write(folder, &report.to_string()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_an_app_may_lie() {
        for (path, clean) in
            [("/workspace", "/workspace"), ("/home/app/", "/home/app"), ("/layersx", "/layersx")]
        {
            assert_eq!(workspace(path).ok().as_deref(), Some(clean));
        }
        for path in ["", "/", "app", "/a/../b", "/a//b", "/cnb/x", "/layers", "/platform/env", "/proc/1"] {
            assert!(workspace(path).is_err(), "{path}");
        }
    }
}
