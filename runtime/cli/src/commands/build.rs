//! `rb [DIR]+target`: plans a target, solves what the plan asks for, tells what came of it.
//!
//! A build is one job of the engine, which grows: with what the frontend asks on the way ([`super::gateway`]), then with
//! what the plan asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rb_api::{Engine, EventSink, Job, JobOptions, SolveRequest, SolveResult};
use rb_buildfile::{BuildfileFrontend, load_project};
use rb_diag::{Diagnostic, Diagnostics, SourceMap, nearest};
use rb_engine::LoadReport;
use rb_frontend::{
    BuildPlan, BuildRequest, Frontend, Gateway, PlannedOutput, SavedArtifact, TargetOutput, TargetRef,
    World as _,
};
use rb_oci::{Platform, Reference};
use rb_session::Session;

use super::after;
use super::exports::Wanted;
use super::gateway::{BuildGateway, Settling};
use super::record::Asked;
use super::workbench::Workbench;
use crate::args::{ArtifactCall, OutputOptions, TargetCall};
use crate::output_spec::{self, Annotation};
use crate::progress::{Progress, terminal_columns};
use crate::report::{self, Failure, summary};
use crate::session::WorkspaceSession;
use crate::settings::{ProgressMode, Settings, check_platform};
use crate::world::{DiskWorkspace, Host, Place, SystemWorld};

/// Code of [`unpushable`].
const PUSH: &str = "rb::cli::push";

/// Code of [`refused_platforms`].
const PLATFORMS: &str = "rb::cli::platforms";

/// Builds a target and writes its outputs.
pub(super) fn execute(settings: &Settings, call: &TargetCall, output: &OutputOptions) -> Result<u8, Failure> {
    let start = Instant::now();
    output_spec::check(&output.output, &settings.cwd, report::is_terminal())?;
    let build = Build::find(settings, call)?.annotated(&output.annotation);
    let bench = Workbench::open(settings, Asked::of_target("build", call), Some(build.root()))?;
    let mut progress = Progress::start(settings.display, &call.word);
    let solved = bench.run(async {
        let settling = if settings.no_output { Settling::Make } else { Settling::Write };
        let started = build.start(&bench, &progress, settling);
        let plan = started.plan().await?;
        let mut wanted = started.wanted(&plan)?;
        for spec in &output.output {
            wanted.output_of(spec, &plan.target, &settings.cwd, &build.sources())?;
        }
        started.solve_and_load(wanted, &bench, output).await
    });
    progress.finish();
    bench.close();
    end(settings, &call.word, output, solved?, start)
}

/// Writes what other programs are to know of a build, and tells what it did.
fn end(
    settings: &Settings,
    title: &str,
    output: &OutputOptions,
    Done { result, loaded, held }: Done,
    start: Instant,
) -> Result<u8, Failure> {
    after::write_files(settings, output, &result)?;
    tell(settings, title, &result, start)?;
    if matches!(settings.display.mode, ProgressMode::Plain | ProgressMode::Live) {
        report::tell(&summary::not_pushed(&held));
    }
    after::tell(settings, loaded);
    Ok(0)
}

/// What came of a build.
struct Done {
    result: SolveResult,
    loaded: Option<LoadReport>,
    /// Images marked `--push` that were not to be pushed.
    held: Vec<String>,
}

/// Builds a target and writes one of its artifacts, and nothing else.
pub(super) fn artifact(settings: &Settings, artifact: &ArtifactCall) -> Result<u8, Failure> {
    only(settings, &artifact.call, &OutputOptions::default(), |target, wanted, sources| {
        let path = artifact.path.trim_end_matches('/');
        if !target.artifacts.iter().any(|saved| holds(saved, path)) {
            return Err(no_artifact(target, path));
        }
        let destination = settings.cwd.join(&artifact.dest);
        let typed = artifact.dest.as_os_str().as_encoded_bytes();
        let into = typed.ends_with(b"/") || typed.ends_with(b".") || destination.is_dir();
        wanted.artifact(target, path, destination, into, sources)
    })
}

/// Builds a target and saves its own images, and nothing else.
pub(super) fn image(settings: &Settings, call: &TargetCall, output: &OutputOptions) -> Result<u8, Failure> {
    only(settings, call, output, |target, wanted, sources| {
        if target.images.is_empty() {
            let help = "SAVE IMAGE in the target gives one; `rb -o type=image,name=NAME` saves any target's"
                .to_owned();
            return Err(Failure::input(format!("`{}` saves no image", target.key.target), Some(help)));
        }
        for image in &target.images {
            let output = PlannedOutput::Image { label: target.key.to_string(), image: image.clone() };
            wanted.planned(&output, Path::new("/"), sources)?;
        }
        Ok(())
    })
}

/// Builds a target, and of all outputs writes those alone that `choose` adds.
fn only(
    settings: &Settings,
    call: &TargetCall,
    output: &OutputOptions,
    choose: impl FnOnce(&TargetOutput, &mut Wanted, &SourceMap) -> Result<(), Failure>,
) -> Result<u8, Failure> {
    let start = Instant::now();
    let build = Build::find(settings, call)?.annotated(&output.annotation);
    let bench = Workbench::open(settings, Asked::of_target("build", call), Some(build.root()))?;
    let mut progress = Progress::start(settings.display, &call.word);
    let solved = bench.run(async {
        let started = build.start(&bench, &progress, Settling::Make);
        let plan = started.plan().await?;
        let mut wanted = started.wanted(&plan)?;
        choose(&plan.target, &mut wanted, &build.sources())?;
        started.solve_and_load(wanted, &bench, output).await
    });
    progress.finish();
    bench.close();
    end(settings, &call.word, output, solved?, start)
}

/// Tells whether something may lie at `path` because of one SAVE ARTIFACT; "" is the folder of all.
fn holds(saved: &SavedArtifact, path: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(path, &saved.path) || below(&saved.path, path)
}

fn no_artifact(target: &TargetOutput, path: &str) -> Failure {
    let names: Vec<&str> = target.artifacts.iter().map(|saved| saved.path.trim_start_matches('/')).collect();
    let path = path.trim_start_matches('/');
    let label = &target.key.target;
    let help = match nearest(path, names.iter().copied()) {
        Some(near) => format!("did you mean `{label}/{near}`?"),
        None if names.is_empty() => format!("SAVE ARTIFACT in `{label}` gives one"),
        None => format!(
            "it saves {}",
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ),
    };
    let what = if path.is_empty() { "no artifact".to_owned() } else { format!("no artifact `{path}`") };
    Failure::input(format!("`{label}` saves {what}"), Some(help))
}

/// Tells what a build did, on stderr; quiet ones print digests on stdout.
pub(super) fn tell(
    settings: &Settings,
    title: &str,
    result: &SolveResult,
    start: Instant,
) -> Result<u8, Failure> {
    match settings.display.mode {
        ProgressMode::Plain | ProgressMode::Live => {
            report::tell(&summary::text(title, result, start.elapsed(), &settings.cwd));
        }
        ProgressMode::Json => report::tell(&summary::json(title, result, start.elapsed())),
        // Where an archive is on stdout, that is all there is.
        ProgressMode::Quiet if summary::is_streamed(result) => {}
        ProgressMode::Quiet => report::print(summary::digests(result).as_bytes())?,
    }
    Ok(0)
}

/// One target to build, found on the disk.
pub(super) struct Build<'a> {
    settings: &'a Settings,
    root: PathBuf,
    target: TargetRef,
    call: &'a TargetCall,
    workspace: Arc<DiskWorkspace>,
    session: Arc<dyn Session>,
    annotations: Vec<Annotation>,
}

impl<'a> Build<'a> {
    /// Finds the workspace of a target.
    pub(super) fn find(settings: &'a Settings, call: &'a TargetCall) -> Result<Self, Failure> {
        let (Place { root, project: _ }, target) = Place::of_target(&settings.cwd, &call.word)?;
        let secret_files = settings.own_files.iter().filter(|file| file.secret).map(|file| file.path.clone());
        let workspace = DiskWorkspace::new(root.clone(), settings.cwd.clone());
        let workspace = Arc::new(workspace.with_secret_files(secret_files.collect()));
        let (secrets, own_files) = (settings.secrets.clone(), settings.own_files.clone());
        let session = Arc::new(WorkspaceSession::new(root.clone(), secrets, own_files));
        Ok(Self { settings, root, target, call, workspace, session, annotations: Vec::new() })
    }

    /// Has all images annotated.
    fn annotated(self, annotations: &[Annotation]) -> Self {
        Self { annotations: annotations.to_vec(), ..self }
    }

    /// Returns the root of its workspace.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the texts read so far.
    pub(super) fn sources(&self) -> SourceMap {
        self.workspace.sources().clone()
    }

    /// Opens its job; to be called on the bench's threads.
    pub(super) fn start<'b>(
        &'b self,
        bench: &Workbench,
        progress: &'b Progress,
        settling: Settling,
    ) -> Started<'b> {
        let events = bench.heard(progress.sink());
        let job = open_job(self.settings, bench, Arc::clone(&self.session), Arc::clone(&events));
        let gateway = BuildGateway::new(Arc::clone(&job), self.sources(), self.root.clone(), settling)
            .pushing(self.settings.build.push)
            .annotating(self.annotations.clone());
        self.workspace.open_host(|| Host::new(Arc::clone(&bench.outside), events));
        Started { build: self, progress, job, gateway: Arc::new(gateway), settling }
    }

    fn request(&self, platform: Platform) -> BuildRequest {
        let mut args = self.settings.args.clone();
        args.extend(self.call.args.clone());
        BuildRequest {
            target: self.target.clone(),
            args,
            defaults: self.settings.defaults.clone(),
            platform,
            user_platform: Platform::host(),
            native_platform: Platform::host(),
            options: self.settings.build.clone(),
        }
    }
}

/// A build under way.
pub(super) struct Started<'a> {
    build: &'a Build<'a>,
    progress: &'a Progress,
    job: Arc<dyn Job>,
    gateway: Arc<BuildGateway>,
    settling: Settling,
}

impl Started<'_> {
    /// Has the frontend decide the graph, and tells its warnings. Where a step failed on the way, that is the failure.
    pub(super) async fn plan(&self) -> Result<BuildPlan, Failure> {
        let gateway: Arc<dyn Gateway> = Arc::clone(&self.gateway) as _;
        let world = SystemWorld { workspace: Arc::clone(&self.build.workspace), gateway };
        let sources = self.build.sources();
        let platform = self.platform(&world).await?;
        let planned = BuildfileFrontend.plan(&world, &self.build.request(platform)).await;
        let plan = match planned {
            Ok(plan) => plan,
            Err(items) => {
                return Err(self.gateway.failure().unwrap_or(Failure::Diagnostics { items, sources }));
            }
        };
        let display = self.build.settings.display;
        if display.mode != ProgressMode::Quiet {
            self.progress.say(&report::warnings(&plan.warnings, &sources, display, terminal_columns()));
        }
        if self.settling != Settling::Nothing
            && let Some(found) = refused_platforms(&plan.outputs)
        {
            return Err(Failure::Diagnostics { items: vec![found], sources });
        }
        if self.build.settings.build.push && self.settling != Settling::Nothing {
            let items: Diagnostics = plan.outputs.iter().filter_map(unpushable).collect();
            if !items.is_empty() {
                return Err(Failure::Diagnostics { items, sources });
            }
        }
        Ok(plan)
    }

    /// Returns what the result is to run on: what the user names, else what the project does.
    async fn platform(&self, world: &SystemWorld) -> Result<Platform, Failure> {
        let settings = self.build.settings;
        if settings.platform_named {
            return Ok(settings.platform.clone());
        }
        let config = load_project(world.workspace()).await;
        let sources = self.build.sources();
        let platforms = config.map_err(|items| Failure::Diagnostics { items, sources })?.platforms;
        match platforms.first() {
            Some(first) if !platforms.contains(&settings.platform) => {
                check_platform(first)?;
                Ok(first.clone())
            }
            Some(_) | None => Ok(settings.platform.clone()),
        }
    }

    /// Collects what a plan asks for; its outputs only if effects are written too.
    pub(super) fn wanted(&self, plan: &BuildPlan) -> Result<Wanted, Failure> {
        let sources = self.build.sources();
        let settings = self.build.settings;
        let mut wanted = Wanted::annotated(&self.build.annotations).pushing(settings.build.push);
        for (label, state) in &plan.roots {
            wanted.root(label, state, &sources)?;
        }
        for output in plan.outputs.iter().filter(|_| self.settling == Settling::Write) {
            wanted.planned(output, &self.build.root, &sources)?;
        }
        for output in plan.outputs.iter().filter(|_| settings.no_output && self.settling == Settling::Make) {
            wanted.pushed_alone(output, &sources)?;
        }
        if self.settling == Settling::Write || settings.no_output {
            self.gateway.hold_back(&plan.outputs);
        }
        Ok(wanted)
    }

    /// Solves what is wanted, and hands images over where that is wanted too.
    async fn solve_and_load(
        &self,
        wanted: Wanted,
        bench: &Workbench,
        output: &OutputOptions,
    ) -> Result<Done, Failure> {
        let (count, loads) = (wanted.exports.len(), wanted.loads.clone());
        let result = self.solve(wanted).await?;
        let loaded = after::load(bench, output, &result, (count, &loads)).await?;
        Ok(Done { result, loaded, held: self.gateway.held_back() })
    }

    /// Has the engine solve it. The result tells of all that the build has written, in order.
    pub(super) async fn solve(&self, wanted: Wanted) -> Result<SolveResult, Failure> {
        let mut result = solve(self.job.as_ref(), wanted).await?;
        let (mut written, mut pushed) = self.gateway.written();
        written.append(&mut result.exports);
        pushed.append(&mut result.pushed);
        (result.exports, result.pushed) = (written, pushed);
        Ok(result)
    }
}

/// Refuses an image that is to be pushed to what is no name of a registry's.
pub(super) fn unpushable(output: &PlannedOutput) -> Option<Diagnostic> {
    let PlannedOutput::Image { label: _, image } = output else { return None };
    let names = image.names.iter().filter(|_| image.push);
    let error = names.map(|name| name.parse::<Reference>()).find_map(Result::err)?;
    Some(
        Diagnostic::error(PUSH, error.to_string())
            .with_label(image.span, "to be pushed, because of --push")
            .with_help("write `registry/name:tag`, such as `ghcr.io/me/app:1`"),
    )
}

/// Refuses one name for images of several platforms, which needs an index: this version keeps one image of a name.
pub(super) fn refused_platforms<'a>(
    outputs: impl IntoIterator<Item = &'a PlannedOutput>,
) -> Option<Diagnostic> {
    let mut platforms: BTreeMap<&str, (&str, &str, Option<&str>)> = BTreeMap::new();
    for output in outputs {
        let PlannedOutput::Image { label: _, image } = output else { continue };
        let config = &image.config;
        let platform = (config.os.as_str(), config.architecture.as_str(), config.variant.as_deref());
        for name in &image.names {
            if *platforms.entry(name).or_insert(platform) != platform {
                let message =
                    format!("`{name}` is saved for several platforms, and indexes of images come later");
                let help = "give each platform a name of its own, for example with `$TARGETARCH` in it";
                return Some(
                    Diagnostic::error(PLATFORMS, message).with_label(image.span, "").with_help(help),
                );
            }
        }
    }
    None
}

/// Opens a job as the settings say, for any client; to be called on the bench's threads.
pub(super) fn open_job(
    settings: &Settings,
    bench: &Workbench,
    session: Arc<dyn Session>,
    events: EventSink,
) -> Arc<dyn Job> {
    let options = JobOptions {
        session,
        no_cache: settings.no_cache,
        pull: settings.pull,
        allow_insecure: settings.build.allow_privileged,
        epoch_seconds: settings.epoch_seconds,
    };
    bench.engine.job(options, events)
}

/// Has a job make and write what is wanted.
pub(super) async fn solve(job: &dyn Job, wanted: Wanted) -> Result<SolveResult, Failure> {
    let Wanted { roots, exports, .. } = wanted;
    let solved = job.solve(SolveRequest { roots: roots.clone(), exports }).await;
    solved.map_err(|error| Failure::Solve {
        error: Box::new(error),
        definitions: roots.into_iter().map(|root| root.definition).collect(),
    })
}
